//! The accounts of devices of the day that is not over.
//!
//! Names of devices, reasons and times come from devices, which may be anybody's: so many have an account of
//! their own, what is beyond that shares one, and so do records that name no device.

use std::collections::BTreeMap;

use headwater_record::ledger::Covered;
use headwater_record::{Ledger, Verdict};
use serde::{Deserialize, Serialize};

use super::delays::Delays;
use super::{Daily, Due, shown};
use crate::fetched::{Entry, Identity};
use crate::name::{AccountOf, account_key};
use crate::peek;

/// Reasons of losses that are counted apart in one account; the rest are `other`.
const REASONS: usize = 16;
/// Memory of an account beside its delays and reasons, and of a reason beside its text, about, bytes: a map's
/// leaves are not full.
const ACCOUNT_BYTES: usize = size_of::<Account>() + size_of::<Account>() / 2;
const REASON_BYTES: usize = 64;
/// What stands for those.
const OTHER: &str = "other";
/// The field of a record that says when it happened.
const TIME: &str = "time";

/// What the ledger said to a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// It names no stream: its offset alone protects it.
    Nameless,
    /// Data of a stream.
    Data(Verdict, Covered),
    /// A notice. `lost`: the reason, where it gives offsets up.
    Notice {
        /// Why.
        lost: Option<String>,
        /// What of its range had not come.
        covered: Covered,
    },
}

/// What became of a record that was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A row.
    Written,
    /// A row that could not be made.
    DeadLetter,
    /// Filtered by configuration.
    Filtered,
    /// Only in windows.
    Aggregated,
}

/// The day that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    /// When it began, Unix milliseconds.
    pub(super) start_ms: u64,
    /// Since when there are accounts of it: later than its start where they were switched on in it.
    since_ms: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    devices: BTreeMap<Box<str>, Account>,
    /// Of records without headers of ours.
    #[serde(default, skip_serializing_if = "Account::is_empty")]
    nameless: Account,
    /// Of devices beyond the bound.
    #[serde(default, skip_serializing_if = "Account::is_empty")]
    others: Account,
}

