//! What is counted of files, for who asks how it goes.

use std::sync::atomic::AtomicU64;

/// Shared by the thread that follows files and those who show them.
#[derive(Debug, Default)]
pub struct Counters {
    /// Files that are followed now.
    pub followed: AtomicU64,
    /// Known files of which it cannot be told now whether they are there.
    pub out_of_reach: AtomicU64,
}
