//! Regular expressions, as configuration writes them.
//!
//! The engine is `regex-lite`: linear time for any text, no Unicode tables (`\d`, `\w`, `\s` and
//! `(?i)` mean ASCII; `.` is any character). Chosen for the agent's size: it takes 70 KB where
//! `regex` takes 400 KB without its fast engines and 900 KB with them.

use regex_lite::{Regex, RegexBuilder};
use thiserror::Error;

/// Most memory of one compiled pattern, bytes: a mistaken repetition must not take a device's.
const SIZE_MAX: usize = 256 * 1024;

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("pattern {pattern:?}: {reason}")]
pub struct PatternError {
    pattern: String,
    reason: String,
}

/// A pattern, compiled.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// It is none, or it takes more memory than a pattern may.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        RegexBuilder::new(pattern)
            .size_limit(SIZE_MAX)
            .build()
            .map(Self)
            .map_err(|error| PatternError {
                pattern: pattern.to_owned(),
                reason: error.to_string(),
            })
    }

    /// Whether any part of `text` is as it says.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    pub(super) fn regex(&self) -> &Regex {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pattern_or_too_large_is_refused() {
        assert!(Pattern::new(r"^\w+$").unwrap().is_in("abc"));
        for bad in ["(", r"\p{Greek}", "(?:a{1000}){1000}"] {
            let error = Pattern::new(bad).unwrap_err().to_string();
            assert!(error.starts_with(&format!("pattern {bad:?}: ")), "{error}");
        }
    }

    #[test]
    fn time_is_linear_in_the_text() {
        // A backtracking engine would not end within a lifetime.
        let pattern = Pattern::new("^(a+)+$").unwrap();
        assert!(!pattern.is_in(&("a".repeat(10_000) + "b")));
    }
}
