//! What a worker's being there is seen by.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock;
use crate::consume::{Assigned, CommittedOffset, HandOver};
use crate::metrics::Standing;
use crate::staging::Place;
use crate::worker::Shared;

/// A worker's seat: its place in the memory bound, and its line on the board. Both are given back when it is
/// dropped, however that comes.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    shared: &'a Shared,
    /// The partition, and the epoch of its assignment.
    pub(super) who: (i32, u64),
    pub(super) place: Place<'a>,
    /// Whether the group may hold a batch as begun that is not finished.
    begun: AtomicBool,
}

impl<'a> Seat<'a> {
    /// A seat for a partition that is not taken up yet. Its lag is told from now on.
    pub(super) fn take(shared: &'a Shared, assigned: &Assigned) -> Self {
        let who = (assigned.partition, assigned.epoch);
        let committed = assigned.committed.as_ref();
        let durable = committed.map_or(assigned.low, |held| held.offset.max(assigned.low));
        let standing = Standing {
            durable,
            taken: durable,
            // Until its first record is there: what waits is at least as old as the waiting.
            oldest_ms: Some(clock::now().wall_ms),
            ..Standing::default()
        };
        shared.metrics.arrives(who, standing, assigned.end);
        Self {
            shared,
            who,
            place: shared.staging.place(assigned.partition),
            begun: AtomicBool::new(committed.is_some_and(CommittedOffset::may_begin)),
        }
    }

    /// Whether a batch is begun now, and not finished.
    pub(super) fn begins(&self, begun: bool) {
        self.begun.store(begun, Ordering::Relaxed);
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    pub(super) fn stands(&self, standing: Standing) {
        self.shared.metrics.stands(self.who, standing);
    }

    /// It ends: what it waits for now may take its time.
    pub(super) fn looks_no_more(&self) {
        self.shared.metrics.looks_no_more(self.who);
    }

    pub(super) fn waits(&self, reason: String) {
        self.shared.metrics.waits(self.who, reason);
    }

    /// Why it cannot be loaded; none where it is, or where that may pass.
    pub(super) fn why_it_stays(&self) -> Option<String> {
        let (reason, since_ms) = self.shared.metrics.why_it_waits(self.who)?;
        let lasted_ms = clock::now().mono_ms.saturating_sub(since_ms);
        let lasts = Duration::from_millis(lasted_ms) >= self.shared.refusal_lasts;
        lasts.then_some(reason)
    }

    pub(super) fn goes_on(&self) {
        self.shared.metrics.goes_on(self.who);
    }

    /// The first records are there.
    pub(super) fn hears(&self, first: &HandOver) {
        let oldest_ms = first.fetched.entries.first().map(|entry| entry.time_ms);
        self.shared.metrics.hears(self.who, oldest_ms, None);
    }

    pub(super) fn hears_end(&self, end: Option<u64>) {
        self.shared.metrics.hears(self.who, None, end);
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.shared.metrics.leaves(self.who);
        self.shared.status.devices(self.who, None);
    }
}
