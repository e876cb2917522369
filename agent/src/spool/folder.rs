//! The state directory and the files in it.
//!
//! ```text
//! state_dir/            0700, made where it is missing
//!   lock                held from start to end: one agent, one directory
//!   spool.db            0600; SQLite gives -wal and -shm the same mode
//!   spool.new           a salvage under way
//!   spool.whole         a salvage that is complete; it takes spool.db's place
//!   spool.damaged       the last damaged database, with its -wal, where it was small
//!   spool.foreign-wal   a write-ahead log that was not spool.db's
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::schema::OpenError;
use crate::crash;

/// A damaged database is kept for a person to look at where it is not larger, bytes: what could be
/// read of it is in its successor, and a device's disk is not to hold everything twice.
const KEPT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A locked state directory.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the directory where it is missing, and locks it.
    pub(super) fn lock(path: &Path) -> Result<Self, OpenError> {
        let unusable = |path: &Path, source| OpenError::Directory {
            path: path.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| unusable(path, source))?;
        let lock_path = path.join("lock");
        let file = private_file(&lock_path).map_err(|source| unusable(&lock_path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: file,
            }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(unusable(&lock_path, source)),
        }
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join("spool.db")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("spool.db-wal")
    }

    fn salvage(&self) -> PathBuf {
        self.path.join("spool.new")
    }

    fn whole(&self) -> PathBuf {
        self.path.join("spool.whole")
    }

    fn damaged(&self) -> PathBuf {
        self.path.join("spool.damaged")
    }

    /// The database's file, made where it is missing: SQLite would make it readable by all; made by
    /// us first, it and its log are ours alone.
    pub(super) fn make_database(&self) -> io::Result<()> {
        private_file(&self.database())?;
        self.sync()
    }

    /// An empty file for a salvage to fill.
    pub(super) fn make_salvage(&self) -> io::Result<PathBuf> {
        self.drop_salvage()?;
        let path = self.salvage();
        private_file(&path)?;
        Ok(path)
    }

    /// Removes what a salvage has begun.
    pub(super) fn drop_salvage(&self) -> io::Result<()> {
        let path = self.salvage();
        let files = ["", "-journal", "-wal", "-shm"].map(|suffix| with_suffix(&path, suffix));
        files.iter().try_for_each(|file| remove(file))
    }

    /// A salvage is complete and on disk: from here on it is the one to keep.
    pub(super) fn complete_salvage(&self) -> io::Result<()> {
        File::open(self.salvage())?.sync_all()?;
        fs::rename(self.salvage(), self.whole())?;
        self.sync()
    }

    /// Puts a complete salvage into the database's place, if there is one. It may end at any point
    /// and be done again.
    pub(super) fn replace(&self) -> io::Result<()> {
        if !self.whole().exists() {
            return Ok(());
        }
        let (database, damaged) = (self.database(), self.damaged());
        let bytes = fs::metadata(&database).map_or(0, |metadata| metadata.len());
        // The index of the log first: it must not be taken for that of another.
        remove(&with_suffix(&database, "-shm"))?;
        // Then the log, so that it never lies beside a database that is not its own.
        rename_or_remove(&self.log(), &with_suffix(&damaged, "-wal"), bytes)?;
        crash::point("salvage-between-renames");
        rename_or_remove(&database, &damaged, bytes)?;
        self.sync()?;
        fs::rename(self.whole(), &database)?;
        self.sync()
    }

    /// Moves a log aside that is another database's.
    pub(super) fn set_log_aside(&self) -> io::Result<()> {
        remove(&with_suffix(&self.database(), "-shm"))?;
        fs::rename(self.log(), self.path.join("spool.foreign-wal"))?;
        self.sync()
    }

    /// Names are on disk when this returned.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

fn rename_or_remove(from: &Path, to: &Path, bytes: u64) -> io::Result<()> {
    if bytes > KEPT_BYTES_MAX {
        return remove(from);
    }
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}
