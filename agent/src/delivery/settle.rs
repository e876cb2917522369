//! How far each generation is settled: batches settle in any order, and a checkpoint is the offset
//! below which all of them have. Pure.
//!
//! ```text
//!   committed      settled                       queued
//!  ─────┴─────────────┴──[ unsettled ][ settled ]───┴────►  offsets of one generation
//!       └─ moved: due ┘               └ parked until the span before it settles
//! ```

use std::collections::BTreeMap;

use headwater_record::Generation;

use crate::spool::Checkpoint;

/// A batch's range, as far as settling is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Whose.
    pub generation: Generation,
    /// First offset.
    pub start: u64,
    /// Offset behind the last.
    pub end: u64,
    /// Whether the generation ends with it.
    pub closes: bool,
}

/// What a checkpoint of a generation would change now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// Nothing: what lies before is not settled.
    Nothing,
    /// Its settled offset.
    Forward,
    /// It would be forgotten: all of it is settled.
    Closed,
}

/// What is settled, of every generation that gave a batch since the start.
#[derive(Debug, Clone, Default)]
pub struct Settling {
    generations: BTreeMap<Generation, Progress>,
}

/// How far a generation was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// Offset behind its last batch.
    pub end: u64,
    /// That batch closes it.
    pub closes: bool,
}

#[derive(Debug, Clone)]
struct Progress {
    given: Given,
    /// What the database says, or will once the last commit's answer is here.
    committed: u64,
    settled: u64,
    /// Settled stretches above `settled`, end by start, those that join as one: never more than there are
    /// batches that are not settled.
    parked: BTreeMap<u64, u64>,
    /// Where the generation ends, once the stretch that closes it is settled.
    end: Option<u64>,
}

impl Settling {
    /// Takes note of a stretch that is to settle. Of one generation they come in order.
    pub fn expect(&mut self, stretch: Stretch) {
        let given = Given {
            end: stretch.end,
            closes: stretch.closes,
        };
        self.generations
            .entry(stretch.generation)
            .or_insert(Progress {
                given,
                committed: stretch.start,
                settled: stretch.start,
                parked: BTreeMap::new(),
                end: None,
            })
            .given = given;
    }

    /// How far each generation was given that gave a batch since the start, and is not forgotten yet.
    pub fn given(&self) -> BTreeMap<Generation, Given> {
        let generations = self.generations.iter();
        generations
            .map(|(generation, progress)| (*generation, progress.given))
            .collect()
    }

    /// A stretch is settled: acknowledged, or in the spool. Says what a checkpoint would gain.
    pub fn settle(&mut self, stretch: Stretch) -> Moved {
        let Some(progress) = self.generations.get_mut(&stretch.generation) else {
            return Moved::Nothing;
        };
        progress.settle(stretch);
        match (progress.is_closed(), progress.moved()) {
            (true, _) => Moved::Closed,
            (false, true) => Moved::Forward,
            (false, false) => Moved::Nothing,
        }
    }

    /// Ranges that are settled and above what the database says: acknowledged, or in rows that came
    /// to the spool before what lies below them.
    pub fn beyond_checkpoints(&self) -> Vec<(Generation, u64, u64)> {
        let mut beyond = Vec::new();
        for (generation, progress) in &self.generations {
            if progress.settled > progress.committed {
                beyond.push((*generation, progress.committed, progress.settled));
            }
            let parked = progress.parked.iter();
            beyond.extend(parked.map(|(start, end)| (*generation, *start, *end)));
        }
        beyond
    }

    /// Whether a commit would move anything.
    pub fn moved(&self) -> bool {
        self.generations.values().any(Progress::moved)
    }

    /// Whether a commit would let a generation go.
    pub fn any_closed(&self) -> bool {
        self.generations.values().any(Progress::is_closed)
    }

    /// What to commit together with rows of the stretches `spooling`: each generation in which
    /// something moved, as it is once they are settled.
    pub fn checkpoints(&self, spooling: impl IntoIterator<Item = Stretch>) -> Vec<Checkpoint> {
        let mut ahead: BTreeMap<Generation, Progress> = BTreeMap::new();
        for stretch in spooling {
            let Some(progress) = self.generations.get(&stretch.generation) else {
                continue;
            };
            ahead
                .entry(stretch.generation)
                .or_insert_with(|| progress.clone())
                .settle(stretch);
        }
        self.generations
            .iter()
            .map(|(generation, progress)| (*generation, ahead.get(generation).unwrap_or(progress)))
            .filter(|(_, progress)| progress.moved())
            .map(|(generation, progress)| Checkpoint {
                generation,
                settled: progress.settled,
                closed: progress.is_closed(),
            })
            .collect()
    }

    /// The checkpoints are committed: closed generations are forgotten.
    pub fn committed(&mut self, checkpoints: &[Checkpoint]) {
        for checkpoint in checkpoints {
            if checkpoint.closed {
                self.generations.remove(&checkpoint.generation);
            } else if let Some(progress) = self.generations.get_mut(&checkpoint.generation) {
                progress.committed = checkpoint.settled;
            }
        }
    }
}

impl Progress {
    fn settle(&mut self, stretch: Stretch) {
        if stretch.closes {
            self.end = Some(stretch.end);
        }
        if stretch.start > self.settled {
            self.park(stretch.start, stretch.end);
            return;
        }
        self.settled = self.settled.max(stretch.end);
        while let Some(first) = self.parked.first_entry() {
            if *first.key() > self.settled {
                break;
            }
            self.settled = self.settled.max(first.remove());
        }
    }

