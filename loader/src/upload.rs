//! Stores objects, some at a time, for as long as it takes: for commands and functions, which end at
//! what only a person can mend.

use std::sync::Arc;

use thiserror::Error;
use tokio::task::{JoinError, JoinSet};

use crate::backoff::Backoff;
use crate::books::markers_first;
use crate::crash;
use crate::partition::batch::Object;
use crate::store::{Store, StoreError, Stored};

/// Objects that are under way at once.
const UPLOADS: usize = 8;

/// Objects could not be stored.
#[derive(Debug, Error)]
pub enum UploadError {
    /// The output.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task was cut off.
    #[error("an upload ended early: {0}")]
    Task(#[from] JoinError),
}

/// Stores objects. Returns how many were there already.
///
/// # Errors
/// See [`UploadError`].
pub async fn put_all(store: &Arc<Store>, objects: &[Object]) -> Result<u64, UploadError> {
    let mut tasks = JoinSet::new();
    let mut there = 0;
    let mut objects = objects.iter();
    loop {
        while tasks.len() < UPLOADS
            && let Some(object) = objects.next()
        {
            tasks.spawn(put(Arc::clone(store), object.clone()));
        }
        let Some(ended) = tasks.join_next().await else {
            return Ok(there);
        };
        there += u64::from(ended?? == Stored::AlreadyThere);
        crash::point("object-stored");
    }
}

/// Stores markers and accounts. Where something else lies, another lineage wrote it: it stays.
///
/// # Errors
/// See [`UploadError`].
pub async fn publish(store: &Arc<Store>, objects: &[Object]) -> Result<(), UploadError> {
    let (markers, accounts) = markers_first(objects);
    for marker in markers {
        said(put(Arc::clone(store), marker.clone()).await)?;
    }
    let mut tasks = JoinSet::new();
    let mut accounts = accounts.iter();
    loop {
        while tasks.len() < UPLOADS
            && let Some(account) = accounts.next()
        {
            tasks.spawn(put(Arc::clone(store), account.clone()));
        }
        match tasks.join_next().await {
            None => return Ok(()),
            Some(ended) => said(ended?)?,
        }
    }
}

/// What was said before stays.
fn said(stored: Result<Stored, StoreError>) -> Result<(), StoreError> {
    match stored {
        Err(error @ StoreError::Conflict { .. }) => {
            tracing::warn!(%error, "an account was written before by another lineage, and stays");
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Stores an object.
///
/// # Errors
/// See [`StoreError`]; what may work later is tried again.
pub async fn put(store: Arc<Store>, object: Object) -> Result<Stored, StoreError> {
    let mut backoff = Backoff::new(object.bytes.len() as u64);
    loop {
        let bytes = object.bytes.clone();
        match store.put_new(&object.key, bytes, object.content).await {
            Err(StoreError::Later(error)) => {
                let wait = backoff.next_wait();
                tracing::warn!(%error, ?wait, "not stored yet; trying again");
                tokio::time::sleep(wait).await;
            }
            done => return done,
        }
    }
}
