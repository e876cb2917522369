//! `headwater-loader compact`: small objects into larger ones, where nobody writes any more.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;

use headwater_msk::Bytes;
use serde::Serialize;

use crate::cli::{Progress, print};
use crate::clock;
use crate::compact::account::{self, Accounts, load_all};
use crate::compact::find::{Candidate, groups};
use crate::compact::perform::{Done, finish, replace};
use crate::config::Plan;
use crate::name::{CompactedName, OWN_FOLDER, ObjectName, snapshot_end, topic_state_folder};
use crate::partition::Layout;
use crate::route::DEAD_LETTERS;
use crate::store::Store;

/// What is put together.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Only paths whose newest object is at least so old, milliseconds.
    pub older_than_ms: u64,
    /// Bytes of an object that is made, at most.
    pub target: u64,
    /// Only paths that begin so.
    pub path: String,
    /// Whether it is done, or only said.
    pub apply: bool,
}

/// What lies under one path of one partition.
#[derive(Debug, Default)]
struct Under {
    small: Vec<Candidate>,
    /// Starts of objects that stay.
    large: Vec<u64>,
    newest_ms: u64,
}

#[derive(Debug, Default)]
struct Found {
    paths: BTreeMap<(String, i32), Under>,
    /// Objects that stand for others, and those that accounts name.
    listed: HashSet<String>,
}

impl Found {
    /// With an object for each record, those of a batch end below the state behind it, which may not be
    /// committed: a loader that comes back would write them again. So as many of each partition's newest
    /// stay as a batch may have.
    fn hold_back(&mut self, batch: usize) {
        let mut ends: BTreeMap<i32, Vec<u64>> = BTreeMap::new();
        for ((_, partition), under) in &self.paths {
            let of = ends.entry(*partition).or_default();
            of.extend(under.small.iter().map(|one| one.name.end));
        }
        for of in ends.values_mut() {
            of.sort_unstable();
            of.truncate(of.len().saturating_sub(batch));
        }
        for ((_, partition), under) in &mut self.paths {
            let last = ends.get(partition).and_then(|of| of.last());
            let stays = |one: &mut Candidate| last.is_none_or(|last| one.name.end > *last);
            let kept = under.small.extract_if(.., stays);
            under.large.extend(kept.map(|one| one.name.start));
        }
    }
}

#[derive(Debug, Serialize)]
struct PathReport {
    path: String,
    partition: i32,
    objects: u64,
    into: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    topic: String,
    applied: bool,
    /// Begun by a run before, and not finished.
    begun: usize,
    finished_objects: u64,
    paths: Vec<PathReport>,
    objects: u64,
    into: u64,
}

