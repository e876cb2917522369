//! The memory that batches of all partitions hold, and the counts of what became of records.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::partition::batch::Counts;

/// One bound over all partitions, in bytes. Above it nobody reads further, and the partition that
/// holds most closes its batch early, until there is room again.
#[derive(Debug)]
pub struct Staging {
    limit: usize,
    held: Mutex<BTreeMap<i32, usize>>,
}

impl Staging {
    /// A bound of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            held: Mutex::default(),
        }
    }

    /// Enters what a partition holds now, and says how it stands with the bound.
    pub fn hold(&self, partition: i32, bytes: usize) -> Room {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match bytes {
            0 => held.remove(&partition),
            bytes => held.insert(partition, bytes),
        };
        if held.values().sum::<usize>() <= self.limit {
            Room::Free
        } else if held.values().all(|other| *other <= bytes) {
            Room::CloseYours
        } else {
            Room::Wait
        }
    }
}

impl Staging {
    /// What is held now, and the bound.
    pub fn held(&self) -> (usize, usize) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        (held.values().sum(), self.limit)
    }
}

/// How it stands with the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Below it: go on.
    Free,
    /// Above it, and this partition holds most: close what is open.
    CloseYours,
    /// Above it: read no further; somebody else closes.
    Wait,
}

/// What became of all records since the start, in completed batches.
#[derive(Debug, Default)]
pub struct Tally {
    sum: Mutex<Counts>,
}

impl Tally {
    /// Adds a completed batch.
    pub fn add(&self, counts: &Counts) {
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        *sum = sum.plus(counts);
    }

    /// The sum so far.
    pub fn sum(&self) -> Counts {
        *self.sum.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_over_all() {
        let staging = Staging::new(100);
        assert_eq!(staging.hold(1, 60), Room::Free);
        assert_eq!(staging.hold(2, 70), Room::CloseYours);
        assert_eq!(staging.hold(1, 60), Room::Wait);
        assert_eq!(staging.hold(2, 0), Room::Free);
    }
}
