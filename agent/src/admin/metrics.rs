//! [`Status`] as OpenMetrics text, for Prometheus. Pure: what is shown is one table, [`METRICS`],
//! and `docs/agent.md` lists the same names (a test compares them).

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::status::Status;
use crate::delivery::allowance::Period;
use crate::delivery::uplink::By;
use crate::process::Tally;

/// Media type of [`text`], with the version that it follows.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What each name begins with.
const PREFIX: &str = "headwater_agent";

/// How a number behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Only grows, and begins anew with the process; OpenMetrics adds `_total` to its name.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One number that is shown.
struct Metric {
    name: &'static str,
    kind: Kind,
    unit: Option<Unit>,
    help: &'static str,
    /// None where there is nothing to tell at the moment.
    value: fn(&Status) -> Option<f64>,
}

macro_rules! metrics {
    ($( $kind:ident $name:literal $unit:expr, $help:literal, $value:expr; )*) => {
        &[ $( Metric { name: $name, kind: Kind::$kind, unit: $unit, help: $help, value: $value } ),* ]
    };
}

#[expect(
    clippy::cast_precision_loss,
    reason = "OpenMetrics numbers are doubles: beyond 2^53 a reader sees no single step"
)]
fn whole(number: u64) -> Option<f64> {
    Some(number as f64)
}

fn seconds(ms: u64) -> Option<f64> {
    whole(ms).map(|ms| ms / 1000.0)
}

fn used(status: &Status, period: Period) -> Option<f64> {
    whole(status.uplink.of(period)?.used_bytes)
}

fn left(status: &Status, period: Period) -> Option<f64> {
    let used = status.uplink.of(period)?;
    whole(used.max_bytes.saturating_sub(used.used_bytes))
}

fn closed_by(status: &Status, by: By) -> Option<f64> {
    let gate = status.uplink.gate;
    whole(u64::from(!gate.open && gate.by == Some(by)))
}

/// One that may be below zero.
#[expect(clippy::cast_precision_loss, reason = "as for `whole`")]
fn number(number: i64) -> f64 {
    number as f64
}

fn signed_seconds(ms: i64) -> f64 {
    number(ms) / 1000.0
}

