//! `[accounts]`: what a partition says about itself beside its data: that an hour is complete, and what
//! became of each device's records of a day.
//!
//! ```text
//! _headwater/complete/<topic>/2026-11-28T13Z/<partition>.json
//! _headwater/account/<topic>/2026-11-28/device=pi-7/<partition>.json   (or <day>/<partition>.ndjson)
//! ```
//!
//! Hours and days are of the batch clock, in UTC: a record belongs to the hour in which its batch was
//! opened. With accounts the batch clock never goes back, whichever machine has the partition, so that an
//! hour is over for good once a batch of a later one is opened.
//!
//! **What it promises**: a marker is written once all that it says is stored and committed, and nothing is
//! added to its hour behind it. Each record counts in one hour and in one account, whatever crashes. Books
//! are a part of the partition's state; when a batch turns the page, what the last page comes to waits in
//! the state as the very bytes that are to be written ([`Due`]), and is written behind the commit that names
//! that state, by whoever has the partition then. So a name has one content, and a newer loader that finishes
//! what an older one began writes the older one's bytes.
//!
//! A plain value: the same records, batch clocks and pipelines make the same books.

mod delays;
mod device;
mod hour;

use bytes::Bytes;
use headwater_record::Ledger;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use device::{Came, Day, Outcome};
use hour::Hour;

use crate::name::OWN_FOLDER;
use crate::partition::batch::{Counts, Object};
use crate::store::plain_content;

const HOUR_MS: u64 = 3600 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Devices of one partition that a day has accounts of, by default: some 5 MB of memory.
const DEVICES: u32 = 5000;
/// Most devices that may be asked for.
pub const DEVICES_MAX: u32 = 100_000;

/// `[accounts]`, as it is written, and as the pipeline's specification holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccountsFile {
    /// Whether each partition says that an hour is complete.
    pub hourly_markers: bool,
    /// What becomes of a day's accounts of devices; there are none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily: Option<Daily>,
    /// Devices of a partition that have an account of their own; the rest share one.
    pub devices: u32,
}

/// How a day's accounts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Daily {
    /// An object for each device.
    Device,
    /// One object for each partition, a line for each device.
    Partition,
}

impl Default for AccountsFile {
    fn default() -> Self {
        Self {
            hourly_markers: false,
            daily: None,
            devices: DEVICES,
        }
    }
}

impl AccountsFile {
    /// Whether nothing is asked for: then a specification does not name it.
    pub fn is_off(&self) -> bool {
        !self.hourly_markers && self.daily.is_none()
    }
}

/// The books of one partition: the hour and the day that are not over, and what is to be written of those
/// that are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hour: Option<Hour>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    day: Option<Day>,
    /// Behind the commit of the state that holds them; gone from the next one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    due: Vec<Due>,
}

/// One object that is to be written as soon as the state is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Due {
    /// Below [`OWN_FOLDER`].
    key: String,
    text: String,
}

/// A batch that is opened: what may turn the page.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// Topic and partition.
    pub who: (&'a str, i32),
    /// What the batch's pipeline asks for.
    pub asked: AccountsFile,
    /// The batch clock, Unix milliseconds.
    pub clock_ms: u64,
    /// First offset of the batch: everything below is in batches before it.
    pub at: u64,
    /// The ledger behind those.
    pub ledger: &'a Ledger,
}

impl Books {
    /// Whether there is nothing in them.
    pub fn is_empty(&self) -> bool {
        self.hour.is_none() && self.day.is_none() && self.due.is_empty()
    }

    /// Whether they can be gone on with: what was read from a snapshot may be damaged.
    pub fn are_sound(&self) -> bool {
        let ours = |due: &Due| {
            let rest = due.key.strip_prefix(OWN_FOLDER).unwrap_or_default();
            let kind = rest.starts_with("complete/") || rest.starts_with("account/");
            kind && !rest.split('/').any(|part| matches!(part, "" | "." | ".."))
        };
        self.due.iter().all(ours)
    }

