//! Reads a stretch of one partition after the other, by assignment: no member of any group, no
//! commit. It needs the rights to describe and read the topic, and (librdkafka looks for its
//! coordinator) to describe the group. Records of aborted transactions are not seen, and the end is
//! the last stable offset, as for the group.

use std::error::Error as StdError;
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use headwater_msk::Cluster;
use headwater_msk::cluster::Visitor;
use headwater_msk::push::set_token;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::clock;
use crate::config::Plan;
use crate::consume::consumer::identify;
use crate::fetched::Fetched;
use crate::range::position::Position;
use crate::supervise::host_name;

/// How long the broker may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest time in one poll.
const POLL: Duration = Duration::from_millis(200);
/// How long the end may stay where it was said to be, below the one that was asked for, until it is
/// believed: a new leader may not know yet how far its followers are.
const END_BELIEVED_MS: u64 = 3000;
/// Bytes of records that are handed over together.
const HAND_OVER_BYTES: usize = 1024 * 1024;

/// What librdkafka's client needs of us: [`Visitor`], as a consumer.
#[derive(Debug)]
struct Quiet(Visitor);

impl ClientContext for Quiet {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.0.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn StdError>> {
        self.0.generate_oauth_token(config)
    }
}

impl ConsumerContext for Quiet {}

/// Reads stretches of a topic.
pub struct Reader {
    consumer: BaseConsumer<Quiet>,
    topic: String,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// What a partition holds: offsets of its first record, and behind its last one that may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// First offset that the broker still has.
    pub low: u64,
    /// The last stable offset.
    pub high: u64,
}

