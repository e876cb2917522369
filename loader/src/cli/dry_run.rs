//! `headwater-loader plan`: what this configuration would make of records that are really there.
//!
//! It runs the partitions of `run` over a sample of the topic, outside of the group, with the
//! records' own timestamps for the time: batches close by age, count, bytes and objects as they
//! would have. What they would store is counted and thrown away; no output is opened. What a day
//! comes to is reckoned from the rate of these records, so a sample of a busy minute gives a busy
//! day.

mod report;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::ensure;
use serde::Serialize;

use crate::cli::{Progress, dlq, print};
use crate::config::{Output, Plan};
use crate::fetched::Fetched;
use crate::items::Mode;
use crate::items::attributes::measure_item;
use crate::items::batch::Items;
use crate::name::ObjectName;
use crate::partition::batch::{Counts, Object};
use crate::partition::intent::Committed;
use crate::partition::{Action, Event, Layout, Partition};
use crate::range::drive::Drive;
use crate::range::position::Position;
use crate::range::reader::Reader;
use crate::route::DEAD_LETTERS;
use crate::state::Carried;

use report::{Report, text};

/// Most bytes of a rejected value that are shown.
const EXAMPLE_BYTES: usize = 200;
/// Bytes of an item that one write request unit puts.
const WRITE_UNIT: usize = 1024;

/// What is looked at, and what things cost.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Records, over all partitions.
    pub records: u64,
    /// Where to begin; `latest-N` with an even share for each partition by default.
    pub from: Option<Position>,
    /// Only these partitions; all where it is empty.
    pub partitions: Vec<i32>,
    /// Prices, in dollars.
    pub prices: Prices,
}

/// What S3 and DynamoDB take, dollars.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Prices {
    /// 1000 PUT requests.
    pub put: f64,
    /// A GiB for a month.
    pub storage: f64,
    /// A million write request units.
    pub write: f64,
}

/// Why records could not be made rows, how many, and one of them.
#[derive(Debug, Serialize)]
struct Reject {
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    count: u64,
    example_partition: i32,
    example_offset: u64,
    /// The first bytes of its value.
    example: String,
}

type Rejects = BTreeMap<(String, Option<String>), Reject>;

/// What would lie under one path.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
struct UnderPath {
    rows: u64,
    objects: u64,
    bytes: u64,
}

/// What came of the records of one partition.
#[derive(Debug, Default)]
struct Seen {
    counts: Counts,
    times_ms: Option<(u64, u64)>,
    /// Batches that closed by themselves; the last one was cut off by the sample's end.
    whole: Batches,
    /// Time that they cover, milliseconds.
    whole_ms: u64,
    cut: Batches,
    paths: BTreeMap<String, UnderPath>,
    open_windows: usize,
}

/// Sums over batches.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
struct Batches {
    batches: u64,
    objects: u64,
    bytes: u64,
    /// Requests to write them: objects, parts of large ones, and the state.
    puts: u64,
    largest_objects: usize,
    largest_bytes: u64,
    /// Closed by `flush.objects`.
    guarded: u64,
    /// Items of tables that keep the latest of each key: at most one for each key and batch.
    latest: Writes,
    /// Items of tables that keep all: one for each row.
    append: Writes,
}

/// What is put into DynamoDB.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
struct Writes {
    items: u64,
    /// Write request units: one for each KiB of an item that is begun.
    units: u64,
}

impl Writes {
    fn plus(self, other: Self) -> Self {
        Self {
            items: self.items + other.items,
            units: self.units + other.units,
        }
    }
}

impl Batches {
    fn plus(&self, other: &Self) -> Self {
        Self {
            batches: self.batches + other.batches,
            objects: self.objects + other.objects,
            bytes: self.bytes + other.bytes,
            puts: self.puts + other.puts,
            largest_objects: self.largest_objects.max(other.largest_objects),
            largest_bytes: self.largest_bytes.max(other.largest_bytes),
            guarded: self.guarded + other.guarded,
            latest: self.latest.plus(other.latest),
            append: self.append.plus(other.append),
        }
    }
}

