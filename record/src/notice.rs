//! Records that carry accounting instead of data. Their JSON value says why; their headers say
//! what range.
//!
//! ```text
//! {"device":"pi-7","source":"cpu","time":"…","notice":"loss","reason":"window-full"}
//! {"device":"pi-7","source":"syslog","time":"…","notice":"close","reason":"rotated","tail":"complete"}
//! {"device":"pi-7","source":"syslog","time":"…","notice":"filtered"}
//! ```

use serde::{Deserialize, Serialize};

/// Longest reason that is kept, in bytes; the rest of a longer one is cut off.
pub const REASON_BYTES_MAX: usize = 64;

/// Whether everything before a generation's close was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tail {
    /// All of it was read and sent.
    Complete,
    /// There may have been more that nobody can read any more; how much is not known.
    Unknown,
}

/// What a notice says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "lowercase")]
pub enum Notice {
    /// The record's span will not come.
    Loss {
        /// Why, as a short word that documentation lists ("Notices" in `docs/agent.md`).
        reason: String,
        /// How many records the range had, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        records: Option<u64>,
    },
    /// The generation ends at the end of the record's span.
    Close {
        /// Why it ended.
        reason: String,
        /// Whether anything may be missing before its end.
        tail: Tail,
    },
    /// The owner's configuration dropped everything in the record's span.
    Filtered,
}

/// Reasons that the agent gives, each said by a comment that begins with what has it. A loader takes any,
/// since it may be the older of the two. A test holds them against `docs/agent.md`.
pub mod reason {
    /// Loss: no room in the RAM window, and the sample could not wait.
    pub const WINDOW_FULL: &str = "window-full";
    /// Loss: NULs that a power cut or preallocation left in a file; no content.
    pub const NUL_RUN: &str = "nul-run";
    /// Loss: the spool had no room, and its policy is to drop the oldest.
    pub const SPOOL_FULL: &str = "spool-full";
    /// Loss, and close with an unknown tail where the range held one: a batch in the device's spool
    /// came back from the disk other than it was written.
    pub const SPOOL_CORRUPT: &str = "spool-corrupt";
    /// Loss: the source's `rate_limit` was reached; `records` says how many lines it cut.
    pub const RATE_LIMITED: &str = "rate-limited";
    /// Loss: the source's steps made more of a line than Kafka takes in a message.
    pub const TOO_LARGE: &str = "too-large";
    /// Loss: entries of the systemd journal were deleted before they were read.
    pub const JOURNAL_VACUUMED: &str = "journal-vacuumed";
    /// Loss, and close: a deleted file that was held open to be read gave way, since its file system was down
    /// to what is kept free.
    pub const DELETED_UNREAD: &str = "deleted-unread";
    /// Close: the file was renamed away or deleted, and was read to its end.
    pub const ROTATED: &str = "rotated";
    /// Close: the file was cut to a length below what was read.
    pub const TRUNCATED: &str = "truncated";
    /// Close: the file was compressed, and what follows cannot be decompressed.
    pub const DAMAGED: &str = "damaged";
    /// Close: the file was gone when the agent came back.
    pub const VANISHED: &str = "vanished";
    /// Close: the system was started anew, and not in order: what a program had written last may be gone, and
    /// what it writes now takes its place. The file goes on under another generation.
    pub const POWER_CUT: &str = "power-cut";
    /// Close: the source was stopped in order.
    pub const STOPPED: &str = "stopped";
    /// Close: the agent ended without a word; the end of what a sensor gave is not known.
    pub const UNCLEAN: &str = "unclean";
    /// Close: `check --connect` wrote a record to see whether it may. It is of a stream of its own.
    pub const CHECKED: &str = "checked";
}

impl Notice {
    /// Reads a notice from a record's value. `None` where it is not one, for whatever cause: the
    /// headers alone still account for the range.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut notice: Self = serde_json::from_slice(value).ok()?;
        if let Self::Loss { reason, .. } | Self::Close { reason, .. } = &mut notice {
            reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        }
        Some(notice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_and_refuses_the_rest() {
        let loss = br#"{"device":"d","time":"x","notice":"loss","reason":"window-full"}"#;
        assert_eq!(
            Notice::parse(loss),
            Some(Notice::Loss {
                reason: reason::WINDOW_FULL.into(),
                records: None,
            })
        );
        let close = br#"{"notice":"close","reason":"rotated","tail":"unknown"}"#;
        assert_eq!(
            Notice::parse(close),
            Some(Notice::Close {
                reason: reason::ROTATED.into(),
                tail: Tail::Unknown
            })
        );
        assert_eq!(
            Notice::parse(br#"{"notice":"filtered","records":9}"#),
            Some(Notice::Filtered)
        );
        for bad in [&b""[..], b"{}", b"[1]", br#"{"notice":"close"}"#, b"\xff"] {
            assert_eq!(Notice::parse(bad), None);
        }
        let long = format!(r#"{{"notice":"loss","reason":"{}"}}"#, "ü".repeat(99));
        let Some(Notice::Loss { reason, .. }) = Notice::parse(long.as_bytes()) else {
            panic!("a long reason is still one");
        };
        assert_eq!(reason.len(), 64);
    }
}