/// One account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Account {
    /// Data records that were let through: new, or in part.
    records: u64,
    /// Bytes of values, of all that came.
    bytes: u64,
    written: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dead_letters: u64,
    #[serde(skip_serializing_if = "is_zero")]
    filtered: u64,
    #[serde(skip_serializing_if = "is_zero")]
    aggregated: u64,
    #[serde(skip_serializing_if = "is_zero")]
    duplicates: u64,
    #[serde(skip_serializing_if = "is_zero")]
    overlaps: u64,
    /// Of `records`, those for which the ledger had no room.
    #[serde(skip_serializing_if = "is_zero")]
    unaccounted: u64,
    /// Offsets that overlapping records brought again.
    #[serde(skip_serializing_if = "is_zero")]
    repeated: u64,
    #[serde(skip_serializing_if = "is_zero")]
    notices: u64,
    /// Offsets that came, by records and by notices.
    offsets: u64,
    /// Gaps that were opened, their offsets, and those that came after all or were explained.
    #[serde(skip_serializing_if = "is_zero")]
    gaps: u64,
    #[serde(skip_serializing_if = "is_zero")]
    gap_offsets: u64,
    #[serde(skip_serializing_if = "is_zero")]
    filled: u64,
    /// Offsets that loss notices gave up, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    lost: BTreeMap<String, u64>,
    /// Kafka's timestamps, the least and the greatest.
    times_ms: Option<(u64, u64)>,
    #[serde(skip_serializing_if = "Delays::is_empty")]
    to_kafka: Delays,
    #[serde(skip_serializing_if = "Delays::is_empty")]
    to_batch: Delays,
    /// Data records without a time that can be read,
    #[serde(skip_serializing_if = "is_zero")]
    untimed: u64,
    /// and those whose time is behind Kafka's.
    #[serde(skip_serializing_if = "is_zero")]
    ahead: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if gives a reference"
)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Day {
    pub(super) fn begin(start_ms: u64, since_ms: u64) -> Self {
        Self {
            start_ms,
            since_ms,
            devices: BTreeMap::new(),
            nameless: Account::default(),
            others: Account::default(),
        }
    }

    pub(super) fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Memory that they take, about, bytes.
    pub(super) fn held(&self) -> usize {
        let names = self.devices.keys().map(|device| device.len());
        let accounts = self.devices.values().map(Account::held);
        names.chain(accounts).sum()
    }

    /// Takes note of a record. `outcome`: none where it was not let through. `most`: devices that may
    /// have an account of their own.
    pub fn note(
        &mut self,
        (entry, value): (&Entry, Option<&[u8]>),
        (came, outcome): (&Came, Option<Outcome>),
        clock_ms: u64,
        most: u32,
    ) {
        let account = match &entry.identity {
            Identity::Foreign | Identity::Refused(_) => &mut self.nameless,
            Identity::Tagged { stream, .. } => {
                let device = device_of(stream);
                if !self.devices.contains_key(device) && self.devices.len() < most as usize {
                    self.devices.insert(device.into(), Account::default());
                }
                self.devices.get_mut(device).unwrap_or(&mut self.others)
            }
        };
        account.note(entry, value, came, clock_ms);
        match outcome {
            Some(Outcome::Written) => account.written += 1,
            Some(Outcome::DeadLetter) => account.dead_letters += 1,
            Some(Outcome::Filtered) => account.filtered += 1,
            Some(Outcome::Aggregated) => account.aggregated += 1,
            None => {}
        }
    }

    /// The objects of the day, which is over. `ledger`: as it stood then.
    pub(super) fn over(self, who: (&str, i32), daily: Daily, ledger: &Ledger) -> Vec<Due> {
        let day = shown(self.start_ms).unwrap_or_default();
        let day = day.get(..10).unwrap_or_default();
        let since = match self.since_ms == self.start_ms {
            true => None,
            false => shown(self.since_ms),
        };
        let mut open = self.unexplained(ledger);
        let shared = [("nameless", &self.nameless), ("others", &self.others)];
        let devices = self.devices.iter().map(|(device, account)| {
            let open = open.remove(&**device);
            (account, "device", Some(&**device), open)
        });
        let shared = shared
            .into_iter()
            .filter(|(_, account)| !account.is_empty())
            .map(|(of, account)| (account, of, None, None));
        let lines = devices.chain(shared).map(|(account, of, device, open)| {
            let head = Head {
                v: 1,
                topic: who.0,
                partition: who.1,
                day,
                since: since.as_deref(),
                of,
                device,
            };
            let mut text = serde_json::to_string(&account.shown(head, open)).unwrap_or_default();
            text.push('\n');
            let of = device.map_or(AccountOf::Several(of), AccountOf::Device);
            (of, text)
        });
        match daily {
            Daily::Device => lines
                .map(|(of, text)| Due {
                    key: account_key(who, self.start_ms, Some(of)),
                    text,
                })
                .collect(),
            Daily::Partition => {
                let text: String = lines.map(|(_, text)| text).collect();
                let key = account_key(who, self.start_ms, None);
                let due = (!text.is_empty()).then_some(Due { key, text });
                due.into_iter().collect()
            }
        }
    }

    /// Ranges of the day's devices that nothing explains, and their offsets: whenever they were opened.
    fn unexplained<'a>(&self, ledger: &'a Ledger) -> BTreeMap<&'a str, (u64, u64)> {
        let mut open: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (stream, state) in ledger.streams() {
            let device = device_of(stream);
            if !self.devices.contains_key(device) {
                continue;
            }
            let (gaps, offsets) = open.entry(device).or_default();
            for generation in state.generations.values() {
                *gaps += generation.gaps.len() as u64;
                *offsets = offsets.saturating_add(generation.gaps.offsets());
            }
        }
        open
    }
}

fn device_of(stream: &str) -> &str {
    stream.split('/').next().unwrap_or_default()
}

/// The head of an account.
#[derive(Debug, Serialize)]
struct Head<'a> {
    v: u32,
    topic: &'a str,
    partition: i32,
    day: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<&'a str>,
    of: &'a str,
    device: Option<&'a str>,
}

/// An account, as it is written.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    records: u64,
    bytes: u64,
    written: u64,
    dead_letters: u64,
    filtered: u64,
    aggregated: u64,
    duplicates: u64,
    overlaps: u64,
    repeated_offsets: u64,
    unaccounted: u64,
    notices: u64,
    offsets: u64,
    gaps: Gaps<'a>,
    first: Option<String>,
    last: Option<String>,
    to_kafka: ShownDelays,
    to_batch: ShownDelays,
    untimed: u64,
    ahead: u64,
}

#[derive(Debug, Serialize)]
struct Gaps<'a> {
    opened: u64,
    opened_offsets: u64,
    closed_offsets: u64,
    lost: &'a BTreeMap<String, u64>,
    unexplained: Option<u64>,
    unexplained_offsets: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ShownDelays {
    records: u64,
    p50_ms: Option<u64>,
    p90_ms: Option<u64>,
    p99_ms: Option<u64>,
    max_ms: Option<u64>,
}

