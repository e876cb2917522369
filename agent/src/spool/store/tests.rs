//! The store on a real database in a directory of its own.

use std::sync::Arc;
use std::time::Duration;

use headwater_record::notice::{Tail, reason};
use headwater_record::{Generation, Kind, Notice, StreamId};
use rusqlite::{Connection, ffi};

use super::vacuum::{FREE_PAGES_KEPT, VACUUM_PAGES, shrink};
use super::*;
use crate::batch::{Batch, Entry};
use crate::checkpoint::{FileIdentity, Marker, Origin, Registry};
use crate::spool::batch::Row;
use crate::spool::{Checkpoint, Evict, rows, schema};
use crate::stop::Stop;

struct Rig {
    store: Store,
    replies: mpsc::Receiver<Reply>,
    found: Found,
}

impl Rig {
    fn start(dir: &Path) -> Self {
        Self::with_keys(dir, Keys::default()).unwrap()
    }

    fn with_keys(dir: &Path, keys: Keys) -> Result<Self, OpenError> {
        let (sender, replies) = mpsc::channel(REPLIES);
        let to = (&"d".parse().unwrap(), Floors::default(), keys);
        let (store, opening) = Store::start(dir, to, sender).unwrap();
        let mut found = opening.blocking_recv().unwrap()?;
        // Others use the disk, too: what it has free is no matter of these tests.
        assert!(found.depth.room.take().is_some());
        Ok(Self {
            store,
            replies,
            found,
        })
    }

    fn commit(&mut self, transaction: Transaction) -> Depth {
        self.store.commit(transaction).unwrap();
        match self.replies.blocking_recv() {
            Some(Reply::Committed(depth)) => Depth {
                room: None,
                written: None,
                ..depth
            },
            other => panic!("{other:?}"),
        }
    }

    fn load(
        &mut self,
        after: u64,
        through: u64,
        bytes_max: u64,
    ) -> (Vec<(BatchId, Batch)>, u64, u64) {
        self.store
            .load(BatchId(after), BatchId(through), bytes_max)
            .unwrap();
        match self.replies.blocking_recv() {
            Some(Reply::Loaded {
                rows,
                through,
                lost,
            }) => (rows, through.0, lost),
            other => panic!("{other:?}"),
        }
    }
}

fn batch(start: u64, kinds: &[Kind]) -> Arc<Batch> {
    let mut batch = Batch {
        stream: StreamId::parse("d/s//log").unwrap(),
        generation: Generation(u64::MAX - 1),
        start,
        entries: Vec::new(),
        values: Vec::new(),
        raw: false,
        permit: None,
    };
    for kind in kinds {
        batch
            .values
            .extend_from_slice(format!("value at {}", batch.end()).as_bytes());
        batch.entries.push(Entry {
            end: batch.end() + 10,
            value_end: batch.values.len() as u32,
            kind: *kind,
        });
    }
    Arc::new(batch)
}

/// Batches of which zstd makes nothing smaller: a notice takes less room than each.
fn large(ids: std::ops::RangeInclusive<u64>) -> Vec<(BatchId, Arc<Batch>)> {
    let mut rows = spooled(ids);
    for (id, batch) in &mut rows {
        let batch = Arc::get_mut(batch).unwrap();
        batch.values = (0..300_u64)
            .flat_map(|n| crc32c::crc32c(&(id.0 << 16 | n).to_le_bytes()).to_le_bytes())
            .collect();
        batch.entries[0].value_end = batch.values.len() as u32;
    }
    rows
}

fn spooled(ids: std::ops::RangeInclusive<u64>) -> Vec<(BatchId, Arc<Batch>)> {
    ids.map(|id| (BatchId(id), batch(id * 10, &[Kind::Data])))
        .collect()
}

fn generation(n: u64, origin: Origin) -> OpenGeneration {
    OpenGeneration {
        generation: Generation(n),
        stream: StreamId::parse("d/s//log").unwrap(),
        origin,
        settled: 0,
        skip_to: Some(u64::MAX),
        cuts: Vec::new(),
        marker: None,
    }
}

fn file(path: &[u8]) -> FileIdentity {
    FileIdentity {
        path: path.to_vec(),
        device: u64::MAX,
        inode: 1 << 63,
        fingerprint_len: 1024,
        fingerprint: u32::MAX,
        since_ms: u64::MAX,
    }
}

