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
//! It is bounded, by [`Ledger::bound`]: a record of a stream or a generation that is new and for which
//! there is no room is **unaccounted**: to be stored, since losing is worse than repeating, and counted.
//! What is known already goes on as ever. Nothing is forgotten to make room: a stream whose end was
//! forgotten would show a gap that is none, and take its re-sends for new.
//!
//! It is a plain value: the same records in the same order make the same ledger, byte for byte, so
//! a loader that takes a partition over continues it from a snapshot.

mod room;
pub mod scan;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::room::{GENERATION_BYTES, Room, STREAM_BYTES};
use crate::headers::Kind;
use crate::names::Generation;
use crate::notice::{Notice, Tail};
use crate::span::{Span, SpanSet};

/// Most separate gaps that one generation keeps. Above it the nearest two are joined, so that a
/// hostile device cannot grow the ledger without bound; a re-send of what lies between them would
/// then be stored again and reported.
pub const GAPS_MAX: usize = 1024;

/// Most reasons of losses that one generation keeps apart; the offsets of others are counted under
/// [`OTHER_REASONS`].
pub const REASONS_MAX: usize = 16;
/// What the reasons above [`REASONS_MAX`] are called.
pub const OTHER_REASONS: &str = "other";

/// What a record is, to the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// All of its span is new: store it.
    New,
    /// None of its span is new: skip it.
    Duplicate,
    /// Part of its span is new: store it, and report the repeated range.
    Overlap,
    /// Its stream or generation is new, and there is no room for it: store it, and count it.
    Unaccounted,
}

/// What a record's span did to its generation, in offsets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Covered {
    /// Of the span, what had not come.
    pub fresh: u64,
    /// Of these, what lay in gaps.
    pub filled: u64,
    /// Of the span, what had come.
    pub repeated: u64,
    /// A hole between what had come and the span: it is a gap now.
    pub opened: u64,
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
    // Each in a box of its own: a map of one, which most are, has room for eleven values.
    pub generations: BTreeMap<Generation, Box<GenerationState>>,
    /// Closed, complete generations that were forgotten: how many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retired: u64,
    /// Data records that those had.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retired_records: u64,
}

/// What was forgotten whole, since all of it was closed and complete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Streams.
    pub streams: u64,
    /// Their generations.
    pub generations: u64,
    /// Their data records.
    pub records: u64,
}

