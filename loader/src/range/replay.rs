//! Writes one partition's stretch to an output: the partition of `run`, with boundaries that are a
//! function of the records, so that it may be killed anywhere and run again.
//!
//! | what | how it is decided |
//! |---|---|
//! | where a batch ends | at so many bytes of values, records or objects ([`BatchSize`]), or with the stretch |
//! | the batch clock | Kafka's timestamp of the batch's first record, never below the batch before |
//! | the ledger | starts empty: a repeat of what lies before the stretch is stored |
//! | windows | start empty; with the last record all are closed |
//!
//! [`BatchSize`]: super::manifest::BatchSize

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::config::Plan;
use crate::crash;
use crate::fetched::Fetched;
use crate::name::state_folder;
use crate::partition::batch::{Counts, Object};
use crate::partition::intent::Committed;
use crate::partition::{Action, Bounds, Event, Limits, Partition};
use crate::range::drive::Drive;
use crate::range::manifest::{BatchSize, Manifest, done, set_done};
use crate::range::reader::Reader;
use crate::recover::{load_state, tidy};
use crate::store::{Store, StoreError, plain_content};
use crate::upload::{put, put_all};

/// Pieces of records that wait between reading and writing.
const PIECES: usize = 4;

/// What came of a partition's stretch, this time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Written {
    /// First offset.
    pub from: u64,
    /// First offset behind.
    pub to: u64,
    /// Where this run began: above `from` where one before was cut off.
    pub began: u64,
    /// Records read.
    pub records: u64,
    /// Rows, dead letters among them.
    pub rows: u64,
    /// Rows that could not be made.
    pub dead_letters: u64,
    /// Filtered by configuration.
    pub filtered: u64,
    /// Only in windows.
    pub aggregated: u64,
    /// Skipped: they had come within the stretch.
    pub duplicates: u64,
    /// Objects, and how many of them were there already.
    pub objects: u64,
    /// Those that were there already.
    pub already_there: u64,
}

/// One partition's stretch being written.
struct Writer<'a> {
    plan: &'a Plan,
    store: &'a Arc<Store>,
    partition: i32,
    batch: BatchSize,
    drive: Drive,
    committed: Committed,
    /// Values' bytes and records of the open batch.
    open: (u64, u64),
    written: Written,
}

/// Writes what is not written yet of a partition's stretch. `each` is told of each record.
///
/// # Errors
/// Records that are gone, an output that cannot be written or holds something else.
pub async fn replay(
    plan: &Plan,
    (store, manifest): (&Arc<Store>, &Manifest),
    reader: &Arc<Reader>,
    partition: i32,
    mut each: impl FnMut(),
) -> anyhow::Result<Written> {
    let (from, to) = *manifest
        .partitions
        .get(&partition)
        .with_context(|| format!("partition {partition} is not of this stretch"))?;
    let topic = plan.kafka.topic.as_str();
    let before = done(store, topic, partition).await?;
    let committed = before.unwrap_or(Committed::at(from));
    let written = Written {
        from,
        to,
        began: committed.offset,
        ..Written::default()
    };
    let folder = state_folder(topic, partition);
    tidy(store, &folder, &committed).await;
    if committed.offset >= to && written.began > from {
        return Ok(written);
    }
    let snapshot = committed.snapshot.as_deref();
    let state = load_state(store, &folder, snapshot).await?;
    let clock_ms = state.clock_ms;
    let limits = Limits {
        objects: manifest.batch.objects,
        ..Limits::NONE
    };
    let bounds = Bounds {
        limits,
        ..plan.bounds()
    };
    let pipeline = Arc::clone(&plan.pipeline);
    let id = (topic, partition);
    let machine = Partition::recover(id, bounds, pipeline, committed.clone(), state, None)?;
    let mut writer = Writer {
        plan,
        store,
        partition,
        batch: manifest.batch,
        drive: Drive::new(machine, clock_ms, manifest.begun_ms),
        committed,
        open: (0, 0),
        written,
    };
    writer.feed(reader, to, &mut each).await?;
    writer.end(to).await?;
    Ok(writer.written)
}

