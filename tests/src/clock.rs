//! The only file of the harness that asks the system for time.
//!
//! Tests measure how long they wait and stamp objects; nothing else may depend on the clock.

use std::time::{Instant, SystemTime};

/// Returns monotonic time: for time-outs and rates.
#[expect(
    clippy::disallowed_methods,
    reason = "the clock edge of the test harness"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Returns wall time: for the stamps of objects and for unique names.
#[expect(
    clippy::disallowed_methods,
    reason = "the clock edge of the test harness"
)]
pub fn wall() -> SystemTime {
    SystemTime::now()
}
