//! How a thread is told to stop, and how it is woken before its time: one flag of each, and a wait
//! that ends at either.
//!
//! Each thread has a [`Stop`] of its own, since a wake-up is taken by the one that waits. Whoever
//! stops the agent keeps a clone of every one, and can tell by it whether the thread goes on: one that
//! neither waits nor looks whether to stop is held in a read that does not end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Monotonic, monotonic};

/// A thread's stop flag and its alarm. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    flags: Mutex<Flags>,
    changed: Condvar,
    /// When the thread was heard of last, milliseconds; until when it waits, while it does.
    heard: AtomicU64,
}

#[derive(Debug, Default)]
struct Flags {
    stopped: bool,
    woken: bool,
}

impl Stop {
    /// Neither stopped nor woken.
    pub fn new() -> Self {
        let stop = Self::default();
        stop.hear(Duration::ZERO);
        stop
    }

    /// Tells the thread to stop, for good.
    pub fn set(&self) {
        self.flags().stopped = true;
        self.shared.changed.notify_all();
    }

    /// Whether the thread was told to stop.
    pub fn is_set(&self) -> bool {
        self.hear(Duration::ZERO);
        self.flags().stopped
    }

    /// How long the thread has neither waited nor looked whether to stop.
    pub fn silent_for(&self, now: Monotonic) -> Duration {
        now.since(Monotonic(self.shared.heard.load(Ordering::Relaxed)))
    }

    fn hear(&self, waits: Duration) {
        let heard = monotonic().plus(waits);
        self.shared.heard.store(heard.0, Ordering::Relaxed);
    }

    /// Ends the thread's present [`Stop::wait`], or the next one if it does not wait now.
    pub fn wake(&self) {
        let mut flags = self.flags();
        // Events come by the thousand while the thread is at work: one notification is enough.
        if !flags.woken {
            flags.woken = true;
            drop(flags);
            self.shared.changed.notify_all();
        }
    }

    /// Waits until stopped, woken, or `timeout` is over, and returns whether to stop. Takes the
    /// wake-up.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.hear(timeout);
        let (mut flags, _) = self
            .shared
            .changed
            .wait_timeout_while(self.flags(), timeout, |flags| {
                !flags.stopped && !flags.woken
            })
            .unwrap_or_else(PoisonError::into_inner);
        flags.woken = false;
        self.hear(Duration::ZERO);
        flags.stopped
    }

    /// Waits until stopped or `timeout` is over, and returns whether to stop. A wake-up stays for
    /// the next [`Stop::wait`].
    pub fn sleep(&self, timeout: Duration) -> bool {
        self.hear(timeout);
        let (flags, _) = self
            .shared
            .changed
            .wait_timeout_while(self.flags(), timeout, |flags| !flags.stopped)
            .unwrap_or_else(PoisonError::into_inner);
        self.hear(Duration::ZERO);
        flags.stopped
    }

    fn flags(&self) -> MutexGuard<'_, Flags> {
        self.shared
            .flags
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_wake_up_before_the_wait_counts_once() {
        let stop = Stop::new();
        stop.wake();
        assert!(!stop.sleep(Duration::ZERO), "a sleep leaves the wake-up");
        assert!(!stop.wait(LONG), "and the wait takes it");
        assert!(!stop.flags().woken);
    }

    #[test]
    fn who_waits_is_heard_of_and_who_does_neither_is_silent() {
        let stop = Stop::new();
        let later = || monotonic().plus(LONG / 2);
        assert!(stop.silent_for(later()) > LONG / 3);
        let waiting = stop.clone();
        let waiter = std::thread::spawn(move || waiting.wait(LONG));
        while stop.silent_for(later()) > Duration::ZERO {
            std::thread::yield_now();
        }
        stop.wake();
        assert!(!waiter.join().unwrap());
        assert!(stop.silent_for(later()) > LONG / 3, "it waits no longer");
    }

    #[test]
    fn a_stop_ends_every_wait_from_then_on() {
        let stop = Stop::new();
        let waiting = stop.clone();
        let waiter = std::thread::spawn(move || waiting.wait(LONG) && waiting.sleep(LONG));
        stop.set();
        assert!(waiter.join().unwrap());
        assert!(stop.is_set());
    }
}
