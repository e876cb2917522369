//! What the loader counts, and how Prometheus sees it. Counters are of this process; what stands
//! still between two batches (gaps, streams) is as of the last one.
//!
//! **Durable lag** is what a person wants an alarm on: how much of the topic would have to be read
//! again if this loader died now. It counts from the group's committed offset, not from what was
//! fetched, and it reads 0 where nothing is left to store: on an idle topic, on one whose records are
//! all filtered, and behind a transaction's markers, which are offsets without records.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::partition::batch::Counts;
use crate::partition::rejects::Rejects;

mod credentials;
mod items;
mod tables;

pub use credentials::Credentials;
pub use items::{ItemCounts, ItemSums};
pub use tables::Tables;

/// One partition's label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfPartition {
    partition: i32,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfOutcome {
    outcome: &'static str,
}

/// A step's label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfStep {
    step: String,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Records in completed batches, by what became of them.
    records: Family<OfOutcome, Counter>,
    /// Dead letters, by the step that failed.
    dead_letters: Family<OfStep, Counter>,
    /// Bytes of their values.
    bytes: Counter,
    /// Batches completed.
    batches: Counter,
    /// Objects of rows that were stored.
    pub objects: Counter,
    /// Their bytes.
    pub object_bytes: Counter,
    /// Requests to the output that failed and were tried again.
    pub retries: Counter,
    /// Items for DynamoDB's tables.
    pub items: ItemCounts,
    /// Memberships that were given up and begun anew.
    pub rejoined: Counter,
    /// Batches closed before they were due, because memory was short.
    pub pressed: Counter,
    /// How fresh the tables are.
    pub tables: Tables,
    /// Rows of closed windows.
    window_rows: Counter,
    windows: Family<OfPartition, Gauge>,
    window_bytes: Family<OfPartition, Gauge>,
    lag_records: Family<OfPartition, Gauge>,
    lag_seconds: Family<OfPartition, Gauge>,
    /// Markers and accounts that were written,
    pub published: Counter,
    /// and those where something else was there.
    pub publish_conflicts: Counter,
    complete: Family<OfPartition, Gauge>,
    accounts: Family<OfPartition, Gauge>,
    gaps: Family<OfPartition, Gauge>,
    streams: Family<OfPartition, Gauge>,
    ledger_bytes: Family<OfPartition, Gauge>,
    assigned: Gauge,
    batch_bytes: Gauge,
    batch_bytes_max: Gauge,
    fetched_bytes: Gauge,
    resident_bytes: Gauge,
    board: Mutex<Board>,
}

/// What is known of each partition that is ours.
#[derive(Debug, Default)]
struct Board {
    workers: BTreeMap<i32, Standing>,
    ends: BTreeMap<i32, Ends>,
    joined: bool,
}

/// How far a partition's worker is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Everything below is stored.
    pub durable: u64,
    /// Everything below was taken in.
    pub taken: u64,
    /// Kafka's timestamp of the first record that was taken in and is not durable, Unix
    /// milliseconds.
    pub oldest_ms: Option<u64>,
    /// Kafka's timestamp of the last durable record.
    pub durable_ms: Option<u64>,
    /// Ranges that nothing explains, as of the last batch.
    pub gaps: u64,
    /// Streams in the ledger, as of the last batch.
    pub streams: u64,
    /// Memory that the ledger takes, about, bytes, as of the last batch.
    pub ledger_bytes: u64,
    /// Windows that are open.
    pub windows: u64,
    /// Memory that they take, about, bytes.
    pub window_bytes: u64,
    /// Up to when hours are said to be complete, Unix milliseconds; none without markers.
    pub complete_ms: Option<u64>,
    /// Devices that have an account of the day.
    pub accounts: u64,
}

/// Where a partition ends, as the client last heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// First offset behind what may be read (the last stable offset).
    pub end: u64,
    /// The end that the client has read up to, markers of transactions included.
    pub reached: Option<u64>,
}

/// A partition's durable lag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Offsets between what is durable and the partition's end.
    pub records: u64,
    /// Age of the oldest record that is not durable, seconds.
    pub seconds: u64,
}

/// A partition that is ours, as everybody who watches sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Its number.
    pub partition: i32,
    /// How far it is.
    pub standing: Standing,
    /// First offset behind what may be read; none before the client has heard.
    pub end: Option<u64>,
    /// Its durable lag; none before the client has heard where it ends.
    pub lag: Option<Lag>,
}

/// The durable lag of a partition. `now_ms`: Unix time.
pub fn lag(standing: &Standing, ends: &Ends, now_ms: u64) -> Lag {
    let all_taken_is_durable = standing.durable >= standing.taken;
    let nothing_left = all_taken_is_durable && ends.reached.is_some_and(|at| at >= ends.end);
    let records = ends.end.saturating_sub(standing.durable);
    if nothing_left || records == 0 {
        return Lag::default();
    }
    // Where nothing of what is left was seen yet, the last durable record is the nearest bound.
    let since = standing.oldest_ms.or(standing.durable_ms);
    Lag {
        records,
        seconds: since.map_or(0, |since| now_ms.saturating_sub(since) / 1000),
    }
}

