//! One followed file: its bytes, as batches, a chunk at a time.
//!
//! Nothing of a file's content is kept between two turns. A partial line stays where it is safe, in
//! the file, and is read again with what follows; so a thousand followed files take the memory of
//! one chunk, and a restart begins as every turn does.
//!
//! The file is held open from the moment it is first seen until it is closed: renamed or deleted,
//! it is still read to its end.

mod records;
mod steps;
mod whereabouts;

use std::io;
use std::path::PathBuf;

use headwater_record::{Generation, StreamId};

use super::content::{Content, read_before};
use super::desk::{Desk, Source};
use super::opened::Opened;
use super::position::Position;
use super::siblings::path_of;
use crate::checkpoint::{FileIdentity, GoesOn, Marker, OpenGeneration, Origin, Registry};
use crate::clock::Monotonic;
use crate::config::file::LastLine;
use crate::discover::{Looks, Seen, identity};
use crate::frame::encoding::Resolved;
use crate::frame::frames::Framing;
use crate::process::State;
use crate::sources::SourceError;

/// So many turns were given by this thread.
#[cfg(test)]
pub(super) fn counted_turns() -> u64 {
    TURNS.get()
}

#[cfg(test)]
thread_local! {
    static TURNS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// What came of a file's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Something was given away or committed: there may be more.
    Moved,
    /// As [`Turn::Moved`], and there is more for certain.
    Behind,
    /// There was nothing to do.
    Idle,
    /// The RAM window is full: the same again later.
    NoRoom,
    /// Something was given away, and then the RAM window was full: there is more for certain.
    Filled,
    /// The database does not take what must be entered first: the same again later.
    Refused,
    /// The file was cut, and its copy is read on.
    Copied,
    /// The file was closed, and its notice given away.
    Ended {
        /// It was cut, and no copy found: another life of it has begun at its path.
        cut: bool,
    },
}

/// What is read, and not given: it waits for what follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Waiting {
    /// The whole lines of an event, up to there.
    event: Option<u64>,
    /// It ends with NULs: lines may be written in their place.
    nuls: bool,
    /// NULs were seen up to there, in the file as it was changed last at that time.
    nuls_seen: Option<(u64, u64)>,
}

/// One file, from its first byte to its close.
#[derive(Debug)]
pub struct Followed {
    /// Which source, as its index.
    pub source: usize,
    /// Its stream.
    pub stream: StreamId,
    /// Its random name.
    pub generation: Generation,
    /// Path at which a glob last led to it.
    pub seen_at: Option<PathBuf>,
    content: Content,
    identity: FileIdentity,
    /// The identity as the database has it.
    stored: FileIdentity,
    position: Position,
    /// Where this generation of it ends, and under which it goes on.
    goes_on: Option<GoesOn>,
    /// How it is encoded; known once its first bytes are.
    encoding: Resolved,
    /// Whether `position.read_from()` lies inside a line.
    inside: bool,
    waiting: Waiting,
    /// What lies right before `position.read_from()`.
    marker: Marker,
    size: u64,
    /// When it was changed last, and as of when it was known to be the same file.
    modified_ms: u64,
    known_ms: u64,
    /// As it was looked at last.
    looks: Looks,
    /// It was changed and nobody told: it is looked at each time.
    unheard: bool,
    wants_turn: bool,
    linked: bool,
    /// It is a copy, and the original was cut: what was written in between is in neither.
    copied: bool,
    quiet_since: Monotonic,
    /// Deleted: its length, and how far it was read, and since when that is so.
    stands: Option<(u64, u64, Monotonic)>,
    /// What its lines left behind for those that follow.
    state: State,
    /// What was last said of it.
    trouble: Option<String>,
}

impl Followed {
    /// Begins, or goes on, with a generation that is registered. It counts as unlinked until a
    /// scan finds a path to it.
    ///
    /// # Errors
    /// The byte before the position cannot be read.
    pub fn new(
        source: usize,
        framing: &Framing,
        mut opened: Opened,
        open: &OpenGeneration,
        now: Monotonic,
    ) -> io::Result<Self> {
        let position = position_of(open);
        let encoding = framing.encoding.resolve(opened.head());
        let mut identity = opened.identity();
        if let Origin::File(stored) = &open.origin {
            identity.since_ms = stored.since_ms;
            if stored.fingerprint_len == 0 {
                // What is in it now may be something else than what it was to hold.
                (identity.fingerprint_len, identity.fingerprint) = (0, stored.fingerprint);
            }
        }
        let stored = match &open.origin {
            Origin::File(stored) => stored.clone(),
            Origin::Sensor => identity.clone(),
        };
        let was_parked = opened.content.is_parked();
        let before = read_before(&mut opened.content, position.read_from())?;
        if was_parked {
            opened.park();
        }
        Ok(Self {
            source,
            stream: open.stream.clone(),
            generation: open.generation,
            seen_at: None,
            inside: encoding.is_inside(&before),
            encoding,
            waiting: Waiting::default(),
            marker: identity::marker(position.read_from(), &before),
            content: opened.content,
            identity,
            stored,
            position,
            goes_on: open.goes_on.clone(),
            size: opened.size,
            modified_ms: opened.modified_ms,
            known_ms: opened.modified_ms,
            looks: opened.looks,
            unheard: false,
            wants_turn: true,
            linked: false,
            copied: false,
            quiet_since: now,
            stands: None,
            state: State::default(),
            trouble: None,
        })
    }

