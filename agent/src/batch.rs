//! What the sources hand to delivery: records of one generation, encoded, in one piece of memory.
//!
//! A batch is the unit of everything behind this border: it is sent, acknowledged, spooled and
//! settled as a whole. Its records tile its span, so a batch too is a range of one generation, and
//! the budget for its bytes travels inside it: dropped with the batch, wherever that happens.

use headwater_record::{Generation, Kind, Span, StreamId};

use crate::budget::Permit;

/// One record's place in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where its span ends, as an offset of the generation; it starts where the record before it
    /// ends, the first where the batch's span starts.
    pub end: u64,
    /// Where its value ends in [`Batch::values`]; it starts where the value before it ends.
    pub value_end: u32,
    /// Data or notice.
    pub kind: Kind,
}

/// Consecutive records of one generation. Never empty.
#[derive(Debug)]
pub struct Batch {
    /// Whose.
    pub stream: StreamId,
    /// Which file, or which start.
    pub generation: Generation,
    /// Offset at which the first record's span starts.
    pub start: u64,
    /// The records, in order.
    pub entries: Vec<Entry>,
    /// Their values, one behind the other.
    pub values: Vec<u8>,
    /// Whether its data are lines' bytes as they are, and no JSON objects. Notices are JSON all the same.
    pub raw: bool,
    /// What the batch holds of the RAM window; none once it came back from the spool.
    pub permit: Option<Permit>,
}

/// One record of a batch, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Offsets that it accounts for.
    pub span: Span,
    /// Data or notice.
    pub kind: Kind,
    /// Its value: a JSON object, or the bytes of a line.
    pub value: &'a [u8],
    /// Whether it is the bytes of a line.
    pub raw: bool,
}

impl Batch {
    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = RecordRef<'_>> {
        records(self.start, &self.entries, &self.values, self.raw)
    }

    /// Offset behind the last record's span.
    pub fn end(&self) -> u64 {
        self.entries.last().map_or(self.start, |entry| entry.end)
    }

    /// Whether its last record closes the generation.
    pub fn closes(&self) -> bool {
        self.entries
            .last()
            .is_some_and(|entry| entry.kind == Kind::Close)
    }
}

/// The records that `entries` and `values` are, the first one's span starting at `start`.
pub(crate) fn records<'a>(
    mut start: u64,
    entries: &'a [Entry],
    values: &'a [u8],
    raw: bool,
) -> impl Iterator<Item = RecordRef<'a>> {
    let mut from = 0;
    entries.iter().map(move |entry| {
        let record = RecordRef {
            span: Span::new(start, entry.end).unwrap_or(Span::empty_at(start)),
            kind: entry.kind,
            value: &values[from..entry.value_end as usize],
            raw: raw && entry.kind == Kind::Data,
        };
        (start, from) = (entry.end, entry.value_end as usize);
        record
    })
}
