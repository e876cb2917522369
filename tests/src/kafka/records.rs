//! What lies in a topic and in a group, read without joining anything.

use super::{CALL_TIMEOUT, Kafka};
use crate::clock;
use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Message, error::KafkaError};
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

/// One record of a topic. For [`Kafka::produce`], offset and timestamp are left out of account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The partition; for producing, a negative one lets the key choose.
    pub partition: i32,
    /// The record's place in its partition.
    pub offset: i64,
    /// Milliseconds since 1970, as the producer or the broker stamped it.
    pub timestamp_ms: Option<i64>,
    /// The key, if there is one.
    pub key: Option<Vec<u8>>,
    /// The headers in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The value; empty for a tombstone.
    pub value: Vec<u8>,
}

impl Record {
    /// Returns the first header of that name, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// Returns the value as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.value).into_owned()
    }

    fn read(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.unwrap_or(b"").to_vec()))
                .collect()
        });
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            headers,
            value: message.payload().unwrap_or(b"").to_vec(),
        }
    }
}

/// What a group has committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The partition.
    pub partition: i32,
    /// The next offset to read; `None` if nothing was committed.
    pub offset: Option<i64>,
    /// The metadata beside the offset.
    pub metadata: String,
}

impl Kafka {
    /// Writes records with an idempotent producer and waits until all are acknowledged.
    pub fn produce(&self, topic: &str, records: impl IntoIterator<Item = Record>) {
        self.try_produce(topic, records)
            .unwrap_or_else(|error| panic!("cannot produce to {topic}: {error:#}"));
    }

    /// Reads every record of a topic, from the beginning to the high watermarks of this moment,
    /// ordered by partition and offset. Aborted transactions are left out.
    pub fn records(&self, topic: &str) -> Vec<Record> {
        once_led(|| self.try_records(topic))
            .unwrap_or_else(|error| panic!("cannot read topic {topic}: {error:#}"))
    }

    /// Returns how many offsets the topic's partitions span, all together.
    pub fn depth(&self, topic: &str) -> i64 {
        once_led(|| Self::watermarks(&self.consumer(None)?, topic))
            .unwrap_or_else(|error| panic!("cannot look at topic {topic}: {error:#}"))
            .values()
            .map(|(low, high)| high - low)
            .sum()
    }

    /// Returns what `group` has committed for each partition of `topic`.
    pub fn committed(&self, group: &str, topic: &str) -> Vec<Committed> {
        once_led(|| self.try_committed(group, topic))
            .unwrap_or_else(|error| panic!("cannot read the offsets of {group}: {error:#}"))
    }

    /// Sets where a group stands in a partition, as an operator's tool does: no member of it may be there.
    pub fn set_committed(&self, group: &str, topic: &str, partition: i32, offset: i64) {
        let set = || -> Result<()> {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
            let consumer = self.consumer(Some(group))?;
            Ok(consumer.commit(&list, CommitMode::Sync)?)
        };
        once_led(set).unwrap_or_else(|error| panic!("cannot set an offset of {group}: {error:#}"));
    }

    /// Writes records in a transaction, and aborts it: they are in the log, and nobody who reads
    /// what was committed sees them.
    pub fn produce_aborted(&self, topic: &str, records: impl IntoIterator<Item = Record>) {
        let written = || -> Result<()> {
            let producer: BaseProducer = self
                .client()
                .set("transactional.id", crate::outside::unique("aborting"))
                .create()
                .context("cannot make a producer")?;
            producer.init_transactions(CALL_TIMEOUT)?;
            producer.begin_transaction()?;
            Self::send_all(&producer, topic, records)?;
            Ok(producer.abort_transaction(CALL_TIMEOUT)?)
        };
        written().unwrap_or_else(|error| panic!("cannot abort in {topic}: {error:#}"));
    }

    fn try_produce(&self, topic: &str, records: impl IntoIterator<Item = Record>) -> Result<()> {
        let producer: BaseProducer = self
            .client()
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            // What the topic takes is the topic's affair.
            .set("message.max.bytes", "20000000")
            .create()
            .context("cannot make a producer")?;
        Self::send_all(&producer, topic, records)
    }

    /// Sends records and waits until all are acknowledged.
    fn send_all(
        producer: &BaseProducer,
        topic: &str,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<()> {
        for record in records {
            let mut headers = OwnedHeaders::new();
            for (key, value) in &record.headers {
                let value = Some(value);
                headers = headers.insert(Header { key, value });
            }
            let mut next = BaseRecord::to(topic)
                .payload(&record.value)
                .headers(headers);
            if record.partition >= 0 {
                next = next.partition(record.partition);
            }
            if let Some(key) = &record.key {
                next = next.key(key);
            }
            if let Some(timestamp_ms) = record.timestamp_ms {
                next = next.timestamp(timestamp_ms);
            }
            while let Err((error, same)) = producer.send(next) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                producer.poll(Duration::from_millis(20));
                next = same;
            }
            producer.poll(Duration::ZERO);
        }
        // As long as it takes, while some more are acknowledged.
        let mut left = producer.in_flight_count();
        loop {
            let flushed = producer.flush(CALL_TIMEOUT);
            let now_left = producer.in_flight_count();
            if flushed.is_ok() || now_left >= left {
                return Ok(flushed?);
            }
            left = now_left;
        }
    }

