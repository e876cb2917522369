//! The memory that batches of all partitions hold, and the counts of what became of records.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::partition::batch::Counts;
use crate::pipeline::Pipeline;

/// One bound over all partitions, in bytes. Above it nobody reads further, and the partition that
/// holds most closes its batch early, until there is room again.
///
/// A batch that was begun before has to be made to its end, and cannot be closed early: above the bound
/// one partition alone goes on with its own, the one that holds most, and then the next. So a loader that
/// takes many over at once (the others died for want of memory) makes one after the other; and one of which
/// nothing can be read holds nothing, and holds up nobody.
///
/// Out of the same bound comes what is known of the partitions: their state (ledgers, open windows, accounts of the
/// day), which grows with the fleet, and which closing a batch does not give back. What is left of the bound is the
/// room of batches: a quarter of it at least, so that there is always some progress, in smaller batches.
///
/// And the tables of pipelines that are the configuration's no more: batches that were begun by them are made with
/// those, and the memory plan knows the configuration's alone.
///
/// What a worker holds is entered at its [`Place`], and gone when that is dropped: however a worker ends, nothing
/// of it stays counted.
#[derive(Debug)]
pub struct Staging {
    limit: usize,
    held: Mutex<Held>,
}

/// A partition, and which worker of it: one that ends late is not the one that came after it.
type Who = (i32, u64);

#[derive(Debug, Default)]
struct Held {
    bytes: BTreeMap<Who, usize>,
    state: BTreeMap<Who, usize>,
    /// Pipelines whose tables no plan has, as long as somebody uses them.
    unplanned: Vec<Weak<Pipeline>>,
    /// Whether it was said that the state takes most of it.
    said: bool,
    /// Those that make a begun batch again.
    begun: BTreeSet<Who>,
    /// Places that were given so far.
    places: u64,
}

/// Where one worker of a partition enters what it holds, for as long as it lives.
#[derive(Debug)]
pub struct Place<'a> {
    staging: &'a Staging,
    who: Who,
}

