//! What is remembered of files that were read to their end and closed, while their streams go on.
//!
//! Where files of a stream came and went unseen, all rotated files younger than the youngest known
//! one are read. If that one is closed already, it must still be known, or it would be read a second
//! time. One file of each stream is remembered, and none of a stream that is followed no more.

use std::collections::{HashMap, HashSet};

use headwater_record::StreamId;

use super::opened::Opened;
use super::reader::Followed;
use super::roster::change::moves_up;
use crate::checkpoint::{FileIdentity, Marker};

/// The youngest closed file of each stream that goes on, by source and stream.
#[derive(Debug, Default)]
pub struct Closed {
    by_stream: HashMap<(usize, StreamId), (FileIdentity, Marker)>,
}

impl Closed {
    /// Takes note of a file that is closed. Its content may lie in a rotated file still.
    pub fn remember(&mut self, file: &Followed) {
        let key = (file.source, file.stream.clone());
        let is_older =
            (self.by_stream.get(&key)).is_some_and(|(known, _)| known.since_ms > file.since_ms());
        if !is_older {
            let known = (file.identity().clone(), file.marker());
            self.by_stream.insert(key, known);
        }
    }

    /// Whether a file is the closed one, or what is left of it: compressed, or a copy where it lies
    /// itself at none of the places in `beside`.
    pub fn is_held_by(
        &self,
        (source, stream): (usize, &StreamId),
        file: &mut Opened,
        beside: &HashSet<(u64, u64)>,
    ) -> bool {
        (self.by_stream.get(&(source, stream.clone()))).is_some_and(|(known, marker)| {
            let place = (known.device, known.inode);
            let may_be = file.is_packed() || file.place() == place || !beside.contains(&place);
            may_be && file.holds(known, Some(marker))
        })
    }

    /// Forgets the files of a source; the others' indexes move up.
    pub fn forget_source(&mut self, gone: usize) {
        let all = std::mem::take(&mut self.by_stream).into_iter();
        let stay = all.filter_map(|((mut source, stream), file)| {
            moves_up(&mut source, gone).then_some(((source, stream), file))
        });
        self.by_stream = stay.collect();
    }

    /// Forgets the files of streams that are followed no more.
    pub fn forget_all_but<'a>(&mut self, go_on: impl Iterator<Item = (usize, &'a StreamId)>) {
        if self.by_stream.is_empty() {
            return;
        }
        let go_on: HashSet<_> = go_on.collect();
        (self.by_stream).retain(|(source, stream), _| go_on.contains(&(*source, stream)));
    }
}
