//! Under which names Prometheus sees them, and what it is told of each.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Metrics, OfPartition};

impl Metrics {
    /// A registry of them, under `headwater_loader_`.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("headwater_loader");
        registry.register(
            "records",
            "Records in completed batches, by outcome; overlap, refused_headers, unaccounted and unparsed are among the others",
            self.records.clone(),
        );
        registry.register(
            "dead_letters",
            "Records that could not be made rows, by the step that failed; row: outside of all steps",
            self.dead_letters.clone(),
        );
        let counters: [(&str, &str, &Counter); 10] = [
            (
                "bytes",
                "Bytes of the values of records in completed batches",
                &self.bytes,
            ),
            ("batches", "Batches completed", &self.batches),
            ("objects", "Objects of rows stored", &self.objects),
            (
                "object_bytes",
                "Bytes of objects of rows stored",
                &self.object_bytes,
            ),
            (
                "window_rows",
                "Rows of windows that were closed",
                &self.window_rows,
            ),
            (
                "output_retries",
                "Requests to the output that failed and were tried again",
                &self.retries,
            ),
            (
                "rejoins",
                "Memberships in the group given up and begun anew",
                &self.rejoined,
            ),
            (
                "published",
                "Markers of hours and accounts of days stored",
                &self.published,
            ),
            (
                "publish_conflicts",
                "Markers and accounts in whose place something else was",
                &self.publish_conflicts,
            ),
            (
                "early_batches",
                "Batches closed early because memory was short",
                &self.pressed,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        self.items.register(&mut registry);
        self.requests.register(&mut registry);
        self.tables.register(&mut registry);
        self.register_gauges(&mut registry);
        self.register_troubles(&mut registry);
        registry
    }

    fn register_troubles(&self, registry: &mut Registry) {
        registry.register(
            "partitions_waiting",
            "Partitions that this loader has, and that cannot be loaded now",
            self.waiting.clone(),
        );
        registry.register(
            "guard_closed_batches",
            "Batches closed early because they had as many paths as flush.objects allows",
            self.guarded.clone(),
        );
        registry.register(
            "partition_stops",
            "Times that a partition was stopped for a trouble of its own",
            self.stops.clone(),
        );
        registry.register(
            "lost_offsets",
            "Offsets that retention deleted before they were read",
            self.lost_offsets.clone(),
        );
    }

    fn register_gauges(&self, registry: &mut Registry) {
        let families: [(&str, &str, &Family<OfPartition, Gauge>); 9] = [
            (
                "durable_lag_records",
                "Offsets not yet stored and committed",
                &self.lag_records,
            ),
            (
                "durable_lag_seconds",
                "Age of the oldest record not yet stored and committed",
                &self.lag_seconds,
            ),
            (
                "unexplained_gaps",
                "Ranges of streams that nothing explains",
                &self.gaps,
            ),
            (
                "complete_until_seconds",
                "Unix time up to which hours are said to be complete",
                &self.complete,
            ),
            (
                "accounts",
                "Devices that have an account of the day",
                &self.accounts,
            ),
            ("streams", "Streams in the ledger", &self.streams),
            (
                "ledger_memory_bytes",
                "Memory of the ledger, about; limits.ledger is its bound",
                &self.ledger_bytes,
            ),
            ("windows", "Windows that are open", &self.windows),
            (
                "window_memory_bytes",
                "Memory that they take, about",
                &self.window_bytes,
            ),
        ];
        for (name, help, family) in families {
            registry.register(name, help, family.clone());
        }
        self.register_memory(registry);
    }

    fn register_memory(&self, registry: &mut Registry) {
        let gauges: [(&str, &str, &Gauge); 7] = [
            (
                "partitions",
                "Partitions that this loader has",
                &self.assigned,
            ),
            (
                "batch_memory_bytes",
                "Memory of open and closing batches",
                &self.batch_bytes,
            ),
            ("batch_memory_bytes_max", "Its bound", &self.batch_bytes_max),
            (
                "state_memory_bytes",
                "Memory of ledgers, open windows and accounts, about",
                &self.state_bytes,
            ),
            ("state_memory_bytes_max", "Its bound", &self.state_bytes_max),
            (
                "fetched_memory_bytes",
                "Memory of records fetched and not yet taken in",
                &self.fetched_bytes,
            ),
            (
                "resident_memory_bytes",
                "Memory of the process, as the kernel counts it",
                &self.resident_bytes,
            ),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
    }
}
