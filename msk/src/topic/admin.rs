//! The topic on a cluster: described, and created. Each call blocks for 30 s at most, where it does not say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use super::{PartitionState, Topic, TopicState};
use crate::cluster::{Cluster, ClusterError, Visitor};
use crate::push::set_token;

/// How long a cluster may take for one answer.
const ANSWER: Duration = Duration::from_secs(30);

/// Why there is no client to ask with.
#[derive(Debug, Error)]
pub enum AdminError {
    /// A file of a secret, or no authorities.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// librdkafka does not take its settings.
    #[error("cannot make an admin client: {0}")]
    Client(#[source] KafkaError),
    /// Mode `iam`: there is no token, or librdkafka does not take it.
    #[error("{0}")]
    Token(String),
}

/// A client that asks about topics. In mode `iam` there has to be a token already, see
/// [`Cluster::wait_for_token`].
///
/// # Errors
/// See [`AdminError`].
pub fn connect(
    cluster: &Arc<Cluster>,
    client_id: &str,
) -> Result<AdminClient<Visitor>, AdminError> {
    let config = cluster
        .visitor_config(client_id)
        .map_err(ClusterError::from)?;
    let admin: AdminClient<Visitor> = config
        .create_with_context(Visitor::new(cluster))
        .map_err(AdminError::Client)?;
    // librdkafka asks for a token while it is polled, and an admin client is not.
    if let Some(session) = cluster.session() {
        let token = session.token().map_err(AdminError::Token)?;
        set_token(admin.inner(), &token).map_err(AdminError::Token)?;
    }
    Ok(admin)
}

/// Why a topic could not be described or created.
#[derive(Debug, Error)]
pub enum TopicError {
    /// It is not there.
    #[error("topic {0} is not there; `topics create` makes it")]
    Missing(String),
    /// It is there already; nothing was changed.
    #[error(
        "topic {0} is there already, nothing was changed; `topics check` compares it with [topic]"
    )]
    Exists(String),
    /// The cluster has fewer brokers than copies were asked for.
    #[error(
        "topic {topic} cannot have topic.replication = {copies}: the cluster has {brokers} brokers"
    )]
    TooFewBrokers {
        /// The topic.
        topic: String,
        /// Copies that were asked for.
        copies: i32,
        /// Brokers that there are.
        brokers: usize,
    },
    /// This principal may not.
    #[error(
        "topic {topic}: this principal may not {verb} it ({code}); what is needed stands in deploy/iam-admin.json"
    )]
    Denied {
        /// The topic.
        topic: String,
        /// What was tried.
        verb: &'static str,
        /// What the broker said.
        code: RDKafkaErrorCode,
    },
    /// No answer, or a refusal for another reason.
    #[error("cannot {verb} topic {topic}: {source}")]
    Failed {
        /// The topic.
        topic: String,
        /// What was tried.
        verb: &'static str,
        /// What librdkafka says.
        source: KafkaError,
    },
}

impl TopicError {
    fn new(topic: &str, verb: &'static str, source: KafkaError) -> Self {
        let topic = topic.to_owned();
        let code = match source {
            // rdkafka does not count it among the errors that have a code.
            KafkaError::AdminOp(code) => Some(code),
            _ => source.rdkafka_error_code(),
        };
        match code {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Self::Missing(topic)
            }
            Some(RDKafkaErrorCode::TopicAlreadyExists) => Self::Exists(topic),
            Some(
                code @ (RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed),
            ) => Self::Denied { topic, verb, code },
            _ => Self::Failed {
                topic,
                verb,
                source,
            },
        }
    }
}

/// Describes a topic. Its configuration stays empty where this principal may not read it.
///
/// # Errors
/// See [`TopicError`].
pub async fn describe<C: ClientContext>(
    admin: &AdminClient<C>,
    topic: &str,
) -> Result<TopicState, TopicError> {
    let failed = |error| TopicError::new(topic, "describe", error);
    let metadata = admin
        .inner()
        .fetch_metadata(Some(topic), ANSWER)
        .map_err(failed)?;
    let found = metadata.topics().first();
    let found = found.ok_or_else(|| TopicError::Missing(topic.to_owned()))?;
    if let Some(error) = found.error() {
        return Err(failed(KafkaError::MetadataFetch(error.into())));
    }
    let partition = |p: &rdkafka::metadata::MetadataPartition| PartitionState {
        id: p.id(),
        leader: Some(p.leader()).filter(|leader| *leader >= 0),
        replicas: p.replicas().to_vec(),
        in_sync: p.isr().to_vec(),
    };
    let mut partitions: Vec<_> = found.partitions().iter().map(partition).collect();
    partitions.sort_by_key(|partition| partition.id);
    Ok(TopicState {
        name: topic.to_owned(),
        brokers: metadata.brokers().len(),
        partitions,
        configs: configs(admin, topic, ANSWER).await.map_err(failed)?,
    })
}

/// A topic's `cleanup.policy`, the broker's default included; none where this principal may not read it.
/// `patience` bounds the wait for the answer.
///
/// # Errors
/// See [`TopicError`].
pub async fn cleanup_policy<C: ClientContext>(
    admin: &AdminClient<C>,
    topic: &str,
    patience: Duration,
) -> Result<Option<String>, TopicError> {
    let mut configs = configs(admin, topic, patience)
        .await
        .map_err(|error| TopicError::new(topic, "describe", error))?;
    Ok(configs.remove("cleanup.policy"))
}

/// Empty where this principal may not read it.
async fn configs<C: ClientContext>(
    admin: &AdminClient<C>,
    topic: &str,
    patience: Duration,
) -> Result<BTreeMap<String, String>, KafkaError> {
    let options = AdminOptions::new().request_timeout(Some(patience));
    let resource = ResourceSpecifier::Topic(topic);
    let mut configs = BTreeMap::new();
    for result in admin.describe_configs([&resource], &options).await? {
        match result {
            Ok(resource) => {
                debug_assert!(matches!(
                    resource.specifier,
                    OwnedResourceSpecifier::Topic(_)
                ));
                let entries = resource.entries.into_iter();
                configs.extend(entries.filter_map(|entry| Some((entry.name, entry.value?))));
            }
            Err(RDKafkaErrorCode::TopicAuthorizationFailed) => {}
            Err(code) => return Err(KafkaError::AdminOp(code)),
        }
    }
    Ok(configs)
}

/// Creates a topic as planned.
///
/// # Errors
/// See [`TopicError`].
pub async fn create<C: ClientContext>(
    admin: &AdminClient<C>,
    topic: &str,
    plan: &Topic,
) -> Result<(), TopicError> {
    let failed = |error| TopicError::new(topic, "create", error);
    let configs = plan.configs();
    let copies = TopicReplication::Fixed(plan.replication);
    let mut new = NewTopic::new(topic, plan.partitions, copies);
    for (key, value) in &configs {
        new = new.set(key, value);
    }
    let options = AdminOptions::new()
        .request_timeout(Some(ANSWER))
        .operation_timeout(Some(ANSWER));
    for result in admin
        .create_topics([&new], &options)
        .await
        .map_err(failed)?
    {
        match result {
            Ok(_) => {}
            Err((_, RDKafkaErrorCode::InvalidReplicationFactor)) => {
                let metadata = admin.inner().fetch_metadata(None, ANSWER).map_err(failed)?;
                return Err(TopicError::TooFewBrokers {
                    topic: topic.to_owned(),
                    copies: plan.replication,
                    brokers: metadata.brokers().len(),
                });
            }
            Err((_, code)) => return Err(failed(KafkaError::AdminOp(code))),
        }
    }
    Ok(())
}
