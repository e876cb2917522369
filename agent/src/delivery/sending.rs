//! When something goes to the broker, and when the spool is asked for what is to go.

use super::event::Action;
use super::stopping::Phase;
use super::{Delivery, IN_FLIGHT_BATCHES_MAX};
use crate::clock::Monotonic;
use crate::spool::Lane;

/// Acknowledged rows that may wait for their deletion, some 20 bytes of memory each: where the disk refuses,
/// or the flash budget is gone, no more are sent then.
pub(super) const GONE_MAX: usize = 128 * 1024;

impl Delivery {
    /// Whether anything may still be sent or loaded.
    pub(super) fn is_sending(&self) -> bool {
        !self.broker.clock_unset && matches!(self.phase, Phase::Running | Phase::Flushing(_))
    }

    /// Whether the uplink is open for a lane: in a session, in its hours, within its budgets.
    pub(super) fn may_send(&self, lane: Lane) -> bool {
        self.uplink.may_send() && self.allowance.has_left(lane)
    }

    pub(super) fn recreate_at(&self) -> Option<Monotonic> {
        let wanted = self.broker.lost && self.uplink.is_connected() && self.is_sending();
        wanted.then_some(self.broker.not_before)
    }

    pub(super) fn send_at(&self) -> Option<Monotonic> {
        if self.broker.lost || !self.uplink.may_send() || !self.is_sending() {
            return None;
        }
        let next = self.window.next_to_send()?;
        let (cost, is_row) = self.window.look(next)?;
        if !self.allowance.allows(next.lane(), cost) {
            return None;
        }
        let in_flight = self.window.in_flight();
        let has_room = in_flight.batches < IN_FLIGHT_BATCHES_MAX
            && in_flight.cost + cost <= self.settings.in_flight_bytes_max;
        // Alone, a batch of any size may go.
        if !has_room && in_flight.batches > 0 {
            return None;
        }
        let disk_first = self.settings.spool_after.is_zero() && !self.writing.refuses();
        (is_row || !disk_first).then_some(self.broker.not_before)
    }

    pub(super) fn load_at(&self) -> Option<Monotonic> {
        let in_flight = self.window.in_flight();
        let idle = self.loading.is_none();
        // Half of it empty: so that what is loaded can be sent at once, and reads are not small.
        let has_room = in_flight.cost <= self.settings.in_flight_bytes_max / 2
            && in_flight.batches <= IN_FLIGHT_BATCHES_MAX / 2;
        let asks = self.phase == Phase::Running && self.is_sending() && self.uplink.may_send();
        let whole = !self.broker.lost && !self.writing.damaged && self.window.gone() < GONE_MAX;
        if !idle || !has_room || !asks || !whole {
            return None;
        }
        let (_, through) = self.window.to_load()?;
        if !self.allowance.has_left(through.lane()) {
            return None;
        }
        Some(self.broker.not_before.max(self.writing.disk.not_before))
    }

    pub(super) fn load(&mut self, now: Monotonic) {
        if let Some((after, through)) = self.window.to_load() {
            self.loading = Some((after, now));
            let room = self.settings.in_flight_bytes_max - self.window.in_flight().cost;
            self.actions.push_back(Action::Load {
                after,
                through,
                bytes_max: room as u64,
            });
        }
    }
}
