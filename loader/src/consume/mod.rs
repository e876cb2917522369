//! From Kafka to the partitions, and their commits back.
//!
//! One thread polls and does nothing else: callbacks only forward, records go into channels under one
//! bound over all partitions ([`prefetch`]), a partition whose worker stands still is paused. Commits come from the workers' side through
//! [`gate::Gate`], which makes sure that none is under way, and none can start, once a partition was
//! taken from us.

mod asking;
pub mod consumer;
mod context;
mod ends;
pub mod gate;
mod lane;
mod options;
pub mod prefetch;
mod raw;
pub mod tenure;

use tokio::sync::mpsc;

use crate::fetched::Fetched;
use crate::partition::intent::Committed;

/// How many hand-overs may wait for one partition; their bytes are bounded by [`prefetch`].
pub const CHANNEL: usize = 1024;

/// Records on their way to a worker.
#[derive(Debug)]
pub struct HandOver {
    /// The records.
    pub fetched: Fetched,
    /// Room for them, given back when this is dropped.
    pub permit: prefetch::Permit,
}

/// One partition was given to us.
#[derive(Debug)]
pub struct Assigned {
    /// Which.
    pub partition: i32,
    /// Which assignment of it: commits name it.
    pub epoch: u64,
    /// What the group holds for it; none where nothing was ever committed.
    pub committed: Option<CommittedOffset>,
    /// First offset that the broker still has.
    pub low: u64,
    /// Behind the last record that could be read then, where that is known.
    pub end: Option<u64>,
    /// Its records. Closed when the partition is taken from us.
    pub records: mpsc::Receiver<HandOver>,
    /// Tells when it is.
    pub tenure: tenure::Tenure,
}

/// An offset in the group, as it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset.
    pub offset: u64,
    /// Its metadata, not yet read.
    pub metadata: String,
}

impl CommittedOffset {
    /// Whether it may say that a batch was begun: it does, or another version wrote it.
    pub fn may_begin(&self) -> bool {
        Committed::parse(self.offset, &self.metadata)
            .map_or(!self.metadata.is_empty(), |committed| {
                committed.intent.is_some()
            })
    }
}

/// A commit that did not come about, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The partition is no longer ours: nothing was sent.
    #[error("the partition was taken away")]
    NotOurs,
    /// The broker refused, or did not answer.
    #[error("the group refused offset {offset} of partition {partition}: {reason}")]
    Refused {
        /// Partition.
        partition: i32,
        /// Offset.
        offset: u64,
        /// What the broker or librdkafka said.
        reason: String,
    },
}

/// What a worker wants of the group. Each blocks until the broker has answered.
pub trait Commit: Send + Sync {
    /// Commits a partition's offset and metadata.
    ///
    /// # Errors
    /// See [`CommitError`]; after either the partition is dropped and read again.
    fn commit(&self, partition: i32, epoch: u64, committed: &Committed) -> Result<(), CommitError>;

    /// Where a partition ends now; none where the broker does not say.
    fn end(&self, partition: i32) -> Option<u64>;
}
