//! When to read a sensor. Pure.
//!
//! One tick at a time, each worked out when the one before it was taken, from how long there is to
//! wait: a slow reading, a suspended device or a stepped clock skips ticks, and never makes up for
//! them. A burst of readings of one moment would tell nothing.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::delivery::backoff::Jitter;

/// How the moments lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Time between two readings.
    pub interval: Duration,
    /// Most that each is put off by chance, so that not all devices of a fleet, or all sensors of a
    /// bus, are read at once.
    pub jitter: Duration,
    /// Whether they lie on whole intervals of the wall clock (every full minute, say).
    pub aligned: bool,
}

/// When the ticks of one source are.
#[derive(Debug, Clone)]
pub struct Schedule {
    beat: Beat,
    chance: Jitter,
    /// In step with the first tick, without jitter.
    base: Monotonic,
    next: Monotonic,
}

impl Schedule {
    /// The first tick is at once, or, where they are aligned, at the next whole interval. `wall_ms`:
    /// Unix time.
    pub fn new(beat: Beat, seed: u64, now: Monotonic, wall_ms: u64) -> Self {
        let beat = Beat {
            interval: beat.interval.max(Duration::from_millis(1)),
            ..beat
        };
        let mut schedule = Self {
            beat,
            chance: Jitter::new(seed),
            base: now,
            next: now,
        };
        if beat.aligned {
            schedule.base = now.plus(schedule.to_whole_interval(wall_ms));
        }
        schedule.put_off();
        schedule
    }

    /// When the next tick is.
    pub fn next(&self) -> Monotonic {
        self.next
    }

    /// Whether a tick is due; the next one is then after `now`.
    pub fn is_due(&mut self, now: Monotonic, wall_ms: u64) -> bool {
        if now < self.next {
            return false;
        }
        if self.beat.aligned {
            let interval = self.beat.interval;
            let left = self.to_whole_interval(wall_ms);
            // A clock that was set back a little stands before the tick that was just taken: the one
            // after it is meant.
            let wait = if left < interval / 4 {
                left + interval
            } else {
                left
            };
            self.base = now.plus(wait);
        } else {
            // In step with the first: the jitter of one tick does not move the others.
            let late = now.since(self.base).as_millis() / self.beat.interval.as_millis();
            let ticks = u32::try_from(late).unwrap_or(u32::MAX).saturating_add(1);
            self.base = self.base.plus(self.beat.interval.saturating_mul(ticks));
        }
        self.base = self.base.max(Monotonic(now.0.saturating_add(1)));
        self.put_off();
        true
    }

    /// From the wall clock as it stands now to its next whole interval: above zero.
    fn to_whole_interval(&self, wall_ms: u64) -> Duration {
        let interval = u64::try_from(self.beat.interval.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(interval - wall_ms % interval)
    }

    fn put_off(&mut self) {
        let most = u64::try_from(self.beat.jitter.as_millis()).unwrap_or(u64::MAX);
        self.next = self.base.plus(Duration::from_millis(
            self.chance.draw() % most.saturating_add(1).max(1),
        ));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn beat(interval_ms: u64, jitter_ms: u64, aligned: bool) -> Beat {
        Beat {
            interval: Duration::from_millis(interval_ms),
            jitter: Duration::from_millis(jitter_ms),
            aligned,
        }
    }

    #[test]
    fn missed_ticks_are_skipped() {
        let mut schedule = Schedule::new(beat(100, 0, false), 1, Monotonic(7), 0);
        for (now, due, next) in [
            (7, true, 107),
            (106, false, 107),
            (107, true, 207),
            (250, true, 307),
            (1_000_000, true, 1_000_007),
            (1_000_006, false, 1_000_007),
        ] {
            assert_eq!(schedule.is_due(Monotonic(now), 0), due, "at {now}");
            assert_eq!(schedule.next(), Monotonic(next), "at {now}");
        }
    }

    #[test]
    fn aligned_ticks_lie_on_whole_intervals_however_the_clock_is_set() {
        let mut schedule = Schedule::new(beat(60_000, 0, true), 1, Monotonic(500), 90_000);
        assert_eq!(schedule.next(), Monotonic(30_500));
        for (now, wall, next) in [
            // On the minute; a little late; an hour asleep; an hour forward; ten seconds back.
            (30_500, 120_000, 90_500),
            (91_500, 181_000, 150_500),
            (3_750_500, 3_840_000, 3_810_500),
            (3_810_500, 7_530_000, 3_840_500),
            (3_840_500, 7_550_000, 3_910_500),
        ] {
            assert!(schedule.is_due(Monotonic(now), wall));
            assert_eq!(schedule.next(), Monotonic(next), "at {now}");
        }
    }

    #[test]
    fn jitter_moves_each_tick_and_not_the_beat() {
        let mut schedule = Schedule::new(beat(1000, 300, false), 7, Monotonic(0), 0);
        let mut ticks = Vec::new();
        for n in 0..50 {
            let next = schedule.next();
            ticks.push(next.0 - n * 1000);
            assert!(schedule.is_due(next, 0));
        }
        assert!(ticks.iter().all(|late| *late <= 300));
        assert!(ticks.iter().any(|late| *late < 100) && ticks.iter().any(|late| *late > 200));
    }

    proptest! {
        #[test]
        fn one_tick_an_interval_whatever_the_clocks_do(
            (interval, jitter, aligned) in (any::<u64>(), any::<u64>(), any::<bool>()),
            moments in prop::collection::vec((any::<u64>(), any::<u64>()), 1..20),
        ) {
            let mut schedule = Schedule::new(beat(interval, jitter, aligned), 1, Monotonic(0), 0);
            for (moment, wall) in moments {
                let now = Monotonic(moment.min(u64::MAX - 1));
                schedule.is_due(now, wall);
                prop_assert!(schedule.next() > now);
            }
        }

        #[test]
        fn a_stepped_clock_makes_no_burst(steps in prop::collection::vec(-100_000_i64..100_000, 1..40)) {
            let mut schedule = Schedule::new(beat(60_000, 0, true), 1, Monotonic(0), 1_000_000_000);
            let mut wall: u64 = 1_000_000_000;
            let mut last = None;
            for step in steps {
                let now = schedule.next();
                wall = wall.saturating_add_signed(step);
                prop_assert!(schedule.is_due(now, wall));
                if let Some(last) = last.replace(now) {
                    prop_assert!(now.since(last) >= Duration::from_secs(15));
                }
            }
        }
    }
}
