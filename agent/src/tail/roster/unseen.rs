//! Files that lay at a log's path between two scans, or while the agent was away: they are among its
//! rotated files, and younger than the youngest that is known.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::Ordering;

use headwater_record::StreamId;

use super::Roster;
use super::away::is_among;
use crate::checkpoint::Registry;
use crate::clock::Monotonic;
use crate::tail::opened::Opened;
use crate::tail::reader::Followed;
use crate::tail::resume::Left;
use crate::tail::siblings::{Sibling, path_of, siblings};

impl<R: Registry> Roster<R> {
    /// A new file lies at the path of a stream whose last file left it some scans ago: others may
    /// have lain there since.
    pub(super) fn note_left(&self, index: usize, stream: &StreamId, left: &mut Vec<Left>) {
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
        let skipped = &self.desk.counters.skipped;
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
            let mut file = match open_rotated(path) {
                Ok(file) => file,
                Err(why) => {
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
