//! Files whose paths are not UTF-8. The globs' own walk passes them by; a name is any bytes, though, and
//! what a glob would match but for its encoding is followed like any other, and gone into where it is a
//! folder.
//!
//! Such a name is compared as it is shown: what is not UTF-8 is U+FFFD in it, which `*`, `?` and no
//! letter match.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use glob::Pattern;

use super::{GLOBBING, Trouble};

/// Whether a glob leads to a path.
pub(super) fn leads_to(glob: &Pattern, path: &Path) -> bool {
    glob.matches_with(&path.to_string_lossy(), GLOBBING)
}

/// What a glob leads to by names that are not UTF-8, in the order of the names; and folders of such
/// names that cannot be read. Others are for the globs' own walk to tell of.
pub(super) fn found_by(glob: &Pattern) -> Vec<Result<PathBuf, Trouble>> {
    let mut parts: Vec<Part> = glob.as_str().split('/').filter_map(Part::new).collect();
    if let Some(Part::Folders) = parts.last() {
        // "**" at the end leads to folders only.
        parts.clear();
    }
    let mut walk = Walk { found: Vec::new() };
    walk.go_on(Path::new("/"), false, &parts);
    walk.found
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

struct Walk {
    found: Vec<Result<PathBuf, Trouble>>,
}

impl Walk {
    /// Goes on from `folder` with what is left of the glob; `is_odd`: a name above is not UTF-8.
    fn go_on(&mut self, folder: &Path, is_odd: bool, parts: &[Part]) {
        let Some((part, rest)) = parts.split_first() else {
            return;
        };
        let is_named = |part: &Part| matches!(part, Part::Name(_));
        if !is_odd && parts.iter().all(is_named) {
            return;
        }
        match part {
            Part::Name(name) => {
                let path = folder.join(name);
                match rest {
                    [] if path.symlink_metadata().is_ok() => self.found.push(Ok(path)),
                    rest => self.go_on(&path, is_odd, rest),
                }
            }
            Part::Names(pattern) => {
                // Most names of a large folder are text, and at their end: not looked at closer, nor kept.
                let leads_on = |name: &OsStr, _: &fs::DirEntry| {
                    (is_odd || name.to_str().is_none() || !rest.is_empty())
                        && pattern.matches_with(&name.to_string_lossy(), GLOBBING)
                };
                for (name, entry) in self.names_in(folder, is_odd, leads_on) {
                    let is_odd = is_odd || name.to_str().is_none();
                    match rest {
                        [] => self.found.push(Ok(entry.path())),
                        rest if entry.path().is_dir() => self.go_on(&entry.path(), is_odd, rest),
                        _ => {}
                    }
                }
            }
            Part::Folders => {
                self.go_on(folder, is_odd, rest);
                // A link may lead back up.
                let is_folder = |_: &OsStr, entry: &fs::DirEntry| {
                    entry.file_type().is_ok_and(|kind| kind.is_dir())
                };
                for (name, entry) in self.names_in(folder, is_odd, is_folder) {
                    self.go_on(&entry.path(), is_odd || name.to_str().is_none(), parts);
                }
            }
        }
    }

    fn names_in(
        &mut self,
        folder: &Path,
        is_odd: bool,
        keep: impl Fn(&OsStr, &fs::DirEntry) -> bool,
    ) -> Vec<(OsString, fs::DirEntry)> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                if is_odd && error.kind() != io::ErrorKind::NotADirectory {
                    self.found.push(Err(Trouble::Unreadable {
                        path: folder.to_owned(),
                        error,
                    }));
                }
                return Vec::new();
            }
        };
        let entries = entries.flatten().map(|entry| (entry.file_name(), entry));
        let mut names: Vec<_> = entries.filter(|(name, entry)| keep(name, entry)).collect();
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        names
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::super::scan;
    use super::*;

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
                r"\xe4/in.log",
                r"sub/\xff.log",
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
