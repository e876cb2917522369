//! Known generations whose file is out of reach: it may not be read, its disk fails, its file system is
//! not mounted. They stay open, and are looked for until it is certain what became of them. The bytes
//! that a file may hold are not worth a guess: taken for gone, it would be read twice once it is back.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use headwater_record::StreamId;

use super::Roster;
use super::adopt::Waiting;
use super::give_way::Farewell;
use crate::checkpoint::{FileIdentity, OpenGeneration, Origin, Registry};
use crate::clock::{self, Monotonic};
use crate::discover::Found;
use crate::tail::opened::Opened;
use crate::tail::reader::Followed;
use crate::tail::resume::{Left, TakenUp, locate, take_up};
use crate::tail::siblings::{may_become, path_of};

/// Wait before it is looked for again, doubling up to the longest: a disk that fails takes seconds to say so.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// One of them.
#[derive(Debug)]
pub(super) struct Away {
    pub(super) source: usize,
    open: OpenGeneration,
    /// Whether it was its stream's last file when it was found to be away.
    is_youngest: bool,
    why: String,
    wait: Duration,
    next: Monotonic,
}

impl Away {
    pub(super) fn new(
        source: usize,
        open: OpenGeneration,
        is_youngest: bool,
        why: String,
        now: Monotonic,
    ) -> Self {
        let away = Self {
            source,
            open,
            is_youngest,
            why,
            wait: FIRST_WAIT,
            next: now.plus(FIRST_WAIT),
        };
        away.say();
        away
    }

    fn say(&self) {
        tracing::warn!(
            "{}: generation {} stays open at offset {}: {}; it is looked for until it is found, or gone \
             for certain",
            self.open.stream,
            self.open.generation,
            self.open.settled,
            self.why
        );
    }

    /// Whether it was the last file of a stream.
    pub(super) fn is_last_of(&self, index: usize, stream: &StreamId) -> bool {
        self.is_youngest && self.source == index && self.open.stream == *stream
    }

    fn identity(&self) -> Option<&FileIdentity> {
        match &self.open.origin {
            Origin::File(identity) => Some(identity),
            Origin::Sensor => None,
        }
    }

    /// Whether a file that can be read is the one: its inode, or itself compressed.
    fn is(&self, file: &mut Opened) -> bool {
        let Some(known) = self.identity() else {
            return false;
        };
        let marker = self.open.farthest().marker.as_ref();
        (file.is_at(known, marker) && file.may_have(marker))
            || (file.is_packed() && self.may_lie_in(file))
    }

    /// Whether a file may be a copy of the one, or itself compressed.
    fn may_lie_in(&self, file: &mut Opened) -> bool {
        self.identity().is_some_and(|known| {
            file.begins_as(known)
                && may_become(&path_of(known), &file.path)
                && file.may_have(self.open.farthest().marker.as_ref())
        })
    }

    /// It is still away.
    fn put_off(&mut self, why: String, now: Monotonic) {
        if self.why != why {
            self.why = why;
            self.say();
        }
        self.wait = self.wait.saturating_mul(2).min(LONGEST_WAIT);
        self.next = now.plus(self.wait);
    }
}

impl<R: Registry> Roster<R> {
    /// Has a source scanned when one of its files that are away is to be looked for again.
    pub(super) fn wake_for_away(&mut self, index: usize) {
        let ours = self.away.iter().filter(|away| away.source == index);
        if let Some(next) = ours.map(|away| away.next).min() {
            self.next_scans[index] = self.next_scans[index].min(next);
        }
    }

