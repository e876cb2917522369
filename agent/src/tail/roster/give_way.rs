//! Generations that are closed without their file: it is gone; or it was deleted, and had to give way.
//!
//! A deleted file is held open until it is read, and its blocks are taken as long. While records cannot go,
//! that may be for ever; so where the file system is down to what is to be kept free, the deleted files on it
//! give way, the one that was followed longest first, until there is room again. One that lies there compressed
//! goes on in that; of any other a loss notice names what was not read. One that is read on, however slowly, or
//! written to yet is not given up: it goes by itself, or its blocks are not the agent's alone.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use headwater_record::notice::{Tail, reason};
use headwater_record::{Generation, StreamId};

use super::Roster;
use crate::checkpoint::{OpenGeneration, Registry};
use crate::clock::{self, Monotonic};
use crate::sources::SourceError;
use crate::spool::disk::Free;
use crate::tail::desk::{Desk, Source, close_generation, lose};
use crate::tail::locate::by_content;
use crate::tail::reader::Followed;

/// So long nobody read on in it, nor wrote to it.
const GIVE_WAY_AFTER: Duration = Duration::from_secs(60);
/// Some file systems free the blocks of a file some time after its last close: the next waits for so long.
const GIVE_WAY_EVERY: Duration = Duration::from_secs(10);

/// The last word on a generation. It waits for room in the RAM window.
#[derive(Debug)]
pub(super) struct Farewell {
    pub(super) source: usize,
    stream: StreamId,
    generation: Generation,
    /// What was given away, and where it ends: between them is what nobody will read.
    range: (u64, u64),
    /// Whether that is a loss yet to be told.
    is_lost: bool,
    reason: &'static str,
    tail: Tail,
}

impl Farewell {
    /// To one whose file is gone, and to those under which that was to go on.
    pub(super) fn all_gone(
        source: usize,
        open: &OpenGeneration,
        reason: &'static str,
    ) -> impl Iterator<Item = Self> {
        (open.chain()).map(move |open| Self::gone(source, open.clone(), reason))
    }

    /// To one whose file is gone.
    pub(super) fn gone(source: usize, open: OpenGeneration, reason: &'static str) -> Self {
        // What was to be skipped and never came into a span is settled by the notice's.
        let end = open.skip_to.map_or(open.settled, |to| to.max(open.settled));
        Self {
            source,
            stream: open.stream,
            generation: open.generation,
            range: (open.settled, end),
            is_lost: false,
            reason,
            tail: Tail::Unknown,
        }
    }

    /// Gives its notices away; returns whether the RAM window had room.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub(super) fn say<R>(
        &mut self,
        desk: &Desk<R>,
        sources: &[Source],
    ) -> Result<bool, SourceError> {
        let source = &sources[self.source];
        let (stream, generation) = (&self.stream, self.generation);
        if self.is_lost {
            if !lose(desk, source, stream, generation, self.range, self.reason)? {
                return Ok(false);
            }
            (self.is_lost, self.range.0) = (false, self.range.1);
        }
        let (range, reason, tail) = (self.range, self.reason, self.tail);
        close_generation(desk, source, stream, generation, range, reason, tail)
    }
}

impl<R: Registry> Roster<R> {
    /// Lets go of a deleted file, where its file system is down to what is to be kept free.
    pub(super) fn give_way(&mut self, now: Monotonic) {
        let floors = self.desk.floors;
        let has_to = self.followed.iter_mut().position(|file| {
            (file.stands_deleted(GIVE_WAY_AFTER, now))
                .and_then(|file| Free::around(&file))
                .is_some_and(|free| floors.room_in(free, 0) == 0)
        });
        let is_soon = (self.gave_way).is_some_and(|at| now.since(at) < GIVE_WAY_EVERY);
        let Some(nth) = has_to.filter(|_| !is_soon) else {
            return;
        };
        self.gave_way = Some(now);
        let taken: HashSet<_> = self.followed.iter().map(Followed::place).collect();
        let file = &mut self.followed[nth];
        // Whoever compressed it deleted it.
        let packed = by_content(file.identity(), Some(&file.marker()), &taken);
        if let Ok(Some(packed)) = packed
            && file.go_on_in(packed, now).is_ok()
        {
            return;
        }
        let file = self.unfollow(nth);
        self.count();
        self.closed.remember(&file, true, clock::wall_ms());
        let last = file.later().last();
        let last = last.map_or(file.generation, |later| later.generation);
        (self.desk.registry).read_whole(last, file.identity(), file.marker());
        let (given, end) = file.unread();
        let mut reason = reason::ROTATED;
        // Where what is compressed ends, nobody knows who has not read it.
        if given < end || !file.has_known_end() {
            reason = reason::DELETED_UNREAD;
            let (counters, unread) = (&self.desk.counters, end - given);
            counters.given_up.fetch_add(1, Ordering::Relaxed);
            (counters.given_up_bytes).fetch_add(unread, Ordering::Relaxed);
            tracing::warn!(
                "{}: generation {} is given up at offset {given} of {end}{}: it was deleted, and its file system \
                 is down to what is kept free (spool.free_bytes_min, spool.free_inodes_min)",
                file.stream,
                file.generation,
                if file.has_known_end() { "" } else { " or more" }
            );
        }
        let tail = match file.has_known_end() {
            true => Tail::Complete,
            false => Tail::Unknown,
        };
        let farewell = |generation, (from, to): (u64, u64)| Farewell {
            source: file.source,
            stream: file.stream.clone(),
            generation,
            range: (from, to.max(from)),
            is_lost: from < to,
            reason,
            tail,
        };
        let first_end = file.ends_at().map_or(end, |at| at.min(end));
        let later = file.later().map(|later| {
            let to = later.goes_on.as_ref().map_or(end, |on| on.at.min(end));
            farewell(later.generation, (later.settled, to))
        });
        self.farewells.extend(later);
        self.farewells
            .push(farewell(file.generation, (given, first_end)));
    }
}