#[test]
fn rows_come_back_as_they_were_in_order_and_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    assert_eq!(
        (rig.found.depth, rig.found.last),
        (Depth::default(), [0, 1 << 60, 2 << 60].map(BatchId))
    );
    let depth = rig.commit(Transaction {
        rows: spooled(1..=5),
        ..Transaction::default()
    });
    assert_eq!(depth.rows, 5);
    assert!(depth.bytes > 0 && depth.oldest_ms.is_some());
    rig.store.close();

    let mut rig = Rig::start(dir.path());
    assert_eq!((rig.found.depth, rig.found.last[0]), (depth, BatchId(5)));
    let (loaded, through, lost) = rig.load(0, 5, 25);
    let ids: Vec<_> = loaded.iter().map(|(id, _)| id.0).collect();
    assert_eq!(
        (ids.as_slice(), through, lost),
        (&[1, 2][..], 2, 0),
        "as many as fit"
    );
    let (loaded, through, _) = rig.load(2, 4, 1);
    assert_eq!(
        (loaded[0].0, loaded.len(), through),
        (BatchId(3), 1, 3),
        "one at least"
    );
    let (loaded, through, _) = rig.load(3, 4, 1000);
    assert_eq!((loaded.len(), through), (1, 4));
    let (stored, fresh) = (&loaded[0].1, batch(40, &[Kind::Data]));
    assert_eq!(
        (&stored.stream, stored.generation, stored.start),
        (&fresh.stream, fresh.generation, fresh.start)
    );
    assert_eq!(
        (&stored.entries, &stored.values),
        (&fresh.entries, &fresh.values)
    );

    let deletes = (1..=5).map(BatchId).collect();
    let depth = rig.commit(Transaction {
        deletes,
        ..Transaction::default()
    });
    assert_eq!(depth, Depth::default(), "the sums follow");
    assert_eq!(
        rig.load(0, 5, 1000).1,
        5,
        "an empty range was looked at, too"
    );
    rig.store.close();
}

#[test]
fn a_row_committed_twice_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let first = rig.commit(Transaction {
        rows: spooled(1..=2),
        ..Transaction::default()
    });
    let again = rig.commit(Transaction {
        rows: spooled(1..=2),
        deletes: vec![BatchId(9)],
        ..Transaction::default()
    });
    assert_eq!(first, again);
    rig.store.close();
}

#[test]
fn every_field_of_a_generation_survives() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let registry = rig.store.registry(Stop::new(), 1);
    let old = generation(u64::MAX, Origin::File(file(b"/a\xff")));
    let sensor = generation(1, Origin::Sensor);
    let gone = generation(2, Origin::Sensor);
    registry
        .register(&[old.clone(), sensor.clone(), gone])
        .unwrap();
    registry.register(std::slice::from_ref(&old)).unwrap();
    registry.identify(&[(old.generation, file(b"/b"))]).unwrap();
    for cut in [u64::MAX - 3, 77, 78, 78] {
        registry.cut(old.generation, cut).unwrap();
    }
    let marker = Marker {
        end: u64::MAX,
        len: 64,
        sum: u32::MAX,
    };
    registry.mark(old.generation, marker, 1 << 63);
    let at = |n, settled, closed| Checkpoint {
        generation: Generation(n),
        settled,
        closed,
    };
    let checkpoints = vec![at(u64::MAX, 77, false), at(1, 5, false), at(2, 9, true)];
    rig.commit(Transaction {
        checkpoints,
        ..Transaction::default()
    });
    rig.commit(Transaction {
        checkpoints: vec![at(1, 4, false)],
        ..Transaction::default()
    });
    rig.store.close();
    assert!(
        registry.cut(Generation(1), 1).is_err(),
        "the store has stopped"
    );

    let rig = Rig::start(dir.path());
    let mut known = rig.found.known;
    known.sort_by_key(|known| known.generation);
    let sensor = OpenGeneration {
        settled: 5,
        ..sensor
    };
    let old = OpenGeneration {
        settled: 77,
        cuts: vec![78, u64::MAX - 3],
        marker: Some(marker),
        origin: Origin::File(FileIdentity {
            since_ms: 1 << 63,
            ..file(b"/b")
        }),
        ..old
    };
    assert_eq!(known, [sensor, old]);
    rig.store.close();
}

#[test]
fn when_a_file_was_changed_last_goes_with_its_marker_but_for_one_that_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path());
    let registry = rig.store.registry(Stop::new(), 1);
    let as_of = |since_ms, fingerprint_len| FileIdentity {
        fingerprint_len,
        since_ms,
        ..file(b"/a")
    };
    let empty = generation(3, Origin::File(as_of(5, 0)));
    registry.register(std::slice::from_ref(&empty)).unwrap();
    for identity in [as_of(6, 0), as_of(7, 1)] {
        registry.identify(&[(empty.generation, identity)]).unwrap();
    }
    rig.store.close();

    let rig = Rig::start(dir.path());
    let begun = OpenGeneration {
        origin: Origin::File(as_of(6, 1)),
        ..empty
    };
    assert_eq!(rig.found.known, [begun]);
    rig.store.close();
}

