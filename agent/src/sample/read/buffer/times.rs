//! When each scan of a buffer was taken. Pure: what the clocks show is handed in.
//!
//! ```text
//!            last scan of the last read     now
//!   stamps   │   ·  ·  ·    ·  ·  ·  ·       │      by the element in_timestamp, less what its clock
//!            │                               │      shows now: so old is the scan
//!   none        │ ·   ·   ·   ·   ·   ·   ·  │      evenly over the time since the last read
//!               the last read
//! ```
//!
//! Stamps that cannot be true of what is read now (older than what was read last, or of a time to
//! come) were made by a clock that was set meanwhile, or by a driver without one. Then all of this
//! read is spread. Moments never go back, whatever the stamps say.

use std::time::Duration;

use crate::clock::{KernelClock, Moment, Monotonic};

/// What stamps may be off without being refused: how far an NTP client slews a clock in a while, and
/// what lies between two questions to two clocks.
const SLACK: Duration = Duration::from_secs(1);

/// The clock that `current_timestamp_clock` names; wall time, the kernel's default, where a kernel has
/// no such file (before 4.8). None where it is one that is not known here.
///
/// Source: Linux, `Documentation/ABI/testing/sysfs-bus-iio`.
pub(super) fn clock(name: Option<&[u8]>) -> Option<KernelClock> {
    match name.map_or(&b"realtime"[..], <[u8]>::trim_ascii) {
        b"realtime" | b"realtime_coarse" => Some(KernelClock::Realtime),
        b"monotonic" | b"monotonic_coarse" => Some(KernelClock::Monotonic),
        b"monotonic_raw" => Some(KernelClock::MonotonicRaw),
        b"boottime" => Some(KernelClock::Boottime),
        _ => None,
    }
}

/// What was read of a device before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Before {
    /// When; none where nothing was.
    pub(super) read_at: Option<Monotonic>,
    /// When the last scan of it was taken; the boot where there was none.
    pub(super) scan_at: Monotonic,
}

/// The scans' stamps, and what their clock shows now, nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Stamps {
    pub(super) of: Vec<i64>,
    pub(super) now: i64,
}

/// The moments of `count` scans that were read now. `first`: over how long those are spread that are read
/// without a read before.
pub(super) fn moments(
    count: usize,
    stamps: Option<&Stamps>,
    before: Before,
    first: Duration,
    now: Moment,
) -> Vec<Moment> {
    let ages = stamps.and_then(|stamps| ages(stamps, now.at.since(before.scan_at)));
    let ages = ages.unwrap_or_else(|| {
        let over = before.read_at.map_or(first, |read| now.at.since(read));
        spread(count, over)
    });
    let mut last = before.scan_at.min(now.at);
    let moments = ages.into_iter().map(|age| {
        last = last.max(now.before(age).at);
        now.before(now.at.since(last))
    });
    moments.collect()
}

/// How old the scans are, where all of that can be true: none is older than `oldest`.
fn ages(stamps: &Stamps, oldest: Duration) -> Option<Vec<Duration>> {
    let age = |stamp: &i64| {
        let nanos = i128::from(stamps.now) - i128::from(*stamp);
        let age = Duration::from_nanos(u64::try_from(nanos.max(0)).ok()?);
        let early = Duration::from_nanos(u64::try_from((-nanos).max(0)).ok()?);
        (early <= SLACK && age <= oldest.saturating_add(SLACK)).then_some(age)
    };
    stamps.of.iter().map(age).collect()
}

