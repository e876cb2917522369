//! What a scan leads to: files that are followed already, and new ones.
//!
//! A new file may be an old one. Rotation compresses (another inode, the same content) or copies
//! and cuts; where the globs match what it leaves behind, that must not be read a second time. So a
//! name that a followed log's may have become waits, while what it holds is what that log holds too,
//! until nobody writes to it. Content alone does not make two files one: small files, and files that
//! are just begun, are often the same. A file takes another's place only where it is compressed, or
//! where what was read lies no longer where it lay. And files may have come and gone between two
//! scans, or while the agent was away: when a log's file leaves its path, the rotated ones that are
//! younger are read too, the oldest first.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use headwater_record::StreamId;

use super::Roster;
use super::away::{Away, may_hold_one};
use crate::checkpoint::{OpenGeneration, Origin, Registry};
use crate::clock::Monotonic;
use crate::config::file::StartAt;
use crate::discover::{Found, Seen, rotated};
use crate::sources::{SourceError, draw_generation};
use crate::tail::closed::Closed;
use crate::tail::opened::Opened;
use crate::tail::reader::Followed;
use crate::tail::resume::Left;
use crate::tail::siblings::{folder_changed_ms, may_become};

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

    /// When it has waited long enough, if nothing happens to it. What is compressed grows until it is
    /// whole, however long that takes; half of it would be read as a file of its own.
    fn until(self, close_after: Duration, is_packed: bool) -> Monotonic {
        let silent = self.since.plus(close_after);
        match is_packed {
            true => silent,
            false => {
                let longest = close_after.saturating_mul(COPY_PATIENCE);
                silent.min(self.first_seen.plus(longest))
            }
        }
    }
}

/// A file to begin with.
#[derive(Debug)]
pub(super) struct New {
    file: Opened,
    open: OpenGeneration,
    /// The path that a glob gave; none where no glob leads to it.
    linked_at: Option<PathBuf>,
}

impl New {
    /// Device and inode.
    pub(super) fn place(&self) -> (u64, u64) {
        self.file.place()
    }

    fn left(&self) -> Left {
        Left {
            stream: self.open.stream.clone(),
            last: self.file.identity(),
        }
    }

    /// Whether a file is this one, compressed meanwhile.
    fn is_packed_as(&mut self, file: &mut Opened) -> bool {
        if !file.is_packed() || !may_become(&self.file.path, &file.path) {
            return false;
        }
        if self.file.head().is_empty() {
            self.file.look_again();
        }
        (self.file.marker(self.file.size))
            .is_ok_and(|end| file.holds(&self.file.identity(), Some(&end)))
    }
}

