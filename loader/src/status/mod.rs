//! What a person sees of a running loader: a page at `/` of the HTTP port, and the same as JSON at
//! `/status.json`. Partitions with lag and throughput over the last hour, devices with when they were
//! last heard and what they miss, dead letters with their reasons.
//!
//! It is this process's view: of the partitions that the group gave it, since it started. Nothing of
//! it is asked of Kafka or S3, and all of it is bounded: an hour of points a partition, 500 devices,
//! a line for each step of the pipeline.

pub mod devices;
pub mod history;
pub mod page;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use self::devices::Devices;
use self::history::{EVERY, History, Point, Sample};
use crate::metrics::{Lag, Reading};
use crate::partition::batch::Counts;
use crate::partition::rejects::Rejects;

/// What is gathered for the page.
#[derive(Debug, Default)]
pub struct Status {
    gathered: Mutex<Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    history: History,
    /// With the epoch of the assignment that tells them.
    devices: BTreeMap<i32, (u64, Devices)>,
    rejects: Rejects,
    /// The partition of each step's last dead letter.
    rejected_in: BTreeMap<String, i32>,
}

/// Who is looked at.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    /// The loader's version.
    pub version: &'static str,
    /// Consumer group.
    pub group: String,
    /// Topic.
    pub topic: String,
    /// Where rows go, as a URL.
    pub output: String,
    /// Start of the process, Unix milliseconds.
    pub started_ms: u64,
}

/// How the process stands.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Process {
    /// Whether the group has assigned.
    pub joined: bool,
    /// Memory of open and closing batches, bytes.
    pub batch_bytes: u64,
    /// Its bound.
    pub batch_bytes_max: u64,
    /// Memory of the process, bytes.
    pub resident_bytes: u64,
    /// Requests to the output that failed and were tried again.
    pub output_retries: u64,
    /// Memberships given up and begun anew.
    pub rejoins: u64,
}

/// Everything that the page shows.
#[derive(Debug, Serialize)]
pub struct View<'a> {
    /// Time of this view, Unix milliseconds.
    pub now_ms: u64,
    /// Who is looked at.
    #[serde(flatten)]
    pub about: &'a About,
    /// How the process stands.
    #[serde(flatten)]
    pub process: Process,
    /// Records in completed batches since the start, by what became of them.
    pub records: Totals,
    /// Time between two points of a plot, milliseconds.
    pub every_ms: u64,
    /// The partitions that are ours.
    pub partitions: Vec<PartitionView>,
    /// Devices.
    pub devices: Devices,
    /// Dead letters by the step that failed.
    pub dead_letters: Vec<DeadLetters>,
}

/// Records by what became of them.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Totals {
    /// Read.
    pub read: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Rows written, dead letters not among them.
    pub written: u64,
    /// Rows that could not be made.
    pub dead_letters: u64,
    /// Filtered by configuration.
    pub filtered: u64,
    /// Only in windows.
    pub aggregated: u64,
    /// Came again, and were skipped.
    pub duplicates: u64,
    /// Loss notices and closes.
    pub notices: u64,
}

/// One partition.
#[derive(Debug, Serialize)]
pub struct PartitionView {
    /// Its number.
    pub partition: i32,
    /// Everything below is stored.
    pub durable: u64,
    /// First offset behind what may be read; none before the client has heard.
    pub end: Option<u64>,
    /// Why it is not loaded now; none where it is.
    pub waits: Option<String>,
    /// Durable lag; none before the client has heard where it ends.
    pub lag_records: Option<u64>,
    /// The same in seconds.
    pub lag_seconds: Option<u64>,
    /// Streams in its ledger, as of the last batch.
    pub streams: u64,
    /// Ranges that nothing explains, as of the last batch.
    pub gaps: u64,
    /// Records taken in, by point, the oldest first.
    pub history_records: Vec<u64>,
    /// Durable lag in seconds, by point.
    pub history_lag_seconds: Vec<u64>,
}

/// Dead letters of one step.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct DeadLetters {
    /// The step: its number and name, or `row`.
    pub step: String,
    /// How many.
    pub records: u64,
    /// Why the last one failed.
    pub last_reason: String,
    /// Its partition.
    pub last_partition: i32,
    /// Where the last one lies.
    pub last_offset: u64,
    /// Kafka's timestamp of it, Unix milliseconds.
    pub last_ms: u64,
}

impl Status {
    /// Adds dead letters of completed batches of a partition.
    pub fn rejected(&self, partition: i32, rejects: Rejects) {
        let mut gathered = self.gathered();
        for (step, _) in rejects.iter() {
            gathered.rejected_in.insert(step.to_owned(), partition);
        }
        gathered.rejects.merge(rejects);
    }

