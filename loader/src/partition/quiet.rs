//! Batches without a record: they turn pages of the books, and close windows of groups that are quiet.

use std::sync::Arc;

use crate::books::Opening;
use crate::partition::batch::OpenBatch;
use crate::partition::publishing::batch_clock;
use crate::partition::{Now, Open, Partition, PartitionError};

impl Partition {
    /// Goes on from `low`, right behind [`Self::recover`]: what lies below is gone from the topic. A begun batch
    /// without a record is made again before that, at its own offset.
    pub fn pass_over(&mut self, low: u64) {
        if self.has_begun_quiet() {
            // What the state before it brought is still to be said.
            self.passed = Some(low);
            return;
        }
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

    /// Where nothing is under way and a page of the books is over, or they were never begun, or a group with open
    /// windows is quiet: closes a batch without a record, so that a partition in which nothing happens says so, too.
    pub(super) fn turn_page(&mut self, now: Now) -> Result<(), PartitionError> {
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
    pub(super) fn has_begun_quiet(&self) -> bool {
        let replay = self.replay.as_ref();
        replay.is_some_and(|replay| replay.intent.end == self.start)
    }

    /// Makes a begun batch without a record again: nothing has to be read for it.
    pub(super) fn make_quiet_again(&mut self) -> Result<(), PartitionError> {
        let Some(replay) = self.replay.as_ref().filter(|_| self.has_begun_quiet()) else {
            return Ok(());
        };
        if self.is_closing() {
            return Ok(());
        }
        let batch = OpenBatch::quiet(replay.intent.clock_ms, Arc::clone(&replay.pipeline));
        self.close_without_record(batch)?;
        if let Some(low) = self.passed.take() {
            self.pass_over(low);
        }
        Ok(())
    }

    pub(super) fn close_without_record(&mut self, batch: OpenBatch) -> Result<(), PartitionError> {
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
}
