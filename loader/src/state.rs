//! A partition's state behind a batch, as a snapshot: what its successor goes on from.
//!
//! ```text
//! _headwater/state/<topic>/<partition>/<offset, 20 digits>-<hash>.json.zst
//! {"v":1,"topic":"logs","partition":2,"end":51234,"clock_ms":…,"ledger":{"streams":{…}}}
//! ```

use bytes::Bytes;
use headwater_record::Ledger;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::name::snapshot_name;

/// The version that this program writes.
const VERSION: u32 = 1;
/// Largest snapshot that is read, in bytes before compression.
pub const SNAPSHOT_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// The state behind everything below `end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    v: u32,
    /// Kafka topic.
    pub topic: String,
    /// Kafka partition.
    pub partition: i32,
    /// Everything below this offset is in it.
    pub end: u64,
    /// Clock of the batch that ended there, Unix milliseconds.
    pub clock_ms: u64,
    /// What has come of every stream.
    pub ledger: Ledger,
}

/// A snapshot that cannot be used.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// Broken, or too large.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Written by another version.
    #[error("it has version {0}; this loader knows 1: run the newer loader")]
    Version(u32),
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

impl Snapshot {
    /// The state behind a batch.
    pub fn new(topic: &str, partition: i32, end: u64, clock_ms: u64, ledger: Ledger) -> Self {
        Self {
            v: VERSION,
            topic: topic.to_owned(),
            partition,
            end,
            clock_ms,
            ledger,
        }
    }

    /// Its file name and its bytes.
    ///
    /// # Errors
    /// It cannot be written as JSON, or not compressed.
    pub fn encode(&self) -> Result<(String, Bytes), SnapshotError> {
        let damaged = |error: &dyn std::fmt::Display| SnapshotError::Damaged(error.to_string());
        let json = serde_json::to_vec(self).map_err(|error| damaged(&error))?;
        let bytes = zstd::bulk::compress(&json, 3).map_err(|error| damaged(&error))?;
        Ok((snapshot_name(self.end, crc32c::crc32c(&json)), bytes.into()))
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        use std::io::Read;
        let damaged = |error: &dyn std::fmt::Display| SnapshotError::Damaged(error.to_string());
        let mut json = Vec::new();
        let reader = zstd::Decoder::new(bytes).map_err(|error| damaged(&error))?;
        let limit = SNAPSHOT_BYTES_MAX as u64;
        reader
            .take(limit + 1)
            .read_to_end(&mut json)
            .map_err(|error| damaged(&error))?;
        if json.len() > SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::Damaged("it is larger than 1GiB".into()));
        }
        let version: VersionOnly =
            serde_json::from_slice(&json).map_err(|error| damaged(&error))?;
        if version.v != VERSION {
            return Err(SnapshotError::Version(version.v));
        }
        serde_json::from_slice(&json).map_err(|error| damaged(&error))
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
        let snapshot = Snapshot::new("logs", 2, 77, 5, ledger);
        let (name, bytes) = snapshot.encode().unwrap();
        assert_eq!(crate::name::snapshot_end(&name), Some(77));
        assert_eq!(Snapshot::decode(&bytes).unwrap(), snapshot);
        assert_eq!(snapshot.encode().unwrap().0, name);
        let other = Snapshot::new("logs", 2, 77, 6, Ledger::default());
        assert_ne!(other.encode().unwrap().0, name);
        let newer = zstd::bulk::compress(b"{\"v\":2,\"new\":1}", 3).unwrap();
        assert!(matches!(
            Snapshot::decode(&newer),
            Err(SnapshotError::Version(2))
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
