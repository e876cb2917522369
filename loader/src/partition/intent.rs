//! What a committed offset carries as its metadata: the write-ahead boundary of a batch, or the
//! state behind the last one.
//!
//! ```text
//! intent, at offset S:  {"v":1,"e":51234,"t":1764000000123,"c":"9f3c…","s":"000…-8a….json.zst","f":50000}
//! done,   at offset E:  {"v":1,"s":"000…051234-77….json.zst"}
//! ```
//!
//! `"w":30` stands beside `c` where more windows were due than are sure to have room: the batch closes so many, the
//! oldest first. Without it, it closes all that are due, in the order of their groups.
//!
//! One whose `e` is `S` has no record: it closes windows of groups that are quiet.
//!
//! An intent says: the batch `[S, e)` is being written, with this clock and this configuration, from
//! this state. Whoever reads it makes exactly that batch again before anything else. Kafka bounds
//! the metadata to 4096 bytes (`offset.metadata.max.bytes`); these are under 300. A version that is
//! not known is refused, never guessed.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The version that this program writes.
const VERSION: u32 = 1;

/// What stands in the group for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The committed offset: everything below is stored.
    pub offset: u64,
    /// Where the next object's name starts: below `offset` where the last batches had no rows.
    pub names_from: u64,
    /// File name of the snapshot of the state at `offset`; none at the very beginning.
    pub snapshot: Option<String>,
    /// A batch that was begun, and may be stored in part.
    pub intent: Option<Intent>,
}

impl Committed {
    /// A partition of which everything below `offset` is settled, and nothing is known.
    pub fn at(offset: u64) -> Self {
        Self {
            offset,
            names_from: offset,
            snapshot: None,
            intent: None,
        }
    }
}

/// A batch's boundary, made durable before its first object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// First offset behind the batch.
    pub end: u64,
    /// When the batch was opened, Unix milliseconds: what `ingest` paths and `now` see.
    pub clock_ms: u64,
    /// Hash of the pipeline that makes its objects.
    pub pipeline: String,
    /// How many windows it closes, the oldest first, where there may not be room for all that are due: what room
    /// there is, is no part of the pipeline.
    pub windows: Option<u64>,
}

