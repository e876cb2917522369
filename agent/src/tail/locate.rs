//! Where the file of a known generation lies now: at its path, under another name beside that, wherever
//! the globs lead; or its content, in a rotated file.
//!
//! That it is gone is said only where that is certain: its folder can be listed, and it is not there. A
//! file that may not be read, a disk that fails, a file system that is not mounted (yet) tell nothing of
//! it: whoever took it for gone would read it a second time once it is back.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::opened::Opened;
use super::siblings::{may_become, path_of, siblings};
use crate::checkpoint::{FileIdentity, Marker};
use crate::discover::Found;

/// Why it cannot be told what became of a file.
#[derive(Debug, Error)]
pub enum OutOfReach {
    /// The system refuses.
    #[error("cannot open {}: {error}", path.display())]
    Refused {
        /// What it may be.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The folder is that of a mount point without what is mounted there.
    #[error("cannot find {}: its file system does not seem to be mounted", path.display())]
    NotMounted {
        /// Where it lay.
        path: PathBuf,
    },
}

/// A file that was found; none where it is gone for certain.
pub type Located = Result<Option<Opened>, OutOfReach>;

/// Looks for the inode: where it lay, then beside that, then wherever the globs lead.
///
/// # Errors
/// It cannot be told.
pub fn by_place(known: &FileIdentity, marker: Option<&Marker>, found: &Found) -> Located {
    let path = path_of(known);
    let (beside, mut out_of_reach) = match namesakes(&path, known.inode) {
        Ok(beside) => (beside, None),
        Err(error) => (Vec::new(), Some(refused(&path, error))),
    };
    let matched = (found.files.iter())
        .filter(|seen| seen.inode == known.inode)
        .map(|seen| seen.path.clone());
    for at in [path.clone()].into_iter().chain(beside).chain(matched) {
        match open_inode(&at, known.inode) {
            Ok(Some(mut file)) if file.is_at(known, marker) => match file.holds_marker(marker) {
                Ok(true) => return Ok(Some(file)),
                Ok(false) => {}
                Err(error) => out_of_reach = Some(refused(&at, error)),
            },
            Ok(_) => {}
            // A name that it cannot have: another file, which got its inode number when it was deleted.
            Err(_) if at != path && !may_become(&path, &at) => {}
            Err(error) => out_of_reach = Some(refused(&at, error)),
        }
    }
    match out_of_reach {
        Some(why) => Err(why),
        None if is_mounted(&path, known.device) => Ok(None),
        None => Err(OutOfReach::NotMounted { path }),
    }
}

/// Looks for a file that lost its end, or has NULs there: it lies where it lay, and begins as it did, but holds what
/// was read only up to an earlier marker. Returns where that file lies, as device and inode, and that marker.
///
/// What begins alike may be another file, that a program cut to nothing: a marker counts that lies
/// behind all that the fingerprint covers. `taken`: files that are of other generations.
pub fn by_earlier(
    known: &FileIdentity,
    (last, earlier): (Option<&Marker>, &[Marker]),
    found: &Found,
    taken: &HashSet<(u64, u64)>,
) -> Option<((u64, u64), Marker)> {
    let path = path_of(known);
    let beside = namesakes(&path, known.inode).unwrap_or_default();
    let matched = (found.files.iter())
        .filter(|seen| seen.inode == known.inode)
        .map(|seen| seen.path.clone());
    for at in [path].into_iter().chain(beside).chain(matched) {
        let Ok(Some(mut file)) = open_inode(&at, known.inode) else {
            continue;
        };
        if file.is_packed() || taken.contains(&file.place()) || !file.is_at(known, last) {
            continue;
        }
        let telling =
            (earlier.iter().rev()).filter(|marker| marker.end > u64::from(known.fingerprint_len));
        if let Some(marker) = telling.into_iter().find(|marker| file.has(Some(marker))) {
            return Some((file.place(), *marker));
        }
    }
    None
}

/// Looks for the content, among the rotated files beside where it lay. Where several hold it, none of
/// which says more, it is the oldest: what is younger came after it, and is read too.
///
/// # Errors
/// It cannot be told: it may be in a file that cannot be read.
pub fn by_content(
    known: &FileIdentity,
    marker: Option<&Marker>,
    taken: &HashSet<(u64, u64)>,
) -> Located {
    let path = path_of(known);
    let mut out_of_reach = None;
    let candidates = (siblings(&path).into_iter())
        .filter(|rotated| rotated.modified_ms() >= known.since_ms)
        .map(|rotated| rotated.file)
        .filter(|sibling| may_become(&path, &sibling.path) && !taken.contains(&sibling.place));
    for sibling in candidates {
        match Opened::new(&sibling.path) {
            Ok(mut file) if file.begins_as(known) => match file.holds_marker(marker) {
                Ok(true) => return Ok(Some(file)),
                Err(error) if is_refusal(&error) => {
                    out_of_reach = Some(refused(&sibling.path, error));
                }
                Ok(false) | Err(_) => {}
            },
            Ok(_) => {}
            Err(error) if is_refusal(&error) => {
                out_of_reach = Some(refused(&sibling.path, error));
            }
            Err(_) => {}
        }
    }
    out_of_reach.map_or(Ok(None), Err)
}

/// Names in a file's folder that lead to an inode; none where there is no such folder.
fn namesakes(path: &Path, inode: u64) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    let entries = match path.parent().map(fs::read_dir) {
        Some(Ok(entries)) => entries,
        Some(Err(error)) if is_refusal(&error) => return Err(error),
        Some(Err(_)) | None => return Ok(names),
    };
    for entry in entries {
        let entry = entry?;
        if entry.ino() == inode {
            names.push(entry.path());
        }
    }
    Ok(names)
}

