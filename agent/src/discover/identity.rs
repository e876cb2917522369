//! Whether a file seen now is one that is known. Pure.
//!
//! Device and inode name a file while it lies there; once it is deleted its inode is given to the
//! next. A rotation by copy and truncate keeps the inode and changes the file. So the first bytes
//! count too: a CRC-32C over up to 1024 of them, that grows with a file that was shorter. And where
//! two files begin alike (a banner, a header of columns), what lies right before the last offset that
//! was read tells them apart: the marker.

use crate::checkpoint::{FileIdentity, Marker};
use crate::frame::encoding::NUL_RUN;

/// Most bytes that a fingerprint covers: enough to hold some lines with their times.
pub const FINGERPRINT_BYTES: usize = 1024;

/// Most bytes that a marker covers: with a time in it, such an end of a line comes once.
pub const MARKER_BYTES: usize = 64;

/// Fingerprints over this many bytes tell two files apart even where the device number changed: it
/// does, from one boot to the next, on removable and mapped devices.
const TELLING_BYTES: u32 = 64;

/// The beginning of a file as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// Device number of its file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Its first bytes, [`FINGERPRINT_BYTES`] at most.
    pub bytes: &'a [u8],
}

/// What a file seen now is to one that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// It is that file.
    Same,
    /// It is that file, and there are more first bytes now to know it by.
    Grown,
    /// It is another.
    Different,
}

/// Compares a file with what is known of one.
pub fn match_identity(known: &FileIdentity, seen: &Head<'_>) -> Match {
    let same_place = known.inode == seen.inode
        && (known.device == seen.device || known.fingerprint_len >= TELLING_BYTES);
    if !same_place || !has_fingerprint(known, seen.bytes) {
        return Match::Different;
    }
    if u32::try_from(telling(seen.bytes).len()).is_ok_and(|len| len > known.fingerprint_len) {
        Match::Grown
    } else {
        Match::Same
    }
}

/// Whether a file that begins with `head` begins as the known one did, wherever it lies.
pub fn has_fingerprint(known: &FileIdentity, head: &[u8]) -> bool {
    (usize::try_from(known.fingerprint_len).ok())
        .and_then(|len| head.get(..len))
        .is_some_and(|covered| crc32c::crc32c(covered) == known.fingerprint)
}

/// What of a file's first bytes it can be known by: up to a NUL run, where lines may be written
/// yet.
pub fn telling(head: &[u8]) -> &[u8] {
    let head = &head[..head.len().min(FINGERPRINT_BYTES)];
    let run = memchr::memmem::find(head, &[0; NUL_RUN]);
    &head[..run.unwrap_or(head.len())]
}

/// Length and CRC-32C of a file's first bytes, as far as they are telling.
pub fn fingerprint(head: &[u8]) -> (u32, u32) {
    let head = telling(head);
    let len = u32::try_from(head.len()).unwrap_or(u32::MAX);
    (len, crc32c::crc32c(head))
}

/// The marker of an offset; `before`: what lies right before it, [`MARKER_BYTES`] or all there is
/// at least.
pub fn marker(end: u64, before: &[u8]) -> Marker {
    let bytes = &before[before.len().saturating_sub(MARKER_BYTES)..];
    Marker {
        end,
        len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        sum: crc32c::crc32c(bytes),
    }
}

/// Whether `before`, which lies right before the marker's offset, is what it was made of.
pub fn is_at(marker: &Marker, before: &[u8]) -> bool {
    (usize::try_from(marker.len).ok())
        .and_then(|len| before.len().checked_sub(len))
        .is_some_and(|from| crc32c::crc32c(&before[from..]) == marker.sum)
}

