//! Sealed batches in a database that is damaged.

use super::*;

/// Small, so that many lie on one page.
fn small(nth: u64) -> Batch {
    let mut batch = batch(nth);
    batch.values.truncate(20);
    batch.entries[0].value_end = 20;
    batch
}

fn start_sealing(dir: &Path, key: u8, old: &[u8]) -> Result<Rig, OpenError> {
    start_with(dir, Floors::default(), Keys::of(Some(key), old))
}

/// Batches sealed with the key 1.
fn sealed(dir: &Path) {
    let mut rig = start_sealing(dir, 1, &[]).unwrap();
    let rows = (0..BATCHES).map(|nth| (BatchId(nth + 1), Arc::new(small(nth))));
    rig.commit(Transaction {
        rows: rows.collect(),
        ..Transaction::default()
    });
    rig.store.close();
}

/// Zeroes the page that the table begins with.
fn zero_root(dir: &Path, table: &str) {
    let path = dir.join("spool.db");
    let root: u32 = Connection::open(&path)
        .and_then(|database| {
            let root = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
            database.query_row(root, [table], |row| row.get(0))
        })
        .unwrap();
    let mut main = std::fs::read(&path).unwrap();
    main[(root - 1) as usize * schema::PAGE_BYTES..][..schema::PAGE_BYTES].fill(0);
    std::fs::write(&path, main).unwrap();
}

/// How many batches are there as they were.
fn whole(rig: &mut Rig) -> usize {
    let all = rig.all();
    let data = all.iter().filter(|batch| {
        batch.records().all(|record| record.kind == Kind::Data) && batch.stream == stream()
    });
    data.count()
}

#[test]
fn what_was_delivered_before_its_key_was_forgotten_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    sealed(dir.path());
    // Delivered; and an agent with the key 2 found the spool empty, and left the free pages as they were.
    let database = Connection::open(dir.path().join("spool.db")).unwrap();
    let emptied = "PRAGMA secure_delete = OFF; DELETE FROM batch; DELETE FROM sealing;
        UPDATE depth SET n_rows = 0, stored_bytes = 0, data_bytes = 0;";
    database.execute_batch(emptied).unwrap();
    let two = Keys::of(Some(2), &[]).current().unwrap();
    rows::note_key(&database, two).unwrap();
    drop(database);
    let mut stale = 0;
    each_row(&dir.path().join("spool.db"), |row| {
        stale += u64::from(row.sealed);
        true
    })
    .unwrap();
    assert!(stale > 0, "no free page holds any");
    zero_root(dir.path(), "depth");
    let mut rig = start_sealing(dir.path(), 2, &[]).unwrap();
    assert_eq!(whole(&mut rig), 0);
    rig.store.close();
}

#[test]
fn what_waits_for_its_key_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    sealed(dir.path());
    zero_root(dir.path(), "depth");
    let refused = start_sealing(dir.path(), 2, &[]).err();
    assert!(
        matches!(refused, Some(OpenError::Key { .. })),
        "{refused:?}"
    );
    let mut rig = start_sealing(dir.path(), 2, &[1]).unwrap();
    assert_eq!(whole(&mut rig), BATCHES as usize);
    rig.store.close();
}

/// Then it is kept what the keys at hand open, and told of the rest.
#[test]
fn the_list_of_keys_is_lost() {
    for (old, kept) in [(&[1][..], BATCHES as usize), (&[], 0)] {
        let dir = tempfile::tempdir().unwrap();
        sealed(dir.path());
        zero_root(dir.path(), "sealing");
        let mut rig = start_sealing(dir.path(), 2, old).unwrap();
        assert_eq!(whole(&mut rig), kept);
        let (mut all, mut end) = (Covered::default(), 0);
        for batch in rig.all().iter().filter(|batch| batch.stream == stream()) {
            all.add(batch.start, batch.end());
            end = end.max(batch.end());
        }
        assert_eq!((all.holes(0, end), end), (Vec::new(), BATCHES * STEP));
        rig.store.close();
    }
}
