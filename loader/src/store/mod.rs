//! Where objects lie: S3, or a local folder with the same promises.
//!
//! A few verbs. The one that matters is [`Store::put_new`]: an object appears whole or not at all, an
//! object that is there is never overwritten, and finding it there is success only once what it
//! holds is what was to be written.

mod aws;
mod counted;
pub mod dynamodb;
pub mod folder;
mod reading;
pub mod s3;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::encode::Content;
use crate::store::folder::Folder;
use crate::store::s3::S3;

pub use aws::Retries;
pub use reading::{Pieces, Reading};

/// Objects of a folder that are shown at a time.
const PAGE: usize = 1000;

/// How an object came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// This call wrote it.
    Written,
    /// It was there, with the same content.
    AlreadyThere,
}

/// Which state of an object was read: what a conditional change is measured against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(String);

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key below the output's prefix.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, Unix milliseconds.
    pub modified_ms: u64,
}

/// What a caller can do about a failure.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It may well work later: an overload, a time-out, a network that is down.
    #[error("{0}")]
    Later(String),
    /// It will not work until somebody changes something: no bucket, no permission, no such folder.
    #[error("{0}")]
    Refused(String),
    /// The object is no longer the one that was read.
    #[error("{0} was changed by somebody else")]
    Changed(String),
    /// An object of that name holds something else. Nothing was overwritten.
    #[error(
        "{key} is there already and holds something else ({there}, not {here}); nothing was overwritten. Was the topic deleted and made again, or does another group write here? Give this group an output of its own"
    )]
    Conflict {
        /// The object.
        key: String,
        /// What it holds.
        there: String,
        /// What was to be written.
        here: String,
    },
}

/// An output.
#[derive(Debug)]
pub enum Store {
    /// A bucket, or a prefix in one.
    S3(Box<S3>),
    /// A local folder.
    Folder(Folder),
}

impl Store {
    /// Whether the output is there and may be read.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::S3(store) => store.check().await,
            Self::Folder(store) => on_disk(store, Folder::check).await,
        }
    }

    /// Stores an object unless one of its name is there.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn put_new(
        &self,
        key: &str,
        bytes: Bytes,
        content: Content,
    ) -> Result<Stored, StoreError> {
        match self {
            Self::S3(store) => store.put_new(key, bytes, content).await,
            Self::Folder(store) => {
                let key = key.to_owned();
                on_disk(store, move |store| store.put_new(&key, &bytes)).await
            }
        }
    }

    /// An object's bytes; none where there is no such object.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::S3(store) => store.get(key).await,
            Self::Folder(store) => {
                let key = key.to_owned();
                on_disk(store, move |store| store.get(&key)).await
            }
        }
    }

    /// An object to be read a piece at a time; none where there is no such object.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn open(&self, key: &str) -> Result<Option<Reading>, StoreError> {
        match self {
            Self::S3(store) => store.open(key).await,
            Self::Folder(store) => {
                let key = key.to_owned();
                on_disk(store, move |store| store.open(&key)).await
            }
        }
    }

    /// An object's bytes, and which state of it they are.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn get_versioned(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        match self {
            Self::S3(store) => store.get_versioned(key).await,
            Self::Folder(_) => Err(no_versions()),
        }
    }

    /// Changes an object that is still in the state `version`; without one, makes it where there is
    /// none.
    ///
    /// # Errors
    /// [`StoreError::Changed`] where it is in another state; see [`StoreError`].
    pub async fn put_versioned(
        &self,
        key: &str,
        bytes: Bytes,
        version: Option<&Version>,
    ) -> Result<Version, StoreError> {
        match self {
            Self::S3(store) => store.put_versioned(key, bytes, version).await,
            Self::Folder(_) => Err(no_versions()),
        }
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn remove(&self, key: &str) -> Result<(), StoreError> {
        match self {
            Self::S3(store) => store.remove(key).await,
            Self::Folder(store) => {
                let key = key.to_owned();
                on_disk(store, move |store| store.remove(&key)).await
            }
        }
    }

    /// Gives up uploads that were begun and never ended, of the objects that `ours` tells by their
    /// key. Returns how many.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn abort_unfinished(&self, ours: impl Fn(&str) -> bool) -> Result<usize, StoreError> {
        match self {
            Self::S3(store) => store.abort_unfinished(ours).await,
            // A file appears whole, by its rename; temporary ones are tidied when it starts.
            Self::Folder(_) => Ok(0),
        }
    }

    /// Shows every object whose key begins with `prefix` to `each`, in the order of the keys for
    /// S3, in any order for a folder; a page of them is in memory at a time.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list(&self, prefix: &str, mut each: impl FnMut(Listed)) -> Result<(), StoreError> {
        match self {
            Self::S3(store) => store.list(prefix, &mut each).await,
            Self::Folder(store) => {
                let (sender, mut pages) = mpsc::channel(1);
                let prefix = prefix.to_owned();
                let listing = on_disk(store, move |store| list_pages(store, &prefix, &sender));
                let shown = async {
                    while let Some(page) = pages.recv().await {
                        page.into_iter().for_each(&mut each);
                    }
                };
                tokio::join!(listing, shown).0
            }
        }
    }
}

/// Lists a folder a page at a time. Blocks.
fn list_pages(
    store: &Folder,
    prefix: &str,
    pages: &mpsc::Sender<Vec<Listed>>,
) -> Result<(), StoreError> {
    let mut page = Vec::new();
    let send = |page: &mut Vec<Listed>| {
        // Whoever asked may be gone: then nobody misses it.
        pages.blocking_send(std::mem::take(page)).ok();
    };
    store.list(prefix, &mut |listed| {
        page.push(listed);
        if page.len() >= PAGE {
            send(&mut page);
        }
    })?;
    send(&mut page);
    Ok(())
}

/// Does something in a folder on a thread that may wait: the runtime's own have other work meanwhile.
async fn on_disk<T: Send + 'static>(
    store: &Folder,
    work: impl FnOnce(&Folder) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let store = store.clone();
    let done = tokio::task::spawn_blocking(move || work(&store)).await;
    done.unwrap_or_else(|error| Err(StoreError::Later(format!("it was cut off: {error}"))))
}

fn no_versions() -> StoreError {
    StoreError::Refused("a folder knows no conditional changes; this needs s3://".into())
}

/// The content of bytes that are no rows: state, configurations.
pub fn plain_content(bytes: &[u8]) -> Content {
    Content {
        rows: 0,
        bytes: bytes.len() as u64,
        crc: crc32c::crc32c(bytes),
    }
}

#[cfg(test)]
mod tests;
