//! Files that lay at a log's path between two scans, or while the agent was away: they are among its
//! rotated files, and younger than the youngest that is known. And what lay in a log of which nothing was
//! read: copies of it, that were made since it was seen to be empty.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use headwater_record::StreamId;

use super::Roster;
use super::adopt::New;
use super::away::is_among;
use crate::checkpoint::{FileIdentity, Registry};
use crate::clock::{self, Monotonic};
use crate::discover::rotated::Rotated;
use crate::sources::SourceError;
use crate::tail::opened::Opened;
use crate::tail::reader::{Followed, Turn};
use crate::tail::resume::Left;
use crate::tail::siblings::{Sibling, is_named_after, path_of, siblings};

impl<R: Registry> Roster<R> {
    /// A new file lies at the path of a stream whose last file left it some scans ago: others may
    /// have lain there since.
    pub(super) fn note_left(&self, index: usize, stream: &StreamId, left: &mut Vec<Left>) {
        let of_stream = |file: &&Followed| file.source == index && file.stream == *stream;
        let last = (self.followed.iter())
            .filter(of_stream)
            .max_by_key(|file| file.since_ms());
        // Out of reach, it may lie anywhere: once it is found, it tells.
        let is_away = (self.away.iter()).any(|away| away.is_last_of(index, stream));
        let is_told = is_away || left.iter().any(|left| left.stream == *stream);
        if is_told || last.is_some_and(Followed::is_linked) {
            return;
        }
        let closed = self.closed.last(index, stream, clock::wall_ms());
        let known = last.map(Left::of).into_iter().chain(closed);
        left.extend(known.max_by_key(|left| left.last.since_ms));
    }

    /// Files of a stream that came to its path and went again unseen, the oldest first: those
    /// younger than the youngest that is known. Where the stream's last one is gone itself, those of
    /// them that were changed no earlier than it. `seen`: places that the scan led to.
    pub(super) fn come_and_gone(
        &mut self,
        index: usize,
        left: &Left,
        seen: &HashSet<(u64, u64)>,
        now: Monotonic,
    ) -> Vec<Opened> {
        let mut beside = siblings(&path_of(&left.last));
        let last_closed = (self.closed).last(index, &left.stream, clock::wall_ms());
        if last_closed.is_some_and(|closed| closed.last == left.last) {
            // Its log may have been away for long: what is not named after it may be another log, which nobody follows.
            beside.retain(|rotated| is_named_after(&left.stream, &rotated.file.path));
        }
        let (mut files, end) = self.unknown_among((&beside, beside.len()), index, left, seen, now);
        if end.is_none_or(|end| end != left.last) {
            files.retain(|file| match left.last.fingerprint_len {
                // What came to its path before it was there was closed long ago, or never followed.
                0 => file.modified_ms > left.last.since_ms,
                _ => file.modified_ms >= left.last.since_ms,
            });
        }
        files.reverse();
        files
    }

