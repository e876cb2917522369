//! Databases damaged in every way that we could think of: the agent's store starts on each, what is
//! whole is there, and what is not is in a notice.

mod flipped;
mod keys;

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use headwater_record::{Kind, Notice};
use tokio::sync::mpsc;

use super::found::Covered;
use super::*;
use crate::batch::{Batch, Entry};
use crate::checkpoint::{Marker, OpenGeneration, Origin, Registry};
use crate::spool::disk::Floors;
use crate::spool::schema::OpenError;
use crate::spool::sealing::Keys;
use crate::spool::store::{Found as Start, Present, REPLIES, Store};
use crate::spool::{Checkpoint, Evict, Healing, Reply, Transaction, Trouble};
use crate::stop::Stop;

/// Batches of the sample, and the offsets that each takes.
const BATCHES: u64 = 60;
const STEP: u64 = 100;

fn device() -> DeviceId {
    "d".parse().unwrap()
}

fn stream() -> StreamId {
    StreamId::parse("d/s//log").unwrap()
}

/// Random enough that zstd does not make one page of it.
fn batch(nth: u64) -> Batch {
    let values: Vec<u8> = (0..600_u64)
        .flat_map(|n| crc32c::crc32c(&(nth << 16 | n).to_le_bytes()).to_le_bytes())
        .collect();
    Batch {
        stream: stream(),
        generation: Generation(7),
        start: nth * STEP,
        entries: vec![Entry {
            end: (nth + 1) * STEP,
            value_end: values.len() as u32,
            kind: Kind::Data,
        }],
        values,
        raw: false,
        permit: None,
    }
}

struct Rig {
    store: Store,
    replies: mpsc::Receiver<Reply>,
    found: Start,
}

fn start(dir: &Path) -> Rig {
    start_above(dir, Floors::default())
}

fn start_above(dir: &Path, floors: Floors) -> Rig {
    start_with(dir, floors, Keys::default()).unwrap()
}

fn start_with(dir: &Path, floors: Floors, keys: Keys) -> Result<Rig, OpenError> {
    let (sender, replies) = mpsc::channel(REPLIES);
    let to = (&device(), floors, keys, Present::default());
    let (store, opening) = Store::start(dir, to, sender).unwrap();
    let found = opening.blocking_recv().unwrap()?;
    Ok(Rig {
        store,
        replies,
        found,
    })
}

impl Rig {
    /// Everything that is in it, in the order of sending; healed first where damage shows.
    fn all(&mut self) -> Vec<Batch> {
        let (mut all, mut after, mut healed) = (Vec::new(), BatchId(0), false);
        while after < self.found.last[0] {
            let last = self.found.last[0];
            self.store.load(after, last, u64::MAX).unwrap();
            match self.replies.blocking_recv() {
                Some(Reply::Loaded { rows, through, .. }) => {
                    all.extend(rows.into_iter().map(|(_, batch)| batch));
                    after = through;
                }
                Some(Reply::LoadFailed(Trouble::Damaged)) if !healed => {
                    self.heal();
                    (all, after, healed) = (Vec::new(), BatchId(0), true);
                }
                other => panic!("{other:?}"),
            }
        }
        all
    }

    fn heal(&mut self) {
        let first_free = [1000, (1 << 60) + 1, (2 << 60) + 1].map(BatchId);
        let healing = Healing {
            first_free,
            beyond: vec![(Generation(7), BATCHES * STEP + 50, BATCHES * STEP + 60)],
        };
        self.store.heal(healing).unwrap();
        match self.replies.blocking_recv() {
            Some(Reply::Healed { last, .. }) => self.found.last = last,
            other => panic!("{other:?}"),
        }
    }

    fn commit(&mut self, transaction: Transaction) {
        self.store.commit(transaction).unwrap();
        let reply = self.replies.blocking_recv();
        assert!(matches!(reply, Some(Reply::Committed(_))), "{reply:?}");
    }
}

/// A database with [`BATCHES`] batches, half of them in its log, as a power cut leaves it.
fn sample(dir: &Path) {
    sample_with(dir, schema::PAGE_BYTES);
}

