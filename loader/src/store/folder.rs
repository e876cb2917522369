//! A local folder as an output: the same promises as S3, by the file system's own means.
//!
//! An object is written to a temporary file under `_headwater/tmp/`, synced, and linked to its name:
//! linking fails where the name is taken, which is the atomic "unless it is there". Then the folder is
//! synced. Whoever reads the data folders never sees a file that is not whole; what a crash leaves in
//! `tmp/` is removed a day later.
//!
//! Several loaders may share a folder, and in containers all of them are process 1: a temporary file's
//! name has a random part, and it is only ever made, never opened where one is.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use crate::store::{Listed, Reading, StoreError, Stored};

/// Temporary files lie here; a listing leaves them out.
const TEMPORARY: &str = "_headwater/tmp/";
/// A temporary file of this age belongs to nobody any more.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A local folder. What it does waits for a disk, or for a server behind it: [`super::Store`] has it done on
/// threads for that.
#[derive(Debug, Clone)]
pub struct Folder {
    root: Arc<Path>,
    /// Tells temporary files from those of other processes, on other machines too.
    random: u64,
    serial: Arc<AtomicU64>,
}

impl Folder {
    /// The folder at `root`; it is made when something is stored.
    pub fn new(root: PathBuf) -> Self {
        Self {
            root: root.into(),
            random: RandomState::new().build_hasher().finish(),
            serial: Arc::default(),
        }
    }

    /// See [`super::Store::check`].
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let temporary = self.root.join(TEMPORARY);
        fs::create_dir_all(&temporary).map_err(|error| failed("make", &temporary, &error))?;
        let entries =
            fs::read_dir(&temporary).map_err(|error| failed("list", &temporary, &error))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let age = fs::metadata(&path).and_then(|about| about.modified()).ok();
            if age
                .and_then(|modified| modified.elapsed().ok())
                .is_some_and(|age| age > ABANDONED)
            {
                fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
            }
        }
        Ok(())
    }

    /// See [`super::Store::put_new`].
    pub(super) fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Stored, StoreError> {
        let path = self.root.join(key);
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(|error| failed("make", folder, &error))?;
        let (temporary, file) = self.make_temporary()?;
        let linked = write_synced(file, bytes).and_then(|()| fs::hard_link(&temporary, &path));
        let removed = fs::remove_file(&temporary);
        match linked {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let stored = same(key, &path, bytes)?;
                // Whoever made it may have died before its name was on the disk.
                sync_folders(folder, &self.root).map_err(|error| failed("sync", folder, &error))?;
                return Ok(stored);
            }
            Err(error) => return Err(failed("write", &path, &error)),
        }
        removed.map_err(|error| failed("remove", &temporary, &error))?;
        sync_folders(folder, &self.root).map_err(|error| failed("sync", folder, &error))?;
        Ok(Stored::Written)
    }

    /// A temporary file that nobody else has.
    fn make_temporary(&self) -> Result<(PathBuf, File), StoreError> {
        let temporaries = self.root.join(TEMPORARY);
        fs::create_dir_all(&temporaries).map_err(|error| failed("make", &temporaries, &error))?;
        loop {
            let serial = self.serial.fetch_add(1, Ordering::Relaxed);
            let path = temporaries.join(format!("{:016x}-{serial}", self.random));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("make", &path, &error)),
            }
        }
    }

    /// See [`super::Store::get`].
    pub(super) fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let path = self.root.join(key);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    /// See [`super::Store::open`].
    pub(super) fn open(&self, key: &str) -> Result<Option<Reading>, StoreError> {
        let path = self.root.join(key);
        match File::open(&path) {
            Ok(file) => Ok(Some(Reading::Folder(path, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    /// See [`super::Store::remove`].
    pub(super) fn remove(&self, key: &str) -> Result<(), StoreError> {
        let path = self.root.join(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path, &error))
            }
            _ => Ok(()),
        }
    }

    /// See [`super::Store::list`].
    pub(super) fn list(
        &self,
        prefix: &str,
        each: &mut dyn FnMut(Listed),
    ) -> Result<(), StoreError> {
        // Below the prefix's deepest folder: what lies beside it is not looked at.
        let deepest = prefix.rfind('/').map_or("", |slash| &prefix[..slash]);
        let mut folders = vec![self.root.join(deepest)];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(failed("list", &folder, &error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| failed("list", &folder, &error))?;
                let path = entry.path();
                // Where it went away meanwhile, it is not there.
                let Some(about) = still_there(entry.metadata(), &path)? else {
                    continue;
                };
                if about.is_dir() {
                    folders.push(path);
                    continue;
                }
                let Some(key) = path.strip_prefix(&self.root).ok().and_then(Path::to_str) else {
                    continue;
                };
                if key.starts_with(prefix) && !key.starts_with(TEMPORARY) {
                    let size = about.len();
                    let modified = about.modified().ok();
                    let since = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                    let modified_ms = since.and_then(|since| since.as_millis().try_into().ok());
                    each(Listed {
                        key: key.to_owned(),
                        size,
                        modified_ms: modified_ms.unwrap_or(u64::MAX),
                    });
                }
            }
        }
        Ok(())
    }
}