impl Reader {
    /// A reader of the topic of a plan. Waits for credentials, not for the brokers.
    ///
    /// # Errors
    /// A configuration that librdkafka refuses, or no credentials.
    pub fn open(plan: &Plan) -> anyhow::Result<Self> {
        let cluster = Cluster::open(&plan.kafka, &plan.credentials, &host_name())?;
        cluster.wait_for_token().map_err(anyhow::Error::msg)?;
        let mut config = cluster.client_config("headwater-loader")?;
        // librdkafka assigns only with a group's name; it is never joined.
        for (name, value) in [
            ("group.id", plan.group.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("isolation.level", "read_committed"),
            ("enable.partition.eof", "true"),
            // Ends are the leader's; a follower nearby may not be there yet.
            ("client.rack", ""),
        ] {
            config.set(name, value);
        }
        let fetch = plan.memory.fetch;
        for (name, value) in [
            ("queued.max.messages.kbytes", fetch / 1024),
            ("fetch.max.bytes", fetch / 2),
            ("max.partition.fetch.bytes", fetch / 2),
        ] {
            if !plan.kafka.options.contains_key(name) {
                config.set(name, value.to_string());
            }
        }
        let consumer: BaseConsumer<Quiet> = config
            .create_with_context(Quiet(Visitor::new(&cluster)))
            .context("cannot make a consumer")?;
        // librdkafka asks for a token while it is polled; the first questions come before.
        if let Some(session) = cluster.session() {
            let token = session.token().map_err(anyhow::Error::msg)?;
            set_token(consumer.client(), &token).map_err(anyhow::Error::msg)?;
        }
        Ok(Self {
            consumer,
            topic: plan.kafka.topic.clone(),
        })
    }

    /// The topic's partitions, in order: all, or those of `only`.
    ///
    /// # Errors
    /// No answer, no such topic, or no such partition.
    pub fn partitions(&self, only: &[i32]) -> anyhow::Result<Vec<i32>> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), PATIENCE);
        let metadata = metadata.context("cannot ask for the topic's partitions")?;
        let topic = metadata.topics().iter().find(|t| t.name() == self.topic);
        let topic = topic.with_context(|| format!("no answer about topic {}", self.topic))?;
        if let Some(error) = topic.error() {
            let error = RDKafkaErrorCode::from(error);
            bail!("topic {}: {error}", self.topic);
        }
        let mut there: Vec<i32> = topic.partitions().iter().map(|p| p.id()).collect();
        there.sort_unstable();
        for wanted in only {
            ensure!(
                there.contains(wanted),
                "topic {} has no partition {wanted}; it has {} of them",
                self.topic,
                there.len()
            );
        }
        there.retain(|id| only.is_empty() || only.contains(id));
        Ok(there)
    }

    /// What a partition holds now.
    ///
    /// # Errors
    /// No answer.
    pub fn bounds(&self, partition: i32) -> anyhow::Result<Bounds> {
        let (low, high) = self
            .consumer
            .fetch_watermarks(&self.topic, partition, PATIENCE)
            .with_context(|| format!("cannot ask where partition {partition} starts and ends"))?;
        let offset = |offset: i64| u64::try_from(offset).unwrap_or(0);
        Ok(Bounds {
            low: offset(low),
            high: offset(high),
        })
    }

    /// The offset that a position means in a partition.
    ///
    /// # Errors
    /// No answer, or an offset that the partition does not have.
    pub fn resolve(
        &self,
        partition: i32,
        position: Position,
        Bounds { low, high }: Bounds,
    ) -> anyhow::Result<u64> {
        Ok(match position {
            Position::Earliest => low,
            Position::Latest => high,
            Position::Before(n) => high.saturating_sub(n).max(low),
            Position::Offset(offset) => {
                ensure!(
                    (low..=high).contains(&offset),
                    "partition {partition} has the offsets {low} to {high}, and {offset} is none of them"
                );
                offset
            }
            Position::Time(ms) => {
                let mut asked = TopicPartitionList::new();
                asked.add_partition_offset(&self.topic, partition, Offset::Offset(ms))?;
                let answered = self
                    .consumer
                    .offsets_for_times(asked, PATIENCE)
                    .with_context(|| format!("cannot look up a time in partition {partition}"))?;
                let found = answered.find_partition(&self.topic, partition);
                if let Some(found) = &found {
                    found.error()?;
                }
                match found.map(|found| found.offset()) {
                    Some(Offset::Offset(at)) => u64::try_from(at).unwrap_or(low).clamp(low, high),
                    _ => high,
                }
            }
        })
    }

    /// Hands the records of `[from, to)` over, in pieces of about 1 MiB, until all were or `each` has
    /// enough. `to` lies at or below the last stable offset. Brokers that are away are waited for.
    ///
    /// # Errors
    /// Records that are gone, a right that is missing, or what `each` says.
    pub fn read(
        &self,
        partition: i32,
        (from, to): (u64, u64),
        each: &mut dyn FnMut(Fetched) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<()> {
        if from >= to {
            return Ok(());
        }
        let mut start = TopicPartitionList::new();
        let offset = Offset::Offset(i64::try_from(from).unwrap_or(i64::MAX));
        start.add_partition_offset(&self.topic, partition, offset)?;
        self.consumer.assign(&start)?;
        let read = self.poll_to(partition, to, each);
        let unassigned = self.consumer.unassign();
        read?;
        Ok(unassigned?)
    }

    /// The same, a record after the other, at most `most` of them.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_some(
        &self,
        partition: i32,
        range: (u64, u64),
        most: u64,
        each: &mut dyn FnMut(&Fetched, usize) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut left = most;
        self.read(partition, range, &mut |fetched| {
            for at in 0..fetched.entries.len() {
                if left == 0 {
                    return Ok(ControlFlow::Break(()));
                }
                left -= 1;
                each(&fetched, at)?;
            }
            Ok(match left {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            })
        })
    }

    fn poll_to(
        &self,
        partition: i32,
        to: u64,
        each: &mut dyn FnMut(Fetched) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<()> {
        let mut filling = Fetched::default();
        let mut is_over = false;
        // Since when the partition was said to end before `to`.
        let mut ended_ms = None;
        while !is_over {
            let mut is_quiet = false;
            match self.consumer.poll(POLL) {
                None => {
                    is_quiet = true;
                    is_over = ended_ms.is_some_and(|since| {
                        clock::now().mono_ms.saturating_sub(since) >= END_BELIEVED_MS
                    });
                }
                Some(Ok(message)) => {
                    ended_ms = None;
                    let offset = u64::try_from(message.offset()).unwrap_or(u64::MAX);
                    if offset < to {
                        let last = filling.entries.last().map(|entry| &entry.identity);
                        let identity = identify(&message, last);
                        let time = message.timestamp().to_millis();
                        let time = time.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
                        filling.push(offset, time, message.payload(), identity);
                    }
                    is_over = offset.saturating_add(1) >= to;
                }
                // What is missing below the end are markers of transactions and what was compacted.
                Some(Err(KafkaError::PartitionEOF(_))) => ended_ms = Some(clock::now().mono_ms),
                Some(Err(error)) => self.judge(partition, &error)?,
            }
            let full = filling.held() >= HAND_OVER_BYTES;
            if (full || is_quiet || is_over) && !filling.entries.is_empty() {
                let next = Fetched::like(&filling);
                if each(std::mem::replace(&mut filling, next))?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn judge(&self, partition: i32, error: &KafkaError) -> anyhow::Result<()> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                bail!(
                    "partition {partition}: records were deleted by retention while they were read"
                )
            }
            Some(
                code @ (RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::SaslAuthenticationFailed),
            ) => bail!("topic {}: {code}", self.topic),
            // librdkafka passes the first over, and stands at the last.
            Some(
                code @ (RDKafkaErrorCode::BadMessage
                | RDKafkaErrorCode::NotImplemented
                | RDKafkaErrorCode::BadCompression),
            ) => {
                bail!("partition {partition}: a batch of records is damaged where it lies: {code}")
            }
            _ => {
                tracing::warn!(%error, "reading goes on when it can");
                Ok(())
            }
        }
    }
}
