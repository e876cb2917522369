//! Named points at which a test kills the process, as a power cut would. A released binary has
//! none of this: without the feature `crash-points` a point is nothing.

/// Kills the process with SIGKILL where the environment says so: `HEADWATER_CRASH_POINT=name` at
/// the first passage of the point, `name:n` at the n-th.
#[cfg(feature = "crash-points")]
pub fn point(name: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static WANTED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);

    let wanted = WANTED.get_or_init(|| {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test's order to this very process"
        )]
        let order = std::env::var("HEADWATER_CRASH_POINT").ok()?;
        Some(match order.split_once(':') {
            Some((name, nth)) => (name.to_owned(), nth.parse().unwrap_or(1)),
            None => (order, 1),
        })
    });
    if let Some((point, nth)) = wanted
        && point == name
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *nth
    {
        // It either ends here, or cannot be ended: then the test fails by what it does not see.
        let killed =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        debug_assert!(killed.is_ok(), "a process may kill itself");
    }
}

/// Nothing.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_name: &'static str) {}
