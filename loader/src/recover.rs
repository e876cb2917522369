//! What a partition goes on from: what the group holds, the snapshot that it names, the pipeline of
//! a batch that was begun.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::clock;
use crate::config::Plan;
use crate::consume::CommittedOffset;
use crate::lambda::head::head_key;
use crate::name::{ObjectName, snapshot_end, state_folder};
use crate::partition::intent::{Committed, IntentError};
use crate::partition::{Partition, PartitionError, Replay};
use crate::pipeline::{Pipeline, PipelineError};
use crate::state::{Brief, Carried, Snapshot, SnapshotError};
use crate::store::{Store, StoreError};

/// A batch clock this much ahead is told: machines' clocks differ by less.
const AHEAD_MS: u64 = 60_000;
/// How many snapshots are looked into for the one to go on from, where the group does not say: all of the highest
/// offset, and from below as many as make this number. There is one, and one for each crash between storing and
/// committing it; more are of batches long ago that nobody could remove.
const RANKED: usize = 8;

mod pipelines;

pub use pipelines::{Pipelines, store_pipeline};

/// A partition cannot be taken up.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// The output did not answer as it should.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What stands in the group cannot be used.
    #[error("partition {partition}, offset {offset}: {source}")]
    Intent {
        /// Partition.
        partition: i32,
        /// Committed offset.
        offset: u64,
        /// Why.
        source: IntentError,
    },
    /// Something that the group names is not in the output.
    #[error(
        "{0} is not in this output. Was output.url changed? Then give the group a new id, or bring _headwater/ along"
    )]
    Missing(String),
    /// A function of AWS Lambda writes here.
    #[error(
        "partition {0}: a function of AWS Lambda has loaded into this output, and its offsets are not the group's; give the group an output of its own"
    )]
    OfLambda(i32),
    /// A snapshot is broken.
    #[error("{key}: {source}")]
    Snapshot {
        /// Its key.
        key: String,
        /// Why.
        source: SnapshotError,
    },
    /// The pipeline of a begun batch cannot run here.
    #[error("{key}: {source}")]
    Pipeline {
        /// Its key.
        key: String,
        /// Why.
        source: PipelineError,
    },
    /// The output is ahead of the topic.
    #[error(
        "partition {partition}: the group has lost its offset, the output holds all below offset {stored}, and the topic ends at {end}. Was it made anew? Then give the group a new id and its output a new place: new records would be taken for what is stored"
    )]
    Beyond {
        /// Partition.
        partition: i32,
        /// What the newest state says.
        stored: u64,
        /// What the topic has.
        end: u64,
    },
    /// It is not known whether the output is ahead of the topic.
    #[error(
        "partition {0}: the group has lost its offset, and where the topic ends is not known (has it no leader?); it is taken up when that is known"
    )]
    EndUnknown(i32),
    /// A begun batch can no longer be read.
    #[error(
        "partition {partition}: a batch was begun at offset {offset}, and the topic now starts at {low}: its records are gone by retention. Nothing is written; move the group's offset to {low} to go on without them"
    )]
    Gone {
        /// Partition.
        partition: i32,
        /// Where the batch starts.
        offset: u64,
        /// What the topic still has.
        low: u64,
    },
    /// It cannot start.
    #[error(transparent)]
    Partition(#[from] PartitionError),
}

impl RecoverError {
    /// Whether it comes of what the group and the topic said when the partition was assigned: the same values say
    /// the same again, whatever is mended meanwhile.
    pub fn is_of_assignment(&self) -> bool {
        match self {
            Self::Intent { .. } | Self::Beyond { .. } | Self::EndUnknown(_) | Self::Gone { .. } => {
                true
            }
            Self::Store(_)
            | Self::Missing(_)
            | Self::OfLambda(_)
            | Self::Snapshot { .. }
            | Self::Pipeline { .. }
            | Self::Partition(_) => false,
        }
    }
}