/// The same with pages of another size, as an earlier agent made them.
fn sample_with(dir: &Path, page_size: usize) {
    let made = tempfile::tempdir().unwrap();
    if page_size != schema::PAGE_BYTES {
        start(made.path()).store.close();
        let database = Connection::open(made.path().join("spool.db")).unwrap();
        let other =
            format!("PRAGMA journal_mode = DELETE; PRAGMA page_size = {page_size}; VACUUM;");
        database.execute_batch(&other).unwrap();
    }
    let mut rig = start(made.path());
    let registry = rig.store.registry(Stop::new(), 1);
    registry
        .register(&[OpenGeneration {
            generation: Generation(7),
            stream: stream(),
            origin: Origin::Sensor,
            settled: 0,
            skip_to: None,
            cuts: Vec::new(),
            marker: None,
            earlier: Vec::new(),
            goes_on: None,
        }])
        .unwrap();
    for nth in 0..BATCHES {
        rig.commit(Transaction {
            rows: vec![(BatchId(nth + 1), Arc::new(batch(nth)))],
            deletes: Vec::new(),
            evict: None,
            usage: Vec::new(),
            checkpoints: vec![Checkpoint {
                generation: Generation(7),
                settled: (nth + 1) * STEP,
                closed: false,
            }],
        });
        if nth == BATCHES / 2 {
            let database = Connection::open(made.path().join("spool.db")).unwrap();
            rows::write_back(&database).unwrap();
        }
    }
    for name in ["spool.db", "spool.db-wal"] {
        std::fs::copy(made.path().join(name), dir.join(name)).unwrap();
    }
    rig.store.close();
}

/// Starts on `dir`, and checks that every offset that the database says is settled is there as data
/// or in a notice. Returns the batches of data that are whole.
fn account(dir: &Path, what: &str) -> usize {
    let mut rig = start(dir);
    let (mut whole, mut noticed, mut told) = (0, Covered::default(), 0);
    let mut covered = Covered::default();
    for found in rig.all() {
        if found.stream != stream() {
            assert_eq!(found.stream.as_str(), "d/headwater/spool", "{what}");
            told += 1;
            continue;
        }
        for record in found.records() {
            match record.kind {
                Kind::Data => {
                    let nth = record.span.start() / STEP;
                    assert_eq!(record.value, batch(nth).values, "{what}: batch {nth}");
                    let span = (record.span.start(), record.span.end());
                    assert_eq!(
                        noticed.holes(span.0, span.1),
                        [span],
                        "{what}: data behind a notice of its loss"
                    );
                    covered.add(record.span.start(), record.span.end());
                    whole += 1;
                }
                Kind::Loss | Kind::Close | Kind::Filtered => {
                    let notice = Notice::parse(record.value).unwrap();
                    assert!(format!("{notice:?}").contains("spool-corrupt"));
                    noticed.add(record.span.start(), record.span.end());
                    covered.add(record.span.start(), record.span.end());
                }
            }
        }
    }
    let settled = rig.found.known.open.first().map(|known| known.settled);
    if let Some(settled) = settled {
        let holes = covered.holes(0, settled);
        assert!(
            holes.is_empty(),
            "{what}: {holes:?} of {settled} are nowhere"
        );
    }
    if settled.is_none() {
        assert!(told > 0 || whole == 0, "{what}: nobody says what happened");
    }
    rig.store.close();
    // And again: it is sound now, and holds the same.
    let mut rig = start(dir);
    let again = rig
        .all()
        .iter()
        .filter(|batch| {
            batch.stream == stream() && batch.records().all(|record| record.kind == Kind::Data)
        })
        .count();
    assert_eq!(again, whole, "{what}: at the next start");
    rig.store.close();
    whole
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from.join("spool.db"), to.join("spool.db")).unwrap();
}

fn damage(from: &Path, what: &str, change: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let (db, wal) = (dir.path().join("spool.db"), dir.path().join("spool.db-wal"));
    let mut main = std::fs::read(from.join("spool.db")).unwrap();
    let mut log = std::fs::read(from.join("spool.db-wal")).unwrap_or_default();
    change(&mut main, &mut log);
    std::fs::write(db, main).unwrap();
    std::fs::write(wal, log).unwrap();
    account(dir.path(), what)
}

