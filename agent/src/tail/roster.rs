//! Which files are followed: found by a scan, resumed after a restart, replaced, lost.
//!
//! ```text
//!            known generations (database)        what the globs lead to (scan)
//!                      │ located? ── no ──► close notice: vanished, truncated
//!                      │      └── cannot be told ──► away, and looked for again
//!                      ▼                                │ by device and inode
//!            followed: linked ◄─────────────────────────┤ known: it goes on
//!                 │      ▲                              │ new: registered, then followed
//!                 ▼      └── a path leads there again   ▼
//!              unlinked ──► drained ──► silent ──► close notice: rotated
//! ```
//!
//! A file is one generation however often it is renamed, and for as long as any glob of its source
//! leads to it. Two sources that lead to one file follow it each for itself.

mod adopt;
mod away;
pub(super) mod change;
mod give_way;
mod look;
mod pass;
mod unseen;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use headwater_record::{DeviceId, Generation};

use self::adopt::{New, Waiting};
use self::away::Away;
use self::give_way::Farewell;
pub use self::pass::Pass;
use self::pass::Turns;
use super::closed::Closed;
use super::desk::{Desk, Source};
use super::reader::Followed;
use super::resume::Left;
use crate::checkpoint::{FileIdentity, Knowledge, Marker, Registry};
use crate::clock::Monotonic;
use crate::config::FileSource;
use crate::discover::said::Said;
use crate::discover::told::Told;
use crate::discover::watch;
use crate::sources::SourceError;
use crate::spool::Lane;

/// Turns after which surplus files are let go, so that a pass opens few above the bound; fewer where that is
/// low.
const PARK_EVERY: usize = 64;

/// All files of all sources.
#[derive(Debug)]
pub struct Roster<R> {
    device: DeviceId,
    desk: Desk<R>,
    sources: Vec<Source>,
    /// When each source is scanned next.
    next_scans: Vec<Monotonic>,
    /// When each file of each source is looked at next, told of or not.
    next_looks: Vec<Monotonic>,
    followed: Vec<Followed>,
    /// Where each lane's turns are, by [`Lane::index`].
    turns: [Turns; Lane::COUNT],
    /// Generations that are closed without their file.
    farewells: Vec<Farewell>,
    /// When the last deleted file gave way.
    gave_way: Option<Monotonic>,
    /// By source, files that somebody may still write, by their place.
    waiting: Vec<HashMap<(u64, u64), Waiting>>,
    /// By source, streams whose last file was cut, and others may have come and gone since.
    cut: Vec<Vec<Left>>,
    closed: Closed,
    /// Files that a power cut made shorter, by their place, until they are begun with: what of them was read before.
    cut_short: HashMap<(u64, u64), (Marker, u64)>,
    /// Known generations whose file is out of reach.
    away: Vec<Away>,
    /// By source, new files that the database does not take yet.
    not_entered: Vec<Vec<New>>,
    said: Said,
    crowded_said: bool,
}

