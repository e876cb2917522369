//! A partition's state behind a batch, as a snapshot: what its successor goes on from.
//!
//! ```text
//! _headwater/state/<topic>/<partition>/<offset, 20 digits>-<hash>.json.zst
//! {"v":1,"topic":"logs","partition":2,"end":51234,"clock_ms":…,"rows_ms":…,
//!  "named":{"from":0,"to":51200},"ledger":{"streams":{…}}}
//! ```
//!
//! A crash, or a removal that failed, leaves more than the one that the group names. Where the group has lost that,
//! `rows_ms` tells which of them knows of all that was written ([`Rank`]).
//!
//! With open windows the version is 2, and `windows` holds them: a loader that knows no windows must
//! not go on without them. With accounts it is 3, and `books` holds these.
//!
//! `named` came later, without a version of its own: it is for `verify`, and what is stored does not rest on it. An
//! older loader passes it over, and writes states without it; the next one that knows it draws it anew, from there on.

mod brief;
mod read;

use std::io::{BufWriter, Write};

use bytes::Bytes;
use headwater_record::Ledger;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::aggregate::Windows;
use crate::books::Books;
use crate::name::snapshot_name;

pub use brief::{Brief, Rank};
pub use read::{SNAPSHOT_BYTES_MAX, scan};

/// The version of a state without windows.
const VERSION: u32 = 1;
/// The version of a state with some.
const WITH_WINDOWS: u32 = 2;
/// The version of a state with accounts.
const WITH_BOOKS: u32 = 3;

/// The offsets that the names of objects have to cover when a state is stored: all in `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Where the first name of this output began, or was to begin; an output of an older loader: where the next one
    /// was, when this was first drawn. Never changed from then on.
    pub from: u64,
    /// Where the last name ended, and the next one begins: below the state's own offset where the last batches had
    /// no rows.
    pub to: u64,
}

/// The state behind everything below `end`.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Kafka topic.
    pub topic: String,
    /// Kafka partition.
    pub partition: i32,
    /// Everything below this offset is in it.
    pub end: u64,
    /// Clock of the batch that ended there, Unix milliseconds.
    pub clock_ms: u64,
    /// As [`Carried::rows_ms`].
    pub rows_ms: u64,
    /// What names cover; none where an older loader wrote it.
    pub named: Option<Named>,
    /// What has come of every stream.
    pub ledger: Ledger,
    /// The windows that are open.
    pub windows: Windows,
    /// The accounts that are not closed.
    pub books: Books,
}

/// What a partition goes on from. Nothing at its very beginning.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Carried {
    /// Clock of the last batch, Unix milliseconds.
    pub clock_ms: u64,
    /// Clock of the last batch that had a row, Unix milliseconds, or as much more as it takes to be later than that
    /// of each before it, whatever machines' clocks said.
    pub rows_ms: u64,
    /// What names cover; none where nothing says it.
    pub named: Option<Named>,
    /// What has come of every stream.
    pub ledger: Ledger,
    /// The windows that are open.
    pub windows: Windows,
    /// The accounts that are not closed.
    pub books: Books,
}

impl From<Snapshot> for Carried {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            clock_ms: snapshot.clock_ms,
            rows_ms: snapshot.rows_ms,
            named: snapshot.named,
            ledger: snapshot.ledger,
            windows: snapshot.windows,
            books: snapshot.books,
        }
    }
}

/// The state behind a batch, to be written: it is the partition's, and nothing of it is copied.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct State<'a> {
    /// Kafka topic.
    pub topic: &'a str,
    /// Kafka partition.
    pub partition: i32,
    /// Everything below this offset is in it.
    pub end: u64,
    /// Clock of the batch that ended there, Unix milliseconds.
    pub clock_ms: u64,
    /// As [`Carried::rows_ms`].
    pub rows_ms: u64,
    /// What names cover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named: Option<Named>,
    /// What has come of every stream.
    pub ledger: &'a Ledger,
    /// The windows that are open.
    #[serde(skip_serializing_if = "no_windows")]
    pub windows: &'a Windows,
    /// The accounts that are not closed.
    #[serde(skip_serializing_if = "no_books")]
    pub books: &'a Books,
}

