//! The rotated files that lie beside a log, as they are named now.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use headwater_record::StreamId;
use headwater_record::names::escape_path;

use crate::checkpoint::FileIdentity;
use crate::discover::modified_ms;
use crate::discover::rotated::{self, Rotated};

/// Most rotated files of one log that are looked at: the newest.
const SIBLINGS_MAX: usize = 1000;

/// A regular file beside a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sibling {
    /// Where.
    pub path: PathBuf,
    /// Device and inode.
    pub place: (u64, u64),
}

/// The path at which a known file was last seen.
pub fn path_of(known: &FileIdentity) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&known.path))
}

/// When a name was last made or taken away in a file's folder, Unix milliseconds; 0 where that cannot be told.
pub fn folder_changed_ms(path: &Path) -> u64 {
    let folder = path.parent().and_then(|folder| fs::metadata(folder).ok());
    folder.map_or(0, |folder| modified_ms(&folder))
}

/// The log's rotated files, the oldest first. Where its folder cannot be read there are none: its
/// scan says so.
pub fn siblings(log: &Path) -> Vec<Rotated<Sibling>> {
    let (Some(folder), Some(name)) = (log.parent(), log.file_name()) else {
        return Vec::new();
    };
    let family = rotated::family(name.as_bytes());
    let mut found: Vec<_> = (fs::read_dir(folder).into_iter().flatten().flatten())
        .filter(|entry| rotated::family(entry.file_name().as_bytes()) == family)
        .filter_map(|entry| {
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            let sibling = Sibling {
                path: entry.path(),
                place: (metadata.dev(), metadata.ino()),
            };
            let name = entry.file_name();
            rotated::rotated(&family, name.as_bytes(), modified_ms(&metadata), sibling)
        })
        .collect();
    rotated::sort_oldest_first(&mut found);
    let surplus = found.len().saturating_sub(SIBLINGS_MAX);
    found.drain(..surplus);
    found
}

/// Whether rotation, or a compressor, may have brought what lay at `from` to `to`.
pub fn may_become(from: &Path, to: &Path) -> bool {
    let name = |path: &Path| Some(path.file_name()?.as_bytes().to_vec());
    from.parent() == to.parent()
        && (name(from).zip(name(to))).is_some_and(|(from, to)| rotated::may_become(&from, &to))
}

/// Whether a rotated file is named after a stream's log, as what copies and cuts it (`copytruncate`) names what it
/// makes: `app.log.1`, `app.log-20261129.gz`, and with an `extension` `app-20261129.log`. `worker.1.log` is not named
/// after `worker.log`: it may be the log of a worker.
pub fn is_named_after(log: &StreamId, rotated: &Path) -> bool {
    let rotated = escape_path(rotated.as_os_str().as_bytes());
    let has_more = |more: &str| more.starts_with(['.', '-', '_']);
    rotated.strip_prefix(log.path()).is_some_and(has_more) || {
        let (log, rotated) = (log.path().rsplit_once('/'), rotated.rsplit_once('/'));
        log.zip(rotated)
            .is_some_and(|((folder, log), (beside, name))| {
                folder == beside && rotated::is_dated_of(log.as_bytes(), name.as_bytes())
            })
    }
}

/// Whether two paths are names of one log, in one folder.
pub fn are_of_one_log(a: &Path, b: &Path) -> bool {
    let family = |path: &Path| Some(rotated::family(path.file_name()?.as_bytes()));
    a.parent() == b.parent() && family(a) == family(b)
}