async fn load_snapshot(store: &Store, folder: &str, name: &str) -> Result<Snapshot, RecoverError> {
    let key = format!("{folder}{name}");
    let object = store
        .open(&key)
        .await?
        .ok_or_else(|| RecoverError::Missing(key.clone()))?;
    let snapshot = object.through(Snapshot::read).await?;
    snapshot.map_err(|source| RecoverError::Snapshot { key, source })
}

/// The snapshot of a partition's folder that knows of most, at or below `limit`, and what it is the state of. Where
/// there are several, it is read what they know ([`Rank`](crate::state::Rank)).
///
/// # Errors
/// See [`RecoverError`].
pub async fn newest_snapshot(
    store: &Store,
    folder: &str,
    limit: u64,
) -> Result<Option<(u64, String)>, RecoverError> {
    let candidates = candidates(snapshots(store, folder, limit).await?);
    if candidates.len() < 2 {
        return Ok(candidates.into_iter().next());
    }
    let mut newest = None;
    let mut gone = None;
    for (end, name) in candidates {
        let key = format!("{folder}{name}");
        // One that is gone by now was removed by somebody who has a later one.
        if let Some(object) = store.open(&key).await? {
            let brief = object.through(Brief::read).await?;
            let brief = brief.map_err(|source| RecoverError::Snapshot { key, source })?;
            newest = newest.max(Some((brief.rank(), end, name)));
        } else {
            gone = Some(key);
        }
    }
    match (newest, gone) {
        // All of them: there is a later one by now, and no state is not the answer.
        (None, Some(key)) => Err(RecoverError::Missing(key)),
        (newest, _) => Ok(newest.map(|(_, end, name)| (end, name))),
    }
}

/// Those of a partition's snapshots that are looked into, where it matters what they know: see [`RANKED`].
pub(crate) fn candidates(mut found: Vec<(u64, String)>) -> Vec<(u64, String)> {
    found.sort_unstable();
    let highest = found.last().map(|(end, _)| *end);
    let before = found.partition_point(|(end, _)| Some(*end) < highest);
    let from = before.min(found.len().saturating_sub(RANKED));
    found.split_off(from)
}

/// All snapshots of a partition's folder at or below `limit`: what each is the state of, and its name.
pub(crate) async fn snapshots(
    store: &Store,
    folder: &str,
    limit: u64,
) -> Result<Vec<(u64, String)>, StoreError> {
    let mut found = Vec::new();
    store
        .list(folder, |listed| {
            let name = listed.key.trim_start_matches(folder);
            let end = snapshot_end(name).filter(|end| *end <= limit);
            found.extend(end.map(|end| (end, name.to_owned())));
        })
        .await?;
    Ok(found)
}

/// The state that a snapshot holds; an empty one where there is none yet.
///
/// # Errors
/// See [`RecoverError`].
pub async fn load_state(
    store: &Store,
    folder: &str,
    snapshot: Option<&str>,
) -> Result<Carried, RecoverError> {
    match snapshot {
        Some(name) => Ok(load_snapshot(store, folder, name).await?.into()),
        None => Ok(Carried::default()),
    }
}

/// Whether a consumer group has left state in a partition's folder.
///
/// # Errors
/// See [`StoreError`].
pub async fn has_group_state(store: &Store, folder: &str) -> Result<bool, StoreError> {
    Ok(!snapshots(store, folder, u64::MAX).await?.is_empty())
}

