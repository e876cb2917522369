//! What `verify` makes of objects that stand for others: each counts as those that it stands for.
//!
//! An account outlives its data where that expires. Gone with it is what `verify` would not miss of
//! data that was never put together: all below the first offset of a partition of which something has to be there.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::compact::account::{self, Account, Accounts, load_all};
use crate::name::{CompactedName, ObjectName};
use crate::store::Store;

/// Accounts, and what was listed of that which they name.
#[derive(Debug, Default)]
pub(super) struct Compacted {
    accounts: Accounts,
    replaced: HashSet<String>,
    /// Objects that stand for others, as listed.
    objects: HashSet<String>,
    /// Objects that an account names, as listed.
    still_there: HashSet<String>,
}

/// What they come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// The objects that count as there.
    pub(super) names: Vec<ObjectName>,
    /// Objects whose rows are there twice, until the compaction is finished.
    pub(super) under_way: usize,
    pub(super) problems: Vec<String>,
    /// What an account names, and nothing has the rows of.
    gone: Vec<Gone>,
}

/// Objects that stood for others, and are gone with them.
#[derive(Debug, PartialEq, Eq)]
struct Gone {
    object: String,
    names: Vec<ObjectName>,
}

impl Settled {
    /// What is missing, where `firsts` are the offsets of partitions from which on nothing may be: one that has none
    /// misses nothing.
    pub(super) fn missing(&self, firsts: &BTreeMap<i32, u64>) -> Vec<String> {
        let is_missed = |name: &&ObjectName| {
            let first = firsts.get(&name.partition);
            first.is_some_and(|first| name.end > *first)
        };
        let told = |gone: &Gone| {
            let n = gone.names.iter().filter(is_missed).count();
            let Gone { object, .. } = gone;
            (n > 0).then(|| format!("missing: {object}, and {n} objects that it stands for"))
        };
        self.gone.iter().filter_map(told).collect()
    }
}

impl Compacted {
    /// Reads all accounts of a topic: before the objects are listed, since an account is there before
    /// an object of it goes.
    pub(super) async fn load(store: &Store, topic: &str) -> anyhow::Result<Self> {
        Ok(Self::of(load_all(store, &account::folder(topic)).await?))
    }

    fn of(accounts: Accounts) -> Self {
        let replaced = accounts.values().flat_map(|account| &account.replaces);
        Self {
            replaced: replaced.cloned().collect(),
            accounts,
            ..Self::default()
        }
    }

    /// Takes note of a listed key. `false`: no account has to do with it.
    pub(super) fn note(&mut self, key: &str, topic: &str) -> bool {
        if self.replaced.contains(key) {
            self.still_there.insert(key.to_owned());
            return true;
        }
        let is_ours = CompactedName::parse(key).is_some_and(|name| name.topic == topic);
        if is_ours {
            self.objects.insert(key.to_owned());
        }
        is_ours
    }

    /// Looks again where a compaction went on while the objects were listed.
    pub(super) async fn look_again(&mut self, store: &Store) -> anyhow::Result<()> {
        let known: HashSet<&String> = self.accounts.values().map(|a| &a.object).collect();
        let unknown = self.objects.iter().filter(|key| !known.contains(key));
        let mut found = Accounts::new();
        for name in unknown.filter_map(|key| CompactedName::parse(key)) {
            let key = account::key(&name);
            if let Some(account) = Account::load(store, &key).await? {
                found.insert(key, account);
            }
        }
        self.accounts.extend(found);
        for account in self.accounts.values() {
            let all_there = account
                .replaces
                .iter()
                .all(|key| self.still_there.contains(key));
            if !all_there && !self.objects.contains(&account.object) {
                let objects = &mut self.objects;
                store
                    .list(&account.object, |listed| {
                        objects.insert(listed.key);
                    })
                    .await?;
            }
        }
        Ok(())
    }

