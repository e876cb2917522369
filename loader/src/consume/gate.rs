//! The gate between workers that commit and the rebalance that takes their partitions away.
//!
//! The broker fences a member of an old generation, but librdkafka stamps a commit with the
//! generation of the moment it is *sent*, and the broker does not check that the partition belongs
//! to the member. So a commit of an old assignment could slip through under a new generation. The
//! gate closes that: one commit at a time passes it, and only with an epoch that it knows; taking
//! partitions away takes their epochs first, then waits for a commit of theirs that is under way.
//! Afterwards none is, and none can begin.
//!
//! A commit takes as long as the coordinator does. So nothing is locked meanwhile: whoever takes
//! partitions away waits for one commit at most, not for all that queue, and those of their epochs
//! that queue end at once.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Which epoch of each partition may commit, and which does.
#[derive(Debug, Default)]
pub struct Gate {
    /// Never held for longer than a look.
    state: Mutex<State>,
    /// A commit is over, or epochs were taken away.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    /// Epochs by partition.
    open: BTreeMap<i32, u64>,
    /// The partition and epoch whose commit is under way.
    under_way: Option<(i32, u64)>,
}

impl State {
    fn admits(&self, (partition, epoch): (i32, u64)) -> bool {
        self.open.get(&partition) == Some(&epoch)
    }
}

/// A commit that is under way, until this is dropped.
#[derive(Debug)]
#[must_use = "the commit is under way for as long as this lives"]
pub struct Passage<'a>(&'a Gate);

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.0.state().under_way = None;
        self.0.changed.notify_all();
    }
}

impl Gate {
    /// Opens the gate for a partition and returns its new epoch. An epoch that it had before is taken away.
    pub fn assign(&self, partition: i32) -> u64 {
        let mut epoch = 0;
        self.take_away(|state| {
            state.last += 1;
            epoch = state.last;
            state.open.insert(partition, epoch);
        });
        epoch
    }

    /// Closes the gate for these partitions: when it returns, no commit of theirs is under way or begins.
    pub fn revoke(&self, partitions: impl IntoIterator<Item = i32>) {
        self.take_away(|state| {
            for partition in partitions {
                state.open.remove(&partition);
            }
        });
    }

    /// Closes the gate for all.
    pub fn revoke_all(&self) {
        self.take_away(|state| state.open.clear());
    }

    /// Lets a commit pass, once no other is under way. None: this epoch of the partition may not, or may not
    /// any more.
    pub fn pass(&self, partition: i32, epoch: u64) -> Option<Passage<'_>> {
        let who = (partition, epoch);
        let waits = |state: &mut State| state.admits(who) && state.under_way.is_some();
        let mut state = self
            .changed
            .wait_while(self.state(), waits)
            .unwrap_or_else(PoisonError::into_inner);
        state.admits(who).then(|| {
            state.under_way = Some(who);
            Passage(self)
        })
    }

    /// Changes which epochs may commit, and waits for a commit of one that no longer may.
    fn take_away(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        self.changed.notify_all();
        let waits = |state: &mut State| state.under_way.is_some_and(|who| !state.admits(who));
        drop(self.changed.wait_while(state, waits));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// So long for what comes at once.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn an_old_epoch_never_comes_back() {
        let gate = Gate::default();
        let admits = |epoch| gate.pass(3, epoch).is_some();
        let first = gate.assign(3);
        assert!(admits(first));
        gate.revoke([3]);
        assert!(!admits(first));
        let second = gate.assign(3);
        assert!(admits(second) && !admits(first));
        let third = gate.assign(3);
        assert!(admits(third) && !admits(second));
        gate.revoke_all();
        assert!(!admits(third));
    }

    #[test]
    fn behind_a_revocation_no_commit_of_its_epochs_is_under_way() {
        let gate = Gate::default();
        for round in 0..100 {
            let epoch = gate.assign(3);
            let is_over = AtomicBool::new(false);
            let passage = gate.pass(3, epoch).unwrap();
            thread::scope(|scope| {
                let revoked = scope.spawn(|| {
                    match round % 3 {
                        0 => gate.revoke([3]),
                        1 => gate.revoke_all(),
                        _ => drop(gate.assign(3)),
                    }
                    is_over.load(Ordering::Acquire)
                });
                // It waits while the epoch is good, and ends once it is taken away: while the other is under way.
                assert!(gate.pass(3, epoch).is_none());
                thread::yield_now();
                is_over.store(true, Ordering::Release);
                drop(passage);
                assert!(revoked.join().unwrap(), "round {round}");
            });
        }
    }

    /// The coordinator does not answer: one commit is under way, and those of all others queue.
    #[test]
    fn those_that_queue_end_at_once_when_they_are_taken_away() {
        let gate = Gate::default();
        let first = gate.assign(0);
        let epochs: Vec<(i32, u64)> = (1..9).map(|id| (id, gate.assign(id))).collect();
        let passage = gate.pass(0, first).unwrap();
        let (ended, ends) = mpsc::sync_channel(8);
        thread::scope(|scope| {
            let gate = &gate;
            for (partition, epoch) in &epochs {
                let ended = ended.clone();
                scope.spawn(move || ended.send(gate.pass(*partition, *epoch).is_some()));
            }
            let revoking = scope.spawn(move || gate.revoke(1..9));
            let passed: Result<Vec<bool>, _> =
                epochs.iter().map(|_| ends.recv_timeout(PATIENCE)).collect();
            let (ended, ends) = mpsc::sync_channel(8);
            scope.spawn(move || ended.send(revoking.join().is_ok()));
            let revoked = ends.recv_timeout(PATIENCE);
            // Whatever came of it: no thread of the test waits for ever.
            drop(passage);
            assert_eq!(passed, Ok(vec![false; epochs.len()]));
            assert_eq!(revoked, Ok(true), "it waits for no commit of another");
        });
    }

    #[test]
    fn one_commit_at_a_time_passes_and_the_next_behind_it() {
        let gate = Gate::default();
        let epochs = [(3, gate.assign(3)), (4, gate.assign(4))];
        let under_way = AtomicBool::new(false);
        thread::scope(|scope| {
            for (partition, epoch) in epochs {
                let (gate, under_way) = (&gate, &under_way);
                scope.spawn(move || {
                    for _ in 0..1000 {
                        let passage = gate.pass(partition, epoch).unwrap();
                        assert!(!under_way.swap(true, Ordering::AcqRel));
                        under_way.store(false, Ordering::Release);
                        drop(passage);
                    }
                });
            }
        });
    }
}