/// What a file's metadata are; nothing where it was removed since it was listed.
fn still_there(
    about: io::Result<fs::Metadata>,
    path: &Path,
) -> Result<Option<fs::Metadata>, StoreError> {
    match about {
        Ok(about) => Ok(Some(about)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("list", path, &error)),
    }
}

fn write_synced(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

/// Syncs `folder` and those above it up to `root`: a new folder's own name must survive too.
fn sync_folders(folder: &Path, root: &Path) -> io::Result<()> {
    for folder in folder.ancestors() {
        File::open(folder)?.sync_all()?;
        if folder == root {
            break;
        }
    }
    Ok(())
}

/// Found there: the same bytes, or the same rows from another version of the compressor.
fn same(key: &str, path: &Path, bytes: &[u8]) -> Result<Stored, StoreError> {
    let there = fs::read(path).map_err(|error| failed("read", path, &error))?;
    if there == bytes || matches!((plain(key, &there), plain(key, bytes)), (Ok(a), Ok(b)) if a == b)
    {
        return Ok(Stored::AlreadyThere);
    }
    Err(StoreError::Conflict {
        key: key.to_owned(),
        there: format!("{} bytes", there.len()),
        here: format!("{} bytes", bytes.len()),
    })
}

fn plain(key: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    if key.ends_with(".zst") {
        zstd::Decoder::new(bytes)?.read_to_end(&mut plain)?;
    } else if key.ends_with(".gz") {
        flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain)?;
    } else {
        plain.extend_from_slice(bytes);
    }
    Ok(plain)
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> StoreError {
    let text = format!("cannot {verb} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::ReadOnlyFilesystem => StoreError::Refused(text),
        _ => StoreError::Later(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_went_away_while_it_was_listed_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone");
        assert!(still_there(fs::metadata(&path), &path).unwrap().is_none());
        let here = still_there(fs::metadata(folder.path()), folder.path());
        assert!(here.unwrap().is_some());
        let other = still_there(Err(io::ErrorKind::PermissionDenied.into()), &path);
        assert!(matches!(other, Err(StoreError::Refused(_))), "{other:?}");
    }

    #[test]
    fn a_listing_starts_where_its_prefix_lies() {
        let root = tempfile::tempdir().unwrap();
        let store = Folder::new(root.path().join("out"));
        let keys = ["a", "b/c/x", "b/c/y/z", "b/cd/x", "b/d", "ba"];
        for key in keys {
            store.put_new(key, b"1").unwrap();
        }
        let list = |prefix: &str| {
            let mut found = Vec::new();
            store.list(prefix, &mut |listed| found.push(listed.key))?;
            found.sort();
            Ok::<_, StoreError>(found)
        };
        for prefix in ["", "b", "b/", "b/c", "b/c/", "b/c/y/z", "a/x", "n/o/"] {
            let all = keys.iter().filter(|key| key.starts_with(prefix));
            let all: Vec<&str> = all.copied().collect();
            assert_eq!(list(prefix).unwrap(), all, "{prefix}");
        }
    }

    /// What a loader has under way between its write and its link.
    #[test]
    fn a_temporary_file_of_another_loader_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let (mine, mut other) = (Folder::new(root.into()), Folder::new(root.into()));
        assert_ne!(mine.random, other.random, "both may be process 1");
        // Even where their names are the same.
        other.random = mine.random;
        let (theirs, file) = other.make_temporary().unwrap();
        write_synced(file, b"theirs\n").unwrap();
        assert_eq!(mine.put_new("b", b"mine\n").unwrap(), Stored::Written);
        assert_eq!(fs::read(&theirs).unwrap(), b"theirs\n");
        fs::hard_link(&theirs, root.join("a")).unwrap();
        assert_eq!(&mine.get("a").unwrap().unwrap()[..], b"theirs\n");
        assert_eq!(&mine.get("b").unwrap().unwrap()[..], b"mine\n");
        let left = theirs.file_name().unwrap().to_str().unwrap();
        assert_eq!(names(&root.join(TEMPORARY)), [left]);
    }
}
