//! A client that knocks: is it let in, and if not, what is it told?

use crate::clock;
use rdkafka::ClientConfig;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use std::error::Error;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

/// How long a knock may take: TLS and SASL on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

type Tokens = Box<dyn Fn() -> (String, Duration) + Send + Sync>;

/// The context of a client that keeps what it is told.
pub struct Visitor {
    tokens: Option<Tokens>,
    told: Mutex<Vec<String>>,
}

impl Visitor {
    /// A client without a token.
    pub fn new() -> Self {
        Self {
            tokens: None,
            told: Mutex::new(Vec::new()),
        }
    }

    /// A client that asks `tokens` for a token, and for how long it is to take it for good, at every
    /// refresh.
    pub fn with_tokens(tokens: impl Fn() -> (String, Duration) + Send + Sync + 'static) -> Self {
        Self {
            tokens: Some(Box::new(tokens)),
            ..Self::new()
        }
    }

    /// What it was told so far, errors and the log's warnings, in order.
    pub fn told(&self) -> Vec<String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Visitor {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visitor")
            .field("told", &self.told)
            .finish_non_exhaustive()
    }
}

impl ClientContext for Visitor {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let (token, life) = self.tokens.as_ref().ok_or("this client has no tokens")?();
        let end = (clock::wall() + life).duration_since(UNIX_EPOCH)?;
        Ok(OAuthToken {
            token,
            principal_name: "test".to_owned(),
            lifetime_ms: i64::try_from(end.as_millis())?,
        })
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.lock().push(format!("{error}: {reason}"));
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        if matches!(level, RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning) {
            self.lock().push(format!("{facility}: {text}"));
        }
    }
}

impl ConsumerContext for Visitor {}

/// Asks a cluster for its metadata.
///
/// # Errors
/// What the client was told first, if it was not let in.
///
/// # Panics
/// If neither happens within half a minute.
pub fn knock(config: &ClientConfig, visitor: Visitor) -> Result<(), String> {
    let start = clock::now();
    let consumer: BaseConsumer<Visitor> = config
        .create_with_context(visitor)
        .map_err(|error| error.to_string())?;
    while start.elapsed() < PATIENCE {
        // A token is asked for while the client is polled, and only then.
        drop(consumer.poll(Duration::from_millis(10)));
        if consumer
            .fetch_metadata(None, Duration::from_millis(200))
            .is_ok()
        {
            return Ok(());
        }
        if let Some(first) = consumer.context().told().into_iter().next() {
            return Err(first);
        }
    }
    panic!("neither let in nor refused within {PATIENCE:?}")
}