    /// Of the first `upto` rotated files beside a log, from the youngest on, those before one that is known:
    /// the youngest first; and that one.
    fn unknown_among(
        &mut self,
        (beside, upto): (&[Rotated<Sibling>], usize),
        index: usize,
        left: &Left,
        seen: &HashSet<(u64, u64)>,
        now: Monotonic,
    ) -> (Vec<Opened>, Option<FileIdentity>) {
        let skipped = &self.desk.counters.skipped;
        let followed: HashSet<_> = self.followed.iter().map(Followed::place).collect();
        let mut ours: Vec<_> = (self.followed.iter_mut())
            .filter(|file| file.source == index && file.stream == left.stream)
            .collect();
        let mut files = Vec::new();
        let places: HashSet<_> = beside.iter().map(|rotated| rotated.file.place).collect();
        for (n, rotated) in beside.iter().enumerate().take(upto).rev() {
            let Sibling { path, place } = &rotated.file;
            let lies_here = ours.iter().position(|file| file.place() == *place);
            // Under compression: the plain one is there still.
            let is_twin = n > 0 && rotated.is_packed_twin_of(&beside[n - 1])
                || (beside.get(n + 1)).is_some_and(|next| rotated.is_packed_twin_of(next));
            let is_known = followed.contains(place) || seen.contains(place) || is_twin;
            if is_known && lies_here.is_none() {
                continue;
            }
            let mut file = match (open_rotated(path), lies_here) {
                (Ok(file), _) => file,
                // It is followed, whatever the disk says now.
                (Err(Some(_)), Some(nth)) => return (files, Some(ours[nth].identity().clone())),
                (Err(why), _) => {
                    // As old as the last one: it is that, which is held, or older.
                    let is_younger = rotated.modified_ms() > left.last.since_ms;
                    let why = why.filter(|_| is_younger).unwrap_or_default();
                    if !why.is_empty() && self.said.is_news_at(path, &why, now) {
                        skipped.fetch_add(1, Ordering::Relaxed);
                        let path = path.display();
                        tracing::warn!("{}: {path} is passed over: {why}", left.stream);
                    }
                    continue;
                }
            };
            if is_among(&mut self.away, index, &mut file) {
                continue;
            }
            // Its inode alone says nothing: a file that was copied, cut and written anew has it too.
            let known = (lies_here.filter(|nth| ours[*nth].is(&mut file))).or_else(|| {
                ours.iter_mut()
                    .position(|known| known.is_left_in(&mut file))
            });
            if let Some(nth) = known {
                return (files, Some(ours[nth].identity().clone()));
            }
            let stream = (index, &left.stream);
            if let Some(closed) = self.closed.held_by(stream, &mut file, &places) {
                return (files, Some(closed.clone()));
            }
            file.content.stop_decoding();
            files.push(file);
        }
        (files, None)
    }

