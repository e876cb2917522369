//! The memory that batches of all partitions hold, and the counts of what became of records.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crate::partition::batch::Counts;

/// One bound over all partitions, in bytes. Above it nobody reads further, and the partition that
/// holds most closes its batch early, until there is room again.
///
/// A batch that was begun before has to be made to its end, and cannot be closed early: above the bound
/// one partition alone goes on with its own, the one that holds most, and then the next. So a loader that
/// takes many over at once (the others died for want of memory) makes one after the other; and one of which
/// nothing can be read holds nothing, and holds up nobody.
#[derive(Debug)]
pub struct Staging {
    limit: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: BTreeMap<i32, usize>,
    /// Partitions that make a begun batch again.
    begun: BTreeSet<i32>,
}

/// What a partition has in memory, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holding {
    /// Bytes of its batches.
    pub bytes: usize,
    /// Whether one of them was begun before.
    pub begun: Begun,
}

/// How far a batch is that was begun before, and is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Begun {
    /// There is none.
    #[default]
    No,
    /// Its records are read.
    Reading,
    /// It is whole, and being stored.
    Closing,
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
    pub fn hold(&self, partition: i32, Holding { bytes, begun }: Holding) -> Room {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match bytes {
            0 => held.bytes.remove(&partition),
            bytes => held.bytes.insert(partition, bytes),
        };
        match begun {
            Begun::No => held.begun.remove(&partition),
            Begun::Reading | Begun::Closing => held.begun.insert(partition),
        };
        if held.bytes.values().sum::<usize>() <= self.limit {
            Room::Free
        } else if begun != Begun::No {
            match begun == Begun::Reading && held.turn() == Some(partition) {
                true => Room::Free,
                false => Room::Wait,
            }
        } else if held.bytes.values().all(|other| *other <= bytes) {
            Room::CloseYours
        } else {
            Room::Wait
        }
    }
}

impl Held {
    /// The partition whose turn it is to make its begun batch to its end: of those that hold most, the
    /// one with the lowest number.
    fn turn(&self) -> Option<i32> {
        let bytes = |id: &i32| self.bytes.get(id).copied().unwrap_or(0);
        let begun = self.begun.iter().copied();
        begun.max_by_key(|id| (bytes(id), Reverse(*id)))
    }
}

impl Staging {
    /// What is held now, and the bound.
    pub fn held(&self) -> (usize, usize) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        (held.bytes.values().sum(), self.limit)
    }
}

/// How it stands with the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Below it, or it is this one's turn to make a begun batch to its end: go on.
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
        let hold = |partition, bytes| {
            let begun = Begun::No;
            staging.hold(partition, Holding { bytes, begun })
        };
        assert_eq!(hold(1, 60), Room::Free);
        assert_eq!(hold(2, 70), Room::CloseYours);
        assert_eq!(hold(1, 60), Room::Wait);
        assert_eq!(hold(2, 0), Room::Free);
    }

    #[test]
    fn begun_batches_are_made_one_after_the_other_when_memory_is_short() {
        let staging = Staging::new(100);
        let hold = |partition, bytes, begun| staging.hold(partition, Holding { bytes, begun });
        let (no, reading, closing) = (Begun::No, Begun::Reading, Begun::Closing);
        // Of the first nothing can be read: it has no leader.
        assert_eq!(hold(0, 0, reading), Room::Free);
        for partition in [3, 1, 2] {
            assert_eq!(hold(partition, 30, reading), Room::Free);
        }
        assert_eq!(hold(3, 50, reading), Room::Free, "it holds most");
        assert_eq!(hold(1, 30, reading), Room::Wait);
        assert_eq!(hold(0, 0, reading), Room::Wait);
        assert_eq!(
            hold(3, 200, reading),
            Room::Free,
            "its turn, whatever it takes"
        );
        assert_eq!(hold(9, 1, no), Room::Wait);
        // Made whole, but not stored: its memory is not there yet, for itself neither.
        assert_eq!(hold(3, 200, closing), Room::Wait);
        assert_eq!(hold(2, 30, reading), Room::Wait);
        // Given back; of two that hold as much the lower one goes on.
        assert_eq!(hold(3, 60, no), Room::CloseYours);
        assert_eq!(hold(2, 30, reading), Room::Wait);
        assert_eq!(hold(1, 30, reading), Room::Free);
        assert_eq!(hold(1, 0, no), Room::Free);
        // One that was taken away holds up nobody.
        assert_eq!(hold(2, 0, no), Room::Free);
        assert_eq!(hold(0, 500, reading), Room::Free);
    }
}