    fn try_records(&self, topic: &str) -> Result<Vec<Record>> {
        let consumer = self.consumer(None)?;
        let mut open = Self::watermarks(&consumer, topic)?;
        open.retain(|_, (low, high)| low < high);
        let mut assignment = TopicPartitionList::new();
        for (partition, (low, _)) in &open {
            assignment.add_partition_offset(topic, *partition, Offset::Offset(*low))?;
        }
        consumer.assign(&assignment)?;
        let mut records = Vec::new();
        while !open.is_empty() {
            match consumer.poll(CALL_TIMEOUT) {
                None => bail!("no answer for {CALL_TIMEOUT:?}, still open: {open:?}"),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(message)) => {
                    // What arrived after the watermarks were read is not part of the answer.
                    if let Some((_, high)) = open.get(&message.partition()) {
                        if message.offset() < *high {
                            records.push(Record::read(&message));
                        }
                        if message.offset() + 1 >= *high {
                            open.remove(&message.partition());
                        }
                    }
                }
            }
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    fn try_committed(&self, group: &str, topic: &str) -> Result<Vec<Committed>> {
        let consumer = self.consumer(Some(group))?;
        let mut wanted = TopicPartitionList::new();
        for partition in Self::watermarks(&consumer, topic)?.into_keys() {
            wanted.add_partition(topic, partition);
        }
        let offsets = consumer.committed_offsets(wanted, CALL_TIMEOUT)?;
        let committed = offsets.elements().into_iter().map(|element| Committed {
            partition: element.partition(),
            offset: element.offset().to_raw().filter(|offset| *offset >= 0),
            metadata: element.metadata().to_owned(),
        });
        Ok(committed.collect())
    }

    fn consumer(&self, group: Option<&str>) -> Result<BaseConsumer> {
        self.client()
            .set("group.id", group.unwrap_or("headwater-tests-reader"))
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .create()
            .context("cannot make a consumer")
    }

    fn watermarks(consumer: &BaseConsumer, topic: &str) -> Result<BTreeMap<i32, (i64, i64)>> {
        let metadata = consumer.fetch_metadata(Some(topic), CALL_TIMEOUT)?;
        let found = metadata.topics().first().context("no such topic")?;
        if let Some(error) = found.error() {
            return Err(KafkaError::MetadataFetch(error.into()).into());
        }
        found
            .partitions()
            .iter()
            .map(|partition| {
                let id = partition.id();
                // Asked for its watermarks all the same, librdkafka would wait in vain.
                if partition.leader() < 0 {
                    return Err(nobody_leads().into());
                }
                Ok((id, consumer.fetch_watermarks(topic, id, CALL_TIMEOUT)?))
            })
            .collect()
    }
}

/// The error of a partition that has no leader at this moment.
pub(super) fn nobody_leads() -> KafkaError {
    KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable)
}

/// Asks until there is an answer, where all that is missing is somebody to give it.
///
/// A broker that stands still for longer than its session, on a busy machine, leads nothing for a moment.
/// And one that has never had a group makes the topic of their offsets when it is first asked, and says until
/// then that it does not coordinate any.
pub(super) fn once_led<T>(mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let start = clock::now();
    loop {
        match ask() {
            Err(error) if is_leaderless(&error) && start.elapsed() < CALL_TIMEOUT => {
                sleep(Duration::from_millis(100));
            }
            answer => return answer,
        }
    }
}

fn is_leaderless(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<KafkaError>();
    matches!(
        error.and_then(KafkaError::rdkafka_error_code),
        Some(
            RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::ReplicaNotAvailable
                | RDKafkaErrorCode::FencedLeaderEpoch
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_leader_yet_is_asked_again_and_nothing_else_is() {
        let mut asked = 0;
        let led = once_led(|| {
            asked += 1;
            if asked < 3 {
                return Err(nobody_leads().into());
            }
            Ok(asked)
        });
        assert_eq!(led.unwrap(), 3);
        let mut asked = 0;
        let refused: Result<()> = once_led(|| {
            asked += 1;
            let denied = RDKafkaErrorCode::TopicAuthorizationFailed;
            Err(KafkaError::MetadataFetch(denied).into())
        });
        assert!(refused.is_err());
        assert_eq!(asked, 1);
    }
}
