//! One followed file: its bytes, as batches, a chunk at a time.
//!
//! Nothing of a file's content is kept between two turns. A partial line stays where it is safe, in
//! the file, and is read again with what follows; so a thousand followed files take the memory of
//! one chunk, and a restart begins as every turn does.
//!
//! The file is held open from the moment it is first seen until it is closed: renamed or deleted,
//! it is still read to its end.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use headwater_record::notice::{Tail, reason};
use headwater_record::{Generation, StreamId};

use super::content::{CHUNK_BYTES, Content, NulsOver, Read, read_before, read_chunk};
use super::desk::{Desk, PATIENCE, Source, close_generation};
use super::opened::Opened;
use super::position::{Facts, Position, Step};
use super::resume::{by_content, by_place};
use super::siblings::path_of;
use crate::budget::Permit;
use crate::checkpoint::{FileIdentity, Marker, OpenGeneration, Origin, Registry};
use crate::clock::{Monotonic, stamp_ms};
use crate::config::file::LastLine;
use crate::discover::Found;
use crate::discover::identity::{
    self, FINGERPRINT_BYTES, Head, MARKER_BYTES, Match, is_worth_storing, match_identity,
};
use crate::discover::watch::Changed;
use crate::frame::encoding::Resolved;
use crate::frame::frames::{Chunk, Frames, Framing};
use crate::process::{BATCH_BYTES, Draft, Stage, State};
use crate::sources::{SourceError, send};

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
    wants_turn: bool,
    linked: bool,
    /// It is a copy, and the original was cut: what was written in between is in neither.
    copied: bool,
    quiet_since: Monotonic,
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
        let position = Position::resume(open.settled, open.skip_to, &open.cuts);
        let encoding = framing.encoding.resolve(opened.head());
        let mut identity = opened.identity();
        if let Origin::File(stored) = &open.origin {
            identity.since_ms = stored.since_ms;
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
            size: opened.size,
            modified_ms: opened.modified_ms,
            known_ms: opened.modified_ms,
            wants_turn: true,
            linked: false,
            copied: false,
            quiet_since: now,
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

    /// Whether a file begins as this one does, and may hold all that was read of it.
    pub fn may_go_on_in(&self, opened: &Opened) -> bool {
        opened.begins_as(&self.identity)
    }

    /// Whether a file that was opened anew is this one still.
    pub fn is(&self, opened: &mut Opened) -> bool {
        opened.is_at(&self.identity) && opened.has(Some(&self.marker))
    }

    /// Whether another file holds all that was read of this one.
    pub fn is_held_by(&self, opened: &mut Opened) -> bool {
        opened.holds(&self.identity, Some(&self.marker))
    }

    /// Goes on in another file, if that holds all that was read: a copy, or itself compressed.
    /// Gives the file back otherwise.
    ///
    /// # Errors
    /// It is another file.
    pub fn go_on_in(&mut self, mut opened: Opened, now: Monotonic) -> Result<(), Box<Opened>> {
        if !opened.holds(&self.identity, Some(&self.marker)) {
            return Err(Box::new(opened));
        }
        tracing::info!(
            "{}: generation {} goes on at offset {}, in {}",
            self.stream,
            self.generation,
            self.position.given(),
            opened.path.display()
        );
        self.identity.path = opened.path.as_os_str().as_bytes().to_vec();
        (self.identity.device, self.identity.inode) = opened.place();
        (self.size, self.modified_ms) = (opened.size, opened.modified_ms);
        self.known_ms = opened.modified_ms;
        self.content = opened.content;
        self.quiet_since = now;
        Ok(())
    }

    /// Takes note that a glob leads to it, at `path`.
    pub fn found_at(&mut self, path: &Path) {
        self.linked = true;
        self.content.lies_at(path);
        if self.seen_at.as_deref() != Some(path) {
            self.seen_at = Some(path.to_owned());
            if let Ok(path) = fs::canonicalize(path) {
                self.identity.path = path.as_os_str().as_bytes().to_vec();
            }
        }
    }

    /// Takes note that no glob led to it: unlinked, if the path where it lay leads elsewhere. Where
    /// that cannot be told (a file system that is away for a moment) it stays as it is. Returns
    /// whether it was unlinked now.
    pub fn not_found(&mut self, now: Monotonic) -> bool {
        let Some(seen_at) = self.seen_at.as_ref().filter(|_| self.linked) else {
            return false;
        };
        let leads_elsewhere = match fs::metadata(seen_at) {
            Ok(metadata) => (metadata.dev(), metadata.ino()) != self.place(),
            Err(error) => matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ),
        };
        if leads_elsewhere {
            self.linked = false;
            self.quiet_since = now;
        }
        leads_elsewhere
    }

    /// Whether it may be let go until something happens to it: a path leads to it.
    pub fn can_park(&self) -> bool {
        self.linked && self.content.can_park()
    }

    /// Since when nothing happened to it.
    pub fn quiet_since(&self) -> Monotonic {
        self.quiet_since
    }

    /// Lets the file go until something happens to it.
    pub fn park(&mut self) {
        if let Some(path) = self.seen_at.as_ref().filter(|_| self.linked) {
            self.content.park(path, self.place());
        }
    }

    /// It has its turn in the next pass if nothing more happens to it.
    pub fn wants_turn(&mut self) {
        self.wants_turn = true;
    }

    /// Whether it has a turn now: something happened to it, or is due.
    pub fn has_turn(&self, source: &Source, now: Monotonic) -> bool {
        let due = [self.due_at(source), self.tells_at(source)];
        let is_due = due.into_iter().flatten().any(|at| at <= now);
        self.wants_turn || !self.linked || is_due
    }

    /// Whether it may be one of the files that were heard of.
    pub fn is_named_in(&self, changed: &Changed) -> bool {
        changed.holds(self.seen_at.as_deref())
            || changed.holds(Some(Path::new(OsStr::from_bytes(&self.identity.path))))
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

    /// Its identity, where the database should have it anew.
    pub fn identity_worth_storing(&self) -> Option<FileIdentity> {
        let (stored, now) = (&self.stored, &self.identity);
        let moved = stored.path != now.path || self.place() != (stored.device, stored.inode);
        (moved || is_worth_storing(stored.fingerprint_len, now.fingerprint_len))
            .then(|| now.clone())
    }

    /// Its identity, where the database has another.
    pub fn identity_unless_stored(&self) -> Option<FileIdentity> {
        // When it was changed last is written down with each checkpoint.
        let since_ms = self.identity.since_ms;
        let stored = FileIdentity {
            since_ms,
            ..self.stored.clone()
        };
        (stored != self.identity).then(|| self.identity.clone())
    }

    /// Takes note that the database has it.
    pub fn identity_stored(&mut self) {
        self.stored = self.identity.clone();
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
        let turn = self.one_step(desk, source, now)?;
        self.wants_turn = turn != Turn::Idle;
        Ok(turn)
    }

    fn one_step<R: Registry>(
        &mut self,
        desk: &mut Desk<R>,
        source: &Source,
        now: Monotonic,
    ) -> Result<Turn, SourceError> {
        let size = match self.content.look() {
            Ok(look) => {
                self.modified_ms = look.modified_ms;
                look.size
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.content.is_parked() => {
                return self.moved_away(desk, source, now);
            }
            Err(error) => return Ok(self.in_trouble("look at", &error)),
        };
        if size != self.size {
            self.size = size;
            self.quiet_since = now;
        }
        let facts = Facts {
            size,
            linked: self.linked,
            quiet: now.since(self.quiet_since) >= source.plan.close_after,
            expired: self.expired(source, size, now),
        };
        let step = self.position.step(facts);
        if step == Step::Wait && self.tells_at(source).is_some_and(|at| at <= now) {
            return self.tell(desk, source, now);
        }
        match step {
            // Written to, and as long as before: the same bytes, or others in their place.
            Step::Wait if self.modified_ms != self.known_ms => self.look_again(desk, source, now),
            Step::Wait => {
                self.content.rest();
                Ok(Turn::Idle)
            }
            Step::Read => self.read(desk, source, now),
            Step::Cut(at) => {
                desk.registry.cut(self.generation, at)?;
                self.position.cut_at(at);
                Ok(Turn::Moved)
            }
            Step::Close if self.copied => {
                self.close(desk, source, now, reason::TRUNCATED, Tail::Unknown)
            }
            Step::Close if self.content.is_torn() => {
                self.close(desk, source, now, reason::DAMAGED, Tail::Unknown)
            }
            Step::Close => self.close(desk, source, now, reason::ROTATED, Tail::Complete),
            Step::Truncated => self.truncated(desk, source, now),
        }
    }

    fn read<R: Registry>(
        &mut self,
        desk: &mut Desk<R>,
        source: &Source,
        now: Monotonic,
    ) -> Result<Turn, SourceError> {
        let Some(permit) = desk.budget.take(BATCH_BYTES, PATIENCE) else {
            return Ok(Turn::NoRoom);
        };
        let start = self.position.read_from();
        let mut permit = Some(permit);
        for len in [CHUNK_BYTES, source.plan.framing.chunk_bytes_max()] {
            let read = match read_chunk(&mut self.content, &mut desk.chunk, start, len) {
                Ok(read) => read,
                // A long way into something compressed: others have their turn.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Turn::Behind),
                Err(error) => return Ok(self.in_trouble("read", &error)),
            };
            let is_marked = identity::is_at(&self.marker, &desk.chunk[..read.before]);
            // After the read: what was read is then of the file that it is taken for.
            match self.look_at_head(desk)? {
                Ok(Match::Same | Match::Grown) if is_marked => self.trouble = None,
                Ok(_) => {
                    drop(permit);
                    return self.truncated(desk, source, now);
                }
                Err(error) => return Ok(self.in_trouble("read", &error)),
            }
            match self.give(desk, source, read, &mut permit, (None, now))? {
                Turn::Moved if !read.at_end => return Ok(Turn::Behind),
                Turn::Idle if !read.at_end => {}
                Turn::NoRoom => return Ok(Turn::NoRoom),
                turn => {
                    self.position.examined(start + read.len as u64);
                    self.known_ms = self.modified_ms;
                    return Ok(turn);
                }
            }
            if read.len >= source.plan.framing.chunk_bytes_max() {
                return self.pass_nuls(desk, source, read, &mut permit, now);
            }
        }
        // The longest record is shorter than a chunk: it would have been given.
        Ok(Turn::Idle)
    }

    /// A chunk of nothing but the end of a record and NULs: what lies behind them decides.
    fn pass_nuls<R: Registry>(
        &mut self,
        desk: &Desk<R>,
        source: &Source,
        read: Read,
        permit: &mut Option<Permit>,
        now: Monotonic,
    ) -> Result<Turn, SourceError> {
        let behind = self.position.read_from() + read.len as u64;
        let seen = (self.waiting.nuls_seen).filter(|(_, as_of)| *as_of == self.modified_ms);
        let from = seen.map_or(behind, |(offset, _)| offset.max(behind));
        let (offset, over) = match self.content.skip_nuls(from) {
            Ok(skipped) => skipped,
            Err(error) => return Ok(self.in_trouble("read", &error)),
        };
        self.waiting.nuls_seen = Some((offset, self.modified_ms));
        // At a cut they are over, whatever follows now.
        let mut cuts = self.position.cuts().iter().copied();
        let cut = cuts.find(|cut| (behind..=offset).contains(cut));
        match over {
            _ if cut.is_some() => self.give(desk, source, read, permit, (cut, now)),
            NulsOver::Content => self.give(desk, source, read, permit, (Some(offset), now)),
            NulsOver::NotYet => Ok(Turn::Behind),
            NulsOver::End => {
                self.position.examined(offset);
                self.known_ms = self.modified_ms;
                Ok(Turn::Idle)
            }
        }
    }

    /// Gives away the whole records of what was read.
    fn give<R: Registry>(
        &mut self,
        desk: &Desk<R>,
        source: &Source,
        read: Read,
        permit: &mut Option<Permit>,
        (nuls_until, now): (Option<u64>, Monotonic),
    ) -> Result<Turn, SourceError> {
        let start = self.position.read_from();
        let bytes = &desk.chunk[..read.before + read.len];
        if start == 0 {
            self.encoding = source.plan.framing.encoding.resolve(bytes);
        }
        let chunk = Chunk {
            bytes: &bytes[read.before..],
            start,
            inside: self.inside,
            nuls_until,
        };
        let cuts = self.position.cuts().to_vec();
        let mut frames = Frames::new(&source.plan.framing, self.encoding, chunk, &cuts);
        let (moment, mut turn) = ((stamp_ms(), now), Turn::Idle);
        loop {
            let mut ahead = frames.clone();
            if ahead.next().is_none() {
                self.waiting.event = ahead.pending();
                self.waiting.nuls = ahead.ends_with_nuls();
                return Ok(turn);
            }
            let taken = permit.take();
            let Some(permit) = taken.or_else(|| desk.budget.take(BATCH_BYTES, PATIENCE)) else {
                return Ok(Turn::NoRoom);
            };
            let Some(given) = self.give_batch(desk, source, &mut frames, permit, moment)? else {
                return Ok(Turn::NoRoom);
            };
            let taken = usize::try_from(frames.offset() - start).unwrap_or(usize::MAX);
            self.position.took(given, frames.offset());
            self.inside = frames.inside();
            // Behind NULs that reach beyond the chunk nothing else lies before the offset.
            self.marker = match bytes.get(..read.before.saturating_add(taken)) {
                Some(before) => identity::marker(frames.offset(), before),
                None => identity::marker(frames.offset(), &[0; MARKER_BYTES]),
            };
            self.identity.since_ms = self.modified_ms;
            let since_ms = self.identity.since_ms;
            desk.registry.mark(self.generation, self.marker, since_ms);
            turn = Turn::Moved;
        }
    }

    /// Sends a batch of what `frames` hold, as much as fits, and returns where it ends; none where
    /// the RAM window had no room: they hold it still.
    fn give_batch<'a, R>(
        &mut self,
        desk: &Desk<R>,
        source: &Source,
        frames: &mut Frames<'a>,
        mut permit: Permit,
        moment: (u64, Monotonic),
    ) -> Result<Option<u64>, SourceError> {
        let plan = &source.plan.process;
        let mut draft = Draft::new(self.position.given());
        let before = (plan.has_gates().then(|| self.state.clone()), frames.clone());
        let writer = &source.writer;
        let mut stage = Stage::new(plan, writer, self.generation, &mut self.state, moment);
        let mut ahead = frames.clone();
        loop {
            let start = ahead.offset();
            let Some(frame) = ahead.next() else { break };
            let taken = match frame.line() {
                Some(line) => stage.line(&mut draft, &line),
                None => stage.nuls(&mut draft, start, frame.end),
            };
            if !taken {
                break;
            }
            *frames = ahead.clone();
        }
        stage.tell_filtered(&mut draft, frames.offset());
        let tally = stage.tally;
        if draft.bytes() > BATCH_BYTES {
            // One long record of which JSON makes more. First given back, then asked for anew: who
            // waits while holding could wait for ever.
            drop(permit);
            match desk.budget.take(draft.bytes(), PATIENCE) {
                Some(larger) => permit = larger,
                None => {
                    // The lines are offered again: nothing of them was seen.
                    self.state = before.0.unwrap_or_default();
                    *frames = before.1;
                    return Ok(None);
                }
            }
        }
        plan.counters.add(tally);
        let given = draft.end();
        if let Some(batch) = draft.finish(&self.stream, self.generation, Some(permit)) {
            send(&desk.batches, batch)?;
        }
        Ok(Some(given))
    }

    /// Finds out whether it is still the file that was read.
    fn look_again<R: Registry>(
        &mut self,
        desk: &mut Desk<R>,
        source: &Source,
        now: Monotonic,
    ) -> Result<Turn, SourceError> {
        let head = self.look_at_head(desk)?;
        let before = read_before(&mut self.content, self.marker.end);
        match head.and_then(|head| Ok((head, before?))) {
            Ok((Match::Same | Match::Grown, before)) if identity::is_at(&self.marker, &before) => {
                self.known_ms = self.modified_ms;
                // As long as before: where it ended with NULs, lines may lie there now.
                if self.waiting.nuls {
                    return self.read(desk, source, now);
                }
                Ok(Turn::Idle)
            }
            Ok(_) => self.truncated(desk, source, now),
            Err(error) => Ok(self.in_trouble("read", &error)),
        }
    }

    /// It was not held open, and lies no longer where it lay: renamed, or deleted. All that had been
    /// seen of it was read.
    fn moved_away<R: Registry>(
        &mut self,
        desk: &Desk<R>,
        source: &Source,
        now: Monotonic,
    ) -> Result<Turn, SourceError> {
        match by_place(&self.identity, Some(&self.marker), &Found::default()) {
            Some(opened) => {
                self.content = opened.content;
                Ok(Turn::Moved)
            }
            None => self.close(desk, source, now, reason::VANISHED, Tail::Unknown),
        }
    }

    /// What was read is no longer there. A rotation that copies and then cuts has left it in the
    /// copy: that is read to its end. Otherwise this is the end.
    fn truncated<R: Registry>(
        &mut self,
        desk: &Desk<R>,
        source: &Source,
        now: Monotonic,
    ) -> Result<Turn, SourceError> {
        let own = HashSet::from([self.place()]);
        let copy = by_content(&self.identity, Some(&self.marker), &own);
        if copy.is_some_and(|copy| self.go_on_in(copy, now).is_ok()) {
            (self.linked, self.copied) = (false, true);
            let identity = [(self.generation, self.identity.clone())];
            desk.registry.identify(&identity)?;
            self.identity_stored();
            return Ok(Turn::Copied);
        }
        self.close(desk, source, now, reason::TRUNCATED, Tail::Unknown)
    }

    /// Gives what is held back of its lines away.
    fn tell<R>(
        &mut self,
        desk: &Desk<R>,
        source: &Source,
        now: Monotonic,
    ) -> Result<Turn, SourceError> {
        let Some(permit) = desk.budget.take(BATCH_BYTES, PATIENCE) else {
            return Ok(Turn::NoRoom);
        };
        let mut draft = Draft::new(self.position.given());
        let (plan, moment) = (&source.plan.process, (stamp_ms(), now));
        let mut stage = Stage::new(
            plan,
            &source.writer,
            self.generation,
            &mut self.state,
            moment,
        );
        let told = stage.tell(&mut draft);
        debug_assert!(told, "an empty batch holds two records");
        plan.counters.add(stage.tally);
        let given = draft.end();
        if let Some(batch) = draft.finish(&self.stream, self.generation, Some(permit)) {
            send(&desk.batches, batch)?;
        }
        self.position.told(given);
        Ok(Turn::Moved)
    }

    /// Compares the file's first bytes with what it is known by, and learns of more of them. Where
    /// nothing but the inode told it until now, that is committed before its first record goes.
    fn look_at_head<R: Registry>(
        &mut self,
        desk: &Desk<R>,
    ) -> Result<io::Result<Match>, SourceError> {
        if self.content.is_packed() {
            // Nobody writes into one in place.
            return Ok(Ok(Match::Same));
        }
        let mut head = [0; FINGERPRINT_BYTES];
        let bytes = match self.content.read(&mut head, 0) {
            Ok(len) => &head[..len],
            Err(error) => return Ok(Err(error)),
        };
        let (device, inode) = self.place();
        let seen = Head {
            device,
            inode,
            bytes,
        };
        let found = match_identity(&self.identity, &seen);
        if found == Match::Grown {
            let (len, fingerprint) = identity::fingerprint(bytes);
            self.identity.fingerprint_len = len;
            self.identity.fingerprint = fingerprint;
            if self.stored.fingerprint_len == 0 {
                let identity = [(self.generation, self.identity.clone())];
                desk.registry.identify(&identity)?;
                self.identity_stored();
            }
        }
        Ok(Ok(found))
    }

    fn close<R>(
        &mut self,
        desk: &Desk<R>,
        source: &Source,
        now: Monotonic,
        reason: &str,
        tail: Tail,
    ) -> Result<Turn, SourceError> {
        if self.state.holds() {
            return self.tell(desk, source, now);
        }
        let range = (self.position.given(), self.position.read_from());
        let (stream, generation) = (&self.stream, self.generation);
        if !close_generation(
            desk,
            &source.writer,
            stream,
            generation,
            range,
            reason,
            tail,
        )? {
            return Ok(Turn::NoRoom);
        }
        Ok(Turn::Ended {
            cut: reason == reason::TRUNCATED && !self.copied,
        })
    }

    fn in_trouble(&mut self, what: &str, error: &io::Error) -> Turn {
        let text = error.to_string();
        if self.trouble.as_ref() != Some(&text) {
            tracing::warn!(
                "cannot {what} {}: {text}; it is tried again, from offset {}",
                self.path().display(),
                self.position.read_from()
            );
            self.trouble = Some(text);
        }
        Turn::Idle
    }
}
