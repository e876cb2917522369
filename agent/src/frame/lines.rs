//! Cuts a chunk of a file into lines, each with the exact span of bytes that it accounts for.
//!
//! Framing replays: the same bytes from the same offset give the same lines, however they were cut
//! into chunks, so a span read again after a crash is the span that was sent before it. Nothing is
//! remembered from one chunk to the next to make that true: a chunk starts where the last line
//! ended, a line is given only when every byte that decides about it is there, and whether an
//! offset lies inside a line is told by the byte before it.
//!
//! ```text
//!   a  b  c  LF  d  CR LF  LF  e  f
//!   [ abc      ) [ d     ) [ ) └─ a partial line waits: it stays in the file until it is whole
//! ```
//!
//! - LF ends a line, and a CR right before it is not part of it. An empty line is a line.
//! - A line longer than `max_line` goes in pieces of at most `max_line` bytes. Where the bytes are
//!   UTF-8, no piece ends inside a character. The last piece is never empty: a line of exactly
//!   `max_line` bytes, with LF or CRLF behind it, is one record.
//! - At a *cut* (see [`crate::checkpoint::OpenGeneration::cut`]) a line ends without LF.

use headwater_record::value::Piece;

/// Bytes beyond the longest line that its framing looks at: CR and LF.
pub const LOOK_AHEAD: usize = 2;

/// A line, or a piece of one, borrowed from its chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Offset behind its last byte, the line's end mark included. It starts where the one before
    /// it ended.
    pub end: u64,
    /// Its bytes without the end mark.
    pub bytes: &'a [u8],
    /// Which piece of a line it is.
    pub piece: Piece,
}

/// The lines of one chunk, as far as they are whole. What is left is read again with what follows.
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    rest: &'a [u8],
    /// Offset of `rest`.
    start: u64,
    inside: bool,
    max_line: usize,
    cut: Option<u64>,
}

/// What the bytes from a line's start say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// It is whole: `content` bytes, and its end mark up to `len`.
    Whole { content: usize, len: usize },
    /// It is too long: a piece of `len` bytes.
    Piece { len: usize },
    /// The bytes that decide are not there yet.
    Open,
}

impl<'a> Lines<'a> {
    /// The lines of `chunk`, which starts at offset `start` of its generation. `inside`: the byte
    /// before it is there and is not LF. `max_line`: at least 4 bytes.
    ///
    /// A chunk of `max_line + LOOK_AHEAD` bytes always holds a line or a piece of one.
    pub fn new(
        chunk: &'a [u8],
        start: u64,
        inside: bool,
        max_line: usize,
        cut: Option<u64>,
    ) -> Self {
        Self {
            rest: chunk,
            start,
            inside,
            max_line: max_line.max(4),
            cut,
        }
    }

    /// Offset behind the last line given.
    pub fn offset(&self) -> u64 {
        self.start
    }

    /// Whether that offset lies inside a line.
    pub fn inside(&self) -> bool {
        self.inside
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        // Up to a cut, the bytes before it are all that will ever come.
        let until_cut = self
            .cut
            .and_then(|cut| cut.checked_sub(self.start))
            .and_then(|len| usize::try_from(len).ok())
            .filter(|len| (1..=self.rest.len()).contains(len));
        let (content, len, continues) = match until_cut {
            Some(len) => match shape(&self.rest[..len], self.max_line) {
                Shape::Whole { content, len } => (content, len, false),
                Shape::Piece { len } => (len, len, true),
                Shape::Open if len > self.max_line => {
                    let len = piece_len(self.rest, self.max_line);
                    (len, len, true)
                }
                Shape::Open => (len, len, false),
            },
            None => match shape(self.rest, self.max_line) {
                Shape::Whole { content, len } => (content, len, false),
                Shape::Piece { len } => (len, len, true),
                Shape::Open => return None,
            },
        };
        let (line, rest) = self.rest.split_at(len);
        let piece = Piece {
            continued: self.inside,
            continues,
        };
        self.inside = line.last() != Some(&b'\n');
        self.rest = rest;
        self.start += len as u64;
        Some(Line {
            end: self.start,
            bytes: &line[..content],
            piece,
        })
    }
}

fn shape(bytes: &[u8], max_line: usize) -> Shape {
    let window = &bytes[..bytes.len().min(max_line + LOOK_AHEAD)];
    match memchr::memchr(b'\n', window) {
        Some(at) => {
            let content = at - usize::from(window[..at].ends_with(b"\r"));
            if content <= max_line {
                return Shape::Whole {
                    content,
                    len: at + 1,
                };
            }
        }
        None if window.len() < max_line + LOOK_AHEAD => return Shape::Open,
        None => {}
    }
    Shape::Piece {
        len: piece_len(window, max_line),
    }
}

/// How many of `bytes` (more than `max_line`) go into a piece: `max_line`, or up to 3 fewer so that
/// no UTF-8 character is torn.
fn piece_len(bytes: &[u8], max_line: usize) -> usize {
    let continues_character = |at: usize| bytes[at] & 0b1100_0000 == 0b1000_0000;
    (max_line - 3..=max_line)
        .rev()
        .find(|at| !continues_character(*at))
        // Four continuation bytes in a row are no UTF-8: nothing to keep whole.
        .unwrap_or(max_line)
}

#[cfg(test)]
mod tests;