    /// What is to be done before the turn of a file, where it is the last turn of an older one of its stream,
    /// or nothing was read of it yet; none where nothing is.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub(super) fn before_turn(
        &mut self,
        nth: usize,
        now: Monotonic,
    ) -> Result<Option<Turn>, SourceError> {
        if !self.date_unread(nth, now)? {
            return Ok(Some(Turn::Refused));
        }
        self.go_on_in_copy(nth, now)
    }

    /// Before a file may be closed: the younger ones of its stream of which nothing was read are known to be
    /// so as of its last change, so that it is never taken for a copy of one of them. Returns whether the
    /// database took that.
    fn date_unread(&mut self, closing: usize, now: Monotonic) -> Result<bool, SourceError> {
        let file = &self.followed[closing];
        let close_after = self.sources[file.source].plan.close_after;
        if file.is_linked() || now.since(file.quiet_since()) < close_after {
            return Ok(true);
        }
        let (index, stream, changed_ms) = (file.source, file.stream.clone(), file.modified_ms());
        let mut dated = Vec::new();
        for nth in 0..self.followed.len() {
            let is_of_stream = |file: &Followed| file.source == index && file.stream == stream;
            if nth == closing || !is_of_stream(&self.followed[nth]) {
                continue;
            }
            // What changed already is looked at first.
            if self.go_on_in_copy(nth, now)? == Some(Turn::Refused) {
                return Ok(false);
            }
            let file = &mut self.followed[nth];
            if file.is_unread_since_before(changed_ms) && file.changed_unread().is_none() {
                let since_ms = file.since_ms().max(changed_ms);
                let identity = file.identity().clone();
                dated.push((
                    file.generation,
                    FileIdentity {
                        since_ms,
                        ..identity
                    },
                ));
            }
        }
        let has_room =
            dated.is_empty() || (self.desk).enter(now, |registry| registry.try_identify(&dated))?;
        let dated: HashSet<_> = dated.iter().map(|(generation, _)| *generation).collect();
        let dated = |file: &&mut Followed| has_room && dated.contains(&file.generation);
        let dated = self.followed.iter_mut().filter(dated);
        dated.for_each(|file| {
            file.unread_as_of(changed_ms);
            file.identity_stored();
        });
        Ok(has_room)
    }

    /// Files of a source that left their path before anything of them was read: what they begin with is
    /// written down before those that came after them are, so that they are found by it, compressed too.
    /// Returns whether the database took that.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub(super) fn learn_unread(
        &mut self,
        index: usize,
        now: Monotonic,
    ) -> Result<bool, SourceError> {
        let (mut learned, mut taken) = (Vec::new(), true);
        for nth in 0..self.followed.len() {
            let file = &self.followed[nth];
            if file.source != index || file.is_linked() || !file.is_unread() {
                continue;
            }
            match self.go_on_in_copy(nth, now)? {
                Some(turn) => taken &= turn != Turn::Refused,
                None if self.followed[nth].learn_head() => {
                    let file = &self.followed[nth];
                    learned.push((file.generation, file.identity().clone()));
                }
                None => {}
            }
        }
        if !learned.is_empty() {
            taken &= (self.desk).enter(now, |registry| registry.try_identify(&learned))?;
        }
        if taken {
            let learned: HashSet<_> = learned.iter().map(|(generation, _)| *generation).collect();
            (self.followed.iter_mut())
                .filter(|file| learned.contains(&file.generation))
                .for_each(Followed::identity_stored);
        }
        Ok(taken)
    }

    /// A file of which nothing was read was copied and cut meanwhile, some times maybe: its generation goes on
    /// in the oldest copy, and what lies there now is another, as with any file that is copied and cut.
    fn go_on_in_copy(&mut self, nth: usize, now: Monotonic) -> Result<Option<Turn>, SourceError> {
        let Some(changed_ms) = self.followed[nth].changed_unread() else {
            return Ok(None);
        };
        let copies = self.copies_of_unread(nth, now);
        let file = &mut self.followed[nth];
        if copies.is_empty() {
            file.unread_as_of(changed_ms);
            return Ok(None);
        }
        let mut copies = copies.into_iter();
        let Some(copy) = copies.find_map(|mut copy| file.was_cut_after(&mut copy).then_some(copy))
        else {
            return Ok(None);
        };
        let identity = [(file.generation, file.identity_in(&copy))];
        if !(self.desk).enter(now, |registry| registry.try_identify(&identity))? {
            return Ok(Some(Turn::Refused));
        }
        file.was_copied_to(copy, now);
        // The younger copies, and what is left of it, where it was renamed since.
        self.cut[file.source].push(Left::of(file));
        Ok(Some(Turn::Copied))
    }

    /// What may be copies of a file of which nothing was read, the oldest first: rotated files that are named after
    /// its log, are older than where it lies, by their names, and were made since nothing was in it.
    fn copies_of_unread(&mut self, nth: usize, now: Monotonic) -> Vec<Opened> {
        let file = &mut self.followed[nth];
        let (index, place, left) = (file.source, file.place(), Left::of(file));
        let path = path_of(&left.last);
        let beside = siblings(&path);
        let lies_at =
            |path: &Path| fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == place);
        let own = (beside.iter())
            .position(|rotated| rotated.file.place == place)
            .or_else(|| lies_at(&path).then_some(beside.len()))
            // Or itself compressed: what is in it now lies there, too.
            .or_else(|| {
                beside
                    .iter()
                    .rposition(|rotated| file.is_unread_in(&rotated.file.path))
            });
        let Some(upto) = own else {
            return Vec::new();
        };
        let waiting = self.not_entered[index].iter().map(New::place).collect();
        let (mut files, _) = self.unknown_among((&beside, upto), index, &left, &waiting, now);
        files.retain(|file| {
            is_named_after(&left.stream, &file.path) && file.is_younger_than(left.last.since_ms)
        });
        files.reverse();
        files
    }
}

/// Opens a rotated file; or says why it cannot be read, where it is there.
fn open_rotated(path: &Path) -> Result<Opened, Option<String>> {
    match Opened::new(path) {
        Ok(file) => match file.foreign() {
            None => Ok(file),
            Some(how) => Err(Some(format!(
                "it is compressed by {how}, which is not read"
            ))),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Err(None),
        Err(error) => Err(Some(error.to_string())),
    }
}
