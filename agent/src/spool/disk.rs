//! How much more the file system takes before what is to be kept free is touched. Other programs
//! write there too, so it is asked at each commit that adds rows.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::StatVfs;
use serde::{Deserialize, Serialize};

/// What is kept free of a file system: that of the state directory, and any that deleted files are held on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floors {
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// What a file system has free, for whoever is not root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Free {
    /// Bytes.
    pub bytes: u64,
    /// Inodes; none where it does not count them.
    pub inodes: Option<u64>,
}

impl Free {
    /// Of the one that `path` lies on; none where it does not tell.
    pub(super) fn at(path: &Path) -> Option<Self> {
        rustix::fs::statvfs(path).ok().map(Self::from)
    }

    /// Of the one that an open file lies on; none where it does not tell.
    pub fn around(file: &File) -> Option<Self> {
        rustix::fs::fstatvfs(file).ok().map(Self::from)
    }
}

impl From<StatVfs> for Free {
    fn from(stat: StatVfs) -> Self {
        Self {
            bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            // Some file systems have no number of inodes to give, and say 0 of 0.
            inodes: (stat.f_files > 0).then_some(stat.f_favail),
        }
    }
}

/// What the store saw last, for whoever may not wait for a disk.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<Option<Free>>>);

impl Seen {
    pub(super) fn set(&self, free: Option<Free>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = free;
    }

    /// None where the file system does not tell.
    pub fn get(&self) -> Option<Free> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Floors {
    /// How much may be written, given what is free and what the database has within itself. Pure.
    pub fn room(self, free_bytes: u64, free_inodes: u64, reusable_bytes: u64) -> u64 {
        if free_inodes < self.inodes {
            return reusable_bytes;
        }
        free_bytes
            .saturating_sub(self.bytes)
            .saturating_add(reusable_bytes)
    }

    /// The same of the file system that `path` lies on; none where it does not tell.
    pub(super) fn room_at(self, path: &Path, reusable_bytes: u64) -> Option<u64> {
        Some(self.room_in(Free::at(path)?, reusable_bytes))
    }

    /// The same where that is known.
    pub fn room_in(self, free: Free, reusable_bytes: u64) -> u64 {
        self.room(free.bytes, free.inodes.unwrap_or(u64::MAX), reusable_bytes)
    }
}

/// Bytes that this process has caused to be written to storage, as the kernel counts them
/// (`write_bytes`, `man 5 proc`); none where it does not.
pub(crate) fn written() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_kept_free_is_not_room() {
        let floors = Floors {
            bytes: 100,
            inodes: 10,
        };
        for (bytes, inodes, reusable, room) in [
            (150, 10, 0, 50),
            (100, 10, 0, 0),
            (99, 10, 7, 7),
            (1000, 9, 7, 7),
            (u64::MAX, u64::MAX, u64::MAX, u64::MAX),
        ] {
            assert_eq!(floors.room(bytes, inodes, reusable), room);
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(Floors::default().room_at(dir.path(), 5) >= Some(5));
        let all = Floors {
            bytes: u64::MAX,
            inodes: 0,
        };
        assert_eq!(all.room_at(dir.path(), 5), Some(5));
    }
}
