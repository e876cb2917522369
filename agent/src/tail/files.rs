use headwater_record::DeviceId;
use tokio::sync::mpsc::Sender;

use crate::batch::Batch;
use crate::budget::Budget;
use crate::checkpoint::{OpenGeneration, Registry};
use crate::config::FileSource;
use crate::sources::SourceError;
use crate::stop::Stop;

/// What the thread works on.
#[derive(Debug)]
pub struct FilesInput<R> {
    /// Identity of the device.
    pub device: DeviceId,
    /// What to follow.
    pub sources: Vec<FileSource>,
    /// Every open generation that the database knows; those that are no files are passed over.
    pub known: Vec<OpenGeneration>,
    /// Where new generations are entered.
    pub registry: R,
    /// The RAM window.
    pub budget: Budget,
    /// Where records go.
    pub batches: Sender<Batch>,
    /// This thread's own.
    pub stop: Stop,
}

/// Follows files until told to stop.
///
/// # Errors
/// See [`SourceError`].
pub fn run<R: Registry>(_input: FilesInput<R>) -> Result<(), SourceError> {
    Ok(())
}
