//! What a page's rows are, as our own types, and what follows for a generation from all of them.
//! Pure.

use std::collections::BTreeMap;

use headwater_record::{Generation, StreamId};

use crate::checkpoint::{FileIdentity, Marker, Origin};
use crate::spool::batch::{Kinds, Row};
use crate::spool::generations::{Aside, Known, cuts_of, earlier_of, goes_on_of};
use crate::spool::pages::Value;
use crate::spool::rows::Lost;
use crate::spool::{BatchId, Lane};

/// Ranges of offsets, in any order of coming: ends by start, apart from each other.
#[derive(Debug, Default)]
pub(super) struct Covered(BTreeMap<u64, u64>);

impl Covered {
    /// Adds `[start, end)`.
    pub(super) fn add(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let (mut start, mut end) = (start, end);
        // Whatever begins at or before its end and ends at or behind its start becomes one with it.
        while let Some((&at, &to)) = self.0.range(..=end).next_back()
            && to >= start
        {
            self.0.remove(&at);
            (start, end) = (start.min(at), end.max(to));
        }
        self.0.insert(start, end);
    }

    /// How many ranges there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn first(&self) -> Option<u64> {
        self.0.keys().next().copied()
    }

    fn last(&self) -> Option<u64> {
        self.0.values().next_back().copied()
    }

    /// What of `[from, to)` is not covered, in order.
    pub(super) fn holes(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let (mut holes, mut reached) = (Vec::new(), from);
        for (&start, &end) in &self.0 {
            if start >= to {
                break;
            }
            if start > reached {
                holes.push((reached, start));
            }
            reached = reached.max(end);
        }
        if reached < to {
            holes.push((reached, to));
        }
        holes
    }
}

/// What is known of a generation while pages are read.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) known: Option<(Known, Aside)>,
    pub(super) stream: Option<StreamId>,
    pub(super) lane: Lane,
    pub(super) covered: Covered,
    /// Ranges that count as settled beyond what `known` says.
    pub(super) beyond: Covered,
    /// A row that closes it was kept.
    pub(super) closes: bool,
}

impl Found {
    /// Ranges that are lost, as far as can be told, in order.
    pub(super) fn losses(&self) -> Vec<Lost> {
        if (self.known.as_ref())
            .is_some_and(|(known, ..)| known.is_over && known.delivered == known.settled)
        {
            return Vec::new();
        }
        let last = self.covered.last();
        let (from, to, closed) = match &self.known {
            Some((known, ..)) => (known.delivered, known.settled, known.closed),
            // Its row is lost: it is not gone on with, so its end is not known.
            None => (self.covered.first().unwrap_or(0), last.unwrap_or(0), true),
        };
        // Whatever of it is above `to` is what `to` does not say.
        let mut settled = Covered::default();
        settled.add(from, to);
        for (start, end) in &self.beyond.0 {
            settled.add(*start, *end);
        }
        let holes = settled.0.iter();
        let holes = holes.flat_map(|(start, end)| self.covered.holes(*start, *end));
        let mut losses: Vec<_> = holes
            .map(|range| Lost {
                range,
                records: None,
                closes: false,
            })
            .collect();
        if closed && !self.closes {
            let end = settled.last().max(last).map_or(to, |last| last.max(to));
            match losses.last_mut() {
                Some(lost) if lost.range.1 == end => lost.closes = true,
                _ => losses.push(Lost {
                    range: (end, end),
                    records: None,
                    closes: true,
                }),
            }
        }
        losses
    }
}