impl Metrics {
    /// Adds a completed batch.
    pub fn count(&self, counts: &Counts) {
        let made = counts.dead_letters + counts.windows;
        let written = counts.rows - made.min(counts.rows);
        for (outcome, n) in [
            ("written", written),
            ("dead_letter", counts.dead_letters),
            ("filtered", counts.filtered),
            ("aggregated", counts.aggregated),
            ("duplicate", counts.duplicates),
            ("notice", counts.notices),
        ] {
            self.records.get_or_create(&OfOutcome { outcome }).inc_by(n);
        }
        // Among those that were written.
        for (outcome, n) in [
            ("overlap", counts.overlaps),
            ("refused_headers", counts.refused),
            ("unaccounted", counts.unaccounted),
        ] {
            self.records.get_or_create(&OfOutcome { outcome }).inc_by(n);
        }
        self.window_rows.inc_by(counts.windows);
        self.bytes.inc_by(counts.bytes);
        self.batches.inc();
    }

    /// Adds the dead letters of completed batches.
    pub fn rejected(&self, rejects: &Rejects) {
        for (step, reject) in rejects.iter() {
            let step = OfStep { step: step.into() };
            self.dead_letters
                .get_or_create(&step)
                .inc_by(reject.records);
        }
    }

    /// Notes how far a worker is; none when it has ended.
    pub fn stands(&self, partition: i32, standing: Option<Standing>) {
        let mut board = self.board();
        match standing {
            Some(standing) => board.workers.insert(partition, standing),
            None => board.workers.remove(&partition),
        };
    }

    /// The partitions that are ours. `now_ms`: Unix time.
    pub fn readings(&self, now_ms: u64) -> Vec<Reading> {
        self.tables.refresh(now_ms);
        let board = self.board();
        let reading = |(partition, standing): (&i32, &Standing)| {
            let ends = board.ends.get(partition);
            Reading {
                partition: *partition,
                standing: *standing,
                end: ends.map(|ends| ends.end),
                lag: ends.map(|ends| lag(standing, ends, now_ms)),
            }
        };
        board.workers.iter().map(reading).collect()
    }

    /// Notes where partitions end.
    pub fn ends(&self, ends: BTreeMap<i32, Ends>) {
        self.board().ends = ends;
    }

    /// Notes that the group has given us partitions, or that there are none for us.
    pub fn joined(&self, joined: bool) {
        self.board().joined = joined;
    }

