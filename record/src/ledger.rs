//! The ledger: which offsets of which generation have come, and what to do with one more record.
//!
//! Per (stream, generation) it keeps the *settled end* (everything below has come, but for the open
//! gaps), the gaps, counts, and the close. What a record brings is measured against that:
//!
//! ```text
//!   settled end ─────────────────────┐
//!   [covered     ][ gap ][covered    ]
//!        [dup]     [new]       [overlap     ]        [new, opens a gap before it]
//! ```
//!
//! - nothing of its span is new: a **duplicate** (a re-send), to be skipped;
//! - all of it is new: **new**; where it starts behind the settled end, the hole becomes a gap,
//!   open until a re-send or a loss notice covers it;
//! - some of it is new (boundaries moved between two readings): an **overlap**, to be stored, since
//!   losing is worse than repeating, and reported.
//!
//! It is a plain value: the same records in the same order make the same ledger, byte for byte, so
//! a loader that takes a partition over continues it from a snapshot.

pub mod scan;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::headers::Kind;
use crate::names::Generation;
use crate::notice::{Notice, Tail};
use crate::span::{Span, SpanSet};

/// Most separate gaps that one generation keeps. Above it the nearest two are joined, so that a
/// hostile device cannot grow the ledger without bound; a re-send of what lies between them would
/// then be stored again and reported.
pub const GAPS_MAX: usize = 1024;

/// What a record is, to the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// All of its span is new: store it.
    New,
    /// None of its span is new: skip it.
    Duplicate,
    /// Part of its span is new: store it, and report the repeated range.
    Overlap,
}

/// What is known of one generation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationState {
    /// Every offset below has come or lies in a gap.
    pub settled: u64,
    /// Offsets below `settled` that have not come.
    #[serde(default, skip_serializing_if = "SpanSet::is_empty")]
    pub gaps: SpanSet,
    /// Data records accepted (new or overlapping).
    #[serde(default)]
    pub records: u64,
    /// Records skipped as duplicates.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duplicates: u64,
    /// Offsets that overlapping records brought a second time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repeated: u64,
    /// Offsets that loss notices gave up, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost: BTreeMap<String, u64>,
    /// Reason and tail of the close, once it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Closed>,
    /// Batch clock of the last record that named it, Unix milliseconds.
    pub seen_ms: u64,
}

/// How a generation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Why.
    pub reason: String,
    /// Whether anything may be missing before its end.
    pub tail: Tail,
}

/// What is known of one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamState {
    /// Its generations that are open, or were closed not long ago.
    pub generations: BTreeMap<Generation, GenerationState>,
    /// Closed, complete generations that were forgotten: how many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retired: u64,
    /// Data records that those had.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retired_records: u64,
}

/// Every stream of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    streams: BTreeMap<Box<str>, StreamState>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if gives a reference"
)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Ledger {
    /// Takes note of a data record and says what it is. `seen_ms`: the batch clock.
    pub fn accept(
        &mut self,
        stream: &str,
        generation: Generation,
        span: Span,
        seen_ms: u64,
    ) -> Verdict {
        let state = self.generation(stream, generation, seen_ms);
        let fresh = state.cover(span);
        match fresh {
            0 => {
                state.duplicates += 1;
                Verdict::Duplicate
            }
            fresh if fresh == span.len() => {
                state.records += 1;
                Verdict::New
            }
            fresh => {
                state.records += 1;
                state.repeated += span.len() - fresh;
                Verdict::Overlap
            }
        }
    }

    /// Takes note of a notice. `notice` is what its value said, where that could be read: the range
    /// is accounted for either way.
    pub fn explain(
        &mut self,
        stream: &str,
        generation: Generation,
        span: Span,
        kind: Kind,
        notice: Option<&Notice>,
        seen_ms: u64,
    ) {
        let state = self.generation(stream, generation, seen_ms);
        let fresh = state.cover(span);
        let (reason, tail) = match notice {
            Some(Notice::Loss { reason, .. }) => (reason.as_str(), Tail::Complete),
            Some(Notice::Close { reason, tail }) => (reason.as_str(), *tail),
            Some(Notice::Filtered) => ("filtered", Tail::Complete),
            None => ("unreadable-notice", Tail::Unknown),
        };
        match kind {
            Kind::Loss if fresh > 0 => *state.lost.entry(reason.to_owned()).or_default() += fresh,
            Kind::Close if state.closed.is_none() => {
                state.closed = Some(Closed {
                    reason: reason.to_owned(),
                    tail,
                });
            }
            Kind::Data | Kind::Loss | Kind::Close | Kind::Filtered => {}
        }
    }

    fn generation(
        &mut self,
        stream: &str,
        generation: Generation,
        seen_ms: u64,
    ) -> &mut GenerationState {
        if !self.streams.contains_key(stream) {
            self.streams.insert(stream.into(), StreamState::default());
        }
        let stream = self
            .streams
            .get_mut(stream)
            .expect("it was put there above");
        let state = stream.generations.entry(generation).or_default();
        state.seen_ms = state.seen_ms.max(seen_ms);
        state
    }

    /// Forgets generations that are closed, without a gap, and were last named before `before_ms`
    /// (Unix milliseconds). Returns how many. One with a gap stays: it is what `audit` is for.
    pub fn retire(&mut self, before_ms: u64) -> u64 {
        let mut retired = 0;
        for stream in self.streams.values_mut() {
            let (count, records) = stream
                .generations
                .extract_if(.., |_, state| {
                    state.closed.is_some() && state.gaps.is_empty() && state.seen_ms < before_ms
                })
                .fold((0, 0), |(count, records), (_, state)| {
                    (count + 1, records + state.records)
                });
            stream.retired += count;
            stream.retired_records += records;
            retired += count;
        }
        retired
    }

    /// Every stream and what is known of it, by name.
    pub fn streams(&self) -> impl Iterator<Item = (&str, &StreamState)> {
        self.streams.iter().map(|(name, state)| (&**name, state))
    }

    /// What is known of one generation.
    pub fn get(&self, stream: &str, generation: Generation) -> Option<&GenerationState> {
        self.streams.get(stream)?.generations.get(&generation)
    }

    /// Open gaps over all streams: ranges that nothing explains.
    pub fn unexplained_gaps(&self) -> usize {
        self.streams
            .values()
            .flat_map(|stream| stream.generations.values())
            .map(|state| state.gaps.len())
            .sum()
    }
}

impl GenerationState {
    /// Marks `span` as come and returns how many of its offsets had not.
    fn cover(&mut self, span: Span) -> u64 {
        if let Some(hole) = Span::new(self.settled, span.start()) {
            self.gaps.push(hole);
            self.gaps.coarsen(GAPS_MAX);
        }
        let beyond = span.end().saturating_sub(self.settled.max(span.start()));
        self.settled = self.settled.max(span.end());
        let filled = match Span::new(span.start(), span.end() - beyond) {
            Some(below) => self.gaps.remove(below),
            None => 0,
        };
        filled + beyond
    }
}

#[cfg(test)]
mod tests;