#[derive(Serialize)]
struct Versioned<'a> {
    v: u32,
    #[serde(flatten)]
    state: State<'a>,
}

fn no_windows(windows: &&Windows) -> bool {
    windows.is_empty()
}

fn no_books(books: &&Books) -> bool {
    books.is_empty()
}

/// A snapshot that cannot be used.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// Broken, or too large.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// More than a successor would read.
    #[error(
        "the state would be larger than 1GiB, which no loader reads: lower limits.ledger, accounts.devices, or the memory of windows"
    )]
    TooLarge,
    /// Written by another version.
    #[error("it has version {0}; this loader knows 1 to 3: run the newer loader")]
    Version(u32),
}

impl State<'_> {
    /// Its file name and its bytes. Compressed as it is written: only that is held.
    ///
    /// # Errors
    /// It cannot be written as JSON, or not compressed.
    pub fn encode(self) -> Result<(String, Bytes), SnapshotError> {
        let damaged = |error: &dyn std::fmt::Display| SnapshotError::Damaged(error.to_string());
        let version = match (self.windows.is_empty(), self.books.is_empty()) {
            (_, false) => WITH_BOOKS,
            (false, true) => WITH_WINDOWS,
            (true, true) => VERSION,
        };
        let zstd = zstd::Encoder::new(Vec::new(), 3).map_err(|error| damaged(&error))?;
        let mut out = Summed {
            out: zstd,
            crc: 0,
            bytes: 0,
        };
        // Small pieces would each cost the compressor a call.
        let mut buffered = BufWriter::with_capacity(64 * 1024, &mut out);
        let state = Versioned {
            v: version,
            state: self,
        };
        serde_json::to_writer(&mut buffered, &state).map_err(|error| damaged(&error))?;
        buffered.flush().map_err(|error| damaged(&error))?;
        drop(buffered);
        let Summed { out, crc, bytes } = out;
        if bytes > SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::TooLarge);
        }
        let bytes = out.finish().map_err(|error| damaged(&error))?;
        Ok((snapshot_name(self.end, crc), bytes.into()))
    }
}

/// A writer that also sums what goes through.
struct Summed<W> {
    out: W,
    crc: u32,
    bytes: u64,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.bytes += n as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes.get(..n).unwrap_or_default());
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

impl Snapshot {
    /// Its file name and its bytes.
    ///
    /// # Errors
    /// As [`State::encode`].
    pub fn encode(&self) -> Result<(String, Bytes), SnapshotError> {
        let state = State {
            topic: &self.topic,
            partition: self.partition,
            end: self.end,
            clock_ms: self.clock_ms,
            rows_ms: self.rows_ms,
            named: self.named,
            ledger: &self.ledger,
            windows: &self.windows,
            books: &self.books,
        };
        state.encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_record::{Generation, Span};
    use proptest::prelude::*;

    #[test]
    fn snapshots_read_back_and_are_named_by_their_content() {
        let mut ledger = Ledger::default();
        ledger.accept("d/s/p", Generation(1), Span::new(0, 9).unwrap(), 1);
        let mut snapshot = Snapshot {
            topic: "logs".into(),
            partition: 2,
            end: 77,
            clock_ms: 5,
            rows_ms: 4,
            named: Some(Named { from: 3, to: 70 }),
            ledger,
            windows: Windows::default(),
            books: Books::default(),
        };
        let (name, bytes) = snapshot.encode().unwrap();
        assert_eq!(crate::name::snapshot_end(&name), Some(77));
        assert_eq!(Snapshot::decode(&bytes).unwrap(), snapshot);
        assert_eq!(snapshot.encode().unwrap().0, name);
        snapshot.clock_ms = 6;
        assert_ne!(snapshot.encode().unwrap().0, name);
        let newer = zstd::bulk::compress(b"{\"v\":4,\"new\":1}", 3).unwrap();
        assert!(matches!(
            Snapshot::decode(&newer),
            Err(SnapshotError::Version(4))
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Snapshot::decode(&bytes).is_err());
            let compressed = zstd::bulk::compress(&bytes, 1).unwrap();
            prop_assert!(Snapshot::decode(&compressed).is_err());
        }
    }
}