    /// Whether the group knows us.
    pub fn is_joined(&self) -> bool {
        self.board().joined
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the gauges up to date. `batch_bytes` and its bound, and `fetched_bytes`, are what is
    /// held now.
    pub fn refresh(&self, now_ms: u64, batch_bytes: (usize, usize), fetched_bytes: usize) {
        let gauge = |gauge: &Gauge, n: u64| gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
        for family in [
            &self.lag_records,
            &self.lag_seconds,
            &self.gaps,
            &self.streams,
            &self.ledger_bytes,
            &self.windows,
            &self.window_bytes,
            &self.complete,
            &self.accounts,
        ] {
            family.clear();
        }
        let readings = self.readings(now_ms);
        for reading in &readings {
            let (standing, of) = (
                &reading.standing,
                OfPartition {
                    partition: reading.partition,
                },
            );
            gauge(&self.gaps.get_or_create(&of), standing.gaps);
            gauge(&self.streams.get_or_create(&of), standing.streams);
            gauge(&self.ledger_bytes.get_or_create(&of), standing.ledger_bytes);
            gauge(&self.windows.get_or_create(&of), standing.windows);
            gauge(&self.window_bytes.get_or_create(&of), standing.window_bytes);
            gauge(&self.accounts.get_or_create(&of), standing.accounts);
            if let Some(complete_ms) = standing.complete_ms {
                gauge(&self.complete.get_or_create(&of), complete_ms / 1000);
            }
            if let Some(lag) = reading.lag {
                gauge(&self.lag_records.get_or_create(&of), lag.records);
                gauge(&self.lag_seconds.get_or_create(&of), lag.seconds);
            }
        }
        gauge(&self.assigned, readings.len() as u64);
        gauge(&self.batch_bytes, batch_bytes.0 as u64);
        gauge(&self.batch_bytes_max, batch_bytes.1 as u64);
        gauge(&self.fetched_bytes, fetched_bytes as u64);
        gauge(&self.resident_bytes, resident_bytes());
    }

    /// A registry of them, under `headwater_loader_`.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("headwater_loader");
        registry.register(
            "records",
            "Records in completed batches, by outcome; overlap, refused_headers and unaccounted are among the written",
            self.records.clone(),
        );
        registry.register(
            "dead_letters",
            "Records that could not be made rows, by the step that failed; row: outside of all steps",
            self.dead_letters.clone(),
        );
        let counters: [(&str, &str, &Counter); 10] = [
            (
                "bytes",
                "Bytes of the values of records in completed batches",
                &self.bytes,
            ),
            ("batches", "Batches completed", &self.batches),
            ("objects", "Objects of rows stored", &self.objects),
            (
                "object_bytes",
                "Bytes of objects of rows stored",
                &self.object_bytes,
            ),
            (
                "window_rows",
                "Rows of windows that were closed",
                &self.window_rows,
            ),
            (
                "output_retries",
                "Requests to the output that failed and were tried again",
                &self.retries,
            ),
            (
                "rejoins",
                "Memberships in the group given up and begun anew",
                &self.rejoined,
            ),
            (
                "published",
                "Markers of hours and accounts of days stored",
                &self.published,
            ),
            (
                "publish_conflicts",
                "Markers and accounts in whose place something else was",
                &self.publish_conflicts,
            ),
            (
                "early_batches",
                "Batches closed early because memory was short",
                &self.pressed,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        self.items.register(&mut registry);
        self.tables.register(&mut registry);
        self.register_gauges(&mut registry);
        registry
    }

    fn register_gauges(&self, registry: &mut Registry) {
        let families: [(&str, &str, &Family<OfPartition, Gauge>); 9] = [
            (
                "durable_lag_records",
                "Offsets not yet stored and committed",
                &self.lag_records,
            ),
            (
                "durable_lag_seconds",
                "Age of the oldest record not yet stored and committed",
                &self.lag_seconds,
            ),
            (
                "unexplained_gaps",
                "Ranges of streams that nothing explains",
                &self.gaps,
            ),
            (
                "complete_until_seconds",
                "Unix time up to which hours are said to be complete",
                &self.complete,
            ),
            (
                "accounts",
                "Devices that have an account of the day",
                &self.accounts,
            ),
            ("streams", "Streams in the ledger", &self.streams),
            (
                "ledger_memory_bytes",
                "Memory of the ledger, about; limits.ledger is its bound",
                &self.ledger_bytes,
            ),
            ("windows", "Windows that are open", &self.windows),
            (
                "window_memory_bytes",
                "Memory that they take, about",
                &self.window_bytes,
            ),
        ];
        for (name, help, family) in families {
            registry.register(name, help, family.clone());
        }
        let gauges: [(&str, &str, &Gauge); 5] = [
            (
                "partitions",
                "Partitions that this loader has",
                &self.assigned,
            ),
            (
                "batch_memory_bytes",
                "Memory of open and closing batches",
                &self.batch_bytes,
            ),
            ("batch_memory_bytes_max", "Its bound", &self.batch_bytes_max),
            (
                "fetched_memory_bytes",
                "Memory of records fetched and not yet taken in",
                &self.fetched_bytes,
            ),
            (
                "resident_memory_bytes",
                "Memory of the process, as the kernel counts it",
                &self.resident_bytes,
            ),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
    }
}

/// Resident memory of this process; 0 where the system does not say.
pub fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_of_what_is_left() {
        let standing = |durable, taken| Standing {
            durable,
            taken,
            oldest_ms: (taken > durable).then_some(90_000),
            durable_ms: Some(40_000),
            ..Standing::default()
        };
        let ends = |end, reached| Ends { end, reached };
        for (name, standing, ends, records, seconds) in [
            ("idle", standing(70, 70), ends(70, Some(70)), 0, 0),
            // Markers of transactions: offsets without records.
            (
                "idle behind markers",
                standing(70, 70),
                ends(72, Some(72)),
                0,
                0,
            ),
            (
                "a batch is open",
                standing(70, 80),
                ends(80, Some(80)),
                10,
                10,
            ),
            (
                "not fetched yet",
                standing(70, 70),
                ends(95, Some(70)),
                25,
                60,
            ),
            (
                "not heard of the end",
                standing(70, 70),
                ends(0, None),
                0,
                0,
            ),
        ] {
            let expected = Lag { records, seconds };
            assert_eq!(lag(&standing, &ends, 100_000), expected, "{name}");
        }
    }

    #[test]
    fn what_prometheus_sees() {
        let metrics = Metrics::default();
        metrics.count(&Counts {
            rows: 5,
            dead_letters: 2,
            filtered: 3,
            ..Counts::default()
        });
        let mut rejects = Rejects::default();
        rejects.add("1 (parse)", "no", (1, 1));
        metrics.rejected(&rejects);
        metrics.stands(
            7,
            Some(Standing {
                durable: 4,
                taken: 4,
                ..Standing::default()
            }),
        );
        metrics.ends(BTreeMap::from([(
            7,
            Ends {
                end: 9,
                reached: Some(4),
            },
        )]));
        metrics.refresh(1000, (1, 2), 3);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics.registry()).unwrap();
        for line in [
            "headwater_loader_records_total{outcome=\"written\"} 3",
            "headwater_loader_records_total{outcome=\"dead_letter\"} 2",
            "headwater_loader_dead_letters_total{step=\"1 (parse)\"} 1",
            "headwater_loader_durable_lag_records{partition=\"7\"} 5",
            "headwater_loader_batch_memory_bytes_max 2",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        metrics.stands(7, None);
        metrics.refresh(1000, (0, 0), 0);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics.registry()).unwrap();
        assert!(!text.contains("partition=\"7\""), "{text}");
    }
}
