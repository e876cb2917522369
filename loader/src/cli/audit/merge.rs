//! Sorted runs made one sorted sequence, a few at a time: what is in memory is an entry of each.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io;

use super::spool::{Entries, Run, Sorted, Spool};

/// Runs that are read at once: each holds about half a MiB.
const RUNS_MAX: usize = 32;

/// Makes longer runs of short ones, until all that are left can be read at once.
pub(super) fn shorten<T: Sorted>(
    mut spool: Spool,
    mut runs: Vec<Run>,
) -> io::Result<(Spool, Vec<Run>)> {
    while runs.len() > RUNS_MAX {
        let mut longer = Spool::default();
        let mut made = Vec::new();
        for some in runs.chunks(RUNS_MAX) {
            let mut run = longer.begin()?;
            for entry in Merged::<T>::new(&spool, some)? {
                run.put(&entry?)?;
            }
            made.push(run.finish()?);
        }
        // What was read gives its room back here.
        (spool, runs) = (longer, made);
    }
    Ok((spool, runs))
}

/// All entries of some runs, in order.
pub(super) struct Merged<'a, T> {
    runs: Vec<Entries<'a, T>>,
    heads: BinaryHeap<Head<T>>,
}

/// The next entry of a run. The largest one is the one that is next.
struct Head<T> {
    entry: T,
    run: usize,
}

impl<T: Sorted> Ord for Head<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.entry.order(&other.entry);
        order.then(self.run.cmp(&other.run)).reverse()
    }
}

impl<T: Sorted> PartialOrd for Head<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Sorted> PartialEq for Head<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Sorted> Eq for Head<T> {}

impl<'a, T: Sorted> Merged<'a, T> {
    pub(super) fn new(spool: &'a Spool, runs: &[Run]) -> io::Result<Self> {
        let mut merged = Self {
            runs: Vec::new(),
            heads: BinaryHeap::new(),
        };
        for (number, run) in runs.iter().enumerate() {
            merged.runs.push(spool.read(*run)?);
            merged.follow(number)?;
        }
        Ok(merged)
    }

    fn follow(&mut self, run: usize) -> io::Result<()> {
        if let Some(entry) = self.runs[run].next() {
            let entry = entry?;
            self.heads.push(Head { entry, run });
        }
        Ok(())
    }
}

impl<T: Sorted> Iterator for Merged<'_, T> {
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<io::Result<T>> {
        let Head { entry, run } = self.heads.pop()?;
        Some(self.follow(run).map(|()| entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Sorted for (u64, u64) {
        fn order(&self, other: &Self) -> Ordering {
            self.cmp(other)
        }
    }

    /// More runs than are read at once, and more bytes than are held in memory.
    #[test]
    fn many_runs_become_one_order() {
        let mut spool = Spool::default();
        let mut runs = Vec::new();
        let mut expected = Vec::new();
        let mut number = 7_u64;
        for run in 0..1100_u64 {
            let mut entries: Vec<(u64, u64)> = (0..1 + run % 900)
                .map(|_| {
                    number = number
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    (number, run)
                })
                .collect();
            entries.sort_unstable();
            let mut writing = spool.begin().unwrap();
            entries.iter().for_each(|entry| writing.put(entry).unwrap());
            runs.push(writing.finish().unwrap());
            expected.extend(entries);
        }
        expected.sort_unstable();
        let (spool, runs) = shorten::<(u64, u64)>(spool, runs).unwrap();
        assert_eq!(runs.len(), 2);
        let merged = Merged::<(u64, u64)>::new(&spool, &runs).unwrap();
        let merged: Vec<(u64, u64)> = merged.map(Result::unwrap).collect();
        assert!(merged == expected);
    }
}
