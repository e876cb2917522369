//! The `[kafka]` section, and what of librdkafka's configuration is made of it alone; what
//! `[kafka.security]` adds is added where a client is made ([`crate::Cluster`]).

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::credentials::CredentialSettings;
use crate::security::{Security, SecurityProblem};

/// How to reach the cluster. Both programs have this section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// Bootstrap brokers, `host:port`. A name that does not resolve is tried again for ever.
    pub brokers: Vec<String>,
    /// The topic.
    pub topic: String,
    /// How both sides prove who they are.
    #[serde(default)]
    pub security: Security,
    /// Further librdkafka properties, passed on as written. Those that headwater's promises rest on
    /// are refused.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// What is wrong with a `[kafka]` section.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KafkaError {
    /// No broker to ask.
    #[error("kafka.brokers is empty: name one broker at least, as \"host:port\"")]
    NoBrokers,
    /// Not `host:port`.
    #[error("kafka.brokers: {0:?} is not \"host:port\"")]
    BadBroker(String),
    /// A name that Kafka would refuse.
    #[error(
        "kafka.topic: {0:?} is not a topic name: 1 to 249 of letters, digits, '.', '_' and '-'"
    )]
    BadTopic(String),
    /// A property that headwater sets itself.
    #[error("kafka.options: {0:?} is set by headwater, since its promises rest on it; remove it")]
    Reserved(String),
    /// A property that [`Security`] stands for.
    #[error("kafka.options: {0:?} is set by [kafka.security]; write it there")]
    Secured(String),
    /// What [`Security::problems`] found.
    #[error(transparent)]
    Security(#[from] SecurityProblem),
}

/// Properties that delivery or accounting rests on.
const RESERVED: &[&str] = &[
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "group.id",
    "isolation.level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.timeout.ms",
    "metadata.broker.list",
    "partitioner",
    "request.required.acks",
    "transactional.id",
];

/// Whether a property is one that `[kafka.security]` stands for. Every `ssl.` and `sasl.` property
/// is, but those that only choose among good ciphers: the others weaken the proof, or hold secrets.
fn is_of_security(name: &str) -> bool {
    const CHOICES: &[&str] = &["ssl.cipher.suites", "ssl.curves.list", "ssl.sigalgs.list"];
    let prefixes = ["sasl.", "ssl.", "enable.ssl.", "enable.sasl.", "https."];
    name == "security.protocol"
        || prefixes.iter().any(|prefix| name.starts_with(prefix)) && !CHOICES.contains(&name)
}

impl Kafka {
    /// Everything that is wrong with the section, given the `[credentials]` beside it.
    pub fn problems(&self, credentials: &CredentialSettings) -> Vec<KafkaError> {
        let mut problems = Vec::new();
        if self.brokers.is_empty() {
            problems.push(KafkaError::NoBrokers);
        }
        for broker in &self.brokers {
            let well_formed = broker.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && !broker.contains([',', ' ']) && port.parse::<u16>().is_ok()
            });
            if !well_formed {
                problems.push(KafkaError::BadBroker(broker.clone()));
            }
        }
        let in_topic = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if self.topic.is_empty()
            || self.topic.len() > 249
            || matches!(self.topic.as_str(), "." | "..")
            || !self.topic.bytes().all(in_topic)
        {
            problems.push(KafkaError::BadTopic(self.topic.clone()));
        }
        for name in self.options.keys() {
            if RESERVED.contains(&name.as_str()) {
                problems.push(KafkaError::Reserved(name.clone()));
            } else if is_of_security(name) {
                problems.push(KafkaError::Secured(name.clone()));
            }
        }
        let security = self.security.problems(&self.brokers, credentials);
        problems.extend(security.into_iter().map(KafkaError::Security));
        problems
    }

    /// The client configuration that producer and consumer share, without `[kafka.security]`.
    /// `client_id` shows in the broker's logs and quotas.
    ///
    /// Options come last, so that a person can change what is not reserved.
    pub(crate) fn client_config(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", client_id)
            // AWS's advice for MSK, and a ceiling that lets a large fleet come back slowly.
            .set("reconnect.backoff.ms", "1000")
            .set("reconnect.backoff.max.ms", "30000")
            .set("socket.keepalive.enable", "true")
            .set("topic.metadata.refresh.interval.ms", "300000")
            // Our own log says what connects and what does not, once, not per attempt.
            .set("log.connection.close", "false");
        for (name, value) in &self.options {
            config.set(name, value);
        }
        // What `debug` asks for is said below librdkafka's own level of logging.
        if self.options.contains_key("debug") {
            config.set_log_level(RDKafkaLogLevel::Debug);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kafka(brokers: &[&str], topic: &str, options: &[(&str, &str)]) -> Kafka {
        Kafka {
            brokers: brokers.iter().map(ToString::to_string).collect(),
            topic: topic.into(),
            security: Security::default(),
            options: options
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect(),
        }
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let bad = kafka(
            &["localhost", "a:1,b:2"],
            "no topic",
            &[("acks", "0"), ("linger.ms", "5")],
        );
        let credentials = CredentialSettings::default();
        assert_eq!(bad.problems(&credentials).len(), 4);
        let good = kafka(
            &["localhost:9098", "[::1]:9092"],
            "logs.v1",
            &[("linger.ms", "5"), ("ssl.cipher.suites", "x")],
        );
        assert_eq!(good.problems(&credentials), []);
        assert_eq!(good.client_config("x").get("linger.ms"), Some("5"));
    }

    #[test]
    fn what_security_stands_for_is_no_option() {
        for name in [
            "security.protocol",
            "sasl.mechanism",
            "sasl.mechanisms",
            "sasl.password",
            "sasl.oauthbearer.config",
            "ssl.ca.location",
            "ssl.key.pem",
            "ssl.endpoint.identification.algorithm",
            "enable.ssl.certificate.verification",
            "enable.sasl.oauthbearer.unsecure.jwt",
        ] {
            let kafka = kafka(&["localhost:1"], "t", &[(name, "x")]);
            assert_eq!(
                kafka.problems(&CredentialSettings::default()),
                [KafkaError::Secured(name.to_owned())]
            );
        }
    }
}
