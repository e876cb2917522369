//! A walk of our own over what a glob leads to, where that of the `glob` crate does not do.
//!
//! - Files whose paths are not UTF-8: it passes them by; a name is any bytes, though, and what a glob would
//!   match but for its encoding is followed like any other, and gone into where it is a folder.
//! - `**`: it goes into folders by links too, up to forty of them in a path. Two links that lead back up
//!   are enough for a walk without end. Here `**` goes down into folders alone; a link to a file is followed.
//!
//! Such a name is compared as it is shown: what is not UTF-8 is U+FFFD in it, which `*`, `?` and no
//! letter match.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use glob::Pattern;

use super::{GLOBBING, Trouble};

/// Whether a glob leads to a path.
pub(super) fn leads_to(glob: &Pattern, path: &Path) -> bool {
    glob.matches_with(&path.to_string_lossy(), GLOBBING)
}

/// Which paths a walk is to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    /// Those with a name that is not UTF-8.
    Odd,
}

/// Who is handed each path that is found, and each folder that cannot be read; no more, where it says so.
pub(super) type Take<'a> = dyn FnMut(Result<PathBuf, Trouble>) -> ControlFlow<()> + 'a;

/// Hands over what a glob leads to, in the order of the names.
pub(super) fn walk(glob: &Pattern, take: &mut Take<'_>) -> ControlFlow<()> {
    let parts: Vec<Part> = glob.as_str().split('/').filter_map(Part::new).collect();
    // "**" at the end leads to folders only.
    let goes_down = parts.iter().any(|part| matches!(part, Part::Folders));
    let leads_to_files = !matches!(parts.last(), Some(Part::Folders));
    let which = if goes_down { Which::All } else { Which::Odd };
    if which == Which::Odd {
        // The pattern was compiled from this very text: it compiles again.
        let walked = glob::glob_with(glob.as_str(), GLOBBING)
            .into_iter()
            .flatten();
        for entry in walked {
            take(entry.map_err(|error| Trouble::Unreadable {
                path: error.path().to_owned(),
                error: error.into(),
            }))?;
        }
    }
    if leads_to_files {
        Walk { take }.go_on(Path::new("/"), which == Which::All, &parts)?;
    }
    ControlFlow::Continue(())
}

/// One name of a glob.
enum Part {
    Name(String),
    Names(Pattern),
    /// `**`: any number of folders.
    Folders,
}

impl Part {
    fn new(text: &str) -> Option<Self> {
        match text {
            "" => None,
            "**" => Some(Self::Folders),
            text if text.contains(['*', '?', '[']) => Pattern::new(text).ok().map(Self::Names),
            text => Some(Self::Name(text.to_owned())),
        }
    }
}

struct Walk<'a, 'b> {
    take: &'a mut Take<'b>,
}

impl Walk<'_, '_> {
    /// Goes on from `folder` with what is left of the glob. `is_wanted`: whatever this leads to is to be found.
    fn go_on(&mut self, folder: &Path, is_wanted: bool, parts: &[Part]) -> ControlFlow<()> {
        let Some((part, rest)) = parts.split_first() else {
            return ControlFlow::Continue(());
        };
        let is_named = |part: &Part| matches!(part, Part::Name(_));
        if !is_wanted && parts.iter().all(is_named) {
            return ControlFlow::Continue(());
        }
        match part {
            Part::Name(name) => {
                let path = folder.join(name);
                match rest {
                    [] if path.symlink_metadata().is_ok() => (self.take)(Ok(path)),
                    rest => self.go_on(&path, is_wanted, rest),
                }
            }
            Part::Names(pattern) => {
                // Most names of a large folder are text, and at their end: not looked at closer, nor kept.
                let leads_on = |name: &OsStr, _: &fs::DirEntry| {
                    (is_wanted || name.to_str().is_none() || !rest.is_empty())
                        && pattern.matches_with(&name.to_string_lossy(), GLOBBING)
                };
                for (name, entry) in self.names_in(folder, is_wanted, leads_on)? {
                    let is_wanted = is_wanted || name.to_str().is_none();
                    match rest {
                        [] => (self.take)(Ok(entry.path()))?,
                        rest if entry.path().is_dir() => {
                            self.go_on(&entry.path(), is_wanted, rest)?;
                        }
                        _ => {}
                    }
                }
                ControlFlow::Continue(())
            }
            Part::Folders => {
                self.go_on(folder, is_wanted, rest)?;
                // A link may lead back up.
                let is_folder = |_: &OsStr, entry: &fs::DirEntry| {
                    entry.file_type().is_ok_and(|kind| kind.is_dir())
                };
                for (name, entry) in self.names_in(folder, is_wanted, is_folder)? {
                    self.go_on(&entry.path(), is_wanted || name.to_str().is_none(), parts)?;
                }
                ControlFlow::Continue(())
            }
        }
    }

