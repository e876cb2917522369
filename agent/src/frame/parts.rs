//! Parts of a line, as container runtimes write them: what a line of their files is, and the line that
//! parts make. Pure.
//!
//! ```text
//!   2026-11-24T08:15:00.1Z stdout P the beginning, and ┐  2026-11-24T08:15:00.1Z stdout F the beginning, and the end
//!   2026-11-24T08:15:00.2Z stdout F the end            ┘
//!
//!   {"log":"the beginning, and ","stream":"stdout",…}  ┐  {"log":"the beginning, and the end\n","stream":"stdout",…}
//!   {"log":"the end\n","stream":"stdout",…}            ┘
//! ```
//!
//! What comes out is the line as the runtime would have written it, had it not been too long for it: whoever
//! reads such lines reads this one. It has the first part's time and stream, and of the last part what says
//! whether the line goes on.
//!
//! Runtimes cut at bytes, not at characters, so parts are joined as bytes: a character that was torn is
//! whole again. Docker has replaced the halves before it wrote them; what it wrote is what there is.

use headwater_record::steps::parse::cri;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::multiline::Preset;

/// How a line of Docker's json-file begins.
const LOG: &[u8] = b"{\"log\":\"";

/// Which of a program's outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    Stdout,
    Stderr,
    /// It does not say.
    Unknown,
}

/// A line of a container runtime's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) output: Output,
    /// The program's line goes on in another one.
    pub(super) goes_on: bool,
}

impl Output {
    fn named(name: &str) -> Self {
        match name {
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            _ => Self::Unknown,
        }
    }
}

/// What a line of a CRI file is, by its beginning. None where it has not that form.
pub(super) fn cri_part(line: &str) -> Option<Part> {
    let (header, _) = cri::header(line.as_bytes())?;
    Some(Part {
        output: Output::named(header.stream),
        goes_on: header.is_partial(),
    })
}

/// Whether a line may be one of a json-file, by its beginning.
pub(super) fn begins_as_docker(line: &str) -> bool {
    line.as_bytes().starts_with(LOG)
}

/// What a line of a json-file is, by all of it. None where it has not that form.
pub(super) fn docker_part(line: &str) -> Option<Part> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow, default)]
        stream: Option<std::borrow::Cow<'a, str>>,
        #[serde(rename = "log")]
        _log: IgnoredAny,
    }
    let (log, _) = docker_log(line.as_bytes())?;
    let object: Object<'_> = serde_json::from_str(line).ok()?;
    Some(Part {
        output: Output::named(object.stream.as_deref().unwrap_or_default()),
        goes_on: !ends_line(log),
    })
}

/// Whether a line of a json-file goes on in another one; as [`docker_part`], and cheap where it does not.
pub(super) fn unfinished_docker_part(line: &str) -> Option<Part> {
    let (log, _) = docker_log(line.as_bytes())?;
    match ends_line(log) {
        true => None,
        false => docker_part(line),
    }
}

/// The line that several parts make, which stand in `event` as they do in the file, a line each; of a form
/// that has parts. None where there is one part only, or no part at all.
pub(super) fn join(preset: Preset, event: &[u8]) -> Option<Vec<u8>> {
    // Each line but the first has one before it.
    memchr::memchr(b'\n', event)?;
    let lines = event.split(|byte| *byte == b'\n');
    match preset {
        Preset::Cri => join_cri(lines, event.len()),
        Preset::Docker => join_docker(lines, event.len()),
        Preset::Java | Preset::Python | Preset::Go => None,
    }
}

fn join_cri<'a>(lines: impl Iterator<Item = &'a [u8]>, len: usize) -> Option<Vec<u8>> {
    // A CR is text here: the runtime ends lines by LF alone.
    let parts: Option<Vec<_>> = lines.map(cri::header).collect();
    let parts = parts?;
    let ((first, _), (last, _)) = (parts.first()?, parts.last()?);
    let mut line = Vec::with_capacity(len);
    for word in [first.timestamp, first.stream, last.tags] {
        line.extend_from_slice(word.as_bytes());
        line.push(b' ');
    }
    for (_, text) in &parts {
        line.extend_from_slice(text);
    }
    Some(line)
}

fn join_docker<'a>(lines: impl Iterator<Item = &'a [u8]>, len: usize) -> Option<Vec<u8>> {
    let mut line = Vec::with_capacity(len);
    line.extend_from_slice(LOG);
    let mut behind: Option<&[u8]> = None;
    for part in lines {
        // Texts in JSON, one after the other, are the text of what they say, one after the other.
        let (log, rest) = docker_log(part)?;
        line.extend_from_slice(log);
        behind = behind.or(Some(rest.strip_suffix(b"\r").unwrap_or(rest)));
    }
    line.extend_from_slice(behind?);
    Some(line)
}

/// The text of `log` as JSON has it, without its quotes, and what stands behind it, its quote included.
fn docker_log(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let log = line.strip_prefix(LOG)?;
    let mut escaped = false;
    let end = log.iter().position(|byte| {
        let is_end = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        is_end
    })?;
    Some(log.split_at(end))
}

/// Whether a text of JSON ends with an escaped line feed, not with an escaped backslash and an n.
fn ends_line(log: &[u8]) -> bool {
    log.strip_suffix(b"n").is_some_and(|before| {
        let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\');
        backslashes.count() % 2 == 1
    })
}
