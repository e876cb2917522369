//! A partition's head: the one object that says how far a partition is, and what of a batch that was
//! decided has still to be done. It takes the place of the consumer group, which Lambda has for itself.
//!
//! It is changed by a conditional write (`If-Match`), so of two invocations that have the same records
//! one decides, and the other finds out. While a batch is being stored the head carries all of it: its
//! objects, its items and the state behind it. So whoever comes next can finish it without its records, whichever
//! part of them it was handed.
//!
//! ```text
//! _headwater/state/<topic>/<partition>/head
//! {"v":1,"offset":9,"metadata":"{…}","pending":[{"key":"…","bytes":123,…},…],"items":456}\n<bytes of each>
//! ```

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::encode::Content;
use crate::items::batch::Items;
use crate::name::state_folder;
use crate::partition::batch::Object;
use crate::partition::intent::{Committed, IntentError};

/// The version that this program writes.
const VERSION: u32 = 1;

/// How far a partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What is committed: everything below its offset is stored, or lies in `pending`.
    pub committed: Committed,
    /// Objects of the last batch, its state among them, that may not all be stored yet.
    pub pending: Vec<Object>,
    /// Its items, where they may not all be written yet.
    pub items: Arc<Items>,
}

/// A head that cannot be read. Nothing is written: to guess would lose or repeat.
#[derive(Debug, Error)]
pub enum HeadError {
    /// Not what a loader writes.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Written by another version.
    #[error("it has version {0}; this loader knows 1: deploy the newer loader")]
    Version(u32),
    /// What it says is committed makes no sense.
    #[error(transparent)]
    Committed(#[from] IntentError),
}

#[derive(Serialize, Deserialize)]
struct HeadFile {
    v: u32,
    offset: u64,
    metadata: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pending: Vec<PendingFile>,
    /// Bytes of the items, behind those of the objects.
    #[serde(default, skip_serializing_if = "is_zero")]
    items: usize,
}

fn is_zero(bytes: &usize) -> bool {
    *bytes == 0
}

#[derive(Serialize, Deserialize)]
struct PendingFile {
    key: String,
    bytes: usize,
    rows: u64,
    plain: u64,
    crc: u32,
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

/// Key of a partition's head.
pub fn head_key(topic: &str, partition: i32) -> String {
    format!("{}head", state_folder(topic, partition))
}

impl Head {
    /// A head of a batch that is stored.
    pub fn done(committed: Committed) -> Self {
        Self {
            committed,
            pending: Vec::new(),
            items: Arc::default(),
        }
    }

    /// Whether all that it decided is stored.
    pub fn is_finished(&self) -> bool {
        self.pending.is_empty() && self.items.is_empty()
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let pending = self.pending.iter().map(|object| PendingFile {
            key: object.key.clone(),
            bytes: object.bytes.len(),
            rows: object.content.rows,
            plain: object.content.bytes,
            crc: object.content.crc,
        });
        let items = self.items.encode();
        let file = HeadFile {
            v: VERSION,
            offset: self.committed.offset,
            metadata: self.committed.metadata(),
            pending: pending.collect(),
            items: items.len(),
        };
        let mut bytes = serde_json::to_vec(&file).unwrap_or_default();
        bytes.push(b'\n');
        for object in &self.pending {
            bytes.extend_from_slice(&object.bytes);
        }
        bytes.extend_from_slice(&items);
        bytes.into()
    }

    /// Reads a head.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub fn decode(mut bytes: Bytes) -> Result<Self, HeadError> {
        let damaged = |text: &str| HeadError::Damaged(text.to_owned());
        let line = memchr::memchr(b'\n', &bytes).ok_or_else(|| damaged("it has no line"))?;
        let json = bytes.split_to(line + 1);
        let wrong = |error: serde_json::Error| HeadError::Damaged(error.to_string());
        let version: VersionOnly = serde_json::from_slice(&json).map_err(wrong)?;
        if version.v != VERSION {
            return Err(HeadError::Version(version.v));
        }
        let file: HeadFile = serde_json::from_slice(&json).map_err(wrong)?;
        let mut pending = Vec::new();
        for object in file.pending {
            if object.bytes > bytes.len() {
                return Err(damaged("an object of it is cut"));
            }
            pending.push(Object {
                key: object.key,
                bytes: bytes.split_to(object.bytes),
                content: Content {
                    rows: object.rows,
                    bytes: object.plain,
                    crc: object.crc,
                },
            });
        }
        if bytes.len() != file.items {
            return Err(damaged("it is not as long as it says"));
        }
        let items = Items::decode(bytes).ok_or_else(|| damaged("its items are"))?;
        Ok(Self {
            committed: Committed::parse(file.offset, &file.metadata)?,
            pending,
            items: Arc::new(items),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::items::Mode;
    use crate::items::batch::Rows;
    use proptest::prelude::*;

    fn head(pending: Vec<(String, Vec<u8>)>, rows: &[String]) -> Head {
        let tables = vec![Rows {
            table: "items".into(),
            mode: Mode::Latest,
            rows: rows.iter().map(|row| row.clone().into()).collect(),
        }];
        let items = match rows.is_empty() {
            true => Items::default(),
            false => Items { tables },
        };
        Head {
            committed: Committed {
                offset: 9,
                names_from: 7,
                snapshot: Some("x.json.zst".into()),
                intent: None,
            },
            pending: pending
                .into_iter()
                .map(|(key, bytes)| Object {
                    key,
                    content: crate::store::plain_content(&bytes),
                    bytes: bytes.into(),
                })
                .collect(),
            items: Arc::new(items),
        }
    }

    #[test]
    fn what_is_refused() {
        let whole = head(vec![("a".into(), b"one".to_vec())], &["{}".into()]).encode();
        for cut in 0..whole.len() {
            assert!(Head::decode(whole.slice(..cut)).is_err(), "{cut}");
        }
        let mut longer = whole.to_vec();
        longer.push(b'x');
        assert!(Head::decode(longer.into()).is_err());
        assert!(matches!(
            Head::decode(Bytes::from_static(b"{\"v\":2}\n")),
            Err(HeadError::Version(2))
        ));
    }

    proptest! {
        #[test]
        fn heads_read_back(
            pending in prop::collection::vec(("[a-z=/]{1,20}", prop::collection::vec(any::<u8>(), 0..50)), 0..4),
            rows in prop::collection::vec("\\{[a-z\":,]{0,20}\\}", 0..4),
        ) {
            let head = head(pending, &rows);
            prop_assert_eq!(Head::decode(head.encode()).unwrap(), head);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Head::decode(bytes.into()).is_err());
        }
    }
}
