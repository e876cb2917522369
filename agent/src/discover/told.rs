//! What need not be looked at. In a folder whose every change inotify tells of, a name that leads to the
//! inode which is followed there is that file, and nothing happened to it that was not heard of: so one
//! look at the folder stands for one at each of its files.
//!
//! The system tells of what is done by way of its own files. What another machine does to a network file
//! system, a program to FUSE, or anybody to what lies below an overlay, it does not see.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::Seen;

/// File systems of this machine alone, by their numbers (`statfs`).
const LOCAL: [u32; 16] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0xf2f5_2010, // F2FS
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x4d44,      // FAT
    0x2011_bab0, // exFAT
    0x2405_1905, // UBIFS
    0x72b6,      // JFFS2
    0x3434,      // NILFS2
    0x3153_464a, // JFS
    0x5265_4973, // ReiserFS
    0x2fc1_2fc1, // ZFS
    0xca45_1a4e, // bcachefs
    0x7366_746e, // NTFS, the kernel's own
];

/// With fewer followed files in a folder, a look at each costs no more than one at the folder. Tests have few.
const LISTED_FROM: usize = if cfg!(test) { 1 } else { 8 };

/// Folders whose every change is told of, and their device and inode.
#[derive(Debug, Default, Clone)]
pub struct Told(HashMap<PathBuf, (u64, u64)>);

impl Told {
    /// Whether what happens in a folder is told.
    pub fn of(&self, folder: &Path) -> bool {
        self.0.contains_key(folder)
    }

    /// From now on it is, if it lies on a file system that tells.
    pub fn enter(&mut self, folder: &Path, place: (u64, u64)) {
        if kind_of(folder).is_some_and(|kind| LOCAL.contains(&kind)) {
            self.0.insert(folder.to_owned(), place);
        }
    }

    /// These are, wherever they lie.
    #[cfg(test)]
    pub(crate) fn all_of<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Self {
        let place = |folder: &Path| {
            let metadata = fs::metadata(folder).unwrap();
            (metadata.dev(), metadata.ino())
        };
        let folders = folders.into_iter();
        Self(
            folders
                .map(|folder| (folder.to_owned(), place(folder)))
                .collect(),
        )
    }

    /// From now on it is not.
    pub fn forget(&mut self, folder: &Path) {
        self.0.remove(folder);
    }
}

/// The number of the file system on which a path lies.
fn kind_of(path: &Path) -> Option<u32> {
    // As wide as a machine word: the number is its lower half at most.
    let word = rustix::fs::statfs(path).ok()?.f_type.to_le_bytes();
    word.first_chunk().map(|low| u32::from_le_bytes(*low))
}

/// Followed files, by the paths at which globs lead to them, and the folders of which is told.
#[derive(Debug, Default)]
pub struct Known<'a> {
    files: HashMap<&'a Path, (u64, u64)>,
    inodes: HashSet<u64>,
    by_folder: HashMap<&'a Path, usize>,
    told: Option<&'a Told>,
}

impl<'a> Known<'a> {
    /// `files`: path, and device and inode.
    pub fn new(told: &'a Told, files: impl Iterator<Item = (&'a Path, (u64, u64))>) -> Self {
        let mut known = Self {
            told: Some(told),
            ..Self::default()
        };
        for (path, place) in files {
            known.files.insert(path, place);
            known.inodes.insert(place.1);
            if let Some(folder) = path.parent() {
                *known.by_folder.entry(folder).or_default() += 1;
            }
        }
        known
    }

    /// The names of followed files in a folder; none where it has to be looked at each.
    fn list(&self, folder: &Path) -> Option<HashMap<OsString, u64>> {
        let place = self.told?.0.get(folder)?;
        if self.by_folder.get(folder)? < &LISTED_FROM {
            return None;
        }
        let metadata = fs::metadata(folder).ok()?;
        if (metadata.dev(), metadata.ino()) != *place {
            return None;
        }
        super::looked();
        let entries = fs::read_dir(folder).ok()?.flatten();
        let ours = entries.filter(|entry| self.inodes.contains(&entry.ino()));
        let files = ours.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        Some(
            files
                .map(|entry| (entry.file_name(), entry.ino()))
                .collect(),
        )
    }
}

/// Finds followed files by the names of their folders, each of which is listed once.
#[derive(Debug)]
pub(super) struct Names<'a> {
    known: &'a Known<'a>,
    listed: HashMap<PathBuf, Option<HashMap<OsString, u64>>>,
}

impl<'a> Names<'a> {
    pub(super) fn new(known: &'a Known<'a>) -> Self {
        Self {
            known,
            listed: HashMap::new(),
        }
    }

    /// The file at a path, if it is the one that is followed there, without a look at it.
    pub(super) fn find(&mut self, path: &Path) -> Option<Seen> {
        let (device, inode) = *self.known.files.get(path)?;
        let (folder, name) = (path.parent()?, path.file_name()?);
        // What is mounted over a name has another device than its folder.
        if self.known.told?.0.get(folder)?.0 != device {
            return None;
        }
        if !self.listed.contains_key(folder) {
            (self.listed).insert(folder.to_owned(), self.known.list(folder));
        }
        let names = self.listed.get(folder)?.as_ref()?;
        (names.get(name) == Some(&inode)).then(|| Seen {
            path: path.to_owned(),
            device,
            inode,
            looks: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_may_change_unseen_is_not_told_of() {
        let ext4 = 0xef53;
        // NFS, SMB, FUSE, overlay, 9p.
        for kind in [0x6969, 0xff53_4d42, 0x6573_5546, 0x794c_7630, 0x0102_1997] {
            assert!(!LOCAL.contains(&kind), "{kind:#x}");
        }
        assert!(LOCAL.contains(&ext4));
        let mut told = Told::default();
        told.enter(Path::new("/proc"), (1, 1));
        assert!(!told.of(Path::new("/proc")));
        assert_eq!(kind_of(Path::new("/proc")), Some(0x9fa0));
    }
}
