//! A batch under construction. It has two vectors, and nothing else is allocated for a record.

use headwater_record::notice::Notice;
use headwater_record::value::ValueWriter;
use headwater_record::{Generation, Kind, StreamId};

use crate::batch::{Batch, Entry, RecordRef, records};
use crate::budget::Permit;
use crate::frame::frames::Line;

/// Most records of a batch: what is lost to a torn acknowledgement, and sent again, stays small. With
/// lines of 200 bytes, a chunk of a file is one batch, and not one and a small rest: what is spooled
/// compresses as a batch, and takes whole pages.
pub const BATCH_RECORDS_MAX: usize = 384;
/// Most bytes of values in a batch; a single larger record is a batch alone.
pub const BATCH_VALUES_MAX: usize = 96 * 1024;
/// What a batch takes besides its records, bytes: itself, where it waits, and what the allocator keeps of its
/// two vectors. Of many batches of one line each that is more than the lines are.
const BATCH_BASE: usize = size_of::<Batch>() + 64;
/// What a full batch takes of the RAM window, bytes.
pub const BATCH_BYTES: usize =
    BATCH_BASE + BATCH_VALUES_MAX + BATCH_RECORDS_MAX * size_of::<Entry>();

/// A batch under construction: records of one generation that tile their span.
#[derive(Debug)]
pub struct Draft {
    start: u64,
    entries: Vec<Entry>,
    values: Vec<u8>,
    raw: bool,
}

impl Draft {
    /// An empty one, whose first record's span starts at `start`.
    pub fn new(start: u64) -> Self {
        Self {
            start,
            entries: Vec::new(),
            values: Vec::new(),
            raw: false,
        }
    }

    /// Offset behind its last record's span.
    pub fn end(&self) -> u64 {
        self.entries.last().map_or(self.start, |entry| entry.end)
    }

    /// Whether there is no record in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it takes so many more records, of so many bytes in all, for sure.
    pub fn has_room(&self, records: usize, bytes: usize) -> bool {
        self.entries.len() + records <= BATCH_RECORDS_MAX
            && self.values.len() + bytes <= BATCH_VALUES_MAX
    }

    /// Adds a line, or returns that there is no room for it. `time_ms`: Unix time of the reading.
    #[must_use]
    pub fn line(&mut self, writer: &ValueWriter, time_ms: u64, line: &Line<'_>) -> bool {
        self.push(line.end, Kind::Data, |values| {
            writer.decoded_line(values, time_ms, line.bytes, line.raw, line.piece);
        })
    }

    /// Adds a line that goes as its bytes are, or returns that there is no room for it. A draft holds lines of
    /// one form only.
    #[must_use]
    pub fn raw(&mut self, end: u64, bytes: &[u8]) -> bool {
        let added = self.push(end, Kind::Data, |values| values.extend_from_slice(bytes));
        self.raw |= added;
        added
    }

    /// Adds a record of any kind whose span ends at `end`, or returns that there is no room for it.
    #[must_use]
    pub fn push(&mut self, end: u64, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.entries.len() >= BATCH_RECORDS_MAX {
            return false;
        }
        let before = self.values.len();
        write(&mut self.values);
        if self.values.len() > BATCH_VALUES_MAX && before > 0 {
            self.values.truncate(before);
            return false;
        }
        debug_assert!(end >= self.end(), "spans tile");
        let value_end = u32::try_from(self.values.len())
            .expect("a value is at most some times max_line, or what Kafka takes in a message");
        self.entries.push(Entry {
            end,
            value_end,
            kind,
        });
        true
    }

    /// Adds a notice whose span ends at `end`, or returns that there is no room for it.
    #[must_use]
    pub fn notice(
        &mut self,
        writer: &ValueWriter,
        time_ms: u64,
        end: u64,
        notice: &Notice,
    ) -> bool {
        let kind = match notice {
            Notice::Loss { .. } => Kind::Loss,
            Notice::Close { .. } => Kind::Close,
            Notice::Filtered => Kind::Filtered,
        };
        self.push(end, kind, |values| writer.notice(values, time_ms, notice))
    }