impl<R: Registry> Roster<R> {
    /// Takes up what the database knows and what the globs lead to now. `nameless`: files of known
    /// generations that nothing leads to any more.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn start(
        device: DeviceId,
        plans: Vec<FileSource>,
        known: &Knowledge,
        nameless: HashMap<Generation, File>,
        desk: Desk<R>,
        now: Monotonic,
    ) -> Result<Self, SourceError> {
        let mut roster = Self {
            next_scans: Vec::new(),
            next_looks: Vec::new(),
            waiting: Vec::new(),
            cut: Vec::new(),
            closed: Closed::default(),
            cut_short: HashMap::new(),
            away: Vec::new(),
            not_entered: Vec::new(),
            device,
            desk,
            sources: Vec::new(),
            followed: Vec::new(),
            turns: <[Turns; Lane::COUNT]>::default(),
            farewells: Vec::new(),
            gave_way: None,
            said: Said::default(),
            crowded_said: false,
        };
        roster.take_up(plans, known, nameless, now)?;
        Ok(roster)
    }

    /// Scans the sources whose time has come, or all of them. `told`: folders in which nothing happened that
    /// was not heard of; what is followed there is looked at once in a while.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn scan(&mut self, now: Monotonic, all: bool, told: &Told) -> Result<bool, SourceError> {
        let mut scanned = false;
        for index in 0..self.sources.len() {
            if all || now >= self.next_scans[index] {
                let found = self.look(index, now, told);
                self.look_for_away(index, &found, now);
                let cut = std::mem::take(&mut self.cut[index]);
                self.adopt(index, &found, cut, now, |_, _| false)?;
                self.note_looks(index, &found, told);
                scanned = true;
            }
        }
        if scanned {
            self.give_way(now);
            self.count_unread();
            self.store_identities(now, Followed::identity_worth_storing)?;
        }
        Ok(scanned)
    }

    /// Lets go of the files that were silent longest, where more are open than may be.
    fn park_surplus(&mut self) {
        let surplus = self.held().saturating_sub(self.desk.open_max);
        if surplus > 0 {
            let open = self.followed.iter_mut();
            let mut open: Vec<_> = open.filter(|file| file.can_park()).collect();
            open.sort_by_key(|file| file.quiet_since());
            (open.into_iter().take(surplus)).for_each(Followed::park);
        }
    }

    /// When something is due, if nothing happens. `passed_at`: when the last pass was; what was due
    /// by then and was not done waits for something else than time.
    pub fn next_due(&self, passed_at: Monotonic) -> Monotonic {
        let closes = (self.followed.iter())
            .filter_map(|file| file.due_at(&self.sources[file.source]))
            .filter(|at| *at > passed_at);
        let tells = (self.followed.iter())
            .filter_map(|file| file.tells_at(&self.sources[file.source]))
            .filter(|at| *at > passed_at);
        let again = self.desk.entry.again_at().filter(|at| *at > passed_at);
        (closes
            .chain(tells)
            .chain(self.next_scans.iter().copied())
            .chain(again))
        .min()
        .unwrap_or_else(|| passed_at.plus(Duration::from_secs(60)))
    }

    /// The folders whose events matter.
    pub fn folders(&self) -> BTreeSet<PathBuf> {
        let fixed = (self.sources.iter())
            .flat_map(|source| &source.plan.paths)
            .map(watch::fixed_folder);
        let of_files = (self.followed.iter())
            .flat_map(|file| [file.seen_at.clone(), Some(file.path())])
            .flatten()
            .filter_map(|path| path.parent().map(Path::to_owned));
        fixed.chain(of_files).collect()
    }

    /// Writes down by what the files are known, all of it. Where the disk refuses, what was written
    /// down before tells them still.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn finish(&mut self) -> Result<(), SourceError> {
        let now = self.desk.entry.again_at().unwrap_or(Monotonic(0));
        self.store_identities(now, Followed::identity_unless_stored)
    }

    /// The files that nothing leads to any more, for whoever goes on with them.
    pub fn nameless(&self) -> impl Iterator<Item = (Generation, File)> {
        (self.followed.iter()).filter_map(|file| Some((file.generation, file.nameless()?)))
    }

    fn park_every(&self) -> usize {
        PARK_EVERY.min(self.desk.open_max / 8).max(1)
    }

    /// How many files are held open.
    fn held(&self) -> usize {
        self.followed.iter().filter(|file| file.is_held()).count()
    }

    fn say_crowded(&mut self) {
        let (followed, open_max) = (self.followed.len(), self.desk.open_max);
        if followed > open_max && !std::mem::replace(&mut self.crowded_said, true) {
            tracing::warn!(
                "{followed} files are followed, and {open_max} may be open at once (LimitNOFILE=): those \
                 that were silent longest are let go until something happens to them (said once)"
            );
        }
    }

    fn count(&self) {
        let (followed, away) = (self.followed.len(), self.away.len());
        let counters = &self.desk.counters;
        counters.followed.store(followed as u64, Ordering::Relaxed);
        counters.out_of_reach.store(away as u64, Ordering::Relaxed);
    }

    fn count_unread(&mut self) {
        let unread = (self.followed.iter_mut()).map(|file| {
            let bytes = file.unread_bytes();
            (&file.stream, bytes)
        });
        self.desk.counters.count_unread(unread.collect());
    }

    fn store_identities(
        &mut self,
        now: Monotonic,
        wanted: impl Fn(&Followed) -> Option<FileIdentity>,
    ) -> Result<(), SourceError> {
        let changed: Vec<_> = (self.followed.iter())
            .filter_map(|file| Some((file, wanted(file)?)))
            .flat_map(|(file, identity)| {
                let names = [file.generation].into_iter();
                let names = names.chain(file.later().map(|later| later.generation));
                names.map(move |name| (name, identity.clone()))
            })
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        if !(self.desk).enter(now, |registry| registry.try_identify(&changed))? {
            return Ok(());
        }
        for file in &mut self.followed {
            if wanted(file).is_some() {
                file.identity_stored();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
