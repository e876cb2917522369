//! `headwater-loader verify`: do the ranges in the objects' names tile every partition, from where they begin up to
//! where its newest state says that they end? It lists, and reads of each partition what its states say of that; no
//! object of rows is read.
//!
//! It may run beside a loader, whose batches come in any order of keys while they are listed. So it asks the states
//! first: objects are stored before the state behind them, and what that speaks of has to be there. What comes behind
//! is being written, and is not judged ([`judge`]).

mod compacted;
mod judge;
mod known;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

use serde::Serialize;

use compacted::{Compacted, Settled};
use judge::{Batches, Known, PartitionReport, judge, note};
use known::{States, states, stretches};

use crate::cli::audit::shown;
use crate::cli::{Progress, open, print};
use crate::clock;
use crate::config::Plan;
use crate::name::{CompactedName, OWN_FOLDER, ObjectName};
use crate::store::Store;

#[derive(Debug, Serialize)]
struct Report {
    topic: String,
    partitions: Vec<PartitionReport>,
    foreign_objects: u64,
    /// Objects whose rows are there twice until `compact` is finished.
    compaction_under_way: usize,
    problems: Vec<String>,
    complete: bool,
}

/// Lists the output and says whether the names tile. Exit status 1 where they do not. `expires_ms`: objects that are
/// older may be gone.
///
/// # Errors
/// The output cannot be listed, or holds no object of this topic.
pub async fn verify(plan: &Plan, expires_ms: Option<u64>, json: bool) -> anyhow::Result<ExitCode> {
    let store = open(&plan.output).await;
    let topic = plan.kafka.topic.as_str();
    // Before the objects are listed: see above.
    let states = states(&store, topic).await?;
    let expired_ms = expires_ms.map(|age| clock::now().wall_ms.saturating_sub(age));
    let (mut partitions, settled, expired_to, foreign) = list(&store, topic, expired_ms).await?;
    let stretches = stretches(&store, topic).await?;
    let says_what = states.iter().filter(|(_, of)| of.named.is_some());
    for partition in stretches.keys().chain(says_what.map(|(id, _)| id)) {
        partitions.entry(*partition).or_default();
    }
    anyhow::ensure!(
        !partitions.is_empty(),
        "no object of topic {topic} under {}",
        shown(&plan.output)
    );
    let mut firsts = firsts(&partitions, &states, expired_ms.is_some());
    for (partition, to) in &expired_to {
        firsts
            .entry(*partition)
            .and_modify(|first| *first = (*first).max(*to));
    }
    let mut problems = settled.missing(&firsts);
    problems.extend(settled.problems);
    let has_windows = plan.pipeline.aggregates().next().is_some();
    let partitions: Vec<_> = partitions
        .into_iter()
        .map(|(id, batches)| {
            let known = Known {
                states: states.get(&id).copied(),
                stretch: stretches.get(&id),
                has_windows,
                expired_ms,
                expired_to: expired_to.get(&id).copied().unwrap_or(0),
            };
            judge(id, batches, &known)
        })
        .collect();
    let report = Report {
        topic: topic.to_owned(),
        complete: partitions
            .iter()
            .all(|partition| partition.problems.is_empty())
            && problems.is_empty(),
        partitions,
        foreign_objects: foreign,
        compaction_under_way: settled.under_way,
        problems,
    };
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        print(&table(&report))?;
    }
    Ok(if report.complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Lists the batches of each partition, what those objects come to that stand for others, up to where objects of each
/// partition were written before `expired_ms`, and how many are none of ours.
async fn list(
    store: &Store,
    topic: &str,
    expired_ms: Option<u64>,
) -> anyhow::Result<(BTreeMap<i32, Batches>, Settled, BTreeMap<i32, u64>, u64)> {
    let mut partitions: BTreeMap<i32, Batches> = BTreeMap::new();
    let mut expired_to: BTreeMap<i32, u64> = BTreeMap::new();
    let mut foreign = 0;
    let mut compacted = Compacted::load(store, topic).await?;
    let mut progress = Progress::new("objects listed");
    store
        .list("", |listed| {
            progress.step();
            if listed.key.starts_with(OWN_FOLDER) {
                return;
            }
            if expired_ms.is_some_and(|expired_ms| listed.modified_ms < expired_ms)
                && let Some((partition, end)) = end_of(&listed.key, topic)
            {
                let to = expired_to.entry(partition).or_default();
                *to = (*to).max(end);
            }
            if compacted.note(&listed.key, topic) {
                return;
            }
            match ObjectName::parse(&listed.key).filter(|name| name.topic == topic) {
                Some(name) => note(partitions.entry(name.partition).or_default(), &name),
                None => foreign += 1,
            }
        })
        .await?;
    drop(progress);
    compacted.look_again(store).await?;
    let settled = compacted.settle();
    for name in &settled.names {
        note(partitions.entry(name.partition).or_default(), name);
    }
    Ok((partitions, settled, expired_to, foreign))
}

/// The partition of an object of a topic, and the offset at which it ends.
fn end_of(key: &str, topic: &str) -> Option<(i32, u64)> {
    let of = |of: String, partition, end| (of == topic).then_some((partition, end));
    ObjectName::parse(key)
        .and_then(|name| of(name.topic, name.partition, name.end))
        .or_else(|| {
            CompactedName::parse(key).and_then(|name| of(name.topic, name.partition, name.end))
        })
}

/// From where on nothing of each partition may be missing: its first offset that is still there, or that has to be.
fn firsts(
    partitions: &BTreeMap<i32, Batches>,
    states: &BTreeMap<i32, States>,
    may_expire: bool,
) -> BTreeMap<i32, u64> {
    let first = |(partition, batches): (&i32, &Batches)| {
        let there = batches.first_key_value().map(|((start, ..), _)| *start);
        let of = states.get(partition).filter(|_| !may_expire);
        let named = of.and_then(|states| states.named);
        let first = there.into_iter().chain(named.map(|named| named.from)).min();
        first.map(|first| (*partition, first))
    };
    partitions.iter().filter_map(first).collect()
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    let mut write = || -> std::fmt::Result {
        for partition in &report.partitions {
            partition.write(&report.topic, &mut text)?;
        }
        for problem in &report.problems {
            writeln!(text, "{problem}")?;
        }
        if report.compaction_under_way > 0 {
            writeln!(
                text,
                "compaction under way: the rows of {} objects are there twice until `compact --apply` has come to its end",
                report.compaction_under_way
            )?;
        }
        if report.foreign_objects > 0 {
            writeln!(
                text,
                "{} objects are not of this topic",
                report.foreign_objects
            )?;
        }
        writeln!(
            text,
            "{}",
            if report.complete {
                "complete: every range tiles"
            } else {
                "NOT complete"
            }
        )
    };
    let written = write();
    debug_assert!(written.is_ok(), "a String takes every byte");
    text
}
