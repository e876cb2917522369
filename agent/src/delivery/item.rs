//! One batch of the window: where it is, and what it costs. Pure.

use std::sync::Arc;

use super::settle::Stretch;
use crate::batch::Batch;
use crate::clock::Monotonic;

/// What a record costs in librdkafka besides its value, in bytes: the message, two headers and
/// their names. Counted from its structures on 64 bits, rounded up.
pub(super) const RECORD_COST: usize = 256;

#[derive(Debug)]
pub(super) struct Item {
    /// None only where its row is in the spool and it is in flight.
    pub(super) batch: Option<Arc<Batch>>,
    pub(super) stretch: Stretch,
    pub(super) bytes: usize,
    pub(super) cost: usize,
    pub(super) queued: Monotonic,
    pub(super) place: Place,
    /// It came from the spool, and takes nothing of the RAM window.
    pub(super) loaded: bool,
    pub(super) in_flight: bool,
    /// The broker refused it, and it waits by itself before it is sent again.
    pub(super) held: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Ram,
    /// In the transaction that is under way. It may be acknowledged meanwhile.
    Committing {
        acknowledged: bool,
    },
    Spool,
}

impl Item {
    pub(super) fn new(batch: Batch, place: Place, queued: Monotonic) -> Self {
        Self {
            stretch: Stretch {
                generation: batch.generation,
                start: batch.start,
                end: batch.end(),
                closes: batch.closes(),
            },
            bytes: batch.values.len(),
            cost: batch.values.len() + RECORD_COST * batch.entries.len(),
            batch: Some(Arc::new(batch)),
            queued,
            place,
            loaded: place == Place::Spool,
            in_flight: false,
            held: false,
        }
    }
}
