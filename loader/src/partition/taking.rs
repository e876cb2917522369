//! Records into the open batch, and when that is over: it is full, or due.

use std::sync::Arc;

use crate::books::Opening;
use crate::fetched::Fetched;
use crate::partition::batch::OpenBatch;
use crate::partition::publishing::batch_clock;
use crate::partition::{Layout, Now, Open, Partition, PartitionError};

impl Partition {
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
                &self.compressor,
            )?;
            self.next = entry.offset + 1;
            self.close_if_due(now)?;
        }
        Ok(fetched.entries.len().saturating_sub(from))
    }

    /// Whether it would take a record now.
    pub fn has_room(&self) -> bool {
        !self.stopping && !self.has_begun_quiet() && (!self.is_closing() || !self.is_full())
    }

    pub(super) fn is_full(&self) -> bool {
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

    pub(super) fn close_if_due(&mut self, now: Now) -> Result<(), PartitionError> {
        self.make_quiet_again()?;
        if self.is_closing() || self.open.is_none() {
            return Ok(());
        }
        let due = self
            .next_deadline()
            .is_some_and(|deadline| deadline <= now.mono_ms);
        if self.is_full() || due || self.flushing || self.stopping {
            self.guarded += u64::from(self.is_guarded());
            self.close()?;
        }
        Ok(())
    }

    /// Whether the open batch has as many paths as it may. One that is made again ended so before; and with an object
    /// for each record that is how batches close.
    fn is_guarded(&self) -> bool {
        let open = self.open.as_ref().filter(|_| self.replay.is_none());
        open.is_some_and(|Open { batch, .. }| {
            let layout = batch.pipeline.spec().layout;
            layout == Layout::Batch && batch.objects() >= self.limits.objects
        })
    }
}
