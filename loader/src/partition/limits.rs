//! When a batch is closed.

use std::sync::Arc;

use crate::books::{AccountsFile, until_hour};
use crate::encode::Making;

/// What bounds the batches of a partition.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// When each is closed.
    pub limits: Limits,
    /// What its objects are made with.
    pub making: Arc<Making>,
}

/// Of one who makes objects as no plan says.
impl From<Limits> for Bounds {
    fn from(limits: Limits) -> Self {
        let making = Arc::default();
        Self { limits, making }
    }
}

/// When a batch is closed, whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that its objects, compressed for the most part, and its items hold in memory.
    pub bytes: usize,
    /// Records read into it.
    pub records: u64,
    /// Age on the monotonic clock, milliseconds.
    pub age_ms: u64,
    /// How long no record may come, on the monotonic clock, milliseconds.
    pub idle_ms: Option<u64>,
    /// Whole multiples of this since the Unix epoch, by the wall clock, milliseconds: never zero.
    pub every_ms: Option<u64>,
    /// Objects: a batch closes at the record that would bring one more than this. Windows that close with it
    /// bring as many of their own at most, the oldest first; what is due beyond that closes with the next batch,
    /// which then ends at its first record.
    pub objects: usize,
}

/// The time, as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, milliseconds from any zero.
    pub mono_ms: u64,
    /// Unix time, milliseconds.
    pub wall_ms: u64,
}

/// How long the first batch of an hour may stay open, milliseconds: it brings the marker of the last hour.
const TURN_AGE_MS: u64 = 60_000;

impl Limits {
    /// Nothing closes a batch but who fills it.
    pub const NONE: Self = Self {
        bytes: usize::MAX,
        records: u64::MAX,
        age_ms: u64::MAX,
        idle_ms: None,
        every_ms: None,
        objects: usize::MAX,
    };

    /// When a batch that is opened now is due, on the monotonic clock, whatever comes. The wall clock is
    /// asked once: that it is set afterwards moves no boundary by more than a period. Where hours are
    /// marked it is due with the hour; `turned`: where it brings a marker, soon.
    pub(super) fn due(&self, now: Now, asked: AccountsFile, turned: bool) -> u64 {
        let aligned = self.every_ms.map(|every| every - now.wall_ms % every);
        let hour = asked.hourly_markers.then(|| until_hour(now.wall_ms));
        let soon = turned.then_some(TURN_AGE_MS);
        let first = [aligned, hour, soon].into_iter().flatten().min();
        let left = first.map_or(self.age_ms, |first| first.min(self.age_ms));
        now.mono_ms.saturating_add(left)
    }
}
