//! What a scan leads to: files that are followed already, and new ones.
//!
//! A new file may be an old one. Rotation compresses (another inode, the same content) or copies
//! and cuts; where the globs match what it leaves behind, that must not be read a second time. So a
//! name that a followed log's may have become waits, while what it holds is what that log holds too,
//! until nobody writes to it. Content alone does not make two files one: small files, and files that
//! are just begun, are often the same. A file takes another's place only where it is compressed, or
//! where what was read lies no longer where it lay. And files may have come and gone between two scans, or while the agent was away: when a
//! log's file leaves its path, the rotated ones that are younger are read too, the oldest first.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headwater_record::StreamId;

use super::Roster;
use super::away::{Away, is_among};
use crate::checkpoint::{OpenGeneration, Origin, Registry};
use crate::clock::Monotonic;
use crate::config::file::StartAt;
use crate::discover::{Found, Seen, rotated};
use crate::sources::{SourceError, draw_generation};
use crate::tail::opened::Opened;
use crate::tail::reader::Followed;
use crate::tail::resume::Left;
use crate::tail::siblings::{Sibling, may_become, path_of, siblings};

/// A copy that grows for so many times `close_after` is none: with the default 10 minutes, in which a slow
/// card copies gigabytes. Two files into which a program writes the same, for ever, are read then.
const COPY_PATIENCE: u32 = 120;

/// A file that may be a copy, or is compressed, and that somebody may still write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    modified_ms: u64,
    size: u64,
    /// Since when it has looked like this.
    since: Monotonic,
    first_seen: Monotonic,
}

impl Waiting {
    fn first(file: &Opened, now: Monotonic) -> Self {
        Self {
            modified_ms: file.modified_ms,
            size: file.packed_size,
            since: now,
            first_seen: now,
        }
    }

    /// As of now, if this is how it looks.
    fn seen_again(self, looks: Self) -> Self {
        let is_silent = (self.modified_ms, self.size) == (looks.modified_ms, looks.size);
        Self {
            since: if is_silent { self.since } else { looks.since },
            first_seen: self.first_seen,
            ..looks
        }
    }

    /// When it has waited long enough, if nothing happens to it.
    fn until(self, close_after: Duration) -> Monotonic {
        let longest = close_after.saturating_mul(COPY_PATIENCE);
        (self.since.plus(close_after)).min(self.first_seen.plus(longest))
    }
}

/// A file to begin with.
#[derive(Debug)]
struct New {
    file: Opened,
    open: OpenGeneration,
    /// The path that a glob gave; none where no glob leads to it.
    linked_at: Option<PathBuf>,
}

impl<R: Registry> Roster<R> {
    /// Takes note of which files a scan led to, and begins with the new ones: all of them are
    /// registered in one transaction, before the first record of any. `left`: streams whose last
    /// file was found elsewhere, or not at all. `is_new` says of which streams nothing was known
    /// when the agent started: `start_at` is about those.
    pub(super) fn adopt(
        &mut self,
        index: usize,
        found: &Found,
        mut left: Vec<Left>,
        now: Monotonic,
        is_new: impl Fn(&StreamId) -> bool,
    ) -> Result<(), SourceError> {
        let mut unseen: HashMap<_, _> = (found.files.iter())
            .map(|seen| ((seen.device, seen.inode), &seen.path))
            .collect();
        for file in self.followed.iter_mut().filter(|file| file.source == index) {
            if let Some(path) = unseen.remove(&file.place()) {
                file.found_at(path);
            } else if file.not_found(now) {
                left.push(Left::of(file));
            }
        }
        let waiting = std::mem::take(&mut self.waiting[index]);
        let mut new = Vec::new();
        let mut linked = Vec::new();
        let open = self.followed.iter().filter(|file| file.can_park()).count();
        for seen in &found.files {
            if unseen.contains_key(&(seen.device, seen.inode))
                && let Some(file) = self.open_seen(index, seen, &waiting, now)
                && let Some(stream) = self.stream(index, &seen.path)
            {
                let is_new = is_new(&stream);
                let mut new = self.new_file(index, file, stream, is_new, Some(&seen.path))?;
                // There may be more of them than files can be open.
                if open + linked.len() >= self.desk.open_max {
                    new.file.park();
                }
                linked.push(new);
            }
        }
        for new in &linked {
            self.note_left(index, &new.open.stream, &mut left);
        }
        for left in &left {
            let mut beside: HashSet<_> = (linked.iter()).map(|new| new.file.place()).collect();
            beside.extend(unseen.keys());
            for file in self.come_and_gone(index, left, &beside) {
                let stream = left.stream.clone();
                new.push(self.new_file(index, file, stream, false, None)?);
            }
        }
        new.extend(linked);
        self.begin(index, new, now)
    }