#[rustfmt::skip]
const METRICS: &[Metric] = metrics! {
    Gauge "up" Some(Unit::Seconds), "Time since the start", |s| seconds(s.up_ms);
    Gauge "stuck" None, "1 where the pipeline does not move though it should", |s| whole(u64::from(s.stuck.is_some()));
    Gauge "clock_unset" None, "1 while the clock was never set: nothing is sent", |s| whole(u64::from(s.clock_unset));
    Gauge "broker_online" None, "1 where the broker acknowledges in time, as far as anything was sent", |s| whole(u64::from(s.broker.online));
    Gauge "broker_acknowledged_age" Some(Unit::Seconds), "Time since the broker acknowledged last", |s| s.broker.acknowledged_ms_ago.and_then(seconds);
    Gauge "credentials_valid" None, "1 where there are AWS credentials that have not ended", |s| s.credentials.as_ref().and_then(|c| whole(u64::from(c.valid)));
    Gauge "credentials_left" Some(Unit::Seconds), "Time until they end", |s| s.credentials.as_ref().and_then(|c| c.left_ms).and_then(seconds);
    Counter "credentials_fetched" None, "Times that the source gave credentials", |s| s.credentials.as_ref().and_then(|c| whole(c.fetched));
    Counter "credentials_failures" None, "Times that it gave none", |s| s.credentials.as_ref().and_then(|c| whole(c.failures));
    Counter "principals_changed" None, "Times that the credentials were another principal's than before", |s| s.credentials.as_ref().and_then(|c| whole(c.principals_changed));
    Counter "tokens_signed" None, "Tokens signed", |s| s.credentials.as_ref().and_then(|c| whole(c.tokens));
    Gauge "clock_offset" Some(Unit::Seconds), "AWS's clock less the device's, where the source of the credentials tells the time", |s| s.credentials.as_ref().and_then(|c| c.clock_offset_ms).map(signed_seconds);
    Counter "clock_steps" None, "Times that the clock was set, where the cluster wants tokens", |s| s.credentials.as_ref().and_then(|c| whole(c.clock_steps));
    Counter "records" None, "Records that came from the sources", |s| whole(s.counters.records);
    Counter "values" Some(Unit::Bytes), "Bytes of their values", |s| whole(s.counters.bytes);
    Counter "batches" None, "Batches that they came in", |s| whole(s.counters.batches);
    Counter "batches_sent" None, "Batches handed to librdkafka, again and again included", |s| whole(s.counters.sent);
    Counter "batches_delivered" None, "Batches that the broker acknowledged", |s| whole(s.counters.delivered);
    Counter "batches_spooled" None, "Batches committed to the spool", |s| whole(s.counters.spooled);
    Counter "batches_returned" None, "Batches that did not arrive and are sent again", |s| whole(s.counters.retries);
    Gauge "batches_refused" None, "Batches that the broker refused, and that wait to be sent again; the log says why", |s| whole(s.broker.refused_batches);
    Counter "producers_recreated" None, "librdkafka clients made anew", |s| whole(s.counters.recreated);
    Counter "checkpoints" None, "Commits that moved a checkpoint", |s| whole(s.counters.checkpoints);
    Counter "store_refusals" None, "Commits and loads that the database refused", |s| whole(s.counters.refused);
    Counter "spool_rows_lost" None, "Rows of the spool that were unreadable; a loss notice went in the place of each", |s| whole(s.counters.lost);
    Counter "spool_salvages" None, "Times a damaged database was salvaged and replaced while the agent ran", |s| whole(s.counters.healed);
    Counter "samples" None, "Samples of sensors, lost ones included", |s| whole(s.samples.taken);
    Counter "samples_lost" None, "Samples for which the window had no room; loss notices say so", |s| whole(s.samples.lost);
    Gauge "files_followed" None, "Files that are followed", |s| whole(s.files.followed);
    Counter "files_skipped" None, "Files passed over: rotated ones that cannot be opened, and what is compressed in a way that is not read; the log says which and why", |s| whole(s.files.skipped);
    Counter "files_given_up" None, "Deleted files that were given up before all of them was read, since their file system was down to what is kept free; loss notices (deleted-unread) say so", |s| whole(s.files.given_up);
    Counter "files_given_up" Some(Unit::Bytes), "What of them was not read", |s| whole(s.files.given_up_bytes);
    Gauge "files_behind" None, "Files of which something waits to be read, as of the last scan", |s| whole(s.files.behind);
    Gauge "files_unread" Some(Unit::Bytes), "How much of them does; compressed files, of which only reading them can tell, do not count", |s| whole(s.files.unread_bytes);
    Gauge "files_out_of_reach" None, "Known files that may not be read, or whose disk fails or is not mounted; the log says which and why", |s| whole(s.files.out_of_reach);
    Gauge "window" Some(Unit::Bytes), "Records in RAM", |s| whole(s.window.bytes);
    Gauge "window_max" Some(Unit::Bytes), "Bound of the same (window.bytes)", |s| whole(s.window.bytes_max);
    Gauge "spool_batches" None, "Batches in the spool", |s| whole(s.spool.batches);
    Gauge "spool" Some(Unit::Bytes), "Their bytes, as stored", |s| whole(s.spool.bytes);
    Gauge "spool_max" Some(Unit::Bytes), "Bound of the same (spool.max_bytes)", |s| whole(s.spool.bytes_max);
    Gauge "spool_oldest" Some(Unit::Seconds), "Age of the oldest batch in the spool; 0 where it is empty", |s| seconds(s.spool.oldest_ms.unwrap_or(0));
    Gauge "spool_full" None, "1 while the spool has no room for a lane, which waits or drops", |s| whole(u64::from(s.spool.full));
    Gauge "spool_refuses" None, "1 where the database did not take what it was asked to take last; status says why", |s| whole(u64::from(s.spool.refuses.is_some()));
    Gauge "spool_salvage_left" Some(Unit::Bytes), "Of the damaged spool, what its salvage has not looked at yet; 0 where none is under way", |s| whole(s.spool.salvage.map_or(0, |salvage| salvage.bytes_all.saturating_sub(salvage.bytes)));
    Gauge "disk_free" Some(Unit::Bytes), "Free of the file system of state_dir; spool.free_bytes_min is kept", |s| s.spool.free.and_then(|free| whole(free.bytes));
    Gauge "disk_free_inodes" None, "Free inodes of the same; spool.free_inodes_min are kept", |s| s.spool.free.and_then(|free| free.inodes).and_then(whole);
    Counter "batches_dropped" None, "Batches given up since the spool was full; loss notices say so", |s| whole(s.counters.dropped);
    Counter "records_dropped" None, "Records in them", |s| whole(s.counters.dropped_records);
    Counter "spool_full_waits" None, "Times that a lane found no room in the spool and nothing that may give way: its sources wait", |s| whole(s.counters.full_waits);
    Counter "sessions" None, "Sessions that began, where the agent is not always connected", |s| whole(s.counters.sessions);
    Gauge "uplink_open" None, "1 where what waits may be sent: by hours, budgets, cycle and clock", |s| whole(u64::from(s.uplink.gate.open));
    Gauge "uplink_closed_by_hours" None, "1 while uplink.hours keep it closed, and nothing for longer", |s| closed_by(s, By::Hours);
    Gauge "uplink_closed_by_budget" None, "1 while a budget does", |s| closed_by(s, By::Budget);
    Gauge "uplink_closed_by_cycle" None, "1 between two sessions of a cycle", |s| closed_by(s, By::Cycle);
    Gauge "uplink_next_change" Some(Unit::Seconds), "Time until it opens or closes, as far as that is known", |s| s.uplink.gate.changes_in_ms.and_then(seconds);
    Counter "uplink_changes" None, "Times that it opened or closed", |s| whole(s.counters.uplink_changes);
    Counter "uplink" Some(Unit::Bytes), "Bytes between the agent and the brokers, both ways; where there is a budget", |s| s.uplink.bytes.and_then(whole);
    Gauge "uplink_hour_used" Some(Unit::Bytes), "Used of uplink.bytes_per_hour", |s| used(s, Period::Hour);
    Gauge "uplink_hour_left" Some(Unit::Bytes), "Left of it", |s| left(s, Period::Hour);
    Gauge "uplink_day_used" Some(Unit::Bytes), "Used of uplink.bytes_per_day", |s| used(s, Period::Day);
    Gauge "uplink_day_left" Some(Unit::Bytes), "Left of it", |s| left(s, Period::Day);
    Gauge "uplink_month_used" Some(Unit::Bytes), "Used of uplink.bytes_per_month", |s| used(s, Period::Month);
    Gauge "uplink_month_left" Some(Unit::Bytes), "Left of it", |s| left(s, Period::Month);
    Gauge "flash_left" Some(Unit::Bytes), "Left of flash.bytes_per_day", |s| s.flash_left_bytes.and_then(whole);
    Gauge "flash_debt" Some(Unit::Bytes), "Written beyond flash.bytes_per_day, and not made up for yet", |s| s.flash_debt_bytes.and_then(whole);
    Gauge "flash_max" Some(Unit::Bytes), "The budget itself, which holds one day's bytes", |s| s.flash_max_bytes.and_then(whole);
    Counter "flash_waits" None, "Commits that waited for the flash budget", |s| whole(s.counters.flash_waits);
    Counter "config_reloads" None, "New configurations taken (SIGHUP)", |s| whole(s.reloads.taken);
    Counter "config_reload_failures" None, "New configurations refused; the one before stayed", |s| whole(s.reloads.refused);
    Gauge "config_last_reload_successful" None, "0 where the last new configuration was refused", |s| whole(u64::from(!s.reloads.last_refused));
    Gauge "resident_memory" Some(Unit::Bytes), "Memory of the process", |s| whole(s.process.rss_bytes);
    Gauge "memory_max" Some(Unit::Bytes), "Bound of the same (memory.max)", |s| s.memory_max_bytes.and_then(whole);
    Counter "cpu" Some(Unit::Seconds), "CPU time of the process, user and system", |s| seconds(s.process.cpu_ms);
    Gauge "nice" None, "How it gives way to other programs (Nice=): above 0 they go first", |s| Some(number(s.process.nice));
    Gauge "cpu_quota_cores" None, "As many processors' time as it may take (CPUQuota=)", |s| s.process.cpu_quota_cores;
    Counter "cpu_held_up" Some(Unit::Seconds), "Time in which that quota held it up", |s| s.process.cpu_held_up_ms.and_then(seconds);
    Counter "storage_written" Some(Unit::Bytes), "Bytes written to storage, as the kernel counts them: what flash wears by", |s| whole(s.process.written_bytes);
    Gauge "open_files" None, "Open files of the process", |s| whole(s.process.open_files);
    Gauge "open_files_max" None, "As many as it may have open (LimitNOFILE=)", |s| whole(s.process.open_files_max);
    Gauge "threads" None, "Its threads", |s| whole(s.process.threads);
    Gauge "wakeups" None, "How often the threads that run now have waited and were woken", |s| whole(s.process.wakeups);
    Gauge "preemptions" None, "How often they were stopped for other programs", |s| whole(s.process.preemptions);
    Counter "tap_missed" None, "Records that watchers (tap) missed, since they were slower", |s| whole(s.tap_missed);
};

