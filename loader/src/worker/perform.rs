//! What a partition asks for, done: commits, and what goes into the output. Each is a task of its worker, and
//! ends with it.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::backoff::Backoff;
use crate::books::markers_first;
use crate::consume::{Commit, CommitError};
use crate::crash;
use crate::partition::batch::Object;
use crate::partition::intent::Committed;
use crate::store::StoreError;
use crate::worker::{Ended, Shared};

/// Objects of one batch that are under way at once.
const UPLOADS: usize = 8;

pub(super) fn commit(
    member: &dyn Commit,
    partition: i32,
    epoch: u64,
    committed: &Committed,
) -> Result<(), Ended> {
    let begins = committed.intent.is_some();
    crash::point(if begins {
        "before-intent"
    } else {
        "before-done"
    });
    match member.commit(partition, epoch, committed) {
        Ok(()) => {
            crash::point(if begins {
                "intent-committed"
            } else {
                "done-committed"
            });
            Ok(())
        }
        Err(CommitError::NotOurs) => Err(Ended::Revoked),
        Err(error @ CommitError::Refused { .. }) => Err(Ended::Lost(error.to_string())),
    }
}

pub(super) async fn upload(
    shared: Arc<Shared>,
    objects: Arc<Vec<Object>>,
    who: (i32, u64),
) -> Result<(), Ended> {
    let mut tasks = JoinSet::new();
    for at in 0..objects.len() {
        if tasks.len() >= UPLOADS {
            join_one(&mut tasks).await?;
        }
        let (shared, objects) = (Arc::clone(&shared), Arc::clone(&objects));
        tasks.spawn(async move {
            put(&shared, &objects[at], who, at).await?;
            shared.metrics.objects.inc();
            shared
                .metrics
                .object_bytes
                .inc_by(objects[at].bytes.len() as u64);
            Ok(())
        });
        crash::point("object-under-way");
    }
    while !tasks.is_empty() {
        join_one(&mut tasks).await?;
        crash::point("object-stored");
    }
    crash::point("batch-stored");
    Ok(())
}

/// Stores markers and accounts. Where something else lies, another lineage wrote it (the group's offset was
/// set back, or the topic made anew): it stays, and is no reason to stop loading.
pub(super) async fn publish(
    shared: Arc<Shared>,
    objects: Arc<Vec<Object>>,
    who: (i32, u64),
) -> Result<(), Ended> {
    crash::point("before-publish");
    let (markers, accounts) = markers_first(&objects);
    for (at, marker) in markers.iter().enumerate() {
        say(&shared, marker, who, at).await;
        crash::point("publish-under-way");
    }
    let mut tasks = JoinSet::new();
    for (at, account) in accounts.iter().enumerate() {
        if tasks.len() >= UPLOADS {
            join_one(&mut tasks).await?;
        }
        let (shared, account) = (Arc::clone(&shared), account.clone());
        tasks.spawn(async move {
            say(&shared, &account, who, at).await;
            Ok(())
        });
        crash::point("publish-under-way");
    }
    while !tasks.is_empty() {
        join_one(&mut tasks).await?;
    }
    crash::point("published");
    Ok(())
}

/// Stores one marker or account; what was said before stays.
async fn say(shared: &Shared, object: &Object, who: (i32, u64), at: usize) {
    match put(shared, object, who, at).await {
        Ok(()) => shared.metrics.published.inc(),
        Err(TakenName(error)) => {
            shared.metrics.publish_conflicts.inc();
            tracing::warn!("an account was written before by another lineage, and stays: {error}");
            0
        }
    };
}

async fn join_one(tasks: &mut JoinSet<Result<(), Ended>>) -> Result<(), Ended> {
    match tasks.join_next().await {
        None => Ok(()),
        Some(Ok(done)) => done,
        Some(Err(error)) => Err(Ended::Stopped(format!("an upload ended early: {error}"))),
    }
}

/// Something else lies under an object's name; what it is.
pub(super) struct TakenName(String);

impl From<TakenName> for Ended {
    fn from(TakenName(error): TakenName) -> Self {
        Self::Stopped(error)
    }
}

/// Stores an object, for as long as it takes: while the output is down nothing else could be done,
/// and the offset stays where it is. `at`: which of a batch's it is. One that is refused is told: only a person
/// can help there.
pub(super) async fn put(
    shared: &Shared,
    object: &Object,
    who: (i32, u64),
    at: usize,
) -> Result<(), TakenName> {
    let mut backoff = Backoff::new(who.1 + at as u64);
    let mut was_refused = false;
    let put = loop {
        let bytes = object.bytes.clone();
        let error = match shared
            .store
            .put_new(&object.key, bytes, object.content)
            .await
        {
            Ok(_) => break Ok(()),
            Err(error @ (StoreError::Conflict { .. } | StoreError::Changed(_))) => {
                break Err(TakenName(error.to_string()));
            }
            Err(error) => error,
        };
        if matches!(error, StoreError::Refused(_)) {
            was_refused = true;
            shared.metrics.waits(who, error.to_string());
        }
        let wait = backoff.next_wait();
        shared.metrics.retries.inc();
        tracing::warn!(%error, ?wait, "not stored yet; trying again, the offset stays where it is");
        tokio::time::sleep(wait).await;
    };
    // Others of its batch may be under way for long: what was refused is no more. One that still is says so again.
    if was_refused {
        shared.metrics.goes_on(who);
    }
    put
}