#[test]
fn a_row_that_is_whole_and_unreadable_becomes_a_notice_of_its_range() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let mut all = spooled(1..=2);
    all.push((BatchId(3), batch(30, &[Kind::Data, Kind::Close])));
    rig.commit(Transaction {
        rows: all,
        ..Transaction::default()
    });
    rig.store.close();
    // As a mistake of ours would leave them: with a checksum that holds.
    let database = Connection::open(dir.path().join("spool.db")).unwrap();
    for id in [1, 3] {
        let row = database
            .query_row(
                include_str!("../sql/load_batches.sql"),
                [id - 1, id],
                rows::stored_row,
            )
            .unwrap();
        let row = Row {
            blob: vec![0; 9],
            ..row
        };
        let checksum = row.with_checksum().checksum;
        database
            .execute(
                "UPDATE batch SET blob = zeroblob(9), checksum = ?1 WHERE id = ?2",
                [i64::from(checksum), id],
            )
            .unwrap();
    }
    drop(database);

    let mut rig = Rig::start(dir.path());
    let (loaded, _, lost) = rig.load(0, 3, 10_000);
    assert_eq!((loaded.len(), lost), (3, 2));
    let seen = |at: usize| {
        let records = loaded[at].1.records();
        records
            .map(|record| {
                (
                    record.span.to_string(),
                    record.kind,
                    Notice::parse(record.value),
                )
            })
            .collect::<Vec<_>>()
    };
    let reason = || reason::SPOOL_CORRUPT.to_owned();
    let of = |records| Notice::Loss {
        reason: reason(),
        records: Some(records),
    };
    let close = Notice::Close {
        reason: reason(),
        tail: Tail::Unknown,
    };
    assert_eq!(seen(0), [("[10, 20)".to_owned(), Kind::Loss, Some(of(1)))]);
    assert_eq!(seen(1)[0].1, Kind::Data, "its neighbour is whole");
    assert_eq!(
        seen(2),
        [
            ("[30, 50)".to_owned(), Kind::Loss, Some(of(2))),
            ("[50, 50)".to_owned(), Kind::Close, Some(close)),
        ]
    );
    rig.store.close();
}

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

fn owner(dir: &Path) -> Owner {
    Owner::open(
        dir,
        ("d".parse().unwrap(), Floors::default(), Keys::default()),
        (
            Markers::default(),
            Seen::default(),
            Salvaging::default(),
            Refusing::default(),
        ),
    )
    .unwrap()
    .0
}

