//! How fresh the enrichment tables are.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counted where tables are read again (`tables.reload`); none of it moves elsewhere.
#[derive(Debug, Default)]
pub struct Tables {
    /// Times that a changed table was taken.
    pub reloads: Counter,
    /// Times that a table could not be read, or made no sense.
    pub failures: Counter,
    age_seconds: Gauge,
    /// When all were last read, Unix milliseconds; 0 where they never are.
    read_ms: AtomicU64,
}

impl Tables {
    /// Notes that all tables were read.
    pub fn read(&self, now_ms: u64) {
        self.read_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Brings the age up to date.
    pub fn refresh(&self, now_ms: u64) {
        let read_ms = self.read_ms.load(Ordering::Relaxed);
        if read_ms > 0 {
            let seconds = now_ms.saturating_sub(read_ms) / 1000;
            self.age_seconds
                .set(i64::try_from(seconds).unwrap_or(i64::MAX));
        }
    }

    /// Shows them.
    pub fn register(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            (
                "table_reloads",
                "Times that a changed table was taken",
                &self.reloads,
            ),
            (
                "table_reload_failures",
                "Times that a table could not be read again, or made no sense; the old one stayed",
                &self.failures,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "table_age_seconds",
            "Time since all tables were last read; 0 where they are not read again",
            self.age_seconds.clone(),
        );
    }
}
