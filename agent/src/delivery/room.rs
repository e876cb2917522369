//! Whether the spool has room for what is late, what gives way where it has none, and which lanes
//! wait. Pure.
//!
//! A lane that drops gives up its own data and that of lower lanes that drop, as long as notices of
//! it fit; where they do not (the file system is down to its floor, or the spool holds nothing that
//! may give way), it waits as a lane that pauses does: its batches stay in RAM with their permits, and
//! its sources feel it. Nothing is given up before the commit of its notice is there.

use std::sync::Arc;
use std::time::Duration;

use super::evict::give_up;
use super::writing::{GROUP_BYTES_MAX, Writing};
use super::{Delivery, News};
use crate::batch::Batch;
use crate::clock::Monotonic;
use crate::spool::{BatchId, Evict, Lane, WhenFull};

/// How long a file system without room is left alone.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// How it stands with the room for each lane.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// The next row of the lane does not fit, and nothing was deleted since.
    full: [bool; Lane::COUNT],
    /// What was said of it since there was room last.
    said: [Said; Lane::COUNT],
    /// The file system was found to have no room: it is looked at again then.
    look_at: Option<Monotonic>,
    /// What would give way is at hand or in flight, and stays for the moment.
    stays: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Said {
    drops: bool,
    waits: bool,
}

impl Room {
    /// Whether a lane waits for room, or drops for want of it.
    pub(super) fn is_short(&self) -> bool {
        self.said.iter().any(|said| *said != Said::default())
    }

    pub(super) fn any_full(&self) -> bool {
        self.full.contains(&true)
    }

    /// Whether a lane waits, and until when, if not for a commit.
    pub(super) fn waits(&self, lane: Lane) -> Option<Option<Monotonic>> {
        self.full[lane.index()].then_some(self.look_at)
    }

    /// A transaction took effect: whoever waits looks again. Returns whether room is news.
    pub(super) fn committed(&mut self, has_room: bool) -> bool {
        self.full = [false; Lane::COUNT];
        self.look_at = None;
        self.stays = false;
        let is_news = has_room && self.is_short();
        if is_news {
            self.said = [Said::default(); Lane::COUNT];
        }
        is_news
    }

    pub(super) fn is_look_due(&self, now: Monotonic) -> bool {
        self.look_at.is_some_and(|at| at <= now)
    }

    /// Lanes that drop are never full for long.
    pub(super) fn try_dropping_again(&mut self, when_full: &[WhenFull; Lane::COUNT]) {
        self.stays = false;
        for (full, when_full) in self.full.iter_mut().zip(when_full) {
            *full &= *when_full == WhenFull::Pause;
        }
    }
}

impl Writing {
    /// The file system takes no more; what the database has may be used again, unless it was tried to
    /// make all the room in it (`evicts`) and that was not enough.
    pub(super) fn no_room(&mut self, evicts: bool, now: Monotonic) {
        self.depth.room = Some(0);
        self.room.stays |= evicts;
        self.room.look_at = Some(now.plus(LOOK_AGAIN));
    }

    /// What was known of the room is old.
    pub(super) fn look_again(&mut self) {
        self.depth.room = None;
        self.room.look_at = None;
        self.room.stays = false;
        self.room.full = [false; Lane::COUNT];
    }
}

impl Delivery {
    /// Whether the spool has no room for a lane that needs some, or dropped for want of it, since it
    /// had room last.
    pub fn spool_full(&self) -> bool {
        self.writing.room.is_short()
    }

    fn when_full(&self, lane: Lane) -> WhenFull {
        self.settings.when_full[lane.index()]
    }

    /// What all rows together may take, as far as is known of the file system.
    fn bytes_max(&self) -> u64 {
        let depth = &self.writing.depth;
        let on_disk = depth
            .room
            .map_or(u64::MAX, |room| depth.bytes.saturating_add(room));
        self.settings.spool_bytes_max.min(on_disk)
    }

    /// Whether a transaction's rows may not fit.
    fn is_tight(&self) -> bool {
        self.bytes_max().saturating_sub(self.writing.depth.bytes) < 2 * GROUP_BYTES_MAX as u64
    }

    /// Whether rows that are being read are among those that may have to give way.
    pub(super) fn waits_for_load(&self, lane: Lane) -> bool {
        self.loading.is_some() && self.is_tight() && !self.giving_way_to(lane).is_empty()
    }

    /// The lanes that give way to `lane`, the first to do so first.
    fn giving_way_to(&self, lane: Lane) -> Vec<(Lane, BatchId)> {
        let lower = Lane::ALL.into_iter().rev().filter(|other| *other >= lane);
        lower
            .filter(|other| self.when_full(*other) == WhenFull::DropOldest)
            .map(|other| (other, self.window.of(other).load_after()))
            .collect()
    }

    /// Rows of one lane, as far as there is room, or room can be made. Where there is none, its oldest
    /// batches are given up before they are spooled, or the lane waits.
    pub(super) fn start_spooling(
        &mut self,
        lane: Lane,
        now: Monotonic,
    ) -> (Vec<(BatchId, Arc<Batch>)>, Option<Evict>) {
        let bytes_max = self.bytes_max();
        let free = bytes_max.saturating_sub(self.writing.depth.bytes);
        let mut lanes = self.giving_way_to(lane);
        if self.writing.room.stays {
            lanes.clear();
        }
        let data_bytes = &self.writing.depth.data_bytes;
        let given: u64 = lanes.iter().map(|(lane, _)| data_bytes[lane.index()]).sum();
        let most = free.saturating_add(given);
        let drops = self.when_full(lane) == WhenFull::DropOldest;
        let wall_ms = self.wall_ms(now);
        let window = self.window.of_mut(lane);
        let mut rows = window.start_commit(GROUP_BYTES_MAX, most);
        let gives_up = rows.is_empty() && drops;
        if gives_up {
            let give_up = |batch: &Batch| give_up(batch, wall_ms);
            rows = window.start_giving_up((GROUP_BYTES_MAX, most), give_up);
        }
        if rows.is_empty() {
            // What is in flight cannot be given up, and that is no want of room.
            let waits = !drops || window.has_unsent_in_ram();
            self.wait_for_room(lane, waits, now);
            return (rows, None);
        }
        let bytes: u64 = rows
            .iter()
            .map(|(_, batch)| batch.values.len() as u64)
            .sum();
        let evict = (bytes > free).then(|| Evict {
            bytes_max,
            lanes,
            kept: self.window.kept(),
        });
        if evict.is_some() || gives_up {
            let said = &mut self.writing.room.said[lane.index()].drops;
            if !std::mem::replace(said, true) {
                self.say(News::Dropping(lane));
            }
        }
        (rows, evict)
    }

    /// The lane's next row does not fit: it is looked at again after a commit, and where the file
    /// system is short, after a while, since others may free some of it.
    fn wait_for_room(&mut self, lane: Lane, is_news: bool, now: Monotonic) {
        let is_disk_short = self.bytes_max() < self.settings.spool_bytes_max;
        let room = &mut self.writing.room;
        room.full[lane.index()] = true;
        if is_disk_short {
            room.look_at.get_or_insert(now.plus(LOOK_AGAIN));
        }
        if is_news && !std::mem::replace(&mut room.said[lane.index()].waits, true) {
            self.counters.full_waits += 1;
            self.say(News::SpoolFull(lane));
        }
    }
}