/// What stands in the group, made sense of. Where somebody set the offset by hand, or the group lost
/// it, the snapshots beside the data say what had come.
async fn make_sense(
    store: &Store,
    partition: i32,
    committed: Option<&CommittedOffset>,
    (low, end): (u64, Option<u64>),
    folder: &str,
) -> Result<Committed, RecoverError> {
    if let Some(CommittedOffset { offset, metadata }) =
        committed.filter(|held| !held.metadata.is_empty())
    {
        return Committed::parse(*offset, metadata).map_err(|source| RecoverError::Intent {
            partition,
            offset: *offset,
            source,
        });
    }
    let by_hand = committed.map(|held| held.offset);
    let newest = newest_snapshot(store, folder, by_hand.unwrap_or(u64::MAX)).await?;
    if let Some((stored, name)) = &newest {
        let end = end.ok_or(RecoverError::EndUnknown(partition))?;
        if *stored > end {
            return Err(RecoverError::Beyond {
                partition,
                stored: *stored,
                end,
            });
        }
        tracing::warn!(
            partition,
            snapshot = %name,
            "the group holds no state for this partition; the newest snapshot in the output, behind offset {stored}, is taken instead. If the topic was made anew, stop, and give it a new group and a new output: its records below that offset are passed over"
        );
    }
    let offset = by_hand
        .or(newest.as_ref().map(|(end, _)| *end))
        .unwrap_or(low);
    Ok(Committed {
        offset,
        names_from: offset,
        snapshot: newest.map(|(_, name)| name),
        intent: None,
    })
}

/// Where the group says nothing, the state says where names go on: below its offset, where the last batches had no
/// rows. Not where somebody set the group ahead of it: what is passed over is in no object.
pub(crate) fn go_on_with_names(committed: &mut Committed, state: &Carried) {
    let snapshot = committed.snapshot.as_deref();
    if let Some(named) = state.named
        && snapshot.and_then(snapshot_end) == Some(committed.offset)
    {
        committed.names_from = named.to.min(committed.offset);
    }
}

/// A partition that can go on.
#[derive(Debug)]
pub struct Recovered {
    /// The partition.
    pub machine: Partition,
    /// Where it has to be read from.
    pub from: u64,
    /// Offsets that retention deleted before they were read; empty where there are none.
    pub lost: Range<u64>,
}

/// Takes a partition up.
///
/// # Errors
/// See [`RecoverError`].
pub async fn recover(
    plan: &Plan,
    (store, pipelines): (&Store, &Pipelines),
    partition: i32,
    committed: Option<&CommittedOffset>,
    (low, end): (u64, Option<u64>),
) -> Result<Recovered, RecoverError> {
    let topic = plan.kafka.topic.as_str();
    let folder = state_folder(topic, partition);
    if store.get(&head_key(topic, partition)).await?.is_some() {
        return Err(RecoverError::OfLambda(partition));
    }
    let held = committed;
    let mut committed = make_sense(store, partition, held, (low, end), &folder).await?;
    let lost = committed.offset..committed.offset.max(low);
    if !lost.is_empty() {
        // One without a record needs none to be made again.
        let begun = committed.intent.as_ref();
        if begun.is_some_and(|intent| intent.end > committed.offset) {
            return Err(RecoverError::Gone {
                partition,
                offset: committed.offset,
                low,
            });
        }
        tracing::error!(
            partition,
            "offsets [{}, {}) were deleted by the topic's retention before they were read; what they \
             held is lost here, and `audit` and `verify` show the gap. Raise retention.ms, or see what kept the loader \
             from reading for so long",
            lost.start,
            lost.end
        );
    }
    let state = load_state(store, &folder, committed.snapshot.as_deref()).await?;
    if held.is_none_or(|held| held.metadata.is_empty()) {
        go_on_with_names(&mut committed, &state);
    }
    warn_of_clock(partition, &plan.pipeline, state.clock_ms);
    let replay = match &committed.intent {
        None => None,
        Some(intent) => Some(Replay {
            intent: intent.clone(),
            pipeline: pipelines.get(store, &intent.pipeline).await?,
        }),
    };
    tidy(store, &folder, &committed).await;
    if committed.intent.is_some() {
        abort_uploads(store, topic, partition).await;
    }
    let from = lost.end;
    let pipeline = Arc::clone(&plan.pipeline);
    let mut machine = Partition::recover(
        (topic, partition),
        plan.bounds(),
        pipeline,
        committed,
        state,
        replay,
    )?;
    if !lost.is_empty() {
        machine.pass_over(lost.end);
    }
    if end.is_none() {
        machine.hold_pages();
    }
    Ok(Recovered {
        machine,
        from,
        lost,
    })
}

