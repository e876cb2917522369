//! The durability proof: the store's own transactions on a disk that keeps what was synced apart
//! from what was only written, cut off at every operation. A commit that returned is there, whole;
//! the one under way is there or not, whole; the database opens and is sound.
//!
//! And a disk that refuses: at any write or sync of a transaction, with ENOSPC, EIO or EROFS. Nothing
//! of it is there then, and the same works once the disk does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use headwater_record::{Generation, Kind, StreamId};
use rusqlite::Connection;

use super::transaction::{Tools, write};
use super::vacuum::Vacuum;
use super::*;
use crate::batch::{Batch, Entry};
use crate::checkpoint::{OpenGeneration, Origin};
use crate::delivery::backoff::Jitter;
use crate::spool::batch::Packer;
use crate::spool::evict::Evicting;
use crate::spool::schema::connect_for_test;
use crate::spool::test_disk::{Refusal, TestDisk};
use crate::spool::{Checkpoint, Evict, generations, rows};

const G: Generation = Generation(7);
/// Lives, and transactions of each.
const SEEDS: u64 = 12;
const TRANSACTIONS: u64 = 24;

/// What the database should hold: the span of each row, and how far the generation is settled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    rows: BTreeMap<BatchId, (u64, u64)>,
    settled: u64,
}

impl Model {
    fn read(connection: &Connection, identity: u64, keys: &Keys) -> Self {
        let mut model = Self::default();
        let last = rows::last(connection).unwrap()[0];
        let loaded = rows::load(connection, BatchId(0), last, u64::MAX, (keys, 0)).unwrap();
        let Reply::Loaded { rows, lost, .. } = loaded else {
            panic!("{loaded:?}");
        };
        assert_eq!(lost, 0, "a row is damaged");
        for (id, batch) in rows {
            model.rows.insert(id, (batch.start, batch.end()));
        }
        let known = generations::all(connection, identity).unwrap().open;
        model.settled = known.first().map_or(0, |known| known.settled);
        model
    }

    /// Rows that were not acknowledged lie side by side, up to what is settled.
    fn assert_tiles(&self) {
        let mut spans = self.rows.values();
        let Some(first) = spans.next() else {
            return;
        };
        let end = spans.fold(first.1, |end, span| {
            assert_eq!(span.0, end, "{self:?}");
            span.1
        });
        assert_eq!(end, self.settled, "{self:?}");
    }
}

/// The store's way to write, on a test's disk.
struct Writer {
    connection: Connection,
    identity: u64,
    packer: Packer,
    evicting: Evicting,
}

impl Writer {
    fn open(disk: &TestDisk) -> Self {
        Self::with_keys(disk, Keys::default())
    }

    fn with_keys(disk: &TestDisk, keys: Keys) -> Self {
        let (connection, identity) = connect_for_test(Path::new("/spool.db"), disk.name());
        disk.sync_folder();
        Self {
            connection,
            identity,
            packer: Packer::new(Arc::new(keys)).unwrap(),
            evicting: Evicting::default(),
        }
    }

    fn read(&self) -> Model {
        Model::read(&self.connection, self.identity, self.packer.keys())
    }

    fn write(&mut self, transaction: &Transaction) -> Result<Depth, Trouble> {
        let tools = Tools {
            packer: &mut self.packer,
            markers: &Markers::default(),
            evicting: &mut self.evicting,
            room: None,
        };
        let depth = write(&mut self.connection, tools, transaction, 0)
            .map_err(|failure| failure.trouble("write in a test"))?;
        if depth.rows == 0 {
            let seals = self.packer.keys().current().is_some();
            let mut vacuum = Vacuum::new(true, seals);
            while vacuum.is_due() {
                vacuum.step(&mut self.connection);
            }
        }
        Ok(depth)
    }

    fn register(&self) {
        let new = OpenGeneration {
            generation: G,
            stream: StreamId::parse("d/s//log").unwrap(),
            origin: Origin::Sensor,
            settled: 0,
            skip_to: None,
            cuts: Default::default(),
            marker: None,
            earlier: Vec::new(),
            goes_on: None,
        };
        generations::register(&self.connection, self.identity, &new).unwrap();
    }
}

