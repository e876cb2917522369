//! What the ledgers say of each device: when it was last heard, and how complete it is. Pure.
//!
//! A fleet may be larger than a page: every device is counted, and those are listed that need a look:
//! the ones with most missing first, then the ones longest silent.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use headwater_record::Ledger;
use headwater_record::ledger::{GenerationState, StreamState};
use serde::{Deserialize, Serialize};

/// Devices that are listed at most.
pub const LISTED: usize = 500;

/// One device, over all of its streams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub device: String,
    /// Its streams.
    pub streams: u64,
    /// Batch clock of the last record that named it, Unix milliseconds.
    pub seen_ms: u64,
    /// Records of its open generations and of those that were forgotten as complete.
    pub records: u64,
    /// Records that came again and were skipped.
    pub duplicates: u64,
    /// Offsets of its generations in the ledger, which is bytes for files.
    pub offsets: u64,
    /// Ranges that nothing explains.
    pub gaps: u64,
    /// Offsets in them.
    pub missing: u64,
    /// Offsets that loss notices explain.
    pub lost: u64,
}

/// Devices: all counted, some listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Devices {
    /// Devices in the ledgers. One whose streams lie in several partitions is counted once where it
    /// is listed, and in each of them where it is not.
    pub known: u64,
    /// Those with ranges that nothing explains.
    pub with_gaps: u64,
    /// Those that need a look first; 500 at most.
    pub listed: Vec<Device>,
}

/// The order in which devices are listed.
fn urgency(device: &Device) -> (Reverse<u64>, u64) {
    (Reverse(device.missing), device.seen_ms)
}

/// Keeps the most urgent ones of what it is shown.
#[derive(Debug, Default)]
struct Listing {
    of: Devices,
    /// The least urgent on top.
    kept: BinaryHeap<Ranked>,
}

#[derive(Debug, PartialEq, Eq)]
struct Ranked(Device);

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |ranked: &Self| urgency(&ranked.0);
        key(self)
            .cmp(&key(other))
            .then_with(|| self.0.device.cmp(&other.0.device))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Listing {
    fn add(&mut self, device: Device) {
        self.of.known += 1;
        self.of.with_gaps += u64::from(device.gaps > 0);
        self.kept.push(Ranked(device));
        if self.kept.len() > LISTED {
            self.kept.pop();
        }
    }

    fn finish(mut self) -> Devices {
        self.of.listed = self
            .kept
            .into_sorted_vec()
            .into_iter()
            .map(|ranked| ranked.0)
            .collect();
        self.of
    }
}

impl Devices {
    /// What a partition's ledger says. One pass over its streams, which lie device by device.
    pub fn of(ledger: &Ledger) -> Self {
        let mut listing = Listing::default();
        let mut device = Device::default();
        for (stream, state) in ledger.streams() {
            let name = stream.split('/').next().unwrap_or_default();
            if name != device.device {
                let before = std::mem::replace(&mut device, Device::named(name));
                if before.streams > 0 {
                    listing.add(before);
                }
            }
            device.add(state);
        }
        if device.streams > 0 {
            listing.add(device);
        }
        listing.finish()
    }

    /// Those of several partitions together.
    pub fn together<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let mut by_name: BTreeMap<&str, Device> = BTreeMap::new();
        let (mut known, mut with_gaps, mut listed, mut listed_with_gaps) = (0, 0, 0, 0);
        for devices in all {
            known += devices.known;
            with_gaps += devices.with_gaps;
            for device in &devices.listed {
                listed += 1;
                listed_with_gaps += u64::from(device.gaps > 0);
                by_name
                    .entry(&device.device)
                    .or_insert_with(|| Device::named(&device.device))
                    .plus(device);
            }
        }
        let mut listing = Listing::default();
        for device in by_name.into_values() {
            listing.add(device);
        }
        let mut together = listing.finish();
        together.known += known - listed;
        together.with_gaps += with_gaps - listed_with_gaps;
        together
    }
}

impl Device {
    /// One of that name, of which nothing is known yet.
    pub(crate) fn named(name: &str) -> Self {
        Self {
            device: name.to_owned(),
            ..Self::default()
        }
    }

