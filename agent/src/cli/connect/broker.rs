//! The steps that librdkafka walks: the client is configured as the agent's own producer is, so what
//! works here works there.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headwater_msk::Cluster;
use headwater_record::DeviceId;
use headwater_record::headers::{KIND, SPAN, STREAM, SpanHeader};
use headwater_record::notice::{Tail, reason};
use headwater_record::value::ValueWriter;
use headwater_record::{Generation, Kind, Notice, SourceId, Span, StreamId};
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

use super::Why;
use crate::clock::{self, Monotonic};
use crate::config::Plan;

/// For each step.
const PATIENCE: Duration = Duration::from_secs(20);
/// For one look.
const LOOK: Duration = Duration::from_millis(500);

/// What librdkafka says, kept for the step that asks.
struct Listener {
    cluster: Arc<Cluster>,
    said: Mutex<Vec<(RDKafkaErrorCode, String)>>,
    delivered: Mutex<Option<Result<(), RDKafkaErrorCode>>>,
}

impl Listener {
    fn new(cluster: &Arc<Cluster>) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            said: Mutex::default(),
            delivered: Mutex::default(),
        }
    }

    fn hear(&self, code: RDKafkaErrorCode, text: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.push((code, text.to_owned()));
    }

    /// The last thing said with one of these codes, or at all.
    fn last(&self, codes: &[RDKafkaErrorCode]) -> Option<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut matching = said.iter().rev().filter(|(code, _)| codes.contains(code));
        matching.next().map(|(_, text)| text.clone())
    }

    fn last_of_any(&self) -> Option<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.last().map(|(_, text)| text.clone())
    }
}

impl ClientContext for Listener {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _text: &str) {
        // The steps say what there is to say, in order.
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.hear(code, reason);
        }
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.cluster.oauth_token()
    }
}

impl ProducerContext for Listener {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        *self
            .delivered
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(result);
    }
}

impl ConsumerContext for Listener {}

/// A client at the door.
pub(super) struct Broker<'a> {
    cluster: Arc<Cluster>,
    client: BaseProducer<Listener>,
    plan: &'a Plan,
}

impl<'a> Broker<'a> {
    /// A client; it connects by itself.
    pub(super) fn connect(cluster: &Arc<Cluster>, plan: &'a Plan) -> Result<Self, Why> {
        cluster.wait_for_token()?;
        let name = format!("headwater-check-{}", plan.device);
        let mut config = cluster
            .client_config(&name)
            .map_err(|error| error.to_string())?;
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", PATIENCE.as_millis().to_string())
            .set("reconnect.backoff.max.ms", "1000");
        let client = config
            .create_with_context(Listener::new(cluster))
            .map_err(|error| format!("librdkafka refuses the configuration: {error}"))?;
        Ok(Self {
            cluster: Arc::clone(cluster),
            client,
            plan,
        })
    }

    fn listener(&self) -> &Listener {
        self.client.context()
    }

    /// Until a broker answers a question: then it has let this client in.
    pub(super) fn authenticate(&self) -> Result<String, Why> {
        let refusals = [RDKafkaErrorCode::Authentication, RDKafkaErrorCode::SSL];
        let until = clock::monotonic().plus(PATIENCE);
        loop {
            self.client.poll(Duration::ZERO);
            if let Ok(metadata) = self.client.client().fetch_metadata(None, LOOK * 4) {
                let brokers = metadata.brokers().len();
                return Ok(format!("let in; the cluster has {brokers} brokers"));
            }
            self.client.poll(LOOK);
            if let Some(reason) = self.listener().last(&refusals) {
                return Err(format!("{reason}{}", advice(&reason)));
            }
            if is_over(until) {
                let last = self.listener().last_of_any();
                let last = last.unwrap_or_else(|| "nothing was said".to_owned());
                return Err(format!("no answer within {} s: {last}", PATIENCE.as_secs()));
            }
        }
    }