    /// Whether a batch with this clock would begin them or turn a page.
    pub fn would_turn(&self, asked: AccountsFile, clock_ms: u64) -> bool {
        let hour = self.hour.as_ref().map(|hour| hour.start_ms);
        let day = self.day.as_ref().map(|day| day.start_ms);
        let turns =
            |page: Option<u64>, length| page.is_none_or(|page| page < floor(clock_ms, length));
        asked.hourly_markers && turns(hour, HOUR_MS) || asked.daily.is_some() && turns(day, DAY_MS)
    }

    /// A batch is opened. What was due is written by then; a page that is over becomes due. Returns
    /// whether one was.
    pub fn open(&mut self, opening: Opening<'_>) -> bool {
        self.due.clear();
        let Opening { asked, at, .. } = opening;
        let now = floor(opening.clock_ms, HOUR_MS);
        self.hour = match (asked.hourly_markers, self.hour.take()) {
            (false, _) => None,
            (true, None) => Some(Hour::begin(now, at, None)),
            (true, Some(hour)) if hour.start_ms < now => {
                let next = Hour::begin(now, at, Some(now - HOUR_MS));
                self.due.extend(hour.over(opening.who, (now, at)));
                Some(next)
            }
            (true, same) => same,
        };
        let now = floor(opening.clock_ms, DAY_MS);
        self.day = match (asked.daily, self.day.take()) {
            (None, _) => None,
            (Some(_), None) => Some(Day::begin(now, opening.clock_ms)),
            (Some(daily), Some(day)) if day.start_ms < now => {
                self.due
                    .extend(day.over(opening.who, daily, opening.ledger));
                Some(Day::begin(now, now))
            }
            (Some(_), same) => same,
        };
        !self.due.is_empty()
    }

    /// The day's accounts, where there are any: each record goes into one.
    pub fn day(&mut self) -> Option<&mut Day> {
        self.day.as_mut()
    }

    /// A batch of this hour ends. `times_ms`: Kafka's timestamps of its first and last record, where it
    /// has some.
    pub fn close(&mut self, counts: &Counts, times_ms: Option<(u64, u64)>) {
        if let Some(hour) = &mut self.hour {
            hour.add(counts, times_ms);
        }
    }

    /// The objects that are due: markers first, in the order of their hours.
    pub fn due(&self) -> Vec<Object> {
        let object = |due: &Due| {
            let bytes = Bytes::copy_from_slice(due.text.as_bytes());
            Object {
                key: due.key.clone(),
                content: plain_content(&bytes),
                bytes,
            }
        };
        self.due.iter().map(object).collect()
    }

    /// Up to when all hours are complete once nothing is due, Unix milliseconds; none before the first
    /// marker.
    pub fn complete_ms(&self) -> Option<u64> {
        let hour = self.hour.as_ref()?;
        hour.previous_ms.map(|_| hour.start_ms)
    }

    /// Memory that they take, about, bytes.
    pub fn held(&self) -> usize {
        let due = self.due.iter().map(|due| due.key.len() + due.text.len());
        self.day.as_ref().map_or(0, Day::held) + due.sum::<usize>()
    }

    /// Devices that have an account of the day.
    pub fn devices(&self) -> usize {
        self.day.as_ref().map_or(0, Day::devices)
    }
}

/// Splits what is due into markers and accounts. Markers are to be written one after the other, so that
/// whoever sees one sees those before it; accounts as it comes.
pub fn markers_first(due: &[Object]) -> (&[Object], &[Object]) {
    let is_marker = |object: &Object| {
        let rest = object.key.strip_prefix(OWN_FOLDER).unwrap_or_default();
        rest.starts_with("complete/")
    };
    due.split_at(due.partition_point(is_marker))
}

/// Until the next hour of the wall clock, milliseconds.
pub fn until_hour(wall_ms: u64) -> u64 {
    HOUR_MS - wall_ms % HOUR_MS
}

fn floor(clock_ms: u64, length: u64) -> u64 {
    clock_ms - clock_ms % length
}

/// A time as people and programs read it; none that has no year of four digits.
fn shown(ms: u64) -> Option<String> {
    let at = Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
    Some(at.to_string())
}

#[cfg(test)]
mod tests;
