//! One partition's records of one event, exactly once.
//!
//! ```text
//! read the head ─► finish what is pending ─► take the records that are new ─► change the head: this
//! batch, with all its bytes, is decided ─► store its objects and its state ─► change the head: done
//! ```
//!
//! The heart is the loader's own [`Partition`]; here the head takes the place of the group. Whoever
//! changes it decides; one whose change is refused (`If-Match`) was overtaken, reads it again and
//! finds its records stored. So an event may come twice, at once, cut shorter or in halves, and an
//! invocation may be cut off anywhere and thawed later: the bucket's bytes are the same.

use std::sync::Arc;

use thiserror::Error;
use tokio::task::JoinError;

use super::head::{Head, HeadError, head_key};
use crate::backoff::Backoff;
use crate::clock;
use crate::config::Plan;
use crate::crash;
use crate::fetched::Fetched;
use crate::items::batch::Items;
use crate::items::write::{Patience, write_all};
use crate::metrics::ItemCounts;
use crate::name::state_folder;
use crate::partition::batch::{Counts, Object};
use crate::partition::intent::Committed;
use crate::partition::{Action, Bounds, Event, Limits, Partition, PartitionError};
use crate::pipeline::Pipeline;
use crate::recover::{RecoverError, has_group_state, load_state, tidy};
use crate::store::dynamodb::DynamoDb;
use crate::store::{Store, StoreError, Version, plain_content};
use crate::upload::{UploadError, publish, put, put_all};
use crate::worker::say_full;

/// How often an invocation that was overtaken reads the head again.
const OVERTAKEN_MAX: usize = 5;

/// A partition's records could not be stored. The head says how far it is.
#[derive(Debug, Error)]
pub enum LambdaError {
    /// The output.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The head.
    #[error("{key}: {source}")]
    Head {
        /// Its key.
        key: String,
        /// Why.
        source: HeadError,
    },
    /// The state.
    #[error(transparent)]
    State(#[from] RecoverError),
    /// The heart.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// A consumer group writes here.
    #[error(
        "a consumer group has loaded into this output (or the function's head was removed), and its offsets are not Lambda's; give the function an output of its own"
    )]
    OfAGroup,
    /// A task was cut off.
    #[error("an upload ended early: {0}")]
    Task(JoinError),
    /// Others are faster, again and again.
    #[error("other invocations change the head of partition {0} again and again")]
    Overtaken(i32),
}

impl From<UploadError> for LambdaError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Store(error) => Self::Store(error),
            UploadError::Task(error) => Self::Task(error),
        }
    }
}

/// What an event's records of a partition came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// Everything below is stored.
    pub offset: u64,
    /// What they were; nothing for a repeat.
    pub counts: Counts,
    /// Objects of rows that were stored, and their bytes.
    pub objects: (u64, u64),
}

impl Loaded {
    fn note(&mut self, action: &Action) {
        if let Action::Upload(objects) = action {
            self.objects.0 += objects.len() as u64;
            let bytes = objects.iter().map(|object| object.bytes.len() as u64);
            self.objects.1 += bytes.sum::<u64>();
        }
    }
}

/// Objects of a begun batch after which the head is written anew with the rest: so a batch that takes
/// longer than one invocation gets on.
const FINISH_AT_ONCE: usize = 64;
/// The same of items: a table of little capacity takes them slowly.
const ITEMS_AT_ONCE: usize = 500;

/// Everything of an event is one batch, unless it would make more objects than a batch may.
fn bounds(plan: &Plan) -> Bounds {
    let limits = Limits {
        objects: plan.flush.objects,
        ..Limits::NONE
    };
    Bounds {
        limits,
        ..plan.bounds()
    }
}

