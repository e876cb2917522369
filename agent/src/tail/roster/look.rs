//! What the globs lead to now, and what is said of it.

use super::Roster;
use crate::checkpoint::{OpenGeneration, Origin, Registry};
use crate::clock::Monotonic;
use crate::discover::{Found, scan};
use crate::tail::resume::is_of;

impl<R: Registry> Roster<R> {
    /// Matches a source's globs, and tells what is wrong with what they lead to.
    pub(super) fn look(&mut self, index: usize, now: Monotonic) -> Found {
        let plan = &self.sources[index].plan;
        self.next_scans[index] = now.plus(plan.rescan);
        let found = scan(&plan.paths, &plan.exclude);
        for trouble in &found.troubles {
            let text = trouble.to_string();
            if self.said.is_news_at(trouble.path(), &text, now) {
                tracing::warn!("source {}: {text}", plan.id);
            }
        }
        found
    }

    pub(super) fn say_unmatched(&self, index: usize, found: &Found) {
        let plan = &self.sources[index].plan;
        for unmatched in &found.unmatched {
            tracing::warn!(
                "source {}: {} matches nothing at the moment; it is tried again every {:?}",
                plan.id,
                plan.paths[*unmatched],
                plan.rescan
            );
        }
    }

    pub(super) fn say_unconfigured(&self, known: &[OpenGeneration]) {
        let is_ours = |open: &&OpenGeneration| {
            self.sources
                .iter()
                .any(|source| is_of(open, &self.device, source))
        };
        let files = known
            .iter()
            .filter(|open| matches!(open.origin, Origin::File(_)));
        for open in files.filter(|open| !is_ours(open)) {
            tracing::warn!(
                "{}: no source of this configuration follows it any more; it stays open at offset \
                 {}, in case one does again",
                open.stream,
                open.settled
            );
        }
    }
}
