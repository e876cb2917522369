//! What an object stands for.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::name::{CompactedName, OWN_FOLDER};
use crate::partition::batch::Object;
use crate::pipeline::content_hash;
use crate::store::{Store, StoreError, plain_content};
use crate::upload::put;

const VERSION: u32 = 1;

/// The objects that one stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    v: u32,
    /// Key of the object.
    pub object: String,
    /// Keys of those that it stands for, in the order in which it holds their rows.
    pub replaces: Vec<String>,
}

/// All accounts of a topic, by their keys.
pub type Accounts = HashMap<String, Account>;

/// Folder of the accounts of a topic.
pub fn folder(topic: &str) -> String {
    format!("{OWN_FOLDER}compact/{topic}/")
}

/// Folder of the accounts of one path of a partition.
fn path_folder(name: &CompactedName) -> String {
    let mut path = content_hash(name.path.as_bytes());
    path.truncate(16);
    format!("{}{}/{path}/", folder(&name.topic), name.partition)
}

/// Where the account of an object lies.
pub fn key(name: &CompactedName) -> String {
    let CompactedName {
        start, end, count, ..
    } = name;
    format!("{}{start:020}-{end:020}+c{count}.json", path_folder(name))
}

impl Account {
    /// The account of an object.
    pub fn new(name: &CompactedName, replaces: Vec<String>) -> Self {
        Self {
            v: VERSION,
            object: name.to_string(),
            replaces,
        }
    }

    /// Reads an account; none where there is none.
    ///
    /// # Errors
    /// The output cannot be read, or the account is damaged or of another version.
    pub async fn load(store: &Store, key: &str) -> anyhow::Result<Option<Self>> {
        let Some(bytes) = store.get(key).await? else {
            return Ok(None);
        };
        let account: Self = serde_json::from_slice(&bytes).with_context(|| key.to_owned())?;
        ensure!(
            account.v == VERSION,
            "{key} has version {}; this loader knows {VERSION}: run the newer loader",
            account.v
        );
        Ok(Some(account))
    }

    /// Whether both stand for an object.
    pub fn meets(&self, other: &Self) -> bool {
        self.replaces.iter().any(|key| other.replaces.contains(key))
    }

    /// Writes it, and makes sure that no other account stands for one of its objects.
    ///
    /// # Errors
    /// Somebody else compacts the same: it is taken back. Or see [`StoreError`].
    pub async fn claim(&self, store: &Arc<Store>, name: &CompactedName) -> anyhow::Result<()> {
        let own = key(name);
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let object = Object {
            key: own.clone(),
            content: plain_content(&bytes),
            bytes: bytes.into(),
        };
        put(Arc::clone(store), object).await?;
        for (key, other) in load_all(store, &path_folder(name)).await? {
            if key != own && self.meets(&other) {
                store.remove(&own).await?;
                anyhow::bail!(
                    "{} is being compacted by another one, too ({key}); this one gives it up. Run one at a time",
                    name.path
                );
            }
        }
        Ok(())
    }
}

/// All accounts below a folder.
///
/// # Errors
/// See [`Account::load`].
pub async fn load_all(store: &Store, folder: &str) -> anyhow::Result<Accounts> {
    let mut keys = Vec::new();
    let listed: Result<(), StoreError> = store.list(folder, |listed| keys.push(listed.key)).await;
    listed?;
    let mut accounts = Accounts::new();
    for key in keys {
        // One that went away meanwhile was taken back.
        if let Some(account) = Account::load(store, &key).await? {
            accounts.insert(key, account);
        }
    }
    Ok(accounts)
}