    /// Its records, in order.
    pub fn records(&self) -> impl Iterator<Item = RecordRef<'_>> {
        records(self.start, &self.entries, &self.values, self.raw)
    }

    /// What it takes of the RAM window, bytes.
    pub fn bytes(&self) -> usize {
        BATCH_BASE + self.values.len() + self.entries.len() * size_of::<Entry>()
    }

    /// The batch, or none where nothing was added. `permit` was taken for it, for
    /// [`Draft::bytes`] at least, and what is too much goes back.
    pub fn finish(
        mut self,
        stream: &StreamId,
        generation: Generation,
        permit: Option<Permit>,
    ) -> Option<Batch> {
        if self.entries.is_empty() {
            return None;
        }
        // What growth reserved beyond need is not in the permit.
        self.entries.shrink_to_fit();
        self.values.shrink_to_fit();
        let bytes = self.bytes();
        Some(Batch {
            stream: stream.clone(),
            generation,
            start: self.start,
            entries: self.entries,
            values: self.values,
            raw: self.raw,
            permit: permit.map(|mut permit| {
                permit.shrink(bytes);
                permit
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use headwater_record::Span;
    use headwater_record::value::Piece;

    use super::*;
    use crate::budget::Budget;
    use crate::spool::Lane;

    fn stream() -> StreamId {
        StreamId::parse("pi-7/syslog//var/log/syslog").unwrap()
    }

    fn writer() -> ValueWriter {
        ValueWriter::new(&"pi-7".parse().unwrap(), &"syslog".parse().unwrap())
    }

    fn line(end: u64, bytes: &[u8]) -> Line<'_> {
        Line {
            end,
            bytes,
            exact: bytes,
            raw: None,
            piece: Piece::default(),
        }
    }

    #[test]
    fn records_stand_in_the_batch_as_they_were_added() {
        let budget = Budget::new(1 << 20);
        let mut draft = Draft::new(100);
        assert!(draft.line(&writer(), 0, &line(106, b"hello")));
        assert!(draft.line(&writer(), 0, &line(107, b"")));
        let notice = Notice::Close {
            reason: "rotated".into(),
            tail: headwater_record::notice::Tail::Complete,
        };
        assert!(draft.notice(&writer(), 0, 107, &notice));
        let bytes = draft.bytes();
        let permit = budget.try_take(Lane::Normal, BATCH_BYTES);
        let batch = draft.finish(&stream(), Generation(1), permit).unwrap();
        assert_eq!(budget.used(), bytes);
        let records = batch.values.len() + batch.entries.len() * size_of::<Entry>();
        assert!(bytes >= size_of::<Batch>() + records);
        assert!(batch.closes());
        let records: Vec<_> = batch.records().collect();
        let span = |start, end| Span::new(start, end).unwrap();
        assert_eq!(records[0].span, span(100, 106));
        assert!(records[0].value.ends_with(b"\"message\":\"hello\"}"));
        assert_eq!(records[1].span, span(106, 107));
        assert!(records[1].value.ends_with(b"\"message\":\"\"}"));
        assert_eq!(
            (records[2].span, records[2].kind),
            (span(107, 107), Kind::Close)
        );
        assert_eq!(Notice::parse(records[2].value), Some(notice));
    }

    #[test]
    fn a_full_batch_takes_no_more_and_keeps_what_it_has() {
        let mut by_count = Draft::new(0);
        let mut end = 0;
        while by_count.line(&writer(), 0, &line(end + 1, b"")) {
            end += 1;
        }
        assert_eq!(end, BATCH_RECORDS_MAX as u64);

        let long = vec![b'x'; 45_000];
        let mut by_bytes = Draft::new(0);
        assert!(by_bytes.line(&writer(), 0, &line(1, &long)));
        assert!(by_bytes.line(&writer(), 0, &line(2, &long)));
        assert!(!by_bytes.line(&writer(), 0, &line(3, &long)));
        assert!(by_bytes.bytes() <= BATCH_BYTES);
        let batch = by_bytes.finish(&stream(), Generation(1), None).unwrap();
        let last = batch.records().last().unwrap();
        assert_eq!(batch.values.len(), batch.entries[1].value_end as usize);
        assert!(last.value.ends_with(b"x\"}"));
    }

    #[test]
    fn a_single_record_may_be_larger() {
        let mut draft = Draft::new(0);
        assert!(draft.line(&writer(), 0, &line(1, &vec![1; 128 * 1024])));
        assert!(draft.bytes() > 6 * 128 * 1024);
        assert!(!draft.line(&writer(), 0, &line(2, b"")));
        assert!(
            Draft::new(0)
                .finish(&stream(), Generation(1), None)
                .is_none()
        );
    }
}
