//! Finds what the globs of a source lead to, and who each file is.
//!
//! - [`identity`]: pure; whether a file seen now is one that is known.
//! - [`rotated`]: pure; names that rotation gives, and their order.
//! - `walk`: which paths a glob leads to.
//! - [`told`]: which files need not be looked at.
//! - [`said`]: so that a trouble is told once, not at every scan.
//! - [`sizes`]: pure; how long files were when the system started.
//! - [`watch`]: hints from the system that something changed.
//!
//! A [`scan`] is the truth and hints are hints: whatever inotify does not tell (network file
//! systems, lost events, no watch left to have) the next scan finds.

use std::collections::HashSet;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use thiserror::Error;

use self::told::{Known, Names};

pub mod identity;
pub mod rotated;
pub mod said;
pub mod sizes;
pub mod told;
mod walk;
pub mod watch;

/// Most files of one source. More would be a mistaken glob, and would end at the limit of open
/// files; it is said, never silent.
pub const FILES_MAX: usize = 10_000;

/// Most paths that are looked at for them: of one file there may be many names.
const NAMES_MAX: usize = 4 * FILES_MAX;

/// How globs read paths: `*` stays within one name, and names that begin with a dot are names.
const GLOBBING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// A regular file that a glob leads to, symbolic links followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The path as the glob gave it.
    pub path: PathBuf,
    /// Device number of its file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// What a look at it told; none where none was needed.
    pub looks: Option<Looks>,
}

/// What the system says of a file without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    /// Its length on the disk, bytes.
    pub len: u64,
    /// When it was changed last, Unix milliseconds; 0 before 1970.
    pub modified_ms: u64,
    /// How many names lead to it.
    pub links: u64,
}

impl Looks {
    /// As the system says it.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            len: metadata.len(),
            modified_ms: modified_ms(metadata),
            links: metadata.nlink(),
        }
    }
}

/// When a file was changed last, Unix milliseconds; 0 before 1970.
pub fn modified_ms(metadata: &Metadata) -> u64 {
    let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
    let ms = seconds
        .saturating_mul(1000)
        .saturating_add(nanos / 1_000_000);
    u64::try_from(ms).unwrap_or_default()
}

/// The system is asked for a file: tests count it.
pub fn looked() {
    #[cfg(test)]
    counted::LOOKS.set(counted::LOOKS.get() + 1);
}

/// How often this thread asked the system for a file, or for the names of a folder.
#[cfg(test)]
pub(crate) mod counted {
    use std::cell::Cell;

    thread_local! {
        pub(super) static LOOKS: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn looks() -> u64 {
        LOOKS.get()
    }
}

/// What a glob leads to that cannot be followed.
#[derive(Debug, Error)]
pub enum Trouble {
    /// Something else than a regular file.
    #[error("{path} is a {what}, not a regular file; skipped")]
    NotAFile {
        /// Where.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The system refuses.
    #[error("cannot look at {path}: {error}; tried again at the next rescan")]
    Unreadable {
        /// Where.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Over [`FILES_MAX`].
    #[error(
        "{path} and what follows are left out: a source is {FILES_MAX} files at most; narrow its \
         globs"
    )]
    TooMany {
        /// The first that is left out.
        path: PathBuf,
    },
}

impl Trouble {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::NotAFile { path, .. }
            | Self::Unreadable { path, .. }
            | Self::TooMany { path } => path,
        }
    }
}

/// What the globs of a source lead to at the moment.
#[derive(Debug, Default)]
pub struct Found {
    /// Regular files, each once, in the order of the globs and of the names.
    pub files: Vec<Seen>,
    /// What cannot be followed, and why.
    pub troubles: Vec<Trouble>,
    /// Which globs lead to nothing at all, as indexes.
    pub unmatched: Vec<usize>,
}

/// Matches the globs of one source, less what `exclude` matches. A file that has several names is
/// found under the first.
pub fn scan(paths: &[Pattern], exclude: &[Pattern]) -> Found {
    scan_knowing(paths, exclude, &Known::default())
}

/// As [`scan`]; what is known to be there, and of which every change is told, is not looked at.
pub fn scan_knowing(paths: &[Pattern], exclude: &[Pattern], known: &Known<'_>) -> Found {
    let mut found = Found::default();
    let mut known = Names::new(known);
    let (mut names, mut inodes) = (HashSet::new(), HashSet::new());
    for (index, pattern) in paths.iter().enumerate() {
        let before = names.len();
        let mut matched = false;
        let walked = walk::walk(pattern, &mut |entry| {
            let path = match entry {
                Ok(path) => path,
                Err(trouble) => {
                    found.troubles.push(trouble);
                    return ControlFlow::Continue(());
                }
            };
            matched = true;
            let excluded = |pattern: &Pattern| walk::leads_to(pattern, &path);
            if exclude.iter().any(excluded) || names.contains(&path) {
                return ControlFlow::Continue(());
            }
            if found.files.len() >= FILES_MAX || names.len() >= NAMES_MAX {
                found.troubles.push(Trouble::TooMany { path });
                return ControlFlow::Break(());
            }
            names.insert(path.clone());
            let looked = known.find(&path).map(|seen| Ok(Some(seen)));
            match looked.unwrap_or_else(|| look_at(path)) {
                Ok(Some(seen)) if inodes.insert((seen.device, seen.inode)) => {
                    found.files.push(seen);
                }
                Ok(_) => {}
                Err(trouble) => found.troubles.push(trouble),
            }
            ControlFlow::Continue(())
        });
        if walked.is_break() {
            return found;
        }
        if !matched && names.len() == before {
            found.unmatched.push(index);
        }
    }
    found
}