    /// A new file lies at the path of a stream whose last file left it some scans ago: others may
    /// have lain there since.
    fn note_left(&self, index: usize, stream: &StreamId, left: &mut Vec<Left>) {
        let of_stream = |file: &&Followed| file.source == index && file.stream == *stream;
        let last = (self.followed.iter())
            .filter(of_stream)
            .max_by_key(|file| file.since_ms());
        if let Some(last) = last.filter(|last| !last.is_linked())
            && left.iter().all(|left| left.stream != *stream)
        {
            left.push(Left::of(last));
        }
    }

    /// Registers new files and follows them.
    fn begin(&mut self, index: usize, new: Vec<New>, now: Monotonic) -> Result<(), SourceError> {
        let opens: Vec<_> = new.iter().map(|new| new.open.clone()).collect();
        if !opens.is_empty() {
            self.desk.registry.register(&opens)?;
        }
        for New {
            file,
            open,
            linked_at,
        } in new
        {
            let path = file.path.clone();
            let framing = &self.sources[index].plan.framing;
            match Followed::new(index, framing, file, &open, now) {
                Ok(mut file) => {
                    if let Some(path) = linked_at {
                        file.found_at(&path);
                    }
                    tracing::info!(
                        "{}: followed, generation {}, in {}",
                        open.stream,
                        open.generation,
                        path.display()
                    );
                    self.followed.push(file);
                }
                // It is registered, so it goes on once it can be read.
                Err(error) => {
                    let why = format!("cannot read {}: {error}", path.display());
                    self.away.push(Away::new(index, open, true, why, now));
                }
            }
        }
        self.wake_for_away(index);
        self.count();
        Ok(())
    }

    /// Opens a file that a scan led to, if it is one to begin with now.
    fn open_seen(
        &mut self,
        index: usize,
        seen: &Seen,
        waiting: &HashMap<(u64, u64), Waiting>,
        now: Monotonic,
    ) -> Option<Opened> {
        let plan = &self.sources[index].plan;
        let file = match Opened::new(&seen.path) {
            Ok(file) => file,
            Err(error) => {
                let text = error.to_string();
                if self.said.is_news(&seen.path, &text) {
                    tracing::warn!(
                        "source {}: cannot open {}: {text}; tried again every {:?}",
                        plan.id,
                        seen.path.display(),
                        plan.rescan
                    );
                }
                return None;
            }
        };
        if self.said.is_over(&seen.path) {
            tracing::info!(
                "source {}: {} can be read now",
                plan.id,
                seen.path.display()
            );
        }
        let close_after = plan.close_after;
        let mut file = self.take_back(index, file, &seen.path, now)?;
        let mut may_be_copy = false;
        for known in self
            .followed
            .iter_mut()
            .filter(|known| known.source == index)
        {
            let (is_whole, is_part) = (known.may_go_on_in(&file), known.may_be_begun_in(&file));
            if !(is_whole || is_part) || !may_become(&known.path(), &file.path) {
                continue;
            }
            if is_whole && !known.is_linked() && (file.is_packed() || known.is_lost()) {
                match known.go_on_in(file, now) {
                    Ok(()) => {
                        known.found_at(&seen.path);
                        return None;
                    }
                    Err(back) => file = *back,
                }
            }
            may_be_copy = may_be_copy || known.may_be_copied_to(&mut file);
        }
        let is_packed = file.is_packed() || rotated::is_packed(seen.path.as_os_str().as_bytes());
        if !may_be_copy && !is_packed {
            return Some(file);
        }
        let mut looks = Waiting::first(&file, now);
        if let Some(before) = waiting.get(&file.place()) {
            looks = before.seen_again(looks);
        }
        let until = looks.until(close_after);
        if now >= until {
            return Some(file);
        }
        self.next_scans[index] = self.next_scans[index].min(until);
        self.waiting[index].insert(file.place(), looks);
        None
    }

