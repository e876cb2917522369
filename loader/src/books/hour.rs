//! The hour that is not over, and the marker that says that it is complete.

use serde::{Deserialize, Serialize};

use super::{Due, HOUR_MS, shown};
use crate::name::marker_key;
use crate::partition::batch::Counts;

/// Hours in which nothing came that have a marker each, the last ones before the page is turned: a week.
/// Of a longer rest the hours before have none.
const EMPTY_HOURS: u64 = 7 * 24;

/// What came in an hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hour {
    /// When it began, Unix milliseconds.
    pub(super) start_ms: u64,
    /// First offset of its first batch.
    from: u64,
    /// The hour of the marker before this one's; none where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) previous_ms: Option<u64>,
    #[serde(default)]
    counts: Counts,
    /// Kafka's timestamps of its first and its last record, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times_ms: Option<(u64, u64)>,
}

/// A marker, as it is written.
#[derive(Serialize)]
struct Marker<'a> {
    v: u32,
    topic: &'a str,
    partition: i32,
    hour: Option<String>,
    previous: Option<String>,
    from: u64,
    to: u64,
    records: u64,
    bytes: u64,
    rows: u64,
    window_rows: u64,
    dead_letters: u64,
    filtered: u64,
    aggregated: u64,
    duplicates: u64,
    overlaps: u64,
    notices: u64,
    refused_headers: u64,
    unaccounted: u64,
    first: Option<String>,
    last: Option<String>,
}

impl Hour {
    pub(super) fn begin(start_ms: u64, from: u64, previous_ms: Option<u64>) -> Self {
        Self {
            start_ms,
            from,
            previous_ms,
            counts: Counts::default(),
            times_ms: None,
        }
    }

    pub(super) fn add(&mut self, counts: &Counts, times_ms: Option<(u64, u64)>) {
        self.counts = self.counts.plus(counts);
        if let Some((first, last)) = times_ms {
            self.times_ms = Some((self.times_ms.map_or(first, |times| times.0), last));
        }
    }

    /// Its marker, and those of the hours up to `now`, in which nothing came. `at`: where it ended.
    pub(super) fn over(self, who: (&str, i32), (now, at): (u64, u64)) -> Vec<Due> {
        let mut due = Vec::new();
        let mut start_ms = (self.start_ms + HOUR_MS).max(now.saturating_sub(EMPTY_HOURS * HOUR_MS));
        let mut previous = self.start_ms;
        due.push(self.marker(who, at));
        while start_ms < now {
            due.push(Self::begin(start_ms, at, Some(previous)).marker(who, at));
            previous = start_ms;
            start_ms += HOUR_MS;
        }
        due
    }

    fn marker(&self, (topic, partition): (&str, i32), to: u64) -> Due {
        let counts = &self.counts;
        let marker = Marker {
            v: 1,
            topic,
            partition,
            hour: shown(self.start_ms),
            previous: self.previous_ms.and_then(shown),
            from: self.from,
            to,
            records: counts.records,
            bytes: counts.bytes,
            rows: counts.rows,
            window_rows: counts.windows,
            dead_letters: counts.dead_letters,
            filtered: counts.filtered,
            aggregated: counts.aggregated,
            duplicates: counts.duplicates,
            overlaps: counts.overlaps,
            notices: counts.notices,
            refused_headers: counts.refused,
            unaccounted: counts.unaccounted,
            first: self.times_ms.and_then(|times| shown(times.0)),
            last: self.times_ms.and_then(|times| shown(times.1)),
        };
        let mut text = serde_json::to_string(&marker).unwrap_or_default();
        text.push('\n');
        Due {
            key: marker_key(topic, partition, self.start_ms),
            text,
        }
    }
}