#[test]
fn a_log_cut_at_every_frame_and_at_odd_bytes_loses_commits_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let whole = damage(dir.path(), "nothing", |_, _| {});
    assert_eq!(whole, BATCHES as usize);
    let log = std::fs::read(dir.path().join("spool.db-wal")).unwrap();
    let frame = 24 + schema::PAGE_BYTES;
    let mut seen = BTreeMap::new();
    let frames = (0..=(log.len() - 32) / frame).map(|nth| 32 + nth * frame);
    let odd = (1..40).map(|nth| nth * 7919 % log.len());
    for cut in frames.chain(odd).chain([0, 1, 31]) {
        let whole = damage(dir.path(), &format!("log cut to {cut}"), |_, log| {
            log.truncate(cut);
        });
        *seen.entry(whole).or_insert(0) += 1;
    }
    // Each commit of the log is one step, and none is half there.
    let expected: Vec<_> = (BATCHES as usize / 2 + 1..=BATCHES as usize).collect();
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), expected);
}

#[test]
fn a_torn_log_in_the_middle_ends_there() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let whole = damage(dir.path(), "a flipped bit in the log", |_, log| {
        let at = log.len() / 2;
        log[at] ^= 1;
    });
    assert!((31..60).contains(&whole), "{whole}");
}

#[test]
fn any_page_may_be_zeroed() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    // All of it in one file: then every page counts.
    drop(
        Connection::open(dir.path().join("spool.db"))
            .and_then(|database| rows::write_back(&database)),
    );
    let pages = std::fs::metadata(dir.path().join("spool.db"))
        .unwrap()
        .len() as usize
        / schema::PAGE_BYTES;
    assert!(pages > 60, "{pages}");
    let mut fewest = usize::MAX;
    for page in (0..pages).filter(|page| *page < 12 || page % 5 == 0) {
        let whole = damage(dir.path(), &format!("page {page} zeroed"), |main, log| {
            main[page * schema::PAGE_BYTES..][..schema::PAGE_BYTES].fill(0);
            log.clear();
        });
        // A leaf holds some rows, and every other page less.
        assert!(whole >= BATCHES as usize - 12, "page {page}: {whole}");
        fewest = fewest.min(whole);
    }
    assert!(fewest < BATCHES as usize, "no page was worth anything");
}

#[test]
fn a_generation_is_known_whether_or_not_its_row_has_the_columns_that_came_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool.db");
    let marker = |end| Marker {
        end,
        len: 2,
        sum: 3,
    };
    let open = |n| OpenGeneration {
        generation: Generation(n),
        stream: stream(),
        origin: Origin::Sensor,
        settled: 0,
        skip_to: None,
        cuts: Vec::new(),
        marker: Some(marker(n)),
        earlier: vec![marker(9)],
        goes_on: None,
    };
    let rig = start(dir.path());
    (rig.store.registry(Stop::new(), 1).register(&[open(1)])).unwrap();
    rig.store.close();
    // As an earlier agent made it.
    let database = Connection::open(&path).unwrap();
    let drop_it = "ALTER TABLE generation DROP COLUMN goes_on; ALTER TABLE generation DROP COLUMN earlier; PRAGMA journal_mode = DELETE;";
    database.execute_batch(drop_it).unwrap();
    drop(database);
    let before = OpenGeneration {
        earlier: Vec::new(),
        goes_on: None,
        ..open(1)
    };
    let rig = start(dir.path());
    assert_eq!(rig.found.known.open, std::slice::from_ref(&before));
    (rig.store.registry(Stop::new(), 1).register(&[open(2)])).unwrap();
    rig.store.close();
    let both = [before, open(2)];
    for is_damaged in [false, true] {
        if is_damaged {
            let database = Connection::open(&path).unwrap();
            database
                .execute_batch("PRAGMA journal_mode = DELETE")
                .unwrap();
            drop(database);
            let mut main = std::fs::read(&path).unwrap();
            main[..100].fill(0);
            std::fs::write(&path, main).unwrap();
        }
        let rig = start(dir.path());
        let aside = dir.path().join("spool.damaged");
        assert_eq!(aside.exists(), is_damaged);
        assert_eq!(rig.found.known.open, both);
        rig.store.close();
    }
}

