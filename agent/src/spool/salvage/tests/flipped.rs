//! One flipped bit before the values of a row: SQLite gives a value of another type then, and no error.

use super::*;

/// Whose header is damaged.
const NTH: u64 = 29;
const ROW: BatchId = BatchId(NTH + 1);

/// A sample without a log.
fn sample_alone(dir: &Path) {
    sample(dir);
    let database = Connection::open(dir.join("spool.db")).unwrap();
    rows::write_back(&database).unwrap();
}

/// Where in the file the header of that batch's record lies, in how many bytes; also where it lay before SQLite
/// moved it.
fn headers(main: &[u8]) -> Vec<(usize, usize)> {
    // Types of the id, the generation and the stream; the values begin with the latter two, and the start.
    let types = [0, 1, 13 + 2 * 8];
    let start = u16::try_from(NTH * STEP).unwrap().to_be_bytes();
    let values = [b"\x07d/s//log", &start[..]].concat();
    let found = (0..main.len()).filter_map(|at| {
        let length = usize::from(main[at]);
        let is_header = main.get(at + 1..)?.starts_with(&types);
        (is_header && main.get(at + length..)?.starts_with(&values)).then_some((at, length))
    });
    let found: Vec<_> = found.collect();
    assert!(!found.is_empty());
    found
}

fn flip(dir: &Path, at: usize, bits: u8) {
    let mut main = std::fs::read(dir.join("spool.db")).unwrap();
    main[at] ^= bits;
    std::fs::write(dir.join("spool.db"), main).unwrap();
}

#[test]
fn any_bit_of_a_rows_header_may_flip() {
    let dir = tempfile::tempdir().unwrap();
    sample_alone(dir.path());
    let headers = headers(&std::fs::read(dir.path().join("spool.db")).unwrap());
    for bit in 0..8 * headers[0].1 {
        let what = format!("bit {bit} of a header flipped");
        let whole = damage(dir.path(), &what, |main, log| {
            for (at, _) in &headers {
                main[at + bit / 8] ^= 1 << (bit % 8);
            }
            log.clear();
        });
        // It is one row, or it can be made out all the same.
        assert!(whole >= BATCHES as usize - 1, "{what}: {whole}");
    }
}

/// A row whose kinds are a text, and one of which it is not said whether it is sealed: neither is read, deleted or
/// given up, nor is it a mistake of ours.
#[test]
fn a_value_of_another_type_is_damage_whatever_is_done_to_it() {
    const KINDS: usize = 6;
    const SEALED: usize = 8;
    let refused = |column: usize, bits, ask: &dyn Fn(&Store)| {
        let dir = tempfile::tempdir().unwrap();
        sample_alone(dir.path());
        for (at, _) in headers(&std::fs::read(dir.path().join("spool.db")).unwrap()) {
            flip(dir.path(), at + column, bits);
        }
        let mut rig = start(dir.path());
        ask(&rig.store);
        let reply = rig.replies.blocking_recv();
        let (Some(Reply::LoadFailed(trouble)) | Some(Reply::CommitFailed(trouble))) = reply else {
            panic!("{reply:?}");
        };
        assert_eq!(trouble, Trouble::Damaged);
        rig.heal();
        rig.store.close();
        let whole = account(dir.path(), "healed");
        assert!(whole >= BATCHES as usize - 1, "{whole}");
    };
    let load = |store: &Store| store.load(ROW.before(), ROW, u64::MAX).unwrap();
    let delete = |store: &Store| {
        let deletion = Transaction {
            deletes: vec![ROW],
            ..Transaction::default()
        };
        store.commit(deletion).unwrap();
    };
    let evict = |store: &Store| {
        let eviction = Transaction {
            rows: vec![(BatchId(BATCHES + 1), Arc::new(batch(BATCHES)))],
            evict: Some(Evict {
                bytes_max: 0,
                lanes: vec![(Lane::Normal, BatchId(20))],
                kept: BTreeSet::new(),
            }),
            ..Transaction::default()
        };
        store.commit(eviction).unwrap();
    };
    // The number 1 becomes a text of no length, and 0 is NULL.
    refused(KINDS, 9 ^ 13, &load);
    refused(KINDS, 9 ^ 13, &delete);
    refused(SEALED, 8 ^ 10, &load);
    refused(SEALED, 8 ^ 10, &evict);
}

/// A number of a lane that holds nothing becomes a blob of no length, a type that SQLite keeps for itself, NULL.
#[test]
fn a_sum_of_another_type_is_salvaged_at_the_start() {
    const LANE_THAT_IS_EMPTY: [u8; 6] = [6, 0, 6, 8, 8, 8];
    let dir = tempfile::tempdir().unwrap();
    sample_alone(dir.path());
    let main = std::fs::read(dir.path().join("spool.db")).unwrap();
    let windows = main.windows(LANE_THAT_IS_EMPTY.len()).enumerate();
    let found = windows.filter(|(_, window)| *window == LANE_THAT_IS_EMPTY);
    let lanes: Vec<_> = found.map(|(at, _)| at).collect();
    assert!(!lanes.is_empty());
    for column in 3..6 {
        for bits in [8 ^ 12, 8 ^ 10, 8] {
            let what = format!("sum {column} flipped by {bits}");
            let whole = damage(dir.path(), &what, |main, log| {
                for at in &lanes {
                    main[at + column] ^= bits;
                }
                log.clear();
            });
            assert_eq!(whole, BATCHES as usize, "{what}");
        }
    }
}

#[test]
fn a_checkpoint_whose_stream_is_no_text_any_more_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    sample_alone(dir.path());
    let mut rig = start(dir.path());
    let main = std::fs::read(dir.path().join("spool.db")).unwrap();
    let database = Connection::open(dir.path().join("spool.db")).unwrap();
    rows::write_back(&database).unwrap();
    let identity: i64 = database
        .query_row("SELECT identity FROM generation", [], |row| row.get(0))
        .unwrap();
    let before = [&identity.to_be_bytes()[..], b"d/s//log"].concat();
    let mut windows = main.windows(before.len());
    let at = windows.position(|window| window == before).unwrap();
    flip(dir.path(), at + 8, 0x80);
    // What the store has read it forgets where another has written.
    database
        .execute("UPDATE depth SET n_rows = n_rows", [])
        .unwrap();
    drop(database);
    let checkpoint = || Transaction {
        checkpoints: vec![Checkpoint {
            generation: Generation(7),
            settled: BATCHES * STEP + 1,
            closed: false,
        }],
        ..Transaction::default()
    };
    rig.store.commit(checkpoint()).unwrap();
    let reply = rig.replies.blocking_recv();
    assert!(
        matches!(reply, Some(Reply::CommitFailed(Trouble::Damaged))),
        "{reply:?}"
    );
    rig.heal();
    rig.commit(checkpoint());
    rig.store.close();
    assert_eq!(account(dir.path(), "healed"), BATCHES as usize);
}
