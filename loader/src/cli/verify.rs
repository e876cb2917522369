//! `headwater-loader verify`: do the ranges in the objects' names tile every partition? It only
//! lists; no object is read.

mod compacted;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

use serde::Serialize;

use compacted::Compacted;

use crate::cli::audit::shown;
use crate::cli::{Progress, print};
use crate::config::Plan;
use crate::name::{OWN_FOLDER, ObjectName};
use crate::partition::intent::Committed;
use crate::range::manifest::{Manifest, done};
use crate::store::Store;
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
    /// Objects whose rows are there twice until `compact` is finished.
    compaction_under_way: usize,
    problems: Vec<String>,
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
    let mut compacted = Compacted::load(&store, &plan.kafka.topic).await?;
    let mut progress = Progress::new("objects listed");
    store
        .list("", |listed| {
            progress.step();
            if listed.key.starts_with(OWN_FOLDER) {
                return;
            }
            if compacted.note(&listed.key, &plan.kafka.topic) {
                return;
            }
            match ObjectName::parse(&listed.key).filter(|name| name.topic == plan.kafka.topic) {
                Some(name) => note(partitions.entry(name.partition).or_default(), &name),
                None => foreign += 1,
            }
        })
        .await?;
    drop(progress);
    compacted.look_again(&store).await?;
    let settled = compacted.settle();
    for name in &settled.names {
        note(partitions.entry(name.partition).or_default(), name);
    }
    let stretches = stretches(&store, &plan.kafka.topic).await?;
    for partition in stretches.keys() {
        partitions.entry(*partition).or_default();
    }
    anyhow::ensure!(
        !partitions.is_empty(),
        "no object of topic {} under {}",
        plan.kafka.topic,
        shown(&plan.output)
    );
    let partitions: Vec<_> = partitions
        .into_iter()
        .map(|(id, batches)| judge(id, &batches, stretches.get(&id)))
        .collect();
    let report = Report {
        topic: plan.kafka.topic.clone(),
        complete: partitions
            .iter()
            .all(|partition| partition.problems.is_empty())
            && settled.problems.is_empty(),
        partitions,
        foreign_objects: foreign,
        compaction_under_way: settled.under_way,
        problems: settled.problems,
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

/// What a partition of a stretch (`replay`, `backfill`) has to hold.
#[derive(Debug)]
struct Stretch {
    from: u64,
    to: u64,
    /// How far it is said to be.
    done: Option<Committed>,
}

/// The stretch that an output holds; nothing where it is a live one.
async fn stretches(store: &Store, topic: &str) -> anyhow::Result<BTreeMap<i32, Stretch>> {
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
    fn problems(&self, objects: Option<(u64, u64)>) -> Vec<String> {
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

fn note(batches: &mut Batches, name: &ObjectName) {
    let batch = batches.entry((name.start, name.end)).or_default();
    batch.n = batch.n.max(name.n);
    batch.seen.push(name.k);
}

fn judge(partition: i32, batches: &Batches, stretch: Option<&Stretch>) -> PartitionReport {
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
    let first = batches.keys().next().map(|range| range.0);
    if let Some(stretch) = stretch {
        problems.extend(stretch.problems(first.zip(covered)));
    }
    PartitionReport {
        partition,
        first: first.or(stretch.map(|stretch| stretch.from)).unwrap_or(0),
        last: covered.or(stretch.map(|stretch| stretch.from)).unwrap_or(0),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(objects: &[(u64, u64, usize, usize)]) -> Vec<String> {
        problems_of(objects, None)
    }

    fn problems_of(objects: &[(u64, u64, usize, usize)], stretch: Option<Stretch>) -> Vec<String> {
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
        judge(0, &batches, stretch.as_ref()).problems
    }

    fn of_stretch(
        (from, to): (u64, u64),
        done: Option<(u64, u64)>,
        objects: &[(u64, u64, usize, usize)],
    ) -> Vec<String> {
        let done = done.map(|(offset, names_from)| Committed {
            offset,
            names_from,
            snapshot: None,
            intent: None,
        });
        problems_of(objects, Some(Stretch { from, to, done }))
    }

    #[test]
    fn a_stretch_is_held_against_what_it_was_to_be() {
        let objects = [(3, 5, 1, 1), (5, 9, 1, 1)];
        let none: Vec<String> = Vec::new();
        assert_eq!(of_stretch((3, 9), Some((9, 9)), &objects), none);
        // Markers of transactions, or rows that were all filtered, behind the last object.
        assert_eq!(of_stretch((3, 12), Some((12, 9)), &objects), none);
        assert_eq!(of_stretch((3, 3), Some((3, 3)), &[]), none);
        assert_eq!(of_stretch((3, 9), Some((9, 3)), &[]), none);
        for ((from, to), done, objects, what) in [
            (
                (3, 12),
                Some((9, 9)),
                &objects[..],
                "not finished: [3, 9) of [3, 12)",
            ),
            ((3, 9), None, &objects[..1], "not finished: [3, 3)"),
            ((2, 9), Some((9, 9)), &objects[..], "hole: [2, 3)"),
            ((3, 9), Some((9, 9)), &objects[..1], "hole: [5, 9)"),
            ((3, 9), Some((9, 9)), &[], "hole: [3, 9)"),
        ] {
            let found = of_stretch((from, to), done, objects);
            assert!(found.len() == 1 && found[0].starts_with(what), "{found:?}");
        }
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