/// Opens what lies at a path, if it is a regular file of this inode.
fn open_inode(path: &Path, inode: u64) -> io::Result<Option<Opened>> {
    let opened = match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() || metadata.ino() != inode => return Ok(None),
        Ok(_) => Opened::new(path),
        Err(error) => Err(error),
    };
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_refusal(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Whether the system says that it will not, or cannot; not that nothing is there.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    let is_absence = matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    );
    error.raw_os_error().is_some() && !is_absence
}

fn refused(path: &Path, error: io::Error) -> OutOfReach {
    OutOfReach::Refused {
        path: path.to_owned(),
        error,
    }
}

/// Whether the file system on which a file lay is there, as far as its folders tell: the nearest that
/// exists is on its device. Device numbers may change from one boot to the next; but a mount point on
/// which nothing is mounted is empty.
pub fn is_mounted(path: &Path, device: u64) -> bool {
    let Some(folder) = path.parent() else {
        return true;
    };
    match fs::metadata(folder) {
        Ok(metadata) if metadata.dev() == device => true,
        Ok(_) => fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()),
        Err(error) if is_refusal(&error) => false,
        Err(_) => (folder.ancestors().skip(1))
            .find_map(|folder| fs::metadata(folder).ok())
            .is_some_and(|metadata| metadata.dev() == device),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_tells_whether_its_file_system_is_there() {
        let root = tempfile::tempdir().unwrap();
        let device = fs::metadata(root.path()).unwrap().dev();
        let (here, empty) = (root.path().join("a.log"), root.path().join("empty/a.log"));
        fs::create_dir(root.path().join("empty")).unwrap();
        fs::write(root.path().join("another"), "").unwrap();
        let missing = root.path().join("no/such/folder/a.log");
        for (path, device, expected) in [
            (&here, device, true),
            (&empty, device, true),
            (&missing, device, true),
            // The numbers are others since the last boot.
            (&here, device + 1, true),
            (&empty, device + 1, false),
            (&missing, device + 1, false),
        ] {
            assert_eq!(is_mounted(path, device), expected, "{path:?} on {device}");
        }
    }
}
