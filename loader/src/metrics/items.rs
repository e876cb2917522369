//! What came of the items for DynamoDB's tables.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::OfOutcome;

/// What the counters have come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ItemSums {
    /// Items that were put.
    pub written: u64,
    /// Items that were not, since they, or later ones, are there.
    pub superseded: u64,
    /// Items that a request left undone.
    pub unprocessed: u64,
    /// Requests that met a capacity.
    pub throttled: u64,
    /// Requests that were refused.
    pub refused: u64,
}

/// Counters of items. A clone counts into the same.
#[derive(Debug, Clone, Default)]
pub struct ItemCounts {
    items: Family<OfOutcome, Counter>,
    unprocessed: Counter,
    throttled: Counter,
    refused: Counter,
}

impl ItemCounts {
    fn outcome(&self, outcome: &'static str, n: u64) {
        self.items.get_or_create(&OfOutcome { outcome }).inc_by(n);
    }

    /// So many were written.
    pub fn written(&self, n: u64) {
        self.outcome("written", n);
    }

    /// One was not, since it, or a later one of its key, is there.
    pub fn superseded(&self) {
        self.outcome("superseded", 1);
    }

    /// So many were left undone by a request that wrote others.
    pub fn unprocessed(&self, n: u64) {
        self.unprocessed.inc_by(n);
    }

    /// A request met the table's or the account's capacity.
    pub fn throttled(&self) {
        self.throttled.inc();
    }

    /// A request was refused, and will be until somebody changes something.
    pub fn refused(&self) {
        self.refused.inc();
    }

    /// What they have come to.
    pub fn sums(&self) -> ItemSums {
        let of = |outcome| self.items.get_or_create(&OfOutcome { outcome }).get();
        ItemSums {
            written: of("written"),
            superseded: of("superseded"),
            unprocessed: self.unprocessed.get(),
            throttled: self.throttled.get(),
            refused: self.refused.get(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "items",
            "Items for DynamoDB's tables: written, or superseded by the same or a later one that is there",
            self.items.clone(),
        );
        registry.register(
            "items_unprocessed",
            "Items that a request left undone; they are tried again",
            self.unprocessed.clone(),
        );
        registry.register(
            "items_throttled",
            "Requests that met the capacity of a table or account; they are tried again",
            self.throttled.clone(),
        );
        registry.register(
            "items_refused",
            "Requests that were refused, and will be until somebody changes something; they are tried again",
            self.refused.clone(),
        );
    }
}
