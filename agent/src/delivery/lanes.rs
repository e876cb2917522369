//! The lanes, each a window of its own over its part of the spool. Pure.
//!
//! Within a lane one order; between them, the higher goes first, as long as it has anything at hand.
//! Nothing waits for a lower lane, and a lower one waits for as long as a higher one is busy.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::backoff::Jitter;
use super::settle::Stretch;
use super::window::{Acknowledged, GivenUp, InFlight, Window};
use crate::batch::Batch;
use crate::clock::Monotonic;
use crate::spool::{BatchId, Lane};

#[derive(Debug)]
pub(super) struct Lanes {
    windows: [Window; Lane::COUNT],
}

impl Lanes {
    /// Nothing at hand, and a spool whose last rows are `last`.
    pub(super) fn new(last: [BatchId; Lane::COUNT]) -> Self {
        let mut windows = Lane::ALL_FIRST.map(|first| Window::new(first.before()));
        for lane in Lane::ALL {
            windows[lane.index()] = Window::over(lane.first().before(), last[lane.index()]);
        }
        Self { windows }
    }

    pub(super) fn of(&self, lane: Lane) -> &Window {
        &self.windows[lane.index()]
    }

    pub(super) fn of_mut(&mut self, lane: Lane) -> &mut Window {
        &mut self.windows[lane.index()]
    }

    fn holding(&mut self, id: BatchId) -> &mut Window {
        self.of_mut(id.lane())
    }

    /// The last batch of each lane that was taken in.
    pub(super) fn last_queued(&self) -> [BatchId; Lane::COUNT] {
        [0, 1, 2].map(|index| self.windows[index].last_queued())
    }

    /// In the order of sending.
    fn ordered(&self) -> impl Iterator<Item = (Lane, &Window)> {
        Lane::ALL.into_iter().map(|lane| (lane, self.of(lane)))
    }

    /// The batch whose turn it is.
    pub(super) fn next_to_send(&self) -> Option<BatchId> {
        let mut going = self.ordered().filter(|(_, window)| !window.is_held_up());
        going.find_map(|(_, window)| window.next_to_send())
    }

    /// Rows that are to be loaded: of the highest lane that has some, unless it or a higher one has
    /// something at hand to send.
    pub(super) fn to_load(&self) -> Option<(BatchId, BatchId)> {
        for (_, window) in self.ordered().filter(|(_, window)| !window.is_held_up()) {
            if window.next_to_send().is_some() {
                return None;
            }
            if let Some(rows) = window.to_load() {
                return Some(rows);
            }
        }
        None
    }

    /// The highest lane of which anything is to be sent: at hand, in the spool, or refused before.
    pub(super) fn waiting(&self) -> Option<Lane> {
        let waits = |window: &Window| {
            window.next_to_send().is_some() || window.to_load().is_some() || window.held() > 0
        };
        let mut lanes = self.ordered();
        lanes.find_map(|(lane, window)| waits(window).then_some(lane))
    }

    /// Whether the broker has not acknowledged everything up to and with `through`, the last of each
    /// lane.
    pub(super) fn is_behind(&self, through: [BatchId; Lane::COUNT]) -> bool {
        (self.windows.iter().zip(through)).any(|(window, through)| window.is_behind(through))
    }

    pub(super) fn look(&self, id: BatchId) -> Option<(usize, bool)> {
        self.of(id.lane()).look(id)
    }

    pub(super) fn stretch(&self, id: BatchId) -> Option<Stretch> {
        self.of(id.lane()).stretch(id)
    }

    /// Marks the batch whose turn it is as handed over, and returns it with what it costs.
    pub(super) fn send_next(&mut self) -> Option<(BatchId, usize, Arc<Batch>)> {
        let id = self.next_to_send()?;
        let (cost, _) = self.look(id)?;
        Some((id, cost, self.holding(id).send(id)?))
    }