    /// Device and inode: what no two files share while both are open.
    pub fn place(&self) -> (u64, u64) {
        (self.identity.device, self.identity.inode)
    }

    /// Its path with all links resolved, as of when it was last looked for.
    pub fn path(&self) -> PathBuf {
        path_of(&self.identity)
    }

    /// When it had been changed last as far as is known, Unix milliseconds.
    pub fn since_ms(&self) -> u64 {
        self.identity.since_ms
    }

    /// When it was changed last, as of when it was last looked at, Unix milliseconds.
    pub fn modified_ms(&self) -> u64 {
        self.modified_ms
    }

    /// Whether a path of its source leads to it.
    pub fn is_linked(&self) -> bool {
        self.linked
    }

    /// Who it is.
    pub fn identity(&self) -> &FileIdentity {
        &self.identity
    }

    /// What lies right before the end of what was read.
    pub fn marker(&self) -> Marker {
        self.marker
    }

    /// Takes note that it is a copy of a file that was cut since.
    pub fn note_copied(&mut self) {
        self.copied = true;
    }

    /// Since when nothing happened to it.
    pub fn quiet_since(&self) -> Monotonic {
        self.quiet_since
    }

    /// It has its turn in the next pass if nothing more happens to it.
    pub fn wants_turn(&mut self) {
        self.wants_turn = true;
    }

    /// Something may have happened to it, and that was told.
    pub fn was_heard_of(&mut self) {
        (self.wants_turn, self.unheard) = (true, false);
    }

    /// What a scan says of it; it has a turn where something happened to it, or nobody would have told
    /// (`is_told`), or it could not be read the last time. What is written by another of its names is told of
    /// there; and what is written by way of memory (`mmap`), nowhere.
    pub fn was_scanned(&mut self, seen: Option<&Seen>, is_told: bool) {
        let looks = seen.and_then(|seen| seen.looks);
        let is_told = is_told && seen.is_some();
        let differs = looks.map(|looks| looks != self.looks);
        self.unheard |= is_told && differs == Some(true) && !self.wants_turn;
        let untold = !is_told || self.unheard || self.looks.links > 1;
        self.wants_turn |= differs.unwrap_or(untold) || self.trouble.is_some();
    }

    /// Where its generation ends, if it goes on under another.
    pub fn ends_at(&self) -> Option<u64> {
        self.goes_on.as_ref().map(|on| on.at)
    }

    /// The generations under which it goes on, once this one has ended.
    pub fn later(&self) -> impl Iterator<Item = &OpenGeneration> {
        let next = self.goes_on.as_ref().and_then(|on| on.under.as_deref());
        next.into_iter().flat_map(OpenGeneration::chain)
    }

    /// Whether it has a turn now: something happened to it, or is due.
    pub fn has_turn(&self, source: &Source, now: Monotonic) -> bool {
        let due = [self.due_at(source), self.tells_at(source)];
        let is_due = due.into_iter().flatten().any(|at| at <= now);
        self.wants_turn || !self.linked || is_due
    }

    /// When something is due though nothing happens to it: the end of an event or of a last line
    /// that waits, or its close.
    pub fn due_at(&self, source: &Source) -> Option<Monotonic> {
        let plan = &source.plan;
        let close = (!self.linked).then_some(plan.close_after);
        let event = self.waiting.event.map(|_| plan.multiline_timeout);
        let line = self
            .last_line_expires(source)
            .then_some(plan.last_line_after);
        let first = [close, event, line].into_iter().flatten().min();
        first.map(|after| self.quiet_since.plus(after))
    }

    /// Whether it ends with a part of a line that does not wait for ever.
    fn last_line_expires(&self, source: &Source) -> bool {
        source.plan.last_line != LastLine::Wait
            && !self.waiting.nuls
            && self.position.examined_beyond(self.waiting.event)
    }

    /// Where a record is to end that has waited long enough.
    fn expired(&self, source: &Source, size: u64, now: Monotonic) -> Option<u64> {
        let quiet_for = now.since(self.quiet_since);
        if self.last_line_expires(source) && quiet_for >= source.plan.last_line_after {
            return Some(size);
        }
        self.waiting
            .event
            .filter(|_| quiet_for >= source.plan.multiline_timeout)
    }

    /// When what is held back of its lines is told, if none follows.
    pub fn tells_at(&self, source: &Source) -> Option<Monotonic> {
        self.state.due_at(&source.plan.process)
    }

    /// Looks at the file, and does one thing.
    ///
    /// # Errors
    /// See [`SourceError`]. What is wrong with the file is said, and tried again.
    pub fn turn<R: Registry>(
        &mut self,
        desk: &mut Desk<R>,
        source: &Source,
        now: Monotonic,
    ) -> Result<Turn, SourceError> {
        #[cfg(test)]
        TURNS.set(TURNS.get() + 1);
        let mut turn = self.one_step(desk, source, now)?;
        if self.goes_on.is_some() && turn == Turn::Moved {
            // Those of its stream that are younger wait for the generation under which it goes on.
            turn = Turn::Behind;
        }
        self.wants_turn = turn != Turn::Idle;
        Ok(turn)
    }
}

/// Where reading of a generation begins, and where its records end whatever the bytes say.
fn position_of(open: &OpenGeneration) -> Position {
    let end = open.goes_on.as_ref().map(|goes_on| goes_on.at);
    let cuts: Vec<_> = (open.cuts.iter().copied())
        .filter(|cut| end.is_none_or(|end| *cut < end))
        .chain(end)
        .collect();
    Position::resume(open.settled, open.skip_to, &cuts)
}
