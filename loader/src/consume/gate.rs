//! The gate between workers that commit and the rebalance that takes their partitions away.
//!
//! The broker fences a member of an old generation, but librdkafka stamps a commit with the
//! generation of the moment it is *sent*, and the broker does not check that the partition belongs
//! to the member. So a commit of an old assignment could slip through under a new generation. The
//! gate closes that: a commit holds it while it is under way, taking partitions away waits for it,
//! and afterwards the old epoch is refused here.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Which epoch of each partition may commit.
#[derive(Debug, Default)]
pub struct Gate {
    open: Mutex<Epochs>,
}

/// Epochs by partition; held while a commit is under way.
#[derive(Debug, Default)]
pub struct Epochs {
    last: u64,
    by_partition: BTreeMap<i32, u64>,
}

impl Gate {
    /// Enters the gate; others wait until the guard is dropped.
    pub fn enter(&self) -> MutexGuard<'_, Epochs> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Epochs {
    /// Opens the gate for a partition and returns its new epoch.
    pub fn assign(&mut self, partition: i32) -> u64 {
        self.last += 1;
        self.by_partition.insert(partition, self.last);
        self.last
    }

    /// Closes the gate for a partition.
    pub fn revoke(&mut self, partition: i32) {
        self.by_partition.remove(&partition);
    }

    /// Closes the gate for all.
    pub fn revoke_all(&mut self) {
        self.by_partition.clear();
    }

    /// Whether this epoch of the partition may commit.
    pub fn admits(&self, partition: i32, epoch: u64) -> bool {
        self.by_partition.get(&partition) == Some(&epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_epoch_never_comes_back() {
        let gate = Gate::default();
        let first = gate.enter().assign(3);
        assert!(gate.enter().admits(3, first));
        gate.enter().revoke(3);
        assert!(!gate.enter().admits(3, first));
        let second = gate.enter().assign(3);
        assert!(gate.enter().admits(3, second) && !gate.enter().admits(3, first));
        gate.enter().revoke_all();
        assert!(!gate.enter().admits(3, second));
    }
}
