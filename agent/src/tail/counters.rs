//! What is counted of files, for who asks how it goes.

use std::sync::atomic::AtomicU64;

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
}