fn batch(start: u64, jitter: &mut Jitter) -> Arc<Batch> {
    let bytes = [40, 3000, 9000][(jitter.draw() % 3) as usize];
    let values: Vec<u8> = (0..bytes / 8)
        .flat_map(|_| jitter.draw().to_le_bytes())
        .collect();
    Arc::new(Batch {
        stream: StreamId::parse("d/s//log").unwrap(),
        generation: G,
        start,
        entries: vec![Entry {
            end: start + 10,
            value_end: values.len() as u32,
            kind: Kind::Data,
        }],
        values,
        raw: false,
        permit: None,
    })
}

/// The next transaction, and what the database holds once it is committed.
fn next(model: &Model, last: &mut u64, jitter: &mut Jitter) -> (Transaction, Model) {
    let mut model = model.clone();
    let mut transaction = Transaction::default();
    if jitter.draw().is_multiple_of(3) {
        let all = jitter.draw().is_multiple_of(2);
        let some = if all {
            usize::MAX
        } else {
            (jitter.draw() % 5) as usize
        };
        transaction.deletes = model.rows.keys().take(some).copied().collect();
        for id in &transaction.deletes {
            model.rows.remove(id);
        }
    }
    for _ in 0..jitter.draw() % 4 {
        *last += 1;
        let batch = batch(model.settled, jitter);
        model
            .rows
            .insert(BatchId(*last), (batch.start, batch.end()));
        model.settled = batch.end();
        transaction.rows.push((BatchId(*last), batch));
    }
    transaction.checkpoints.push(Checkpoint {
        generation: G,
        settled: model.settled,
        closed: false,
    });
    (transaction, model)
}

#[test]
fn a_commit_that_returned_survives_a_power_cut_at_any_point() {
    let (cuts, under_way) = cut_at_each_operation("plain", SEEDS, None);
    // The cuts were where it matters.
    assert!(
        cuts > 3000 && under_way > 20,
        "{cuts} cuts, {under_way} of them late in a commit"
    );
}

#[test]
fn a_sealed_commit_survives_as_well_and_opens_with_its_key() {
    let (cuts, under_way) = cut_at_each_operation("sealed", SEEDS / 3, Some(1));
    assert!(
        cuts > 1000 && under_way > 6,
        "{cuts} cuts, {under_way} of them late in a commit"
    );
}

/// Some lives, each cut off after every operation; returns how many cuts there were, and how many of
/// them left the commit under way whole. `key`: batches are sealed with it.
fn cut_at_each_operation(name: &str, seeds: u64, key: Option<u8>) -> (u64, u64) {
    let (mut cuts, mut under_way) = (0, 0);
    for seed in 0..seeds {
        let disk = TestDisk::new(&format!("cut-{name}-{seed}"));
        let mut jitter = Jitter::new(seed);
        let mut writer = Writer::with_keys(&disk, Keys::of(key, &[]));
        let mut models = vec![Model::default()];
        let (mut last, made) = (0, disk.operations());
        writer.register();
        disk.promise();
        models.push(Model::default());
        for _ in 0..TRANSACTIONS {
            let (transaction, model) = next(&models[models.len() - 1], &mut last, &mut jitter);
            writer.write(&transaction).unwrap();
            disk.promise();
            models.push(model);
        }
        drop(writer);
        disk.promise();
        models.push(models[models.len() - 1].clone());
        for at in made..=disk.operations() {
            let (files, promises) = disk.cut(at, seed << 32 | at as u64);
            let after = TestDisk::over(&format!("cut-{name}-{seed}-{at}"), files);
            let writer = Writer::with_keys(&after, Keys::of(key, &[]));
            let found = writer.read();
            found.assert_tiles();
            let next = models.get(promises + 1);
            if found != models[promises] && Some(&found) != next {
                eprintln!("{}", disk.tail(at, 12));
            }
            assert!(
                found == models[promises] || Some(&found) == next,
                "seed {seed}, cut after {at} operations: {found:?} is neither {:?} nor {next:?}",
                models[promises]
            );
            under_way += u64::from(found != models[promises]);
            if at % 16 == 0 {
                let sound: String = writer
                    .connection
                    .query_row("PRAGMA integrity_check", [], |row| row.get(0))
                    .unwrap();
                assert_eq!(sound, "ok", "seed {seed}, cut after {at} operations");
            }
            cuts += 1;
        }
    }
    (cuts, under_way)
}

