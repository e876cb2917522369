//! Metrics for CloudWatch without an agent beside the loader: a line of JSON in the embedded metric
//! format on standard output, which a container's log driver and Lambda hand on. CloudWatch reads the
//! values out of the log.
//!
//! Counters are told as what came since the last line, so that their sum over time and over loaders is
//! right; gauges as they are, to be looked at by their maximum. Logs go to standard error, so
//! nothing else is on standard output.
//!
//! The format: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.

use std::io::Write;

use serde_json::{Map, Value, json};

use crate::metrics::{ItemSums, Metrics, Reading, RequestSums, waiting};
use crate::partition::batch::Counts;

/// What the metrics are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emf {
    /// CloudWatch namespace.
    pub namespace: String,
    /// Consumer group.
    pub group: String,
    /// Topic.
    pub topic: String,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// What records were.
    pub counts: Counts,
    /// Objects of rows that were stored.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// Items for DynamoDB.
    pub items: ItemSums,
    /// Requests to S3 and DynamoDB.
    pub requests: RequestSums,
    /// Requests to the output that failed and were tried again.
    pub retries: u64,
    /// Memberships given up and begun anew.
    pub rejoins: u64,
    /// Offsets that retention deleted before they were read.
    pub lost_offsets: u64,
}

impl Totals {
    /// What a running loader has counted.
    pub fn of(counts: Counts, metrics: &Metrics) -> Self {
        Self {
            counts,
            objects: metrics.objects.get(),
            object_bytes: metrics.object_bytes.get(),
            items: metrics.items.sums(),
            requests: metrics.requests.sums(),
            retries: metrics.retries.get(),
            rejoins: metrics.rejoined.get(),
            lost_offsets: metrics.lost_offsets(),
        }
    }
}

/// How it stands now; a function has none of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Offsets between what is durable and the ends, over all partitions.
    pub lag_records: u64,
    /// Age of the oldest record that is not durable, seconds.
    pub lag_seconds: u64,
    /// Ranges that nothing explains.
    pub gaps: u64,
    /// Partitions that are ours.
    pub partitions: u64,
    /// Those of them that cannot be loaded now.
    pub waiting: u64,
    /// Memory of the process, bytes.
    pub resident_bytes: u64,
}

impl Gauges {
    /// Over all partitions.
    pub fn of(readings: &[Reading], resident_bytes: u64) -> Self {
        let lags = || readings.iter().filter_map(|reading| reading.lag);
        Self {
            lag_records: lags().map(|lag| lag.records).sum(),
            lag_seconds: lags().map(|lag| lag.seconds).max().unwrap_or(0),
            gaps: readings.iter().map(|reading| reading.standing.gaps).sum(),
            partitions: readings.len() as u64,
            waiting: waiting(readings),
            resident_bytes,
        }
    }
}

impl Emf {
    /// One line, its newline with it. `before`: the totals of the last line. `now_ms`: Unix time.
    pub fn line(
        &self,
        now_ms: u64,
        (before, now): (&Totals, &Totals),
        gauges: Option<&Gauges>,
    ) -> String {
        let since = |of: fn(&Totals) -> u64| of(now).saturating_sub(of(before));
        let written = |of: &Totals| of.counts.rows.saturating_sub(of.counts.dead_letters);
        let mut values = vec![
            ("records", "Count", since(|of| of.counts.records)),
            ("bytes", "Bytes", since(|of| of.counts.bytes)),
            (
                "rows",
                "Count",
                written(now).saturating_sub(written(before)),
            ),
            ("dead_letters", "Count", since(|of| of.counts.dead_letters)),
            ("filtered", "Count", since(|of| of.counts.filtered)),
            ("aggregated", "Count", since(|of| of.counts.aggregated)),
            ("duplicates", "Count", since(|of| of.counts.duplicates)),
            ("overlaps", "Count", since(|of| of.counts.overlaps)),
            ("objects", "Count", since(|of| of.objects)),
            ("object_bytes", "Bytes", since(|of| of.object_bytes)),
            ("items_written", "Count", since(|of| of.items.written)),
            ("items_superseded", "Count", since(|of| of.items.superseded)),
            (
                "items_unprocessed",
                "Count",
                since(|of| of.items.unprocessed),
            ),
            ("items_throttled", "Count", since(|of| of.items.throttled)),
            ("items_refused", "Count", since(|of| of.items.refused)),
            ("output_retries", "Count", since(|of| of.retries)),
            ("rejoins", "Count", since(|of| of.rejoins)),
            ("lost_offsets", "Count", since(|of| of.lost_offsets)),
        ];
        values.extend(told(&now.requests.since(&before.requests)));
        if let Some(gauges) = gauges {
            values.extend([
                ("durable_lag_records", "Count", gauges.lag_records),
                ("durable_lag_seconds", "Seconds", gauges.lag_seconds),
                ("unexplained_gaps", "Count", gauges.gaps),
                ("partitions", "Count", gauges.partitions),
                ("partitions_waiting", "Count", gauges.waiting),
                ("resident_memory_bytes", "Bytes", gauges.resident_bytes),
            ]);
        }
        let metrics: Vec<Value> = values
            .iter()
            .map(|(name, unit, _)| json!({ "Name": name, "Unit": unit }))
            .collect();
        let about = json!({
            "Timestamp": now_ms,
            "CloudWatchMetrics": [{
                "Namespace": self.namespace,
                "Dimensions": [["group", "topic"]],
                "Metrics": metrics,
            }],
        });
        let mut line = Map::new();
        line.insert("_aws".into(), about);
        line.insert("group".into(), self.group.as_str().into());
        line.insert("topic".into(), self.topic.as_str().into());
        line.extend(
            values
                .iter()
                .map(|(name, _, n)| ((*name).into(), (*n).into())),
        );
        let mut line = Value::Object(line).to_string();
        line.push('\n');
        line
    }
}

