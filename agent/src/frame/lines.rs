//! Cuts bytes of a file into lines, pieces of lines and NUL runs.
//!
//! Nothing is remembered from one chunk to the next to make framing replay: a chunk starts where the
//! last record ended, a line is told only when every byte that decides about it is there, and whether
//! an offset lies inside a line is told by the bytes before it.
//!
//! ```text
//!   a  b  c  LF  d  CR LF  LF  e  f
//!   [ abc      ) [ d     ) [ ) └─ a partial line waits: it stays in the file until it is whole
//! ```
//!
//! - LF ends a line, and a CR right before it is not part of it. An empty line is a line.
//! - A line longer than `max_line` goes in pieces of at most `max_line` bytes, none of which ends
//!   inside a character. The last piece is never empty: a line of exactly `max_line` bytes, with LF
//!   or CRLF behind it, is one record.
//! - A NUL run ends a line, and is none itself. While nothing else follows, it waits: where a file
//!   was preallocated, lines will be written there.
//! - Where the bytes are *closed* (a cut lies behind them, see
//!   [`crate::checkpoint::OpenGeneration::cuts`]) nothing waits.

use super::encoding::{NUL_RUN, Resolved};

/// Most bytes beyond the longest line that its framing looks at: CR and LF, in UTF-16.
pub const LOOK_AHEAD: usize = 4;

/// How lines are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) encoding: Resolved,
    /// Longest line, bytes of the file: 4 at least.
    pub(super) max_line: usize,
}

/// Bytes from the start of a line, or of a piece of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a> {
    pub(super) bytes: &'a [u8],
    /// Their offset.
    pub(super) at: u64,
    /// Nothing that follows them counts.
    pub(super) closed: bool,
    /// A NUL run that reaches their end is over at this offset.
    pub(super) nuls_until: Option<u64>,
}

/// What they begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A line: `content` bytes, and its end mark up to `len`.
    Whole { content: usize, len: usize },
    /// A piece of `len` bytes of a line that is too long.
    Piece { len: usize },
    /// NULs, up to an offset.
    Nuls { end: u64 },
    /// The bytes that decide are not there yet.
    Open,
}

impl<'a> Bytes<'a> {
    /// What lies behind the first `len` of them.
    pub(super) fn behind(self, len: usize) -> Self {
        Self {
            bytes: &self.bytes[len..],
            at: self.at + len as u64,
            ..self
        }
    }
}

pub(super) fn shape(of: Bytes<'_>, rule: Rule) -> Shape {
    let Rule { encoding, max_line } = rule;
    // CR and LF.
    let ahead = 2 * encoding.unit_len();
    if of.bytes.is_empty() {
        return Shape::Open;
    }
    let nuls = encoding.nuls(of.bytes);
    if nuls >= NUL_RUN {
        return match run_end(of, nuls) {
            Some(end) => Shape::Nuls { end },
            None => Shape::Open,
        };
    }
    let window = &of.bytes[..of.bytes.len().min(max_line + ahead)];
    let lf = encoding.find_lf(window, of.at);
    let line = &window[..lf.unwrap_or(window.len())];
    if let Some(content) = encoding.find_nuls(line, of.at).filter(|at| *at <= max_line) {
        let run = of.behind(content);
        return match run_end(run, encoding.nuls(run.bytes)) {
            Some(_) => Shape::Whole {
                content,
                len: content,
            },
            None => Shape::Open,
        };
    }
    let content = match lf {
        Some(_) => Some(encoding.strip_cr(line).len()),
        // All that will ever come of it.
        None if of.closed && window.len() == of.bytes.len() => Some(line.len()),
        None if window.len() < max_line + ahead => return Shape::Open,
        None => None,
    };
    match content {
        Some(content) if content <= max_line => Shape::Whole {
            content,
            len: lf.map_or(line.len(), |lf| lf + encoding.unit_len()),
        },
        _ => Shape::Piece {
            len: encoding.piece_len(window, max_line),
        },
    }
}

/// Where a run of `nuls` bytes at the beginning is over, if that is known.
fn run_end(of: Bytes<'_>, nuls: usize) -> Option<u64> {
    // Half a unit behind them is not known to be none of them yet.
    let reaches_end = of.bytes[nuls..].iter().all(|byte| *byte == 0);
    if !reaches_end {
        return Some(of.at + nuls as u64);
    }
    of.nuls_until
        .or_else(|| of.closed.then_some(of.at + of.bytes.len() as u64))
}
