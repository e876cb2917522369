//! Bytes of a file into text, and what of them ends a line.
//!
//! Every encoding of the WHATWG Encoding Standard (through `encoding_rs`). In all of them but
//! UTF-16 a byte 0x0A is a line feed and nothing else: it is no trail byte of any. ISO-2022-JP has a
//! state, that each line begins anew, as its writers do (RFC 1468).
//!
//! A byte order mark at the beginning of a file is not part of its first line. With `utf-16` it
//! says which of the two it is; without one, little-endian is meant, as the standard says.

use std::borrow::Cow;
use std::fmt;

use encoding_rs::{CoderResult, UTF_8, UTF_16BE, UTF_16LE};

/// Runs of so many NUL bytes are no content: a power cut leaves them where a file's length reached
/// the disk and its bytes did not, and preallocation where nothing was written yet.
pub const NUL_RUN: usize = 16;

/// How a source's files are encoded, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    of: &'static encoding_rs::Encoding,
    /// A byte order mark decides between the two forms of UTF-16.
    sniffs: bool,
}

/// How one file is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    of: &'static encoding_rs::Encoding,
    units: Units,
}

/// What a file is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Units {
    Bytes,
    /// Two bytes, aligned to even offsets; the given one of them is the higher.
    Pairs {
        high: usize,
    },
}

/// A text, and the bytes that it was made of where they were not well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'a> {
    /// UTF-8, but for malformed bytes of a file in UTF-8: those are left to the one who writes it.
    pub bytes: Cow<'a, [u8]>,
    /// The line as it lies in the file.
    pub exact: &'a [u8],
    /// The same, if `bytes` shows U+FFFD for some of it.
    pub raw: Option<&'a [u8]>,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sniffs {
            return f.write_str("utf-16");
        }
        f.write_str(&self.of.name().to_ascii_lowercase())
    }
}

impl Encoding {
    /// UTF-8.
    pub const UTF_8: Self = Self {
        of: UTF_8,
        sniffs: false,
    };

    /// By a label of the Encoding Standard, in any case: `utf-8`, `utf-16le`, `latin1`, `shift_jis`,
    /// `gbk`, `windows-1252` and so on. None where there is no such encoding, or it is "replacement".
    pub fn parse(label: &str) -> Option<Self> {
        let of = encoding_rs::Encoding::for_label_no_replacement(label.as_bytes())?;
        Some(Self {
            of,
            sniffs: label.trim().eq_ignore_ascii_case("utf-16"),
        })
    }

    /// That of a file that begins with `head`: two bytes of it, or all there is.
    pub fn resolve(&self, head: &[u8]) -> Resolved {
        let of = match head {
            [0xfe, 0xff, ..] if self.sniffs => UTF_16BE,
            _ => self.of,
        };
        let units = if of == UTF_16LE {
            Units::Pairs { high: 1 }
        } else if of == UTF_16BE {
            Units::Pairs { high: 0 }
        } else {
            Units::Bytes
        };
        Resolved { of, units }
    }
}

impl Resolved {
    /// Bytes of a line feed.
    pub(super) fn unit_len(self) -> usize {
        match self.units {
            Units::Bytes => 1,
            Units::Pairs { .. } => 2,
        }
    }

    /// Where the first line feed of `bytes` begins; `at`: their offset.
    pub(super) fn find_lf(self, bytes: &[u8], at: u64) -> Option<usize> {
        let Units::Pairs { high } = self.units else {
            return memchr::memchr(b'\n', bytes);
        };
        let odd = usize::from(!at.is_multiple_of(2));
        memchr::memchr_iter(b'\n', bytes).find_map(|found| {
            let from = found.checked_sub(1 - high)?;
            let is_unit = from % 2 == odd && bytes.get(from + high) == Some(&0);
            is_unit.then_some(from)
        })
    }

    /// The content of a line that ends before its line feed: without the CR.
    pub(super) fn strip_cr(self, line: &[u8]) -> &[u8] {
        let cr: &[u8] = match self.units {
            Units::Bytes => b"\r",
            Units::Pairs { high: 1 } => b"\r\0",
            Units::Pairs { .. } => b"\0\r",
        };
        line.strip_suffix(cr).unwrap_or(line)
    }

