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
        let hint = hint(reason);
        // One code stands for many reasons: one that can be explained is not kept back for another.
        if !self.is_news(&format!("{error}{}", hint.unwrap_or_default())) {
            return;
        }
        match hint {
            Some(hint) => tracing::warn!(%error, hint, "{reason}"),
            None => tracing::warn!(%error, "{reason}"),
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

/// Where librdkafka's words lead the wrong way, or MSK's nowhere.
fn hint(reason: &str) -> Option<&'static str> {
    const HINTS: [(&str, &str); 2] = [
        (
            "certificate verify failed",
            "the broker's certificate has expired, is for another name, or is of an authority that is not trusted (`ca` in [kafka.security], else the system's); `headwater-agent check --connect` says which",
        ),
        (
            "Access denied",
            "MSK does not say why: kafka-cluster:Connect is missing, or region, clock or credentials are wrong; `headwater-agent check --connect` goes through them",
        ),
    ];
    let found = HINTS.iter().find(|(part, _)| reason.contains(part));
    found.map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_at_the_door_is_explained() {
        let tls = "SSL handshake failed: certificate verify failed: verify that ssl.ca.location is";
        assert!(hint(tls).is_some_and(|hint| hint.contains("expired")));
        let iam = "SASL authentication error: [3f-9]: Access denied";
        assert!(hint(iam).is_some_and(|hint| hint.contains("kafka-cluster:Connect")));
        assert_eq!(hint("Connection refused"), None);
    }

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