/// Requests, summed over operations and outcomes: which they were, Prometheus tells.
fn told(requests: &RequestSums) -> [(&'static str, &'static str, u64); 6] {
    let RequestSums { s3, dynamodb } = requests;
    [
        ("s3_requests", "Count", s3.requests),
        ("s3_requests_failed", "Count", s3.failed),
        ("s3_requests_slowed", "Count", s3.slowed),
        ("dynamodb_requests", "Count", dynamodb.requests),
        ("dynamodb_requests_failed", "Count", dynamodb.failed),
        ("dynamodb_requests_slowed", "Count", dynamodb.slowed),
    ]
}

/// Writes a line to `out` whole. Says once that it cannot, and then writes no more: a log that is gone
/// does not come back. It waits where `out` does: for a thread that may.
pub fn write(out: &mut impl Write, line: &str, open: &mut bool) {
    if !*open {
        return;
    }
    if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        *open = false;
        tracing::warn!(%error, "emf: standard output takes no more metrics; loading goes on without them");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Lag, SinkSums, Standing};

    #[test]
    fn counters_are_what_came_since_and_gauges_are_as_they_are() {
        let emf = Emf {
            namespace: "headwater".into(),
            group: "g".into(),
            topic: "t".into(),
        };
        let totals = |records, rows, dead_letters, objects| Totals {
            counts: Counts {
                records,
                rows,
                dead_letters,
                ..Counts::default()
            },
            objects,
            requests: RequestSums {
                s3: SinkSums {
                    requests: 3 * objects,
                    failed: records,
                    slowed: 1,
                },
                ..RequestSums::default()
            },
            ..Totals::default()
        };
        let reading = |partition, records, seconds| Reading {
            partition,
            standing: Standing {
                gaps: 2,
                ..Standing::default()
            },
            end: Some(9),
            lag: Some(Lag { records, seconds }),
            waits: (partition == 1).then(|| "refused".to_owned()),
        };
        let gauges = Gauges::of(&[reading(0, 5, 70), reading(1, 6, 30)], 1 << 20);
        let line = emf.line(
            1234,
            (&totals(10, 8, 1, 2), &totals(25, 20, 3, 4)),
            Some(&gauges),
        );
        assert_eq!(line.matches('\n').count(), 1);
        let line: Value = serde_json::from_str(&line).unwrap();
        for (name, value) in [
            ("records", 15),
            ("rows", 10),
            ("dead_letters", 2),
            ("objects", 2),
            ("s3_requests", 6),
            ("s3_requests_failed", 15),
            ("s3_requests_slowed", 0),
            ("dynamodb_requests", 0),
            ("durable_lag_records", 11),
            ("durable_lag_seconds", 70),
            ("unexplained_gaps", 4),
            ("partitions", 2),
            ("partitions_waiting", 1),
        ] {
            assert_eq!(line[name], value, "{name}");
        }
        assert_follows_the_format(&line);
    }

    #[test]
    fn a_function_has_no_gauges() {
        let emf = Emf {
            namespace: "n".into(),
            group: "g".into(),
            topic: "t".into(),
        };
        let zero = Totals::default();
        let line: Value = serde_json::from_str(&emf.line(1, (&zero, &zero), None)).unwrap();
        assert!(line.get("durable_lag_seconds").is_none());
        assert_follows_the_format(&line);
    }

    /// What the specification asks: each named metric is a number at the top, each dimension a string
    /// there, at most 100 metrics, units that CloudWatch knows.
    fn assert_follows_the_format(line: &Value) {
        assert!(line["_aws"]["Timestamp"].is_u64());
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert!(directive["Namespace"].is_string());
        for name in directive["Dimensions"][0].as_array().unwrap() {
            assert!(line[name.as_str().unwrap()].is_string(), "{name}");
        }
        let metrics = directive["Metrics"].as_array().unwrap();
        assert!((1..=100).contains(&metrics.len()));
        for metric in metrics {
            assert!(line[metric["Name"].as_str().unwrap()].is_u64(), "{metric}");
            let unit = metric["Unit"].as_str().unwrap();
            assert!(["Count", "Bytes", "Seconds"].contains(&unit), "{metric}");
        }
        let values = line.as_object().unwrap().len() - 3;
        assert_eq!(values, metrics.len(), "nothing stands there unnamed");
    }

    #[test]
    fn an_output_that_is_gone_stops_nothing() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(theirs);
        let (mut ours, mut open) = (ours, true);
        write(&mut ours, "{}\n", &mut open);
        assert!(!open);
        write(&mut ours, "{}\n", &mut open);
    }
}
