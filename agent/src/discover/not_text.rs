//! Files whose names are not UTF-8. The globs' own walk passes them by; a name is any bytes, though, and
//! what a glob would match but for its encoding is followed like any other.
//!
//! Such a name is compared as it is shown: what is not UTF-8 is U+FFFD in it, which `*`, `?` and no
//! letter match. Folders whose names are not UTF-8 are not gone into.

use std::fs;
use std::path::{Path, PathBuf};

use glob::Pattern;

use super::GLOBBING;

/// Whether a glob leads to a path.
pub(super) fn leads_to(glob: &Pattern, path: &Path) -> bool {
    glob.matches_with(&path.to_string_lossy(), GLOBBING)
}

/// What a glob leads to by names that are not UTF-8, in the order of the names. A folder that cannot be
/// read is for the globs' own walk to tell of.
pub(super) fn found_by(glob: &Pattern) -> Vec<PathBuf> {
    let path = Path::new(glob.as_str());
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Vec::new();
    };
    // Both are parts of a glob, which is text.
    let (folder, name) = (folder.to_string_lossy(), name.to_string_lossy());
    // "**" alone leads to folders only.
    let name = Some(&*name).filter(|name| *name != "**" && name.contains(['*', '?', '[']));
    let Some(name) = name.and_then(|name| Pattern::new(name).ok()) else {
        return Vec::new();
    };
    let is_wanted = |path: &PathBuf| {
        let found = path.file_name().filter(|name| name.to_str().is_none());
        found.is_some_and(|found| name.matches_with(&found.to_string_lossy(), GLOBBING))
    };
    let folders = glob::glob_with(&folder, GLOBBING).into_iter().flatten();
    let entries = folders
        .flatten()
        .filter_map(|folder| fs::read_dir(folder).ok());
    let paths = entries.flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = paths.filter(is_wanted).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::super::scan;
    use super::*;

    #[test]
    fn names_of_any_bytes_are_found() {
        let root = tempfile::tempdir().unwrap();
        let name = |bytes: &'static [u8]| root.path().join(OsStr::from_bytes(bytes));
        fs::create_dir(name(b"sub")).unwrap();
        for bytes in [
            &b"caf\xe9.log"[..],
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
        assert_eq!(found("*/*.log", "none"), [r"sub/\xff.log"]);
        assert_eq!(found("**/\u{fffd}*", "none"), [r"sub/\xff.log"]);
        assert!(leads_to(&glob("caf?.log")[0], &name(b"caf\xe9.log")));
    }
}