/// A spool keeps the page size that it was made with; without its header nothing says which.
#[test]
fn a_header_is_lost_of_a_database_with_pages_of_another_size() {
    for page_size in [schema::PAGE_BYTES, schema::PAGE_BYTES_BEFORE] {
        let dir = tempfile::tempdir().unwrap();
        sample_with(dir.path(), page_size);
        let log = std::fs::read(dir.path().join("spool.db-wal")).unwrap();
        let of_log = log.get(8..12).unwrap();
        assert_eq!(of_log, u32::try_from(page_size).unwrap().to_be_bytes());
        let whole = damage(dir.path(), "the header, with the log", |main, _| {
            main[..100].fill(0);
        });
        assert_eq!(whole, BATCHES as usize, "pages of {page_size}");
        drop(
            Connection::open(dir.path().join("spool.db"))
                .and_then(|database| rows::write_back(&database)),
        );
        let whole = damage(dir.path(), "the header, without a log", |main, log| {
            main[..100].fill(0);
            log.clear();
        });
        assert_eq!(whole, BATCHES as usize, "pages of {page_size}");
    }
}

#[test]
fn a_file_may_be_cut_short_or_be_anything() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let length = std::fs::metadata(dir.path().join("spool.db"))
        .unwrap()
        .len() as usize;
    for cut in [1, 99, 100, 4096, 5000, length / 2, length - 1] {
        damage(
            dir.path(),
            &format!("cut to {cut}, with its log"),
            |main, _| main.truncate(cut),
        );
        damage(dir.path(), &format!("cut to {cut}"), |main, log| {
            main.truncate(cut);
            log.clear();
        });
    }
    let whole = damage(dir.path(), "cut to nothing, with its log", |main, _| {
        main.clear()
    });
    assert!(whole >= 29, "the log's batches: {whole}");
    let nothing = damage(dir.path(), "not a database", |main, log| {
        main.fill(b'x');
        log.clear();
    });
    assert_eq!(nothing, 0);
    let kept = tempfile::tempdir().unwrap();
    std::fs::write(kept.path().join("spool.db"), [b'x'; 8192]).unwrap();
    account(kept.path(), "kept");
    let aside = std::fs::read(kept.path().join("spool.damaged")).unwrap();
    assert_eq!(aside, [b'x'; 8192], "it is there for whoever wants to look");
}

#[test]
fn the_database_of_another_program_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let other = Connection::open(dir.path().join("spool.db")).unwrap();
    other
        .execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
        .unwrap();
    drop(other);
    assert_eq!(account(dir.path(), "another program's"), 0);
    let aside = Connection::open(dir.path().join("spool.damaged")).unwrap();
    assert_eq!(
        aside.query_row("SELECT a FROM t", [], |row| row.get(0)),
        Ok(1)
    );
}

#[test]
fn the_log_of_another_database_is_not_taken_for_ours() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    sample(ours.path());
    sample(theirs.path());
    let log = theirs.path().join("spool.db-wal");
    std::fs::copy(&log, ours.path().join("spool.db-wal")).unwrap();
    let whole = account(ours.path(), "another's log");
    assert_eq!(
        whole,
        BATCHES as usize / 2 + 1,
        "what was in the file itself"
    );
    let aside = std::fs::read(ours.path().join("spool.foreign-wal")).unwrap();
    assert_eq!(aside, std::fs::read(&log).unwrap());
    // One with other pages, too.
    let path = theirs.path().join("small.db");
    let small = Connection::open(&path).unwrap();
    small
        .execute_batch("PRAGMA page_size = 512; PRAGMA journal_mode = WAL; CREATE TABLE t (a)")
        .unwrap();
    let fresh = tempfile::tempdir().unwrap();
    copy(ours.path(), fresh.path());
    std::fs::copy(
        theirs.path().join("small.db-wal"),
        fresh.path().join("spool.db-wal"),
    )
    .unwrap();
    assert_eq!(
        account(fresh.path(), "a log of small pages"),
        BATCHES as usize / 2 + 1
    );
}

#[test]
fn a_salvage_cut_off_at_any_rename_is_finished_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let folder = Folder::lock(dir.path()).unwrap();
    let keys = Keys::default();
    let device = (&device(), Floors::default(), &keys, &Salvaging::default());
    salvage(&folder, device, &Healing::default(), 0).unwrap();
    drop(folder);
    let whole = std::fs::read(dir.path().join("spool.db")).unwrap();
    // As it was before each of them: the whole one beside the old one, with or without its log.
    for with_log in [true, false] {
        for with_main in [true, false] {
            let cut = tempfile::tempdir().unwrap();
            sample(cut.path());
            std::fs::write(cut.path().join("spool.whole"), &whole).unwrap();
            if !with_log {
                std::fs::remove_file(cut.path().join("spool.db-wal")).unwrap();
            }
            if !with_main {
                std::fs::remove_file(cut.path().join("spool.db")).unwrap();
            }
            assert_eq!(account(cut.path(), "cut off"), BATCHES as usize);
            assert!(!cut.path().join("spool.whole").exists());
        }
    }
    // A part of one is of no use.
    let part = tempfile::tempdir().unwrap();
    sample(part.path());
    std::fs::write(part.path().join("spool.new"), &whole[..whole.len() / 2]).unwrap();
    assert_eq!(account(part.path(), "a part"), BATCHES as usize);
}