/// Puts small objects together, or says what would be.
///
/// # Errors
/// The output cannot be read or written, an object is damaged, or another one compacts the same.
pub async fn compact(
    plan: &Plan,
    store: Store,
    wanted: &Wanted,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let store = Arc::new(store);
    let topic = plan.kafka.topic.as_str();
    // In this order: an account is there before an object of it goes.
    let mut accounts = load_all(&store, &account::folder(topic)).await?;
    let settled = settled(&store, topic).await?;
    let mut found = find(&store, topic, wanted, &accounts, &settled).await?;
    if plan.pipeline.spec().layout == Layout::Record {
        found.hold_back(plan.flush.objects);
    }
    let begun = accounts
        .values()
        .filter(|account| !is_finished(&account.replaces, &account.object, &found.listed))
        .count();
    let mut finished = Done::default();
    if wanted.apply {
        finished = finish(&store, &mut accounts, &found.listed).await?;
    }
    let mut report = Report {
        topic: topic.to_owned(),
        applied: wanted.apply,
        begun,
        finished_objects: finished.replaced,
        paths: Vec::new(),
        objects: 0,
        into: 0,
    };
    let mut progress = Progress::new("objects put together");
    let closed_ms = clock::now().wall_ms.saturating_sub(wanted.older_than_ms);
    for ((path, partition), under) in found.paths {
        if under.newest_ms > closed_ms {
            continue;
        }
        let mut done = Done::default();
        for group in groups(under.small, &under.large, wanted.target) {
            done = done.plus(match wanted.apply {
                true => replace(&store, &group).await?,
                false => Done {
                    replaced: group.len() as u64,
                    made: 1,
                    bytes: group.iter().map(|candidate| candidate.size).sum(),
                },
            });
            (0..group.len()).for_each(|_| progress.step());
        }
        if done.replaced == 0 {
            continue;
        }
        report.objects += done.replaced;
        report.into += done.made;
        report.paths.push(PathReport {
            path,
            partition,
            objects: done.replaced,
            into: done.made,
            bytes: done.bytes,
        });
    }
    drop(progress);
    match json {
        true => print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
        false => print(&text(&report))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn is_finished(replaces: &[String], object: &str, listed: &HashSet<String>) -> bool {
    listed.contains(object) && !replaces.iter().any(|key| listed.contains(key))
}

/// The offset of each partition's newest state. A batch that ends below it is over: the next one was
/// begun behind its end.
pub(super) async fn settled(store: &Store, topic: &str) -> anyhow::Result<BTreeMap<i32, u64>> {
    let folder = topic_state_folder(topic);
    let mut settled: BTreeMap<i32, u64> = BTreeMap::new();
    store
        .list(&folder, |listed| {
            let parsed = listed.key.strip_prefix(&folder).and_then(|rest| {
                let (partition, name) = rest.split_once('/')?;
                Some((partition.parse::<i32>().ok()?, snapshot_end(name)?))
            });
            if let Some((partition, end)) = parsed {
                let newest = settled.entry(partition).or_default();
                *newest = end.max(*newest);
            }
        })
        .await?;
    Ok(settled)
}

async fn find(
    store: &Store,
    topic: &str,
    wanted: &Wanted,
    accounts: &Accounts,
    settled: &BTreeMap<i32, u64>,
) -> anyhow::Result<Found> {
    let accounted: HashSet<&str> = accounts
        .values()
        .flat_map(|account| &account.replaces)
        .map(String::as_str)
        .collect();
    let mut found = Found::default();
    let mut progress = Progress::new("objects listed");
    store
        .list("", |listed| {
            progress.step();
            if listed.key.starts_with(OWN_FOLDER) {
                return;
            }
            if let Some(name) = CompactedName::parse(&listed.key).filter(|n| n.topic == topic) {
                found.listed.insert(listed.key);
                let under = found.paths.entry((name.path, name.partition)).or_default();
                under.large.push(name.start);
                return;
            }
            let Some(name) = ObjectName::parse(&listed.key).filter(|n| n.topic == topic) else {
                return;
            };
            if accounted.contains(&*listed.key) {
                found.listed.insert(listed.key);
                return;
            }
            if name.path == DEAD_LETTERS || !name.path.starts_with(&wanted.path) {
                return;
            }
            let id = (name.path.clone(), name.partition);
            let under = found.paths.entry(id).or_default();
            under.newest_ms = under.newest_ms.max(listed.modified_ms);
            let is_over = settled
                .get(&name.partition)
                .is_some_and(|end| name.end < *end);
            match is_over && Candidate::is_small(listed.size, wanted.target) {
                true => under.small.push(Candidate {
                    name,
                    size: listed.size,
                }),
                false => under.large.push(name.start),
            }
        })
        .await?;
    Ok(found)
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut write = || -> std::fmt::Result {
        for one in &report.paths {
            writeln!(
                text,
                "{} objects into {}, {}: {} partition {}",
                one.objects,
                one.into,
                Bytes(one.bytes),
                one.path,
                one.partition
            )?;
        }
        match report.applied {
            true => writeln!(
                text,
                "put together: {} objects into {}; finished of a run before: {} objects",
                report.objects, report.into, report.finished_objects
            ),
            false => writeln!(
                text,
                "would be put together: {} objects into {}; begun by a run before and not finished: {}. Nothing was changed; --apply does it",
                report.objects, report.into, report.begun
            ),
        }
    };
    let written = write();
    debug_assert!(written.is_ok(), "a String takes every byte");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_of_the_newest_as_a_batch_has_stay() {
        let mut found = Found::default();
        for (path, partition, end) in [
            ("a", 0, 10),
            ("b", 0, 11),
            ("a", 0, 12),
            ("b", 0, 13),
            ("a", 1, 5),
        ] {
            let name = ObjectName {
                path: path.into(),
                topic: "t".into(),
                partition,
                start: end - 1,
                end,
                quiet_ms: None,
                k: 1,
                n: 1,
                extension: "ndjson".into(),
            };
            let under = found.paths.entry((path.into(), partition)).or_default();
            under.small.push(Candidate { name, size: 1 });
        }
        found.hold_back(2);
        let left = |path: &str, partition| {
            let under = &found.paths[&(path.to_owned(), partition)];
            let small: Vec<u64> = under.small.iter().map(|one| one.name.end).collect();
            (small, under.large.clone())
        };
        assert_eq!(left("a", 0), (vec![10], vec![11]));
        assert_eq!(left("b", 0), (vec![11], vec![12]));
        assert_eq!(
            left("a", 1),
            (vec![], vec![4]),
            "it has no more than a batch"
        );
    }
}