impl<R: Registry> Roster<R> {
    /// Takes note of which files a scan led to, and begins with the new ones: all of them are
    /// registered in one transaction, before the first record of any; until that is so they are held open.
    /// `left`: streams whose last file was found elsewhere, or not at all. `is_new` says of which streams
    /// nothing was known when the agent started: `start_at` is about those.
    pub(super) fn adopt(
        &mut self,
        index: usize,
        found: &Found,
        mut left: Vec<Left>,
        now: Monotonic,
        is_new: impl Fn(&Closed, &StreamId) -> bool,
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
        let learned = self.learn_unread(index, now)?;
        let waiting = std::mem::take(&mut self.waiting[index]);
        let mut new = std::mem::take(&mut self.not_entered[index]);
        // Nothing of it was given away: what lies there now, and what a copy holds, are files to begin with.
        let cut = new.extract_if(.., |new| new.file.was_cut());
        left.extend(cut.map(|new| new.left()));
        for new in &mut new {
            // Held since the database refused it, wherever it lies now.
            let linked_at = unseen.remove(&new.file.place()).cloned();
            if linked_at.is_none() && new.linked_at.is_some() {
                left.push(new.left());
            }
            new.linked_at = linked_at;
        }
        let mut linked = Vec::new();
        let open = self.held() + new.len();
        for seen in &found.files {
            if unseen.contains_key(&(seen.device, seen.inode))
                && let Some(mut file) = self.open_seen(index, seen, &waiting, now)
                && !new.iter_mut().any(|held| held.is_packed_as(&mut file))
                && let Some(stream) = self.stream(index, &seen.path, now)
            {
                let is_new = is_new(&self.closed, &stream);
                let mut new = self.new_file(index, file, stream, is_new, Some(&seen.path))?;
                new.file.content.stop_decoding();
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
        if !learned {
            // What came and went is told from them once they are.
            self.cut[index].append(&mut left);
        }
        for left in &left {
            let mut beside: HashSet<_> = (linked.iter()).map(|new| new.file.place()).collect();
            beside.extend(unseen.keys().copied().chain(new.iter().map(New::place)));
            for mut file in self.come_and_gone(index, left, &beside, now) {
                if new.iter_mut().any(|held| held.is_packed_as(&mut file)) {
                    continue;
                }
                let stream = left.stream.clone();
                new.push(self.new_file(index, file, stream, false, None)?);
            }
        }
        new.extend(linked);
        self.begin(index, new, now)?;
        self.wake_for_away(index);
        self.say_crowded();
        self.count();
        Ok(())
    }

    /// Registers new files and follows them.
    fn begin(&mut self, index: usize, new: Vec<New>, now: Monotonic) -> Result<(), SourceError> {
        let opens: Vec<_> = new.iter().map(|new| new.open.clone()).collect();
        if !opens.is_empty() && !(self.desk).enter(now, |registry| registry.try_register(&opens))? {
            let again = self.desk.entry.again_at().unwrap_or(now);
            self.next_scans[index] = self.next_scans[index].min(again);
            self.not_entered[index] = new;
            return Ok(());
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
                    file.stop_decoding();
                    self.followed.push(file);
                }
                // It is registered, so it goes on once it can be read.
                Err(error) => {
                    let why = format!("cannot read {}: {error}", path.display());
                    self.away.push(Away::new(index, open, true, why, now));
                }
            }
        }
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
                if self.said.is_news_at(&seen.path, &text, now) {
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
        if let Some(how) = file.foreign() {
            let text = format!("it is compressed by {how}, which is not read");
            if self.said.is_news_at(&seen.path, &text, now) {
                self.desk.counters.skipped.fetch_add(1, Ordering::Relaxed);
                let path = seen.path.display();
                tracing::warn!("source {}: {path} is passed over: {text}", plan.id);
            }
            return None;
        }
        if self.said.is_over(&seen.path) {
            tracing::info!(
                "source {}: {} can be read now",
                plan.id,
                seen.path.display()
            );
        }
        let close_after = plan.close_after;
        let mut file = self.take_back(index, file, &seen.path, now)?;
        let mut may_be_copy = may_hold_one(&mut self.away, index, &mut file, waiting);
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
        let until = looks.until(close_after, is_packed);
        if now >= until {
            return Some(file);
        }
        self.next_scans[index] = self.next_scans[index].min(until);
        self.waiting[index].insert(file.place(), looks);
        None
    }

    fn stream(&mut self, index: usize, path: &Path, now: Monotonic) -> Option<StreamId> {
        let plan = &self.sources[index].plan;
        match StreamId::new(&self.device, &plan.id, path.as_os_str().as_bytes()) {
            Ok(stream) => Some(stream),
            Err(error) => {
                let text = format!("it cannot name a stream: {error}");
                if self.said.is_news_at(path, &text, now) {
                    tracing::warn!("source {}: {}: {text}; skipped", plan.id, path.display());
                }
                None
            }
        }
    }

    fn new_file(
        &mut self,
        index: usize,
        mut file: Opened,
        stream: StreamId,
        is_new: bool,
        linked_at: Option<&Path>,
    ) -> Result<New, SourceError> {
        let starts_at_end = self.sources[index].plan.start_at == StartAt::End;
        let known_to = (self.cut_short.remove(&file.place()))
            .and_then(|(marker, to)| file.has(Some(&marker)).then_some(to));
        if let Some(to) = known_to {
            tracing::info!(
                "{stream}: {} lost its end, as after a power cut: it goes on at offset {to}",
                file.path.display()
            );
        }
        let skip_to = known_to.or_else(|| {
            let skips_all = starts_at_end && is_new && file.size > 0;
            skips_all.then(|| file.end())
        });
        // Where it cannot be read now, the first read of it says so.
        let marker = skip_to.and_then(|to| file.marker(to).ok());
        let mut identity = file.identity();
        if identity.fingerprint_len == 0 {
            // As of when nothing was in it. What lies beside it is older: it was made by then.
            identity.since_ms = identity.since_ms.max(folder_changed_ms(&file.path));
        }
        let open = OpenGeneration {
            generation: draw_generation()?,
            stream,
            origin: Origin::File(identity),
            settled: 0,
            skip_to,
            cuts: Vec::new(),
            marker,
            earlier: Vec::new(),
            goes_on: None,
        };
        Ok(New {
            file,
            open,
            linked_at: linked_at.map(Path::to_owned),
        })
    }
}