/// Ages from just below `over` down to 0, evenly.
fn spread(count: usize, over: Duration) -> Vec<Duration> {
    let age = |left: usize| {
        let millis = over.as_millis().saturating_mul(left as u128) / count.max(1) as u128;
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    };
    (0..count).rev().map(age).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Moment = Moment {
        at: Monotonic(100_000),
        stamp_ms: 1_800_000_000_000,
    };
    const READ: Before = Before {
        read_at: Some(Monotonic(90_000)),
        scan_at: Monotonic(89_000),
    };

    /// How long before now scans were taken, milliseconds, of stamps that are so many milliseconds old.
    fn told(ages_ms: &[i64], before: Before) -> Vec<u64> {
        let now: i64 = 5_000_000_000_000;
        let stamps = Stamps {
            of: (ages_ms.iter())
                .map(|age| now.saturating_sub(age.saturating_mul(1_000_000)))
                .collect(),
            now,
        };
        let first = Duration::from_secs(10);
        let moments = moments(ages_ms.len(), Some(&stamps), before, first, NOW);
        let ages = moments.iter().map(|moment| {
            let age = NOW.at.since(moment.at);
            assert_eq!(NOW.before(age), *moment, "both say the same");
            u64::try_from(age.as_millis()).unwrap()
        });
        ages.collect()
    }

    #[test]
    fn stamps_are_ages_where_they_can_be() {
        for (stamps, before, expected) in [
            (&[10_500, 4000, 0][..], READ, &[10_500, 4000, 0][..]),
            // A clock that was slewed a little; one stamp before the one before it.
            (&[11_500, 4000, 4001, -300], READ, &[11_000, 4000, 4000, 0]),
            // What was collected before the first read: since the boot at most.
            (&[90_000, 50_000], Before::default(), &[90_000, 50_000]),
            // The clock was set forward meanwhile, back, or there is none: spread over ten seconds.
            (&[3_604_000, 3_602_000, 0, 0], READ, &[7500, 5000, 2500, 0]),
            (&[-3_600_000, 1], READ, &[5000, 0]),
            (&[5_000_000, 5_000_000], READ, &[5000, 0]),
            (&[i64::MIN / 1_000_000, 1], Before::default(), &[5000, 0]),
            (&[], READ, &[]),
        ] {
            assert_eq!(told(stamps, before), expected, "{stamps:?}");
        }
    }

    #[test]
    fn without_stamps_they_lie_evenly_over_the_time_since_the_last_read() {
        let ages = |count, before, first_s| {
            let first = Duration::from_secs(first_s);
            let moments = moments(count, None, before, first, NOW);
            let ages = moments.iter().map(|moment| NOW.at.since(moment.at));
            ages.map(|age| age.as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(ages(5, READ, 1), [8000, 6000, 4000, 2000, 0]);
        assert_eq!(ages(4, Before::default(), 1), [750, 500, 250, 0]);
        assert_eq!(ages(2, Before::default(), u64::MAX).last(), Some(&0));
        assert!(ages(0, READ, 1).is_empty());
    }

    #[test]
    fn a_clock_has_the_name_that_the_kernel_gives_it() {
        for (name, expected) in [
            (None, Some(KernelClock::Realtime)),
            (Some(&b"realtime\n"[..]), Some(KernelClock::Realtime)),
            (Some(b"realtime_coarse\n"), Some(KernelClock::Realtime)),
            (Some(b"monotonic\n"), Some(KernelClock::Monotonic)),
            (Some(b"monotonic_raw\n"), Some(KernelClock::MonotonicRaw)),
            (Some(b"monotonic_coarse\n"), Some(KernelClock::Monotonic)),
            (Some(b"boottime\n"), Some(KernelClock::Boottime)),
            (Some(b"tai\n"), None),
            (Some(b""), None),
        ] {
            assert_eq!(clock(name), expected, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn moments_are_in_order_and_none_is_to_come(
            stamps in prop::collection::vec(any::<i64>(), 0..20),
            near in prop::collection::vec(-3_000_000_000_i64..20_000_000_000, 0..20),
            now in any::<i64>(),
            is_first in any::<bool>(),
        ) {
            let near: Vec<_> = near.iter().map(|age| now.saturating_sub(*age)).collect();
            let before = if is_first { Before::default() } else { READ };
            for of in [stamps, near] {
                let (count, stamps) = (of.len(), Stamps { of, now });
                let moments = moments(count, Some(&stamps), before, Duration::from_secs(1), NOW);
                prop_assert_eq!(moments.len(), count);
                prop_assert!(moments.is_sorted_by_key(|moment| moment.at));
                prop_assert!(moments.iter().all(|moment| moment.at >= before.scan_at && moment.at <= NOW.at));
            }
        }
    }
}
