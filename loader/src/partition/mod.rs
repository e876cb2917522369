//! One partition's life: records in, objects and commits out, each batch behind a boundary that was
//! made durable first. Pure: the edge performs the actions and tells what came of them.
//!
//! ```text
//!                 take(records)                     boundary at E
//!   open batch [S, ─────────────────────────► …) ───────────────► closing [S, E)
//!   (one fills while one closes)                                   │ 1 Commit(intent at S)
//!                                                                  │ 2 Upload(objects)
//!   recover(committed, state, intent?) ─ the same batch again ───► │ 3 WriteItems
//!                                        from step 2               │ 4 StoreSnapshot(state at E)
//!                                                                  │ 5 Commit(done at E)
//!                                                                  │   RemoveSnapshot(of S)
//!                                                                  ▼ 6 Publish(what the state at E says is due)
//! ```
//!
//! Why nothing is lost or repeated: a boundary is in the group before an object of it exists, and
//! the group refuses whoever no longer owns the partition. So at any moment at most one batch of a
//! partition can have objects without its end being committed, everyone who takes over reads which
//! one, and makes it again from the same state, records, pipeline and clock: the same names with
//! the same content, whoever else is still writing them. Where a batch may end is therefore free:
//! bytes, count, age, memory pressure, a stop.
//!
//! With `[accounts]` a state may hold markers and accounts that are due ([`crate::books`]): they are written
//! behind its commit, before the next boundary, and again by whoever starts from that state. A partition
//! without records closes a batch without any where the hour turns: then all it does is 4 to 6.
//!
//! So it does, with all six steps, where no record comes and a group with open windows was quiet for its time: their
//! rows are named for the batch clock. Such a clock is always later than that of the batch before, so no two of them
//! have one name.
//!
//! Any failure that leaves a doubt (a commit that was refused or timed out) drops this value whole:
//! what was not committed is read again.

pub mod batch;
mod closing;
pub mod intent;
mod limits;
mod objects;
mod publishing;
mod quiet;
pub mod rejects;
mod taking;
mod watching;

pub use closing::Accounts;
pub use limits::{Bounds, Limits, Now};
pub use objects::Layout;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use headwater_record::Ledger;
use thiserror::Error;

use crate::aggregate::Windows;
use crate::books::Books;
use crate::encode::{Compressor, EncodeError};
use crate::items::batch::Items;
use crate::partition::batch::{Counts, Object, OpenBatch};
use crate::partition::closing::Closing;
use crate::partition::intent::{Committed, Intent};
use crate::partition::publishing::Publishing;
use crate::partition::rejects::Rejects;
use crate::pipeline::Pipeline;
use crate::state::{Carried, SnapshotError};

/// What the edge is asked to do. At most one of all but the last is under way at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Commit this offset with its metadata.
    Commit(Committed),
    /// Store these objects, each under its name, unless it is there.
    Upload(Arc<Vec<Object>>),
    /// Put these items into their tables, unless the same or later ones are there.
    WriteItems(Arc<Items>),
    /// Store a snapshot under this file name.
    StoreSnapshot {
        /// File name in the partition's state folder.
        name: String,
        /// Its bytes.
        bytes: Bytes,
    },
    /// Store these markers and accounts, each under its name, unless something is there.
    Publish(Arc<Vec<Object>>),
    /// Remove a snapshot that nothing names any more. Nobody waits for it.
    RemoveSnapshot(String),
}

impl Action {
    /// Whether [`Event::ActionDone`] is to follow it. What nobody waits for is no step: told to be done, it would
    /// end the one that is under way beside it.
    pub fn is_awaited(&self) -> bool {
        !matches!(self, Self::RemoveSnapshot(_))
    }
}

/// What came of an action, or came to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The action that was under way is done.
    ActionDone,
    /// A deadline may have passed.
    Tick,
    /// Memory is short: close what is open, unless another closes.
    Pressure,
    /// Somebody wants to see it: close what is open, as soon as may be.
    Flush,
    /// The next record is the last one: the batch that has it closes all windows.
    Last,
    /// Close what is open, take no more.
    Stop,
}

/// The partition cannot go on. The edge drops it and starts it again from what is committed.
#[derive(Debug, Error)]
pub enum PartitionError {
    /// Rows could not be compressed.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The state could not be written.
    #[error("cannot write the state: {0}")]
    State(#[from] SnapshotError),
    /// A begun batch cannot be made again.
    #[error(
        "the batch [{start}, {end}) was begun, and its last record is gone from the topic: retention \
         is shorter than the batch stayed open. Nothing is written; reset the group's offset to go on"
    )]
    RecordsGone {
        /// Where the batch starts.
        start: u64,
        /// Where it should end.
        end: u64,
    },
}

#[derive(Debug)]
struct Open {
    batch: OpenBatch,
    /// When its last record came.
    taken_mono_ms: u64,
    /// When it is too old, or the wall clock's next mark comes.
    due_mono_ms: u64,
}

/// A begun batch that has to be made again, and with what.
#[derive(Debug, Clone)]
pub struct Replay {
    /// Its boundary and clock.
    pub intent: Intent,
    /// The pipeline that the intent names.
    pub pipeline: Arc<Pipeline>,
}

