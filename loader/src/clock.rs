//! The only file that asks the system for time. Everything else is handed it.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

use crate::partition::Now;

/// How far the wall clock is off, milliseconds, by what the file says that a test names: the whole process cannot be
/// told another time, for librdkafka waits by the wall clock, and S3 refuses a request that is dated otherwise.
#[cfg(feature = "crash-points")]
fn off_ms() -> i64 {
    static FILE: OnceLock<Option<std::ffi::OsString>> = OnceLock::new();
    let file = FILE.get_or_init(|| std::env::var_os("HEADWATER_TEST_CLOCK"));
    let text = file
        .as_ref()
        .and_then(|file| std::fs::read_to_string(file).ok());
    let seconds: Option<i64> = text.and_then(|text| text.trim().parse().ok());
    seconds.unwrap_or(0) * 1000
}

/// It is not off.
#[cfg(not(feature = "crash-points"))]
fn off_ms() -> i64 {
    0
}

/// Now, on both clocks.
pub fn now() -> Now {
    static START: OnceLock<Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    let (instant, wall) = (Instant::now(), SystemTime::now());
    let mono = instant
        .duration_since(*START.get_or_init(|| instant))
        .as_millis();
    let wall = wall
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let wall = i128::try_from(wall).unwrap_or(i128::MAX) + i128::from(off_ms());
    Now {
        mono_ms: u64::try_from(mono).unwrap_or(u64::MAX),
        wall_ms: u64::try_from(wall).unwrap_or(u64::MAX),
    }
}