/// What records are stored with.
#[derive(Debug, Clone, Copy)]
pub struct Means<'a> {
    /// The configuration.
    pub plan: &'a Plan,
    /// Its pipeline, over the tables as they are now.
    pub pipeline: &'a Arc<Pipeline>,
    /// Where objects go.
    pub store: &'a Arc<Store>,
    /// Where items go.
    pub tables: &'a Arc<DynamoDb>,
    /// What came of them.
    pub items: &'a ItemCounts,
}

/// Stores the records of one partition that are not stored yet.
///
/// # Errors
/// See [`LambdaError`].
pub async fn load(
    means: Means<'_>,
    partition: i32,
    fetched: &Fetched,
) -> Result<Loaded, LambdaError> {
    let Means {
        plan,
        pipeline,
        store,
        tables,
        items,
    } = means;
    let work = Work {
        plan,
        pipeline,
        store,
        tables,
        items,
        partition,
        key: head_key(&plan.kafka.topic, partition),
        folder: state_folder(&plan.kafka.topic, partition),
    };
    let mut overtaken = 0;
    let mut backoff = Backoff::new(u64::from(partition.unsigned_abs()));
    while overtaken < OVERTAKEN_MAX {
        match work.once(fetched).await {
            // The second: the state that the head named when it was read is gone. Once more that, and
            // nobody was faster: it was removed.
            Err(LambdaError::State(error @ RecoverError::Missing(_))) if overtaken > 0 => {
                return Err(error.into());
            }
            Err(
                LambdaError::Store(StoreError::Changed(_))
                | LambdaError::State(RecoverError::Missing(_)),
            ) => {
                tracing::info!(partition, "another invocation was faster; its head is read");
                overtaken += 1;
                tokio::time::sleep(backoff.next_wait() / 5).await;
            }
            // A change of the head that may have been made, too: reading it tells.
            Err(
                LambdaError::Store(StoreError::Later(error))
                | LambdaError::State(RecoverError::Store(StoreError::Later(error))),
            ) => {
                let wait = backoff.next_wait();
                tracing::warn!(partition, %error, ?wait, "the output does not answer; trying again");
                tokio::time::sleep(wait).await;
            }
            done => return done,
        }
    }
    Err(LambdaError::Overtaken(partition))
}

/// The offset of an event from which Lambda has to hand it over again: the first that is not stored.
/// Where all is decided and not all stored, the last, so that somebody finishes it.
///
/// # Errors
/// See [`LambdaError`].
pub async fn resume_from(
    plan: &Plan,
    store: &Store,
    partition: i32,
    fetched: &Fetched,
) -> Result<Option<u64>, LambdaError> {
    let key = head_key(&plan.kafka.topic, partition);
    let head = match store.get_versioned(&key).await? {
        Some((bytes, _)) => {
            Some(Head::decode(bytes).map_err(|source| LambdaError::Head { key, source })?)
        }
        None => None,
    };
    Ok(first_missing(head.as_ref(), fetched))
}

fn first_missing(head: Option<&Head>, fetched: &Fetched) -> Option<u64> {
    let stored = head.map_or(0, |head| head.committed.offset);
    let mut offsets = fetched.entries.iter().map(|entry| entry.offset);
    let finished = head.is_none_or(Head::is_finished);
    let last = fetched.entries.last().map(|entry| entry.offset);
    offsets
        .find(|at| *at >= stored)
        .or(last.filter(|_| !finished))
}

struct Work<'a> {
    plan: &'a Plan,
    pipeline: &'a Arc<Pipeline>,
    store: &'a Arc<Store>,
    tables: &'a Arc<DynamoDb>,
    items: &'a ItemCounts,
    partition: i32,
    key: String,
    folder: String,
}