impl ShownDelays {
    fn of(delays: &Delays) -> Self {
        Self {
            records: delays.count(),
            p50_ms: delays.at(500),
            p90_ms: delays.at(900),
            p99_ms: delays.at(990),
            max_ms: (!delays.is_empty()).then_some(delays.max_ms()),
        }
    }
}

impl Account {
    /// Memory that it takes, about, bytes.
    fn held(&self) -> usize {
        let reasons = self.lost.keys().map(|reason| REASON_BYTES + reason.len());
        ACCOUNT_BYTES + self.to_kafka.held() + self.to_batch.held() + reasons.sum::<usize>()
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn note(&mut self, entry: &Entry, value: Option<&[u8]>, came: &Came, clock_ms: u64) {
        self.bytes += value.map_or(0, <[u8]>::len) as u64;
        let (first, last) = self.times_ms.unwrap_or((entry.time_ms, entry.time_ms));
        self.times_ms = Some((first.min(entry.time_ms), last.max(entry.time_ms)));
        match came {
            Came::Nameless => self.records += 1,
            Came::Data(Verdict::Duplicate, _) => {
                self.duplicates += 1;
                // Its way was the first one's.
                return;
            }
            Came::Data(verdict, covered) => {
                self.records += 1;
                self.unaccounted += u64::from(*verdict == Verdict::Unaccounted);
                if *verdict == Verdict::Overlap {
                    self.overlaps += 1;
                    self.repeated = self.repeated.saturating_add(covered.repeated);
                }
                self.cover(*covered);
            }
            Came::Notice { lost, covered } => {
                self.notices += 1;
                if let Some(reason) = lost.as_ref().filter(|_| covered.fresh > 0) {
                    self.lose(reason, covered.fresh);
                }
                self.cover(*covered);
                return;
            }
        }
        match event_ms(value) {
            None => self.untimed += 1,
            Some(event_ms) => {
                match entry.time_ms.checked_sub(event_ms) {
                    Some(delay) => self.to_kafka.add(delay),
                    None => self.ahead += 1,
                }
                // A batch is open for a while: what came later than it was opened was there at once.
                let there = clock_ms.max(entry.time_ms);
                if let Some(delay) = there.checked_sub(event_ms) {
                    self.to_batch.add(delay);
                }
            }
        }
    }

    fn cover(&mut self, covered: Covered) {
        self.offsets = self.offsets.saturating_add(covered.fresh);
        self.filled = self.filled.saturating_add(covered.filled);
        self.gaps += u64::from(covered.opened > 0);
        self.gap_offsets = self.gap_offsets.saturating_add(covered.opened);
    }

    fn lose(&mut self, reason: &str, offsets: u64) {
        let known = self.lost.contains_key(reason) || self.lost.len() < REASONS;
        let lost = self
            .lost
            .entry(if known { reason } else { OTHER }.to_owned());
        let lost = lost.or_default();
        *lost = lost.saturating_add(offsets);
    }

    /// `open`: ranges that nothing explains, and their offsets; none where it is not one device's.
    fn shown<'a>(&'a self, head: Head<'a>, open: Option<(u64, u64)>) -> Shown<'a> {
        Shown {
            head,
            records: self.records,
            bytes: self.bytes,
            written: self.written,
            dead_letters: self.dead_letters,
            filtered: self.filtered,
            aggregated: self.aggregated,
            duplicates: self.duplicates,
            overlaps: self.overlaps,
            repeated_offsets: self.repeated,
            unaccounted: self.unaccounted,
            notices: self.notices,
            offsets: self.offsets,
            gaps: Gaps {
                opened: self.gaps,
                opened_offsets: self.gap_offsets,
                closed_offsets: self.filled,
                lost: &self.lost,
                unexplained: open.map(|open| open.0),
                unexplained_offsets: open.map(|open| open.1),
            },
            first: self.times_ms.and_then(|times| shown(times.0)),
            last: self.times_ms.and_then(|times| shown(times.1)),
            to_kafka: ShownDelays::of(&self.to_kafka),
            to_batch: ShownDelays::of(&self.to_batch),
            untimed: self.untimed,
            ahead: self.ahead,
        }
    }
}

/// When a record happened, by its own field, Unix milliseconds.
fn event_ms(value: Option<&[u8]>) -> Option<u64> {
    let text = std::str::from_utf8(value?).ok()?;
    let time = peek::first_text(text, TIME)?;
    let at: jiff::Timestamp = time.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok()
}