/// Why committed metadata was refused. The partition stops: to guess would lose or repeat.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IntentError {
    /// Not what a loader writes.
    #[error("its metadata was not written by headwater: {0}")]
    Foreign(String),
    /// Written by another version.
    #[error("its metadata has version {0}; this loader knows 1: run the newer loader")]
    Version(u32),
    /// Fields that cannot be true together.
    #[error("its metadata contradicts itself: {0}")]
    Absurd(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    v: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    t: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<String>,
    /// Older loaders refuse it: they would close all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    w: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    s: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    f: Option<u64>,
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

impl Committed {
    /// The metadata to commit at `self.offset`.
    pub fn metadata(&self) -> String {
        let wire = Wire {
            v: VERSION,
            e: self.intent.as_ref().map(|intent| intent.end),
            t: self.intent.as_ref().map(|intent| intent.clock_ms),
            c: self.intent.as_ref().map(|intent| intent.pipeline.clone()),
            w: self.intent.as_ref().and_then(|intent| intent.windows),
            s: self.snapshot.clone(),
            f: (self.names_from != self.offset).then_some(self.names_from),
        };
        serde_json::to_string(&wire).unwrap_or_default()
    }

    /// Reads what stands at a committed offset.
    ///
    /// # Errors
    /// See [`IntentError`].
    pub fn parse(offset: u64, metadata: &str) -> Result<Self, IntentError> {
        let version: VersionOnly = serde_json::from_str(metadata)
            .map_err(|error| IntentError::Foreign(error.to_string()))?;
        if version.v != VERSION {
            return Err(IntentError::Version(version.v));
        }
        let wire: Wire = serde_json::from_str(metadata)
            .map_err(|error| IntentError::Foreign(error.to_string()))?;
        let intent = match (wire.e, wire.t, wire.c) {
            (None, None, None) if wire.w.is_none() => None,
            (Some(end), Some(clock_ms), Some(pipeline)) => Some(Intent {
                end,
                clock_ms,
                pipeline,
                windows: wire.w,
            }),
            _ => {
                return Err(IntentError::Absurd(
                    "an intent needs an end, a clock and a configuration",
                ));
            }
        };
        if intent.as_ref().is_some_and(|intent| intent.end < offset) {
            return Err(IntentError::Absurd("the batch ends before it starts"));
        }
        let names_from = wire.f.unwrap_or(offset);
        if names_from > offset {
            return Err(IntentError::Absurd("names start behind the offset"));
        }
        if wire.s.as_ref().is_some_and(|name| name.contains('/')) {
            return Err(IntentError::Absurd("a snapshot's name holds no '/'"));
        }
        Ok(Self {
            offset,
            names_from,
            snapshot: wire.s,
            intent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_metadata() {
        let done = Committed {
            offset: 9,
            names_from: 9,
            snapshot: Some("x.json.zst".into()),
            intent: None,
        };
        assert_eq!(done.metadata(), r#"{"v":1,"s":"x.json.zst"}"#);
        let begun = Committed {
            offset: 9,
            names_from: 7,
            snapshot: None,
            intent: Some(Intent {
                end: 12,
                clock_ms: 5,
                pipeline: "ab".into(),
                windows: None,
            }),
        };
        assert_eq!(begun.metadata(), r#"{"v":1,"e":12,"t":5,"c":"ab","f":7}"#);
        assert_eq!(Committed::parse(9, &begun.metadata()), Ok(begun.clone()));
        let mut cut = begun;
        if let Some(intent) = &mut cut.intent {
            intent.windows = Some(3);
        }
        let text = r#"{"v":1,"e":12,"t":5,"c":"ab","w":3,"f":7}"#;
        assert_eq!(cut.metadata(), text);
        assert_eq!(Committed::parse(9, text), Ok(cut));
    }

    #[test]
    fn what_is_refused() {
        assert!(matches!(
            Committed::parse(0, ""),
            Err(IntentError::Foreign(_))
        ));
        assert!(matches!(
            Committed::parse(0, "{\"v\":1,\"x\":2}"),
            Err(IntentError::Foreign(_))
        ));
        assert_eq!(
            Committed::parse(0, "{\"v\":2,\"x\":2}"),
            Err(IntentError::Version(2))
        );
        for absurd in [
            r#"{"v":1,"e":9}"#,
            r#"{"v":1,"e":4,"t":1,"c":"a"}"#,
            r#"{"v":1,"f":6}"#,
            r#"{"v":1,"w":1}"#,
            r#"{"v":1,"s":"../x"}"#,
        ] {
            assert!(
                matches!(Committed::parse(5, absurd), Err(IntentError::Absurd(_))),
                "{absurd}"
            );
        }
    }

    proptest! {
        #[test]
        fn metadata_reads_back_and_is_small(
            offset in 0..u64::MAX, back in 0_u64..9, ahead in 0_u64..999, clock_ms: u64,
            snapshot in prop::option::of("[0-9a-f.-]{1,48}"), begun: bool, windows: Option<u64>,
        ) {
            let committed = Committed {
                offset,
                names_from: offset.saturating_sub(back),
                snapshot,
                intent: begun.then(|| Intent {
                    end: offset.saturating_add(ahead), clock_ms, pipeline: "0".repeat(32), windows,
                }),
            };
            let text = committed.metadata();
            prop_assert!(text.len() < 300);
            prop_assert_eq!(Committed::parse(offset, &text), Ok(committed));
        }

        #[test]
        fn any_text_is_read_or_refused(offset: u64, text in ".{0,80}|\\{\"v\":1[^}]{0,40}\\}") {
            if let Ok(committed) = Committed::parse(offset, &text) {
                prop_assert!(committed.names_from <= committed.offset);
            }
        }
    }
}
