//! The records of one chunk, as far as they are whole: lines, events of several lines, pieces of
//! what is too long, and NUL runs, each with the exact span of bytes that it accounts for.
//!
//! An event is as many lines as belong together and fit `max_line`; what is longer goes in pieces
//! of whole lines. Its text holds the line ends between its lines as they are in the file; where they
//! are a container runtime's parts of one line, its text is that line.

use std::borrow::Cow;

use headwater_record::value::Piece;

use super::encoding::{Encoding, Resolved, Text};
use super::lines::{Bytes, LOOK_AHEAD, Rule, Shape, shape};
use super::multiline::{Event, Multiline, PATTERN_BYTES, is_continued};
use super::parts;

/// How a source's files are framed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framing {
    /// How they are encoded.
    pub encoding: Encoding,
    /// Longest record, bytes of the file.
    pub max_line: usize,
    /// Which lines belong together.
    pub multiline: Option<Multiline>,
    /// What a cut says of the line that it ends.
    pub at_cut: AtCut,
}

/// What becomes of a last line that was cut because it got no end mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtCut {
    /// It is a line. What follows is marked as continued all the same, for who wants to know.
    Complete,
    /// It goes on: it is marked so.
    Continues,
}

impl Framing {
    /// A chunk of so many bytes always holds a record, unless it ends the file or is NULs at its
    /// end.
    pub fn chunk_bytes_max(&self) -> usize {
        let gathers = usize::from(self.multiline.is_some());
        self.max_line + LOOK_AHEAD + gathers * (PATTERN_BYTES + LOOK_AHEAD)
    }
}

/// One record's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Offset behind its last byte, the line's end mark included. It starts where the one before
    /// it ended.
    pub end: u64,
    /// What it is.
    pub kind: FrameKind<'a>,
}

/// What a record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameKind<'a> {
    /// Text.
    Line(Content<'a>),
    /// NULs, skipped.
    Nuls,
}

/// A line, an event, or a piece of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content<'a> {
    /// Its text, without the end mark.
    pub text: Text<'a>,
    /// Which piece it is.
    pub piece: Piece,
}

/// What is made into a record: a line, an event, or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Offset behind its last byte, the end mark included.
    pub end: u64,
    /// Its text, without the end mark; UTF-8, but for malformed bytes of a file in UTF-8.
    pub bytes: &'a [u8],
    /// The bytes that it was decoded from: as it lies in the file, without the end mark.
    pub exact: &'a [u8],
    /// The same, if the text shows U+FFFD for some of them.
    pub raw: Option<&'a [u8]>,
    /// Which piece of a line it is.
    pub piece: Piece,
}

impl Frame<'_> {
    /// The line, where it is one.
    pub fn line(&self) -> Option<Line<'_>> {
        match &self.kind {
            FrameKind::Line(content) => Some(Line {
                end: self.end,
                bytes: &content.text.bytes,
                exact: content.text.exact,
                raw: content.text.raw,
                piece: content.piece,
            }),
            FrameKind::Nuls => None,
        }
    }
}

/// The records of one chunk. What is left is read again with what follows.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    framing: &'a Framing,
    rule: Rule,
    rest: Bytes<'a>,
    inside: bool,
    /// Boundaries that the bytes alone would not give, rising.
    cuts: &'a [u64],
    pending: Option<u64>,
}

/// A chunk of a file.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    /// Its bytes, from the start of a record.
    pub bytes: &'a [u8],
    /// Their offset.
    pub start: u64,
    /// Whether that lies inside a line; see [`Resolved::is_inside`].
    pub inside: bool,
    /// Where a NUL run that reaches its end is over, if that is known.
    pub nuls_until: Option<u64>,
}

impl<'a> Frames<'a> {
    /// The records of `chunk`, of a file in `encoding`, with boundaries at `cuts`.
    pub fn new(
        framing: &'a Framing,
        encoding: Resolved,
        chunk: Chunk<'a>,
        cuts: &'a [u64],
    ) -> Self {
        Self {
            framing,
            rule: Rule {
                encoding,
                max_line: framing.max_line.max(4),
            },
            rest: Bytes {
                bytes: chunk.bytes,
                at: chunk.start,
                closed: false,
                // The higher byte of what follows may be one of them.
                nuls_until: chunk.nuls_until.map(|end| match cuts.contains(&end) {
                    true => end,
                    false => end - end % encoding.unit_len() as u64,
                }),
            },
            inside: chunk.inside,
            cuts,
            pending: None,
        }
    }

    /// Offset behind the last record given.
    pub fn offset(&self) -> u64 {
        self.rest.at
    }

    /// Whether that offset lies inside a line.
    pub fn inside(&self) -> bool {
        self.inside
    }

    /// Where the whole lines of an event end that may still go on; known once there is no next record.
    pub fn pending(&self) -> Option<u64> {
        self.pending
    }

    /// Whether what is left ends with NULs that may be a run: where it is over decides.
    pub fn ends_with_nuls(&self) -> bool {
        self.rest.nuls_until.is_none() && self.rest.bytes.last() == Some(&0)
    }

