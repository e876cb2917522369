//! What delivery counts, for the log's lines and the status: sums since the start.

use serde::{Deserialize, Serialize};

/// Sums since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Records that came from the sources.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Batches that they came in.
    pub batches: u64,
    /// Batches handed to librdkafka, again and again included.
    pub sent: u64,
    /// Batches that the broker acknowledged.
    pub delivered: u64,
    /// Batches committed to the spool.
    pub spooled: u64,
    /// Commits of the database that moved a checkpoint.
    pub checkpoints: u64,
    /// Batches that did not arrive and were taken back, to be sent again.
    pub retries: u64,
    /// librdkafka clients made anew.
    pub recreated: u64,
    /// Commits and loads that the database refused.
    pub refused: u64,
    /// Batches whose data was given up for want of room, in the spool and before it; loss notices
    /// stand in for them.
    pub dropped: u64,
    /// Records in them.
    pub dropped_records: u64,
    /// Times that a lane found no room in the spool, and nothing that may give way: its batches stay
    /// in RAM, and its sources wait. Once until there was room again.
    #[serde(default)]
    pub full_waits: u64,
    /// Sessions that began, where the agent is not always connected.
    pub sessions: u64,
    /// Times that the uplink opened or closed, by its hours, budgets or cycle, or the clock.
    #[serde(default)]
    pub uplink_changes: u64,
    /// Commits that waited for the flash budget.
    pub flash_waits: u64,
    /// Times that the database was found to be damaged, and was salvaged and replaced.
    pub healed: u64,
    /// Rows of the spool that were unreadable; a loss notice went in the place of each.
    pub lost: u64,
}