fn connection(owner: &Owner) -> &Connection {
    &owner.opened.as_ref().unwrap().connection
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
    while shrink(connection(&owner)) {
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
fn a_registry_stops_waiting_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path());
    let stop = Stop::new();
    let registry = rig.store.registry(stop.clone(), 1);
    let other = Connection::open(dir.path().join("spool.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let waiter = std::thread::spawn(move || registry.register(&[generation(1, Origin::Sensor)]));
    std::thread::sleep(Duration::from_millis(10));
    stop.set();
    assert!(waiter.join().unwrap().is_err());
    drop(other);
    rig.store.close();
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

/// Rows `from` to `through`, and whatever must give way to them.
fn squeezed(rig: &mut Rig, ids: std::ops::RangeInclusive<u64>, evict: Evict) -> Depth {
    rig.commit(Transaction {
        rows: large(ids),
        evict: Some(evict),
        ..Transaction::default()
    })
}

fn evict(bytes_max: u64, after: u64, kept: &[u64]) -> Evict {
    Evict {
        bytes_max,
        lanes: vec![(Lane::Normal, BatchId(after))],
        kept: kept.iter().copied().map(BatchId).collect(),
    }
}

/// What the spool holds, a word for each record.
fn content(rig: &mut Rig, through: u64) -> Vec<String> {
    let (rows, _, lost) = rig.load(0, through, u64::MAX);
    assert_eq!(lost, 0);
    let records = rows.iter().flat_map(|(id, batch)| {
        batch.records().map(move |record| {
            let what = match Notice::parse(record.value) {
                Some(Notice::Loss { reason, records }) => {
                    format!("{reason} {}", records.unwrap_or(0))
                }
                Some(Notice::Close { reason, .. }) => reason,
                Some(Notice::Filtered) => "filtered".to_owned(),
                None => "data".to_owned(),
            };
            format!("{id}: {} {what}", record.span)
        })
    });
    records.collect()
}

#[test]
fn the_oldest_give_way_and_one_notice_names_them_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let full = rig.commit(Transaction {
        rows: large(1..=9),
        ..Transaction::default()
    });
    let row = full.bytes / 9;
    // A notice takes room, too: what is freed is not what enters.
    let most = full.bytes + 2 * row;
    let depth = squeezed(&mut rig, 10..=14, evict(most, 1, &[4]));
    assert!(depth.bytes <= most, "{} of {most}", depth.bytes);
    let first = content(&mut rig, 14);
    assert_eq!(first[0], "1: [10, 20) data", "it may be at hand");
    assert!(
        first[1].starts_with("2: [20, 40) spool-full 2"),
        "{first:?}"
    );
    assert_eq!(first[2], "4: [40, 50) data", "it is kept");
    assert!(first[3].starts_with("5: [50, "), "{first:?}");
    assert_eq!(first.last().unwrap(), "14: [140, 150) data");
    let notices = |content: &[String]| content.iter().filter(|line| line.contains("full")).count();
    assert_eq!(notices(&first), 2);
    // More of it, after a restart too: then a new one begins behind the old.
    for (from, to) in [(15, 20), (21, 26)] {
        let depth = squeezed(&mut rig, from..=to, evict(most, 1, &[4]));
        assert!(depth.bytes <= most, "{} of {most}", depth.bytes);
        assert_eq!(notices(&content(&mut rig, to)), 2, "joined");
    }
    let evicted: u64 = content(&mut rig, 26)
        .iter()
        .filter_map(|line| line.rsplit_once("full ")?.1.parse::<u64>().ok())
        .sum();
    let depth = rig.commit(Transaction::default());
    assert_eq!(
        (depth.evicted.rows, depth.evicted.records),
        (evicted, evicted)
    );
    rig.store.close();
    let mut rig = Rig::start(dir.path());
    let depth = squeezed(&mut rig, 27..=30, evict(most, 1, &[4]));
    assert!(depth.bytes <= most + row, "{} of {most}", depth.bytes);
    let last = content(&mut rig, 30);
    assert_eq!(notices(&last), 3, "{last:?}");
    // Nothing is missing, and nothing is there twice.
    let mut end = 10;
    for line in last {
        let (start, rest) = line.split_once('[').unwrap().1.split_once(", ").unwrap();
        assert_eq!(start.parse::<u64>().unwrap(), end);
        end = rest.split_once(')').unwrap().0.parse().unwrap();
    }
    assert_eq!(end, 310);
    rig.store.close();
}

#[test]
fn what_was_at_hand_and_is_left_again_gives_way_before_what_is_younger() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let full = rig.commit(Transaction {
        rows: large(1..=9),
        ..Transaction::default()
    });
    let data = |content: &[String]| -> Vec<u64> {
        let lines = content.iter().filter(|line| line.ends_with("data"));
        lines
            .filter_map(|line| line.split_once(':')?.0.parse().ok())
            .collect()
    };
    // 1 to 3 were read, and 5 is on its way since before it was spooled.
    squeezed(&mut rig, 10..=11, evict(full.bytes, 3, &[5]));
    let left = data(&content(&mut rig, 11));
    assert_eq!(left[..4], [1, 2, 3, 5], "{left:?}");
    // None of them arrived.
    squeezed(&mut rig, 12..=12, evict(full.bytes, 0, &[]));
    let next = data(&content(&mut rig, 12));
    assert!(!next.contains(&1), "{next:?}");
    let younger = |ids: &[u64]| ids.iter().filter(|id| (6..=11).contains(*id)).count();
    assert_eq!(younger(&next), younger(&left), "{next:?}");
    squeezed(&mut rig, 13..=15, evict(full.bytes, 0, &[]));
    let last = data(&content(&mut rig, 15));
    assert!(
        !last.contains(&5) || younger(&last) == younger(&left),
        "{last:?}"
    );
    rig.store.close();
}

#[test]
fn batches_smaller_than_a_notice_make_room_where_a_file_has_more_than_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = owner(dir.path());
    let before = owner.commit(&Transaction {
        rows: spooled(1..=20),
        ..Transaction::default()
    });
    let before = before.unwrap();
    assert!(before.bytes / 20 < 100, "{before:?}");
    owner.floors.bytes = u64::MAX;
    let mut depth = before;
    for id in 21..=40 {
        let room = depth.room.unwrap_or(0);
        let bytes_max = depth.bytes + if id == 21 { 0 } else { room };
        depth = (owner.commit(&Transaction {
            rows: spooled(id..=id),
            evict: Some(evict(bytes_max, 0, &[])),
            ..Transaction::default()
        }))
        .unwrap();
    }
    assert!(depth.evicted.rows > 5, "{depth:?}");
    assert!(depth.bytes <= before.bytes + 500, "{depth:?}");
}

