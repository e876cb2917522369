//! What a dry run found, reckoned up to a day, and as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use headwater_msk::Bytes;
use serde::Serialize;

use super::{Batches, Prices, Reject, Rejects, Seen, UnderPath, is_by_record};
use crate::config::Plan;
use crate::partition::Limits;

/// Milliseconds of a day.
const DAY_MS: f64 = 86_400_000.0;
/// Most paths that are shown.
const PATHS: usize = 10;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    topic: String,
    records: u64,
    record_bytes: u64,
    rows: u64,
    dead_letters: u64,
    filtered: u64,
    aggregated: u64,
    duplicates: u64,
    notices: u64,
    open_windows: usize,
    /// Kafka's timestamps of the first and the last record, Unix milliseconds.
    first_ms: u64,
    last_ms: u64,
    /// What the records came to, the batches that the sample's end cut off among them.
    stored: Batches,
    /// Batches that the guard against too many paths (`flush.objects`) closed.
    pub(super) guard_closed_batches: u64,
    guard_objects: usize,
    paths: usize,
    largest_paths: Vec<Under>,
    rejects: Vec<Reject>,
    /// None where the records are too few, or of one moment.
    a_day: Option<Day>,
    prices: Prices,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Under {
    path: String,
    #[serde(flatten)]
    what: UnderPath,
}

/// What a day comes to, at the rate of these records.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Day {
    pub(super) records: f64,
    pub(super) batches: f64,
    pub(super) objects: f64,
    pub(super) bytes: f64,
    pub(super) puts: f64,
    /// Items put into DynamoDB, and what they are paid by.
    pub(super) items: f64,
    pub(super) write_units: f64,
    /// For the requests.
    put_dollars: f64,
    write_dollars: f64,
    /// For what a day adds, each month that it is kept.
    storage_dollars_a_month: f64,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sums for people, not for accounts"
)]
fn float(n: u64) -> f64 {
    n as f64
}

/// What a partition comes to in a day. `by_record`: each record has an object of its own.
pub(super) fn day(seen: &Seen, flush: &Limits, by_record: bool) -> Option<Day> {
    let (first, last) = seen.times_ms?;
    let span_ms = float(last - first);
    if seen.counts.records < 2 || span_ms <= 0.0 {
        return None;
    }
    let records_a_ms = float(seen.counts.records - 1) / span_ms;
    let all = seen.whole.plus(&seen.cut);
    // Of whole batches it is known how long they take. One that was cut off would have gone on to the
    // first of its bounds, with the objects that it has.
    let (of, ms) = match (seen.whole.batches, seen.whole_ms) {
        (1.., 1..) => (seen.whole, float(seen.whole_ms)),
        _ => {
            let bytes_a_ms = float(all.bytes) / span_ms;
            let by_bytes = float(flush.bytes as u64) / bytes_a_ms.max(f64::MIN_POSITIVE);
            let by_records = float(flush.records) / records_a_ms;
            let by_time = flush
                .every_ms
                .map_or(flush.age_ms, |every| every.min(flush.age_ms));
            let by_objects = match (by_record, all.objects) {
                (true, 1..) => float(flush.objects as u64) * span_ms / float(all.objects),
                _ => f64::INFINITY,
            };
            let ms = float(by_time).min(by_bytes).min(by_records);
            (all, ms.min(by_objects).max(1.0))
        }
    };
    // What each batch has, and what each record has: that grows with a batch that goes on.
    let by_batch = |n: u64| float(n) * DAY_MS / ms;
    let by_rate = |n: u64| float(n) / float(seen.counts.records) * records_a_ms * DAY_MS;
    let (objects, puts) = match by_record {
        true => (
            by_rate(all.objects),
            by_rate(all.puts - all.batches) + by_batch(of.batches),
        ),
        false => (by_batch(of.objects), by_batch(of.puts)),
    };
    Some(Day {
        records: records_a_ms * DAY_MS,
        batches: by_batch(of.batches),
        objects,
        bytes: float(all.bytes) / span_ms * DAY_MS,
        puts,
        items: by_batch(of.latest.items) + by_rate(all.append.items),
        write_units: by_batch(of.latest.units) + by_rate(all.append.units),
        ..Day::default()
    })
}

impl Report {
    pub(super) fn new(
        plan: &Plan,
        prices: Prices,
        seen: &BTreeMap<i32, Seen>,
        rejects: Rejects,
    ) -> Self {
        let mut all = Seen::default();
        let mut a_day: Option<Day> = None;
        let (mut first_ms, mut last_ms) = (u64::MAX, 0);
        for one in seen.values() {
            all.counts = all.counts.plus(&one.counts);
            all.whole = all.whole.plus(&one.whole).plus(&one.cut);
            all.open_windows += one.open_windows;
            if let Some((first, last)) = one.times_ms {
                (first_ms, last_ms) = (first_ms.min(first), last_ms.max(last));
            }
            for (path, under) in &one.paths {
                let sum = all.paths.entry(path.clone()).or_default();
                sum.rows += under.rows;
                sum.objects += under.objects;
                sum.bytes += under.bytes;
            }
            if let Some(day) = day(one, &plan.flush, is_by_record(plan)) {
                let sum = a_day.get_or_insert_default();
                sum.records += day.records;
                sum.batches += day.batches;
                sum.objects += day.objects;
                sum.bytes += day.bytes;
                sum.puts += day.puts;
                sum.items += day.items;
                sum.write_units += day.write_units;
            }
        }
        if let Some(day) = &mut a_day {
            day.put_dollars = day.puts / 1000.0 * prices.put;
            day.write_dollars = day.write_units / 1_000_000.0 * prices.write;
            day.storage_dollars_a_month = day.bytes / 1024_f64.powi(3) * prices.storage;
        }
        let mut rejects: Vec<Reject> = rejects.into_values().collect();
        rejects.sort_by_key(|reject| std::cmp::Reverse(reject.count));
        let warnings = warnings(&all, plan.flush.objects, a_day.is_none());
        let paths = all.paths.len();
        let mut largest: Vec<Under> = all
            .paths
            .into_iter()
            .map(|(path, what)| Under { path, what })
            .collect();
        largest.sort_by_key(|under| std::cmp::Reverse(under.what.bytes));
        largest.truncate(PATHS);
        Self {
            topic: plan.kafka.topic.clone(),
            records: all.counts.records,
            record_bytes: all.counts.bytes,
            rows: all.counts.rows,
            dead_letters: all.counts.dead_letters,
            filtered: all.counts.filtered,
            aggregated: all.counts.aggregated,
            duplicates: all.counts.duplicates,
            notices: all.counts.notices,
            open_windows: all.open_windows,
            first_ms,
            last_ms,
            stored: all.whole,
            guard_closed_batches: all.whole.guarded,
            guard_objects: plan.flush.objects,
            paths,
            largest_paths: largest,
            rejects,
            a_day,
            prices,
            warnings,
        }
    }
}