/// Whether a fingerprint over `now` bytes is worth a write to flash where one over `stored` bytes
/// is stored: a file that grows line by line is written down a few times, not at every line.
pub fn is_worth_storing(stored: u32, now: u32) -> bool {
    let full = u32::try_from(FINGERPRINT_BYTES).is_ok_and(|full| now >= full);
    now > stored && (stored == 0 || full || now / 2 >= stored)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(device: u64, inode: u64, head: &[u8]) -> FileIdentity {
        let (fingerprint_len, fingerprint) = fingerprint(head);
        FileIdentity {
            path: b"/var/log/syslog".to_vec(),
            device,
            inode,
            fingerprint_len,
            fingerprint,
            since_ms: 0,
        }
    }

    #[test]
    fn a_file_is_known_by_place_and_content() {
        let line =
            b"2026-11-24 08:15:00 one line that is longer than sixty-four bytes, to tell by\n";
        let check = |known: &FileIdentity, device, inode, bytes: &[u8], expected| {
            let head = Head {
                device,
                inode,
                bytes,
            };
            assert_eq!(
                match_identity(known, &head),
                expected,
                "{:?}",
                bytes.escape_ascii()
            );
        };
        let short = known(1, 2, b"abc");
        check(&short, 1, 2, b"abc", Match::Same);
        check(&short, 1, 2, b"abcd", Match::Grown);
        check(&short, 1, 2, b"ab", Match::Different);
        check(&short, 1, 2, b"", Match::Different);
        check(&short, 1, 2, b"xbcd", Match::Different);
        check(&short, 1, 3, b"abc", Match::Different);
        check(&short, 9, 2, b"abc", Match::Different);
        let empty = known(1, 2, b"");
        check(&empty, 1, 2, b"", Match::Same);
        check(&empty, 1, 2, b"anything", Match::Grown);
        check(&empty, 9, 2, b"", Match::Different);
        // A device number may change over a reboot: enough content tells.
        let long = known(1, 2, line);
        check(&long, 9, 2, line, Match::Same);
        check(&long, 9, 3, line, Match::Different);
    }

    #[test]
    fn nuls_tell_nothing_where_lines_may_be_written() {
        let preallocated = [b"one\ntwo".as_slice(), &[0; 500]].concat();
        let written = [b"one\ntwo and three\n".as_slice(), &[0; 488]].concat();
        let known = known(1, 2, &preallocated);
        assert_eq!(known.fingerprint_len, 7);
        let head = Head {
            device: 1,
            inode: 2,
            bytes: &written,
        };
        assert_eq!(match_identity(&known, &head), Match::Grown);
        let head = Head {
            device: 1,
            inode: 2,
            bytes: &preallocated,
        };
        assert_eq!(match_identity(&known, &head), Match::Same);
    }

    #[test]
    fn flash_is_written_when_a_fingerprint_doubled() {
        for (stored, now, expected) in [
            (0, 0, false),
            (0, 1, true),
            (10, 19, false),
            (10, 20, true),
            (10, 10, false),
            (1000, 1024, true),
            (1024, 1024, false),
        ] {
            assert_eq!(is_worth_storing(stored, now), expected, "{stored} -> {now}");
        }
    }

    #[test]
    fn a_marker_is_found_where_nothing_changed() {
        let content: Vec<u8> = (0..200_u8).collect();
        let made = marker(150, &content[..150]);
        assert_eq!((made.end, made.len), (150, 64));
        assert!(is_at(&made, &content[86..150]));
        assert!(is_at(&made, &content[..150]));
        assert!(!is_at(&made, &content[87..151]));
        assert!(!is_at(&made, &content[87..150]), "too few bytes to tell");
        let mut other = content.clone();
        other[149] += 1;
        assert!(!is_at(&made, &other[..150]));
        // At the beginning there is nothing, and nothing is always there.
        assert!(is_at(&marker(0, b""), b""));
        assert_eq!(marker(3, b"abc").len, 3);
    }

    proptest! {
        #[test]
        fn a_file_that_only_grows_is_always_itself(
            content in prop::collection::vec(any::<u8>(), 0..2000),
            first in any::<prop::sample::Index>(),
            second in any::<prop::sample::Index>(),
        ) {
            let mut cuts = [first.index(content.len() + 1), second.index(content.len() + 1)];
            cuts.sort_unstable();
            let bytes = &content[..cuts[1].min(FINGERPRINT_BYTES)];
            let known = known(1, 2, &content[..cuts[0]]);
            let head = Head { device: 1, inode: 2, bytes };
            let grown = bytes.len() > cuts[0].min(FINGERPRINT_BYTES);
            let expected = if grown { Match::Grown } else { Match::Same };
            prop_assert_eq!(match_identity(&known, &head), expected);
        }
    }
}