#[test]
fn a_notice_is_never_given_up_and_a_close_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let kinds = [Kind::Data, Kind::Data, Kind::Loss, Kind::Data, Kind::Close];
    rig.commit(Transaction {
        rows: vec![
            (BatchId(1), batch(10, &kinds)),
            (BatchId(2), batch(60, &[Kind::Loss])),
        ],
        ..Transaction::default()
    });
    squeezed(&mut rig, 7..=7, evict(0, 0, &[]));
    assert_eq!(
        content(&mut rig, 7),
        [
            "1: [10, 30) spool-full 2",
            "1: [30, 40) data", // The loss of the sample, which is no notice that can be read.
            "1: [40, 50) spool-full 1",
            "1: [50, 60) data",
            "2: [60, 70) data",
            "7: [70, 80) data",
        ]
    );
    rig.store.close();
}

#[test]
fn lanes_are_apart_and_the_lowest_gives_way_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let low = Lane::Low.first();
    let (mut low_row, normal_row) = (large(2..=2), large(1..=1));
    low_row[0].0 = low;
    let depth = rig.commit(Transaction {
        rows: low_row.into_iter().chain(normal_row).collect(),
        ..Transaction::default()
    });
    assert!(depth.data_bytes[Lane::Low.index()] > 0 && depth.data_bytes[Lane::High.index()] == 0);
    let lanes = vec![(Lane::Low, low.before()), (Lane::Normal, BatchId(0))];
    let depth = rig.commit(Transaction {
        rows: large(3..=3),
        evict: Some(Evict {
            bytes_max: depth.bytes + 1000,
            lanes,
            ..evict(0, 0, &[])
        }),
        ..Transaction::default()
    });
    assert_eq!(depth.data_bytes[Lane::Low.index()], 0);
    assert!(depth.data_bytes[Lane::Normal.index()] > 0);
    rig.store.close();
    let rig = Rig::start(dir.path());
    assert_eq!(rig.found.last, [BatchId(3), BatchId(1 << 60), low]);
    rig.store.close();
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

#[test]
fn what_cannot_give_way_makes_no_room_below_the_floor() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = owner(dir.path());
    let before = owner.commit(&Transaction {
        rows: large(1..=8),
        ..Transaction::default()
    });
    let before = before.unwrap();
    owner.floors.bytes = u64::MAX;
    let replacing = |kept: &[u64]| Transaction {
        rows: large(9..=9),
        evict: Some(evict(before.bytes, 0, kept)),
        ..Transaction::default()
    };
    let all: Vec<u64> = (1..=8).collect();
    assert_eq!(owner.commit(&replacing(&all)), Err(Trouble::Floor));
    assert_eq!(
        owner.commit(&replacing(&all[1..])),
        Err(Trouble::Floor),
        "one is too little"
    );
    let after = owner.commit(&replacing(&[])).unwrap();
    assert!(after.bytes <= before.bytes, "{after:?}");
    assert!((2..8).contains(&after.evicted.rows), "{after:?}");
}

#[test]
fn what_was_used_of_budgets_survives_a_restart_and_a_salvage() {
    let dir = tempfile::tempdir().unwrap();
    let used = |budget, bytes| Used {
        budget,
        at_ms: u64::MAX - 1,
        bytes,
    };
    let mut rig = Rig::start(dir.path());
    assert_eq!(rig.found.usage, []);
    for bytes in [1, -7] {
        rig.commit(Transaction {
            usage: vec![used(0, 5), used(3, bytes)],
            rows: spooled(u64::from(bytes == 1)..=1),
            ..Transaction::default()
        });
    }
    rig.store.close();
    let mut rig = Rig::start(dir.path());
    assert_eq!(rig.found.usage, [used(0, 5), used(3, -7)]);
    rig.store.heal(Healing::default()).unwrap();
    assert!(matches!(
        rig.replies.blocking_recv(),
        Some(Reply::Healed { .. })
    ));
    rig.store.close();
    let database = Connection::open(dir.path().join("spool.db")).unwrap();
    database
        .execute("UPDATE usage SET bytes = 6 WHERE budget = 0", [])
        .unwrap();
    drop(database);
    let rig = Rig::start(dir.path());
    assert_eq!(
        rig.found.usage,
        [used(3, -7)],
        "one that is not whole is none"
    );
    rig.store.close();
}

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