impl Writer<'_> {
    /// Reads all that is left and takes it.
    async fn feed(
        &mut self,
        reader: &Arc<Reader>,
        to: u64,
        each: &mut impl FnMut(),
    ) -> anyhow::Result<()> {
        let (pieces, mut records) = mpsc::channel(PIECES);
        let (reader, start) = (Arc::clone(reader), self.committed.offset);
        let partition = self.partition;
        let reading = tokio::task::spawn_blocking(move || {
            reader.read(partition, (start, to), &mut |piece| {
                Ok(match pieces.blocking_send(piece) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                })
            })
        });
        // The last piece waits until it is known to be the last: its last record closes the windows.
        let mut piece: Option<Fetched> = None;
        while let Some(next) = records.recv().await {
            if let Some(before) = piece.replace(next) {
                self.take(&before, 0..before.entries.len(), each).await?;
            }
        }
        reading.await.context("reading ended early")??;
        if let Some(last) = piece {
            let but_one = last.entries.len().saturating_sub(1);
            self.take(&last, 0..but_one, each).await?;
            self.drive.apply(Event::Last)?;
            self.take(&last, but_one..last.entries.len(), each).await?;
        }
        Ok(())
    }

    async fn take(
        &mut self,
        piece: &Fetched,
        range: Range<usize>,
        each: &mut impl FnMut(),
    ) -> anyhow::Result<()> {
        for at in range {
            self.take_one(piece, at).await?;
            each();
        }
        Ok(())
    }

    async fn take_one(&mut self, piece: &Fetched, at: usize) -> anyhow::Result<()> {
        let entry = &piece.entries[at];
        if self.open.1 == 0 {
            self.drive.reach(entry)?;
        }
        self.open.0 += piece.value(entry).map_or(0, <[u8]>::len) as u64;
        self.open.1 += 1;
        ensure!(
            self.drive.take(piece, entry)?,
            "a batch was not closed to its end"
        );
        self.perform().await?;
        if self.open.0 >= self.batch.bytes || self.open.1 >= self.batch.records {
            self.close(Event::Pressure).await?;
        }
        let held = self.drive.machine.held() as u64;
        ensure!(
            held <= self.plan.memory.batches,
            "a batch takes {} of memory, and limits.memory leaves {}: give a smaller --batch-bytes, and another \
             place, since names are by batches",
            headwater_msk::Bytes(held),
            headwater_msk::Bytes(self.plan.memory.batches)
        );
        Ok(())
    }

    async fn close(&mut self, how: Event) -> anyhow::Result<()> {
        self.drive.apply(how)?;
        self.perform().await
    }

    /// Closes what is open, and says that the stretch is done up to its end: behind its last record
    /// there may be markers of transactions.
    async fn end(&mut self, to: u64) -> anyhow::Result<()> {
        self.close(Event::Stop).await?;
        let before = self.committed.offset;
        self.committed.offset = to;
        self.set_done(before).await
    }

    async fn set_done(&self, before: u64) -> anyhow::Result<()> {
        let id = (self.plan.kafka.topic.as_str(), self.partition);
        set_done(self.store, id, &self.committed, before).await?;
        Ok(())
    }

    /// Does what the partition asks for.
    async fn perform(&mut self) -> anyhow::Result<()> {
        let folder = state_folder(&self.plan.kafka.topic, self.partition);
        while let Some(action) = self.drive.machine.next_action() {
            match action {
                // Where the batch ends, the records say to whoever comes.
                Action::Commit(committed) if committed.intent.is_some() => {}
                Action::Upload(objects) => {
                    self.written.already_there += put_all(self.store, &objects).await?;
                    self.written.objects += objects.len() as u64;
                    crash::point("batch-stored");
                }
                // Tables are the live output's alone.
                Action::WriteItems(_) => {}
                // A stretch keeps no accounts.
                Action::Publish(_) => {}
                Action::StoreSnapshot { name, bytes } => {
                    let object = Object {
                        key: format!("{folder}{name}"),
                        content: plain_content(&bytes),
                        bytes,
                    };
                    put(Arc::clone(self.store), object).await?;
                    crash::point("snapshot-stored");
                }
                Action::Commit(committed) => {
                    let before = std::mem::replace(&mut self.committed, committed).offset;
                    self.set_done(before).await?;
                    crash::point("done-committed");
                    self.open = (0, 0);
                }
                Action::RemoveSnapshot(name) => {
                    remove(self.store, &format!("{folder}{name}")).await;
                    continue;
                }
            }
            self.drive.apply(Event::ActionDone)?;
        }
        for counts in self.drive.machine.take_counts() {
            self.count(&counts);
        }
        Ok(())
    }

    fn count(&mut self, counts: &Counts) {
        let written = &mut self.written;
        written.records += counts.records;
        written.rows += counts.rows;
        written.dead_letters += counts.dead_letters;
        written.filtered += counts.filtered;
        written.aggregated += counts.aggregated;
        written.duplicates += counts.duplicates;
    }
}

async fn remove(store: &Store, key: &str) {
    let removed: Result<(), StoreError> = store.remove(key).await;
    if let Err(error) = removed {
        tracing::debug!(%error, "an old snapshot stays; it does no harm");
    }
}