/// One partition. See the module's head.
#[derive(Debug)]
pub struct Partition {
    topic: String,
    id: i32,
    limits: Limits,
    pipeline: Arc<Pipeline>,
    committed: Committed,
    replay: Option<Replay>,
    ledger: Ledger,
    windows: Windows,
    books: Books,
    /// Clock of the last batch that was opened, or of the one before what is committed.
    clock_ms: u64,
    /// As [`Carried::rows_ms`].
    rows_ms: u64,
    compressor: Compressor,
    next: u64,
    /// Where the open batch starts: the end of the closing one, or what is committed.
    start: u64,
    /// Where the next name starts.
    names_from: u64,
    /// Where the first one started: as [`Named::from`](crate::state::Named::from).
    named_from: u64,
    /// Where to go on behind a begun batch without a record: what lies before is gone from the topic.
    passed: Option<u64>,
    open: Option<Open>,
    closing: Option<Closing>,
    /// Behind the batch that closed last.
    publishing: Option<Publishing>,
    /// Up to when hours are said to be complete, Unix milliseconds.
    complete_ms: Option<u64>,
    actions: VecDeque<Action>,
    is_last: bool,
    pages_held: bool,
    /// Whether windows close without a record, too.
    closes_quiet: bool,
    /// From when on a group with open windows is quiet, by the batch clock.
    quiet_from_ms: Option<u64>,
    /// What is open is to be closed, whatever is due.
    flushing: bool,
    stopping: bool,
    /// Batches that the guard against too many paths closed, since somebody asked.
    guarded: u64,
    finished_counts: Vec<Counts>,
    finished_rejects: Rejects,
    accounts: Accounts,
    /// Kafka's timestamp of the last record of the last completed batch.
    durable_ms: Option<u64>,
}

impl Partition {
    /// A partition that goes on from what is committed. `carried`: of the snapshot that `committed` names. `replay`: where it holds an intent, that intent and its pipeline.
    ///
    /// # Errors
    /// See [`PartitionError`].
    pub fn recover(
        (topic, id): (&str, i32),
        bounds: impl Into<Bounds>,
        pipeline: Arc<Pipeline>,
        committed: Committed,
        carried: Carried,
        replay: Option<Replay>,
    ) -> Result<Self, PartitionError> {
        let Bounds { limits, making } = bounds.into();
        let Carried {
            clock_ms,
            rows_ms,
            named,
            ledger,
            windows,
            books,
        } = carried;
        let named_from = named.map_or(committed.names_from, |named| named.from);
        let publishing = Publishing::of(&books);
        let complete_ms = books.complete_ms().filter(|_| publishing.is_none());
        let accounts = Accounts::of(&ledger, &windows, &books);
        let mut recovered = Self {
            topic: topic.to_owned(),
            id,
            limits,
            pipeline,
            replay,
            compressor: Compressor::by(making),
            next: committed.offset,
            start: committed.offset,
            names_from: committed.names_from,
            // Somebody may have set the group back to before it.
            named_from: named_from.min(committed.names_from),
            committed,
            passed: None,
            open: None,
            closing: None,
            actions: publishing.iter().map(Publishing::action).collect(),
            publishing,
            complete_ms,
            books,
            clock_ms,
            rows_ms,
            is_last: false,
            pages_held: false,
            closes_quiet: false,
            quiet_from_ms: windows.quiet_from(),
            flushing: false,
            stopping: false,
            accounts,
            guarded: 0,
            finished_counts: Vec::new(),
            finished_rejects: Rejects::default(),
            durable_ms: None,
            ledger,
            windows,
        };
        recovered.make_quiet_again()?;
        Ok(recovered)
    }

    /// Makes the next batches by this pipeline, which is stored already. The open batch and one that is
    /// made again keep theirs.
    pub fn use_pipeline(&mut self, pipeline: &Arc<Pipeline>) {
        if !Arc::ptr_eq(&self.pipeline, pipeline) {
            self.pipeline = Arc::clone(pipeline);
        }
    }

    /// Tells it what came to pass.
    ///
    /// # Errors
    /// See [`PartitionError`].
    pub fn apply(&mut self, event: Event, now: Now) -> Result<(), PartitionError> {
        match event {
            Event::ActionDone => self.advance(),
            Event::Tick => self.turn_page(now)?,
            Event::Pressure => {
                if self.replay.is_none() && !self.is_closing() && self.open.is_some() {
                    return self.close();
                }
            }
            // One that is made again ends where it was begun to end.
            Event::Flush => self.flushing = self.open.is_some() && self.replay.is_none(),
            Event::Last => self.is_last = true,
            Event::Stop => {
                self.stopping = true;
                if self.replay.is_some() && self.closing.is_none() {
                    // A part of a begun batch cannot be closed elsewhere: the successor makes it.
                    self.open = None;
                }
            }
        }
        self.close_if_due(now)
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether it was stopped, and all that it took is committed.
    pub fn is_finished(&self) -> bool {
        self.stopping && self.open.is_none() && !self.is_closing()
    }

    /// What a begun batch is made again by.
    pub fn begun_by(&self) -> Option<&Arc<Pipeline>> {
        self.replay.as_ref().map(|replay| &replay.pipeline)
    }

    /// Whether it makes a begun batch again.
    pub fn is_replaying(&self) -> bool {
        self.replay.is_some()
    }

    /// Whether the group may hold a batch as begun that is not finished.
    pub fn has_begun(&self) -> bool {
        let closing = self.closing.as_ref();
        self.committed.intent.is_some() || closing.is_some_and(Closing::is_begun)
    }
}

#[cfg(test)]
mod tests;
