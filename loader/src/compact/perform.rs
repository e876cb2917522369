//! Writes what stands for others, and removes these.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context as _, ensure};

use crate::compact::account::{Account, Accounts};
use crate::compact::find::Candidate;
use crate::compact::join::Joining;
use crate::crash;
use crate::name::{CompactedName, ObjectName};
use crate::partition::batch::Object;
use crate::store::Store;
use crate::upload::put;

/// What came of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Objects that were replaced.
    pub replaced: u64,
    /// Objects that stand for them.
    pub made: u64,
    /// Bytes of these.
    pub bytes: u64,
}

impl Done {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            replaced: self.replaced + other.replaced,
            made: self.made + other.made,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// Replaces a group of one path of one partition: by one object, or by several where their columns
/// differ.
///
/// # Errors
/// An object is damaged or gone, the output cannot be written, or somebody else compacts the same.
pub async fn replace(store: &Arc<Store>, group: &[Candidate]) -> anyhow::Result<Done> {
    let mut done = Done::default();
    let mut rest = group;
    while rest.len() > 1 {
        let (object, name, taken) = join(store, rest).await?;
        let (now, then) = rest.split_at(taken);
        rest = then;
        // What covers no offset has no name together, and stays as it is.
        let (Some(name), true) = (name, now.len() > 1) else {
            continue;
        };
        let replaces = now.iter().map(|c| c.name.to_string()).collect();
        let account = Account::new(&name, replaces);
        account.claim(store, &name).await?;
        crash::point("compact-claimed");
        done.made += 1;
        done.bytes += object.bytes.len() as u64;
        put(Arc::clone(store), object).await?;
        crash::point("compact-stored");
        done.replaced += remove(store, &account.replaces).await?;
    }
    Ok(done)
}

/// Puts objects together, as many as have the same columns: the object, its name (none where they cover no offset),
/// and how many.
async fn join(
    store: &Store,
    group: &[Candidate],
) -> anyhow::Result<(Object, Option<CompactedName>, usize)> {
    let extension = group.first().map_or("", |first| &first.name.extension);
    let mut joining = Joining::new(extension);
    let mut taken = 0;
    for candidate in group {
        let key = candidate.name.to_string();
        let bytes = store.get(&key).await?;
        let bytes = bytes.with_context(|| format!("{key} is gone: another one compacts, too"))?;
        let pushed = joining.push(&bytes);
        if !pushed.with_context(|| format!("{key} cannot be read; nothing of it was changed"))? {
            break;
        }
        taken += 1;
    }
    let names: Vec<&ObjectName> = group[..taken].iter().map(|c| &c.name).collect();
    let name = CompactedName::of(&names);
    let (bytes, content) = joining.finish()?;
    let key = name.as_ref().map(ToString::to_string).unwrap_or_default();
    Ok((
        Object {
            key,
            bytes,
            content,
        },
        name,
        taken,
    ))
}

async fn remove(store: &Store, keys: &[String]) -> anyhow::Result<u64> {
    for key in keys {
        store.remove(key).await?;
        crash::point("compact-removed");
    }
    Ok(keys.len() as u64)
}

/// Finishes what another run began. `listed`: keys of all objects that are there. An account that
/// outlived its data is passed over: data may expire.
///
/// # Errors
/// As [`replace`].
pub async fn finish(
    store: &Arc<Store>,
    accounts: &mut Accounts,
    listed: &HashSet<String>,
) -> anyhow::Result<Done> {
    let mut done = Done::default();
    let keys: Vec<String> = accounts.keys().cloned().collect();
    for key in keys {
        let Some(account) = accounts.get(&key).cloned() else {
            continue;
        };
        let there: Vec<String> = account
            .replaces
            .iter()
            .filter(|key| listed.contains(*key))
            .cloned()
            .collect();
        if listed.contains(&account.object) {
            done.replaced += remove(store, &there).await?;
            continue;
        }
        let mut others = accounts.iter().filter(|(other, _)| **other != key);
        if others.any(|(_, other)| other.meets(&account)) {
            // Two ran at once; this one had not come to its object.
            store.remove(&key).await?;
            accounts.remove(&key);
            continue;
        }
        if there.is_empty() {
            // It expired, or somebody removed it: there is nothing left to finish.
            continue;
        }
        ensure!(
            there.len() == account.replaces.len(),
            "{key} stands for objects that are gone, and {} is not there: look for it in the bucket's versions",
            account.object
        );
        let names = there.iter().map(|key| ObjectName::parse(key));
        let group: Option<Vec<Candidate>> = names
            .map(|name| name.map(|name| Candidate { name, size: 0 }))
            .collect();
        let group = group.with_context(|| format!("{key} names what is no object of ours"))?;
        let (object, _, taken) = join(store, &group).await?;
        ensure!(
            taken == group.len() && object.key == account.object,
            "{key} stands for objects that do not fit together"
        );
        done.made += 1;
        done.bytes += object.bytes.len() as u64;
        put(Arc::clone(store), object).await?;
        crash::point("compact-stored");
        done.replaced += remove(store, &there).await?;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::folder::Folder;
    use crate::store::plain_content;

    async fn store(store: &Store, start: u64) -> ObjectName {
        let key = format!("p/t+0+{start:020}-{:020}+1of1.ndjson", start + 10);
        let bytes = format!("{{\"n\":{start}}}\n").into_bytes();
        let content = plain_content(&bytes);
        store.put_new(&key, bytes.into(), content).await.unwrap();
        ObjectName::parse(&key).unwrap()
    }

    #[tokio::test]
    async fn an_account_that_outlived_its_data_holds_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let output = Arc::new(Store::Folder(Folder::new(folder.path().into())));
        let mut accounts = Accounts::new();
        let mut listed = HashSet::new();
        for (start, is_there) in [(0, false), (100, true)] {
            let names = [
                store(&output, start).await,
                store(&output, start + 10).await,
            ];
            let name = CompactedName::of(&[&names[0], &names[1]]).unwrap();
            let keys: Vec<String> = names.iter().map(ToString::to_string).collect();
            if is_there {
                listed.extend(keys.clone());
            }
            accounts.insert(
                crate::compact::account::key(&name),
                Account::new(&name, keys),
            );
        }
        let done = finish(&output, &mut accounts, &listed).await.unwrap();
        assert_eq!((done.made, done.replaced), (1, 2));
        assert_eq!(accounts.len(), 2, "it may be a listing that came too early");
        // Half of it is no expiry that anybody could finish.
        listed.retain(|key| key.contains(&format!("{:020}-", 110)));
        let failed = finish(&output, &mut accounts, &listed).await.unwrap_err();
        assert!(failed.to_string().contains("are gone"), "{failed}");
    }
}
