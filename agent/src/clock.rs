//! The only file that asks the system for the time. Everything else is handed it.
//!
//! Two clocks, never mixed: [`Monotonic`] for how long (deadlines, intervals, back-offs: it never
//! goes back, and stands still while the device is suspended), wall time for when (what a record
//! says of itself).

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

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

/// Now, for how long things take.
pub fn monotonic() -> Monotonic {
    static START: OnceLock<Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    let now = Instant::now();
    let millis = now.duration_since(*START.get_or_init(|| now)).as_millis();
    Monotonic(u64::try_from(millis).unwrap_or(u64::MAX))
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
}
