//! What a line's fate depends on besides the line: whether it repeats the one before it, and how
//! many came before it in this stretch of time. Pure: the moment is handed in.
//!
//! ```text
//!   lines    A A A A B      repeats: the first A at once; then one record for the three others,
//!   records  A    A³ B      `"repeated":3`, when another line comes or their time is over
//!
//!   lines    1 2 3 4 5 │ 6  rate limit of 2: a stretch passes two, and a loss notice covers the
//!   records  1 2  loss │ 6  rest of it, when the next stretch begins
//! ```
//!
//! What is held back is in no record yet, so it is not settled: after a crash it is read again.

use std::time::Duration;

use super::RateLimit;
use crate::clock::Monotonic;

/// Longest value that is kept for comparison with the next, bytes; a longer one repeats nothing.
pub(super) const KEPT_BYTES_MAX: usize = 16 * 1024;

/// The last line's record, and the repeats of it that are in no record.
#[derive(Debug, Clone, Default)]
pub(super) struct Repeats {
    /// Its value; empty where there is none to repeat.
    pub(super) value: Vec<u8>,
    pub(super) count: u64,
    /// Offset behind the last of them.
    pub(super) end: u64,
    /// When the last of them was read, Unix time in milliseconds.
    pub(super) time_ms: u64,
    /// When they are told at the latest, while there are any.
    pub(super) until: Monotonic,
}

impl Repeats {
    /// Takes note of a repeat.
    pub(super) fn hold(&mut self, end: u64, time_ms: u64, within: Duration, now: Monotonic) {
        if self.count == 0 {
            self.until = now.plus(within);
        }
        self.count += 1;
        (self.end, self.time_ms) = (end, time_ms);
    }

    /// When what is held is to be told.
    pub(super) fn due_at(&self) -> Option<Monotonic> {
        (self.count > 0).then_some(self.until)
    }
}

/// The stretch of time under way, and what was cut in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Limit {
    /// When it began; none before the first record.
    began: Option<Monotonic>,
    passed: u32,
    /// Records that were cut and are in no notice.
    pub(super) cut: u64,
    /// Offset behind the last of them.
    pub(super) cut_end: u64,
}

/// What a rate limit says to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// It passes.
    Yes,
    /// It is cut.
    No,
    /// A stretch is over in which something was cut: that is told first.
    TellFirst,
}

impl Limit {
    /// Whether a record may pass now. Counts nothing.
    pub(super) fn ask(&mut self, limit: RateLimit, now: Monotonic) -> Pass {
        let is_over = (self.began).is_none_or(|began| now.since(began) >= limit.per);
        if is_over && self.cut > 0 {
            return Pass::TellFirst;
        }
        if is_over {
            (self.began, self.passed) = (Some(now), 0);
        }
        if self.passed < limit.records {
            Pass::Yes
        } else {
            Pass::No
        }
    }

    /// Takes note that a record passed.
    pub(super) fn pass(&mut self) {
        self.passed += 1;
    }

    /// Takes note that one was cut.
    pub(super) fn cut(&mut self, end: u64) {
        self.cut += 1;
        self.cut_end = end;
    }

    /// When what was cut is to be told.
    pub(super) fn due_at(&self, limit: RateLimit) -> Option<Monotonic> {
        (self.cut > 0).then(|| self.began.unwrap_or_default().plus(limit.per))
    }
}