/// The first of some globs that leads to a path.
pub fn matches<'a>(globs: &'a [Pattern], path: &Path) -> Option<&'a Pattern> {
    (globs.iter()).find(|glob| walk::leads_to(glob, path))
}

/// What lies at a path, if it is a regular file; nothing where nothing does.
///
/// # Errors
/// It cannot be followed, and why.
pub fn look_at(path: PathBuf) -> Result<Option<Seen>, Trouble> {
    looked();
    match fs::metadata(&path) {
        Ok(metadata) => match not_a_file(&metadata) {
            None => Ok(Some(Seen {
                path,
                device: metadata.dev(),
                inode: metadata.ino(),
                looks: Some(Looks::of(&metadata)),
            })),
            Some(what) => Err(Trouble::NotAFile { path, what }),
        },
        // Deleted since the glob saw it, unless it is a link that leads nowhere.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => Ok(None),
        Err(error) => Err(Trouble::Unreadable { path, error }),
    }
}

/// What it is, where it is no regular file.
pub fn not_a_file(metadata: &Metadata) -> Option<&'static str> {
    let kind: FileType = metadata.file_type();
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("directory")
    } else if kind.is_fifo() {
        Some("FIFO")
    } else if kind.is_socket() {
        Some("socket")
    } else if kind.is_block_device() || kind.is_char_device() {
        Some("device")
    } else {
        Some("thing of another kind")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn patterns(folder: &Path, globs: &[&str]) -> Vec<Pattern> {
        let compile = |glob: &&str| Pattern::new(&format!("{}/{glob}", folder.display())).unwrap();
        globs.iter().map(compile).collect()
    }

    #[test]
    fn a_source_is_so_many_files_at_most_and_the_first_that_is_left_out_is_told() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..FILES_MAX + 7 {
            fs::write(folder.path().join(format!("{n:05}.log")), "").unwrap();
        }
        let found = scan(&patterns(folder.path(), &["*.log"]), &[]);
        assert_eq!(found.files.len(), FILES_MAX);
        let troubles: Vec<_> = found.troubles.iter().map(ToString::to_string).collect();
        assert_eq!(troubles.len(), 1, "{troubles:?}");
        assert!(
            troubles[0].contains("10000.log and what follows are left out"),
            "{troubles:?}"
        );
        let narrow = scan(&patterns(folder.path(), &["0*.log"]), &[]);
        assert_eq!(narrow.files.len(), FILES_MAX);
        assert!(narrow.troubles.is_empty());
    }

    #[test]
    fn regular_files_are_found_once_and_the_rest_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a.log", "b.log", "c.txt", "x.log"] {
            fs::write(at(name), name).unwrap();
        }
        fs::create_dir(at("d.log")).unwrap();
        fs::write(at("d.log/deep.log"), "").unwrap();
        symlink(at("a.log"), at("link.log")).unwrap();
        symlink(at("nowhere"), at("dangling.log")).unwrap();
        let _socket = UnixListener::bind(at("s.log")).unwrap();

        let found = scan(
            &patterns(folder.path(), &["*.log", "b*", "none*"]),
            &patterns(folder.path(), &["x*"]),
        );
        let names: Vec<_> = (found.files.iter())
            .map(|seen| seen.path.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["a.log", "b.log"]);
        assert_eq!(found.unmatched, [2]);
        let troubles: Vec<_> = found.troubles.iter().map(ToString::to_string).collect();
        let is_told = |what: &str| troubles.iter().any(|text| text.contains(what));
        assert_eq!(troubles.len(), 3, "{troubles:?}");
        assert!(is_told("d.log is a directory"), "{troubles:?}");
        assert!(is_told("s.log is a socket"), "{troubles:?}");
        assert!(is_told("dangling.log: No such file"), "{troubles:?}");
    }

    #[test]
    fn a_star_stays_in_one_folder_and_two_do_not() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/deep.log"), "").unwrap();
        let count = |glob, exclude: &[&str]| {
            let exclude = patterns(folder.path(), exclude);
            scan(&patterns(folder.path(), &[glob]), &exclude)
                .files
                .len()
        };
        assert_eq!(count("*.log", &[]), 0);
        assert_eq!(count("**/*.log", &[]), 1);
        assert_eq!(count("**/*.log", &["*.log"]), 1);
        assert_eq!(count("**/*.log", &["**/deep*"]), 0);
    }
}