    /// `DescribeTopic`.
    pub(super) fn describe(&self) -> Result<String, Why> {
        let topic = self.cluster.topic();
        let asked = self.client.client().fetch_metadata(Some(topic), PATIENCE);
        let metadata = asked.map_err(|error| format!("no answer about {topic}: {error}"))?;
        let Some(found) = metadata.topics().first() else {
            return Err(format!("the broker says nothing of {topic}"));
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(format!(
                "{topic} has {} partitions",
                found.partitions().len()
            )),
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => Err(format!(
                "not allowed to describe {topic}: with IAM the policy needs kafka-cluster:DescribeTopic on the ARN of the topic, else an ACL with DESCRIBE; a topic that is not there looks the same"
            )),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Err(format!(
                    "the topic {topic} is not there: make it (headwater never makes one by accident), or correct kafka.topic"
                ))
            }
            Some(code) => Err(format!("{topic}: {code}")),
        }
    }

    /// `WriteData`, `WriteDataIdempotently`.
    pub(super) fn write(&self, device: &DeviceId) -> Result<String, Why> {
        let topic = self.cluster.topic();
        let (value, headers) = notice(device)?;
        let record = BaseRecord::to(topic)
            .key(device.as_str())
            .payload(&value)
            .headers(headers);
        let sent = self
            .client
            .send(record)
            .map_err(|(error, _)| error.to_string());
        sent.map_err(|error| format!("{error}{}", self.what_was_said()))?;
        let until = clock::monotonic().plus(PATIENCE + LOOK * 4);
        loop {
            self.client.poll(LOOK);
            let delivered = &self.listener().delivered;
            let delivered = *delivered.lock().unwrap_or_else(PoisonError::into_inner);
            let cluster = [RDKafkaErrorCode::ClusterAuthorizationFailed];
            let refused = match delivered {
                Some(Ok(())) => {
                    return Ok("one record, idempotently, on every replica that is wanted".into());
                }
                Some(Err(code)) => Some(code),
                None => (self.client.client().fatal_error().map(|(code, _)| code))
                    .or_else(|| self.listener().last(&cluster).map(|_| cluster[0])),
            };
            if let Some(code) = refused {
                let advice = write_advice(code, topic);
                return Err(format!("{code}{advice}{}", self.what_was_said()));
            }
            if is_over(until) {
                return Err(format!("no acknowledgement{}", self.what_was_said()));
            }
        }
    }

    /// `ReadData`.
    pub(super) fn read(&self) -> Result<String, Why> {
        let topic = self.cluster.topic();
        let name = format!("headwater-check-{}", self.plan.device);
        let mut config = self
            .cluster
            .client_config(&name)
            .map_err(|e| e.to_string())?;
        config.set("enable.partition.eof", "true");
        let consumer: BaseConsumer<Listener> = config
            .create_with_context(Listener::new(&self.cluster))
            .map_err(|error| error.to_string())?;
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(topic, 0, Offset::OffsetTail(1))
            .and_then(|()| consumer.assign(&from))
            .map_err(|error| error.to_string())?;
        let until = clock::monotonic().plus(PATIENCE);
        let denied = Some(RDKafkaErrorCode::TopicAuthorizationFailed);
        while !is_over(until) {
            match consumer.poll(LOOK) {
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => {
                    return Ok(format!("{topic} can be read"));
                }
                Some(Err(error)) if error.rdkafka_error_code() == denied => {
                    return Err(format!(
                        "not allowed to read {topic} (kafka-cluster:ReadData)"
                    ));
                }
                Some(Err(_)) | None => {}
            }
        }
        Err(format!("no answer within {} s", PATIENCE.as_secs()))
    }

    fn what_was_said(&self) -> String {
        self.listener()
            .last_of_any()
            .map_or_else(String::new, |said| format!(" ({said})"))
    }
}

fn is_over(until: Monotonic) -> bool {
    until <= clock::monotonic()
}

/// The record of the write step: nothing in it, and nothing missing after it.
fn notice(device: &DeviceId) -> Result<(Vec<u8>, OwnedHeaders), Why> {
    let source: SourceId = "check".parse().map_err(|_| "no source id".to_owned())?;
    let stream = StreamId::new(device, &source, b"connect").map_err(|error| error.to_string())?;
    let generation = getrandom::u64().map_err(|error| error.to_string())?;
    let span = SpanHeader::new(Generation(generation), Span::empty_at(0));
    let close = Notice::Close {
        reason: reason::CHECKED.to_owned(),
        tail: Tail::Complete,
    };
    let mut value = Vec::new();
    ValueWriter::new(device, &source).notice(&mut value, clock::wall_ms(), &close);
    let headers = OwnedHeaders::new()
        .insert(Header {
            key: STREAM,
            value: Some(stream.as_str()),
        })
        .insert(Header {
            key: SPAN,
            value: Some(span.as_bytes()),
        })
        .insert(Header {
            key: KIND,
            value: Kind::Close.header(),
        });
    Ok((value, headers))
}