    /// What the next record is made of: up to the next cut, nothing behind it counts.
    fn until_cut(&self) -> Bytes<'a> {
        let cut = self.cuts.iter().copied().find(|cut| *cut > self.rest.at);
        let len = cut.and_then(|cut| usize::try_from(cut - self.rest.at).ok());
        let nuls_until = (self.rest.nuls_until).map(|end| cut.map_or(end, |cut| end.min(cut)));
        match len.filter(|len| *len <= self.rest.bytes.len()) {
            Some(len) => Bytes {
                bytes: &self.rest.bytes[..len],
                closed: true,
                nuls_until: nuls_until.filter(|_| len == self.rest.bytes.len()),
                ..self.rest
            },
            None => Bytes {
                nuls_until,
                ..self.rest
            },
        }
    }

    /// How far an event goes whose first line is whole: its content, its length, whether it goes on
    /// in another piece. None where that is not known yet.
    fn event(
        &mut self,
        rule: &Multiline,
        of: Bytes<'a>,
        first: (usize, usize),
    ) -> Option<(usize, usize, bool)> {
        let Rule { encoding, max_line } = self.rule;
        let (mut content, mut len) = first;
        let look = |line: &'a [u8]| {
            let whole = rule.looks_at_ends();
            encoding.lossy(
                &line[..line
                    .len()
                    .min(if whole { usize::MAX } else { PATTERN_BYTES })],
            )
        };
        let mut event = Event::new(rule, &look(self.without_bom(&of.bytes[..content])));
        loop {
            let behind = of.behind(len);
            if event.is_over() || behind.bytes.is_empty() && behind.closed {
                return Some((content, len, false));
            }
            let there = behind.bytes.len();
            let shape = shape(behind, self.rule);
            let visible = match shape {
                Shape::Nuls { .. } => return Some((content, len, false)),
                Shape::Whole { content, .. } => content,
                Shape::Piece { .. } => there,
                // So much of it is there that it decides whether it belongs here.
                Shape::Open if there >= PATTERN_BYTES + LOOK_AHEAD && !is_nuls(behind) => there,
                Shape::Open => {
                    self.pending = Some(behind.at);
                    return None;
                }
            };
            let visible = visible.min(PATTERN_BYTES);
            if !event.takes(&encoding.lossy(&behind.bytes[..visible])) {
                return Some((content, len, false));
            }
            match shape {
                Shape::Whole {
                    content: more,
                    len: more_len,
                } if len + more <= max_line => {
                    let line = look(&behind.bytes[..more]);
                    if !event.takes_whole(&line) {
                        return Some((content, len, false));
                    }
                    event.add(&line);
                    (content, len) = (len + more, len + more_len);
                }
                // It may fit yet.
                Shape::Open if len + there <= max_line + LOOK_AHEAD => {
                    self.pending = Some(behind.at);
                    return None;
                }
                _ => return Some((content, len, true)),
            }
        }
    }

    /// The text of a record's content.
    fn text(&self, content: &'a [u8]) -> Text<'a> {
        let mut text = self.rule.encoding.text(self.without_bom(content));
        if let Some(Multiline::Preset(preset)) = self.framing.multiline
            && let Some(line) = parts::join(preset, &text.bytes)
        {
            text.bytes = Cow::Owned(line);
        }
        text
    }

    fn without_bom<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        match self.rest.at {
            0 => self.rule.encoding.strip_bom(bytes),
            _ => bytes,
        }
    }

    fn is_continued(&self, content: &[u8]) -> bool {
        let Some(rule) = self.framing.multiline.as_ref().filter(|_| self.rest.at > 0) else {
            return self.inside;
        };
        let visible = &content[..content.len().min(PATTERN_BYTES)];
        let first = match self.rule.encoding.find_lf(visible, self.rest.at) {
            Some(lf) => self.rule.encoding.strip_cr(&visible[..lf]),
            None => visible,
        };
        self.inside || is_continued(rule, &self.rule.encoding.lossy(first))
    }
}

/// Whether a NUL run that is not over is what cannot be told.
fn is_nuls(behind: Bytes<'_>) -> bool {
    behind.bytes.last() == Some(&0) && behind.nuls_until.is_none() && !behind.closed
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let of = self.until_cut();
        self.pending = None;
        let (content, len, mut continues) = match shape(of, self.rule) {
            Shape::Open => return None,
            Shape::Nuls { end } => {
                let len = usize::try_from(end - of.at).unwrap_or(usize::MAX);
                let len = len.min(self.rest.bytes.len());
                self.rest = self.rest.behind(len);
                self.rest.at = end;
                self.inside = false;
                return Some(Frame {
                    end,
                    kind: FrameKind::Nuls,
                });
            }
            Shape::Piece { len } => (len, len, true),
            Shape::Whole { content, len } => match &self.framing.multiline {
                None => (content, len, false),
                Some(rule) => self.event(rule, of, (content, len))?,
            },
        };
        let raw = &of.bytes[..content];
        let is_cut = of.closed && len == of.bytes.len() && len == content;
        continues |= is_cut && self.framing.at_cut == AtCut::Continues;
        let line = Content {
            piece: Piece {
                continued: self.is_continued(raw),
                continues,
            },
            text: self.text(raw),
        };
        self.inside = self.rule.encoding.is_inside(&of.bytes[..len]);
        self.rest = self.rest.behind(len);
        Some(Frame {
            end: self.rest.at,
            kind: FrameKind::Line(line),
        })
    }
}

#[cfg(test)]
mod tests;