#[test]
fn a_salvage_says_how_far_it_is_and_a_stop_leaves_it_to_the_next_start() {
    const HUGE: u64 = 1 << 38;
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let path = dir.path().join("spool.db");
    let database = Connection::open(&path).unwrap();
    rows::write_back(&database).unwrap();
    drop(database);
    // Without its header; and behind its pages a hole that takes minutes to look at.
    let main = std::fs::read(&path).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 16], 0).unwrap();
    file.set_len(HUGE).unwrap();
    let (sender, _replies) = mpsc::channel(REPLIES);
    let to = (
        &device(),
        Floors::default(),
        Keys::default(),
        Present::default(),
    );
    let (store, mut opening) = Store::start(dir.path(), to, sender).unwrap();
    let begun = loop {
        match store.salvage() {
            Some(salvage) if salvage.bytes > 0 => break salvage,
            _ => assert!(opening.try_recv().is_err(), "it is over"),
        }
    };
    assert_eq!(begun.bytes_all, HUGE);
    store.close();
    let opened = opening.blocking_recv().unwrap();
    assert!(matches!(opened, Err(OpenError::Stopped)), "{opened:?}");
    assert_eq!(file.metadata().unwrap().len(), HUGE, "nothing was replaced");
    let begun = dir.path().join("spool.new");
    assert!(!begun.exists(), "and nothing takes space for it");
    file.set_len(main.len() as u64).unwrap();
    assert_eq!(account(dir.path(), "once more"), BATCHES as usize);
}

#[test]
fn a_notice_whose_row_is_still_there_as_data_covers_nothing() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let path = dir.path().join("spool.db");
    let database = Connection::open(&path).unwrap();
    // Row 30 gave way with those behind it. A page of it was let go before that, and is met first.
    database
        .execute_batch("PRAGMA secure_delete = ON; DELETE FROM batch WHERE id BETWEEN 31 AND 35")
        .unwrap();
    rows::write_back(&database).unwrap();
    let range = "SELECT start FROM batch WHERE id = 30";
    let start: i64 = database.query_row(range, [], |row| row.get(0)).unwrap();
    drop(database);
    let start = start.cast_unsigned();
    let lost = Lost {
        range: (start, start + 6 * STEP),
        records: Some(6),
        closes: false,
    };
    let notice = rows::loss(&stream(), Generation(7), lost, 0).unwrap();
    let mut packer = Packer::new(Arc::default()).unwrap();
    let row = packer.pack(BatchId(30), &notice).unwrap();
    let other = dir.path().join("other");
    std::fs::write(&other, []).unwrap();
    let made = schema::create_salvage(&other).unwrap();
    rows::insert(&made, &row, 9, 0).unwrap();
    drop(made);
    let mut image = Files::open_at(&other, &dir.path().join("none"), false).unwrap();
    let holds_it = |number: &u32| {
        let mut holds = false;
        rows_of_page(&mut image, *number, &mut |id, values| {
            holds |= id == 30 && values.len() == 13;
        });
        holds
    };
    let page = (1..=100).find(holds_it).unwrap() as usize;
    let mut main = std::fs::read(&path).unwrap();
    let leaf = &std::fs::read(&other).unwrap()[(page - 1) * schema::PAGE_BYTES..];
    main.extend_from_slice(&leaf[..schema::PAGE_BYTES]);
    main[..16].fill(0);
    std::fs::write(&path, main).unwrap();
    assert_eq!(account(dir.path(), "given up"), BATCHES as usize - 5);
}