    pub(super) fn acknowledge(&mut self, id: BatchId) -> Option<Acknowledged> {
        self.holding(id).acknowledge(id)
    }

    pub(super) fn refused(&mut self, id: BatchId, jitter: &mut Jitter, now: Monotonic) -> bool {
        self.holding(id).refused(id, jitter, now)
    }

    /// Batches that the broker refused, and that have not arrived since.
    pub(super) fn refusals(&self) -> usize {
        self.windows.iter().map(Window::refusals).sum()
    }

    /// When the first of them has waited long enough.
    pub(super) fn release_at(&self) -> Option<Monotonic> {
        self.windows.iter().filter_map(Window::release_at).min()
    }

    pub(super) fn release(&mut self, now: Monotonic) {
        let windows = self.windows.iter_mut();
        windows.for_each(|window| window.release(now));
    }

    pub(super) fn unsend_all(&mut self) {
        self.windows.iter_mut().for_each(Window::unsend_all);
    }

    /// What librdkafka has of all of them.
    pub(super) fn in_flight(&self) -> InFlight {
        let mut sum = InFlight::default();
        for window in &self.windows {
            sum.batches += window.in_flight().batches;
            sum.cost += window.in_flight().cost;
        }
        sum
    }

    pub(super) fn ram_bytes(&self) -> usize {
        self.windows.iter().map(Window::ram_bytes).sum()
    }

    pub(super) fn unsettled(&self) -> usize {
        self.windows.iter().map(Window::unsettled).sum()
    }

    pub(super) fn gone(&self) -> usize {
        self.windows.iter().map(Window::gone).sum()
    }

    /// Marks up to `max` acknowledged rows as under way out of the spool.
    pub(super) fn start_deletes(&mut self, max: usize) -> Vec<BatchId> {
        let mut deletes = Vec::new();
        for window in &mut self.windows {
            deletes.extend(window.start_deletes(max - deletes.len()));
        }
        deletes
    }

    pub(super) fn committed(&mut self) -> Vec<Stretch> {
        self.windows
            .iter_mut()
            .flat_map(Window::committed)
            .collect()
    }

    /// What was given up since this was asked last.
    pub(super) fn take_given_up(&mut self) -> GivenUp {
        let mut sum = GivenUp::default();
        for given in self.windows.iter_mut().map(Window::take_given_up) {
            sum.batches += given.batches;
            sum.records += given.records;
        }
        sum
    }

    pub(super) fn commit_failed(&mut self) {
        self.windows.iter_mut().for_each(Window::commit_failed);
    }

    /// Returns whether anything was left.
    pub(super) fn leave_rest_to_spool(&mut self) -> bool {
        let left = |any, window: &mut Window| window.leave_rest_to_spool() | any;
        self.windows.iter_mut().fold(false, left)
    }

    pub(super) fn loaded(
        &mut self,
        rows: Vec<(BatchId, Batch)>,
        asked_after: BatchId,
        through: BatchId,
        now: Monotonic,
    ) {
        self.holding(through)
            .loaded(rows, asked_after, through, now);
    }

    /// Leaves out `count` ids of each lane, for rows that the store makes, and returns the first.
    pub(super) fn reserve(&mut self, count: u64) -> [BatchId; Lane::COUNT] {
        let mut first = Lane::ALL_FIRST;
        for lane in Lane::ALL {
            first[lane.index()] = self.of_mut(lane).reserve(count);
        }
        first
    }

    pub(super) fn healed(&mut self, last: [BatchId; Lane::COUNT]) {
        for lane in Lane::ALL {
            let before = lane.first().before();
            self.of_mut(lane).healed(before, last[lane.index()]);
        }
    }

    /// Rows that must stay as they are, though they are behind what was loaded: something of them is
    /// at hand.
    pub(super) fn kept(&self) -> BTreeSet<BatchId> {
        self.windows.iter().flat_map(Window::kept).collect()
    }
}
