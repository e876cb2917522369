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
pub mod rejects;

pub use closing::Accounts;
pub use limits::{Limits, Now};
pub use objects::Layout;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use headwater_record::Ledger;
use thiserror::Error;

use crate::aggregate::Windows;
use crate::books::{Books, Opening};
use crate::encode::{Compressor, EncodeError};
use crate::fetched::Fetched;
use crate::items::batch::Items;
use crate::metrics::Standing;
use crate::partition::batch::{Counts, Finished, Object, OpenBatch};
use crate::partition::closing::{Closing, Step};
use crate::partition::intent::{Committed, Intent};
use crate::partition::publishing::{Publishing, batch_clock};
use crate::partition::rejects::Rejects;
use crate::pipeline::Pipeline;
use crate::state::{Carried, SnapshotError, State};

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
    names_from: u64,
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
    /// No memory for a compressor.
    pub fn recover(
        (topic, id): (&str, i32),
        limits: Limits,
        pipeline: Arc<Pipeline>,
        committed: Committed,
        carried: Carried,
        replay: Option<Replay>,
    ) -> Result<Self, PartitionError> {
        let Carried {
            clock_ms,
            rows_ms,
            ledger,
            windows,
            books,
        } = carried;
        let publishing = Publishing::of(&books);
        let complete_ms = books.complete_ms().filter(|_| publishing.is_none());
        let accounts = Accounts::of(&ledger, &windows, &books);
        let mut recovered = Self {
            topic: topic.to_owned(),
            id,
            limits,
            pipeline,
            replay,
            compressor: Compressor::new()?,
            next: committed.offset,
            start: committed.offset,
            names_from: committed.names_from,
            committed,
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
            finished_counts: Vec::new(),
            finished_rejects: Rejects::default(),
            durable_ms: None,
            ledger,
            windows,
        };
        recovered.make_quiet_again()?;
        Ok(recovered)
    }

    /// Takes records from `fetched`, from entry `from` on, and returns how many it took: fewer than
    /// there are where a batch is full while another still closes. Records below what it has are
    /// passed over.
    ///
    /// # Errors
    /// See [`PartitionError`].
    pub fn take(
        &mut self,
        fetched: &Fetched,
        from: usize,
        now: Now,
    ) -> Result<usize, PartitionError> {
        // What comes behind a deadline is not the old batch's any more.
        self.close_if_due(now)?;
        for (at, entry) in fetched.entries.iter().enumerate().skip(from) {
            if !self.has_room() {
                return Ok(at - from);
            }
            if entry.offset < self.next {
                continue;
            }
            if let Some(replay) = &self.replay
                && entry.offset >= replay.intent.end
            {
                return Err(PartitionError::RecordsGone {
                    start: self.start,
                    end: replay.intent.end,
                });
            }
            let open = self.open.get_or_insert_with(|| {
                let (clock_ms, pipeline) = match &self.replay {
                    Some(replay) => (replay.intent.clock_ms, &replay.pipeline),
                    None => {
                        let asked = self.pipeline.spec().accounts;
                        let clock_ms = batch_clock(asked, now.wall_ms, self.clock_ms);
                        (clock_ms, &self.pipeline)
                    }
                };
                self.clock_ms = clock_ms;
                self.windows.align(pipeline.aggregates());
                self.ledger.bound(pipeline.ledger_bytes_max());
                let asked = pipeline.spec().accounts;
                let turned = self.books.open(Opening {
                    who: (&self.topic, self.id),
                    asked,
                    clock_ms,
                    at: self.start,
                    ledger: &self.ledger,
                });
                Open {
                    batch: OpenBatch::new(clock_ms, Arc::clone(pipeline)),
                    taken_mono_ms: now.mono_ms,
                    due_mono_ms: self.limits.due(now, asked, turned),
                }
            });
            open.taken_mono_ms = now.mono_ms;
            self.pages_held = false;
            let who = (self.topic.as_str(), self.id);
            open.batch.take(
                who,
                entry,
                fetched.value(entry),
                (&mut self.ledger, &mut self.windows, self.books.day()),
                &mut self.compressor,
            )?;
            self.next = entry.offset + 1;
            self.close_if_due(now)?;
        }
        Ok(fetched.entries.len().saturating_sub(from))
    }

    /// Goes on from `low`, right behind [`Self::recover`]: what lies below is gone from the topic. A begun batch
    /// without a record is made again before that.
    pub fn pass_over(&mut self, low: u64) {
        let stands = match &mut self.closing {
            Some(closing) => &mut closing.done,
            None => &mut self.committed,
        };
        (stands.offset, stands.names_from) = (low, low);
        (self.next, self.start, self.names_from) = (low, low, low);
    }

    /// Turns no page of the books before a record came: where the partition starts is not known, and a batch
    /// without a record would commit that it starts here.
    pub fn hold_pages(&mut self) {
        self.pages_held = true;
    }

    /// Whether it has windows that wait for more.
    pub fn has_open_windows(&self) -> bool {
        self.quiet_from_ms.is_some()
    }

    /// Closes windows of groups that are quiet where no record comes, too, or from now on does not: as long as the
    /// partition's records wait somewhere, nobody knows who is quiet.
    pub fn close_when_quiet(&mut self, is_all_taken: bool) {
        self.closes_quiet = is_all_taken;
    }

    /// Makes the next batches by this pipeline, which is stored already. The open batch and one that is
    /// made again keep theirs.
    pub fn use_pipeline(&mut self, pipeline: &Arc<Pipeline>) {
        if !Arc::ptr_eq(&self.pipeline, pipeline) {
            self.pipeline = Arc::clone(pipeline);
        }
    }

    /// The batch that closes, where one does.
    pub fn closing(&self) -> Option<&Closing> {
        self.closing.as_ref()
    }

    /// Whether it would take a record now.
    pub fn has_room(&self) -> bool {
        !self.stopping && !self.has_begun_quiet() && (!self.is_closing() || !self.is_full())
    }

    /// Whether a batch closes, what it brought to be said included.
    fn is_closing(&self) -> bool {
        self.closing.is_some() || self.publishing.is_some()
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

    /// When the open batch is due by the clock, on the monotonic one: by its age, by the wall clock's
    /// next mark, or because no record comes any more. None while another closes: it has to wait for that
    /// one, however long the output is down, and whoever waits for a deadline must not be woken in vain.
    pub fn next_deadline(&self) -> Option<u64> {
        let may_close = self.replay.is_none() && !self.is_closing();
        let open = self.open.as_ref().filter(|_| may_close)?;
        let idle = self.limits.idle_ms;
        let idle = idle.map_or(u64::MAX, |idle| open.taken_mono_ms.saturating_add(idle));
        Some(open.due_mono_ms.min(idle))
    }

    /// Whether it was stopped, and all that it took is committed.
    pub fn is_finished(&self) -> bool {
        self.stopping && self.open.is_none() && !self.is_closing()
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

    /// Bytes of memory that its batches hold, about.
    pub fn held(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |open| open.batch.held());
        let said = self.publishing.iter().flat_map(|said| said.objects.iter());
        let said: usize = said.map(|object| object.bytes.len()).sum();
        open + said + self.closing.as_ref().map_or(0, Closing::held)
    }

    /// Bytes of memory that its state takes, about: ledger and windows as of the last record, accounts as of
    /// the last batch.
    pub fn state_held(&self) -> usize {
        self.ledger.held() + self.windows.held() + self.accounts.book_bytes
    }

    /// Offset behind the last record that is committed as stored.
    pub fn committed_offset(&self) -> u64 {
        self.committed.offset
    }

    /// How far it is, for whoever watches.
    pub fn standing(&self) -> Standing {
        let closing = self.closing.as_ref().and_then(|closing| closing.times_ms);
        let open = self.open.as_ref().and_then(|open| open.batch.times_ms());
        Standing {
            durable: self.committed.offset,
            taken: self.next,
            oldest_ms: closing.or(open).map(|times| times.0),
            durable_ms: self.durable_ms,
            gaps: self.accounts.gaps as u64,
            streams: self.accounts.streams as u64,
            ledger_bytes: self.accounts.ledger_bytes as u64,
            windows: self.accounts.windows as u64,
            window_bytes: self.windows.held() as u64,
            complete_ms: self.complete_ms,
            accounts: self.books.devices() as u64,
        }
    }

    /// Counts of the batches that were completed since this was last asked.
    pub fn take_counts(&mut self) -> Vec<Counts> {
        std::mem::take(&mut self.finished_counts)
    }

    /// Dead letters of the batches that were completed since this was last asked.
    pub fn take_rejects(&mut self) -> Rejects {
        std::mem::take(&mut self.finished_rejects)
    }

    /// The ledger as of the last record that was taken in.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn is_full(&self) -> bool {
        self.open.as_ref().is_some_and(|open| match &self.replay {
            Some(replay) => self.next >= replay.intent.end,
            None => {
                open.batch.held() >= self.limits.bytes
                    || open.batch.counts.records >= self.limits.records
                    || open.batch.objects() >= self.limits.objects
                    || self.windows.are_full()
                    || self.windows.are_left()
            }
        })
    }

    fn close_if_due(&mut self, now: Now) -> Result<(), PartitionError> {
        self.make_quiet_again()?;
        if self.is_closing() || self.open.is_none() {
            return Ok(());
        }
        let due = self
            .next_deadline()
            .is_some_and(|deadline| deadline <= now.mono_ms);
        if self.is_full() || due || self.flushing || self.stopping {
            self.close()?;
        }
        Ok(())
    }

    /// Where nothing is under way and a page of the books is over, or they were never begun, or a group with open
    /// windows is quiet: closes a batch without a record, so that a partition in which nothing happens says so, too.
    fn turn_page(&mut self, now: Now) -> Result<(), PartitionError> {
        let is_idle = self.open.is_none() && !self.is_closing();
        let asked = self.pipeline.spec().accounts;
        let clock_ms = batch_clock(asked, now.wall_ms, self.clock_ms);
        let may = is_idle && self.replay.is_none() && !self.stopping && !self.pages_held;
        // A clock that was set back, or that did not go on, would give a name twice.
        let is_quiet = self.closes_quiet
            && clock_ms > self.clock_ms
            && self.quiet_from_ms.is_some_and(|from| from <= clock_ms);
        if !may || !(is_quiet || self.books.would_turn(asked, clock_ms)) {
            return Ok(());
        }
        let pipeline = Arc::clone(&self.pipeline);
        let batch = match is_quiet {
            true => OpenBatch::quiet(clock_ms, pipeline),
            false => OpenBatch::new(clock_ms, pipeline),
        };
        self.close_without_record(batch)
    }

    /// Whether the batch that was begun has no record, and is not made again yet.
    fn has_begun_quiet(&self) -> bool {
        let replay = self.replay.as_ref();
        replay.is_some_and(|replay| replay.intent.end == self.start)
    }

    /// Makes a begun batch without a record again: nothing has to be read for it.
    fn make_quiet_again(&mut self) -> Result<(), PartitionError> {
        let Some(replay) = self.replay.as_ref().filter(|_| self.has_begun_quiet()) else {
            return Ok(());
        };
        if self.is_closing() {
            return Ok(());
        }
        let batch = OpenBatch::quiet(replay.intent.clock_ms, Arc::clone(&replay.pipeline));
        self.close_without_record(batch)
    }

    fn close_without_record(&mut self, batch: OpenBatch) -> Result<(), PartitionError> {
        self.clock_ms = batch.clock_ms;
        self.windows.align(batch.pipeline.aggregates());
        self.books.open(Opening {
            who: (&self.topic, self.id),
            asked: batch.pipeline.spec().accounts,
            clock_ms: batch.clock_ms,
            at: self.start,
            ledger: &self.ledger,
        });
        self.open = Some(Open {
            batch,
            taken_mono_ms: 0,
            due_mono_ms: 0,
        });
        self.close()
    }

    /// Closes the open batch at what was read last. The ledger at this point is the state behind it.
    fn close(&mut self) -> Result<(), PartitionError> {
        let Some(Open { mut batch, .. }) = self.open.take() else {
            return Ok(());
        };
        self.flushing = false;
        let (end, clock_ms) = (self.next, batch.clock_ms);
        let pipeline = Arc::clone(&batch.pipeline);
        let times_ms = batch.times_ms();
        let windows = self.close_windows(&mut batch, end)?;
        self.quiet_from_ms = self.windows.quiet_from();
        let counts = batch.counts;
        self.books.close(&counts, times_ms);
        let rejects = std::mem::take(&mut batch.rejects);
        let retention = pipeline.spec().ledger_retention.as_millis();
        self.ledger.retire(clock_ms.saturating_sub(retention));
        if batch.objects() > 0 {
            self.rows_ms = clock_ms.max(self.rows_ms.saturating_add(1));
        }
        let state = State {
            topic: &self.topic,
            partition: self.id,
            end,
            clock_ms,
            rows_ms: self.rows_ms,
            ledger: &self.ledger,
            windows: &self.windows,
            books: &self.books,
        };
        let snapshot = state.encode()?;
        let who = (self.topic.as_str(), self.id);
        let Finished {
            objects,
            items,
            names_from,
        } = batch.finish(who, self.names_from, end, &mut self.compressor)?;
        let done = Committed {
            offset: end,
            names_from,
            snapshot: Some(snapshot.0.clone()),
            intent: None,
        };
        let step = match (objects.is_empty(), self.replay.take()) {
            // Nothing will be seen of this batch: there is no boundary to protect.
            (true, _) => Step::Snapshot,
            (false, Some(_)) => Step::Upload,
            (false, None) => Step::Intent,
        };
        let intent = Intent {
            end,
            clock_ms,
            pipeline: pipeline.hash().to_owned(),
            windows,
        };
        let begun = Committed {
            intent: Some(intent),
            ..self.committed.clone()
        };
        (self.start, self.names_from) = (end, done.names_from);
        let closing = Closing {
            step,
            begun,
            objects: Arc::new(objects),
            items: Arc::new(items),
            snapshot,
            done,
            counts,
            rejects,
            times_ms,
            accounts: Accounts::of(&self.ledger, &self.windows, &self.books),
            publishing: Publishing::of(&self.books),
        };
        self.actions.push_back(closing.action());
        self.closing = Some(closing);
        Ok(())
    }

    fn advance(&mut self) {
        let Some(mut closing) = self.closing.take() else {
            if let Some(said) = self.publishing.take() {
                self.complete_ms = said.complete_ms;
            }
            return;
        };
        match closing.next_step() {
            Some(step) => closing.step = step,
            None => {
                let before = std::mem::replace(&mut self.committed, closing.done);
                let old = before
                    .snapshot
                    .filter(|name| self.committed.snapshot.as_ref() != Some(name));
                self.actions.extend(old.map(Action::RemoveSnapshot));
                self.publishing = closing.publishing;
                self.actions
                    .extend(self.publishing.as_ref().map(Publishing::action));
                self.finished_counts.push(closing.counts);
                self.finished_rejects.merge(closing.rejects);
                self.accounts = closing.accounts;
                self.durable_ms = closing.times_ms.map(|times| times.1).or(self.durable_ms);
                return;
            }
        }
        self.actions.push_back(closing.action());
        self.closing = Some(closing);
    }
}

#[cfg(test)]
mod tests;
