//! How it goes with a running agent, as plain data: `status --json` prints it as it is, `status`
//! as a table ([`table`]), and [`super::metrics`] as OpenMetrics. Times are milliseconds, sizes bytes.

mod table;

use std::collections::BTreeMap;

use headwater_msk::credentials::Health;
use serde::{Deserialize, Serialize};

use super::process::Process;
use crate::delivery::Counters;
use crate::delivery::allowance::{BudgetUse, Period};
use crate::delivery::uplink::Gate;
use crate::process::Tally;
use crate::spool::disk::{Floors, Free};

pub(crate) use table::{period, size};

/// Everything that is shown of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Identity of the device.
    pub device: String,
    /// Time since the start.
    pub up_ms: u64,
    /// Why the pipeline does not move though it should; none where all is well. A broker that is
    /// away is no such reason: the spool is there for that.
    pub stuck: Option<String>,
    /// The clock was never set: nothing is sent until it is.
    pub clock_unset: bool,
    /// How it stands with the broker.
    pub broker: Broker,
    /// How it stands with AWS credentials; none where the cluster wants none.
    pub credentials: Option<Health>,
    /// Sums since the start.
    pub counters: Counters,
    /// Samples of sensors since the start.
    pub samples: Samples,
    /// The files of the sources.
    #[serde(default)]
    pub files: Files,
    /// Records in RAM.
    pub window: Window,
    /// Batches on disk.
    pub spool: Spool,
    /// What passed to the brokers, and how it stands with the budgets for it.
    #[serde(default)]
    pub uplink: Uplink,
    /// What is left of the flash budget, bytes; none where there is none.
    #[serde(default)]
    pub flash_left_bytes: Option<u64>,
    /// What was written beyond it, and is not made up for yet.
    #[serde(default)]
    pub flash_debt_bytes: Option<u64>,
    /// The budget itself, for a day.
    #[serde(default)]
    pub flash_max_bytes: Option<u64>,
    /// What the process may take (`memory.max`), bytes; none where nobody says.
    #[serde(default)]
    pub memory_max_bytes: Option<u64>,
    /// Loss notices that sources made since the start, by reason.
    #[serde(default)]
    pub losses: BTreeMap<String, u64>,
    /// What came of lines that became no record, since the start, by the source: of those that have steps,
    /// `repeats` or a `rate_limit`.
    #[serde(default)]
    pub lines: BTreeMap<String, Tally>,
    /// How it went with new configurations.
    #[serde(default)]
    pub reloads: Reloads,
    /// What the kernel counts of the process.
    pub process: Process,
    /// Records that watchers (`tap`) missed, since they were slower than the agent.
    pub tap_missed: u64,
}

/// How it stands with the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// It acknowledges in time, as far as anything was sent.
    pub online: bool,
    /// Time since it acknowledged last; none where it never did.
    pub acknowledged_ms_ago: Option<u64>,
    /// Batches that it refused, and that wait to be sent again.
    #[serde(default)]
    pub refused_batches: u64,
}

/// The way to the brokers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// Bytes that passed since the start, both ways; none where there is no budget, and so nobody
    /// counts.
    pub bytes: Option<u64>,
    /// The budgets that there are.
    pub budgets: Vec<BudgetUse>,
    /// Whether anything may be sent, and what changes that next.
    #[serde(default)]
    pub gate: Gate,
}

impl Uplink {
    /// The budget of a period.
    pub(super) fn of(&self, period: Period) -> Option<&BudgetUse> {
        self.budgets.iter().find(|used| used.period == period)
    }
}

/// Configurations that were read again (SIGHUP).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloads {
    /// Taken.
    pub taken: u64,
    /// Refused: the one before stayed.
    pub refused: u64,
    /// The last one was refused.
    pub last_refused: bool,
}

/// Samples of sensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Samples {
    /// Taken, lost ones included.
    pub taken: u64,
    /// For which the window had no room; a loss notice says so.
    pub lost: u64,
}

/// The files of the sources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Followed now.
    pub followed: u64,
    /// Passed over since the start: rotated and unreadable, or compressed in a way that is not read.
    #[serde(default)]
    pub skipped: u64,
    /// Deleted, and given up since the start, before all of them was read.
    #[serde(default)]
    pub given_up: u64,
    /// The bytes of them that were not read.
    #[serde(default)]
    pub given_up_bytes: u64,
    /// Known, and out of reach: they may not be read, their disk fails, or it is not mounted.
    pub out_of_reach: u64,
    /// Of which something waits to be read, as of the last scan.
    #[serde(default)]
    pub behind: u64,
    /// How much of them does.
    #[serde(default)]
    pub unread_bytes: u64,
    /// Those of which most does, ten at most.
    #[serde(default)]
    pub furthest: Vec<Behind>,
}

/// A stream of whose file something waits to be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// Which.
    pub stream: String,
    /// How much of it.
    pub unread_bytes: u64,
}

/// The RAM window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Taken.
    pub bytes: u64,
    /// Its bound.
    pub bytes_max: u64,
}

/// The spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spool {
    /// Batches.
    pub batches: u64,
    /// Their bytes, as stored.
    pub bytes: u64,
    /// Their bound.
    pub bytes_max: u64,
    /// Age of the oldest; none where it is empty.
    pub oldest_ms: Option<u64>,
    /// It has no room for a lane that needs some, or dropped for want of it, since it had room last.
    #[serde(default)]
    pub full: bool,
    /// Why it did not take what it was asked to take last: batches of delivery's, or what sources wait
    /// for (a new file, an end that no byte shows); none where it did.
    #[serde(default)]
    pub refuses: Option<String>,
    /// How far its salvage has come, while it is damaged.
    #[serde(default)]
    pub salvage: Option<Salvage>,
    /// What its file system has free; none where that does not tell.
    #[serde(default)]
    pub free: Option<Free>,
    /// What is to be kept free of it.
    #[serde(default)]
    pub floors: Floors,
}

/// How far a salvage of the spool has come. Until it is complete nothing is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Salvage {
    /// Looked at,
    pub bytes: u64,
    /// of so many.
    pub bytes_all: u64,
}

#[cfg(test)]
pub(super) mod tests;