#[derive(Debug)]
struct Shown(Status);

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in METRICS {
            let Some(value) = (metric.value)(&self.0) else {
                continue;
            };
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let into =
                encoder.encode_descriptor(metric.name, metric.help, metric.unit.as_ref(), kind)?;
            match metric.kind {
                Kind::Counter => ConstCounter::new(value).encode(into)?,
                Kind::Gauge => ConstGauge::new(value).encode(into)?,
            }
        }
        encode_losses(&self.0, &mut encoder)?;
        encode_lines(&self.0, &mut encoder)
    }
}

/// The one that has a label of the reason.
fn encode_losses(status: &Status, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Loss notices that sources made";
    let mut family = encoder.encode_descriptor("loss_notices", help, None, MetricType::Counter)?;
    for (reason, count) in &status.losses {
        let labels = [("reason", reason.as_str())];
        let into = family.encode_family(&labels)?;
        ConstCounter::new(*count).encode(into)?;
    }
    Ok(())
}

/// What became of a source's lines, other than records.
type Lines = (&'static str, &'static str, fn(&Tally) -> u64);

#[rustfmt::skip]
const LINES: [Lines; 5] = [
    ("lines_dropped", "Lines that steps dropped", |lines| lines.filtered),
    ("lines_unparsed", "Lines that a parse step could not read, whatever on_error makes of them", |lines| lines.unparsed),
    ("lines_repeated", "Lines that repeated the one before them", |lines| lines.repeated),
    ("lines_rate_limited", "Records that the rate limit cut; loss notices say so", |lines| lines.limited),
    ("lines_too_large", "Records that steps made larger than Kafka takes; loss notices say so", |lines| lines.too_large),
];

