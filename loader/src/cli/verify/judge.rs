//! Whether the names of one partition tile, from where they have to begin up to where they have to end.
//!
//! A state says both: see [`Named`]. Its objects were stored before it, so what ends at or below that has to be there.
//! What ends behind is being written, and is not judged. Where only older loaders wrote states, these say no more than
//! how far they are: then what ends behind them is being written, and what is missing at either end is not seen. In a
//! function of Lambda and in a stretch a state is no such border, and all is judged.

use std::collections::BTreeMap;

use serde::Serialize;

use super::known::{States, Stretch};
use crate::name::ObjectName;
use crate::state::Named;

/// Which objects of a batch were seen.
#[derive(Debug, Default)]
pub(super) struct Batch {
    n: usize,
    seen: Vec<usize>,
}

/// One partition's batches by their range, and, of those without a record, their clock.
pub(super) type Batches = BTreeMap<(u64, u64, Option<u64>), Batch>;

/// What is known of a partition beside the names.
#[derive(Debug, Default)]
pub(super) struct Known<'a> {
    pub(super) states: Option<States>,
    pub(super) stretch: Option<&'a Stretch>,
    /// Whether its pipeline has windows.
    pub(super) has_windows: bool,
    /// What was written before, Unix milliseconds, may have expired; none where nothing does.
    pub(super) expired_ms: Option<u64>,
    /// Up to there objects are listed that were: what is missing below may have gone before them.
    pub(super) expired_to: u64,
}

/// What is said of a partition.
#[derive(Debug, Serialize)]
pub(super) struct PartitionReport {
    partition: i32,
    first: u64,
    last: u64,
    batches: usize,
    pub(super) objects: usize,
    /// What names have to cover; none where no state says it.
    expected: Option<Named>,
    /// What of that is not there, and may have expired.
    expired: Option<Named>,
    /// Batches behind the newest state, of which not all objects need be there.
    being_written: usize,
    pub(super) problems: Vec<String>,
    /// Whether it is a stretch's, which says itself what it has to hold.
    #[serde(skip)]
    is_stretch: bool,
}

impl Batch {
    /// Objects that are not there, and those that are there more than once: neighbours together.
    fn objects_problems(&mut self) -> impl Iterator<Item = String> {
        self.seen.sort_unstable();
        let n = self.n;
        let mut missing = Vec::new();
        let mut twice: Vec<(usize, usize)> = Vec::new();
        let mut next = 1;
        for k in self.seen.iter().copied().chain([n + 1]) {
            if k < next {
                match twice.last_mut() {
                    Some((_, last)) if *last + 1 >= k => *last = k,
                    _ => twice.push((k, k)),
                }
            } else if k > next {
                missing.push((next, k - 1));
            }
            next = k + 1;
        }
        let told = move |what: &str, (from, to): (usize, usize)| match from == to {
            true => format!("{what}: object {from} of {n}"),
            false => format!("{what}: objects {from} to {to} of {n}"),
        };
        let missing = missing.into_iter().map(move |range| told("missing", range));
        missing.chain(twice.into_iter().map(move |range| told("twice", range)))
    }
}

/// Takes note of an object.
pub(super) fn note(batches: &mut Batches, name: &ObjectName) {
    let batch = batches
        .entry((name.start, name.end, name.quiet_ms))
        .or_default();
    batch.n = batch.n.max(name.n);
    batch.seen.push(name.k);
}

