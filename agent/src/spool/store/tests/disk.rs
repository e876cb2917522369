//! A disk that refuses, and the room that is given back to it.

use super::*;

#[test]
fn a_locked_database_is_a_refusal_and_works_again_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let other = Connection::open(dir.path().join("spool.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    rig.store
        .commit(Transaction {
            rows: spooled(1..=1),
            ..Transaction::default()
        })
        .unwrap();
    let refused = rig.replies.blocking_recv();
    assert!(
        matches!(refused, Some(Reply::CommitFailed(Trouble::Busy))),
        "{refused:?}"
    );
    other.execute_batch("ROLLBACK").unwrap();
    rig.store.refusing.answered(Err(Trouble::Busy));
    assert_eq!(rig.store.refuses_entries(), Some(Trouble::Busy));
    assert_eq!(
        rig.commit(Transaction {
            rows: spooled(1..=1),
            ..Transaction::default()
        })
        .rows,
        1
    );
    assert_eq!(rig.store.refuses_entries(), None, "it does not any more");
    rig.store.close();
}

#[test]
fn a_full_disk_takes_nothing_of_a_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let before = rig.commit(Transaction {
        rows: spooled(1..=1),
        ..Transaction::default()
    });
    rig.store.close();
    // SQLite's own bound stands in for the file system's: the error is the same.
    let mut owner = owner(dir.path());
    connection(&owner)
        .execute_batch("PRAGMA max_page_count = 12")
        .unwrap();
    let mut large = batch(20, &[Kind::Data]);
    let random: Vec<u8> = (0_u32..50_000)
        .flat_map(|n| crc32c::crc32c(&n.to_le_bytes()).to_le_bytes())
        .collect();
    let content = Arc::get_mut(&mut large).unwrap();
    content.entries[0].value_end = random.len() as u32;
    content.values = random;
    let transaction = Transaction {
        rows: vec![(BatchId(2), large)],
        deletes: vec![BatchId(1)],
        ..Transaction::default()
    };
    assert_eq!(owner.commit(&transaction), Err(Trouble::Full));
    let depth = rows::depth(connection(&owner)).unwrap();
    assert_eq!(depth, before, "the row that it deleted is still there");
    connection(&owner)
        .execute_batch("PRAGMA max_page_count = 100000")
        .unwrap();
    assert_eq!(owner.commit(&transaction).map(|depth| depth.rows), Ok(1));
}

#[test]
fn an_emptied_spool_gives_its_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let path = dir.path().join("spool.db");
    let bytes = |path: &Path| std::fs::metadata(path).unwrap().len();
    // More than one turn gives back.
    let ids = 1..=3000;
    for from in ids.clone().step_by(500) {
        let mut rows = large(from..=from + 499);
        for (_, batch) in &mut rows {
            let batch = Arc::get_mut(batch).unwrap();
            let values = batch.values.repeat(10);
            batch.values = values
                .iter()
                .enumerate()
                .map(|(n, byte)| byte ^ (n / 1200) as u8)
                .collect();
            batch.entries[0].value_end = batch.values.len() as u32;
        }
        rig.commit(Transaction {
            rows,
            ..Transaction::default()
        });
    }
    let full = bytes(&path);
    assert!(full > (3 * 8) << 20, "{full} bytes");
    for from in ids.clone().step_by(500) {
        rig.commit(Transaction {
            deletes: (from..=from + 499).map(BatchId).collect(),
            ..Transaction::default()
        });
    }
    // It is done while nobody asks for anything; the end waits for what is under way.
    let smallest = 2 * FREE_PAGES_KEPT as u64 * schema::PAGE_BYTES as u64;
    for _ in 0..1000 {
        if bytes(&path) < smallest {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        bytes(&path) < smallest,
        "{full} bytes, and then {}",
        bytes(&path)
    );
    assert!(
        !dir.path().join("spool.db-journal").exists(),
        "never a second copy"
    );
    rig.store.close();
}

/// What lies behind free pages must move, or the file stays long; and the disk may have no room for a
/// second copy of it. So it moves some at a time: the log never holds more than that, whatever is left.
#[test]
fn giving_space_back_takes_no_more_than_a_step_besides() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = owner(dir.path());
    let total = || {
        let files = ["spool.db", "spool.db-wal"].map(|name| dir.path().join(name));
        let bytes = files.map(|path| std::fs::metadata(path).map_or(0, |file| file.len()));
        bytes.iter().sum::<u64>()
    };
    let ids = 1..=30_000;
    for from in ids.clone().step_by(1000) {
        let transaction = Transaction {
            rows: large(from..=from + 999),
            ..Transaction::default()
        };
        owner.commit(&transaction).unwrap();
    }
    let full = total();
    let gone = 1..=10_000;
    for from in gone.clone().step_by(1000) {
        let transaction = Transaction {
            deletes: (from..=from + 999).map(BatchId).collect(),
            ..Transaction::default()
        };
        owner.commit(&transaction).unwrap();
    }
    let (mut steps, mut peak) = (0, total());
    while shrink(connection(&owner), FREE_PAGES_KEPT) {
        (steps, peak) = (steps + 1, peak.max(total()));
    }
    // Each page has a header of 24 bytes in the log.
    let step = u64::from(VACUUM_PAGES) * (schema::PAGE_BYTES as u64 + 24);
    assert!(steps > 0, "one step did it all: {full} bytes are too few");
    assert!(
        peak <= full + step + schema::LOG_BYTES.unsigned_abs(),
        "{full} bytes, and at most {peak} while it shrank, a step being {step}"
    );
    let left = total();
    assert!(left < full / 4 * 3, "{full} bytes, and then {left}");
    assert_eq!(rows::depth(connection(&owner)).unwrap().rows, 20_000);
}

#[test]
fn every_code_of_sqlite_is_a_choice() {
    for (code, trouble) in [
        (ffi::SQLITE_BUSY, Trouble::Busy),
        (ffi::SQLITE_FULL, Trouble::Full),
        (ffi::SQLITE_READONLY, Trouble::ReadOnly),
        (ffi::SQLITE_IOERR, Trouble::Io),
        (ffi::SQLITE_IOERR_READ, Trouble::Io),
        (ffi::SQLITE_IOERR_SHORT_READ, Trouble::Damaged),
        (ffi::SQLITE_CORRUPT, Trouble::Damaged),
        (ffi::SQLITE_CONSTRAINT, Trouble::Bug),
    ] {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        assert_eq!(classify(&error), trouble, "{error}");
    }
    assert_eq!(classify(&rusqlite::Error::InvalidQuery), Trouble::Bug);
}

#[test]
fn what_is_to_be_kept_free_is_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = owner(dir.path());
    owner.floors.bytes = u64::MAX;
    let transaction = Transaction {
        rows: spooled(1..=1),
        ..Transaction::default()
    };
    assert_eq!(owner.commit(&transaction), Err(Trouble::Floor));
    let checkpoint = Transaction::default();
    assert_eq!(owner.commit(&checkpoint).unwrap().room, Some(0));
    owner.floors.bytes = 0;
    assert_eq!(owner.commit(&transaction).map(|depth| depth.rows), Ok(1));
}