/// A batch clock that is ahead is gone on with: what was said to be complete stays so. A person has to know.
fn warn_of_clock(partition: i32, pipeline: &Pipeline, clock_ms: u64) {
    let ahead_ms = clock_ms.saturating_sub(clock::now().wall_ms);
    if ahead_ms > AHEAD_MS && !pipeline.spec().accounts.is_off() {
        tracing::warn!(
            partition,
            ahead = ?Duration::from_millis(ahead_ms),
            "the batch clock of this partition is ahead of this machine's clock; with [accounts] it stands still \
             until that has caught up. Was a loader's clock wrong, or is this one's?"
        );
    }
}

/// Gives up uploads in parts that a crash cut off. The begun batch makes them again; they would only
/// cost storage.
async fn abort_uploads(store: &Store, topic: &str, partition: i32) {
    let ours = |key: &str| {
        ObjectName::parse(key)
            .is_some_and(|name| name.topic == topic && name.partition == partition)
    };
    match store.abort_unfinished(ours).await {
        Ok(0) => {}
        Ok(aborted) => tracing::info!(partition, aborted, "unfinished uploads of a crash given up"),
        Err(error) => {
            tracing::debug!(%error, "unfinished uploads cannot be looked for; a lifecycle rule removes them");
        }
    }
}

