//! Half-open ranges of offsets, and sets of them: the arithmetic under every promise.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `[start, end)`: bytes of a file, or sample numbers of a sensor. `start <= end` always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u64, u64)", into = "(u64, u64)")]
pub struct Span {
    start: u64,
    end: u64,
}

impl Span {
    /// `[start, end)`, or nothing where `start > end`.
    pub fn new(start: u64, end: u64) -> Option<Self> {
        (start <= end).then_some(Self { start, end })
    }

    /// The empty range at `offset`.
    pub fn empty_at(offset: u64) -> Self {
        Self {
            start: offset,
            end: offset,
        }
    }

    /// First offset inside.
    pub fn start(self) -> u64 {
        self.start
    }

    /// First offset behind.
    pub fn end(self) -> u64 {
        self.end
    }

    /// How many offsets it holds.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether it holds none.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The offsets in both, or nothing where they only touch.
    pub fn intersection(self, other: Self) -> Option<Self> {
        let start = self.start.max(other.start);
        let end = self.end.min(other.end);
        (start < end).then_some(Self { start, end })
    }
}

impl TryFrom<(u64, u64)> for Span {
    type Error = &'static str;
    fn try_from((start, end): (u64, u64)) -> Result<Self, Self::Error> {
        Self::new(start, end).ok_or("a span ends before it starts")
    }
}

impl From<Span> for (u64, u64) {
    fn from(span: Span) -> Self {
        (span.start, span.end)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// Disjoint, non-empty ranges in rising order, none touching another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SpanSet(Vec<Span>);

impl SpanSet {
    /// The ranges, rising.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Span> + '_ {
        self.0.iter().copied()
    }

    /// How many separate ranges.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no offset is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many offsets are in it.
    pub fn offsets(&self) -> u64 {
        self.0.iter().map(|span| span.len()).sum()
    }

    /// Takes `span` out and returns how many offsets of it were in the set.
    pub fn remove(&mut self, span: Span) -> u64 {
        let first = self.0.partition_point(|held| held.end <= span.start);
        let last = self.0.partition_point(|held| held.start < span.end);
        if span.is_empty() || first >= last {
            return 0;
        }
        let before = Span::new(self.0[first].start, span.start).filter(|rest| !rest.is_empty());
        let after = Span::new(span.end, self.0[last - 1].end).filter(|rest| !rest.is_empty());
        let taken: u64 = self.0[first..last]
            .iter()
            .filter_map(|held| held.intersection(span))
            .map(Span::len)
            .sum();
        self.0.splice(first..last, before.into_iter().chain(after));
        taken
    }

    /// Adds a range that lies behind all others (it may touch the last).
    ///
    /// # Panics
    /// In debug builds, where it does not lie behind.
    pub fn push(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.end == span.start => last.end = span.end,
            last => {
                debug_assert!(last.is_none_or(|last| last.end < span.start));
                self.0.push(span);
            }
        }
    }

    /// Joins neighbours until at most `max` ranges are left, the nearest neighbours first: the set
    /// only grows, by as little as it can.
    pub fn coarsen(&mut self, max: usize) {
        while self.0.len() > max.max(1) {
            let nearest = (1..self.0.len())
                .min_by_key(|&i| self.0[i].start - self.0[i - 1].end)
                .unwrap_or(1);
            self.0[nearest - 1].end = self.0[nearest].end;
            self.0.remove(nearest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(start: u64, end: u64) -> Span {
        Span::new(start, end).unwrap()
    }

    #[test]
    fn removal_splits_and_trims() {
        let mut set = SpanSet::default();
        set.push(span(10, 20));
        set.push(span(30, 40));
        assert_eq!(set.remove(span(15, 35)), 10);
        assert_eq!(set.iter().collect::<Vec<_>>(), [span(10, 15), span(35, 40)]);
        assert_eq!(set.remove(span(11, 12)), 1);
        assert_eq!(set.len(), 3);
        assert_eq!(set.remove(span(0, 100)), 9);
        assert!(set.is_empty());
    }

    #[test]
    fn coarsening_joins_the_nearest() {
        let mut set = SpanSet::default();
        for (start, end) in [(0, 1), (5, 6), (7, 8), (20, 21)] {
            set.push(span(start, end));
        }
        set.coarsen(3);
        assert_eq!(
            set.iter().collect::<Vec<_>>(),
            [span(0, 1), span(5, 8), span(20, 21)]
        );
    }

    proptest! {
        #[test]
        fn a_set_is_a_set_of_offsets(steps in prop::collection::vec((0_usize..64, 0_usize..16), 0..40)) {
            let mut set = SpanSet::default();
            set.push(span(0, 80));
            let mut model: Vec<bool> = vec![true; 80];
            for (start, len) in steps {
                let gone = set.remove(span(start as u64, (start + len) as u64));
                let mut expected = 0;
                for held in &mut model[start..start + len] {
                    expected += u64::from(std::mem::take(held));
                }
                prop_assert_eq!(gone, expected);
                prop_assert_eq!(set.offsets(), model.iter().filter(|held| **held).count() as u64);
                for pair in set.0.windows(2) {
                    prop_assert!(pair[0].end < pair[1].start);
                }
            }
        }
    }
}