    fn names_in(
        &mut self,
        folder: &Path,
        is_wanted: bool,
        keep: impl Fn(&OsStr, &fs::DirEntry) -> bool,
    ) -> ControlFlow<(), Vec<(OsString, fs::DirEntry)>> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                let is_quiet =
                    [io::ErrorKind::NotADirectory, io::ErrorKind::NotFound].contains(&error.kind());
                if is_wanted && !is_quiet {
                    (self.take)(Err(Trouble::Unreadable {
                        path: folder.to_owned(),
                        error,
                    }))?;
                }
                return ControlFlow::Continue(Vec::new());
            }
        };
        let entries = entries.flatten().map(|entry| (entry.file_name(), entry));
        let mut names: Vec<_> = entries.filter(|(name, entry)| keep(name, entry)).collect();
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        ControlFlow::Continue(names)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::super::scan;
    use super::*;

    #[test]
    fn links_that_lead_back_up_are_no_walk_without_end() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir(path("sub")).unwrap();
        for name in ["x.log", "sub/x.log"] {
            fs::write(path(name), name).unwrap();
        }
        for link in ["a", "b", "sub/c"] {
            std::os::unix::fs::symlink(root.path(), path(link)).unwrap();
        }
        std::os::unix::fs::symlink(path("x.log"), path("sub/y.log")).unwrap();
        for (glob, expected) in [
            ("**/x.log", &["x.log", "sub/x.log"][..]),
            ("**/none.log", &[]),
            // A link to a file, and one in a place of its own, are followed.
            ("**/y.log", &["sub/y.log"]),
            ("a/**/x.log", &["a/x.log", "a/sub/x.log"]),
        ] {
            let pattern = Pattern::new(&path(glob).display().to_string()).unwrap();
            let found = scan(&[pattern], &[]);
            let files: Vec<_> = found.files.iter().map(|seen| seen.path.clone()).collect();
            let expected: Vec<_> = expected.iter().map(|name| path(name)).collect();
            assert_eq!(files, expected, "{glob}");
            assert!(found.troubles.is_empty());
        }
    }

    #[test]
    fn names_of_any_bytes_are_found() {
        let root = tempfile::tempdir().unwrap();
        let name = |bytes: &'static [u8]| root.path().join(OsStr::from_bytes(bytes));
        for folder in [&b"sub"[..], b"\xe4", b"\xe4/deep"] {
            fs::create_dir(name(folder)).unwrap();
        }
        for bytes in [
            &b"\xe4/in.log"[..],
            b"\xe4/deep/\xfc.log",
            b"caf\xe9.log",
            b"caf\xe8.log",
            b"caf\xe9.txt",
            b"ok.log",
            b"sub/\xff.log",
        ] {
            fs::write(name(bytes), "").unwrap();
        }
        let glob =
            |text: &str| vec![Pattern::new(&format!("{}/{text}", root.path().display())).unwrap()];
        let found = |globs: &str, exclude: &str| {
            let found = scan(&glob(globs), &glob(exclude));
            assert!(found.troubles.is_empty());
            let names = found.files.iter().map(|seen| {
                let path = seen.path.strip_prefix(root.path()).unwrap();
                path.as_os_str().as_bytes().escape_ascii().to_string()
            });
            names.collect::<Vec<_>>()
        };
        assert_eq!(
            found("*.log", "none"),
            ["ok.log", r"caf\xe8.log", r"caf\xe9.log"]
        );
        assert_eq!(found("caf?.log", "none"), [r"caf\xe8.log", r"caf\xe9.log"]);
        assert_eq!(found("cafe.log", "none"), [""; 0]);
        assert_eq!(found("*.log", "caf*"), ["ok.log"]);
        assert_eq!(found("*/*.log", "none"), [r"sub/\xff.log", r"\xe4/in.log"]);
        assert_eq!(found("?/in.log", "none"), [r"\xe4/in.log"]);
        assert_eq!(found("?/*/*.log", "none"), [r"\xe4/deep/\xfc.log"]);
        assert_eq!(
            found("**/*.log", "caf*"),
            [
                "ok.log",
                r"sub/\xff.log",
                r"\xe4/in.log",
                r"\xe4/deep/\xfc.log"
            ]
        );
        assert_eq!(found("**/*.log", "\u{fffd}/**/*").len(), 4);
        assert_eq!(
            found("**/\u{fffd}*.log", "none"),
            [r"sub/\xff.log", r"\xe4/deep/\xfc.log"]
        );
        assert!(leads_to(&glob("caf?.log")[0], &name(b"caf\xe9.log")));
    }
}
