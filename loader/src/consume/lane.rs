//! One partition's way from the poll thread to its worker.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::mpsc;

use crate::consume::HandOver;
use crate::consume::prefetch::Prefetch;
use crate::consume::tenure::Tenant;
use crate::fetched::Fetched;

/// One partition's way to its worker.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) records: mpsc::Sender<HandOver>,
    pub(super) filling: Fetched,
    /// Bytes that its worker has not taken in yet.
    pub(super) outstanding: Arc<AtomicUsize>,
    /// No room for it: it is paused until there is.
    pub(super) paused: bool,
    /// Tells its worker that the partition is gone, when this is.
    pub(super) _tenant: Tenant,
}

impl Lane {
    /// Tries to hand over what has gathered. `false`: there is no room for it now.
    pub(super) fn offer(&mut self, prefetch: &Arc<Prefetch>, partitions: usize) -> bool {
        if self.filling.entries.is_empty() {
            return true;
        }
        let Ok(slot) = self.records.try_reserve() else {
            // Full; or the worker is gone, and so will be this lane.
            return self.records.is_closed();
        };
        let bytes = self.filling.held();
        let Some(permit) = prefetch.admit(&self.outstanding, partitions, bytes) else {
            return false;
        };
        let next = Fetched::like(&self.filling);
        let fetched = std::mem::replace(&mut self.filling, next);
        slot.send(HandOver { fetched, permit });
        true
    }
}
