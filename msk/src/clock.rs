//! The clocks, for this crate: the only file of it that asks the system for the time.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since the boot. Never set and never goes back; time in which the device was suspended counts
    /// (`CLOCK_BOOTTIME`), so that waking up looks like time that has passed, not like a clock that was
    /// set.
    pub mono: Duration,
    /// What the wall clock says. It may be wrong, and it may be set.
    pub wall: SystemTime,
}

/// Now.
pub fn now() -> Moment {
    let since_boot = clock_gettime(ClockId::Boottime);
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    let wall = SystemTime::now();
    Moment {
        mono: Duration::try_from(since_boot).unwrap_or_default(),
        wall,
    }
}
