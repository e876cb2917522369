//! What is kept in mind of files that are closed.
//!
//! Where files of a stream came and went unseen, all rotated files younger than the youngest known
//! one are read. If that one is closed already, it must still be known, or it would be read a second
//! time: while its log lies at its path, while nothing lies there, and after a restart. So some of each stream
//! are kept in mind, as the database keeps them, whatever becomes of the log. And of a stream of which nothing is
//! open any more they tell since when something may have come and gone.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use headwater_record::StreamId;

use super::opened::Opened;
use super::reader::Followed;
use super::resume::Left;
use super::roster::change::moves_up;
use crate::checkpoint::{
    CLOSED_MAX, CLOSED_OF_STREAM_MAX, ClosedFile, FileIdentity, OpenGeneration, Origin,
};

/// The closed files of each stream, by source and stream; those that were changed last come first.
#[derive(Debug, Default)]
pub struct Closed {
    by_stream: HashMap<(usize, StreamId), Vec<ClosedFile>>,
    count: usize,
}

impl Closed {
    /// Takes note of a file that is closed. `is_whole`: it was read to its end, or what was not is lost for certain,
    /// so that its content, which may lie in a rotated file still, is not to be read.
    /// `now_ms`: the wall clock.
    pub fn remember(&mut self, file: &Followed, is_whole: bool, now_ms: u64) {
        let closed = ClosedFile {
            stream: file.stream.clone(),
            file: file.identity().clone(),
            marker: Some(file.marker()),
            is_whole,
        };
        self.keep(file.source, closed, now_ms);
    }

    /// Takes note of a generation that is closed without its file.
    pub fn remember_gone(&mut self, source: usize, open: &OpenGeneration, now_ms: u64) {
        if let Origin::File(file) = &open.origin {
            let closed = ClosedFile {
                stream: open.stream.clone(),
                file: file.clone(),
                marker: open.marker,
                is_whole: false,
            };
            self.keep(source, closed, now_ms);
        }
    }

    /// Keeps a closed file in mind, and lets go of the oldest where there are too many. Those of a time to come, by
    /// the wall clock `now_ms`, go before all others: that clock was set back since, and says nothing of their age.
    pub fn keep(&mut self, source: usize, closed: ClosedFile, now_ms: u64) {
        let of_stream = (self.by_stream)
            .entry((source, closed.stream.clone()))
            .or_default();
        let age = |closed: &ClosedFile| {
            let since_ms = closed.file.since_ms;
            (since_ms <= now_ms, since_ms)
        };
        of_stream.sort_by_key(|other| Reverse(age(other)));
        let at = of_stream.partition_point(|other| age(other) > age(&closed));
        of_stream.insert(at, closed);
        self.count += 1;
        if of_stream.len() > CLOSED_OF_STREAM_MAX {
            of_stream.pop();
            self.count -= 1;
        }
        if self.count > CLOSED_MAX {
            self.forget_oldest();
        }
    }

    /// Whether anything is known of a stream.
    pub fn knows(&self, source: usize, stream: &StreamId) -> bool {
        self.by_stream.contains_key(&(source, stream.clone()))
    }

    /// The closed file of a stream that was changed last, of those that were changed before `now_ms`: no file that
    /// comes is younger than one of a time to come.
    pub fn last(&self, source: usize, stream: &StreamId, now_ms: u64) -> Option<Left> {
        let of_stream = self.by_stream.get(&(source, stream.clone()))?;
        let until_now = of_stream
            .iter()
            .filter(|closed| closed.file.since_ms <= now_ms);
        let last = until_now.max_by_key(|closed| closed.file.since_ms)?;
        Some(Left {
            stream: stream.clone(),
            last: last.file.clone(),
        })
    }

    /// The closed file that a file is, or what is left of it: compressed, or a copy where it lies
    /// itself at none of the places in `beside`. Such a one ends where that was read to: many files begin as another
    /// one does, with a banner or the names of columns, and that one may have had nothing else.
    pub fn held_by(
        &self,
        (source, stream): (usize, &StreamId),
        file: &mut Opened,
        beside: &HashSet<(u64, u64)>,
    ) -> Option<&FileIdentity> {
        let of_stream = self.by_stream.get(&(source, stream.clone()))?;
        let found = of_stream.iter().find(|closed| {
            let place = (closed.file.device, closed.file.inode);
            let lies_here = file.place() == place;
            let may_be = lies_here || file.is_packed() || !beside.contains(&place);
            // Its inode alone says nothing, where that was made since.
            let since_ms = closed.file.since_ms;
            let is_it = lies_here && file.born_ms.is_none_or(|born_ms| born_ms <= since_ms);
            let end = closed.marker.map_or(0, |marker| marker.end);
            (closed.is_whole && may_be)
                && file.holds(&closed.file, closed.marker.as_ref())
                && (is_it || file.end() == end)
        });
        found.map(|closed| &closed.file)
    }

