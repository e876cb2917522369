//! What files and sensors have in common at their ends: how a generation gets its name, how a batch
//! leaves, and why a source's thread ends.

use headwater_record::Generation;
use thiserror::Error;
use tokio::sync::mpsc::Sender;

use crate::batch::Batch;
use crate::checkpoint::StoreStopped;

/// Why a source's thread ended, other than by being told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SourceError {
    /// What it gives its records to is gone: there is nothing left to do for it.
    #[error("the rest of the agent has stopped; the sources stop too")]
    Downstream,
    /// A generation cannot be named.
    #[error(
        "the system gives no random numbers ({0}); without them no file can be told from another, \
         and the sources stop"
    )]
    Random(getrandom::Error),
}

impl From<StoreStopped> for SourceError {
    fn from(_: StoreStopped) -> Self {
        Self::Downstream
    }
}

/// Draws the name of a new generation.
///
/// # Errors
/// [`SourceError::Random`].
pub fn draw_generation() -> Result<Generation, SourceError> {
    getrandom::u64()
        .map(Generation)
        .map_err(SourceError::Random)
}

/// Hands a batch over; waits while the channel is full, which its other end never leaves it for
/// long.
///
/// # Errors
/// [`SourceError::Downstream`] where the other end is gone.
pub fn send(batches: &Sender<Batch>, batch: Batch) -> Result<(), SourceError> {
    batches
        .blocking_send(batch)
        .map_err(|_| SourceError::Downstream)
}
