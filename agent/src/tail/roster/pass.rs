//! The turns of the files: a pass gives each of a lane one, the highest lane first.
//!
//! Where a lane finds no room in the RAM window its pass ends, and goes on there the next time, or behind the file
//! that took what there was: so each of its files has its turn. The lanes below are not asked then, though one of which
//! nothing is under way may have its share: they have their turns once those above found room or nothing to do. Those
//! above had theirs before it, so a lane that is held up holds up no higher one; and the wait for room is one for a pass,
//! whatever is held up.

use std::collections::HashSet;

use headwater_record::StreamId;
use headwater_record::notice::reason;

use super::give_way::Farewell;
use super::{Left, Roster};
use crate::checkpoint::Registry;
use crate::clock::{self, Monotonic};
use crate::discover::watch::Changed;
use crate::sources::SourceError;
use crate::spool::Lane;
use crate::stop::Stop;
use crate::tail::decoding::{bound_decoding, may_decode};
use crate::tail::reader::{Followed, Turn};

/// What came of one pass over all files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Some file moved: there may be more.
    Moved,
    /// Nothing to do until something changes.
    Idle,
    /// The RAM window is full, for one lane at least.
    NoRoom,
}

/// Where the turns of one lane are.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Whose turn is next; 0 unless a pass had to end early.
    cursor: usize,
    /// Streams that have not come to their younger files yet, in the pass that is under way.
    busy: HashSet<StreamId>,
}

