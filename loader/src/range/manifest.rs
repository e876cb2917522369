//! What an output of a stretch says about itself: which stretch, by which pipeline, and how far it
//! is. `verify` and `audit` read it; a run that goes on where one was killed does too.
//!
//! ```text
//! _headwater/range/<topic>.json                             the manifest, written first, never changed
//! _headwater/range/<topic>/<partition>/<offset, 20 digits>.json   all below is stored: as in the group
//! ```
//!
//! Batches of a stretch end where the records say, so no boundary is made durable before its objects:
//! whoever runs it again writes the same names with the same content, and finds them there.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::name::OWN_FOLDER;
use crate::partition::batch::Object;
use crate::partition::intent::Committed;
use crate::store::{Store, StoreError, plain_content};
use crate::upload::put;

const VERSION: u32 = 1;

/// The stretch that an output holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this form.
    pub v: u32,
    /// The topic.
    pub topic: String,
    /// Hash of the pipeline.
    pub pipeline: String,
    /// From where, as it was asked for.
    pub from: String,
    /// Up to where, as it was asked for.
    pub until: String,
    /// A batch ends at this many bytes of values, at so many records, and at so many objects.
    pub batch: BatchSize,
    /// Offsets `[from, to)` of each partition, as they were found when it was first run.
    pub partitions: BTreeMap<i32, (u64, u64)>,
    /// When it was begun, Unix milliseconds: the batch clock stands still there, whatever a producer
    /// wrote for a record's time.
    #[serde(default = "no_end")]
    pub begun_ms: u64,
}

/// Of manifests that do not say.
fn no_end() -> u64 {
    u64::MAX
}

/// Where batches of a stretch end: functions of the records alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchSize {
    /// Bytes of the records' values.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Objects.
    pub objects: usize,
}

impl Manifest {
    /// A manifest of today's form.
    pub fn new(
        topic: &str,
        pipeline: &str,
        (from, until): (String, String),
        batch: BatchSize,
        partitions: BTreeMap<i32, (u64, u64)>,
        begun_ms: u64,
    ) -> Self {
        Self {
            v: VERSION,
            topic: topic.to_owned(),
            pipeline: pipeline.to_owned(),
            from,
            until,
            batch,
            partitions,
            begun_ms,
        }
    }

    /// The manifest of an output; none where it is no stretch's.
    ///
    /// # Errors
    /// The output cannot be read, or the manifest is another version's.
    pub async fn load(store: &Store, topic: &str) -> anyhow::Result<Option<Self>> {
        load_from(store, &manifest_key(topic), VERSION).await
    }

    /// Stores it, unless another is there.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn store(&self, store: &Store) -> Result<(), StoreError> {
        store_at(store, &manifest_key(&self.topic), self).await
    }
}

/// What a place says about itself under `key`; none where it says nothing.
///
/// # Errors
/// It cannot be read, or is of another version.
pub async fn load_from<T: DeserializeOwned>(
    store: &Store,
    key: &str,
    version: u32,
) -> anyhow::Result<Option<T>> {
    let Some(bytes) = store.get(key).await? else {
        return Ok(None);
    };
    let there: Versioned = serde_json::from_slice(&bytes).with_context(|| key.to_owned())?;
    ensure!(
        there.v == version,
        "{key} has version {}; this loader knows {version}: run the newer loader",
        there.v
    );
    let said = serde_json::from_slice(&bytes).with_context(|| key.to_owned())?;
    Ok(Some(said))
}

/// Has a place say this about itself under `key`, unless it says something else.
///
/// # Errors
/// See [`StoreError`].
pub async fn store_at<T: Serialize>(store: &Store, key: &str, said: &T) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec_pretty(said).unwrap_or_default();
    let content = plain_content(&bytes);
    store.put_new(key, bytes.into(), content).await?;
    Ok(())
}

/// What any version says of itself.
#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

fn manifest_key(topic: &str) -> String {
    format!("{OWN_FOLDER}range/{topic}.json")
}

fn done_folder(topic: &str, partition: i32) -> String {
    format!("{OWN_FOLDER}range/{topic}/{partition}/")
}

fn done_key(topic: &str, partition: i32, offset: u64) -> String {
    format!("{}{offset:020}.json", done_folder(topic, partition))
}

/// How far a partition of a stretch is; none where nothing is stored yet.
///
/// # Errors
/// The output cannot be read, or holds something else there.
pub async fn done(store: &Store, topic: &str, partition: i32) -> anyhow::Result<Option<Committed>> {
    let folder = done_folder(topic, partition);
    let mut furthest = None;
    store
        .list(&folder, |listed| {
            let name = listed.key.strip_prefix(&folder);
            let name = name.and_then(|name| name.strip_suffix(".json"));
            furthest = furthest.max(name.and_then(|name| name.parse::<u64>().ok()));
        })
        .await?;
    let Some(offset) = furthest else {
        return Ok(None);
    };
    let key = done_key(topic, partition, offset);
    let bytes = store.get(&key).await?;
    let bytes =
        bytes.with_context(|| format!("{key} went away: another one runs; run it again"))?;
    let text = std::str::from_utf8(&bytes).with_context(|| key.clone())?;
    Ok(Some(Committed::parse(offset, text).with_context(|| key)?))
}

/// Says that all below `committed` is stored, and takes back what was said before.
///
/// # Errors
/// See [`StoreError`]; what may work later is tried again.
pub async fn set_done(
    store: &Arc<Store>,
    (topic, partition): (&str, i32),
    committed: &Committed,
    before: u64,
) -> Result<(), StoreError> {
    let bytes = committed.metadata().into_bytes();
    let object = Object {
        key: done_key(topic, partition, committed.offset),
        content: plain_content(&bytes),
        bytes: bytes.into(),
    };
    put(Arc::clone(store), object).await?;
    // One that stays does no harm: the furthest counts.
    if before < committed.offset
        && let Err(error) = store.remove(&done_key(topic, partition, before)).await
    {
        tracing::debug!(%error, "what was said before stays");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::folder::Folder;

    #[tokio::test]
    async fn the_furthest_counts_and_a_manifest_is_never_changed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::Folder(Folder::new(folder.path().into())));
        assert_eq!(Manifest::load(&store, "t").await.unwrap(), None);
        assert_eq!(done(&store, "t", 1).await.unwrap(), None);
        let batch = BatchSize {
            bytes: 1,
            records: 2,
            objects: 3,
        };
        let asked = ("earliest".to_owned(), "latest".to_owned());
        let mut manifest = Manifest::new("t", "ab", asked, batch, [(1, (5, 9))].into(), 7);
        manifest.store(&store).await.unwrap();
        manifest.store(&store).await.unwrap();
        assert_eq!(
            Manifest::load(&store, "t").await.unwrap(),
            Some(manifest.clone())
        );
        manifest.batch.bytes = 2;
        assert!(matches!(
            manifest.store(&store).await,
            Err(StoreError::Conflict { .. })
        ));
        let at = |offset, names_from| Committed {
            offset,
            names_from,
            snapshot: Some("s".into()),
            intent: None,
        };
        set_done(&store, ("t", 1), &at(7, 5), 5).await.unwrap();
        // One that was overtaken says its own once more.
        set_done(&store, ("t", 1), &at(100, 7), 7).await.unwrap();
        set_done(&store, ("t", 1), &at(7, 5), 5).await.unwrap();
        assert_eq!(done(&store, "t", 1).await.unwrap(), Some(at(100, 7)));
        assert_eq!(done(&store, "t", 10).await.unwrap(), None);
    }
}
