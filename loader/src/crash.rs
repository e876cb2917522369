//! Named points at which a test kills the process, as a power cut would: nothing is flushed, no
//! destructor runs. Compiled in with the feature `crash-points` only.

/// Kills the process where the environment names this point: `HEADWATER_CRASH_POINT="name"`, or
/// `"name:3"` for the third time that it is passed.
#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};

    static PASSED: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());
    #[expect(clippy::disallowed_methods, reason = "armed by a test from outside")]
    let Ok(armed) = std::env::var("HEADWATER_CRASH_POINT") else {
        return;
    };
    let (armed, nth) = armed.split_once(':').unwrap_or((&armed, "1"));
    if armed != name {
        return;
    }
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let count = passed.entry(name.to_owned()).or_default();
    *count += 1;
    if nth.parse() == Ok(*count) {
        let killed =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        debug_assert!(killed.is_ok(), "a process may kill itself");
        // The signal is on its way; do nothing more.
        std::thread::park();
    }
}

/// Nothing: this build has no crash points.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn point(_name: &str) {}
