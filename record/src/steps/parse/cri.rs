//! The log of a Kubernetes container runtime (containerd, CRI-O):
//!
//! ```text
//! 2026-11-24T08:15:00.669794202Z stdout F a whole line
//! 2026-11-24T08:15:00.669794203Z stderr P the beginning of a line that goes on in the next
//! ```
//!
//! Fields: `timestamp`, `stream`, `message`, and `partial: true` where the line goes on. One line at a
//! time: whoever reads the file joins the parts (the agent's `multiline = { preset = "cri" }`).
//! Source: kubernetes, `pkg/kubelet/kuberuntime/logs`, `parseCRILog`.

use super::super::Row;

/// What stands before the text of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// When it was written: a date and a time (RFC 3339).
    pub timestamp: &'a str,
    /// `stdout` or `stderr`.
    pub stream: &'a str,
    /// `F` or `P`; further tags, after colons, are for runtimes to come.
    pub tags: &'a str,
}

impl Header<'_> {
    /// Whether the line goes on in another one.
    pub fn is_partial(&self) -> bool {
        self.tags.split(':').next() == Some("P")
    }
}

/// The header of a line, and the text behind it. None where the line has not that form.
pub fn header(line: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let mut word = || std::str::from_utf8(parts.next()?).ok();
    let header = Header {
        timestamp: word()?,
        stream: word()?,
        tags: word()?,
    };
    let has_date =
        header.timestamp.as_bytes().get(4) == Some(&b'-') && header.timestamp.contains('T');
    let is_tagged = matches!(header.tags.split(':').next(), Some("F" | "P"));
    (has_date && is_tagged && matches!(header.stream, "stdout" | "stderr"))
        .then(|| (header, parts.next().unwrap_or_default()))
}

pub(super) fn parse(text: &str) -> Result<Row, &'static str> {
    const WRONG: &str = "not of a container runtime: time, stdout or stderr, F or P";
    let (header, message) = header(text.as_bytes()).ok_or(WRONG)?;
    // What is behind a blank of a text is one.
    let message = std::str::from_utf8(message).map_err(|_| WRONG)?;
    let mut row = Row::new();
    row.insert("timestamp".into(), header.timestamp.into());
    row.insert("stream".into(), header.stream.into());
    if header.is_partial() {
        row.insert("partial".into(), true.into());
    }
    row.insert("message".into(), message.into());
    Ok(row)
}