    fn park(&mut self, mut start: u64, mut end: u64) {
        let before = self.parked.range(..start).next_back();
        if let Some((before, reach)) = before.filter(|(_, reach)| **reach >= start) {
            (start, end) = (*before, end.max(*reach));
        }
        while let Some((behind, reach)) = self.parked.range(start..=end).next() {
            let (behind, reach) = (*behind, *reach);
            self.parked.remove(&behind);
            end = end.max(reach);
        }
        self.parked.insert(start, end);
    }

    fn is_closed(&self) -> bool {
        self.end.is_some_and(|end| self.settled >= end)
    }

    fn moved(&self) -> bool {
        self.settled > self.committed || self.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const G: Generation = Generation(7);

    fn stretch(start: u64, end: u64, closes: bool) -> Stretch {
        Stretch {
            generation: G,
            start,
            end,
            closes,
        }
    }

    fn at(settled: u64, closed: bool) -> Vec<Checkpoint> {
        vec![Checkpoint {
            generation: G,
            settled,
            closed,
        }]
    }

    #[test]
    fn a_checkpoint_waits_for_the_lowest() {
        let mut settling = Settling::default();
        let (a, b, close) = (
            stretch(100, 200, false),
            stretch(200, 300, false),
            stretch(300, 300, true),
        );
        for each in [a, b, close] {
            settling.expect(each);
        }
        settling.settle(close);
        settling.settle(b);
        assert!(!settling.moved(), "the first is not settled");
        assert_eq!(
            settling.checkpoints([a]),
            at(300, true),
            "its row would be, in the same commit"
        );
        assert!(
            settling.checkpoints([]).is_empty(),
            "and nothing was settled by asking"
        );
        settling.settle(a);
        settling.committed(&at(300, true));
        assert!(settling.generations.is_empty());
    }

    #[test]
    fn an_empty_close_is_not_settled_by_what_lies_before_it() {
        let mut settling = Settling::default();
        let (a, close) = (stretch(0, 10, false), stretch(10, 10, true));
        settling.expect(a);
        settling.expect(close);
        settling.settle(a);
        assert_eq!(settling.checkpoints([]), at(10, false));
        settling.committed(&at(10, false));
        assert!(!settling.moved());
        settling.settle(close);
        assert_eq!(settling.checkpoints([]), at(10, true));
    }

    #[test]
    fn what_settles_during_a_commit_is_for_the_next() {
        let mut settling = Settling::default();
        let (a, b) = (stretch(0, 10, false), stretch(10, 20, false));
        settling.expect(a);
        settling.expect(b);
        assert_eq!(settling.settle(a), Moved::Forward);
        let under_way = settling.checkpoints([]);
        assert_eq!(settling.settle(b), Moved::Forward);
        settling.committed(&under_way);
        assert_eq!(settling.checkpoints([]), at(20, false));
    }

    #[test]
    fn what_settles_behind_one_that_does_not_is_remembered_as_one() {
        let mut settling = Settling::default();
        for start in 0..1000 {
            settling.expect(stretch(start, start + 1, false));
        }
        // Every second one first, and then those between.
        for start in (2..1000).step_by(2).chain((3..1000).step_by(2)) {
            assert_eq!(
                settling.settle(stretch(start, start + 1, false)),
                Moved::Nothing
            );
        }
        assert_eq!(settling.beyond_checkpoints(), [(G, 2, 1000)]);
        settling.settle(stretch(0, 1, false));
        settling.settle(stretch(1, 2, false));
        assert_eq!(settling.checkpoints([]), at(1000, false));
    }

    proptest! {
        /// Against a naive model: an offset is settled when every stretch that starts below it is.
        #[test]
        fn settled_is_the_longest_prefix(
            start in 0_u64..100,
            lengths in prop::collection::vec(0_u64..5, 1..30),
            order in prop::collection::vec(any::<prop::sample::Index>(), 30),
        ) {
            let mut settling = Settling::default();
            let mut stretches = Vec::new();
            let mut end = start;
            for (i, length) in lengths.iter().enumerate() {
                stretches.push(stretch(end, end + length, i + 1 == lengths.len()));
                end += length;
                settling.expect(stretches[i]);
            }
            let mut done = vec![false; stretches.len()];
            let mut committed = start;
            for pick in order {
                let i = pick.index(stretches.len());
                // Asked ahead, and told afterwards, it says the same.
                let ahead = settling.checkpoints([stretches[i]]);
                settling.settle(stretches[i]);
                prop_assert_eq!(&ahead, &settling.checkpoints([]));
                done[i] = true;
                let settled = stretches.iter().zip(&done).take_while(|(_, done)| **done).last().map_or(start, |(s, _)| s.end);
                let closed = done.iter().all(|done| *done);
                prop_assert!(stretches.iter().zip(&done).filter(|(_, done)| !**done).all(|(s, _)| settled <= s.start));
                // What an empty stretch holds back, no offset shows.
                let reach = stretches.iter().zip(&done).filter(|(s, done)| !**done && s.end > s.start).map(|(s, _)| s.start).min().unwrap_or(end);
                match settling.checkpoints([]).first() {
                    Some(checkpoint) => {
                        prop_assert!((settled..=reach).contains(&checkpoint.settled));
                        prop_assert_eq!(checkpoint.closed, done[done.len() - 1] && checkpoint.settled == end);
                        if checkpoint.closed {
                            break;
                        }
                        settling.committed(&at(checkpoint.settled, false));
                        committed = checkpoint.settled;
                    }
                    None => prop_assert!(settled <= committed && !closed),
                }
            }
        }
    }
}
