//! A stop in its order: the broker may still acknowledge, then what is left is committed.

use super::event::{Action, News};
use super::{Delivery, writing};
use crate::clock::Monotonic;

/// Where a stop has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// The broker may still acknowledge, until then.
    Flushing(Monotonic),
    /// What is left is committed; given up then.
    Committing(Monotonic),
    Done {
        /// All that was given away is settled.
        settled: bool,
    },
}

impl Delivery {
    /// Whether it is done, and nothing was sent of which that is not written down.
    pub fn is_settled(&self) -> bool {
        self.phase == Phase::Done { settled: true }
    }

    pub(super) fn go_on_stopping(&mut self, now: Monotonic) {
        if let Phase::Flushing(until) = self.phase {
            // What stands behind a backlog cannot be sent in time.
            let next = self.window.next_to_send();
            let waits = self.is_sending()
                && self.window.unsettled() > 0
                && next.is_some_and(|id| self.may_send(id.lane()));
            let quiet = !waits && self.window.in_flight().batches == 0;
            if quiet || until <= now {
                self.phase = Phase::Committing(now.plus(writing::LAST_COMMIT_MAX));
                self.writing.disk.try_now();
                self.writing.look_again();
            }
        }
        if let Phase::Committing(until) = self.phase {
            // What waits for rows that are being read is due once they are there.
            let complete = self.writing.under_way.is_none()
                && self.loading.is_none()
                && self.commit_at().is_none()
                && !self.writing.damaged;
            if complete || until <= now {
                let batches = self.window.unsettled();
                self.phase = Phase::Done {
                    settled: complete && batches == 0,
                };
                if batches > 0 {
                    self.say(News::LeftBehind { batches });
                }
                self.actions.push_back(Action::Done);
            }
        }
    }
}