impl<R: Registry> Roster<R> {
    /// Gives each file one turn to which something happened, beginning in each lane where its last pass had to
    /// end. `changed`: what was heard of; what was scanned is looked at too, and what moved in the
    /// last pass.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn pass(
        &mut self,
        changed: &Changed,
        now: Monotonic,
        stop: &Stop,
    ) -> Result<Pass, SourceError> {
        // First, and of all: where the pass ends early, nothing heard of is forgotten.
        let heard_of = (self.followed.iter_mut()).filter(|file| file.is_named_in(changed));
        heard_of.for_each(Followed::was_heard_of);
        bound_decoding(&mut self.followed, &self.sources);
        let mut pass = Pass::Idle;
        for lane in Lane::ALL {
            if !self.say_farewells(lane)? {
                return Ok(Pass::NoRoom);
            }
            match self.pass_of(lane, now, stop)? {
                Pass::Idle => {}
                Pass::Moved => pass = Pass::Moved,
                Pass::NoRoom => return Ok(Pass::NoRoom),
            }
        }
        Ok(pass)
    }

    fn pass_of(&mut self, lane: Lane, now: Monotonic, stop: &Stop) -> Result<Pass, SourceError> {
        let is_whole = self.turns(lane).cursor == 0;
        // One that began in the middle: those before that may wait for their turns.
        let mut pass = if is_whole { Pass::Idle } else { Pass::Moved };
        if is_whole {
            self.turns(lane).busy.clear();
        }
        // Oldest first, and none before the older ones of its stream are drained: so that the end of
        // a rotated file goes before the beginning of the next.
        let mut turns = 0_usize;
        while let Some(nth) = self.next_of(lane) {
            if stop.is_set() {
                return Ok(pass);
            }
            let file = &self.followed[nth];
            let has_turn = file.has_turn(&self.sources[file.source], now);
            let is_held_up = self.turns[lane.index()].busy.contains(&file.stream)
                || has_turn && !may_decode(&mut self.followed, nth, &self.sources, now);
            let turn = match is_held_up {
                true => {
                    self.followed[nth].wants_turn();
                    self.is_behind(lane, nth);
                    None
                }
                false if has_turn => Some(self.turn_of(nth, now)?),
                false => None,
            };
            let Some(turn) = turn else {
                self.turns(lane).cursor += 1;
                continue;
            };
            let file = &self.followed[nth];
            match turn {
                Turn::Behind if !file.is_linked() => {
                    self.is_behind(lane, nth);
                    pass = Pass::Moved;
                }
                Turn::Moved | Turn::Behind => pass = Pass::Moved,
                Turn::Idle => {}
                // The next of its stream waits behind it.
                Turn::Refused => self.is_behind(lane, nth),
                Turn::Copied => {
                    // The original lies at its path still, and is a new generation.
                    self.next_scans[file.source] = now;
                    pass = Pass::Moved;
                }
                Turn::NoRoom => return Ok(Pass::NoRoom),
                // It had its turn: where room comes by the batch, the others would never have theirs.
                Turn::Filled => {
                    if !file.is_linked() {
                        self.is_behind(lane, nth);
                    }
                    self.turns(lane).cursor += 1;
                    return Ok(Pass::NoRoom);
                }
                Turn::Ended { cut } => {
                    self.end(nth, cut, now);
                    pass = Pass::Moved;
                    continue;
                }
            }
            self.turns(lane).cursor += 1;
            turns += 1;
            if turns.is_multiple_of(self.park_every()) {
                self.park_surplus();
            }
        }
        self.turns(lane).cursor = 0;
        self.park_surplus();
        Ok(pass)
    }

    fn turn_of(&mut self, nth: usize, now: Monotonic) -> Result<Turn, SourceError> {
        if let Some(turn) = self.before_turn(nth, now)? {
            return Ok(turn);
        }
        let file = &mut self.followed[nth];
        file.turn(&mut self.desk, &self.sources[file.source], now)
    }

    fn turns(&mut self, lane: Lane) -> &mut Turns {
        &mut self.turns[lane.index()]
    }

    /// The younger files of its stream wait for it.
    fn is_behind(&mut self, lane: Lane, nth: usize) {
        let stream = self.followed[nth].stream.clone();
        self.turns(lane).busy.insert(stream);
    }

    /// Moves a lane's cursor on to the next file of that lane, and returns that.
    fn next_of(&mut self, lane: Lane) -> Option<usize> {
        let (sources, from) = (&self.sources, self.turns[lane.index()].cursor);
        let mut rest = self.followed.iter().skip(from);
        let nth = from + rest.position(|file| sources[file.source].plan.lane == lane)?;
        self.turns(lane).cursor = nth;
        Some(nth)
    }

    /// The file whose turn it was is over.
    fn end(&mut self, nth: usize, cut: bool, now: Monotonic) {
        let file = self.unfollow(nth);
        // A truncated file lies at its path still, and is a new generation.
        self.next_scans[file.source] = now;
        self.count();
        self.closed.remember(&file, !cut, clock::wall_ms());
        if file.ends_at().is_some() {
            // Where it is still the same file, its next generation begins where this one was read to.
            let read = (file.marker(), file.marker().end);
            self.cut_short.insert(file.place(), read);
        }
        for later in file.later() {
            // Nothing of it was given; what it was to be read from is gone.
            let farewell = Farewell::gone(file.source, later.clone(), reason::TRUNCATED);
            self.farewells.push(farewell);
        }
        if cut {
            self.cut[file.source].push(Left::of(&file));
        }
    }

    /// Takes a file out. Passes that were cut short go on with the same file, or the one behind it.
    pub(super) fn unfollow(&mut self, nth: usize) -> Followed {
        for turns in &mut self.turns {
            turns.cursor -= usize::from(nth < turns.cursor);
        }
        self.followed.remove(nth)
    }

    /// Other files are followed, or in another order.
    pub(super) fn begin_passes_anew(&mut self) {
        self.turns = <[Turns; Lane::COUNT]>::default();
    }

    /// Closes the generations of a lane whose file is gone; returns whether the RAM window had room for it.
    fn say_farewells(&mut self, lane: Lane) -> Result<bool, SourceError> {
        for nth in (0..self.farewells.len()).rev() {
            let farewell = &mut self.farewells[nth];
            if self.sources[farewell.source].plan.lane != lane {
                continue;
            }
            if !farewell.say(&self.desk, &self.sources)? {
                return Ok(false);
            }
            self.farewells.remove(nth);
        }
        Ok(true)
    }
}
