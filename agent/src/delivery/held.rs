//! Batches that the broker refused, and that wait by themselves, each longer with every refusal: what
//! can never succeed (too large for the topic, say) is sent again twice an hour in the end, since each time all
//! of it passes the uplink, and holds nothing else up for longer than a first refusal does. Where a lane has
//! [`HELD_MAX`] of them, it waits with them, and no higher one does; lower ones do once its batches fill the window. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use super::backoff::{Backoff, Jitter};
use super::window::Window;
use crate::clock::Monotonic;
use crate::spool::BatchId;

/// Most of one lane that wait: each is remembered, some 300 bytes.
pub(super) const HELD_MAX: usize = 1024;
/// Longest wait before one is sent again, milliseconds; half of it on the average.
const LONGEST_MS: u64 = 60 * 60 * 1000;
/// Those that wait for longer than this are due together, at whole multiples of it, milliseconds: each time the
/// spool is read from the first of them on.
const TOGETHER_MS: u64 = 60 * 1000;

#[derive(Debug, Default)]
pub(super) struct Held {
    waiting: BTreeSet<(Monotonic, BatchId)>,
    /// How often each was refused that has not arrived since.
    pub(super) refusals: BTreeMap<BatchId, Backoff>,
}

impl Held {
    /// It has arrived, or is not what it was.
    pub(super) fn forget(&mut self, id: BatchId) {
        if self.refusals.remove(&id).is_some() {
            self.waiting.retain(|(_, other)| *other != id);
        }
    }

    /// The spool was read behind `after`, up to and with `through`: of its rows only those `at_hand`
    /// are left, and the others, which gave way, do not come again.
    pub(super) fn forget_gone(
        &mut self,
        (after, through): (BatchId, BatchId),
        at_hand: impl Fn(BatchId) -> bool,
    ) {
        let read = (Bound::Excluded(after), Bound::Included(through.max(after)));
        let refused = self.refusals.range(read).map(|(id, _)| *id);
        let gone: Vec<_> = refused.filter(|id| !at_hand(*id)).collect();
        gone.into_iter().for_each(|id| self.forget(id));
    }

    fn next(&self) -> Option<Monotonic> {
        self.waiting.first().map(|(at, _)| *at)
    }

    fn take_due(&mut self, now: Monotonic) -> Option<BatchId> {
        let first = self.waiting.first().filter(|(at, _)| *at <= now).copied()?;
        self.waiting.remove(&first);
        Some(first.1)
    }
}

impl Window {
    /// The broker refused it: it is to be sent again, in its place, but not at once. Whether that is the
    /// first time.
    pub(super) fn refused(&mut self, id: BatchId, jitter: &mut Jitter, now: Monotonic) -> bool {
        if !self.land(id) {
            return false;
        }
        let is_first = !self.held.refusals.contains_key(&id);
        let backoff = self.held.refusals.entry(id).or_default();
        let wait_ms = backoff.next_ms_below(LONGEST_MS, jitter);
        let mut due = now.plus(Duration::from_millis(wait_ms));
        if wait_ms > TOGETHER_MS {
            due = Monotonic(due.0.next_multiple_of(TOGETHER_MS));
        }
        if let Some(item) = self.items.get_mut(&id) {
            item.held = true;
            self.held.waiting.insert((due, id));
        }
        is_first
    }

    /// How many wait.
    pub(super) fn held(&self) -> usize {
        self.held.waiting.len()
    }

    /// How many were refused, and have not arrived since.
    pub(super) fn refusals(&self) -> usize {
        self.held.refusals.len()
    }

    /// Whether too many wait for anything else of the lane to go.
    pub(super) fn is_held_up(&self) -> bool {
        self.held() >= HELD_MAX
    }

    /// When the first of them has waited long enough.
    pub(super) fn release_at(&self) -> Option<Monotonic> {
        self.held.next()
    }

    /// Those that have waited long enough may be sent.
    pub(super) fn release(&mut self, now: Monotonic) {
        while let Some(id) = self.held.take_due(now) {
            let Some(item) = self.items.get_mut(&id) else {
                continue;
            };
            item.held = false;
            if item.batch.is_some() {
                self.unsent.insert(id);
            } else {
                self.leave_to_spool(id);
            }
        }
    }
}
