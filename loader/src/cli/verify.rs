//! `headwater-loader verify`: do the ranges in the objects' names tile every partition? It only
//! lists; no object is read.
//!
//! It may run beside a loader, whose batches come in any order of keys while they are listed. So it
//! asks first how far each partition's state is: objects are stored before the state behind them, and
//! what ends at or below it has to be there. What ends behind it is being written, and is not judged.
//! Without a state (and in a function of Lambda and a stretch, whose states are no such border) all is.

mod compacted;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::process::ExitCode;

use serde::Serialize;

use compacted::Compacted;

use crate::cli::audit::shown;
use crate::cli::compact::settled;
use crate::cli::{Progress, open, print};
use crate::config::Plan;
use crate::name::{OWN_FOLDER, ObjectName, topic_state_folder};
use crate::partition::intent::Committed;
use crate::range::manifest::{Manifest, done};
use crate::store::Store;

/// Which objects of a batch were seen.
#[derive(Debug, Default)]
struct Batch {
    n: usize,
    seen: Vec<usize>,
}

/// One partition's batches by their range, and, of those without a record, their clock.
type Batches = BTreeMap<(u64, u64, Option<u64>), Batch>;

#[derive(Debug, Serialize)]
struct PartitionReport {
    partition: i32,
    first: u64,
    last: u64,
    batches: usize,
    objects: usize,
    /// Batches behind the newest state, of which not all objects need be there.
    being_written: usize,
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
    let store = open(&plan.output).await;
    let mut partitions: BTreeMap<i32, Batches> = BTreeMap::new();
    let mut foreign = 0;
    // Before the objects are listed: see above.
    let borders = borders(&store, &plan.kafka.topic).await?;
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
    let mut problems = settled.missing(&firsts(&partitions));
    problems.extend(settled.problems);
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
    let has_windows = plan.pipeline.aggregates().next().is_some();
    let partitions: Vec<_> = partitions
        .into_iter()
        .map(|(id, batches)| {
            let border = borders.get(&id).copied();
            judge(id, batches, stretches.get(&id), (border, has_windows))
        })
        .collect();
    let report = Report {
        topic: plan.kafka.topic.clone(),
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

/// Each partition's first offset that is still there.
fn firsts(partitions: &BTreeMap<i32, Batches>) -> BTreeMap<i32, u64> {
    let first = |(partition, batches): (&i32, &Batches)| {
        let ((start, ..), _) = batches.first_key_value()?;
        Some((*partition, *start))
    };
    partitions.iter().filter_map(first).collect()
}

/// The offset up to which all objects of a partition are stored, where its newest state says so. A
/// function's does not: it is stored together with the objects before it, and the head knows of both.
async fn borders(store: &Store, topic: &str) -> anyhow::Result<BTreeMap<i32, u64>> {
    let folder = topic_state_folder(topic);
    let mut heads: BTreeSet<i32> = BTreeSet::new();
    store
        .list(&folder, |listed| {
            let head = listed.key.strip_prefix(&folder);
            let head = head.and_then(|rest| rest.strip_suffix("/head"));
            heads.extend(head.and_then(|partition| partition.parse::<i32>().ok()));
        })
        .await?;
    let mut borders = settled(store, topic).await?;
    borders.retain(|partition, _| !heads.contains(partition));
    Ok(borders)
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

impl Batch {
    /// Objects that are not there, and those that are there more than once: neighbours together.
    fn objects_problems(&mut self) -> impl Iterator<Item = String> {
        self.seen.sort_unstable();
        let n = self.n;
        let mut missing = Vec::new();
        let mut twice: Vec<(usize, usize)> = Vec::new();
        let mut next = 1;
        for k in self.seen.iter().copied().chain([n + 1]) {
            if k < next {
                match twice.last_mut() {
                    Some((_, last)) if *last + 1 >= k => *last = k,
                    _ => twice.push((k, k)),
                }
            } else if k > next {
                missing.push((next, k - 1));
            }
            next = k + 1;
        }
        let told = move |what: &str, (from, to): (usize, usize)| match from == to {
            true => format!("{what}: object {from} of {n}"),
            false => format!("{what}: objects {from} to {to} of {n}"),
        };
        let missing = missing.into_iter().map(move |range| told("missing", range));
        missing.chain(twice.into_iter().map(move |range| told("twice", range)))
    }
}

fn note(batches: &mut Batches, name: &ObjectName) {
    let batch = batches
        .entry((name.start, name.end, name.quiet_ms))
        .or_default();
    batch.n = batch.n.max(name.n);
    batch.seen.push(name.k);
}

/// `border`: what ends behind it is being written. With windows what ends there may be, too: a batch without a record
/// leaves the offset where it is, and takes its name from where the last one that had a row ended.
fn judge(
    partition: i32,
    mut batches: Batches,
    stretch: Option<&Stretch>,
    (border, has_windows): (Option<u64>, bool),
) -> PartitionReport {
    let mut problems = Vec::new();
    let border = border.filter(|_| stretch.is_none()).unwrap_or(u64::MAX);
    let is_written = |(_, end, quiet): &(u64, u64, Option<u64>), batch: &mut Batch| {
        let may = (has_windows || quiet.is_some()) && *end == border;
        *end > border || (may && batch.objects_problems().next().is_some())
    };
    let being_written = batches.extract_if(.., is_written).count();
    let mut covered: Option<u64> = None;
    for ((start, end, _), batch) in &mut batches {
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
        let objects = batch.objects_problems();
        problems.extend(objects.map(|problem| format!("{problem} of [{start}, {end})")));
    }
    let first = batches.keys().next().map(|range| range.0);
    if let Some(stretch) = stretch {
        problems.extend(stretch.problems(first.zip(covered)));
    }
    let nothing_at = stretch.map(|stretch| stretch.from);
    let nothing_at = nothing_at.or((being_written > 0).then_some(border));
    PartitionReport {
        partition,
        first: first.or(nothing_at).unwrap_or(0),
        last: covered.or(nothing_at).unwrap_or(0),
        batches: batches.len(),
        objects: batches.values().map(|batch| batch.seen.len()).sum(),
        being_written,
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
            if partition.being_written > 0 {
                writeln!(
                    text,
                    "    being written: {} batches behind the newest state, not judged",
                    partition.being_written
                )?;
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
        problems_of(objects, None, None)
    }

    fn problems_of(
        objects: &[(u64, u64, usize, usize)],
        stretch: Option<Stretch>,
        border: Option<u64>,
    ) -> Vec<String> {
        problems_with(objects, stretch, border, false)
    }

    fn problems_with(
        objects: &[(u64, u64, usize, usize)],
        stretch: Option<Stretch>,
        border: Option<u64>,
        has_windows: bool,
    ) -> Vec<String> {
        let mut batches = Batches::new();
        for &(start, end, k, n) in objects {
            let name = ObjectName {
                path: String::new(),
                topic: "t".into(),
                partition: 0,
                start,
                end,
                quiet_ms: None,
                k,
                n,
                extension: "ndjson".into(),
            };
            note(&mut batches, &name);
        }
        judge(0, batches, stretch.as_ref(), (border, has_windows)).problems
    }

    #[test]
    fn with_windows_what_ends_at_the_newest_state_may_be_being_written() {
        let objects = [(0, 100, 1, 1), (100, 200, 1, 3)];
        let found = |has_windows, border| problems_with(&objects, None, border, has_windows);
        assert_eq!(found(true, Some(200)), [""; 0]);
        assert_eq!(found(true, Some(201)).len(), 1, "what lies below is judged");
        assert_eq!(found(false, Some(200)).len(), 1);
    }

    #[test]
    fn what_is_being_written_is_no_problem() {
        // Another batch of several paths was half listed, and of the one before it nothing was.
        let objects = [(0, 5, 1, 1), (5, 9, 1, 1), (20, 30, 2, 3)];
        let held_against = |border, stretch| problems_of(&objects, stretch, border);
        assert_eq!(held_against(Some(9), None), [""; 0]);
        assert_eq!(held_against(Some(29), None), [""; 0]);
        for border in [Some(30), None] {
            let found = held_against(border, None);
            assert!(found[0].starts_with("hole: [9, 20)"), "{found:?}");
            assert!(found[1].starts_with("missing: object 1 of 3"), "{found:?}");
            assert!(found[2].starts_with("missing: object 3 of 3"), "{found:?}");
        }
        let stretch = Stretch {
            from: 0,
            to: 30,
            done: None,
        };
        assert!(held_against(Some(9), Some(stretch)).len() > 3);
        // What is below is judged as ever.
        let found = problems_of(&[(0, 5, 1, 2), (5, 9, 1, 1)], None, Some(9));
        assert!(found[0].starts_with("missing: object 2 of 2"), "{found:?}");
        // Nothing but what is being written.
        assert_eq!(problems_of(&objects[2..], None, Some(3)), [""; 0]);
    }

    #[test]
    fn of_many_objects_neighbours_are_told_together() {
        let n = 1_000_000;
        let found = problems(&[
            (0, 5, 7, n),
            (0, 5, 8, n),
            (0, 5, 8, n),
            (0, 5, 8, n),
            (0, 5, 9, n),
            (0, 5, 9, n),
        ]);
        assert_eq!(
            found,
            [
                "missing: objects 1 to 6 of 1000000 of [0, 5)",
                "missing: objects 10 to 1000000 of 1000000 of [0, 5)",
                "twice: objects 8 to 9 of 1000000 of [0, 5)",
            ]
        );
        // As many as they come, in any order, in no more than a sort.
        let all: Vec<_> = (1..=n).rev().map(|k| (0, 5, k, n)).collect();
        assert_eq!(problems(&all), [""; 0]);
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
        problems_of(objects, Some(Stretch { from, to, done }), None)
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