    /// Forgets the files of a source; the others' indexes move up.
    pub fn forget_source(&mut self, gone: usize) {
        let all = std::mem::take(&mut self.by_stream).into_iter();
        let stay = all.filter_map(|((mut source, stream), files)| {
            moves_up(&mut source, gone).then_some(((source, stream), files))
        });
        self.by_stream = stay.collect();
        self.count = self.by_stream.values().map(Vec::len).sum();
    }

    fn forget_oldest(&mut self) {
        let oldest = |files: &Vec<ClosedFile>| files.last().map(|closed| closed.file.since_ms);
        let of_stream = (self.by_stream.iter()).min_by_key(|(_, files)| oldest(files));
        let Some(key) = of_stream.map(|(key, _)| key.clone()) else {
            return;
        };
        if let Some(files) = self.by_stream.get_mut(&key) {
            self.count -= usize::from(files.pop().is_some());
            if files.is_empty() {
                self.by_stream.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(stream: usize, since_ms: u64) -> ClosedFile {
        ClosedFile {
            stream: StreamId::parse(&format!("d/s//{stream}")).unwrap(),
            file: FileIdentity {
                path: Vec::new(),
                device: 1,
                inode: since_ms,
                fingerprint_len: 0,
                fingerprint: 0,
                since_ms,
            },
            marker: None,
            is_whole: true,
        }
    }

    const NOW_MS: u64 = 1_000_000;

    /// A clock that was ahead for a while leaves files of a time to come: they hide no other, and go first.
    #[test]
    fn what_is_of_a_time_to_come_is_the_first_to_go() {
        let mut all = Closed::default();
        let stream = closed(0, 0).stream;
        for ahead in 0..CLOSED_OF_STREAM_MAX as u64 {
            all.keep(0, closed(0, NOW_MS + 1 + ahead), NOW_MS + 100);
        }
        assert_eq!(all.last(0, &stream, NOW_MS), None);
        for since_ms in [7, 5, 6] {
            all.keep(0, closed(0, since_ms), NOW_MS);
        }
        let last = all.last(0, &stream, NOW_MS).map(|left| left.last.since_ms);
        assert_eq!(last, Some(7));
        let kept: Vec<_> = (all.by_stream.values().flatten())
            .map(|closed| closed.file.since_ms)
            .collect();
        assert_eq!(
            (&kept[..3], kept.len()),
            (&[7, 6, 5][..], CLOSED_OF_STREAM_MAX)
        );
    }

    #[test]
    fn those_that_were_changed_last_stay_in_mind() {
        let mut all = Closed::default();
        let last = |all: &Closed, stream| {
            let stream = closed(stream, 0).stream;
            all.last(0, &stream, NOW_MS).map(|left| left.last.since_ms)
        };
        let most = CLOSED_OF_STREAM_MAX as u64;
        // Closed in no order.
        for since_ms in (1..=most).chain([most + 9, 3, most + 4]) {
            all.keep(0, closed(0, since_ms), NOW_MS);
        }
        assert_eq!(all.count, CLOSED_OF_STREAM_MAX);
        assert_eq!(last(&all, 0), Some(most + 9));
        let kept: Vec<_> = (all.by_stream.values().flatten())
            .map(|closed| closed.file.since_ms)
            .collect();
        let expected = [most + 9, most + 4, 8, 7, 6, 5, 4, 3];
        assert_eq!(kept, expected);
        for stream in 1..=CLOSED_MAX {
            all.keep(1, closed(stream, 1000 + stream as u64), NOW_MS);
        }
        assert_eq!(all.count, CLOSED_MAX);
        assert_eq!(last(&all, 0), None, "the oldest of all are gone");
        assert!(!all.knows(0, &closed(0, 0).stream) && all.knows(1, &closed(9, 0).stream));
        all.forget_source(0);
        assert_eq!(all.count, CLOSED_MAX);
        assert!(all.knows(0, &closed(9, 0).stream), "its index moved up");
    }
}
