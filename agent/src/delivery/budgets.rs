//! The budgets of uplink and flash, and the sessions: what was used, what is left, and when the agent
//! connects for that.

use std::time::Duration;

use super::Delivery;
use super::allowance::BudgetUse;
use super::event::{Action, News};
use super::stopping::Phase;
use super::uplink::{By, Change, Gate, Work};
use crate::clock::Monotonic;
use crate::spool::Used;

impl Delivery {
    /// Goes on with what earlier runs used of the budgets of uplink and flash. `wall_ms`: the wall
    /// clock, Unix milliseconds.
    #[must_use]
    pub fn with_usage(mut self, usage: &[Used], wall_ms: u64, now: Monotonic) -> Self {
        self.wall = (now, wall_ms);
        self.allowance.restore(usage);
        self.flash.restore(usage, wall_ms, now);
        self
    }

    /// What was used of the budgets, for the next run; nothing where hardly anything was since it
    /// was written down last, since that costs a page.
    pub(super) fn usage(&mut self, now: Monotonic) -> Vec<Used> {
        let flash = self.flash.usage(self.wall_ms(now), now);
        let (now_used, steps): (Vec<_>, Vec<_>) = self.allowance.usage().chain(flash).unzip();
        let is_near = |((old, new), step): ((&Used, &Used), &u64)| {
            let is_of_one = old.budget == new.budget && (old.at_ms == new.at_ms || new.is_level());
            is_of_one && old.bytes.abs_diff(new.bytes) <= *step
        };
        let is_same = self.written_down.len() == now_used.len()
            && (self.written_down.iter().zip(&now_used))
                .zip(&steps)
                .all(is_near);
        if is_same && self.phase == Phase::Running {
            return Vec::new();
        }
        self.written_down.clone_from(&now_used);
        now_used
    }

    /// Bytes that passed between the agent and the brokers; none where nothing counts them.
    pub fn uplink_bytes(&self) -> Option<u64> {
        self.allowance.total()
    }

    /// The process has written so many bytes in all, by commits or otherwise.
    pub(super) fn note_written(&mut self, written: u64, now: Monotonic) {
        if let Some(times) = self.flash.wrote(written, now) {
            self.say(News::FlashStretched { times });
        }
        if let Some(bytes) = self.flash.overdrawn() {
            self.say(News::FlashOverdrawn { bytes });
        }
    }

    /// What was written beyond the flash budget and is not made up for yet; none where there is none.
    pub fn flash_debt_bytes(&self) -> Option<u64> {
        self.flash.left().map(|_| self.flash.debt())
    }

    /// What is left of the flash budget; none where there is none.
    pub fn flash_left_bytes(&self) -> Option<u64> {
        self.flash.left()
    }

    /// How it stands with the budgets of the uplink.
    pub fn budgets(&self) -> Vec<BudgetUse> {
        self.allowance.uses()
    }

    /// Whether the uplink is open, and what opens or closes it next.
    pub fn gate(&self, now: Monotonic) -> Gate {
        if self.broker.clock_unset {
            return Gate {
                open: false,
                by: Some(By::Clock),
                changes_in_ms: None,
                limited: true,
            };
        }
        let wall_ms = self.wall_ms(now);
        let closed_for = self.allowance.closed_for(wall_ms);
        self.uplink.gate(closed_for, now, wall_ms)
    }

    fn count_gate(&mut self, now: Monotonic) {
        let open = self.gate(now).open;
        let before = self.gate_open.replace(open);
        self.counters.uplink_changes += u64::from(before.is_some_and(|before| before != open));
    }

    /// Unix milliseconds, as far as the clock was right when it was looked at.
    pub fn wall_ms(&self, now: Monotonic) -> u64 {
        let (at, wall_ms) = self.wall;
        wall_ms.saturating_add(now.0.saturating_sub(at.0))
    }

    /// The world went on while the device was suspended: so have its clock, the budget of flash, and the
    /// cycle.
    pub(super) fn slept(&mut self, period: Duration, wall_ms: u64, now: Monotonic) {
        self.wall = (now, wall_ms);
        self.flash.slept(period);
        self.uplink.slept(period);
    }

    pub(super) fn turn_uplink(&mut self, now: Monotonic) {
        let wall_ms = self.wall_ms(now);
        self.allowance.turn(wall_ms);
        if let Some(closed) = self.allowance.news() {
            self.say(News::UplinkBudget(closed));
        }
        let lane = self.window.waiting();
        let waiting = self.is_sending() && lane.is_some_and(|lane| self.allowance.has_left(lane));
        let in_flight = self.window.in_flight().batches > 0;
        let moves = waiting || in_flight;
        let work = Work {
            waiting,
            in_flight,
            // What waits for a budget is not what a session waits for.
            behind: moves && self.is_sending() && self.window.is_behind(self.session_through),
            moved: self.broker.session_moved,
        };
        let closed_for = self.allowance.closed_for(wall_ms);
        match self.uplink.turn(work, closed_for, now, wall_ms) {
            None => {}
            Some(Change::Connect) => {
                self.counters.sessions += 1;
                self.session_through = self.window.last_queued();
                self.broker.lost = true;
                self.broker.not_before = now;
            }
            Some(Change::Disconnect) => {
                self.window.unsend_all();
                self.allowance.uncounted();
                self.actions
                    .retain(|action| !matches!(action, Action::Send { .. } | Action::Recreate));
                self.broker.lost = false;
                self.actions.push_back(Action::Disconnect);
            }
        }
        self.count_gate(now);
    }
}
