//! What is done in one turn: the file is looked at, and one thing follows from it. Here are the ways
//! that a file ends, or turns out to be another; what it holds is read in [`super::records`].

use std::collections::HashSet;
use std::fmt;
use std::io;

use headwater_record::notice::{Tail, reason};

use super::{Followed, Turn, Waiting, position_of};
use crate::checkpoint::{Marker, Origin, Registry};
use crate::clock::Monotonic;
use crate::discover::Found;
use crate::discover::identity::{self, FINGERPRINT_BYTES, Head, Match, match_identity};
use crate::process::State;
use crate::sources::SourceError;
use crate::tail::content::read_before;
use crate::tail::desk::{Desk, Source, close_generation};
use crate::tail::locate::{by_content, by_place};
use crate::tail::position::{Facts, Step};

impl Followed {
    pub(super) fn one_step<R: Registry>(
        &mut self,
        desk: &mut Desk<R>,
        source: &Source,
        now: Monotonic,
    ) -> Result<Turn, SourceError> {
        let size = match self.content.look() {
            Ok(look) => {
                (self.looks, self.modified_ms) = (look.looks, look.looks.modified_ms);
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
        let facts = match &self.goes_on {
            // All of it was there when the system started.
            Some(goes_on) if size < goes_on.at => return self.truncated(desk, source, now),
            Some(goes_on) => Facts {
                size: goes_on.at,
                linked: false,
                quiet: true,
                expired: None,
            },
            None => Facts {
                size,
                linked: self.linked,
                quiet: now.since(self.quiet_since) >= source.plan.close_after,
                expired: self.expired(source, size, now),
            },
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
                if !desk.enter(now, |registry| registry.try_cut(self.generation, at))? {
                    return Ok(Turn::Refused);
                }
                self.position.cut_at(at);
                Ok(Turn::Moved)
            }
            Step::Close if self.goes_on.is_some() => self.go_over(desk, source, now),
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

    /// Finds out whether it is still the file that was read.
    fn look_again<R: Registry>(
        &mut self,
        desk: &mut Desk<R>,
        source: &Source,
        now: Monotonic,
    ) -> Result<Turn, SourceError> {
        let head = self.look_at_head(desk, now)?;
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
            Ok(Some(opened)) => {
                self.content = opened.content;
                Ok(Turn::Moved)
            }
            Ok(None) => self.close(desk, source, now, reason::VANISHED, Tail::Unknown),
            Err(why) => Ok(self.in_trouble("go on", &why)),
        }
    }

    /// What was read is no longer there. A rotation that copies and then cuts has left it in the
    /// copy: that is read to its end. Otherwise this is the end.
    pub(super) fn truncated<R: Registry>(
        &mut self,
        desk: &mut Desk<R>,
        source: &Source,
        now: Monotonic,
    ) -> Result<Turn, SourceError> {
        let own = HashSet::from([self.place()]);
        let copy = by_content(&self.identity, Some(&self.marker), &own);
        let copy = copy.unwrap_or_else(|why| {
            tracing::warn!(
                "{}: it was cut, and {why}: a copy may be there",
                self.stream
            );
            None
        });
        if copy.is_some_and(|copy| self.go_on_in(copy, now).is_ok()) {
            (self.linked, self.copied) = (false, true);
            let identity = [(self.generation, self.identity.clone())];
            // Refused, it is entered with the next scan: the copy is found by what is known already.
            if desk.enter(now, |registry| registry.try_identify(&identity))? {
                self.identity_stored();
            }
            return Ok(Turn::Copied);
        }
        self.close(desk, source, now, reason::TRUNCATED, Tail::Unknown)
    }

    /// Compares the file's first bytes with what it is known by, and learns of more of them. Where
    /// nothing but the inode told it until now, that is committed before its first record goes: see
    /// [`Followed::waits_for_entry`].
    pub(super) fn look_at_head<R: Registry>(
        &mut self,
        desk: &mut Desk<R>,
        now: Monotonic,
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
        }
        if self.waits_for_entry() {
            let identity = [(self.generation, self.identity.clone())];
            if desk.enter(now, |registry| registry.try_identify(&identity))? {
                self.identity_stored();
            }
        }
        Ok(Ok(found))
    }

    /// Whether its first bytes are known, and the database does not have them yet.
    pub(super) fn waits_for_entry(&self) -> bool {
        self.stored.fingerprint_len == 0 && self.identity.fingerprint_len > 0
    }

    fn close<R: Registry>(
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
        let cut = reason == reason::TRUNCATED && !self.copied;
        // First: whoever settles the close takes it along. What was noted before there was no room may not be so any
        // more.
        match cut {
            true => (desk.registry).mark(generation, self.marker, self.identity.since_ms),
            false => (desk.registry).read_whole(generation, &self.identity, self.marker),
        }
        if !close_generation(desk, source, stream, generation, range, reason, tail)? {
            return Ok(Turn::NoRoom);
        }
        Ok(Turn::Ended { cut })
    }

    /// Ends its generation, and goes on under the next.
    fn go_over<R: Registry>(
        &mut self,
        desk: &mut Desk<R>,
        source: &Source,
        now: Monotonic,
    ) -> Result<Turn, SourceError> {
        if self.state.holds() {
            return self.tell(desk, source, now);
        }
        let next = self.goes_on.as_ref().and_then(|on| on.under.as_deref());
        let next = next.map_or((self.position.read_from(), None), |next| {
            (next.read_from(), next.marker)
        });
        // Of the next, too, something may have been read: before the agent was killed.
        let before = match self.before_next(next) {
            Ok(Some(before)) => before,
            Ok(None) => return self.truncated(desk, source, now),
            Err(error) => return Ok(self.in_trouble("read", &error)),
        };
        let range = (self.position.given(), self.position.read_from());
        (desk.registry).mark(self.generation, self.marker, self.identity.since_ms);
        if !close_generation(
            desk,
            source,
            &self.stream,
            self.generation,
            range,
            reason::POWER_CUT,
            Tail::Unknown,
        )? {
            return Ok(Turn::NoRoom);
        }
        let Some(next) = self.goes_on.as_mut().and_then(|on| on.under.take()) else {
            // Lost by a salvage: the file is found anew, as one of which was read what lies before.
            return Ok(Turn::Ended { cut: true });
        };
        tracing::info!(
            "{}: generation {} ends at offset {}, and goes on as {}",
            self.stream,
            self.generation,
            range.1,
            next.generation
        );
        self.generation = next.generation;
        self.position = position_of(&next);
        self.goes_on = next.goes_on;
        if let Origin::File(stored) = next.origin {
            self.stored = stored;
        }
        self.marker = identity::marker(self.position.read_from(), &before);
        self.inside = self.encoding.is_inside(&before);
        (self.state, self.waiting) = (State::default(), Waiting::default());
        // As above: there may be more of it.
        Ok(Turn::Behind)
    }

    /// What lies before an offset from which the next generation is read on; none where the file is not the one any more
    /// of which that was read.
    fn before_next(
        &mut self,
        (from, marker): (u64, Option<Marker>),
    ) -> io::Result<Option<Vec<u8>>> {
        if let Some(marker) = marker
            && !identity::is_at(&marker, &read_before(&mut self.content, marker.end)?)
        {
            return Ok(None);
        }
        read_before(&mut self.content, from).map(Some)
    }

    pub(super) fn in_trouble(&mut self, what: &str, error: &dyn fmt::Display) -> Turn {
        // Others are not to wait for as long as the trouble lasts.
        self.content.stop_decoding();
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