impl Forgotten {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Every stream of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Ledger {
    streams: BTreeMap<Box<str>, StreamState>,
    #[serde(skip_serializing_if = "Forgotten::is_empty")]
    forgotten: Forgotten,
    /// Records and notices for which there was no room.
    #[serde(skip_serializing_if = "is_zero")]
    unaccounted: u64,
    #[serde(skip)]
    room: Room,
}

/// A ledger as it is stored: what it takes is not, and is measured when it is read.
#[derive(Deserialize)]
struct Stored {
    streams: BTreeMap<Box<str>, StreamState>,
    #[serde(default)]
    forgotten: Forgotten,
    #[serde(default)]
    unaccounted: u64,
}

impl From<Stored> for Ledger {
    fn from(stored: Stored) -> Self {
        Self {
            room: Room::of(&stored.streams),
            streams: stored.streams,
            forgotten: stored.forgotten,
            unaccounted: stored.unaccounted,
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if gives a reference"
)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Ledger {
    /// From here on it takes up to so many bytes of memory, about; without end before. One that takes
    /// more already keeps what it has.
    pub fn bound(&mut self, bytes_max: usize) {
        self.room.max = bytes_max;
    }

    /// Takes note of a data record and says what it is. `seen_ms`: the batch clock.
    pub fn accept(
        &mut self,
        stream: &str,
        generation: Generation,
        span: Span,
        seen_ms: u64,
    ) -> Verdict {
        self.take(stream, generation, span, seen_ms).0
    }

    /// The same, and what the span did.
    pub fn take(
        &mut self,
        stream: &str,
        generation: Generation,
        span: Span,
        seen_ms: u64,
    ) -> (Verdict, Covered) {
        let Some((state, room)) = self.generation(stream, generation, seen_ms) else {
            return (Verdict::Unaccounted, Covered::default());
        };
        let covered = state.cover(span, room);
        let verdict = match covered.fresh {
            0 => {
                state.duplicates += 1;
                Verdict::Duplicate
            }
            fresh if fresh == span.len() => {
                state.records += 1;
                Verdict::New
            }
            _ => {
                state.records += 1;
                state.repeated = state.repeated.saturating_add(covered.repeated);
                Verdict::Overlap
            }
        };
        (verdict, covered)
    }

    /// Takes note of a notice. `notice` is what its value said, where that could be read: the range
    /// is accounted for either way. Returns what the span did; none where there is no room for it, and it
    /// is only counted.
    pub fn explain(
        &mut self,
        stream: &str,
        generation: Generation,
        span: Span,
        kind: Kind,
        notice: Option<&Notice>,
        seen_ms: u64,
    ) -> Option<Covered> {
        let (state, room) = self.generation(stream, generation, seen_ms)?;
        let covered = state.cover(span, room);
        let fresh = covered.fresh;
        let (reason, tail) = match notice {
            Some(Notice::Loss { reason, .. }) => (reason.as_str(), Tail::Complete),
            Some(Notice::Close { reason, tail }) => (reason.as_str(), *tail),
            Some(Notice::Filtered) => ("filtered", Tail::Complete),
            None => ("unreadable-notice", Tail::Unknown),
        };
        match kind {
            Kind::Loss if fresh > 0 => state.lose(reason, fresh, room),
            Kind::Close if state.closed.is_none() => {
                state.closed = Some(Closed {
                    reason: reason.to_owned(),
                    tail,
                });
            }
            Kind::Data | Kind::Loss | Kind::Close | Kind::Filtered => {}
        }
        Some(covered)
    }

    /// What is known of a generation, and the room for more; none where it is new and there is none.
    fn generation(
        &mut self,
        stream: &str,
        generation: Generation,
        seen_ms: u64,
    ) -> Option<(&mut GenerationState, &mut Room)> {
        let known = self.streams.get(stream);
        let cost = match known {
            None => STREAM_BYTES + stream.len() + GENERATION_BYTES,
            Some(known) if !known.generations.contains_key(&generation) => GENERATION_BYTES,
            Some(_) => 0,
        };
        if cost > 0 && !self.room.is_for(cost) {
            self.unaccounted += 1;
            return None;
        }
        self.room.held += cost;
        if known.is_none() {
            self.streams.insert(stream.into(), StreamState::default());
        }
        let stream = self.streams.get_mut(stream)?;
        let state = stream.generations.entry(generation).or_default();
        // As it is: a clock that was ahead for a batch is no measure for the next ones.
        state.seen_ms = seen_ms;
        Some((state, &mut self.room))
    }

    /// Forgets generations that are closed, without a gap, and were last named more than `keep_ms` before
    /// `clock_ms`, the clock of the batch that ends, and streams of which then nothing is left. Returns how many
    /// generations. One with a gap stays: it is what `audit` is for. One that is open stays, too, however long
    /// nothing came of it: its next record would look like one behind a gap.
    ///
    /// Batches come in the order of their records, so one that was named later than now was named by a clock that was
    /// ahead: its time begins with this batch, or it would stay until that clock is reached.
    pub fn retire(&mut self, clock_ms: u64, keep_ms: u64) -> u64 {
        let before_ms = clock_ms.saturating_sub(keep_ms);
        let mut retired = 0;
        let (forgotten, room) = (&mut self.forgotten, &mut self.room);
        self.streams.retain(|name, stream| {
            let (count, records) = stream
                .generations
                .extract_if(.., |_, state| {
                    state.seen_ms = state.seen_ms.min(clock_ms);
                    state.closed.is_some() && state.gaps.is_empty() && state.seen_ms < before_ms
                })
                .fold((0, 0), |(count, records), (_, state)| {
                    room.held = room.held.saturating_sub(state.held());
                    (count + 1, records + state.records)
                });
            stream.retired += count;
            stream.retired_records += records;
            retired += count;
            if !stream.generations.is_empty() {
                return true;
            }
            room.held = room.held.saturating_sub(STREAM_BYTES + name.len());
            forgotten.streams += 1;
            forgotten.generations += stream.retired;
            forgotten.records += stream.retired_records;
            false
        });
        retired
    }

    /// What was forgotten whole.
    pub fn forgotten(&self) -> Forgotten {
        self.forgotten
    }

    /// Takes note of a record that says of itself what cannot be read: nobody can tell whether it came before.
    pub fn note_unreadable(&mut self) {
        self.unaccounted += 1;
    }

    /// Records and notices of streams and generations for which there was no room, and those whose headers could
    /// not be read.
    pub fn unaccounted(&self) -> u64 {
        self.unaccounted
    }

    /// Memory that it takes, about, bytes.
    pub fn held(&self) -> usize {
        self.room.held
    }

    /// Every stream and what is known of it, by name.
    pub fn streams(&self) -> impl Iterator<Item = (&str, &StreamState)> {
        self.streams.iter().map(|(name, state)| (&**name, state))
    }

    /// What is known of one generation.
    pub fn get(&self, stream: &str, generation: Generation) -> Option<&GenerationState> {
        let generations = &self.streams.get(stream)?.generations;
        generations.get(&generation).map(|state| &**state)
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
    /// Marks `span` as come.
    fn cover(&mut self, span: Span, room: &mut Room) -> Covered {
        let before = self.gaps.len();
        let gaps_max = room.gaps_max(before);
        let mut opened = 0;
        if let Some(hole) = Span::new(self.settled, span.start()) {
            opened = hole.len();
            self.gaps.push(hole);
        }
        let beyond = span.end().saturating_sub(self.settled.max(span.start()));
        self.settled = self.settled.max(span.end());
        let filled = match Span::new(span.start(), span.end() - beyond) {
            Some(below) => self.gaps.remove(below),
            None => 0,
        };
        // What is filled in the middle makes two of one gap.
        self.gaps.coarsen(gaps_max);
        room.gaps_changed(before, self.gaps.len());
        let fresh = filled + beyond;
        Covered {
            fresh,
            filled,
            repeated: span.len() - fresh,
            opened,
        }
    }

    /// Counts offsets that will not come.
    fn lose(&mut self, reason: &str, offsets: u64, room: &mut Room) {
        if let Some(lost) = self.lost.get_mut(reason) {
            *lost = lost.saturating_add(offsets);
            return;
        }
        let reason = match self.lost.len() < REASONS_MAX && room.is_for(room::of_reason(reason)) {
            true => reason,
            false => OTHER_REASONS,
        };
        if !self.lost.contains_key(reason) {
            room.held += room::of_reason(reason);
        }
        let lost = self.lost.entry(reason.to_owned()).or_default();
        *lost = lost.saturating_add(offsets);
    }
}

#[cfg(test)]
mod tests;
