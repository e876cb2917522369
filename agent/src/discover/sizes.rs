//! How long files were when the system started, before any program wrote to them.
//!
//! ```text
//!   3f2b8c1e-…            (the kernel's boot id)
//!   2049 131090 104857    (device, inode, length; a line a file)
//! ```
//!
//! A power cut takes back what programs had written last, and nothing says how much: what a file holds behind the
//! last checkpoint may be what was sent already, or new under the same offsets. Whoever looked before anything was
//! written knows: all up to there is old. `headwater-agent boot-sizes` writes that down, early in the boot.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Longest text that is read: as many files as many sources may have.
pub const BYTES_MAX: u64 = 16 << 20;

/// Read at a time from a file's end, bytes.
const STEP_BYTES: usize = 4096;
/// NULs that are passed over at a file's end, bytes: what has more of them was preallocated, and of it nothing is noted.
const NULS_MAX: u64 = 8 << 20;

/// How long a file of `len` bytes is without NULs at its end: lines may be written in their place. None where it has too
/// many.
///
/// # Errors
/// The system's.
pub fn without_nuls(file: &File, len: u64) -> io::Result<Option<u64>> {
    let mut step = [0; STEP_BYTES];
    let mut end = len;
    while len - end <= NULS_MAX {
        let from = end.saturating_sub(STEP_BYTES as u64);
        let bytes = &mut step[..usize::try_from(end - from).unwrap_or(0)];
        file.read_exact_at(bytes, from)?;
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            return Ok(Some(from + last as u64 + 1));
        }
        end = from;
        if end == 0 {
            return Ok(Some(0));
        }
    }
    Ok(None)
}

/// Lengths of files, by device and inode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sizes(HashMap<(u64, u64), u64>);

impl Sizes {
    /// Takes note of one, bytes.
    pub fn insert(&mut self, place: (u64, u64), len: u64) {
        self.0.insert(place, len);
    }

    /// How long a file was, bytes; none where nobody looked.
    pub fn of(&self, place: (u64, u64)) -> Option<u64> {
        self.0.get(&place).copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As it is written down under the boot `boot_id`.
    pub fn text(&self, boot_id: &str) -> String {
        let mut files: Vec<_> = self.0.iter().collect();
        files.sort_unstable();
        let mut text = format!("{boot_id}\n");
        for ((device, inode), len) in files {
            let line = writeln!(text, "{device} {inode} {len}");
            debug_assert!(line.is_ok(), "a text takes what is written to it");
        }
        text
    }

    /// What was written down under the boot `boot_id`; empty where that was another boot. A line that is none is passed
    /// over: of that file nothing is known.
    pub fn parse(text: &str, boot_id: &str) -> Self {
        let mut lines = text.lines();
        if lines.next() != Some(boot_id) {
            return Self::default();
        }
        let whole = lines.filter_map(|line| {
            let numbers: Vec<u64> = line
                .split(' ')
                .map(str::parse)
                .collect::<Result<_, _>>()
                .ok()?;
            let [device, inode, len] = numbers[..] else {
                return None;
            };
            Some(((device, inode), len))
        });
        Self(whole.collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_length_is_passed_over() {
        let text = "b\n1 2 3\n1 2\n-1 2 3\n4 5 6 7\n\n8 9 18446744073709551616\n7 8 9";
        let mut expected = Sizes::default();
        expected.insert((1, 2), 3);
        expected.insert((7, 8), 9);
        assert_eq!(Sizes::parse(text, "b"), expected);
        assert!(Sizes::parse(text, "a").is_empty());
        assert!(Sizes::parse("", "a").is_empty());
    }

    #[test]
    fn nuls_at_the_end_are_no_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let found = |content: &[u8], nuls: u64| {
            std::fs::write(&path, content).unwrap();
            let file = File::options().read(true).write(true).open(&path).unwrap();
            let len = content.len() as u64 + nuls;
            file.set_len(len).unwrap();
            without_nuls(&file, len).unwrap()
        };
        assert_eq!(found(b"line\n", 0), Some(5));
        let step = STEP_BYTES as u64;
        for nuls in [1, step - 5, step, 3 * step, NULS_MAX - step] {
            assert_eq!(found(b"line\n", nuls), Some(5), "{nuls}");
            assert_eq!(found(b"a\0b\n", nuls), Some(4), "{nuls}");
        }
        assert_eq!((found(b"", 0), found(b"", 9)), (Some(0), Some(0)));
        assert_eq!(found(b"line\n", 2 * NULS_MAX), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(files in prop::collection::hash_map(any::<(u64, u64)>(), any::<u64>(), 0..20)) {
            let sizes = Sizes(files);
            prop_assert_eq!(Sizes::parse(&sizes.text("b"), "b"), sizes);
        }

        #[test]
        fn anything_is_read(text in "\\PC*") {
            Sizes::parse(&format!("b\n{text}"), "b");
        }
    }
}
