//! The log of a Kubernetes container runtime (containerd, CRI-O):
//!
//! ```text
//! 2026-11-24T08:15:00.669794202Z stdout F a whole line
//! 2026-11-24T08:15:00.669794203Z stderr P the beginning of a line that goes on in the next
//! ```
//!
//! Fields: `timestamp`, `stream`, `message`, and `partial: true` where the line goes on.
//! Source: kubernetes, `pkg/kubelet/kuberuntime/logs`, `parseCRILog`.

use super::super::Row;

pub(super) fn parse(text: &str) -> Result<Row, &'static str> {
    const WRONG: &str = "not of a container runtime: time, stdout or stderr, F or P";
    let mut parts = text.splitn(4, ' ');
    let mut next = || parts.next().ok_or(WRONG);
    let (timestamp, stream, tags) = (next()?, next()?, next()?);
    let has_date = timestamp.as_bytes().get(4) == Some(&b'-') && timestamp.contains('T');
    // Further tags, after colons, are for runtimes to come.
    let partial = match tags.split(':').next() {
        Some("F") => false,
        Some("P") => true,
        _ => return Err(WRONG),
    };
    if !has_date || !matches!(stream, "stdout" | "stderr") {
        return Err(WRONG);
    }
    let mut row = Row::new();
    row.insert("timestamp".into(), timestamp.into());
    row.insert("stream".into(), stream.into());
    if partial {
        row.insert("partial".into(), true.into());
    }
    row.insert("message".into(), parts.next().unwrap_or_default().into());
    Ok(row)
}
