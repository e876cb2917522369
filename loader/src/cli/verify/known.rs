//! What `verify` knows beside the names: how far a partition's states say that it is, and which stretch it is of.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;

use crate::name::{snapshot_end, state_folder, topic_state_folder};
use crate::partition::intent::Committed;
use crate::range::manifest::{Manifest, done};
use crate::recover::{candidates, snapshots};
use crate::state::{Brief, Named};
use crate::store::Store;

/// How often a partition's snapshots may be gone before they are read: a loader at work removes one with each batch.
const REMOVED_MAX: usize = 10;

/// What the states of a partition say together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct States {
    /// Offset of the newest one.
    pub(super) end: u64,
    /// What names cover; none where only older loaders wrote some.
    pub(super) named: Option<Named>,
    /// Of the batches without a record that are named for where names end: the clock up to which they are stored.
    pub(super) quiet_ms: u64,
    /// Clock of the last batch that had a row.
    pub(super) rows_ms: u64,
    /// Whether a function of Lambda wrote them: together with the objects before them, and the head knows of both.
    pub(super) of_function: bool,
}

/// What a partition of a stretch (`replay`, `backfill`) has to hold.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) from: u64,
    pub(super) to: u64,
    /// How far it is said to be.
    pub(super) done: Option<Committed>,
}

impl States {
    /// Each says what was true when it was stored, whoever stored it: so the furthest of them counts. Where the newest is
    /// an older loader's, which does not say where names end, what another one left says nothing of that.
    pub(super) fn of(end: u64, briefs: &[Brief]) -> Option<Self> {
        let newest = briefs.iter().max_by_key(|brief| brief.rank())?;
        let named = briefs.iter().filter_map(|brief| brief.named);
        let named = newest.named.and_then(|_| {
            named.reduce(|a, b| Named {
                from: a.from.min(b.from),
                to: a.to.max(b.to),
            })
        });
        // Where the state is of a later offset, no batch takes its name from where names end any more.
        let is_there = named.is_none_or(|named| named.to == newest.end);
        Some(Self {
            end,
            named,
            quiet_ms: if is_there { newest.clock_ms } else { u64::MAX },
            rows_ms: newest.rows_ms,
            of_function: false,
        })
    }
}

/// What the states of each partition say. Objects are stored before the state behind them: so it is asked before they
/// are listed.
pub(super) async fn states(store: &Store, topic: &str) -> anyhow::Result<BTreeMap<i32, States>> {
    let folder = topic_state_folder(topic);
    let mut heads: BTreeSet<i32> = BTreeSet::new();
    let mut found: BTreeMap<i32, Vec<(u64, String)>> = BTreeMap::new();
    store
        .list(&folder, |listed| {
            let place = listed.key.strip_prefix(&folder);
            let Some((partition, name)) = place.and_then(|place| place.split_once('/')) else {
                return;
            };
            let Ok(partition) = partition.parse() else {
                return;
            };
            if name == "head" {
                heads.insert(partition);
            } else if let Some(end) = snapshot_end(name) {
                let of = found.entry(partition).or_default();
                of.push((end, name.to_owned()));
            }
        })
        .await?;
    let mut states = BTreeMap::new();
    for (partition, names) in found {
        let mut of = read(store, &state_folder(topic, partition), names).await?;
        of.of_function = heads.contains(&partition);
        states.insert(partition, of);
    }
    Ok(states)
}

/// Reads the snapshots of one partition: those that were listed, or where a loader at work has removed any of them since,
/// those that took their place. What is left of those that were listed may be of long ago.
async fn read(
    store: &Store,
    folder: &str,
    mut names: Vec<(u64, String)>,
) -> anyhow::Result<States> {
    for _ in 0..REMOVED_MAX {
        let end = names.iter().map(|(end, _)| *end).max().unwrap_or_default();
        let (mut briefs, mut all_there) = (Vec::new(), true);
        for (_, name) in candidates(names) {
            let key = format!("{folder}{name}");
            match store.open(&key).await? {
                Some(object) => briefs.push(object.through(Brief::read).await?.context(key)?),
                None => all_there = false,
            }
        }
        if let Some(states) = States::of(end, &briefs).filter(|_| all_there) {
            return Ok(states);
        }
        names = snapshots(store, folder, u64::MAX).await?;
    }
    anyhow::bail!(
        "the states under {folder} were removed before they could be read, and so was each that took their place: a loader is at work; run verify again"
    )
}

/// The stretch that an output holds; nothing where it is a live one.
pub(super) async fn stretches(
    store: &Store,
    topic: &str,
) -> anyhow::Result<BTreeMap<i32, Stretch>> {
    let mut stretches = BTreeMap::new();
    if let Some(manifest) = Manifest::load(store, topic).await? {
        for (partition, (from, to)) in manifest.partitions {
            let done = done(store, topic, partition).await?;
            stretches.insert(partition, Stretch { from, to, done });
        }
    }
    Ok(stretches)
}