impl Known<'_> {
    /// What its states say, where they are the border of what is judged.
    fn border(&self) -> Option<States> {
        let live = self.states.filter(|_| self.stretch.is_none());
        live.filter(|states| !states.of_function)
    }

    /// What names have to cover.
    fn expected(&self) -> Option<Named> {
        let live = self.states.filter(|_| self.stretch.is_none());
        live.and_then(|states| states.named)
    }

    /// Whether a batch is behind the newest state.
    fn is_being_written(&self, id: (u64, u64, Option<u64>), batch: &mut Batch) -> bool {
        let (_, end, quiet_ms) = id;
        match self.border() {
            None => false,
            Some(States {
                named: Some(named),
                quiet_ms: stored_ms,
                ..
            }) => end > named.to || (end == named.to && quiet_ms.is_some_and(|ms| ms > stored_ms)),
            // With windows what ends there may be, too: a batch without a record leaves the offset where it is, and
            // takes its name from where the last one that had a row ended.
            Some(States { end: border, .. }) => {
                let may = (self.has_windows || quiet_ms.is_some()) && end == border;
                end > border || (may && batch.objects_problems().next().is_some())
            }
        }
    }

    /// What is missing at either end of what names have to cover: problems of the beginning, problems of the end, and
    /// what may have expired. `objects`: what is covered.
    fn ends(&self, objects: Option<(u64, u64)>) -> (Option<String>, Option<String>, Option<Named>) {
        let Some(Named { from, to }) = self.expected() else {
            return (None, None, None);
        };
        let rows_ms = self.states.map_or(0, |states| states.rows_ms);
        let hole = |from, to, why| Some(format!("hole: [{from}, {to}) is in no object: {why}"));
        let Some((first, last)) = objects else {
            return match self.expired_ms {
                _ if from == to => (None, None, None),
                Some(expired_ms) if rows_ms < expired_ms => (None, None, Some(Named { from, to })),
                _ => (None, hole(from, to, "nothing is left"), None),
            };
        };
        let all_old = (self.expired_ms).is_some_and(|expired_ms| rows_ms < expired_ms);
        let newest = (last < to && !all_old).then(|| hole(last, to, "the newest are gone"));
        let (oldest, expired) = match self.expired_ms {
            _ if first <= from => (None, None),
            Some(_) => (None, Some(Named { from, to: first })),
            None => {
                let why = "the oldest are gone (where data expires, say --expires)";
                (hole(from, first, why), None)
            }
        };
        (oldest, newest.flatten(), expired)
    }
}

/// Judges a partition.
pub(super) fn judge(partition: i32, mut batches: Batches, known: &Known<'_>) -> PartitionReport {
    let mut problems = Vec::new();
    let is_written =
        |id: &(u64, u64, Option<u64>), batch: &mut Batch| known.is_being_written(*id, batch);
    let being_written = batches.extract_if(.., is_written).count();
    let mut covered: Option<u64> = None;
    for ((start, end, _), batch) in &mut batches {
        match covered {
            Some(covered) if covered < *start && *start > known.expired_to => {
                problems.push(format!("hole: [{covered}, {start}) is in no object"))
            }
            Some(covered) if covered > *start => {
                problems.push(format!(
                    "overlap: [{start}, {}) is in two batches",
                    covered.min(*end)
                ));
            }
            _ => {}
        }
        covered = covered.max(Some(*end));
        if *start < known.expired_to {
            continue;
        }
        let objects = batch.objects_problems();
        problems.extend(objects.map(|problem| format!("{problem} of [{start}, {end})")));
    }
    let first = batches.keys().next().map(|range| range.0);
    let (oldest, newest, expired) = known.ends(first.zip(covered));
    problems.splice(0..0, oldest);
    problems.extend(newest);
    if let Some(stretch) = known.stretch {
        problems.extend(stretch.problems(first.zip(covered)));
    }
    let expected = known.expected();
    let nothing_at = known.stretch.map(|stretch| stretch.from);
    let nothing_at = nothing_at.or(expected.map(|named| named.from));
    let nothing_at = nothing_at.or(known.border().map(|states| states.end));
    PartitionReport {
        partition,
        first: first.or(nothing_at).unwrap_or(0),
        last: covered.or(nothing_at).unwrap_or(0),
        batches: batches.len(),
        objects: batches.values().map(|batch| batch.seen.len()).sum(),
        expected,
        expired,
        being_written,
        problems,
        is_stretch: known.stretch.is_some(),
    }
}

impl PartitionReport {
    /// As text, a line of it and what is to be said behind it.
    pub(super) fn write(&self, topic: &str, text: &mut String) -> std::fmt::Result {
        use std::fmt::Write;
        writeln!(
            text,
            "{topic}+{}: [{}, {}) in {} batches, {} objects: {}",
            self.partition,
            self.first,
            self.last,
            self.batches,
            self.objects,
            if self.problems.is_empty() {
                "complete"
            } else {
                "NOT complete"
            }
        )?;
        for problem in &self.problems {
            writeln!(text, "    {problem}")?;
        }
        if let Some(Named { from, to }) = self.expired {
            writeln!(text, "    expired: [{from}, {to}) is in no object")?;
        }
        if self.expected.is_none() && !self.is_stretch {
            writeln!(
                text,
                "    not known: from where and up to where objects should be there, for no state says it"
            )?;
        }
        if self.being_written > 0 {
            writeln!(
                text,
                "    being written: {} batches behind the newest state, not judged",
                self.being_written
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
