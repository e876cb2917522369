//! The clocks, for this crate: the only file of it that asks the system for the time.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since this process first asked; never goes back, stands still while the device is suspended.
    pub mono: Duration,
    /// What the wall clock says. It may be wrong, and it may be set.
    pub wall: SystemTime,
}

/// Now.
pub fn now() -> Moment {
    static START: OnceLock<Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    let (instant, wall) = (Instant::now(), SystemTime::now());
    Moment {
        mono: instant.duration_since(*START.get_or_init(|| instant)),
        wall,
    }
}
