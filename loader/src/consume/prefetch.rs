//! The bound on what was fetched and not yet taken in, over all partitions.
//!
//! Each hand-over carries a [`Permit`] for its bytes and gives it back when it is dropped, wherever
//! that is. Below the bound everybody may hand over; above it only a partition that has less than
//! its share outstanding, so that one that stands still (its uploads hang) cannot starve the others.
//! So twice the bound is the most that is ever held.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Smallest hand-over that is worth its overhead.
const HAND_OVER_MIN: usize = 16 * 1024;
/// Largest: a worker looks up from its work between two.
const HAND_OVER_MAX: usize = 256 * 1024;

/// The bound.
#[derive(Debug)]
pub struct Prefetch {
    limit: usize,
    held: Mutex<usize>,
    released: Condvar,
}

/// Bytes of one hand-over.
#[derive(Debug)]
pub struct Permit {
    prefetch: Arc<Prefetch>,
    outstanding: Arc<AtomicUsize>,
    bytes: usize,
}

impl Prefetch {
    /// A bound of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            held: Mutex::default(),
            released: Condvar::new(),
        }
    }

    /// How many bytes make a hand-over, with so many partitions.
    pub fn hand_over_bytes(&self, partitions: usize) -> usize {
        (self.limit / (2 * partitions.max(1))).clamp(HAND_OVER_MIN, HAND_OVER_MAX)
    }

    /// Room for a hand-over of a partition that has `outstanding` bytes handed over already.
    pub fn admit(
        self: &Arc<Self>,
        outstanding: &Arc<AtomicUsize>,
        partitions: usize,
        bytes: usize,
    ) -> Option<Permit> {
        let share = self.limit / partitions.max(1);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if *held >= self.limit && outstanding.load(Ordering::Acquire) >= share {
            return None;
        }
        *held += bytes;
        outstanding.fetch_add(bytes, Ordering::AcqRel);
        Some(Permit {
            prefetch: Arc::clone(self),
            outstanding: Arc::clone(outstanding),
            bytes,
        })
    }

    /// Waits until there is room below the bound, `at_most` so long.
    pub fn wait(&self, at_most: Duration) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            self.released
                .wait_timeout_while(held, at_most, |held| *held >= self.limit),
        );
    }

    /// Bytes that are handed over and not yet taken in.
    pub fn held(&self) -> usize {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self
            .prefetch
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *held -= self.bytes;
        self.outstanding.fetch_sub(self.bytes, Ordering::AcqRel);
        drop(held);
        self.prefetch.released.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_stands_still_leaves_the_others_their_share() {
        let prefetch = Arc::new(Prefetch::new(100));
        let (still, moving) = (Arc::default(), Arc::default());
        let hoard: Vec<_> = (0..2)
            .map(|_| prefetch.admit(&still, 2, 60).unwrap())
            .collect();
        assert!(prefetch.admit(&still, 2, 1).is_none());
        let mine = prefetch.admit(&moving, 2, 50).unwrap();
        assert!(prefetch.admit(&moving, 2, 50).is_none());
        drop(mine);
        assert!(prefetch.admit(&moving, 2, 50).is_some());
        drop(hoard);
        assert_eq!(prefetch.held(), 0);
        assert!(prefetch.admit(&still, 2, 500).is_some());
    }

    #[test]
    fn waiting_ends_when_there_is_room() {
        let prefetch = Arc::new(Prefetch::new(10));
        let permit = prefetch.admit(&Arc::default(), 1, 10).unwrap();
        let waiter = {
            let prefetch = Arc::clone(&prefetch);
            std::thread::spawn(move || prefetch.wait(Duration::from_secs(600)))
        };
        drop(permit);
        waiter.join().unwrap();
        assert_eq!(prefetch.hand_over_bytes(1000), HAND_OVER_MIN);
    }
}
