//! Files that lay at a log's path between two scans, or while the agent was away: they are among its
//! rotated files, and younger than the youngest that is known.

use std::collections::HashSet;

use headwater_record::StreamId;

use super::Roster;
use super::away::is_among;
use crate::checkpoint::Registry;
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
