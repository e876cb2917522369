//! The memory that batches of all partitions hold, and the counts of what became of records.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::partition::batch::Counts;

/// One bound over all partitions, in bytes. Above it, open batches are closed early and partitions
/// with a batch under way read no further.
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

    /// Enters what a partition holds now, and says whether all together are above the bound.
    pub fn hold(&self, partition: i32, bytes: usize) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match bytes {
            0 => held.remove(&partition),
            bytes => held.insert(partition, bytes),
        };
        held.values().sum::<usize>() > self.limit
    }
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
        sum.records += counts.records;
        sum.bytes += counts.bytes;
        sum.rows += counts.rows;
        sum.filtered += counts.filtered;
        sum.duplicates += counts.duplicates;
        sum.overlaps += counts.overlaps;
        sum.notices += counts.notices;
        sum.refused += counts.refused;
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
        assert!(!staging.hold(1, 60));
        assert!(staging.hold(2, 60));
        assert!(!staging.hold(1, 0));
    }
}
