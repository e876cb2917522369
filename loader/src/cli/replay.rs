//! `headwater-loader replay` and `backfill`: a stretch of the topic once more, into another place.
//!
//! One thing under two names. `replay` is told from where and up to where, and is for what the
//! output has already, by another configuration or to compare; `backfill` goes from the topic's
//! first record up to the first one that the output has of each partition. Both read beside the
//! group, write the names that `run` writes, and can be killed and run again.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::ensure;
use serde::Serialize;

use crate::cli::dlq::place_key;
use crate::cli::{Progress, print};
use crate::clock;
use crate::config::Plan;
use crate::name::{CompactedName, OWN_FOLDER, ObjectName};
use crate::range::manifest::{BatchSize, Manifest};
use crate::range::position::Position;
use crate::range::reader::Reader;
use crate::range::replay::{Written, replay};
use crate::recover::store_pipeline;
use crate::store::{Store, StoreError};

/// Where a stretch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// There.
    Position(Position),
    /// At the first record that the plan's own output has of each partition.
    Live,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// From where.
    pub from: Position,
    /// Up to where.
    pub until: Until,
    /// Only these partitions; all where it is empty.
    pub partitions: Vec<i32>,
    /// Bytes of values of one batch.
    pub batch_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    topic: String,
    partitions: BTreeMap<i32, Written>,
}

