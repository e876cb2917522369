//! The cluster, as clients of it are made: `[kafka]` with `[kafka.security]` and `[credentials]`
//! opened once for all clients of a process.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use crate::client::Kafka;
use crate::context::Voice;
use crate::credentials::chain::ChainSource;
use crate::credentials::iot::IotSource;
use crate::credentials::{CredentialSettings, CredentialSource, Health, Session};
use crate::security::secret_file::SecretError;
use crate::security::{Mode, session_name_from};

/// How often somebody who waits for a first token looks.
const LOOK: Duration = Duration::from_millis(20);

/// What the token's principal is called inside librdkafka: bookkeeping, which nobody else sees.
const PRINCIPAL: &str = "headwater";

/// Why the cluster cannot be reached as configured.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// A file of a secret, or no authorities.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The system gives no thread.
    #[error("cannot start the thread \"credentials\": {0}")]
    Thread(#[source] std::io::Error),
}

/// How to reach the cluster, with what that takes in memory.
#[derive(Debug)]
pub struct Cluster {
    kafka: Kafka,
    session: Option<Session>,
    /// Hash of the secrets that the last client was made with.
    print: Mutex<Option<[u8; 32]>>,
}

impl Cluster {
    /// Checks that secrets can be read, and in mode `iam` starts to fetch credentials. Nothing waits
    /// for the network. `name` is whom the process runs for (device, host): the default name of an
    /// STS session.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub fn open(
        kafka: &Kafka,
        credentials: &CredentialSettings,
        name: &str,
    ) -> Result<Arc<Self>, ClusterError> {
        let session = match source(kafka, credentials, name) {
            None => None,
            Some((region, source)) => {
                // It only spreads requests: the process id does where there is no random number.
                let seed = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
                Some(Session::start(&region, source, seed).map_err(ClusterError::Thread)?)
            }
        };
        let cluster = Self {
            kafka: kafka.clone(),
            session,
            print: Mutex::default(),
        };
        cluster.client_config("")?;
        Ok(Arc::new(cluster))
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.kafka.topic
    }

    /// The configuration that producer and consumer share. `client_id` shows in the broker's logs and
    /// quotas. Files of secrets are read again each time, so that a rotated one is taken up.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn client_config(&self, client_id: &str) -> Result<ClientConfig, SecretError> {
        let config = self.visitor_config(client_id)?;
        *self.print.lock().unwrap_or_else(PoisonError::into_inner) = self.kafka.security.print();
        Ok(config)
    }

    /// The same for a client that asks something beside them and goes: what they were made with is still what they
    /// go by ([`Cluster::is_outdated`]).
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn visitor_config(&self, client_id: &str) -> Result<ClientConfig, SecretError> {
        let mut config = self.kafka.client_config(client_id);
        for (name, value) in self.kafka.security.settings()? {
            config.set(name, value);
        }
        Ok(config)
    }

    /// Where credentials are kept; none in other modes than `iam`.
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// How it stands with credentials; none in other modes than `iam`.
    pub fn health(&self) -> Option<Health> {
        self.session.as_ref().map(Session::health)
    }

    /// Waits until there is a token, for a client that is to be used at once and then dropped: asked
    /// too early, librdkafka asks again ten seconds later. In other modes than `iam` nothing is
    /// waited for.
    ///
    /// # Errors
    /// Why there is none, once the source of the credentials has failed.
    pub fn wait_for_token(&self) -> Result<(), String> {
        let Some(session) = &self.session else {
            return Ok(());
        };
        loop {
            // Asked before: the token's reason is then that of the failure.
            let has_failed = session.health().failures > 0;
            match session.token() {
                Ok(_) => return Ok(()),
                Err(why) if has_failed => return Err(why),
                // A clock that is unset is set by somebody else, who knows when.
                Err(why) if why.starts_with("clock-unset") => return Err(why),
                Err(_) => std::thread::sleep(LOOK),
            }
        }
    }

    /// For `ClientContext::generate_oauth_token`: a token signed from memory.
    ///
    /// # Errors
    /// Why there is none; librdkafka logs it and asks again.
    pub fn oauth_token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let session = self.session.as_ref().ok_or("the mode is not \"iam\"")?;
        let local = session.token()?;
        Ok(OAuthToken {
            token: local.token.text.to_string(),
            principal_name: PRINCIPAL.to_owned(),
            lifetime_ms: local.expires_local_ms,
        })
    }

    /// Whether an error that librdkafka reports means that this client will not be let in any more,
    /// and one that is made anew will: the broker saw another principal than before, or a file of a
    /// secret was changed. Where it means that a token was refused, the source of the credentials is
    /// asked for others.
    pub fn is_outdated(&self, error: &KafkaError, reason: &str) -> bool {
        let is_refusal = matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL)
        );
        if is_refusal && let Some(session) = &self.session {
            session.refused();
        }
        // Kafka's own words (SaslServerAuthenticator.ensurePrincipalUnchanged).
        is_refusal && (reason.contains("Cannot change principals") || self.secrets_changed())
    }

    fn secrets_changed(&self) -> bool {
        let now = self.kafka.security.print();
        let then = *self.print.lock().unwrap_or_else(PoisonError::into_inner);
        now.is_some() && now != then
    }
}

/// Where credentials come from, and the region to sign for; none in other modes than `iam`.
pub fn source(
    kafka: &Kafka,
    credentials: &CredentialSettings,
    name: &str,
) -> Option<(String, Box<dyn CredentialSource>)> {
    let security = &kafka.security;
    if security.mode != Mode::Iam {
        return None;
    }
    let region = security.region(&kafka.brokers)?.to_owned();
    let source: Box<dyn CredentialSource> = match &credentials.iot {
        Some(iot) => Box::new(IotSource::new(iot.clone())),
        None => {
            let session_name = security.session_name.clone();
            let session_name = session_name.unwrap_or_else(|| session_name_from(name));
            Box::new(ChainSource::new(&region, &session_name))
        }
    };
    Some((region, source))
}

/// The context of a client that needs no more than to be let in: admin clients, checks.
#[derive(Debug)]
pub struct Visitor {
    cluster: Arc<Cluster>,
    voice: Voice,
}

impl Visitor {
    /// A context.
    pub fn new(cluster: &Arc<Cluster>) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            voice: Voice::default(),
        }
    }
}

impl ClientContext for Visitor {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.voice.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.error(&error, reason);
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.cluster.oauth_token()
    }
}
