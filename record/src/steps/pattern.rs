//! Regular expressions, as configuration writes them.
//!
//! A pattern is what `regex-lite` takes: linear time for any text, no Unicode tables (`\d`, `\w`, `\s` and
//! `(?i)` mean ASCII; `.` is any character). It takes 70 KB of the agent, where `regex` takes 400 KB
//! without its fast engines and 900 KB with them. The loader, which has that one anyway, runs patterns by it
//! (feature `fast-patterns`): the same pattern finds the same.

#[cfg(feature = "fast-patterns")]
mod fast;

use std::ops::Range;

use thiserror::Error;

/// Most memory of one compiled pattern, bytes: a mistaken repetition must not take a device's.
const SIZE_MAX: usize = 256 * 1024;

/// What runs a pattern. What it means is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// `regex-lite`: small, for devices.
    Small,
    /// `regex`, wherever it would find the same: for many rows.
    #[cfg(feature = "fast-patterns")]
    Fast,
}

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("pattern {pattern:?}: {reason}")]
pub struct PatternError {
    pattern: String,
    reason: String,
}

/// A pattern, compiled.
#[derive(Debug, Clone)]
pub struct Pattern {
    compiled: Compiled,
    /// The names of its groups, from group 0, which has none.
    names: Vec<Option<String>>,
}

#[derive(Debug, Clone)]
enum Compiled {
    Small(regex_lite::Regex),
    #[cfg(feature = "fast-patterns")]
    Fast(regex::Regex),
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// It is none, or it takes more memory than a pattern may: with either engine the same ones.
    pub fn new(pattern: &str, engine: Engine) -> Result<Self, PatternError> {
        let small = regex_lite::RegexBuilder::new(pattern)
            .size_limit(SIZE_MAX)
            .build()
            .map_err(|error| PatternError {
                pattern: pattern.to_owned(),
                reason: error.to_string(),
            })?;
        let names = small.capture_names().map(|name| name.map(str::to_owned));
        Ok(Self {
            names: names.collect(),
            compiled: match engine {
                Engine::Small => Compiled::Small(small),
                #[cfg(feature = "fast-patterns")]
                Engine::Fast => match fast::compile(pattern) {
                    Some(fast) => Compiled::Fast(fast),
                    None => Compiled::Small(small),
                },
            },
        })
    }

    /// Whether any part of `text` is as it says.
    pub fn is_in(&self, text: &str) -> bool {
        match &self.compiled {
            Compiled::Small(regex) => regex.is_match(text),
            #[cfg(feature = "fast-patterns")]
            Compiled::Fast(regex) => regex.is_match(text),
        }
    }

    /// Whether any of its groups has a name.
    pub(super) fn has_names(&self) -> bool {
        self.names.iter().flatten().next().is_some()
    }

    /// The named groups of its first match that took part in it, in their order; `None` where it is not in
    /// the text.
    pub(super) fn groups<'t>(&self, text: &'t str) -> Option<Vec<(&str, &'t str)>> {
        let names = self.names.iter().enumerate();
        let named = names.filter_map(|(at, name)| Some((at, name.as_deref()?)));
        match &self.compiled {
            Compiled::Small(regex) => {
                let found = regex.captures(text)?;
                let group = |(at, name)| Some((name, found.get(at)?.as_str()));
                Some(named.filter_map(group).collect())
            }
            #[cfg(feature = "fast-patterns")]
            Compiled::Fast(regex) => {
                let found = regex.captures(text)?;
                let group = |(at, name)| Some((name, found.get(at)?.as_str()));
                Some(named.filter_map(group).collect())
            }
        }
    }

    /// Where it is found, from the left, none over another; in bytes.
    pub(super) fn matches<'p>(&'p self, text: &'p str) -> Matches<'p> {
        match &self.compiled {
            Compiled::Small(regex) => Matches::Small(regex.find_iter(text)),
            #[cfg(feature = "fast-patterns")]
            Compiled::Fast(regex) => Matches::Fast(regex.find_iter(text)),
        }
    }
}

/// Where a pattern is found in a text.
pub(super) enum Matches<'p> {
    Small(regex_lite::Matches<'p, 'p>),
    #[cfg(feature = "fast-patterns")]
    Fast(regex::Matches<'p, 'p>),
}

impl Iterator for Matches<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        match self {
            Self::Small(matches) => matches.next().map(|found| found.range()),
            #[cfg(feature = "fast-patterns")]
            Self::Fast(matches) => matches.next().map(|found| found.range()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pattern_or_too_large_is_refused() {
        let new = |pattern| Pattern::new(pattern, Engine::Small);
        assert!(new(r"^\w+$").unwrap().is_in("abc"));
        for bad in ["(", r"\p{Greek}", "(?:a{1000}){1000}"] {
            let error = new(bad).unwrap_err().to_string();
            assert!(error.starts_with(&format!("pattern {bad:?}: ")), "{error}");
        }
    }

    #[test]
    fn time_is_linear_in_the_text() {
        // A backtracking engine would not end within a lifetime.
        let pattern = Pattern::new("^(a+)+$", Engine::Small).unwrap();
        assert!(!pattern.is_in(&("a".repeat(10_000) + "b")));
    }
}
