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
    let mut files = std::fs::read_dir(dir).unwrap();
    files.any(|file| {
        let content = std::fs::read(file.unwrap().path()).unwrap();
        let mut windows = content.windows(SECRET.len());
        windows.any(|window| window == SECRET)
    })
}

/// More than a page of what zstd cannot make shorter.
fn at_length(id: u64) -> Vec<(BatchId, Arc<Batch>)> {
    let mut rows = large(id..=id);
    let batch = Arc::get_mut(&mut rows[0].1).unwrap();
    batch.values.extend_from_slice(SECRET);
    batch.entries[0].value_end = batch.values.len() as u32;
    rows
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

#[test]
fn what_was_spooled_before_there_was_a_key_is_wiped_once_it_is_delivered() {
    let plain = |dir: &Path, rows: Vec<_>| {
        let mut rig = Rig::start(dir);
        rig.commit(Transaction {
            rows,
            ..Transaction::default()
        });
        rig.store.close();
        assert!(shows(dir));
    };
    let few: fn() -> Vec<_> = || secretly(1);
    let many: fn() -> Vec<_> = || (1..=60).flat_map(secretly).chain(at_length(61)).collect();
    for rows in [few, many] {
        // Delivered before, or later.
        let dir = tempfile::tempdir().unwrap();
        plain(dir.path(), rows());
        // As an earlier agent left it.
        let database = Connection::open(dir.path().join("spool.db")).unwrap();
        let delete = "PRAGMA secure_delete = OFF; DELETE FROM batch WHERE id > 0;
            UPDATE depth SET n_rows = 0, stored_bytes = 0, data_bytes = 0";
        database.execute_batch(delete).unwrap();
        drop(database);
        assert!(shows(dir.path()));
        let sealing = || Rig::with_keys(dir.path(), Keys::of(Some(1), &[])).unwrap();
        sealing().store.close();
        assert!(!shows(dir.path()), "delivered before");

        let dir = tempfile::tempdir().unwrap();
        plain(dir.path(), rows());
        let sealing = || Rig::with_keys(dir.path(), Keys::of(Some(1), &[])).unwrap();
        sealing().store.close();
        let mut rig = sealing();
        rig.commit(Transaction {
            rows: spooled(100..=100),
            ..Transaction::default()
        });
        let deletes = rows().iter().map(|(id, _)| *id).collect();
        rig.commit(Transaction {
            deletes,
            ..Transaction::default()
        });
        rig.commit(Transaction {
            deletes: vec![BatchId(100)],
            ..Transaction::default()
        });
        rig.store.close();
        assert!(!shows(dir.path()), "delivered later");
    }
}