/// Those that have a label of the source.
fn encode_lines(status: &Status, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    for (name, help, count) in LINES {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (source, lines) in &status.lines {
            let labels = [("source", source.as_str())];
            ConstCounter::new(count(lines)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// The status as OpenMetrics 1.0 text.
///
/// # Errors
/// Never in practice: a `String` takes every text.
pub fn text(status: Status) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    let build = [
        ("version", status.version.clone()),
        ("device", status.device.clone()),
    ];
    registry.register("build", "What runs, and where", Info::new(build.to_vec()));
    registry.register_collector(Box::new(Shown(status)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::status::tests::example;

    #[test]
    fn openmetrics_text() {
        let text = text(example()).unwrap();
        for line in [
            "headwater_agent_build_info{version=\"0.1.0\",device=\"pi-7\"} 1\n",
            "# TYPE headwater_agent_records counter\nheadwater_agent_records_total 1234567.0\n",
            "# TYPE headwater_agent_up_seconds gauge\n# UNIT headwater_agent_up_seconds seconds\nheadwater_agent_up_seconds 93784.0\n",
            "headwater_agent_storage_written_bytes_total 3145728.0\n",
            "headwater_agent_nice 5.0\n",
            "headwater_agent_cpu_quota_cores 0.2\n",
            "headwater_agent_cpu_held_up_seconds_total 1.5\n",
            "headwater_agent_stuck 0.0\n",
            "# TYPE headwater_agent_loss_notices counter\nheadwater_agent_loss_notices_total{reason=\"nul-run\"} 1\n",
            "headwater_agent_loss_notices_total{reason=\"rate-limited\"} 3\n",
            "headwater_agent_lines_dropped_total{source=\"app\"} 4711\nheadwater_agent_lines_dropped_total{source=\"journal\"} 0\n",
            "headwater_agent_lines_unparsed_total{source=\"journal\"} 8\n",
            "headwater_agent_credentials_left_seconds 3141.0\n",
            "headwater_agent_clock_offset_seconds -0.812\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut status = example();
        status.broker.acknowledged_ms_ago = None;
        status.credentials = None;
        let text = text(status).unwrap();
        for name in ["acknowledged_age", "credentials", "offset", "tokens"] {
            assert!(!text.contains(name), "{name}");
        }
    }

    #[test]
    fn every_metric_is_documented() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/agent.md");
        let page = std::fs::read_to_string(page).unwrap();
        let shown = text(example()).unwrap();
        let names = shown.lines().filter(|line| !line.starts_with('#'));
        for name in names.filter_map(|line| line.split([' ', '{']).next()) {
            assert!(
                page.contains(&format!("`{name}`")),
                "{name} is not in docs/agent.md"
            );
        }
    }
}
