//! Named points at which a test kills the process, as a power cut would (nothing is flushed, no destructor runs),
//! or has a thread stand still, as a fault of ours would. Compiled in with the feature `crash-points` only.

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

/// Holds the thread up for ever where the environment names this point and a file, as soon as the file is there:
/// `HEADWATER_HANG_POINT="name:/path"`.
#[cfg(feature = "crash-points")]
pub fn hang(name: &str) {
    #[expect(clippy::disallowed_methods, reason = "armed by a test from outside")]
    let Ok(armed) = std::env::var("HEADWATER_HANG_POINT") else {
        return;
    };
    let path = armed
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix(':'));
    if path.is_some_and(|path| std::fs::metadata(path).is_ok()) {
        loop {
            std::thread::park();
        }
    }
}

/// Nothing: this build has no crash points.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn point(_name: &str) {}

/// Nothing: this build has no crash points.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn hang(_name: &str) {}
