//! Which time to sign with. Pure.
//!
//! MSK refuses a token that is signed some minutes early or late, and a device without a
//! battery-backed clock starts in the past. Three rules:
//!
//! 1. Below [`floor`] the clock is *unset*: nothing is signed, and no TLS is tried, since
//!    certificates are not valid yet then.
//! 2. Where the server that hands out credentials says a time (`Date`), the difference is known to a
//!    second or two. Above [`OFFSET_LEAST`] the token is signed with the corrected time.
//! 3. A clock that is set (wall and monotonic clock part ways) is noticed: the offset moves with it,
//!    and whoever holds a token gets a new one.

use std::time::{Duration, SystemTime};

use crate::clock::Moment;

/// Earlier than any run of this program: 2026-11-01T00:00:00Z in seconds, moved at releases. A
/// constant, so that the same source gives the same binary.
const FLOOR_S: u64 = 1_793_491_200;

/// Below it the clock is unset.
pub fn floor() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(FLOOR_S)
}

/// Smallest offset that is corrected. `Date` has whole seconds, and an answer takes its time.
pub const OFFSET_LEAST: Duration = Duration::from_secs(5);

/// Smallest difference of the two clocks that is a step. NTP slews at 500 ppm: 5 ms in a tick.
const STEP_LEAST: Duration = Duration::from_secs(2);

/// The wall clock, with what is known of its error.
#[derive(Debug, Clone, Default)]
pub struct Corrected {
    last: Option<Moment>,
    /// Server time less wall time, milliseconds; none where no server said a time yet.
    offset_ms: Option<i64>,
}

/// The clock was never set since this device started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "clock-unset: the clock stands before 2026-11, so nothing is signed and no TLS tried; set it (NTP, a real-time clock), and it goes on by itself"
)]
pub struct ClockUnset;

impl Corrected {
    /// Takes note of a moment. Returns by how many milliseconds the wall clock was set since the last
    /// one, where it was.
    pub fn observe(&mut self, now: Moment) -> Option<i64> {
        let last = self.last.replace(now)?;
        let passed = millis_between(last.wall, now.wall);
        let really = i64::try_from((now.mono.saturating_sub(last.mono)).as_millis()).unwrap_or(0);
        let step = passed.saturating_sub(really);
        if step.unsigned_abs() < u64::try_from(STEP_LEAST.as_millis()).unwrap_or(u64::MAX) {
            return None;
        }
        self.offset_ms = self.offset_ms.map(|offset| offset.saturating_sub(step));
        Some(step)
    }

    /// Takes note of what a server said while the wall clock stood at `wall`.
    pub fn learn(&mut self, wall: SystemTime, server: SystemTime) {
        self.offset_ms = Some(millis_between(wall, server));
    }

    /// Server time less wall time in milliseconds; none where no server said a time yet.
    pub fn offset_ms(&self) -> Option<i64> {
        self.offset_ms
    }

    /// The time to sign with when the wall clock says `wall`.
    ///
    /// # Errors
    /// [`ClockUnset`].
    pub fn signing_time(&self, wall: SystemTime) -> Result<SystemTime, ClockUnset> {
        if wall < floor() {
            return Err(ClockUnset);
        }
        let offset = self.offset_ms.unwrap_or(0);
        let size = Duration::from_millis(offset.unsigned_abs());
        if size <= OFFSET_LEAST {
            return Ok(wall);
        }
        let corrected = match offset > 0 {
            true => wall.checked_add(size),
            false => wall.checked_sub(size),
        };
        corrected.ok_or(ClockUnset)
    }
}

/// From `from` to `to`, in milliseconds; negative where `to` is earlier.
fn millis_between(from: SystemTime, to: SystemTime) -> i64 {
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    match to.duration_since(from) {
        Ok(ahead) => millis(ahead),
        Err(behind) => -millis(behind.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `mono` seconds into the run, the wall clock at the floor plus `wall` seconds.
    fn at(mono: u64, wall: i64) -> Moment {
        Moment {
            mono: Duration::from_secs(mono),
            wall: wall_at(wall),
        }
    }

    fn wall_at(seconds: i64) -> SystemTime {
        let size = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 {
            floor() - size
        } else {
            floor() + size
        }
    }

    #[test]
    fn an_unset_clock_signs_nothing() {
        let clock = Corrected::default();
        assert_eq!(clock.signing_time(wall_at(-1)), Err(ClockUnset));
        assert_eq!(clock.signing_time(SystemTime::UNIX_EPOCH), Err(ClockUnset));
        assert_eq!(clock.signing_time(floor()), Ok(floor()));
    }

    #[test]
    fn a_known_offset_is_corrected_and_a_small_one_is_not() {
        let mut clock = Corrected::default();
        for (server, expected) in [(5, 0), (-5, 0), (6, 6), (-3600, -3600), (0, 0)] {
            clock.learn(wall_at(10_000), wall_at(10_000 + server));
            assert_eq!(clock.offset_ms(), Some(server * 1000));
            let signed = clock.signing_time(wall_at(20_000));
            assert_eq!(signed, Ok(wall_at(20_000 + expected)), "{server}");
        }
    }

    #[test]
    fn a_clock_that_is_set_takes_its_offset_along() {
        let mut clock = Corrected::default();
        assert_eq!(clock.observe(at(0, 0)), None);
        assert_eq!(clock.observe(at(10, 11)), None, "a second is no step");
        // Five minutes slow, as the server says; then NTP sets it right.
        clock.learn(wall_at(11), wall_at(311));
        assert_eq!(clock.observe(at(20, 321)), Some(300_000));
        assert_eq!(clock.offset_ms(), Some(0));
        assert_eq!(clock.observe(at(30, 331)), None);
        // Back by an hour: what is signed stays right.
        assert_eq!(clock.observe(at(40, 341 - 3600)), Some(-3_600_000));
        let late = clock.signing_time(wall_at(10_000));
        assert_eq!(late, Ok(wall_at(13_600)));
        // Forward, and an hour too far.
        assert_eq!(clock.observe(at(41, 341 + 3600)), Some(7_199_000));
        // A suspend: both clocks went on.
        assert_eq!(clock.observe(at(4041, 341 + 7600)), None);
    }

    #[test]
    fn without_a_server_a_step_leaves_no_offset() {
        let mut clock = Corrected::default();
        clock.observe(at(0, 0));
        assert_eq!(clock.observe(at(1, 5_000)), Some(4_999_000));
        assert_eq!(clock.offset_ms(), None);
    }
}