/// Runs the configuration over a sample of the topic and says what would come of it. Exit status 1
/// where the guard against too many paths closed a batch.
///
/// # Errors
/// The topic cannot be read, or holds no record there.
pub fn plan(plan: &Plan, sample: &Sample, json: bool) -> anyhow::Result<ExitCode> {
    let reader = Reader::open(plan)?;
    let partitions = reader.partitions(&sample.partitions)?;
    let share = sample.records.div_ceil(partitions.len().max(1) as u64);
    let from = sample.from.unwrap_or(Position::Before(share));
    let mut progress = Progress::new("records read");
    let mut rejects = Rejects::new();
    let mut seen = BTreeMap::new();
    for partition in partitions {
        let bounds = reader.bounds(partition)?;
        let start = reader.resolve(partition, from, bounds)?;
        let mut run = DryRun::new(plan, partition, start)?;
        let range = (start, bounds.high);
        reader.read_some(partition, range, share, &mut |fetched, at| {
            progress.step();
            run.take(fetched, at, &mut rejects)
        })?;
        seen.insert(partition, run.end(&mut rejects)?);
    }
    drop(progress);
    ensure!(
        seen.values().any(|seen| seen.counts.records > 0),
        "topic {} holds no record from {from} on",
        plan.kafka.topic
    );
    let report = Report::new(plan, sample.prices, &seen, rejects);
    match json {
        true => print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
        false => print(&text(&report))?,
    }
    Ok(match report.guard_closed_batches {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// One partition's dry run.
struct DryRun<'a> {
    plan: &'a Plan,
    drive: Drive,
    seen: Seen,
    is_cut: bool,
}

impl<'a> DryRun<'a> {
    fn new(plan: &'a Plan, partition: i32, start: u64) -> anyhow::Result<Self> {
        let committed = Committed::at(start);
        let machine = Partition::recover(
            (&plan.kafka.topic, partition),
            plan.bounds(),
            Arc::clone(&plan.pipeline),
            committed,
            Carried::default(),
            None,
        )?;
        Ok(Self {
            plan,
            drive: Drive::new(machine, 0, u64::MAX),
            seen: Seen::default(),
            is_cut: false,
        })
    }

    fn take(&mut self, fetched: &Fetched, at: usize, rejects: &mut Rejects) -> anyhow::Result<()> {
        let entry = &fetched.entries[at];
        let (first, last) = self.seen.times_ms.unwrap_or((entry.time_ms, entry.time_ms));
        self.seen.times_ms = Some((first, last.max(entry.time_ms)));
        self.drive.reach(entry)?;
        self.perform(rejects)?;
        ensure!(
            self.drive.take(fetched, entry)?,
            "a batch was not closed to its end"
        );
        self.perform(rejects)
    }

    /// Closes what is open, and says what there was.
    fn end(mut self, rejects: &mut Rejects) -> anyhow::Result<Seen> {
        self.is_cut = true;
        self.drive.apply(Event::Stop)?;
        self.perform(rejects)?;
        self.seen.open_windows = usize::try_from(self.drive.machine.standing().windows)?;
        Ok(self.seen)
    }

    /// Counts what would be done.
    fn perform(&mut self, rejects: &mut Rejects) -> anyhow::Result<()> {
        while let Some(action) = self.drive.machine.next_action() {
            match action {
                Action::Upload(objects) => self.upload(&objects, rejects)?,
                // Of a batch without rows it is all there is.
                Action::StoreSnapshot { .. } => {
                    let sum = self.sum();
                    sum.batches += 1;
                    sum.puts += 1;
                }
                Action::RemoveSnapshot(_) => continue,
                Action::WriteItems(items) => self.put_items(&items)?,
                Action::Publish(objects) => self.sum().puts += objects.len() as u64,
                Action::Commit(_) => {}
            }
            self.drive.apply(Event::ActionDone)?;
        }
        let finished = self.drive.machine.take_counts();
        if !finished.is_empty() && !self.is_cut {
            let first = self.seen.times_ms.map_or(0, |times| times.0);
            self.seen.whole_ms = self.drive.now().wall_ms.saturating_sub(first);
        }
        for counts in finished {
            self.seen.counts = self.seen.counts.plus(&counts);
        }
        Ok(())
    }

    fn sum(&mut self) -> &mut Batches {
        match self.is_cut {
            true => &mut self.seen.cut,
            false => &mut self.seen.whole,
        }
    }

    fn put_items(&mut self, items: &Items) -> anyhow::Result<()> {
        for rows in &items.tables {
            let mut writes = Writes::default();
            for row in &rows.rows {
                let bytes = measure_item(row).map_err(anyhow::Error::msg)?;
                writes.items += 1;
                writes.units += bytes.div_ceil(WRITE_UNIT) as u64;
            }
            let sum = self.sum();
            let sum = match rows.mode {
                Mode::Latest => &mut sum.latest,
                Mode::Append => &mut sum.append,
            };
            *sum = sum.plus(writes);
        }
        Ok(())
    }

    fn upload(&mut self, objects: &[Object], rejects: &mut Rejects) -> anyhow::Result<()> {
        let parts = |object: &Object| match &self.plan.output {
            Output::S3(s3) => s3.options.requests(object.bytes.len()),
            Output::Folder(_) => 1,
        };
        let puts: u64 = objects.iter().map(parts).sum();
        let bytes = objects.iter().map(|object| object.bytes.len() as u64);
        let (bytes, largest) = (bytes.clone().sum::<u64>(), bytes.max().unwrap_or(0));
        // With an object for each record that is how batches close.
        let is_guarded = objects.len() >= self.plan.flush.objects && !is_by_record(self.plan);
        let sum = self.sum();
        sum.objects += objects.len() as u64;
        sum.bytes += bytes;
        sum.puts += puts;
        sum.largest_objects = sum.largest_objects.max(objects.len());
        sum.largest_bytes = sum.largest_bytes.max(largest);
        sum.guarded += u64::from(is_guarded);
        for object in objects {
            let Some(name) = ObjectName::parse(&object.key) else {
                continue;
            };
            if name.path == DEAD_LETTERS {
                note_rejects(object, rejects)?;
            }
            let path = self.seen.paths.entry(name.path).or_default();
            path.rows += object.content.rows;
            path.objects += 1;
            path.bytes += object.bytes.len() as u64;
        }
        Ok(())
    }
}

/// Whether each record has an object of its own.
fn is_by_record(plan: &Plan) -> bool {
    plan.pipeline.spec().layout == Layout::Record
}

fn note_rejects(object: &Object, rejects: &mut Rejects) -> anyhow::Result<()> {
    for letter in dlq::parse(&object.key, &object.bytes)? {
        let kind = (dlq::kind(&letter.reason), letter.step.clone());
        if let Some(reject) = rejects.get_mut(&kind) {
            reject.count += 1;
            continue;
        }
        let value = letter.value()?.unwrap_or_default();
        let shown = value.get(..EXAMPLE_BYTES.min(value.len()));
        let example = String::from_utf8_lossy(shown.unwrap_or_default()).into_owned();
        let reject = Reject {
            reason: kind.0.clone(),
            step: letter.step,
            count: 1,
            example_partition: letter.partition,
            example_offset: letter.offset,
            example,
        };
        rejects.insert(kind, reject);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