/// What a refusal at the door means. The texts are MSK's and Kafka's own, as users report them.
fn advice(reason: &str) -> String {
    let advices = [
        (
            "Session too short",
            "the credentials end too soon: their source has to renew them earlier, or the role's or alias's duration be longer",
        ),
        (
            "Too many connects",
            "the broker's limit of IAM connections is used up (3000, and 100 new ones a second; 4 a second on t3)",
        ),
        (
            "Cannot change principals",
            "the session name changes at each refresh: name it (kafka.security.session_name, role_session_name)",
        ),
        (
            "Access denied",
            "the policy needs kafka-cluster:Connect on the ARN of the cluster; else look at the region, at this device's clock, and whether the key is still active",
        ),
        (
            "invalid credentials",
            "user or password are wrong; on MSK the secret's name must begin with AmazonMSK_, it needs a customer key of KMS, and it must be associated with the cluster",
        ),
        (
            "handshake",
            "is it the port of this mode (TLS and mTLS 9094, SCRAM 9096, IAM 9098)? With mtls: is the certificate of an authority that the cluster trusts?",
        ),
        (
            "certificate",
            "with mtls: is the certificate of an authority that the cluster trusts, and not expired?",
        ),
        (
            "mechanism",
            "the listener of this port wants another mode: SCRAM has 9096, IAM 9098",
        ),
    ];
    let mut text = String::new();
    let found = advices.iter().find(|(part, _)| reason.contains(part));
    if let Some((_, advice)) = found {
        let written = write!(text, "; {advice}");
        debug_assert!(written.is_ok(), "a String takes every byte");
    }
    text
}

fn write_advice(code: RDKafkaErrorCode, topic: &str) -> String {
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed => format!(
            ": with IAM the policy needs kafka-cluster:WriteData on the ARN of the topic {topic}, else an ACL with WRITE"
        ),
        RDKafkaErrorCode::ClusterAuthorizationFailed => {
            ": with IAM the policy needs kafka-cluster:WriteDataIdempotently on the ARN of the cluster, else an ACL with IDEMPOTENT_WRITE; MSK checks it though newer Kafka does not".to_owned()
        }
        RDKafkaErrorCode::NotEnoughReplicas | RDKafkaErrorCode::NotEnoughReplicasAfterAppend => {
            ": the topic's min.insync.replicas is more than are up".to_owned()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_refusals_are_explained_and_others_are_left_as_they_are() {
        for (reason, part) in [
            (
                "SASL authentication error: [3f-9]: Access denied",
                "kafka-cluster:Connect",
            ),
            ("[x]: Session too short", "renew"),
            ("[x]: Too many connects", "limit"),
            (
                "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512",
                "AmazonMSK_",
            ),
            ("SSL handshake failed: tlsv1 alert", "9094"),
        ] {
            assert!(
                advice(reason).contains(part),
                "{reason}: {}",
                advice(reason)
            );
        }
        assert_eq!(advice("what"), "");
    }

    #[test]
    fn the_written_record_is_a_notice_of_nothing() {
        use rdkafka::message::Headers as _;
        let (value, headers) = notice(&"pi-7".parse().unwrap()).unwrap();
        let tag = headwater_record::headers::decode(
            headers.iter().map(|header| (header.key, header.value)),
        );
        let tag = tag.unwrap().unwrap();
        assert_eq!(tag.stream, "pi-7/check/connect");
        assert_eq!((tag.kind, tag.span), (Kind::Close, Span::empty_at(0)));
        let expected = Notice::Close {
            reason: "checked".into(),
            tail: Tail::Complete,
        };
        assert_eq!(Notice::parse(&value), Some(expected));
    }
}
