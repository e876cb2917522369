//! The only file that asks the system for the time. Everything else is handed it.
//!
//! Clocks that are never mixed: [`Monotonic`] for how long (deadlines, intervals, back-offs: it never
//! goes back, and stands still while the device is suspended); wall time for when (what a record
//! says of itself), if it was ever set; and the time since the boot, suspensions included, which
//! stands in until then.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use headwater_record::value::{CLOCK_SET_MS, SINCE_BOOT_MS_MAX};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// A moment of this process: milliseconds since it first asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// This moment and `period`; the end of time where that is later.
    #[must_use]
    pub fn plus(self, period: Duration) -> Self {
        let millis = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// Time from `earlier` to this moment; zero where it lies behind.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A moment in the world: when a sample was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// As [`boottime`] tells it: for how long.
    pub at: Monotonic,
    /// As [`stamp_ms`] tells it: for what a record says.
    pub stamp_ms: u64,
}

impl Moment {
    /// The moment that lies so long before this one; the beginning of time where there is none.
    #[must_use]
    pub fn before(self, age: Duration) -> Self {
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Self {
            at: Monotonic(self.at.0.saturating_sub(millis)),
            stamp_ms: self.stamp_ms.saturating_sub(millis),
        }
    }
}

/// A clock by which the kernel stamps what it collects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelClock {
    /// Wall time.
    Realtime,
    /// Time awake since the boot.
    Monotonic,
    /// The same, which nobody corrects.
    MonotonicRaw,
    /// Time since the boot.
    Boottime,
}

/// What a clock of the kernel shows now, nanoseconds.
pub fn kernel_ns(clock: KernelClock) -> i64 {
    let now = clock_gettime(match clock {
        KernelClock::Realtime => ClockId::Realtime,
        KernelClock::Monotonic => ClockId::Monotonic,
        KernelClock::MonotonicRaw => ClockId::MonotonicRaw,
        KernelClock::Boottime => ClockId::Boottime,
    });
    let nanos = now.tv_sec.saturating_mul(1_000_000_000);
    nanos.saturating_add(now.tv_nsec)
}

