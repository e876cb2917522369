//! The end of a partition, watched by a consumer that is connected already: so that the moment at
//! which something comes is seen, and not the time that a client takes to look.

use std::time::Duration;

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{CALL_TIMEOUT, Kafka};
use crate::clock;

/// How long the consumer is given to begin to wait at the broker.
const SETTLE: Duration = Duration::from_millis(500);

/// What comes next in a topic's first partition.
pub struct Tip {
    consumer: BaseConsumer,
    next: i64,
}

impl Tip {
    /// Begins to watch the topic.
    ///
    /// # Panics
    /// If the cluster does not answer.
    pub fn of(kafka: &Kafka, topic: &str) -> Self {
        let config = kafka
            .client()
            .set("group.id", "headwater-tests-tip")
            .clone();
        let consumer: BaseConsumer = config.create().expect("a consumer can be made");
        let watermarks = consumer.fetch_watermarks(topic, 0, CALL_TIMEOUT);
        let (_, next) = watermarks.expect("the cluster answers");
        let mut places = TopicPartitionList::new();
        let place = places.add_partition_offset(topic, 0, Offset::Offset(next));
        place.expect("an offset is one");
        consumer.assign(&places).expect("it can be read");
        let came = consumer.poll(SETTLE);
        assert!(came.is_none(), "it was to stand still: {came:?}");
        Self { consumer, next }
    }

    /// Waits for the next record, and returns its offset.
    ///
    /// # Panics
    /// If none comes within `timeout`.
    pub fn wait_for_next(&self, timeout: Duration) -> i64 {
        let start = clock::now();
        while start.elapsed() < timeout {
            if let Some(Ok(message)) = self.consumer.poll(Duration::from_secs(1)) {
                return message.offset();
            }
        }
        panic!("nothing comes behind {} within {timeout:?}", self.next);
    }
}

impl std::fmt::Debug for Tip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tip")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
