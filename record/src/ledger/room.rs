//! What a ledger takes of memory, about, and how much it may: the arithmetic of its bound. The same
//! ledger takes the same, whether it grew or was read, on every machine: what is taken in rests on it.

use std::collections::BTreeMap;

use super::{GAPS_MAX, GenerationState, StreamState};

/// A stream, beside its name's bytes.
pub(super) const STREAM_BYTES: usize = 260;
/// A generation, beside its gaps and reasons.
pub(super) const GENERATION_BYTES: usize = 200;
/// A reason, beside its bytes.
const REASON_BYTES: usize = 64;
/// A gap.
const GAP_BYTES: usize = size_of::<(u64, u64)>();

/// What is taken, and what may be, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) held: usize,
    pub(super) max: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            held: 0,
            max: usize::MAX,
        }
    }
}

impl Room {
    /// What these streams take, without a bound.
    pub(super) fn of(streams: &BTreeMap<Box<str>, StreamState>) -> Self {
        let names = streams.keys().map(|name| STREAM_BYTES + name.len());
        let states = streams
            .values()
            .flat_map(|stream| stream.generations.values());
        let states = states.map(|state| state.held());
        Self {
            held: names.chain(states).sum(),
            ..Self::default()
        }
    }

    /// Whether so many bytes more may be taken.
    pub(super) fn is_for(&self, bytes: usize) -> bool {
        self.held.saturating_add(bytes) <= self.max
    }

    /// How many gaps a generation may have that has this many. Where nothing more fits, as many and one at
    /// least: then the nearest are joined, as above [`GAPS_MAX`].
    pub(super) fn gaps_max(&self, gaps: usize) -> usize {
        match self.is_for(GAP_BYTES) {
            true => GAPS_MAX,
            false => gaps.clamp(1, GAPS_MAX),
        }
    }

    pub(super) fn gaps_changed(&mut self, before: usize, after: usize) {
        self.held = (self.held + GAP_BYTES * after).saturating_sub(GAP_BYTES * before);
    }
}

/// What a reason of a loss takes.
pub(super) fn of_reason(reason: &str) -> usize {
    REASON_BYTES + reason.len()
}

impl GenerationState {
    /// What it takes.
    pub(super) fn held(&self) -> usize {
        let reasons = self.lost.keys().map(|reason| of_reason(reason));
        GENERATION_BYTES + GAP_BYTES * self.gaps.len() + reasons.sum::<usize>()
    }
}