    /// Looks again for a source's files that are away, where it is time to.
    pub(super) fn look_for_away(&mut self, index: usize, found: &Found, now: Monotonic) {
        // As at the start: what nothing tells but its inode comes last, behind all of the others.
        let by_inode = |away: &Away| {
            away.identity()
                .is_none_or(|known| known.fingerprint_len == 0)
        };
        let is_due = |away: &Away| away.source == index && away.next <= now;
        let all = (self.away.iter()).any(|away| is_due(away) && by_inode(away));
        let is_due = |away: &mut Away| is_due(away) || (all && away.source == index);
        let mut due: Vec<_> = self.away.extract_if(.., is_due).collect();
        due.sort_by_key(by_inode);
        for away in due {
            let ours = self.followed.iter().filter(|file| file.source == index);
            let taken: HashSet<_> = ours.map(Followed::place).collect();
            let Some(known) = away.identity() else {
                continue;
            };
            let located = locate(&away.open, known, found, &taken);
            let framing = &self.sources[index].plan.framing;
            let taken_up = take_up((index, framing), &away.open, known, located, now);
            self.came_back(away, taken_up, now);
        }
    }

    /// Takes up a file that a scan led to, if it is one that was away. Gives it back otherwise.
    pub(super) fn take_back(
        &mut self,
        index: usize,
        mut file: Opened,
        path: &Path,
        now: Monotonic,
    ) -> Option<Opened> {
        let mut away = self.away.iter();
        let is_it = |away: &Away| away.source == index && away.is(&mut file);
        let Some(nth) = away.position(is_it) else {
            return Some(file);
        };
        let away = self.away.remove(nth);
        let known = away.identity()?;
        let framing = &self.sources[index].plan.framing;
        let mut taken_up = take_up((index, framing), &away.open, known, Ok(Some(file)), now);
        if let TakenUp::Followed(file) = &mut taken_up {
            file.found_at(path);
        }
        self.came_back(away, taken_up, now);
        None
    }

    fn came_back(&mut self, mut away: Away, taken_up: TakenUp, now: Monotonic) {
        match taken_up {
            TakenUp::Followed(mut file) => {
                file.stop_decoding();
                let lay_at = away.identity().map(path_of);
                if away.is_youngest && lay_at.is_some_and(|path| path != file.path()) {
                    // Others may have come and gone at its path.
                    self.cut[away.source].push(Left::of(&file));
                }
                // In the order of its stream.
                let younger = (self.followed.iter())
                    .position(|other| other.source == file.source && other.stream == file.stream);
                let at = younger.unwrap_or(self.followed.len());
                self.followed.insert(at, *file);
                self.begin_passes_anew();
            }
            TakenUp::Gone(reason) => {
                if let Some(last) = away.identity().filter(|_| away.is_youngest) {
                    self.cut[away.source].push(Left {
                        stream: away.open.stream.clone(),
                        last: last.clone(),
                    });
                }
                (self.closed).remember_gone(away.source, &away.open, clock::wall_ms());
                let farewells = Farewell::all_gone(away.source, &away.open, reason);
                self.farewells.extend(farewells);
            }
            TakenUp::Away(why) => {
                away.put_off(why, now);
                self.away.push(away);
            }
        }
    }
}

/// Whether a file beside a log is one that is away: then it is looked for at once.
pub(super) fn is_among(all: &mut [Away], index: usize, file: &mut Opened) -> bool {
    let mut ours = all.iter_mut().filter(|away| away.source == index);
    let found = ours.find(|away| away.is(file) || away.may_lie_in(file));
    found.map(|away| away.next = Monotonic(0)).is_some()
}

/// Whether a file may be a copy of one that is away. That is looked for at once then, the first time: where it is not
/// among those that wait already.
pub(super) fn may_hold_one(
    all: &mut [Away],
    index: usize,
    file: &mut Opened,
    waiting: &HashMap<(u64, u64), Waiting>,
) -> bool {
    let is_first = !waiting.contains_key(&file.place());
    let mut ours = all.iter_mut().filter(|away| away.source == index);
    let found = ours.find(|away| away.may_lie_in(file));
    found.is_some_and(|away| {
        if is_first {
            away.next = Monotonic(0);
        }
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tail::opened::refused::{read_once, refuse};

    #[test]
    fn what_cannot_be_read_where_the_marker_lies_may_be_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, open) = read_once(folder.path());
        let away = Away::new(0, open, true, String::new(), Monotonic(0));
        assert!(away.is(&mut file));
        refuse(&mut file);
        assert!(away.is(&mut file));
    }
}