#[test]
fn what_a_damaged_row_says_of_itself_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let database = Connection::open(dir.path().join("spool.db")).unwrap();
    for change in [
        "UPDATE batch SET \"end\" = \"end\" + 1000000 WHERE id = 30",
        "UPDATE batch SET generation = 8 WHERE id = 31",
    ] {
        database.execute(change, []).unwrap();
    }
    rows::write_back(&database).unwrap();
    drop(database);
    // A notice of its loss takes the place of a row that gives way, too.
    let mut rig = start(dir.path());
    let evict = Evict {
        bytes_max: 0,
        lanes: vec![(Lane::Normal, BatchId(0))],
        kept: BTreeSet::new(),
    };
    let transaction = Transaction {
        rows: vec![(BatchId(BATCHES + 1), Arc::new(batch(BATCHES)))],
        evict: Some(evict),
        ..Transaction::default()
    };
    rig.store.commit(transaction).unwrap();
    let reply = rig.replies.blocking_recv();
    assert!(
        matches!(reply, Some(Reply::CommitFailed(Trouble::Damaged))),
        "{reply:?}"
    );
    rig.heal();
    let all = rig.all();
    let of_log: Vec<_> = all
        .iter()
        .filter(|batch| batch.stream == stream())
        .collect();
    let end = of_log.iter().map(|batch| batch.end()).max();
    assert_eq!(
        end,
        Some(BATCHES * STEP + 60),
        "nothing behind what was settled"
    );
    assert!(of_log.iter().all(|batch| batch.generation == Generation(7)));
    rig.store.close();
    assert_eq!(account(dir.path(), "two rows"), BATCHES as usize - 2);

    // And what is read goes up to it, and no further.
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let database = Connection::open(dir.path().join("spool.db")).unwrap();
    let change = "UPDATE batch SET start = 0, records = 9 WHERE id = 30";
    database.execute(change, []).unwrap();
    drop(database);
    let mut rig = start(dir.path());
    let last = rig.found.last[0];
    rig.store.load(BatchId(0), last, u64::MAX).unwrap();
    match rig.replies.blocking_recv() {
        Some(Reply::Loaded { through, lost, .. }) => assert_eq!((through, lost), (BatchId(29), 0)),
        other => panic!("{other:?}"),
    }
    rig.store.load(BatchId(29), last, u64::MAX).unwrap();
    let reply = rig.replies.blocking_recv();
    assert!(
        matches!(reply, Some(Reply::LoadFailed(Trouble::Damaged))),
        "{reply:?}"
    );
    rig.store.close();
}

#[test]
fn a_salvage_keeps_free_what_is_to_be_kept_free() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let path = dir.path().join("spool.db");
    let mut main = std::fs::read(&path).unwrap();
    main.truncate(main.len() - schema::PAGE_BYTES);
    std::fs::write(&path, main).unwrap();
    std::fs::remove_file(dir.path().join("spool.db-wal")).unwrap();
    let none = Floors {
        bytes: u64::MAX,
        inodes: u64::MAX,
    };
    let rig = start_above(dir.path(), none);
    assert_eq!(rig.found.depth.data_bytes, [0; Lane::COUNT]);
    rig.store.close();
    assert_eq!(account(dir.path(), "no room"), 0, "and all of it is told");
}

#[test]
fn damage_that_shows_later_is_healed_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let mut rig = start(dir.path());
    // A page in the middle, behind what a start looks at.
    let path = dir.path().join("spool.db");
    let database = Connection::open(&path).unwrap();
    rows::write_back(&database).unwrap();
    drop(database);
    let mut main = std::fs::read(&path).unwrap();
    for page in 16..41 {
        main[page * schema::PAGE_BYTES..][..8].fill(0xff);
    }
    std::fs::write(&path, main).unwrap();
    rig.store
        .load(BatchId(0), rig.found.last[0], u64::MAX)
        .unwrap();
    let before = rig.replies.blocking_recv();
    assert!(
        matches!(&before, Some(Reply::LoadFailed(Trouble::Damaged))),
        "the damage does not show: {before:?}"
    );
    rig.heal();
    assert!(rig.found.last[0] >= BatchId(1000), "{:?}", rig.found.last);
    let losses = rig
        .all()
        .iter()
        .filter(|batch| batch.records().any(|record| record.kind == Kind::Loss))
        .count();
    assert!(losses > 0);
    let beyond = rig
        .all()
        .iter()
        .any(|batch| batch.start == BATCHES * STEP + 50);
    assert!(beyond, "what counted as settled beyond the checkpoint");
    rig.store.close();
}