impl Stretch {
    /// What its ends lack. Behind the last object there may be batches without rows.
    pub(super) fn problems(&self, objects: Option<(u64, u64)>) -> Vec<String> {
        let Self { from, to, done } = self;
        let mut problems = Vec::new();
        let reached = done.as_ref().map_or(*from, |done| done.offset);
        if reached < *to || done.is_none() {
            problems.push(format!(
                "not finished: [{from}, {reached}) of [{from}, {to}) is stored; run it again"
            ));
        }
        let covered = done.as_ref().map_or(*from, |done| done.names_from);
        let (first, last) = objects.unwrap_or((*from, *from));
        if first != *from {
            problems.push(format!("hole: [{from}, {first}) is in no object"));
        }
        if last < covered {
            problems.push(format!("hole: [{last}, {covered}) is in no object"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Snapshot;
    use crate::store::folder::Folder;
    use crate::store::plain_content;

    fn snapshot(end: u64, named: Option<(u64, u64)>, (rows_ms, clock_ms): (u64, u64)) -> Snapshot {
        Snapshot {
            topic: "t".into(),
            partition: 0,
            end,
            clock_ms,
            rows_ms,
            named: named.map(|(from, to)| Named { from, to }),
            ledger: <_>::default(),
            windows: <_>::default(),
            books: <_>::default(),
        }
    }

    async fn put(store: &Store, partition: i32, snapshot: &Snapshot) {
        let (name, bytes) = snapshot.encode().unwrap();
        let key = format!("{}{name}", state_folder("t", partition));
        let content = plain_content(&bytes);
        store.put_new(&key, bytes, content).await.unwrap();
    }

    #[tokio::test]
    async fn what_states_say_together_is_the_furthest() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::Folder(Folder::new(folder.path().into()));
        // A crash left the first, a slow loader without a row the last.
        put(&store, 0, &snapshot(20, Some((0, 20)), (1, 1))).await;
        put(&store, 0, &snapshot(30, Some((0, 30)), (3, 3))).await;
        put(&store, 0, &snapshot(40, Some((0, 20)), (1, 2))).await;
        // Batches without a record at one offset.
        put(&store, 1, &snapshot(9, Some((5, 9)), (6, 6))).await;
        put(&store, 1, &snapshot(9, Some((5, 9)), (8, 7))).await;
        // Without rows names end before.
        put(&store, 2, &snapshot(9, Some((5, 7)), (6, 6))).await;
        // An older loader wrote the newest, and one that is left is a newer one's, from before.
        put(&store, 3, &snapshot(9, None, (6, 6))).await;
        put(&store, 3, &snapshot(4, Some((0, 4)), (5, 5))).await;
        // A function's.
        put(&store, 4, &snapshot(9, Some((5, 9)), (6, 6))).await;
        let head = format!("{}head", state_folder("t", 4));
        let content = plain_content(b"");
        let put_head = store.put_new(&head, bytes::Bytes::new(), content).await;
        put_head.unwrap();
        let named = |from, to| Some(Named { from, to });
        let expected = |end, named, quiet_ms, rows_ms, of_function| States {
            end,
            named,
            quiet_ms,
            rows_ms,
            of_function,
        };
        let found = states(&store, "t").await.unwrap();
        let all = [
            expected(40, named(0, 30), 3, 3, false),
            expected(9, named(5, 9), 7, 8, false),
            expected(9, named(5, 7), u64::MAX, 6, false),
            expected(9, None, 6, 6, false),
            expected(9, named(5, 9), 6, 6, true),
        ];
        assert_eq!(found, (0..).zip(all).collect());
    }

    #[tokio::test]
    async fn states_that_went_meanwhile_are_looked_for_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::Folder(Folder::new(folder.path().into()));
        put(&store, 0, &snapshot(30, Some((0, 30)), (3, 3))).await;
        let gone = vec![(20, crate::name::snapshot_name(20, 1))];
        let place = state_folder("t", 0);
        assert_eq!(read(&store, &place, gone.clone()).await.unwrap().end, 30);
        // One that was left long ago is there still, and tells less.
        let left = snapshot(10, Some((0, 10)), (1, 1));
        put(&store, 0, &left).await;
        let listed = vec![gone[0].clone(), (10, left.encode().unwrap().0)];
        assert_eq!(read(&store, &place, listed).await.unwrap().end, 30);
        let refused = read(&store, "elsewhere/", gone).await.unwrap_err();
        assert!(refused.to_string().contains("run verify again"));
    }
}
