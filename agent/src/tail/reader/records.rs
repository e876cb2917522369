//! From a file's bytes to batches: a chunk is read, framed and processed, and its whole records are
//! given away, as much as the RAM window has room for.

use std::io;

use super::{Followed, Turn};
use crate::budget::Permit;
use crate::checkpoint::Registry;
use crate::clock::{Monotonic, stamp_ms};
use crate::discover::identity::{self, MARKER_BYTES, Match};
use crate::frame::frames::{Chunk, Frames};
use crate::process::{BATCH_BYTES, Draft, Stage};
use crate::sources::{SourceError, send};
use crate::tail::content::{CHUNK_BYTES, NulsOver, Read, read_chunk};
use crate::tail::desk::{Desk, PATIENCE, Source};

fn room<R>(desk: &Desk<R>, source: &Source, bytes: usize) -> Option<Permit> {
    desk.budget.take(source.plan.lane, bytes, PATIENCE)
}

impl Followed {
    pub(super) fn read<R: Registry>(
        &mut self,
        desk: &mut Desk<R>,
        source: &Source,
        now: Monotonic,
    ) -> Result<Turn, SourceError> {
        let Some(permit) = room(desk, source, BATCH_BYTES) else {
            return Ok(Turn::NoRoom);
        };
        let start = self.position.read_from();
        let mut permit = Some(permit);
        for len in [CHUNK_BYTES, source.plan.framing.chunk_bytes_max()] {
            let end = self.goes_on.as_ref().map_or(u64::MAX, |on| on.at);
            let left = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
            let read = match read_chunk(&mut self.content, &mut desk.chunk, start, len.min(left)) {
                // What lies behind is the next generation's.
                Ok(read) => Read {
                    at_end: read.at_end || read.len == left,
                    ..read
                },
                // A long way into something compressed: others have their turn.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Turn::Behind),
                Err(error) => return Ok(self.in_trouble("read", &error)),
            };
            let is_marked = identity::is_at(&self.marker, &desk.chunk[..read.before]);
            // After the read: what was read is then of the file that it is taken for.
            match self.look_at_head(desk, now)? {
                Ok(Match::Same | Match::Grown) if is_marked => self.trouble = None,
                Ok(_) => {
                    drop(permit);
                    return self.truncated(desk, source, now);
                }
                Err(error) => return Ok(self.in_trouble("read", &error)),
            }
            if self.waits_for_entry() {
                return Ok(Turn::Refused);
            }
            match self.give(desk, source, read, &mut permit, (None, now))? {
                Turn::Moved if !read.at_end => return Ok(Turn::Behind),
                Turn::Idle if !read.at_end => {}
                full @ (Turn::NoRoom | Turn::Filled) => return Ok(full),
                turn => {
                    self.position.examined(start + read.len as u64);
                    self.known_ms = self.modified_ms;
                    if turn == Turn::Idle {
                        self.content.rest();
                    }
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
            let full = match turn {
                Turn::Moved => Turn::Filled,
                _ => Turn::NoRoom,
            };
            let Some(permit) = taken.or_else(|| room(desk, source, BATCH_BYTES)) else {
                return Ok(full);
            };
            let Some(given) = self.give_batch(desk, source, &mut frames, permit, moment)? else {
                return Ok(full);
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
            match room(desk, source, draft.bytes()) {
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

    /// Gives what is held back of its lines away.
    pub(super) fn tell<R>(
        &mut self,
        desk: &Desk<R>,
        source: &Source,
        now: Monotonic,
    ) -> Result<Turn, SourceError> {
        let Some(permit) = room(desk, source, BATCH_BYTES) else {
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
}
