//! The only file that asks the system for time. Everything else is handed it.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

use crate::partition::Now;

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
    Now {
        mono_ms: u64::try_from(mono).unwrap_or(u64::MAX),
        wall_ms: u64::try_from(wall).unwrap_or(u64::MAX),
    }
}