    /// Where the first NUL run of `bytes` begins; `at`: their offset.
    pub(super) fn find_nuls(self, bytes: &[u8], at: u64) -> Option<usize> {
        let mut from = 0;
        while let Some(found) = memchr::memchr(0, bytes.get(from..)?) {
            let start = self.aligned_up(from + found, at);
            let len = nuls(bytes.get(start..)?);
            if len >= NUL_RUN {
                return Some(start);
            }
            from = start + len.max(1);
        }
        None
    }

    /// How many NULs `bytes` begins with, in whole units.
    pub(super) fn nuls(self, bytes: &[u8]) -> usize {
        let len = nuls(bytes);
        len - len % self.unit_len()
    }

    fn aligned_up(self, index: usize, at: u64) -> usize {
        let odd = (at + index as u64) % self.unit_len() as u64;
        index + usize::from(odd != 0)
    }

    /// Whether what follows `before` (of a file, at `end`) lies inside a line: neither a line's end
    /// nor a NUL run lies right before it, nor nothing.
    pub fn is_inside(self, before: &[u8]) -> bool {
        match self.units {
            Units::Bytes => before.last().is_some_and(|byte| !b"\n\0".contains(byte)),
            Units::Pairs { high } => match before.last_chunk::<2>() {
                Some(unit) => unit[high] != 0 || !b"\n\0".contains(&unit[1 - high]),
                None => !before.is_empty(),
            },
        }
    }

    /// Takes the byte order mark off the first bytes of a file.
    pub(super) fn strip_bom(self, bytes: &[u8]) -> &[u8] {
        let bom: &[u8] = match self.units {
            Units::Bytes if self.of == UTF_8 => b"\xef\xbb\xbf",
            Units::Bytes => return bytes,
            Units::Pairs { high: 1 } => b"\xff\xfe",
            Units::Pairs { .. } => b"\xfe\xff",
        };
        bytes.strip_prefix(bom).unwrap_or(bytes)
    }

    /// How many of `bytes` (`most` and some more) go into a piece: `most`, or up to 3 fewer so that
    /// no character is torn. They begin with a whole one.
    pub(super) fn piece_len(self, bytes: &[u8], most: usize) -> usize {
        if self.of == UTF_8 {
            let continues_character = |at: usize| bytes[at] & 0b1100_0000 == 0b1000_0000;
            // Four continuation bytes in a row are no UTF-8: nothing to keep whole.
            return ((most - 3)..=most)
                .rev()
                .find(|at| !continues_character(*at))
                .unwrap_or(most);
        }
        if self.of.is_single_byte() {
            return most;
        }
        let mut scratch = String::with_capacity(4 * most);
        let is_whole = |len: &usize| {
            scratch.clear();
            let mut decoder = self.of.new_decoder_without_bom_handling();
            let (seen, ..) = decoder.decode_to_string(&bytes[..*len], &mut scratch, false);
            // What is left open at the end shows when the end is announced.
            let (end, _, torn) = decoder.decode_to_string(b"", &mut scratch, true);
            !torn && (seen, end) == (CoderResult::InputEmpty, CoderResult::InputEmpty)
        };
        ((most - 3)..=most).rev().find(is_whole).unwrap_or(most)
    }

    /// The text of a line.
    pub(super) fn text(self, line: &[u8]) -> Text<'_> {
        if self.of == UTF_8 {
            return Text {
                bytes: Cow::Borrowed(line),
                exact: line,
                raw: None,
            };
        }
        let (text, malformed) = self.of.decode_without_bom_handling(line);
        Text {
            bytes: match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            },
            exact: line,
            raw: malformed.then_some(line),
        }
    }

    /// The text of a line's beginning, for patterns: what cannot be read is U+FFFD.
    pub(super) fn lossy(self, line: &[u8]) -> Cow<'_, str> {
        self.of.decode_without_bom_handling(line).0
    }
}