/// Identity and rows of one lane, from a row of `depth`.
pub(super) fn depth_of(values: &[Value<'_>]) -> Option<(u64, i64)> {
    let [Value::Null, identity, rows, bytes, _] = values else {
        return None;
    };
    let bytes = bytes.integer()?;
    let rows = rows.integer()?;
    (rows >= 0 && bytes >= 0).then_some((identity.integer()?.cast_unsigned(), rows))
}

/// A row of `batch`, its bytes unpacked, and when it was committed.
pub(super) fn row_of(id: i64, values: &[Value<'_>]) -> Option<(Row, u64, u64)> {
    let number = |at: usize| values.get(at)?.integer().map(i64::cast_unsigned);
    let stream = std::str::from_utf8(values.get(2)?.bytes()?).ok()?;
    let row = Row {
        id: BatchId(id.cast_unsigned()),
        generation: Generation(number(1)?),
        stream: stream.to_owned(),
        start: number(3)?,
        end: number(4)?,
        kinds: Kinds(u8::try_from(number(5)?).ok()?),
        records: u32::try_from(number(6)?).ok()?,
        sealed: number(7)? != 0,
        checksum: u32::try_from(number(11)?).ok()?,
        blob: values.get(12)?.bytes()?.to_vec(),
    };
    Some((row, number(9)?, number(10)?))
}

/// A row of `generation`, the checksum in it, and what is not under that.
pub(super) fn known_of(id: i64, values: &[Value<'_>]) -> Option<(Known, i64, Aside)> {
    let number = |at: usize| values.get(at)?.integer().map(i64::cast_unsigned);
    let maybe = |at: usize| {
        let maybe = values.get(at)?.maybe_integer()?;
        Some(maybe.map(i64::cast_unsigned))
    };
    let known = Known {
        generation: Generation(id.cast_unsigned()),
        identity: number(1)?,
        stream: std::str::from_utf8(values.get(2)?.bytes()?)
            .ok()?
            .to_owned(),
        settled: number(3)?,
        delivered: number(4)?,
        closed: number(5)? != 0,
        is_whole: number(5)? & 2 != 0,
        is_over: number(5)? & 4 != 0,
        skip_to: maybe(7)?,
        cuts: cuts_of(values.get(8)?.bytes()),
    };
    let origin = match values.get(9)?.bytes() {
        None => Origin::Sensor,
        Some(path) => Origin::File(FileIdentity {
            path: path.to_vec(),
            device: number(10)?,
            inode: number(11)?,
            fingerprint_len: u32::try_from(number(12)?).ok()?,
            fingerprint: u32::try_from(number(13)?).ok()?,
            since_ms: number(14)?,
        }),
    };
    let marker = match maybe(15)? {
        None => None,
        Some(end) => Some(Marker {
            end,
            len: u32::try_from(number(16)?).ok()?,
            sum: u32::try_from(number(17)?).ok()?,
        }),
    };
    // A row that an earlier agent wrote has neither.
    let earlier = earlier_of(values.get(18).and_then(|value| value.bytes()));
    let goes_on = values.get(19).and_then(|value| value.bytes());
    let goes_on = goes_on.and_then(|blob| goes_on_of(known.generation, blob));
    let aside = Aside {
        origin,
        marker,
        earlier,
        goes_on,
    };
    Some((known, number(6)?.cast_signed(), aside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn of_what_is_over_nothing_is_lost() {
        let known = |is_over, delivered| Known {
            generation: Generation(1),
            identity: 1,
            stream: "d/s//p".to_owned(),
            settled: 9,
            delivered,
            closed: true,
            is_whole: true,
            is_over,
            skip_to: None,
            cuts: Vec::new(),
        };
        let losses = |is_over, delivered| {
            let found = Found {
                known: Some((
                    known(is_over, delivered),
                    Aside {
                        origin: Origin::Sensor,
                        marker: None,
                        earlier: Vec::new(),
                        goes_on: None,
                    },
                )),
                ..Found::default()
            };
            found.losses().len()
        };
        assert_eq!((losses(false, 9), losses(true, 9)), (1, 0));
        // No checksum covers that it is over.
        assert_eq!(losses(true, 5), 1);
    }

    proptest! {
        /// Against one flag an offset.
        #[test]
        fn holes_are_what_no_range_covers(
            ranges in prop::collection::vec((0_u64..60, 0_u64..20), 0..20),
            from in 0_u64..80,
            length in 0_u64..80,
        ) {
            let mut covered = Covered::default();
            let mut flags = [false; 200];
            for (start, length) in ranges {
                covered.add(start, start + length);
                flags[start as usize..(start + length) as usize].fill(true);
            }
            let mut found = [false; 200];
            for (start, end) in covered.holes(from, from + length) {
                prop_assert!(start < end);
                found[start as usize..end as usize].fill(true);
            }
            for at in 0..200_u64 {
                let asked = (from..from + length).contains(&at);
                prop_assert_eq!(found[at as usize], asked && !flags[at as usize], "at {}", at);
            }
        }
    }
}
