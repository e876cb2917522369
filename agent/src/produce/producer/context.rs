//! What librdkafka calls back: its log, its errors, its statistics, delivery reports, and its wish for a
//! token. Nothing here waits.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use headwater_msk::Cluster;
use headwater_msk::brokers::Known;
use headwater_msk::context::Voice;
use headwater_msk::credentials::TokenUser;
use headwater_msk::credentials::session::LocalToken;
use headwater_msk::push::set_token;
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

use super::reports::{Report, Reports, Tally};
use crate::produce::outcome::{Outcome, outcome};

/// What the callbacks work with.
pub(super) struct Context {
    voice: Voice,
    reports: Arc<Reports>,
    cluster: Arc<Cluster>,
    /// Whether bytes are to be reported.
    counts: bool,
    /// Bytes that were reported already.
    wire: AtomicU64,
    known: Known,
}

impl Context {
    /// `counts`: whether bytes are to be reported ([`Report::Wire`]).
    pub(super) fn new(cluster: Arc<Cluster>, reports: Arc<Reports>, counts: bool) -> Self {
        Self {
            voice: Voice::default(),
            reports,
            cluster,
            counts,
            wire: AtomicU64::new(0),
            known: Known::default(),
        }
    }

    /// Puts an error into the log, as often as the log can bear.
    pub(super) fn say(&self, error: &KafkaError, what: &str) {
        self.voice.error(error, what);
    }
}

/// What is read of librdkafka's statistics: bytes of requests and answers, without TLS, and brokers.
#[derive(serde::Deserialize)]
struct Passed {
    #[serde(default)]
    tx_bytes: u64,
    #[serde(default)]
    rx_bytes: u64,
    #[serde(default)]
    brokers: BTreeMap<String, Broker>,
}

/// A broker as librdkafka knows it.
#[derive(serde::Deserialize)]
struct Broker {
    #[serde(default)]
    source: String,
}

/// Where the credentials' thread reaches the client.
pub(super) struct Inlet {
    client: Weak<BaseProducer<Context>>,
    reports: Arc<Reports>,
}

impl Inlet {
    /// To a client that it does not keep.
    pub(super) fn new(client: &Arc<BaseProducer<Context>>, reports: Arc<Reports>) -> Self {
        Self {
            client: Arc::downgrade(client),
            reports,
        }
    }
}

impl TokenUser for Inlet {
    fn take_token(&self, token: &LocalToken) {
        let Some(client) = self.client.upgrade() else {
            return;
        };
        if let Err(reason) = set_token(client.client(), token) {
            tracing::warn!(reason, "librdkafka does not take a new token");
        }
    }

    fn principal_changed(&self) {
        self.reports.put(Report::Lost);
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.voice.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.error(&error, reason);
        let is_fatal = error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal);
        if is_fatal || self.cluster.is_outdated(&error, reason) {
            self.reports.put(Report::Lost);
        }
    }

    /// Of some kilobytes of JSON, two numbers and the brokers.
    fn stats_raw(&self, statistics: &[u8]) {
        let passed = match serde_json::from_slice::<Passed>(statistics) {
            Ok(passed) => passed,
            Err(error) => {
                tracing::debug!(%error, "librdkafka's statistics are not understood");
                return;
            }
        };
        let sources = passed.brokers.values();
        if (self.known).are_forgotten(sources.map(|broker| broker.source.as_str())) {
            tracing::warn!("librdkafka knows of no broker any more; its client is made anew");
            self.reports.put(Report::Lost);
        }
        if !self.counts {
            return;
        }
        let bytes = passed.tx_bytes.saturating_add(passed.rx_bytes);
        let before = self.wire.swap(bytes, Ordering::AcqRel);
        if bytes > before {
            self.reports.put(Report::Wire(bytes - before));
        }
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.cluster.oauth_token()
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Tally>;

    fn delivery(&self, result: &DeliveryResult<'_>, tally: Arc<Tally>) {
        let code = match result {
            Ok(_) => RDKafkaErrorCode::NoError,
            Err((error, _)) => error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail),
        };
        let outcome = outcome(code);
        if outcome == Outcome::Retry {
            self.voice.error(
                &KafkaError::MessageProduction(code),
                "the broker refuses records; they are kept, and sent again",
            );
        }
        tally.reported(1, outcome, &self.reports);
    }
}
