//! The RAM window: one bound, in bytes, on everything between a source and its settlement.
//!
//! A source takes a [`Permit`] before it fills a batch; the permit rides in the batch and gives its
//! bytes back when it is dropped. Files wait for room (the file is the buffer); a sensor asks once,
//! since it has nothing to wait with.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A bound in bytes that batches share.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    total: usize,
    /// Of the total, what those who can wait leave to those who cannot.
    reserve: AtomicUsize,
    free: Mutex<usize>,
    freed: Condvar,
}

/// Bytes taken from a [`Budget`]; given back on drop.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Budget {
    /// A budget of `total` bytes, all of it for everybody.
    pub fn new(total: usize) -> Self {
        Self::with_reserve(total, 0)
    }

    /// A budget of `total` bytes, of which [`Budget::take`] leaves `reserve` to
    /// [`Budget::try_take`]: so that files, which wait, do not take the room of samples, which
    /// cannot.
    pub fn with_reserve(total: usize, reserve: usize) -> Self {
        let shared = Shared {
            total,
            reserve: AtomicUsize::new(reserve.min(total / 2)),
            free: Mutex::new(total),
            freed: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Another reserve, from the next [`Budget::take`] on.
    pub fn set_reserve(&self, reserve: usize) {
        let reserve = reserve.min(self.shared.total / 2);
        self.shared.reserve.store(reserve, Ordering::Relaxed);
    }

    /// Takes `bytes` if they are free. A wish above the whole budget is cut to it, so that it can
    /// be met at all.
    pub fn try_take(&self, bytes: usize) -> Option<Permit> {
        let bytes = bytes.min(self.shared.total);
        let mut free = self
            .shared
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(bytes)?;
        Some(Permit {
            shared: Arc::clone(&self.shared),
            bytes,
        })
    }

    /// Takes `bytes` beyond the reserve, waiting up to `patience` for them. A wish above what there is
    /// beyond it is cut to that. The caller asks again, and looks between
    /// two tries whether it should stop.
    pub fn take(&self, bytes: usize, patience: Duration) -> Option<Permit> {
        let reserve = self.shared.reserve.load(Ordering::Relaxed);
        let bytes = bytes.min(self.shared.total - reserve);
        let free = self
            .shared
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (mut free, _) = self
            .shared
            .freed
            .wait_timeout_while(free, patience, |free| *free < bytes + reserve)
            .unwrap_or_else(PoisonError::into_inner);
        if *free < bytes + reserve {
            return None;
        }
        *free -= bytes;
        Some(Permit {
            shared: Arc::clone(&self.shared),
            bytes,
        })
    }

    /// Bytes that are taken now.
    pub fn used(&self) -> usize {
        let free = self
            .shared
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.shared.total - *free
    }
}

impl Permit {
    /// Keeps `bytes` and gives the rest back: a batch may come out smaller than was asked for.
    pub fn shrink(&mut self, bytes: usize) {
        let spare = self.bytes.saturating_sub(bytes);
        self.give_back(spare);
    }

    fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        let mut free = self
            .shared
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *free += bytes;
        drop(free);
        self.shared.freed.notify_all();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_come_back() {
        let budget = Budget::new(100);
        let mut first = budget.try_take(80).unwrap();
        assert!(budget.try_take(30).is_none());
        assert!(budget.take(30, Duration::from_millis(1)).is_none());
        first.shrink(50);
        let second = budget.take(50, Duration::ZERO).unwrap();
        assert_eq!(budget.used(), 100);
        drop((first, second));
        assert_eq!(budget.used(), 0);
        assert_eq!(budget.try_take(1000).map(|all| all.bytes), Some(100));
    }

    #[test]
    fn a_reserve_is_for_those_who_cannot_wait() {
        let budget = Budget::with_reserve(100, 30);
        let file = budget.take(100, Duration::ZERO).unwrap();
        assert_eq!(file.bytes, 70, "no wish is too large to be met");
        assert!(budget.take(1, Duration::ZERO).is_none());
        let sample = budget.try_take(30).unwrap();
        assert!(budget.try_take(1).is_none());
        drop(file);
        assert!(budget.take(41, Duration::ZERO).is_none());
        let file = budget.take(40, Duration::ZERO);
        assert!(file.is_some(), "so much stays free, whoever has the rest");
        drop((file, sample));
        assert_eq!(budget.used(), 0);
        budget.set_reserve(0);
        assert!(
            budget
                .take(100, Duration::ZERO)
                .is_some_and(|all| all.bytes == 100)
        );
    }

    #[test]
    fn a_waiter_is_woken() {
        let budget = Budget::new(10);
        let held = budget.try_take(10).unwrap();
        let waiting = budget.clone();
        let waiter =
            std::thread::spawn(move || waiting.take(10, Duration::from_secs(60)).is_some());
        drop(held);
        assert!(waiter.join().unwrap());
    }
}
