//! The bound on what was fetched and not yet taken in, over all partitions.
//!
//! Each hand-over carries a [`Permit`] for its bytes and gives it back when it is dropped, wherever
//! that is. Below the bound everybody may hand over; above it only a partition that has less than
//! its share outstanding, so that one that stands still (its uploads hang) cannot starve the others.
//! What gathers for a hand-over ([`Gathering`]) takes of the same bound, up to half of it.
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
    /// Bytes that are handed over.
    held: Mutex<usize>,
    released: Condvar,
    /// Bytes that gather, over all partitions.
    gathering: AtomicUsize,
}

/// Bytes that gather for a partition's next hand-over.
#[derive(Debug)]
pub struct Gathering {
    prefetch: Arc<Prefetch>,
    bytes: usize,
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
            gathering: AtomicUsize::new(0),
        }
    }

    /// Counts what gathers for a partition, nothing at first.
    pub fn gather(self: &Arc<Self>) -> Gathering {
        Gathering {
            prefetch: Arc::clone(self),
            bytes: 0,
        }
    }

    /// What may be handed over: what gathers takes of it, but never so much that nothing is left.
    fn room(&self) -> usize {
        let gathering = self.gathering.load(Ordering::Relaxed);
        self.limit - gathering.min(self.limit / 2)
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
        if *held >= self.room() && outstanding.load(Ordering::Acquire) >= share {
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
                .wait_timeout_while(held, at_most, |held| *held >= self.room()),
        );
    }

    /// Bytes that gather, or are handed over and not yet taken in.
    pub fn held(&self) -> usize {
        let held = *self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held + self.gathering.load(Ordering::Relaxed)
    }
}

impl Gathering {
    /// So much has gathered now.
    pub fn set(&mut self, bytes: usize) {
        let all = &self.prefetch.gathering;
        match bytes >= self.bytes {
            true => all.fetch_add(bytes - self.bytes, Ordering::Relaxed),
            false => all.fetch_sub(self.bytes - bytes, Ordering::Relaxed),
        };
        self.bytes = bytes;
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.set(0);
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
    fn what_gathers_takes_of_the_bound_and_leaves_half_of_it() {
        let prefetch = Arc::new(Prefetch::new(100));
        let still = Arc::default();
        let mut gathering = prefetch.gather();
        gathering.set(40);
        let first = prefetch.admit(&still, 1, 100).unwrap();
        assert_eq!(prefetch.held(), 140);
        drop(first);
        let hoard = prefetch.admit(&still, 2, 60).unwrap();
        assert!(
            prefetch.admit(&still, 2, 1).is_none(),
            "60 of the 60 that are left"
        );
        gathering.set(10);
        assert!(prefetch.admit(&still, 2, 1).is_some());
        gathering.set(1000);
        assert!(prefetch.admit(&still, 2, 1).is_none());
        drop(hoard);
        let hoard = prefetch.admit(&still, 2, 49).unwrap();
        assert!(prefetch.admit(&still, 2, 1).is_some(), "half of it is left");
        drop((hoard, gathering));
        assert_eq!(prefetch.held(), 0);
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
