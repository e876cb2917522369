//! What librdkafka says, into our log.
//!
//! librdkafka repeats itself at every attempt to connect. A repeated line says nothing new and fills
//! a small disk, so the same text is passed on once a minute at most.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

/// How long the same text is not repeated.
const QUIET: Duration = Duration::from_secs(60);
/// How many different texts are remembered; above it all are forgotten, and may be said again.
const TEXTS_MAX: usize = 64;

/// Passes librdkafka's log lines and errors on, without repetition. A client context holds one.
#[derive(Default)]
pub struct Voice {
    said: Mutex<BTreeMap<String, Instant>>,
}

impl fmt::Debug for Voice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Voice").finish_non_exhaustive()
    }
}

impl Voice {
    /// For `ClientContext::log`.
    pub fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        // These exist only where somebody asked for them (`debug` in `[kafka.options]`): all of them,
        // and at a level that is shown.
        if matches!(level, RDKafkaLogLevel::Debug) {
            tracing::info!(facility, "{text}");
            return;
        }
        if !self.is_news(facility) {
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, "{text}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::warn!(facility, "{text}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::info!(facility, "{text}");
            }
        }
    }

    /// For `ClientContext::error`.
    pub fn error(&self, error: &KafkaError, reason: &str) {
        if self.is_news(&error.to_string()) {
            tracing::warn!(%error, "{reason}");
        }
    }

    fn is_news(&self, key: &str) -> bool {
        #[expect(
            clippy::disallowed_methods,
            reason = "an edge: how long a text stays unsaid"
        )]
        let now = Instant::now();
        let Ok(mut said) = self.said.lock() else {
            return true;
        };
        if said
            .get(key)
            .is_some_and(|last| now.duration_since(*last) < QUIET)
        {
            return false;
        }
        if said.len() >= TEXTS_MAX {
            said.clear();
        }
        said.insert(key.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_and_memory_is_bounded() {
        let voice = Voice::default();
        assert!(voice.is_news("FAIL"));
        assert!(!voice.is_news("FAIL"));
        for i in 0..1000 {
            assert!(voice.is_news(&i.to_string()));
        }
        assert!(voice.said.lock().unwrap().len() <= TEXTS_MAX);
    }
}
