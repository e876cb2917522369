//! What is told of the work while it goes on: metrics for CloudWatch, and a line in the log.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::clock;
use crate::emf::{self, Gauges, Totals};
use crate::metrics::resident_bytes;
use crate::worker::Shared;

/// Writes metrics for CloudWatch until what is returned first is dropped, and a last time then.
pub(super) fn tell_cloudwatch(shared: &Arc<Shared>) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (running, mut ended) = oneshot::channel();
    let shared = Arc::clone(shared);
    let task = tokio::spawn(async move {
        let Some((emf, every)) = &shared.plan.emf else {
            return;
        };
        let mut open = true;
        let mut before = Totals::default();
        loop {
            let over = tokio::time::timeout(every.0, &mut ended).await.is_ok();
            let now_ms = clock::now().wall_ms;
            let now = Totals::of(shared.tally.sum(), &shared.metrics);
            let gauges = Gauges::of(&shared.metrics.readings(now_ms), resident_bytes());
            let line = emf.line(now_ms, (&before, &now), Some(&gauges));
            let written = tokio::task::spawn_blocking(move || {
                emf::write(&mut std::io::stdout().lock(), &line, &mut open);
                open
            });
            open = written.await.unwrap_or(false);
            before = now;
            if over {
                return;
            }
        }
    });
    (running, task)
}

/// Says what became of records since the start, where any came.
pub(super) fn report(shared: &Shared, when: &str) {
    let sum = shared.tally.sum();
    if sum.records > 0 {
        tracing::info!(
            records = sum.records,
            bytes = sum.bytes,
            rows = sum.rows,
            dead_letters = sum.dead_letters,
            filtered = sum.filtered,
            aggregated = sum.aggregated,
            windows = sum.windows,
            duplicates = sum.duplicates,
            overlaps = sum.overlaps,
            notices = sum.notices,
            refused = sum.refused,
            unparsed = sum.unparsed,
            "{when}"
        );
    }
}