    fn add(&mut self, stream: &StreamState) {
        self.add_stream(stream.retired_records);
        for state in stream.generations.values() {
            self.add_generation(state);
        }
    }

    /// Adds a stream, but for its generations.
    pub(crate) fn add_stream(&mut self, retired_records: u64) {
        self.streams += 1;
        self.records += retired_records;
    }

    /// Adds a generation of one of its streams.
    pub(crate) fn add_generation(&mut self, state: &GenerationState) {
        self.seen_ms = self.seen_ms.max(state.seen_ms);
        self.records += state.records;
        self.duplicates += state.duplicates;
        // A device says how far it is, and may say anything.
        self.offsets = self.offsets.saturating_add(state.settled);
        self.gaps += state.gaps.len() as u64;
        self.missing = self.missing.saturating_add(state.gaps.offsets());
        let lost = state.lost.values().copied();
        self.lost = lost.fold(self.lost, u64::saturating_add);
    }

    /// Adds what another partition knows of it.
    pub(crate) fn plus(&mut self, other: &Self) {
        self.streams += other.streams;
        self.seen_ms = self.seen_ms.max(other.seen_ms);
        self.records += other.records;
        self.duplicates += other.duplicates;
        self.offsets = self.offsets.saturating_add(other.offsets);
        self.gaps += other.gaps;
        self.missing = self.missing.saturating_add(other.missing);
        self.lost = self.lost.saturating_add(other.lost);
    }
}

#[cfg(test)]
mod tests {
    use headwater_record::{Generation, Span};

    use super::*;

    fn ledger(records: &[(&str, u64, u64, u64)]) -> Ledger {
        let mut ledger = Ledger::default();
        for (stream, start, end, seen_ms) in records {
            let span = Span::new(*start, *end).unwrap();
            ledger.accept(stream, Generation(1), span, *seen_ms);
        }
        ledger
    }

    #[test]
    fn streams_of_a_device_are_one_line_and_partitions_are_put_together() {
        let one = Devices::of(&ledger(&[
            ("pi-1/app/a", 0, 10, 5),
            ("pi-1/app/b", 4, 10, 7),
            ("pi-10/app/a", 0, 10, 3),
        ]));
        assert_eq!((one.known, one.with_gaps), (2, 1));
        let names: Vec<_> = one.listed.iter().map(|d| d.device.as_str()).collect();
        assert_eq!(
            names,
            ["pi-1", "pi-10"],
            "what misses something comes first"
        );
        let first = &one.listed[0];
        assert_eq!((first.streams, first.seen_ms, first.records), (2, 7, 2));
        assert_eq!((first.offsets, first.gaps, first.missing), (20, 1, 4));

        let two = Devices::of(&ledger(&[("pi-10/app/c", 2, 4, 99), ("x/a/b", 0, 1, 1)]));
        let all = Devices::together([&one, &two].into_iter());
        assert_eq!((all.known, all.with_gaps), (3, 2));
        let seen: Vec<_> = all
            .listed
            .iter()
            .map(|d| (d.device.as_str(), d.missing, d.seen_ms))
            .collect();
        assert_eq!(seen, [("pi-1", 4, 7), ("pi-10", 2, 99), ("x", 0, 1)]);
    }

    #[test]
    fn a_large_fleet_is_counted_whole_and_listed_by_need() {
        let mut ledger = Ledger::default();
        for n in 0..2000_u64 {
            let start = if n % 100 == 0 { 1 + n } else { 0 };
            let span = Span::new(start, start + 5).unwrap();
            let stream = format!("pi-{n:05}/app/log");
            ledger.accept(&stream, Generation(1), span, 1_000_000 - n);
        }
        let devices = Devices::of(&ledger);
        assert_eq!((devices.known, devices.with_gaps), (2000, 20));
        assert_eq!(devices.listed.len(), LISTED);
        assert_eq!(devices.listed[0].device, "pi-01900");
        assert!(devices.listed[..20].iter().all(|device| device.gaps == 1));
        // Then those that were silent longest.
        assert_eq!(devices.listed[20].device, "pi-01999");
        let all = Devices::together([&devices].into_iter());
        assert_eq!(all, devices);
    }
}