fn warnings(all: &Seen, guard: usize, no_rate: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if all.whole.guarded > 0 {
        warnings.push(format!(
            "the guard closed {} batches that had {guard} objects: output.path makes too many paths, \
             or flush.objects is too low",
            all.whole.guarded
        ));
    }
    let (paths, rows) = (all.paths.len() as u64, all.counts.rows);
    if paths >= 100 && paths * 10 > rows {
        warnings.push(format!(
            "{rows} rows lie in {paths} paths: a field of output.path seems to differ from row to row"
        ));
    }
    if no_rate {
        warnings.push(
            "these records are too few, or of one moment: what a day comes to cannot be told; \
             raise --records"
                .to_owned(),
        );
    }
    warnings
}

fn shown(bytes: f64) -> Bytes {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a sum of sizes, rounded to be read"
    )]
    let bytes = bytes as u64;
    // Rounded to what is worth reading.
    let step = match bytes {
        0..10_240 => 1,
        10_240..10_485_760 => 1024,
        10_485_760..10_737_418_240 => 1024 * 1024,
        _ => 1024 * 1024 * 1024,
    };
    Bytes(bytes / step * step)
}

pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    let written = write_sums(report, &mut text).and_then(|()| write_rest(report, &mut text));
    debug_assert!(written.is_ok(), "a String takes every byte");
    text
}

fn write_sums(report: &Report, text: &mut String) -> std::fmt::Result {
    let time = |ms: u64| {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |t| t.to_string())
    };
    writeln!(
        text,
        "{} records of topic {}, {} to {}, {}",
        report.records,
        report.topic,
        time(report.first_ms),
        time(report.last_ms),
        shown(float(report.record_bytes))
    )?;
    writeln!(
        text,
        "rows: {} (dead letters among them: {}); filtered: {}; only in windows: {}; repeats: {}; notices: {}",
        report.rows,
        report.dead_letters,
        report.filtered,
        report.aggregated,
        report.duplicates,
        report.notices
    )?;
    if report.open_windows > 0 {
        writeln!(
            text,
            "windows still open at the end: {}",
            report.open_windows
        )?;
    }
    let stored = &report.stored;
    writeln!(
        text,
        "batches: {}; objects: {}, {} together, the largest {}; most objects in a batch: {} (flush.objects: {})",
        stored.batches,
        stored.objects,
        shown(float(stored.bytes)),
        shown(float(stored.largest_bytes)),
        stored.largest_objects,
        report.guard_objects
    )?;
    let items = stored.latest.plus(stored.append);
    if items.items > 0 {
        writeln!(
            text,
            "items for DynamoDB: {}, {} write request units",
            items.items, items.units
        )?;
    }
    writeln!(text, "paths: {}", report.paths)?;
    for Under { path, what } in &report.largest_paths {
        let bytes = shown(float(what.bytes));
        writeln!(
            text,
            "    {bytes} in {} objects, {} rows: {path}",
            what.objects, what.rows
        )?;
    }
    if report.paths > report.largest_paths.len() {
        let more = report.paths - report.largest_paths.len();
        writeln!(text, "    and {more} smaller ones")?;
    }
    Ok(())
}

fn write_rest(report: &Report, text: &mut String) -> std::fmt::Result {
    for reject in &report.rejects {
        let step = reject.step.as_ref();
        let step = step.map_or(String::new(), |step| format!(", in step {step}"));
        writeln!(
            text,
            "dead letters: {} x {}{step}",
            reject.count, reject.reason
        )?;
        writeln!(
            text,
            "    such as partition {}, offset {}: {}",
            reject.example_partition,
            reject.example_offset,
            reject.example.escape_debug()
        )?;
    }
    if let Some(day) = &report.a_day {
        writeln!(
            text,
            "a day at this rate: {:.0} records, {:.0} objects, {}, {:.0} PUT requests",
            day.records,
            day.objects,
            shown(day.bytes),
            day.puts
        )?;
        writeln!(
            text,
            "    requests ${:.2} a day (at ${} for 1000); storage ${:.2} a month for each day that is kept (at ${} for a GiB)",
            day.put_dollars, report.prices.put, day.storage_dollars_a_month, report.prices.storage
        )?;
        if day.items > 0.0 {
            writeln!(
                text,
                "    {:.0} items, {:.0} write request units ${:.2} a day (at ${} for a million)",
                day.items, day.write_units, day.write_dollars, report.prices.write
            )?;
        }
    }
    for warning in &report.warnings {
        writeln!(text, "WARNING: {warning}")?;
    }
    Ok(())
}
