//! `headwater-loader verify`: do the ranges in the objects' names tile every partition? It only
//! lists; no object is read.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::audit::shown;
use crate::cli::{Progress, print};
use crate::config::Plan;
use crate::name::{OWN_FOLDER, ObjectName};
use crate::supervise::open_store;

/// Which objects of a batch were seen.
#[derive(Debug, Default)]
struct Batch {
    n: usize,
    seen: Vec<usize>,
}

/// One partition's batches by their range.
type Batches = BTreeMap<(u64, u64), Batch>;

#[derive(Debug, Serialize)]
struct PartitionReport {
    partition: i32,
    first: u64,
    last: u64,
    batches: usize,
    objects: usize,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    topic: String,
    partitions: Vec<PartitionReport>,
    foreign_objects: u64,
    complete: bool,
}

/// Lists the output and says whether the names tile. Exit status 1 where they do not.
///
/// # Errors
/// The output cannot be listed, or holds no object of this topic.
pub async fn verify(plan: &Plan, json: bool) -> anyhow::Result<ExitCode> {
    let store = open_store(&plan.output).await;
    let mut partitions: BTreeMap<i32, Batches> = BTreeMap::new();
    let mut foreign = 0;
    let mut progress = Progress::new("objects listed");
    store
        .list("", |listed| {
            progress.step();
            if listed.key.starts_with(OWN_FOLDER) {
                return;
            }
            match ObjectName::parse(&listed.key).filter(|name| name.topic == plan.kafka.topic) {
                Some(name) => note(partitions.entry(name.partition).or_default(), &name),
                None => foreign += 1,
            }
        })
        .await?;
    drop(progress);
    anyhow::ensure!(
        !partitions.is_empty(),
        "no object of topic {} under {}",
        plan.kafka.topic,
        shown(&plan.output)
    );
    let partitions: Vec<_> = partitions
        .into_iter()
        .map(|(id, batches)| judge(id, &batches))
        .collect();
    let report = Report {
        topic: plan.kafka.topic.clone(),
        complete: partitions
            .iter()
            .all(|partition| partition.problems.is_empty()),
        partitions,
        foreign_objects: foreign,
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

fn note(batches: &mut Batches, name: &ObjectName) {
    let batch = batches.entry((name.start, name.end)).or_default();
    batch.n = batch.n.max(name.n);
    batch.seen.push(name.k);
}

fn judge(partition: i32, batches: &Batches) -> PartitionReport {
    let mut problems = Vec::new();
    let mut covered: Option<u64> = None;
    for ((start, end), batch) in batches {
        match covered {
            Some(covered) if covered < *start => {
                problems.push(format!("hole: [{covered}, {start}) is in no object"))
            }
            Some(covered) if covered > *start => {
                problems.push(format!(
                    "overlap: [{start}, {}) is in two batches",
                    covered.min(*end)
                ));
            }
            _ => {}
        }
        covered = covered.max(Some(*end));
        for k in 1..=batch.n {
            match batch.seen.iter().filter(|seen| **seen == k).count() {
                1 => {}
                0 => problems.push(format!(
                    "missing: object {k} of {} of [{start}, {end})",
                    batch.n
                )),
                _ => problems.push(format!(
                    "twice: object {k} of {} of [{start}, {end})",
                    batch.n
                )),
            }
        }
    }
    PartitionReport {
        partition,
        first: batches.keys().next().map_or(0, |range| range.0),
        last: covered.unwrap_or(0),
        batches: batches.len(),
        objects: batches.values().map(|batch| batch.seen.len()).sum(),
        problems,
    }
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    let mut write = || -> std::fmt::Result {
        for partition in &report.partitions {
            writeln!(
                text,
                "{}+{}: [{}, {}) in {} batches, {} objects: {}",
                report.topic,
                partition.partition,
                partition.first,
                partition.last,
                partition.batches,
                partition.objects,
                if partition.problems.is_empty() {
                    "complete"
                } else {
                    "NOT complete"
                }
            )?;
            for problem in &partition.problems {
                writeln!(text, "    {problem}")?;
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(objects: &[(u64, u64, usize, usize)]) -> Vec<String> {
        let mut batches = Batches::new();
        for &(start, end, k, n) in objects {
            let name = ObjectName {
                path: String::new(),
                topic: "t".into(),
                partition: 0,
                start,
                end,
                k,
                n,
                extension: "ndjson".into(),
            };
            note(&mut batches, &name);
        }
        judge(0, &batches).problems
    }

    #[test]
    fn each_problem_is_found() {
        assert!(problems(&[(0, 5, 1, 2), (0, 5, 2, 2), (5, 9, 1, 1)]).is_empty());
        assert!(problems(&[(0, 5, 1, 1), (6, 9, 1, 1)])[0].contains("hole: [5, 6)"));
        assert!(problems(&[(0, 5, 1, 1), (4, 9, 1, 1)])[0].contains("overlap: [4, 5)"));
        assert!(problems(&[(0, 5, 1, 2)])[0].contains("missing: object 2 of 2"));
        assert!(problems(&[(0, 5, 1, 1), (0, 5, 1, 1)])[0].contains("twice"));
    }
}