/// What a partition has in memory, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holding {
    /// Bytes of its batches.
    pub bytes: usize,
    /// Bytes of its state.
    pub state: usize,
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

    /// A place for a worker of this partition.
    pub fn place(&self, partition: i32) -> Place<'_> {
        let mut held = self.lock();
        held.places += 1;
        Place {
            staging: self,
            who: (partition, held.places),
        }
    }

    /// Counts the tables of a pipeline that the memory plan does not have, once, for as long as something is made
    /// with it.
    pub fn unplanned(&self, pipeline: &Arc<Pipeline>) {
        let mut held = self.lock();
        held.unplanned.retain(|known| known.strong_count() > 0);
        let pipeline = Arc::downgrade(pipeline);
        if !held.unplanned.iter().any(|known| known.ptr_eq(&pipeline)) {
            held.unplanned.push(pipeline);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Enters what is held now, and says how it stands with the bound.
    pub fn hold(&self, holding: Holding) -> Room {
        let Holding {
            bytes,
            state,
            begun,
        } = holding;
        let mut held = self.staging.lock();
        enter(&mut held.bytes, self.who, bytes);
        enter(&mut held.state, self.who, state);
        self.staging.warn(&mut held);
        match begun {
            Begun::No => held.begun.remove(&self.who),
            Begun::Reading | Begun::Closing => held.begun.insert(self.who),
        };
        if held.bytes.values().sum::<usize>() <= self.staging.room(&held) {
            Room::Free
        } else if begun != Begun::No {
            match begun == Begun::Reading && held.turn() == Some(self.who) {
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

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut held = self.staging.lock();
        held.bytes.remove(&self.who);
        held.state.remove(&self.who);
        held.begun.remove(&self.who);
    }
}

impl Held {
    /// What is known of partitions, and tables that no plan has.
    fn beside_batches(&self) -> usize {
        let tables = self.unplanned.iter().filter_map(Weak::upgrade);
        let tables: usize = tables.map(|pipeline| pipeline.tables_held()).sum();
        self.state.values().sum::<usize>() + tables
    }

    /// Whose turn it is to make a begun batch to its end: of those that hold most, the partition with the
    /// lowest number.
    fn turn(&self) -> Option<Who> {
        let bytes = |who: &Who| self.bytes.get(who).copied().unwrap_or(0);
        let begun = self.begun.iter().copied();
        begun.max_by_key(|who| (bytes(who), Reverse(*who)))
    }
}

fn enter(of: &mut BTreeMap<Who, usize>, who: Who, bytes: usize) {
    match bytes {
        0 => of.remove(&who),
        bytes => of.insert(who, bytes),
    };
}

impl Staging {
    /// What batches hold now, and their room.
    pub fn held(&self) -> (usize, usize) {
        let held = self.lock();
        (held.bytes.values().sum(), self.room(&held))
    }

    /// What the state of all partitions takes now, tables of old pipelines with it, and for how much of that there is room beside batches.
    pub fn state(&self) -> (usize, usize) {
        (self.lock().beside_batches(), self.state_max())
    }

    /// What there is for batches beside the state.
    fn room(&self, held: &Held) -> usize {
        self.limit - held.beside_batches().min(self.state_max())
    }

    fn state_max(&self) -> usize {
        self.limit - self.limit / 4
    }

    /// Says once that there is little room for batches any more.
    fn warn(&self, held: &mut Held) {
        // Tables of old pipelines go again, and there is nothing to be done about them.
        let state = held.state.values().sum::<usize>();
        if state <= self.limit / 2 || std::mem::replace(&mut held.said, true) {
            return;
        }
        let bytes = |n: usize| headwater_msk::Bytes(n.next_multiple_of(1024) as u64).to_string();
        tracing::warn!(
            state = bytes(state),
            of = bytes(self.limit),
            "what is known of the partitions (ledgers, open windows, accounts) takes more than half of the memory \
             that batches share with it: batches get smaller, and beyond three quarters it is more than was planned. \
             Raise limits.memory, run more loaders, or lower limits.ledger"
        );
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
    use crate::pipeline::tests::pipeline_over;

    #[test]
    fn the_bound_is_over_all() {
        let staging = Staging::new(100);
        let places = [0, 1, 2].map(|partition| staging.place(partition));
        let hold = |partition: usize, bytes| {
            places[partition].hold(Holding {
                bytes,
                ..Holding::default()
            })
        };
        assert_eq!(hold(1, 60), Room::Free);
        assert_eq!(hold(2, 70), Room::CloseYours);
        assert_eq!(hold(1, 60), Room::Wait);
        assert_eq!(hold(2, 0), Room::Free);
    }

    /// A pipeline of before, which several partitions finish their batches with.
    #[test]
    fn tables_that_no_plan_has_take_the_room_of_batches_once_while_they_are_used() {
        let table = format!("id,site\n1,{}\n", "x".repeat(10_000)).into_bytes();
        let tables = [("t".to_owned(), table)].into();
        let steps = "[[transform]]\nstep='lookup'\ntable='t'\nfield='id'\n";
        let old = Arc::new(pipeline_over(steps, "all", &tables));
        let staging = Staging::new(100_000);
        let (state, room) = (staging.state().0, staging.held().1);
        for _ in 0..3 {
            staging.unplanned(&old);
        }
        let held = old.tables_held();
        assert!(held > 10_000);
        assert_eq!(staging.state().0, state + held);
        assert_eq!(staging.held().1, room - held);
        drop(old);
        assert_eq!((staging.state().0, staging.held().1), (state, room));
    }

    #[test]
    fn what_is_known_of_partitions_takes_the_room_of_batches_and_leaves_a_quarter() {
        let staging = Staging::new(100);
        let places = [0, 1].map(|partition| staging.place(partition));
        let hold = |partition: usize, bytes, state| {
            let begun = Begun::No;
            places[partition].hold(Holding {
                bytes,
                state,
                begun,
            })
        };
        assert_eq!(hold(0, 60, 40), Room::Free);
        assert!(!staging.lock().said);
        assert_eq!(hold(1, 0, 1), Room::Wait);
        assert_eq!((staging.held(), staging.state()), ((60, 59), (41, 75)));
        assert_eq!(hold(0, 60, 40), Room::CloseYours);
        assert_eq!(hold(0, 20, 50), Room::Free);
        assert!(staging.lock().said, "more than half");
        // Beyond what there is for it batches have their part all the same.
        assert_eq!(hold(1, 5, 300), Room::Free);
        assert_eq!((staging.held(), staging.state()), ((25, 25), (350, 75)));
        assert_eq!(hold(1, 6, 300), Room::Wait);
        drop(places);
        assert_eq!((staging.held(), staging.state()), ((0, 100), (0, 75)));
    }

    /// The same partition comes back before its last worker has ended.
    #[test]
    fn whoever_goes_takes_what_it_holds_along_and_nothing_else() {
        let staging = Staging::new(100);
        let of = |bytes, begun| Holding {
            bytes,
            begun,
            state: 0,
        };
        let (before, other) = (staging.place(1), staging.place(2));
        assert_eq!(before.hold(of(90, Begun::Reading)), Room::Free);
        assert_eq!(other.hold(of(20, Begun::Reading)), Room::Wait);
        let after = staging.place(1);
        assert_eq!(after.hold(of(30, Begun::No)), Room::Wait);
        drop(before);
        assert_eq!(staging.held(), (50, 100));
        assert_eq!(other.hold(of(120, Begun::Reading)), Room::Free);
        drop((after, other));
        assert_eq!(staging.held(), (0, 100));
    }

    #[test]
    fn begun_batches_are_made_one_after_the_other_when_memory_is_short() {
        let staging = Staging::new(100);
        let places: Vec<Place<'_>> = (0..10).map(|partition| staging.place(partition)).collect();
        let hold = |partition: usize, bytes, begun| {
            places[partition].hold(Holding {
                bytes,
                begun,
                state: 0,
            })
        };
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