    /// Notes what a partition's ledger says of devices; none when it is no longer ours. `who`: the partition and
    /// the epoch of its assignment, for a worker may outlast the beginning of the next one of its partition.
    pub fn devices(&self, (partition, epoch): (i32, u64), devices: Option<Devices>) {
        let mut gathered = self.gathered();
        let told = gathered.devices.get(&partition).map(|told| told.0);
        if told.is_some_and(|told| told > epoch) {
            return;
        }
        match devices {
            Some(devices) => gathered.devices.insert(partition, (epoch, devices)),
            None => gathered.devices.remove(&partition),
        };
    }

    /// Enters a point of each partition; once every [`EVERY`].
    pub fn sample(&self, readings: &[Reading]) {
        let samples = readings.iter().map(|reading| {
            let sample = Sample {
                taken: reading.standing.taken,
                lag: reading.lag,
            };
            (reading.partition, sample)
        });
        self.gathered().history.sample(&samples.collect());
    }

    /// What the page shows now.
    pub fn view<'a>(
        &self,
        now_ms: u64,
        about: &'a About,
        process: Process,
        (counts, readings): (&Counts, &[Reading]),
    ) -> View<'a> {
        let gathered = self.gathered();
        let partitions = readings
            .iter()
            .map(|reading| PartitionView::new(reading, &gathered.history));
        let dead_letters = gathered.rejects.iter().map(|(step, of)| DeadLetters {
            step: step.to_owned(),
            records: of.records,
            last_reason: of.reason.clone(),
            last_partition: gathered.rejected_in.get(step).copied().unwrap_or(0),
            last_offset: of.offset,
            last_ms: of.time_ms,
        });
        View {
            now_ms,
            about,
            process,
            records: Totals::from(counts),
            every_ms: u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX),
            partitions: partitions.collect(),
            devices: Devices::together(gathered.devices.values().map(|told| &told.1)),
            dead_letters: dead_letters.collect(),
        }
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartitionView {
    fn new(reading: &Reading, history: &History) -> Self {
        let points: Vec<Point> = history.of(reading.partition).collect();
        let Lag { records, seconds } = reading.lag.unwrap_or_default();
        Self {
            partition: reading.partition,
            durable: reading.standing.durable,
            end: reading.end,
            waits: reading.waits.clone(),
            lag_records: reading.lag.map(|_| records),
            lag_seconds: reading.lag.map(|_| seconds),
            streams: reading.standing.streams,
            gaps: reading.standing.gaps,
            history_records: points.iter().map(|point| point.records).collect(),
            history_lag_seconds: points.iter().map(|point| point.lag_seconds).collect(),
        }
    }
}

impl From<&Counts> for Totals {
    fn from(counts: &Counts) -> Self {
        Self {
            read: counts.records,
            bytes: counts.bytes,
            written: counts.rows.saturating_sub(counts.dead_letters),
            dead_letters: counts.dead_letters,
            filtered: counts.filtered,
            aggregated: counts.aggregated,
            duplicates: counts.duplicates,
            notices: counts.notices,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Standing;

    #[test]
    fn a_worker_that_goes_takes_nothing_of_the_next_one_away() {
        let status = Status::default();
        let told = || {
            let devices = &status.gathered().devices;
            devices.get(&3).map(|told| told.1.known)
        };
        let knows = |known| {
            Some(Devices {
                known,
                ..Devices::default()
            })
        };
        status.devices((3, 1), knows(1));
        status.devices((3, 2), knows(2));
        status.devices((3, 1), knows(1));
        status.devices((3, 1), None);
        assert_eq!(told(), Some(2));
        status.devices((3, 2), None);
        assert_eq!(told(), None);
    }

    #[test]
    fn the_view_as_json() {
        let status = Status::default();
        let reading = |taken| Reading {
            partition: 3,
            standing: Standing {
                durable: 40,
                taken,
                streams: 1,
                ..Standing::default()
            },
            end: Some(90),
            lag: Some(Lag {
                records: 50,
                seconds: 7,
            }),
            waits: Some("no right to write".to_owned()),
        };
        status.sample(&[reading(50)]);
        status.sample(&[reading(60)]);
        let mut rejects = Rejects::default();
        rejects.add("2 (parse)", "it is no JSON", (41, 1000));
        status.rejected(3, rejects);
        let about = About {
            version: "0.1.0",
            group: "g".into(),
            topic: "t".into(),
            output: "s3://b/p/".into(),
            started_ms: 5,
        };
        let counts = Counts {
            records: 9,
            rows: 4,
            dead_letters: 1,
            ..Counts::default()
        };
        let view = status.view(6000, &about, Process::default(), (&counts, &[reading(60)]));
        let view = serde_json::to_value(&view).unwrap();
        assert_eq!(view["records"]["written"], 3);
        assert_eq!(view["partitions"][0]["lag_seconds"], 7);
        assert_eq!(view["partitions"][0]["waits"], "no right to write");
        assert_eq!(
            view["partitions"][0]["history_records"],
            serde_json::json!([0, 10])
        );
        assert_eq!(view["dead_letters"][0]["step"], "2 (parse)");
        assert_eq!(view["dead_letters"][0]["last_partition"], 3);
        assert_eq!(view["output"], "s3://b/p/");
    }
}