/// Removes snapshots of batches before the committed one, which a crash may have left. One that cannot be
/// removed does no harm.
pub async fn tidy(store: &Store, folder: &str, committed: &Committed) {
    let mut old = Vec::new();
    let listed = store
        .list(folder, |listed| {
            let name = listed.key.trim_start_matches(folder);
            // Not those of the same offset: a batch without a record, which turns a page of the accounts,
            // leaves the offset where it is, so one of them may be what a successor has just committed.
            let before = snapshot_end(name).is_some_and(|end| end < committed.offset);
            if before && committed.snapshot.as_deref() != Some(name) {
                old.push(listed.key);
            }
        })
        .await;
    let mut failed = listed.err();
    for key in old {
        failed = store.remove(&key).await.err().or(failed);
    }
    if let Some(error) = failed {
        tracing::debug!(%error, "old snapshots could not be removed; they do no harm");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::partition::intent::Intent;
    use crate::partition::{Action, Event};
    use crate::store::folder::Folder;
    use crate::store::plain_content;

    /// A state's name and bytes. What it says beside rows decides how it is called.
    fn state(end: u64, rows_ms: u64, clock_ms: u64) -> (String, Bytes) {
        let snapshot = Snapshot {
            topic: "logs".into(),
            partition: 0,
            end,
            clock_ms,
            rows_ms,
            named: None,
            ledger: <_>::default(),
            windows: <_>::default(),
            books: <_>::default(),
        };
        snapshot.encode().unwrap()
    }

    /// Somebody with a later one removes them between the list and the look: that there was never a state is not the
    /// answer, for then all that the topic has would be stored again.
    #[tokio::test]
    async fn states_that_went_while_they_were_looked_at_are_looked_for_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::Folder(Folder::new(folder.path().into()));
        let place = folder.path().join("0");
        std::fs::create_dir(&place).unwrap();
        for clock_ms in [1, 2] {
            // Listed, and not to be opened.
            let name = place.join(state(9, 5, clock_ms).0);
            std::os::unix::fs::symlink("nothing", name).unwrap();
        }
        let newest = newest_snapshot(&store, "0/", u64::MAX).await;
        assert!(
            matches!(newest, Err(RecoverError::Missing(_))),
            "{newest:?}"
        );
    }

    /// Three states of one offset, and one ahead of them that a loader without a row left behind: the one that knows of
    /// the last row, whatever they are called.
    #[tokio::test]
    async fn where_the_group_says_nothing_the_state_that_knows_of_all_rows_is_gone_on_from() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::Folder(Folder::new(folder.path().into()));
        for order in [[0, 1, 2], [2, 1, 0]] {
            let mut same: Vec<_> = (0..3)
                .map(|at| state(9, 5 + order[at], 20 + at as u64))
                .collect();
            let wanted = same[order.iter().position(|rows| *rows == 2).unwrap()]
                .0
                .clone();
            same.push(state(12, 6, 50));
            let place = format!("{}/", order[0]);
            for (name, bytes) in same {
                let content = plain_content(&bytes);
                let key = format!("{place}{name}");
                store.put_new(&key, bytes, content).await.unwrap();
            }
            let newest = newest_snapshot(&store, &place, u64::MAX).await.unwrap();
            assert_eq!(newest, Some((9, wanted)));
        }
    }

    /// Retention passed the offset of a begun batch: one without a record needs none, any other one does.
    #[tokio::test]
    async fn only_a_begun_batch_that_has_records_needs_them() {
        let root = tempfile::tempdir().unwrap();
        let text = format!(
            "[kafka]\nbrokers=['localhost:1']\ntopic='logs'\n[group]\nid='g'\n[output]\nurl='file://{}'\npath='all'\n",
            root.path().display()
        );
        let file = headwater_msk::config_file::parse(&text).unwrap();
        let plan = Plan::new(&file, crate::config::file::Tables::new(), None).unwrap();
        let (store, pipelines) = (
            Store::Folder(Folder::new(root.path().into())),
            Pipelines::default(),
        );
        pipelines.know(&plan.pipeline).await;
        let begun = |end: u64| {
            let committed = Committed {
                intent: Some(Intent {
                    end,
                    clock_ms: 5,
                    pipeline: plan.pipeline.hash().to_owned(),
                    windows: None,
                }),
                ..Committed::at(7)
            };
            CommittedOffset {
                offset: 7,
                metadata: committed.metadata(),
            }
        };
        let (quiet, with_records) = (begun(7), begun(8));
        let place = (&store, &pipelines);
        let gone = recover(&plan, place, 0, Some(&with_records), (20, Some(30))).await;
        assert!(matches!(
            gone,
            Err(RecoverError::Gone {
                offset: 7,
                low: 20,
                ..
            })
        ));
        let mut taken = recover(&plan, place, 0, Some(&quiet), (20, Some(30)))
            .await
            .unwrap();
        assert_eq!((taken.from, taken.lost), (20, 7..20));
        let mut done = None;
        while let Some(action) = taken.machine.next_action() {
            if let Action::Commit(committed) = action {
                done = Some(committed.offset);
            }
            taken
                .machine
                .apply(Event::ActionDone, clock::now())
                .unwrap();
        }
        assert_eq!((done, taken.machine.committed_offset()), (Some(20), 20));
    }

    /// A slow loader that lost the partition tidies up by what it knows: what its successor committed at
    /// the same offset stays.
    #[tokio::test]
    async fn only_states_of_batches_before_go() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::Folder(Folder::new(folder.path().into()));
        let name = |offset: u64, crc: u32| crate::name::snapshot_name(offset, crc);
        for (offset, crc) in [(5, 1), (9, 2), (9, 3), (12, 4)] {
            let bytes = Bytes::from_static(b"state");
            let content = plain_content(&bytes);
            let key = format!("s/{}", name(offset, crc));
            store.put_new(&key, bytes, content).await.unwrap();
        }
        let committed = Committed {
            offset: 9,
            names_from: 9,
            snapshot: Some(name(9, 2)),
            intent: None,
        };
        tidy(&store, "s/", &committed).await;
        let mut left = Vec::new();
        store
            .list("s/", |listed| left.push(listed.key))
            .await
            .unwrap();
        left.sort();
        let expected = [(9, 2), (9, 3), (12, 4)].map(|(o, c)| format!("s/{}", name(o, c)));
        assert_eq!(left, expected);
    }
}
