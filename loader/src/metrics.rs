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

use crate::clock;
use crate::partition::batch::Counts;
use crate::partition::rejects::Rejects;

mod board;
mod credentials;
mod items;
mod registry;
mod requests;
mod tables;

use board::{Board, Post, Waits};
pub use board::{Ends, Lag, Reading, Standing, lag};
pub use credentials::Credentials;
pub use items::{ItemCounts, ItemSums};
pub use requests::{Outcome, RequestSums, Requests, Sink, SinkSums};
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
    /// Requests to S3 and DynamoDB.
    pub requests: Requests,
    /// Memberships that were given up and begun anew.
    pub rejoined: Counter,
    /// Batches closed before they were due, because memory was short.
    pub pressed: Counter,
    /// Batches closed before they were due, by the guard against too many paths.
    pub guarded: Counter,
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
    lost_offsets: Family<OfPartition, Counter>,
    stops: Family<OfPartition, Counter>,
    assigned: Gauge,
    waiting: Gauge,
    batch_bytes: Gauge,
    batch_bytes_max: Gauge,
    state_bytes: Gauge,
    state_bytes_max: Gauge,
    fetched_bytes: Gauge,
    resident_bytes: Gauge,
    board: Mutex<Board>,
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
        // Among those that were written; unparsed among all but duplicates and notices.
        for (outcome, n) in [
            ("unparsed", counts.unparsed),
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

    /// A worker has come, and is not loading yet. `epoch`: of its assignment, which tells it from the one before.
    pub fn arrives(&self, (partition, epoch): (i32, u64), standing: Standing, end: Option<u64>) {
        let post = Post {
            epoch,
            standing,
            waits: Some(Waits {
                reason: "it is being taken up".to_owned(),
                since_ms: clock::now().mono_ms,
            }),
            end,
            looked_ms: None,
        };
        self.board().workers.insert(partition, post);
    }

    /// Notes how far a worker is that loads, and that it looks up.
    pub fn stands(&self, who: (i32, u64), standing: Standing) {
        if let Some(post) = self.board().of(who) {
            post.standing = standing;
            post.looked_ms = Some(clock::now().mono_ms);
        }
    }

    /// Notes that a worker ends.
    pub fn looks_no_more(&self, who: (i32, u64)) {
        if let Some(post) = self.board().of(who) {
            post.looked_ms = None;
        }
    }

    /// A partition whose worker has not looked up for longer than `most_ms`, and for how long.
    pub fn hung(&self, most_ms: u64) -> Option<(i32, u64)> {
        self.board().hung(clock::now().mono_ms, most_ms)
    }

    /// Notes that nothing keeps a worker any more.
    pub fn goes_on(&self, who: (i32, u64)) {
        if let Some(post) = self.board().of(who) {
            post.waits = None;
        }
    }

    /// Why a worker cannot load now, and since when there is a reason, monotonic milliseconds; none where it does.
    pub fn why_it_waits(&self, who: (i32, u64)) -> Option<(String, u64)> {
        let mut board = self.board();
        let waits = board.of(who)?.waits.as_ref()?;
        Some((waits.reason.clone(), waits.since_ms))
    }

    /// A partition was stopped, for a trouble of its own.
    pub fn stopped(&self, partition: i32) {
        self.stops.get_or_create(&OfPartition { partition }).inc();
    }

    /// Notes why a worker cannot load now.
    pub fn waits(&self, who: (i32, u64), reason: String) {
        if let Some(post) = self.board().of(who) {
            let since_ms = match &post.waits {
                Some(waits) => waits.since_ms,
                None => clock::now().mono_ms,
            };
            post.waits = Some(Waits { reason, since_ms });
        }
    }

    /// Notes what a worker that cannot load has heard of what waits for it: the time of its first record, and
    /// where its partition ends.
    pub fn hears(&self, who: (i32, u64), oldest_ms: Option<u64>, end: Option<u64>) {
        if let Some(post) = self.board().of(who) {
            post.standing.oldest_ms = oldest_ms.or(post.standing.oldest_ms);
            post.end = post.end.max(end);
        }
    }

    /// A worker has ended.
    pub fn leaves(&self, (partition, epoch): (i32, u64)) {
        let mut board = self.board();
        if board.of((partition, epoch)).is_some() {
            board.workers.remove(&partition);
        }
    }

    /// Why this loader is not ready; none where it is.
    pub fn not_ready(&self) -> Option<String> {
        self.board().not_ready()
    }

    /// Counts offsets that are gone from the topic and were not read. Told again of the same ones, it counts
    /// them once.
    pub fn lost(&self, partition: i32, offsets: std::ops::Range<u64>) {
        let lost = self.board().lost(partition, offsets);
        let of = OfPartition { partition };
        self.lost_offsets.get_or_create(&of).inc_by(lost);
    }

    /// Offsets that were lost, over all partitions.
    pub fn lost_offsets(&self) -> u64 {
        self.board().lost_sum
    }

    /// The partitions that are ours. `now_ms`: Unix time.
    pub fn readings(&self, now_ms: u64) -> Vec<Reading> {
        self.tables.refresh(now_ms);
        self.board().readings(now_ms)
    }

    /// Notes where partitions end.
    pub fn ends(&self, ends: BTreeMap<i32, Ends>) {
        self.board().ends = ends;
    }

    /// Whether all that a partition holds was taken, as far as was heard.
    pub fn is_all_taken(&self, partition: i32) -> bool {
        self.board().is_all_taken(partition)
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

    /// Brings the gauges up to date. `batch_bytes` and `state_bytes`, each with its bound, and `fetched_bytes` are
    /// what is held now.
    pub fn refresh(
        &self,
        now_ms: u64,
        (batch_bytes, state_bytes): ((usize, usize), (usize, usize)),
        fetched_bytes: usize,
    ) {
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
        gauge(&self.waiting, waiting(&readings));
        gauge(&self.batch_bytes, batch_bytes.0 as u64);
        gauge(&self.batch_bytes_max, batch_bytes.1 as u64);
        gauge(&self.state_bytes, state_bytes.0 as u64);
        gauge(&self.state_bytes_max, state_bytes.1 as u64);
        gauge(&self.fetched_bytes, fetched_bytes as u64);
        gauge(&self.resident_bytes, resident_bytes());
    }
}

/// How many of these cannot be loaded now.
pub fn waiting(readings: &[Reading]) -> u64 {
    let waiting = readings.iter().filter(|reading| reading.waits.is_some());
    waiting.count() as u64
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
        let standing = Standing {
            durable: 4,
            taken: 4,
            ..Standing::default()
        };
        metrics.arrives((7, 1), Standing::default(), None);
        metrics.stands((7, 1), standing);
        metrics.goes_on((7, 1));
        metrics.ends(BTreeMap::from([(
            7,
            Ends {
                end: 9,
                reached: Some(4),
                waiting: 0,
                is_near: true,
            },
        )]));
        metrics.lost(7, 10..15);
        metrics.lost(7, 10..17);
        metrics.refresh(1000, ((1, 2), (4, 5)), 3);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics.registry()).unwrap();
        for line in [
            "headwater_loader_records_total{outcome=\"written\"} 3",
            "headwater_loader_records_total{outcome=\"dead_letter\"} 2",
            "headwater_loader_dead_letters_total{step=\"1 (parse)\"} 1",
            "headwater_loader_durable_lag_records{partition=\"7\"} 5",
            "headwater_loader_batch_memory_bytes_max 2",
            "headwater_loader_state_memory_bytes 4",
            "headwater_loader_state_memory_bytes_max 5",
            "headwater_loader_lost_offsets_total{partition=\"7\"} 7",
            "headwater_loader_partitions_waiting 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        metrics.leaves((7, 1));
        metrics.refresh(1000, ((0, 0), (0, 0)), 0);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics.registry()).unwrap();
        assert!(!text.contains("lag_records{partition=\"7\""), "{text}");
    }
}
