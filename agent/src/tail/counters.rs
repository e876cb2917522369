//! What is counted of files, for who asks how it goes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use headwater_record::StreamId;

/// As many of those furthest behind are named.
pub const FURTHEST: usize = 10;

/// Shared by the thread that follows files and those who show them.
#[derive(Debug, Default)]
pub struct Counters {
    /// Files that are followed now.
    pub followed: AtomicU64,
    /// Files that were passed over since the start: rotated ones that cannot be opened, and what is
    /// compressed in a way that is not read.
    pub skipped: AtomicU64,
    /// Deleted files that gave way since the start, before all of them was read,
    pub given_up: AtomicU64,
    /// and the bytes of them that were not.
    pub given_up_bytes: AtomicU64,
    /// Known files of which it cannot be told now whether they are there.
    pub out_of_reach: AtomicU64,
    /// Files of which something waits to be read,
    pub behind: AtomicU64,
    /// and how much, bytes, as of the last scan.
    pub unread_bytes: AtomicU64,
    /// Those of which most waits, the first of them first: at most [`FURTHEST`].
    furthest: Mutex<Vec<(StreamId, u64)>>,
}

impl Counters {
    /// Takes note of how much of each file waits to be read, bytes.
    pub fn count_unread(&self, mut unread: Vec<(&StreamId, u64)>) {
        unread.retain(|(_, bytes)| *bytes > 0);
        unread.sort_by(|(a_stream, a), (b_stream, b)| b.cmp(a).then(a_stream.cmp(b_stream)));
        let bytes = unread.iter().map(|(_, bytes)| bytes);
        let bytes = bytes.fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
        self.behind.store(unread.len() as u64, Ordering::Relaxed);
        self.unread_bytes.store(bytes, Ordering::Relaxed);
        unread.truncate(FURTHEST);
        let furthest = unread
            .into_iter()
            .map(|(stream, bytes)| (stream.clone(), bytes));
        *self.furthest.lock().unwrap_or_else(PoisonError::into_inner) = furthest.collect();
    }

    /// The files of which most waits to be read, and how much, bytes.
    pub fn furthest(&self) -> Vec<(StreamId, u64)> {
        (self.furthest.lock().unwrap_or_else(PoisonError::into_inner)).clone()
    }
}
