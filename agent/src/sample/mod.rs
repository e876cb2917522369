//! Reads sensors: small text files that hold a number, at fixed intervals.

use std::sync::atomic::AtomicU64;
use std::sync::Arc;

use headwater_record::DeviceId;
use tokio::sync::mpsc::Sender;

use crate::batch::Batch;
use crate::budget::Budget;
use crate::checkpoint::{OpenGeneration, Registry};
use crate::config::SensorSource;
use crate::sources::SourceError;
use crate::stop::Stop;

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Samples taken, lost ones included.
    pub taken: AtomicU64,
    /// Samples taken for which the RAM window had no room.
    pub lost: AtomicU64,
}

/// What the thread works on.
#[derive(Debug)]
pub struct SensorsInput<R> {
    /// Identity of the device.
    pub device: DeviceId,
    /// What to read.
    pub sources: Vec<SensorSource>,
    /// Every open generation that the database knows; those that are no sensors are passed over.
    pub known: Vec<OpenGeneration>,
    /// Where new generations are entered.
    pub registry: R,
    /// The RAM window.
    pub budget: Budget,
    /// Where records go.
    pub batches: Sender<Batch>,
    /// This thread's own.
    pub stop: Stop,
    /// What is counted, for others to read.
    pub counters: Arc<Counters>,
}

/// Reads sensors until told to stop.
///
/// # Errors
/// See [`SourceError`].
pub fn run<R: Registry>(_input: SensorsInput<R>) -> Result<(), SourceError> {
    Ok(())
}