#[test]
fn a_disk_that_refuses_takes_nothing_of_a_transaction_and_comes_back() {
    let mut refusals = BTreeMap::new();
    for (nth, refusal) in [
        Refusal::Full,
        Refusal::Failing,
        Refusal::FailingSync,
        Refusal::ReadOnly,
    ]
    .into_iter()
    .enumerate()
    {
        let disk = TestDisk::new(&format!("refusal-{nth}"));
        let mut jitter = Jitter::new(nth as u64);
        let mut writer = Writer::open(&disk);
        writer.register();
        let (mut model, mut last) = (Model::default(), 0);
        for patience in 0..150 {
            let (transaction, after) = next(&model, &mut last, &mut jitter);
            disk.refuse(Some(refusal), patience % 12);
            let refused = disk.refused();
            let result = writer.write(&transaction);
            disk.refuse(None, 0);
            if let Err(trouble) = result {
                let expected = match refusal {
                    Refusal::Full => Trouble::Full,
                    Refusal::Failing | Refusal::FailingSync => Trouble::Io,
                    Refusal::ReadOnly => Trouble::ReadOnly,
                };
                assert_eq!(trouble, expected);
                *refusals.entry(format!("{refusal:?}")).or_insert(0) += 1;
                let found = writer.read();
                assert_eq!(found, model, "a part of it is there");
                writer.write(&transaction).unwrap();
            } else {
                // A write-back of the log may be refused without harm: it is done again.
                assert!(refused == disk.refused() || patience > 0);
            }
            model = after;
            let found = writer.read();
            assert_eq!(found, model);
        }
        drop(writer);
        let writer = Writer::open(&disk);
        assert_eq!(writer.read(), model);
    }
    assert!(
        refusals.len() == 4 && refusals.values().all(|n| *n > 10),
        "{refusals:?}"
    );
}

/// A start reads as many pages of a large backlog as of a small one, but for the height of the tree.
#[test]
fn a_start_does_not_read_the_backlog() {
    let reads = |rows: u64| {
        let disk = TestDisk::new(&format!("backlog-{rows}"));
        let mut jitter = Jitter::new(rows);
        let mut writer = Writer::open(&disk);
        writer.register();
        for from in (1..=rows).step_by(100) {
            let rows = (from..from + 100).map(|id| (BatchId(id), batch(id * 10, &mut jitter)));
            let rows = rows.collect();
            writer
                .write(&Transaction {
                    rows,
                    ..Transaction::default()
                })
                .unwrap();
        }
        drop(writer);
        let before = disk.reads();
        let writer = Writer::open(&disk);
        let last = rows::last(&writer.connection).unwrap()[0];
        assert_eq!(last, BatchId(rows));
        assert_eq!(rows::depth(&writer.connection).unwrap().rows, rows);
        let first = rows::load(
            &writer.connection,
            BatchId(0),
            last,
            1,
            (&Keys::default(), 0),
        )
        .unwrap();
        assert!(matches!(first, Reply::Loaded { rows, .. } if rows.len() == 1));
        disk.reads() - before
    };
    let (small, large) = (reads(100), reads(10_000));
    assert!(
        large <= small + 20,
        "{small} reads, and {large} of a hundred times as much"
    );
}

#[test]
fn a_full_disk_still_lets_the_oldest_give_way() {
    let disk = TestDisk::new("give-way");
    let mut jitter = Jitter::new(1);
    let mut writer = Writer::open(&disk);
    writer.register();
    let row = |id: u64, jitter: &mut Jitter| (BatchId(id), batch(id * 10, jitter));
    let rows: Vec<_> = (1..=40).map(|id| row(id, &mut jitter)).collect();
    let depth = writer
        .write(&Transaction {
            rows,
            ..Transaction::default()
        })
        .unwrap();
    let pages = |writer: &Writer| -> i64 {
        writer
            .connection
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .unwrap()
    };
    let before = pages(&writer);
    for id in 41..=80 {
        let evict = Evict {
            bytes_max: depth.bytes,
            lanes: vec![(Lane::Normal, BatchId(0))],
            kept: std::collections::BTreeSet::new(),
        };
        let transaction = Transaction {
            rows: vec![row(id, &mut jitter)],
            evict: Some(evict),
            ..Transaction::default()
        };
        let now = writer.write(&transaction).unwrap();
        assert!(now.bytes <= depth.bytes, "{} of {}", now.bytes, depth.bytes);
    }
    assert!(
        pages(&writer) <= before + 8,
        "the file grew: {} pages, then {}",
        before,
        pages(&writer)
    );
}
