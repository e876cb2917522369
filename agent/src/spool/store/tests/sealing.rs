//! Batches that are sealed with a key.

use super::*;

/// What zstd cannot make shorter stands on disk as it is, unless it is sealed.
const SECRET: &[u8] = b"0a9f-nobody-may-read-this-7c31";

fn secretly(id: u64) -> Vec<(BatchId, Arc<Batch>)> {
    let mut rows = spooled(id..=id);
    let batch = Arc::get_mut(&mut rows[0].1).unwrap();
    batch.values = SECRET.to_vec();
    batch.entries[0].value_end = SECRET.len() as u32;
    rows
}

fn shows(dir: &Path) -> bool {
    let file = std::fs::read(dir.join("spool.db")).unwrap();
    file.windows(SECRET.len()).any(|window| window == SECRET)
}

#[test]
fn without_a_key_records_can_be_read_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    rig.commit(Transaction {
        rows: secretly(1),
        ..Transaction::default()
    });
    rig.store.close();
    assert!(shows(dir.path()));
}

#[test]
fn sealed_batches_come_back_with_their_key_and_are_kept_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let start = |current, old: &[u8]| Rig::with_keys(dir.path(), Keys::of(current, old));
    let mut rig = start(None, &[]).unwrap();
    rig.commit(Transaction {
        rows: spooled(1..=1),
        ..Transaction::default()
    });
    rig.store.close();
    let mut rig = start(Some(1), &[]).unwrap();
    for id in 2..=3 {
        rig.commit(Transaction {
            rows: secretly(id),
            ..Transaction::default()
        });
    }
    assert_eq!(rig.load(0, 3, 1000).0.len(), 3, "sealed or not");
    rig.store.close();
    assert!(!shows(dir.path()));

    // Another key: nothing starts, nothing is touched.
    for (current, old) in [(Some(2), &[][..]), (None, &[][..]), (None, &[3][..])] {
        let error = start(current, old)
            .err()
            .expect("it is refused")
            .to_string();
        assert!(error.contains("spool.old_keys"), "{error}");
        let database = Connection::open(dir.path().join("spool.db")).unwrap();
        let rows = database.query_row("SELECT count(*) FROM batch", [], |row| row.get(0));
        assert_eq!(rows, Ok(3));
    }
    // A rotation: the old one is listed, until the spool has been empty.
    let mut rig = start(Some(2), &[1]).unwrap();
    rig.commit(Transaction {
        rows: spooled(4..=4),
        ..Transaction::default()
    });
    assert_eq!(rig.load(0, 4, 1000).0.len(), 4);
    // A salvage needs no key, and forgets none.
    rig.store.heal(Healing::default()).unwrap();
    assert!(matches!(
        rig.replies.blocking_recv(),
        Some(Reply::Healed { .. })
    ));
    assert_eq!(rig.load(0, 4, 1000).0.len(), 4);
    rig.store.close();
    assert!(start(Some(2), &[]).is_err());
    let mut rig = start(Some(2), &[1]).unwrap();
    let last = rig.found.last[0].0;
    rig.commit(Transaction {
        deletes: (1..=last).map(BatchId).collect(),
        ..Transaction::default()
    });
    rig.store.close();
    start(Some(2), &[]).unwrap().store.close();
    start(Some(2), &[]).unwrap().store.close();
}

#[test]
fn a_batch_of_another_key_in_the_middle_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::with_keys(dir.path(), Keys::of(Some(1), &[])).unwrap();
    rig.commit(Transaction {
        rows: spooled(2..=2),
        ..Transaction::default()
    });
    rig.store.close();
    let database = Connection::open(dir.path().join("spool.db")).unwrap();
    database.execute("DELETE FROM sealing", []).unwrap();
    drop(database);
    let mut rig = Rig::with_keys(dir.path(), Keys::of(Some(2), &[])).unwrap();
    rig.commit(Transaction {
        rows: spooled(1..=1),
        ..Transaction::default()
    });
    let (rows, through, lost) = rig.load(0, 2, 1000);
    assert_eq!((rows.len(), through, lost), (1, 1, 0));
    rig.store.load(BatchId(1), BatchId(2), 1000).unwrap();
    assert!(matches!(
        rig.replies.blocking_recv(),
        Some(Reply::LoadFailed(Trouble::Key))
    ));
    rig.store.close();
}

#[test]
fn an_old_key_is_forgotten_where_a_start_finds_no_rows() {
    let dir = tempfile::tempdir().unwrap();
    let start = |current, old: &[u8]| Rig::with_keys(dir.path(), Keys::of(Some(current), old));
    start(1, &[]).unwrap().store.close();
    let mut rig = start(2, &[1]).unwrap();
    rig.commit(Transaction {
        rows: spooled(1..=1),
        ..Transaction::default()
    });
    rig.store.close();
    let mut rig = start(2, &[]).unwrap();
    assert_eq!(rig.load(0, 1, 1000).0.len(), 1);
    rig.store.close();
}
