//! What the poll thread hands to a partition: records in one piece of memory, in offset order.

use std::ops::Range;
use std::sync::Arc;

use headwater_record::{Generation, HeaderError, Kind, Span, headers};

/// Who a record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// No `hw-` headers: written by somebody else; its offset alone protects it.
    Foreign,
    /// `hw-` headers that cannot be read.
    Refused(HeaderError),
    /// A record of ours.
    Tagged {
        /// `<device>/<source>/<path>`; neighbours share the text.
        stream: Arc<str>,
        /// Which file, or which start.
        generation: Generation,
        /// What it accounts for.
        span: Span,
        /// Data or notice.
        kind: Kind,
    },
}

impl Identity {
    /// Reads a record's headers. `last`: the record before, whose text of the stream is shared where it
    /// is the same.
    pub fn read<'a>(
        all: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
        last: Option<&Self>,
    ) -> Self {
        match headers::decode(all) {
            Ok(None) => Self::Foreign,
            Err(error) => Self::Refused(error),
            Ok(Some(tag)) => {
                let stream = match last {
                    Some(Self::Tagged { stream, .. }) if **stream == *tag.stream => {
                        Arc::clone(stream)
                    }
                    _ => tag.stream.into(),
                };
                Self::Tagged {
                    stream,
                    generation: tag.generation,
                    span: tag.span,
                    kind: tag.kind,
                }
            }
        }
    }
}

/// One record's place in a [`Fetched`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its Kafka offset.
    pub offset: u64,
    /// Its Kafka timestamp, Unix milliseconds; 0 where it has none.
    pub time_ms: u64,
    /// Where its value lies in the bytes; none for a null value.
    pub value: Option<Range<usize>>,
    /// Who it is.
    pub identity: Identity,
}

impl Entry {
    /// The place of a record that is nobody's and lies in no [`Fetched`].
    pub fn foreign(offset: u64, time_ms: u64) -> Self {
        Self {
            offset,
            time_ms,
            value: None,
            identity: Identity::Foreign,
        }
    }
}

/// Consecutive records of one partition. Offsets rise, not always by one: control records and
/// compaction leave holes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The values, one behind the other.
    pub bytes: Vec<u8>,
    /// The records.
    pub entries: Vec<Entry>,
    /// Memory of their streams' names: neighbours share one.
    pub names: usize,
}

/// What a name takes beside its text.
const NAME_COST: usize = 32;

impl Fetched {
    /// A record's value; none where it is null.
    pub fn value(&self, entry: &Entry) -> Option<&[u8]> {
        entry.value.clone().and_then(|range| self.bytes.get(range))
    }

    /// An empty one with room for as much as another holds.
    pub fn like(other: &Self) -> Self {
        Self {
            bytes: Vec::with_capacity(other.bytes.len()),
            entries: Vec::with_capacity(other.entries.len()),
            names: 0,
        }
    }

    /// Forgets its records, and keeps its room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.names = 0;
    }

    /// Bytes of memory that it holds, about.
    pub fn held(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<Entry>() + self.names
    }

    /// Adds a record behind the others.
    pub fn push(&mut self, offset: u64, time_ms: u64, value: Option<&[u8]>, identity: Identity) {
        let value = value.map(|value| {
            let from = self.bytes.len();
            self.bytes.extend_from_slice(value);
            from..self.bytes.len()
        });
        if let Identity::Tagged { stream, .. } = &identity {
            let last = self.entries.last().map(|entry| &entry.identity);
            let is_shared = matches!(last, Some(Identity::Tagged { stream: last, .. }) if Arc::ptr_eq(last, stream));
            self.names += if is_shared {
                0
            } else {
                stream.len() + NAME_COST
            };
        }
        self.entries.push(Entry {
            offset,
            time_ms,
            value,
            identity,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ledger would take it for a re-send, and nothing of it would be stored.
    #[test]
    fn a_data_record_of_nothing_is_nobodys_and_no_re_send() {
        let read = |span: &'static str| {
            let all = [("hw-stream", "d/s/p"), ("hw-span", span)];
            let all = all.map(|(name, text)| (name, Some(text.as_bytes())));
            Identity::read(all.into_iter(), None)
        };
        let ours = read("0000000000000001:5+1");
        assert!(matches!(ours, Identity::Tagged { .. }), "{ours:?}");
        let forged = read("0000000000000001:5+0");
        assert_eq!(forged, Identity::Refused(HeaderError::Empty));
    }

    /// A device may have as many streams as it likes, and name each at length.
    #[test]
    fn names_are_counted_once_for_neighbours() {
        let named = |name: &str, last: Option<&Identity>| {
            let span = format!("{:016x}:0+1", 7);
            let all = [
                (headers::STREAM, Some(name.as_bytes())),
                (headers::SPAN, Some(span.as_bytes())),
            ];
            Identity::read(all.into_iter(), last)
        };
        let name = format!("d/s/{}", "x".repeat(5000));
        let mut fetched = Fetched::default();
        let mut push = |name: &str| {
            let last = fetched.entries.last().map(|entry| &entry.identity);
            let identity = named(name, last);
            assert!(matches!(identity, Identity::Tagged { .. }), "{identity:?}");
            fetched.push(0, 0, None, identity);
            fetched.held()
        };
        let entry = size_of::<Entry>();
        let one = push(&name);
        assert!(one > 5000 + entry, "{one}");
        assert_eq!(push(&name), one + entry);
        assert!(push("d/s/other") > one + 2 * entry);
        assert!(push(&name) > 2 * 5000);
        fetched.clear();
        assert_eq!(fetched.held(), 0);
    }
}
