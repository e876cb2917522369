//! When to read a sensor. Pure.

use std::time::Duration;

use crate::clock::Monotonic;

/// A fixed interval. Ticks that were missed (a slow reading, a suspended device) are skipped, never
/// made up for: a burst of readings of one moment would tell nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    interval: Duration,
    next: Monotonic,
}

impl Schedule {
    /// The first tick is at once.
    pub fn new(interval: Duration, now: Monotonic) -> Self {
        Self {
            interval: interval.max(Duration::from_millis(1)),
            next: now,
        }
    }

    /// When the next tick is.
    pub fn next(&self) -> Monotonic {
        self.next
    }

    /// Whether a tick is due; the next one is then after `now`, and in step with the first.
    pub fn is_due(&mut self, now: Monotonic) -> bool {
        if now < self.next {
            return false;
        }
        let late = now.since(self.next).as_millis() / self.interval.as_millis();
        let ticks = u32::try_from(late).unwrap_or(u32::MAX).saturating_add(1);
        let next = self.next.plus(self.interval.saturating_mul(ticks));
        self.next = next.max(Monotonic(now.0.saturating_add(1)));
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn missed_ticks_are_skipped() {
        let mut schedule = Schedule::new(Duration::from_millis(100), Monotonic(7));
        for (now, due, next) in [
            (7, true, 107),
            (106, false, 107),
            (107, true, 207),
            (250, true, 307),
            (1_000_000, true, 1_000_007),
            (1_000_006, false, 1_000_007),
        ] {
            assert_eq!(schedule.is_due(Monotonic(now)), due, "at {now}");
            assert_eq!(schedule.next(), Monotonic(next), "at {now}");
        }
    }

    proptest! {
        #[test]
        fn a_tick_is_never_due_twice_at_one_moment(
            interval in any::<u64>(),
            moments in prop::collection::vec(any::<u64>(), 1..20),
        ) {
            let mut schedule = Schedule::new(Duration::from_millis(interval), Monotonic(0));
            for moment in moments {
                let now = Monotonic(moment.min(u64::MAX - 1));
                schedule.is_due(now);
                prop_assert!(schedule.next() > now);
            }
        }
    }
}
