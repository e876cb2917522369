//! How it stands with the credentials, for metrics, `status` and whoever is called at night: as plain
//! data, with no part of a secret in it. Times are milliseconds.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Longest reason that is kept. What an external process or a server said is in it.
const REASON_CHARS_MAX: usize = 1000;

/// Counters since the start. Relaxed: each stands for itself.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) fetched: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) tokens: AtomicU64,
    pub(super) principals_changed: AtomicU64,
    pub(super) clock_steps: AtomicU64,
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// How it stands with credentials and tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Where they come from.
    pub source: String,
    /// There are some, they have not ended, and the clock is set: a token can be signed.
    pub valid: bool,
    /// Until they end; none where there are none, and where they do not end.
    pub left_ms: Option<u64>,
    /// The server's time less this machine's; none where no server said a time yet.
    pub clock_offset_ms: Option<i64>,
    /// Fetches that brought credentials.
    pub fetched: u64,
    /// Fetches that did not.
    pub failures: u64,
    /// What went wrong last; none where nothing did.
    pub last_failure: Option<Failure>,
    /// Tokens signed.
    pub tokens: u64,
    /// Times that the credentials were another principal's than before.
    pub principals_changed: u64,
    /// Times that the wall clock was set.
    pub clock_steps: u64,
}

/// Why there were no credentials, or no new ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// In words.
    pub reason: String,
    /// Time since.
    pub ago_ms: u64,
    /// Credentials have come since.
    pub mended: bool,
}

impl Health {
    pub(super) fn counted(mut self, counters: &Counters) -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.fetched = read(&counters.fetched);
        self.failures = read(&counters.failures);
        self.tokens = read(&counters.tokens);
        self.principals_changed = read(&counters.principals_changed);
        self.clock_steps = read(&counters.clock_steps);
        self
    }
}

/// A reason as it is kept: bounded.
pub(super) fn bounded(reason: &str) -> String {
    match reason.char_indices().nth(REASON_CHARS_MAX) {
        None => reason.to_owned(),
        Some((end, _)) => format!("{} …", &reason[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_said_is_bounded() {
        assert_eq!(bounded("short"), "short");
        let long = bounded(&"é".repeat(100_000));
        assert_eq!(long.chars().count(), REASON_CHARS_MAX + 2);
    }
}