fn nuls(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(label: &str) -> Resolved {
        Encoding::parse(label).unwrap().resolve(b"")
    }

    #[test]
    fn labels_are_those_of_the_standard() {
        for (label, name) in [
            ("UTF-8", "utf-8"),
            ("utf-16", "utf-16"),
            ("utf-16le", "utf-16le"),
            ("UTF-16BE", "utf-16be"),
            ("latin1", "windows-1252"),
            ("Shift_JIS", "shift_jis"),
            ("gbk", "gbk"),
            ("koi8-r", "koi8-r"),
        ] {
            let encoding = Encoding::parse(label).unwrap();
            assert_eq!(encoding.to_string(), name);
            assert_eq!(Encoding::parse(name), Some(encoding));
        }
        for label in ["utf-17", "", "replacement", "iso-2022-kr"] {
            assert_eq!(Encoding::parse(label), None, "{label}");
        }
    }

    /// Every encoding of the standard that text can be written in: two lines of what it has are two lines, and the
    /// text that they were.
    #[test]
    fn each_encoding_of_the_standard_is_read_line_by_line() {
        let all = [
            "Big5",
            "EUC-JP",
            "EUC-KR",
            "GBK",
            "IBM866",
            "ISO-2022-JP",
            "ISO-8859-10",
            "ISO-8859-13",
            "ISO-8859-14",
            "ISO-8859-15",
            "ISO-8859-16",
            "ISO-8859-2",
            "ISO-8859-3",
            "ISO-8859-4",
            "ISO-8859-5",
            "ISO-8859-6",
            "ISO-8859-7",
            "ISO-8859-8",
            "ISO-8859-8-I",
            "KOI8-R",
            "KOI8-U",
            "Shift_JIS",
            "UTF-8",
            "gb18030",
            "macintosh",
            "windows-1250",
            "windows-1251",
            "windows-1252",
            "windows-1253",
            "windows-1254",
            "windows-1255",
            "windows-1256",
            "windows-1257",
            "windows-1258",
            "windows-874",
            "x-mac-cyrillic",
        ];
        let letters = "\u{e9}\u{fe}\u{141}\u{3b1}\u{436}\u{5d0}\u{627}\u{e01}\u{65e5}\u{672c}\u{d55c}\u{6f22}";
        for name in all {
            let encoding = encoding_rs::Encoding::for_label(name.as_bytes()).unwrap();
            let has = |letter: &char| !encoding.encode(&letter.to_string()).2;
            let line: String = letters.chars().filter(has).collect();
            assert!(!line.is_empty(), "{name}");
            let file = encoding.encode(&line).0;
            let file = [&file[..], b"\n", &file[..], b"\n"].concat();
            let resolved = resolved(name);
            let end = resolved.find_lf(&file, 0).unwrap();
            let second = &file[end + 1..];
            assert_eq!(
                resolved.find_lf(second, 0),
                Some(second.len() - 1),
                "{name}"
            );
            for read in [&file[..end], &file[end + 1..file.len() - 1]] {
                let text = resolved.text(read);
                assert_eq!(
                    std::str::from_utf8(&text.bytes),
                    Ok(line.as_str()),
                    "{name}"
                );
                assert_eq!(text.raw, None, "{name}");
            }
        }
    }

    #[test]
    fn a_byte_order_mark_decides_where_it_may() {
        let sniffing = Encoding::parse("utf-16").unwrap();
        assert_eq!(sniffing.resolve(b"\xfe\xffx"), resolved("utf-16be"));
        assert_eq!(sniffing.resolve(b"\xff\xfex"), resolved("utf-16le"));
        assert_eq!(sniffing.resolve(b"x"), resolved("utf-16le"));
        let fixed = Encoding::parse("utf-16le").unwrap();
        assert_eq!(fixed.resolve(b"\xfe\xff"), resolved("utf-16le"));
    }

    #[test]
    fn line_feeds_lie_on_whole_units() {
        let (le, be) = (resolved("utf-16le"), resolved("utf-16be"));
        assert_eq!(le.find_lf(b"a\0\n\0", 0), Some(2));
        assert_eq!(be.find_lf(b"\0a\0\n", 0), Some(2));
        // U+0A61, U+610A: bytes 0x0A that end no line.
        assert_eq!(le.find_lf(b"\x61\x0a\x0a\x61\x0a\x00", 0), Some(4));
        assert_eq!(be.find_lf(b"\x0a\x00\x00\x0a", 0), Some(2));
        // Not aligned, and half a unit.
        assert_eq!(le.find_lf(b"x\n\0\n\0", 0), None);
        assert_eq!(le.find_lf(b"x\n\0\n\0", 1), Some(1));
        assert_eq!(le.find_lf(b"a\0\n", 0), None);
        assert_eq!(le.strip_cr(b"a\0\r\0"), b"a\0");
        assert_eq!(be.strip_cr(b"\0a\0\r"), b"\0a");
        assert!(!le.is_inside(b"a\0\n\0") && le.is_inside(b"\n\x01") && le.is_inside(b"x"));
        assert!(!be.is_inside(b"\0\n") && be.is_inside(b"\n\0") && !be.is_inside(b""));
    }

    #[test]
    fn nul_runs_are_found_in_whole_units() {
        let (bytes, le) = (resolved("utf-8"), resolved("utf-16le"));
        let text = [b"ab\0c".as_slice(), &[0; NUL_RUN], b"d"].concat();
        assert_eq!(bytes.find_nuls(&text, 0), Some(4));
        assert_eq!(bytes.nuls(&text[4..]), NUL_RUN);
        assert_eq!(bytes.find_nuls(&text[..4 + NUL_RUN - 1], 0), None);
        // The higher byte of 'b' is no part of the run, nor is the one of 'd' in big-endian.
        let wide = [b"b\0".as_slice(), &[0; NUL_RUN + 1], b"d"].concat();
        assert_eq!(le.find_nuls(&wide, 0), Some(2));
        assert_eq!(resolved("utf-16be").nuls(&wide[2..]), NUL_RUN);
    }

    #[test]
    fn text_is_what_was_written() {
        let check = |label: &str, line: &[u8], text: &str, is_whole: bool| {
            let decoded = resolved(label).text(line);
            assert_eq!(std::str::from_utf8(&decoded.bytes), Ok(text), "{label}");
            assert_eq!(decoded.raw, (!is_whole).then_some(line), "{label}");
        };
        check("latin1", b"caf\xe9", "café", true);
        check("shift_jis", b"\x83\x65\x83\x58\x83\x67", "テスト", true);
        check("gbk", b"\xb2\xe2\xca\xd4", "测试", true);
        check("utf-16le", b"\x3d\xd8\x80\xdd", "\u{1F580}", true);
        check("utf-16be", b"\x00\x61\xd8\x3d", "a\u{FFFD}", false);
        check("utf-16le", b"a\0b", "a\u{FFFD}", false);
        check("shift_jis", b"a\x83", "a\u{FFFD}", false);
    }

    #[test]
    fn no_character_is_torn() {
        for label in [
            "shift_jis",
            "gbk",
            "gb18030",
            "big5",
            "euc-kr",
            "euc-jp",
            "utf-16le",
            "utf-16be",
        ] {
            let encoding = encoding_rs::Encoding::for_label(label.as_bytes()).unwrap();
            let bytes: Vec<u8> = match label {
                "utf-16le" => "a漢b字\u{1F980}\u{1F980}"
                    .encode_utf16()
                    .flat_map(u16::to_le_bytes)
                    .collect(),
                "utf-16be" => "a漢b字\u{1F980}\u{1F980}"
                    .encode_utf16()
                    .flat_map(u16::to_be_bytes)
                    .collect(),
                _ => encoding.encode("a漢b字漢漢ab漢c字").0.into_owned(),
            };
            for most in 4..bytes.len() {
                let len = resolved(label).piece_len(&bytes, most);
                assert!((most - 3..=most).contains(&len));
                assert!(
                    !encoding.decode_without_bom_handling(&bytes[..len]).1,
                    "{label} {most}"
                );
            }
        }
        assert_eq!(resolved("latin1").piece_len(&[0xe9; 9], 5), 5);
        // Nothing but errors: the piece is as long as it may be.
        assert_eq!(resolved("utf-16le").piece_len(&[0xd8; 9], 5), 5);
    }
}
