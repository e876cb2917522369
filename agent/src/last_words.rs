//! What a program said last on its standard error, which is as a rule why it failed: its last line, kept
//! short, read without a thread, and without waiting.

use std::io::{ErrorKind, Read};
use std::process::{Child, ChildStderr};

use rustix::fs::{OFlags, fcntl_setfl};

/// As much of the line as is kept, bytes, and as is shown.
const LINE_BYTES_MAX: usize = 200;
/// What is read at a look at most: several times what a pipe holds. Who says more than that without
/// an end is not listened to for ever.
const LOOK_BYTES_MAX: usize = 256 * 1024;

/// The standard error of a running program.
#[derive(Debug, Default)]
pub struct Stderr {
    pipe: Option<ChildStderr>,
    words: LastWords,
}

impl Stderr {
    /// Of a program that was started with a pipe for it.
    pub fn of(child: &mut Child) -> Self {
        let pipe = child.stderr.take();
        Self {
            // One that would make us wait is closed instead.
            pipe: pipe.filter(|pipe| fcntl_setfl(pipe, OFlags::NONBLOCK).is_ok()),
            words: LastWords::default(),
        }
    }

    /// Takes what was said meanwhile. A program whose words nobody takes waits, once the pipe is full.
    pub fn look(&mut self) {
        let mut piece = [0; 4096];
        for _ in 0..LOOK_BYTES_MAX / piece.len() {
            let Some(pipe) = &mut self.pipe else {
                return;
            };
            match pipe.read(&mut piece) {
                Ok(0) => self.pipe = None,
                Ok(read) => self.words.take(&piece[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    /// How it ended, and behind that what it said last, if anything.
    pub fn with(&mut self, how: &str) -> String {
        self.look();
        match self.words.text() {
            Some(words) => format!("{how}; it said: {words}"),
            None => how.to_owned(),
        }
    }
}

/// The last line that is not empty, in pieces.
#[derive(Debug, Default)]
struct LastWords {
    last: Vec<u8>,
    /// The line under way.
    open: Vec<u8>,
}

impl LastWords {
    fn take(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX.saturating_sub(self.open.len());
            self.open.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.open);
                if !line.trim_ascii().is_empty() {
                    self.last = line;
                }
            }
        }
    }

    /// As it can stand in a log: on one line, with nothing that moves a cursor.
    fn text(&self) -> Option<String> {
        let is_empty = self.open.trim_ascii().is_empty();
        let line = if is_empty { &self.last } else { &self.open };
        let line = String::from_utf8_lossy(line.trim_ascii());
        let mut text = String::new();
        for letter in line.chars() {
            match letter.is_control() {
                true => text.extend(letter.escape_default()),
                false => text.push(letter),
            }
        }
        text.truncate(text.floor_char_boundary(LINE_BYTES_MAX));
        (!text.is_empty()).then_some(text)
    }
}

/// What two messages have in common that differ in nothing but numbers: times, process ids, addresses. They
/// say the same, and are said once.
pub fn without_digits(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(pieces: &[&[u8]]) -> Option<String> {
        let mut words = LastWords::default();
        pieces.iter().for_each(|piece| words.take(piece));
        words.text()
    }

    #[test]
    fn the_last_line_is_kept_short_and_harmless() {
        for (pieces, expected) in [
            (&[&b""[..]][..], None),
            (&[b"\n \n"], None),
            (&[b"one\ntwo\n\n  \n"], Some("two")),
            (&[b"one\ntw", b"o"], Some("two")),
            (&[b"one\n", b"two\nthr", b"ee\r\n"], Some("three")),
            (
                &[b"\x1b[31mred\x07 \xff\tx"],
                Some("\\u{1b}[31mred\\u{7} \u{fffd}\\tx"),
            ),
        ] {
            assert_eq!(words(pieces).as_deref(), expected, "{pieces:?}");
        }
        let long = [b'x'; 1000];
        assert_eq!(words(&[&long, b"\n"]).unwrap().len(), LINE_BYTES_MAX);
        assert_eq!(words(&[&long, b"\nshort"]).unwrap(), "short");
        assert_eq!(words(&[&[7; 1000]]).unwrap().len(), LINE_BYTES_MAX);
    }

    #[test]
    fn numbers_make_no_other_message() {
        let said = |text| without_digits(text);
        assert_eq!(said("12:01 pid 7: no bus"), said("12:02 pid 18: no bus"));
        assert_ne!(said("no bus"), said("no disk"));
    }

    proptest! {
        #[test]
        fn whatever_is_said_is_a_short_line(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5),
        ) {
            let pieces: Vec<_> = pieces.iter().map(Vec::as_slice).collect();
            if let Some(text) = words(&pieces) {
                prop_assert!(!text.is_empty() && text.len() <= LINE_BYTES_MAX);
                prop_assert!(!text.contains(char::is_control));
            }
        }
    }
}