impl Work<'_> {
    /// Once from reading the head to changing it for the last time.
    async fn once(&self, fetched: &Fetched) -> Result<Loaded, LambdaError> {
        let first = fetched.entries.first().map_or(0, |entry| entry.offset);
        let (head, mut version) = self.head(first).await?;
        let finished = head.is_finished();
        let mut committed = head.committed;
        if !finished {
            tracing::info!(
                partition = self.partition,
                offset = committed.offset,
                "a batch was decided and not finished; finishing it"
            );
            version = self
                .finish(committed.clone(), (&head.pending, &head.items), version)
                .await?;
            tidy(self.store, &self.folder, &committed).await;
        }
        if version.is_none() {
            // Before anything else of ours lies here: state without a head is a group's.
            version = self.change(&Head::done(committed.clone()), None).await?;
        }
        let mut loaded = Loaded {
            offset: committed.offset,
            ..Loaded::default()
        };
        let last = fetched.entries.last().map(|entry| entry.offset);
        if last.is_none_or(|last| last < committed.offset) {
            return Ok(loaded);
        }
        if first > committed.offset {
            tracing::warn!(
                partition = self.partition,
                from = committed.offset,
                to = first,
                "Lambda handed no records of these offsets over: markers of transactions, or records that the \
                 trigger gave up; `audit` tells of those that are an agent's"
            );
        }
        let state = load_state(self.store, &self.folder, committed.snapshot.as_deref()).await?;
        // What an intent is to a group, the pending objects are here: there is none to make again.
        committed.intent = None;
        let mut machine = Partition::recover(
            (&self.plan.kafka.topic, self.partition),
            bounds(self.plan),
            Arc::clone(self.pipeline),
            committed,
            state,
            None,
        )?;
        let mut taken = 0;
        loop {
            taken += machine.take(fetched, taken, clock::now())?;
            if taken >= fetched.entries.len() {
                machine.apply(Event::Stop, clock::now())?;
            }
            version = self.perform(&mut machine, version, &mut loaded).await?;
            for counts in machine.take_counts() {
                loaded.counts = loaded.counts.plus(&counts);
                if counts.unaccounted > 0 {
                    say_full(self.partition);
                }
            }
            if machine.is_finished() {
                break;
            }
        }
        loaded.offset = machine.committed_offset();
        Ok(loaded)
    }

    async fn head(&self, first: u64) -> Result<(Head, Option<Version>), LambdaError> {
        if let Some((bytes, version)) = self.store.get_versioned(&self.key).await? {
            let head = Head::decode(bytes).map_err(|source| LambdaError::Head {
                key: self.key.clone(),
                source,
            })?;
            return Ok((head, Some(version)));
        }
        if has_group_state(self.store, &self.folder).await? {
            return Err(LambdaError::OfAGroup);
        }
        let committed = Committed::at(first);
        Ok((Head::done(committed), None))
    }

    /// Performs all that the heart asks for now.
    async fn perform(
        &self,
        machine: &mut Partition,
        version: Option<Version>,
        loaded: &mut Loaded,
    ) -> Result<Option<Version>, LambdaError> {
        let mut version = version;
        while let Some(action) = machine.next_action() {
            let is_awaited = action.is_awaited();
            loaded.note(&action);
            version = self.act(machine, action, version).await?;
            if is_awaited {
                machine.apply(Event::ActionDone, clock::now())?;
            }
        }
        Ok(version)
    }

    /// Performs one thing.
    async fn act(
        &self,
        machine: &Partition,
        action: Action,
        version: Option<Version>,
    ) -> Result<Option<Version>, LambdaError> {
        match action {
            // The boundary: with all its bytes, so that nobody needs its records again.
            Action::Commit(committed) if committed.intent.is_some() => {
                let Some(closing) = machine.closing() else {
                    return Ok(version);
                };
                let (name, bytes) = &closing.snapshot;
                let mut pending = closing.objects.to_vec();
                pending.push(self.state_object(name, bytes.clone()));
                let head = Head {
                    committed: closing.done.clone(),
                    pending,
                    items: Arc::clone(&closing.items),
                };
                crash::point("before-intent");
                let version = self.change(&head, version).await?;
                crash::point("intent-committed");
                Ok(version)
            }
            Action::Upload(objects) => {
                put_all(self.store, &objects).await?;
                crash::point("batch-stored");
                Ok(version)
            }
            Action::Publish(objects) => {
                publish(self.store, &objects).await?;
                crash::point("published");
                Ok(version)
            }
            Action::WriteItems(items) => {
                self.write_items(&items).await?;
                Ok(version)
            }
            Action::StoreSnapshot { name, bytes } => {
                put(Arc::clone(self.store), self.state_object(&name, bytes)).await?;
                crash::point("snapshot-stored");
                Ok(version)
            }
            Action::Commit(committed) => {
                crash::point("before-done");
                let version = self.change(&Head::done(committed), version).await?;
                crash::point("done-committed");
                Ok(version)
            }
            Action::RemoveSnapshot(name) => {
                let key = format!("{}{name}", self.folder);
                if let Err(error) = self.store.remove(&key).await {
                    tracing::debug!(%error, "an old snapshot stays; it does no harm");
                }
                Ok(version)
            }
        }
    }

    /// Stores what another invocation decided, and says that it is done.
    async fn finish(
        &self,
        committed: Committed,
        (pending, items): (&[Object], &Arc<Items>),
        version: Option<Version>,
    ) -> Result<Option<Version>, LambdaError> {
        let mut version = version;
        let mut rest = pending;
        let mut left = Arc::clone(items);
        loop {
            let (now, then) = rest.split_at(rest.len().min(FINISH_AT_ONCE));
            put_all(self.store, now).await?;
            if then.is_empty() {
                let (some, others) = left.split(ITEMS_AT_ONCE);
                self.write_items(&Arc::new(some)).await?;
                left = Arc::new(others);
            }
            let head = Head {
                committed: committed.clone(),
                pending: then.to_vec(),
                items: Arc::clone(&left),
            };
            version = self.change(&head, version).await?;
            if then.is_empty() && left.is_empty() {
                return Ok(version);
            }
            rest = then;
        }
    }

    async fn write_items(&self, items: &Arc<Items>) -> Result<(), LambdaError> {
        let patience = Patience::UntilRefused;
        let seed = u64::from(self.partition.unsigned_abs());
        write_all(self.tables, items, self.items, patience, seed).await?;
        Ok(())
    }

    fn state_object(&self, name: &str, bytes: bytes::Bytes) -> Object {
        Object {
            key: format!("{}{name}", self.folder),
            content: plain_content(&bytes),
            bytes,
        }
    }

    /// Changes the head, if it is still the one that was read. An answer that did not come may have
    /// been a yes: whoever reads the head then knows.
    async fn change(
        &self,
        head: &Head,
        version: Option<Version>,
    ) -> Result<Option<Version>, LambdaError> {
        let changed = self
            .store
            .put_versioned(&self.key, head.encode(), version.as_ref())
            .await?;
        Ok(Some(changed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetched::Identity;

    #[test]
    fn an_answer_names_an_offset_of_the_event() {
        let mut fetched = Fetched::default();
        for offset in [5, 6, 9] {
            fetched.push(offset, 0, None, Identity::Foreign);
        }
        let head = |offset, pending: bool| Head {
            committed: Committed {
                offset,
                names_from: offset,
                snapshot: None,
                intent: None,
            },
            pending: match pending {
                true => vec![Object {
                    key: "k".into(),
                    bytes: <_>::default(),
                    content: plain_content(b""),
                }],
                false => Vec::new(),
            },
            items: Arc::default(),
        };
        for (stored, first) in [(0, Some(5)), (6, Some(6)), (7, Some(9)), (10, None)] {
            assert_eq!(first_missing(Some(&head(stored, false)), &fetched), first);
        }
        assert_eq!(first_missing(Some(&head(10, true)), &fetched), Some(9));
        assert_eq!(first_missing(Some(&head(7, true)), &fetched), Some(9));
        assert_eq!(first_missing(None, &fetched), Some(5));
    }
}
