//! What all who make objects under one plan share: contexts of compression, and how Parquet files are made: how large
//! their row groups are, and how many are made at once. Both of these come of the memory plan, and neither is a part of
//! what a file holds: a batch that is made again may have other row groups, and is known by its rows (see
//! [`crate::encode::Content`]).

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::contexts::Contexts;

/// Where no plan says anything: a command that makes one file after another.
const ROW_GROUP: usize = 32 * 1024 * 1024;

/// Shared by all who make objects under one plan. See the module's head.
#[derive(Debug)]
pub struct Making {
    pub(super) contexts: Contexts,
    row_group: usize,
    /// Places that nobody has.
    free: Mutex<usize>,
    freed: Condvar,
}

/// A place to make a file. Free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a>(&'a Making);

impl Default for Making {
    fn default() -> Self {
        Self::new(ROW_GROUP, 1)
    }
}

impl Making {
    /// Row groups of so many packed bytes, and so many files at once: one at the least.
    pub fn new(row_group: usize, at_once: usize) -> Self {
        Self {
            contexts: Contexts::default(),
            row_group,
            free: Mutex::new(at_once.max(1)),
            freed: Condvar::new(),
        }
    }

    /// Packed bytes of a row group.
    pub(super) fn row_group(&self) -> usize {
        self.row_group
    }

    /// Waits until fewer files are made than may be. What is waited for is work, and no I/O.
    pub(super) fn place(&self) -> Place<'_> {
        let mut free = self.free();
        while *free == 0 {
            free = self
                .freed
                .wait(free)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Place(self)
    }

    /// How many contexts were made, and the bytes of frames' buffers that are kept with them.
    #[cfg(test)]
    pub(crate) fn contexts(&self) -> (usize, usize) {
        let made = &self.contexts.made;
        (
            made.load(std::sync::atomic::Ordering::Relaxed),
            self.contexts.held(),
        )
    }

    fn free(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free() += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn no_more_are_made_at_once_than_may_be() {
        for at_once in [1, 3] {
            let making = Making::new(1, at_once);
            let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        for _ in 0..200 {
                            let place = making.place();
                            most.fetch_max(
                                now.fetch_add(1, Ordering::SeqCst) + 1,
                                Ordering::SeqCst,
                            );
                            thread::yield_now();
                            now.fetch_sub(1, Ordering::SeqCst);
                            drop(place);
                        }
                    });
                }
            });
            assert!(most.into_inner() <= at_once);
            assert_eq!(*making.free(), at_once, "all places are free again");
        }
    }
}