/// Writes a stretch of the topic to `to`. `live`: the plan's own output, which is only read.
///
/// # Errors
/// A topic that cannot be read, a place that holds something else, or one that cannot be written.
pub async fn run(
    plan: &Plan,
    live: &Store,
    to: Store,
    stretch: &Stretch,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let to = Arc::new(to);
    to.check().await?;
    let opening = plan.clone();
    let reader = tokio::task::spawn_blocking(move || Reader::open(&opening)).await??;
    let reader = Arc::new(reader);
    let manifest = manifest(plan, live, &to, &reader, stretch).await?;
    let mut progress = Progress::new("records read");
    let mut report = Report {
        topic: plan.kafka.topic.clone(),
        partitions: BTreeMap::new(),
    };
    for partition in manifest.partitions.keys() {
        let each = || progress.step();
        let written = replay(plan, (&to, &manifest), &reader, *partition, each).await?;
        report.partitions.insert(*partition, written);
    }
    drop(progress);
    match json {
        true => print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
        false => print(&text(&report))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What is to be written: as it was decided when this place was first written to, or now.
async fn manifest(
    plan: &Plan,
    live: &Store,
    to: &Arc<Store>,
    reader: &Arc<Reader>,
    stretch: &Stretch,
) -> anyhow::Result<Manifest> {
    let topic = plan.kafka.topic.as_str();
    let asked = Manifest::new(
        topic,
        plan.pipeline.hash(),
        (stretch.from.to_string(), until(stretch.until)),
        BatchSize {
            bytes: stretch.batch_bytes,
            records: plan.flush.records,
            objects: plan.flush.objects,
        },
        BTreeMap::new(),
        clock::now().wall_ms,
    );
    if let Some(there) = Manifest::load(to, topic).await? {
        agree(&there, &asked, &stretch.partitions)?;
        tracing::info!("going on with what was begun here");
        return Ok(there);
    }
    ensure!(
        !holds_topic(to, topic).await?,
        "the place of --to holds objects or state of topic {topic} already; give another, that is empty"
    );
    let mut first = match stretch.until {
        Until::Live => Some(first_offsets(live, topic).await?),
        Until::Position(_) => None,
    };
    let (asking, only) = (Arc::clone(reader), stretch.partitions.clone());
    let (from, until) = (stretch.from, stretch.until);
    let partitions = tokio::task::spawn_blocking(move || {
        let mut partitions = BTreeMap::new();
        for partition in asking.partitions(&only)? {
            let bounds = asking.bounds(partition)?;
            let start = asking.resolve(partition, from, bounds)?;
            let end = match until {
                Until::Position(position) => asking.resolve(partition, position, bounds)?,
                Until::Live => match first.as_mut().and_then(|first| first.remove(&partition)) {
                    Some(first) => first.clamp(bounds.low, bounds.high),
                    None => {
                        tracing::warn!(
                            partition,
                            "the output holds nothing of this partition: there is nothing before it to fill; `replay` takes what it is told"
                        );
                        start
                    }
                },
            };
            partitions.insert(partition, (start, end.max(start)));
        }
        anyhow::Ok(partitions)
    })
    .await??;
    let manifest = Manifest {
        partitions,
        ..asked
    };
    store_pipeline(to, &plan.pipeline, &plan.tables).await?;
    match (manifest.store(to).await, Manifest::load(to, topic).await?) {
        // Another one began it at the same moment.
        (Err(StoreError::Conflict { .. }), Some(there)) => {
            agree(&there, &manifest, &stretch.partitions)?;
            Ok(there)
        }
        (stored, _) => Ok(stored.map(|()| manifest)?),
    }
}

fn until(until: Until) -> String {
    match until {
        Until::Position(position) => position.to_string(),
        Until::Live => "the output's first".to_owned(),
    }
}

/// Whether a place holds what is asked for now.
fn agree(there: &Manifest, asked: &Manifest, only: &[i32]) -> anyhow::Result<()> {
    let other = |what: &str, there: &dyn std::fmt::Display, now: &dyn std::fmt::Display| {
        format!(
            "the place of --to was begun with another {what} ({there}, now {now}): names and content are by it; \
             give another place"
        )
    };
    ensure!(
        there.pipeline == asked.pipeline,
        other("configuration", &there.pipeline, &asked.pipeline)
    );
    ensure!(
        there.batch == asked.batch,
        other(
            "size of batches",
            &format!("{:?}", there.batch),
            &format!("{:?}", asked.batch)
        )
    );
    ensure!(
        there.from == asked.from,
        other("--from", &there.from, &asked.from)
    );
    ensure!(
        there.until == asked.until,
        other("--until", &there.until, &asked.until)
    );
    ensure!(
        only.is_empty() || there.partitions.keys().eq(only.iter()),
        "the place of --to was begun with other partitions: {:?}; give another place",
        there.partitions.keys()
    );
    Ok(())
}

/// Partition and first offset of an object of a topic, also of one that stands for others.
fn range_of(key: &str, topic: &str) -> Option<(i32, u64)> {
    if let Some(name) = ObjectName::parse(key).filter(|name| name.topic == topic) {
        return Some((name.partition, name.start));
    }
    let name = CompactedName::parse(key).filter(|name| name.topic == topic)?;
    Some((name.partition, name.start))
}

/// Whether a place holds anything of a topic.
pub(super) async fn holds_topic(store: &Store, topic: &str) -> anyhow::Result<bool> {
    let (state, letters) = (format!("{OWN_FOLDER}state/{topic}/"), place_key(topic));
    let mut found = false;
    store
        .list("", |listed| {
            let data = range_of(&listed.key, topic).is_some();
            found |= data || listed.key.starts_with(&state) || listed.key == letters;
        })
        .await?;
    Ok(found)
}

/// The first offset that an output has of each partition.
async fn first_offsets(store: &Store, topic: &str) -> anyhow::Result<BTreeMap<i32, u64>> {
    let mut first: BTreeMap<i32, u64> = BTreeMap::new();
    let mut progress = Progress::new("objects listed");
    store
        .list("", |listed| {
            progress.step();
            if let Some((partition, start)) = range_of(&listed.key, topic) {
                let first = first.entry(partition).or_insert(start);
                *first = start.min(*first);
            }
        })
        .await?;
    Ok(first)
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |partition: i32, one: &Written| -> std::fmt::Result {
        write!(
            text,
            "{} partition {partition}: [{}, {}) is stored; ",
            report.topic, one.from, one.to
        )?;
        if one.began > one.from {
            write!(text, "[{}, {}) by a run before; ", one.from, one.began)?;
        }
        writeln!(
            text,
            "records: {}, rows: {} (dead letters: {}), filtered: {}, only in windows: {}, repeats: {}; objects: {}, {} of them there already",
            one.records,
            one.rows,
            one.dead_letters,
            one.filtered,
            one.aggregated,
            one.duplicates,
            one.objects,
            one.already_there
        )
    };
    for (partition, one) in &report.partitions {
        let written = line(*partition, one);
        debug_assert!(written.is_ok(), "a String takes every byte");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_of_one_stretch() {
        let manifest = |pipeline: &str, from: &str, bytes| {
            let batch = BatchSize {
                bytes,
                records: 1,
                objects: 1,
            };
            let asked = (from.to_owned(), "latest".to_owned());
            Manifest::new(
                "t",
                pipeline,
                asked,
                batch,
                [(0, (1, 2)), (3, (0, 9))].into(),
                7,
            )
        };
        let there = manifest("a", "7", 1);
        assert!(agree(&there, &manifest("a", "7", 1), &[]).is_ok());
        assert!(agree(&there, &manifest("a", "7", 1), &[0, 3]).is_ok());
        for (other, only, what) in [
            (manifest("b", "7", 1), vec![], "configuration"),
            (manifest("a", "8", 1), vec![], "--from"),
            (manifest("a", "7", 2), vec![], "size of batches"),
            (manifest("a", "7", 1), vec![0], "partitions"),
        ] {
            let error = agree(&there, &other, &only).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