/// Now, for how long things take.
pub fn monotonic() -> Monotonic {
    static START: OnceLock<Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    let now = Instant::now();
    let millis = now.duration_since(*START.get_or_init(|| now)).as_millis();
    Monotonic(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// Now, for how long things take in the world: milliseconds since the boot, suspensions included. One
/// part of the agent goes by this or by [`monotonic`], never by both.
pub fn boottime() -> Monotonic {
    Monotonic(since_boot_ms())
}

/// Now, of a sample that is taken now.
pub fn moment() -> Moment {
    Moment {
        at: boottime(),
        stamp_ms: stamp_ms(),
    }
}

/// How long the device was suspended since its boot.
pub fn suspended() -> Duration {
    let (boot, awake) = (
        clock_gettime(ClockId::Boottime),
        clock_gettime(ClockId::Monotonic),
    );
    let millis = |time: Timespec| time.tv_sec.saturating_mul(1000) + time.tv_nsec / 1_000_000;
    Duration::from_millis(u64::try_from(millis(boot) - millis(awake)).unwrap_or(0))
}

/// Now, for what a record says: Unix time in milliseconds; 0 where the clock stands before 1970.
pub fn wall_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

/// Whether the wall clock was ever set: it shows no moment before this program was made.
pub fn is_set() -> bool {
    wall_ms() >= CLOCK_SET_MS
}

/// Milliseconds since the device booted, time in suspension included.
pub fn since_boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let millis = u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(millis)
}

/// Now, for what a record says of itself: Unix time in milliseconds; the time since the boot, which
/// is below [`SINCE_BOOT_MS_MAX`], while the clock is unset.
pub fn stamp_ms() -> u64 {
    let wall = wall_ms();
    if wall >= CLOCK_SET_MS {
        return wall;
    }
    since_boot_ms().min(SINCE_BOOT_MS_MAX - 1)
}

/// How long ago a [`stamp_ms`] was taken, milliseconds. One from before the clock was set counts by the
/// boot; which boot that was nobody knows, so it is told to be no older than this one.
pub fn age_ms(stamp_ms: u64) -> u64 {
    age(stamp_ms, wall_ms(), since_boot_ms())
}

fn age(stamp_ms: u64, wall_ms: u64, since_boot_ms: u64) -> u64 {
    if stamp_ms < CLOCK_SET_MS {
        return since_boot_ms.checked_sub(stamp_ms).unwrap_or(since_boot_ms);
    }
    if wall_ms < CLOCK_SET_MS {
        // It was set in an earlier boot.
        return since_boot_ms;
    }
    wall_ms.saturating_sub(stamp_ms)
}

/// Unix time at which the device booted, milliseconds, by the clock as it is now.
pub fn booted_ms() -> u64 {
    wall_ms().saturating_sub(since_boot_ms())
}

/// The kernel's random name of this boot (`man 4 random`).
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_saturate_at_both_ends() {
        let early = Monotonic(5);
        let late = early.plus(Duration::from_millis(10));
        assert_eq!(late.since(early), Duration::from_millis(10));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.plus(Duration::MAX), Monotonic(u64::MAX));
        assert!(monotonic() <= monotonic());
    }

    #[test]
    fn a_moment_before_is_so_long_before_by_both() {
        let now = Moment {
            at: Monotonic(5000),
            stamp_ms: 9000,
        };
        let before = now.before(Duration::from_millis(4001));
        assert_eq!((before.at, before.stamp_ms), (Monotonic(999), 4999));
        let none = now.before(Duration::MAX);
        assert_eq!((none.at, none.stamp_ms), (Monotonic(0), 0));
    }

    #[test]
    fn the_kernels_clocks_are_the_ones_that_are_asked_otherwise() {
        let ms = |clock| u64::try_from(kernel_ns(clock) / 1_000_000).unwrap();
        let (wall, boot) = (wall_ms(), since_boot_ms());
        // They are read one after the other, and the wall clock may be set a little.
        assert!(ms(KernelClock::Realtime).abs_diff(wall) < 60_000);
        assert!(ms(KernelClock::Boottime) >= boot);
        assert!(ms(KernelClock::Monotonic) <= ms(KernelClock::Boottime));
        assert!(kernel_ns(KernelClock::MonotonicRaw) > 0);
    }

    #[test]
    fn time_since_the_boot_is_time_awake_and_time_asleep() {
        let awake = clock_gettime(ClockId::Monotonic);
        let awake = u64::try_from(awake.tv_sec * 1000 + awake.tv_nsec / 1_000_000).unwrap();
        let both = Monotonic(awake).plus(suspended());
        // The clocks are read one after the other.
        assert!(boottime().plus(Duration::from_millis(2)) >= both);
    }

    #[test]
    fn an_age_does_not_begin_in_1970() {
        let now = CLOCK_SET_MS + 1_000_000;
        for (stamp, wall, expected) in [
            (now - 5000, now, 5000),
            (now + 5000, now, 0),
            // Before the clock was set: in this boot, in an earlier one, and by its unset clock.
            (20_000, now, 40_000),
            (90_000, now, 60_000),
            (CLOCK_SET_MS - 1, now, 60_000),
            // And it is unset again.
            (now, 100, 60_000),
            (20_000, 100, 40_000),
        ] {
            assert_eq!(age(stamp, wall, 60_000), expected, "{stamp} at {wall}");
        }
    }

    #[test]
    fn the_boot_lies_before_now_and_has_a_name() {
        assert!(since_boot_ms() > 0 && since_boot_ms() < CLOCK_SET_MS);
        assert!(is_set() && booted_ms() < wall_ms());
        assert_eq!(boot_id(), boot_id());
        assert!(boot_id().is_some());
    }
}
