//! A batch that closes: what it stores, and which step of that comes next.

use std::sync::Arc;

use bytes::Bytes;
use headwater_record::Ledger;

use crate::aggregate::Windows;
use crate::books::Books;
use crate::encode::EncodeError;
use crate::items::batch::Items;
use crate::partition::batch::{Counts, Finished, Object, OpenBatch};
use crate::partition::intent::{Committed, Intent};
use crate::partition::publishing::Publishing;
use crate::partition::rejects::Rejects;
use crate::partition::{Action, Open, Partition, PartitionError};
use crate::state::{Named, State};

/// The steps of a batch that closes, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Intent,
    Upload,
    Items,
    Snapshot,
    Done,
}

/// A batch that closes.
#[derive(Debug)]
pub struct Closing {
    pub(super) step: Step,
    pub(super) begun: Committed,
    /// Its objects.
    pub objects: Arc<Vec<Object>>,
    /// Its items.
    pub items: Arc<Items>,
    /// The state behind it, with its file name.
    pub snapshot: (String, Bytes),
    /// What is committed once all that is stored.
    pub done: Committed,
    pub(super) counts: Counts,
    pub(super) rejects: Rejects,
    /// None where it has no record.
    pub(super) times_ms: Option<(u64, u64)>,
    pub(super) accounts: Accounts,
    /// What is said once it is done.
    pub(super) publishing: Option<Publishing>,
}

/// How ledger and windows stood behind a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Ranges that nothing explains.
    pub gaps: usize,
    /// Streams.
    pub streams: usize,
    /// Memory that the ledger takes, about, bytes.
    pub ledger_bytes: usize,
    /// Open windows.
    pub windows: usize,
    /// Memory that the books take, about, bytes.
    pub book_bytes: usize,
}

impl Accounts {
    pub(super) fn of(ledger: &Ledger, windows: &Windows, books: &Books) -> Self {
        Self {
            gaps: ledger.unexplained_gaps(),
            streams: ledger.streams().count(),
            ledger_bytes: ledger.held(),
            windows: windows.len(),
            book_bytes: books.held(),
        }
    }
}

impl Partition {
    /// The batch that closes, where one does.
    pub fn closing(&self) -> Option<&Closing> {
        self.closing.as_ref()
    }

    /// Whether a batch closes, what it brought to be said included.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some() || self.publishing.is_some()
    }

    /// Closes the open batch at what was read last. The ledger at this point is the state behind it.
    pub(super) fn close(&mut self) -> Result<(), PartitionError> {
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
        let keep_ms = pipeline.spec().ledger_retention.as_millis();
        self.ledger.retire(clock_ms, keep_ms);
        self.note_rows(&batch);
        let who = (self.topic.as_str(), self.id);
        let Finished {
            objects,
            items,
            names_from,
        } = batch.finish(who, self.names_from, end, &self.compressor)?;
        let snapshot = self.state(end, clock_ms, names_from).encode()?;
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

    /// What it is behind a batch. `to`: where its names end.
    fn state(&self, end: u64, clock_ms: u64, to: u64) -> State<'_> {
        let from = self.named_from;
        State {
            topic: &self.topic,
            partition: self.id,
            end,
            clock_ms,
            rows_ms: self.rows_ms,
            named: Some(Named { from, to }),
            ledger: &self.ledger,
            windows: &self.windows,
            books: &self.books,
        }
    }

    pub(super) fn advance(&mut self) {
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

    /// Moves the clock of rows on, where a batch has some.
    fn note_rows(&mut self, batch: &OpenBatch) {
        if batch.objects() > 0 {
            self.rows_ms = batch.clock_ms.max(self.rows_ms.saturating_add(1));
        }
    }

    /// Closes the windows that end with a batch that ends at `end`. Returns how many, where they were so many
    /// that the oldest went first; there may have been room for all.
    pub(super) fn close_windows(
        &mut self,
        batch: &mut OpenBatch,
        end: u64,
    ) -> Result<Option<u64>, EncodeError> {
        // One that only turns a page may have the clock of the one before it, which a row could be named by.
        if !batch.closes_windows() {
            return Ok(None);
        }
        let (few, windows_max) = match (&self.replay, self.is_last) {
            // What was decided when it was begun, whatever room there is now.
            (Some(replay), _) => match replay.intent.windows {
                Some(windows) => (0, windows),
                None => (usize::MAX, u64::MAX),
            },
            (None, true) => (usize::MAX, u64::MAX),
            // As many have room in any case: none makes more than one object.
            (None, false) => (self.limits.objects, u64::MAX),
        };
        // Beside those of its records: a batch that is full of them would never close one.
        let objects_max = match windows_max == u64::MAX {
            true => batch.objects().saturating_add(few),
            false => usize::MAX,
        };
        let pipeline = Arc::clone(&batch.pipeline);
        let aggregates = pipeline.aggregates();
        let clock_ms = (!self.is_last).then_some(batch.clock_ms);
        let (who, at) = ((self.topic.as_str(), self.id), end.saturating_sub(1));
        let compressor = &self.compressor;
        let mut taken = Ok(());
        let are_many = self.windows.close(aggregates, clock_ms, few, |row| {
            taken = batch.take_window(who, at, &row, compressor);
            let room = batch.counts.windows < windows_max && batch.objects() < objects_max;
            taken.is_ok() && room
        });
        taken?;
        Ok(are_many.then_some(batch.counts.windows))
    }
}

impl Closing {
    /// What its step asks for.
    pub(super) fn action(&self) -> Action {
        match self.step {
            Step::Intent => Action::Commit(self.begun.clone()),
            Step::Upload => Action::Upload(Arc::clone(&self.objects)),
            Step::Items => Action::WriteItems(Arc::clone(&self.items)),
            Step::Snapshot => Action::StoreSnapshot {
                name: self.snapshot.0.clone(),
                bytes: self.snapshot.1.clone(),
            },
            Step::Done => Action::Commit(self.done.clone()),
        }
    }

    /// Whether the group may hold it as begun: one without objects has no boundary.
    pub(super) fn is_begun(&self) -> bool {
        !self.objects.is_empty()
    }

    /// The step behind this one; none behind the last.
    pub(super) fn next_step(&self) -> Option<Step> {
        match self.step {
            Step::Intent => Some(Step::Upload),
            Step::Upload if !self.items.is_empty() => Some(Step::Items),
            Step::Upload | Step::Items => Some(Step::Snapshot),
            Step::Snapshot => Some(Step::Done),
            Step::Done => None,
        }
    }

    /// Bytes of memory that it holds, about.
    pub(super) fn held(&self) -> usize {
        let objects = self.objects.iter().map(|object| object.bytes.len());
        let said = self.publishing.iter().flat_map(|said| said.objects.iter());
        let said = said.map(|object| object.bytes.len());
        objects.chain(said).sum::<usize>() + self.items.held() + self.snapshot.1.len()
    }
}