    pub(super) fn settle(&self) -> Settled {
        let mut settled = Settled::default();
        let mut keys: BTreeSet<&String> = self.still_there.iter().collect();
        let mut stood_for: HashSet<&String> = HashSet::new();
        let mut known: HashSet<&String> = HashSet::new();
        for account in self.accounts.values() {
            known.insert(&account.object);
            if !self.objects.contains(&account.object) {
                continue;
            }
            for key in &account.replaces {
                keys.insert(key);
                if !stood_for.insert(key) {
                    settled
                        .problems
                        .push(format!("twice: two objects stand for {key}"));
                }
                settled.under_way += usize::from(self.still_there.contains(key));
            }
        }
        // One that stood for others, and is gone with them.
        for account in self.accounts.values() {
            let gone = account.replaces.iter().filter(|key| !keys.contains(key));
            let names: Vec<ObjectName> = gone.filter_map(|key| ObjectName::parse(key)).collect();
            if !names.is_empty() {
                let object = account.object.clone();
                settled.gone.push(Gone { object, names });
            }
        }
        for object in self.objects.iter().filter(|key| !known.contains(key)) {
            settled
                .problems
                .push(format!("no account says what {object} stands for"));
        }
        settled.names = keys
            .into_iter()
            .filter_map(|key| ObjectName::parse(key))
            .collect();
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(start: u64) -> String {
        format!("p/t+0+{start:020}-{:020}+1of1.ndjson", start + 10)
    }

    #[test]
    fn each_state_of_a_compaction_is_told() {
        let names: Vec<ObjectName> = [0, 10]
            .iter()
            .map(|start| ObjectName::parse(&key(*start)).unwrap())
            .collect();
        let name = CompactedName::of(&names.iter().collect::<Vec<_>>()).unwrap();
        let account = Account::new(&name, vec![key(0), key(10)]);
        let object = name.to_string();
        let all: Accounts = [(account::key(&name), account)].into();
        let settled = |accounts: &Accounts, listed: &[&str]| {
            let mut compacted = Compacted::of(accounts.clone());
            for key in listed {
                assert!(compacted.note(key, "t"));
            }
            compacted.settle()
        };
        let (a, b) = (key(0), key(10));
        // Only the account; both; one removed; all removed.
        for (listed, under_way) in [
            (vec![&*a, &*b], 0),
            (vec![&*a, &*b, &*object], 2),
            (vec![&*b, &*object], 1),
            (vec![&*object], 0),
        ] {
            let found = settled(&all, &listed);
            assert_eq!(found.names, names, "{listed:?}");
            assert_eq!(found.under_way, under_way, "{listed:?}");
            assert!(found.problems.is_empty(), "{found:?}");
        }
        // One is gone, and nothing stands for it: it is missed where an earlier one is still there.
        let found = settled(&all, &[&b]);
        assert_eq!(found.names, names[1..]);
        let missing = |found: &Settled, first: u64| found.missing(&[(0, first)].into());
        assert_eq!(missing(&found, 10), [""; 0], "it expired");
        let told = missing(&found, 9);
        assert!(told[0].contains("and 1 objects"), "{told:?}");
        // All of it is gone.
        let found = settled(&all, &[]);
        assert_eq!(
            (missing(&found, 20), &found.problems[..]),
            (vec![], &[][..])
        );
        assert_eq!(found.missing(&BTreeMap::new()), [""; 0]);
        for (first, n) in [(10, 1), (5, 2)] {
            let told = missing(&found, first);
            assert!(told[0].contains(&format!("and {n} objects")), "{told:?}");
        }
        let found = settled(&Accounts::new(), &[&object]);
        assert!(found.problems[0].contains("no account"), "{found:?}");
        let mut two = all.clone();
        let mut other = CompactedName::of(&names[1..].iter().collect::<Vec<_>>()).unwrap();
        other.count = 7;
        two.insert(account::key(&other), Account::new(&other, vec![key(10)]));
        let found = settled(&two, &[&object, &other.to_string()]);
        assert!(found.problems[0].starts_with("twice"), "{found:?}");
        assert!(!Compacted::of(all).note("p/photo.jpg", "t"));
    }
}
