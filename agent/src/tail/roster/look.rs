//! What the globs lead to now, and what is said of it.

use std::collections::HashMap;

use super::Roster;
use crate::checkpoint::{OpenGeneration, Origin, Registry};
use crate::clock::Monotonic;
use crate::discover::told::{Known, Told};
use crate::discover::{Found, scan_knowing};
use crate::tail::resume::is_of;

/// Every so many scans each file is looked at, as if nothing were told of any: each ten minutes with the
/// default. What a program writes by way of memory (`mmap`), the kernel tells nobody.
pub(super) const LOOK_EVERY: u32 = 60;

impl<R: Registry> Roster<R> {
    /// Matches a source's globs, and tells what is wrong with what they lead to. At what is followed, and told
    /// of, it looks once in a while.
    pub(super) fn look(&mut self, index: usize, now: Monotonic, told: &Told) -> Found {
        let plan = &self.sources[index].plan;
        self.next_scans[index] = now.plus(plan.rescan);
        let ours = self.followed.iter().filter(|file| file.source == index);
        let lying = ours.filter_map(|file| Some((file.seen_at.as_deref()?, file.place())));
        let known = match now >= self.next_looks[index] {
            true => {
                let period = plan.rescan.saturating_mul(LOOK_EVERY);
                self.next_looks[index] = now.plus(period);
                Known::default()
            }
            false => Known::new(told, lying),
        };
        let found = scan_knowing(&plan.paths, &plan.exclude, &known);
        for trouble in &found.troubles {
            let text = trouble.to_string();
            if self.said.is_news_at(trouble.path(), &text, now) {
                tracing::warn!("source {}: {text}", plan.id);
            }
        }
        found
    }

    /// Gives those files a turn to which something may have happened.
    pub(super) fn note_looks(&mut self, index: usize, found: &Found, told: &Told) {
        let seen: HashMap<_, _> = (found.files.iter())
            .map(|seen| ((seen.device, seen.inode), seen))
            .collect();
        for file in self.followed.iter_mut().filter(|file| file.source == index) {
            let is_told = file.is_told_of(told);
            file.was_scanned(seen.get(&file.place()).copied(), is_told);
        }
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