    fn stream(&mut self, index: usize, path: &Path) -> Option<StreamId> {
        let plan = &self.sources[index].plan;
        match StreamId::new(&self.device, &plan.id, path.as_os_str().as_bytes()) {
            Ok(stream) => Some(stream),
            Err(error) => {
                let text = format!("it cannot name a stream: {error}");
                if self.said.is_news(path, &text) {
                    tracing::warn!("source {}: {}: {text}; skipped", plan.id, path.display());
                }
                None
            }
        }
    }

    fn new_file(
        &self,
        index: usize,
        mut file: Opened,
        stream: StreamId,
        is_new: bool,
        linked_at: Option<&Path>,
    ) -> Result<New, SourceError> {
        let starts_at_end = self.sources[index].plan.start_at == StartAt::End;
        let skip_to = (starts_at_end && is_new && file.size > 0).then(|| file.end());
        // Where it cannot be read now, the first read of it says so.
        let marker = skip_to.and_then(|to| file.marker(to).ok());
        let open = OpenGeneration {
            generation: draw_generation()?,
            stream,
            origin: Origin::File(file.identity()),
            settled: 0,
            skip_to,
            cuts: Vec::new(),
            marker,
        };
        Ok(New {
            file,
            open,
            linked_at: linked_at.map(Path::to_owned),
        })
    }

    /// Files of a stream that came to its path and went again unseen, the oldest first: those
    /// younger than the youngest that is known. Where the stream's last one is gone itself, those of
    /// them that were changed no earlier than it. `seen`: places that the scan led to.
    fn come_and_gone(
        &mut self,
        index: usize,
        left: &Left,
        seen: &HashSet<(u64, u64)>,
    ) -> Vec<Opened> {
        let followed: HashSet<_> = self.followed.iter().map(Followed::place).collect();
        let mut ours: Vec<_> = (self.followed.iter_mut())
            .filter(|file| file.source == index && file.stream == left.stream)
            .collect();
        let (mut files, mut ends_at_last): (Vec<Opened>, _) = (Vec::new(), false);
        let beside = siblings(&path_of(&left.last));
        let places: HashSet<_> = beside.iter().map(|rotated| rotated.file.place).collect();
        for (n, rotated) in beside.iter().enumerate().rev() {
            let Sibling { path, place } = &rotated.file;
            let lies_here = ours.iter().position(|file| file.place() == *place);
            // Under compression: the plain one is there still.
            let is_twin = n > 0 && rotated.is_packed_twin_of(&beside[n - 1])
                || (beside.get(n + 1)).is_some_and(|next| rotated.is_packed_twin_of(next));
            let is_known = followed.contains(place) || seen.contains(place) || is_twin;
            if is_known && lies_here.is_none() {
                continue;
            }
            let Ok(mut file) = Opened::new(path) else {
                continue;
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
                ends_at_last = *ours[nth].identity() == left.last;
                break;
            }
            let stream = (index, &left.stream);
            if self.closed.is_held_by(stream, &mut file, &places) {
                break;
            }
            files.push(file);
        }
        if !ends_at_last {
            files.retain(|file| file.modified_ms >= left.last.since_ms);
        }
        files.reverse();
        files
    }
}
