//! What librdkafka calls back: rebalances, errors, statistics, tokens. The callbacks run on the poll thread,
//! inside `poll`; they set where partitions start, announce them, and forward what they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headwater_msk::Cluster;
use headwater_msk::brokers::Known;
use headwater_msk::context::Voice;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use crate::clock;
use crate::consume::asking::{Asking, PATIENCE};
use crate::consume::ends::Heard;
use crate::consume::gate::Gate;
use crate::consume::lane::{Lane, Lanes};
use crate::consume::prefetch::Prefetch;
use crate::consume::raw::metadata;
use crate::consume::tenure::tenure;
use crate::consume::{Assigned, CHANNEL, CommittedOffset};
use crate::metrics::Metrics;

/// How often it is looked whether a worker has ended.
const LOOK: Duration = Duration::from_millis(5);

/// What callbacks and poll thread share. The callbacks run on the poll thread, inside `poll`.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) topic: String,
    pub(super) gate: Arc<Gate>,
    pub(super) assigned: mpsc::Sender<Assigned>,
    pub(super) prefetch: Arc<Prefetch>,
    /// How long the workers of partitions that go may take to write what is open, milliseconds: nobody is polled
    /// for meanwhile.
    pub(super) finish_ms: u64,
    pub(super) metrics: Arc<Metrics>,
    pub(super) heard: Mutex<Heard>,
    pub(super) lanes: Mutex<Lanes>,
    pub(super) failure: Mutex<Option<String>>,
    /// When the poll thread last looked up, on the monotonic clock, milliseconds.
    pub(super) polled_ms: Arc<AtomicU64>,
    /// Partitions in which the group stands behind the end, as of their assignment, and what that means. None of
    /// them is known yet to be unreadable.
    pub(super) beyond: Mutex<BTreeMap<i32, String>>,
    /// Whether the last rebalance said what is ours.
    pub(super) is_assigned: AtomicBool,
    /// Whether the membership is being ended: nothing of it comes back to this process.
    pub(super) ends: AtomicBool,
    pub(super) voice: Voice,
    pub(super) known: Known,
    pub(super) cluster: Arc<Cluster>,
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.voice.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.error(&error, reason);
        if self.cluster.is_outdated(&error, reason) {
            self.fail(format!("the cluster lets this client in no more: {reason}"));
        }
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn StdError>> {
        self.cluster.oauth_token()
    }

    fn stats(&self, statistics: Statistics) {
        let sources = statistics.brokers.values();
        if (self.known).are_forgotten(sources.map(|broker| broker.source.as_str())) {
            self.fail("librdkafka knows of no broker any more".to_owned());
        }
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.ends(heard.ends(&self.topic, &statistics));
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let cooperative = matches!(
            consumer.rebalance_protocol(),
            RebalanceProtocol::Cooperative
        );
        let done = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.metrics.joined(true);
            self.is_assigned.store(true, Ordering::Release);
            self.forget_pauses(consumer, partitions);
            self.assign(consumer, partitions)
                .and_then(|()| match cooperative {
                    true => consumer.incremental_assign(partitions),
                    false => consumer.assign(partitions),
                })
        } else {
            let lost = consumer.assignment_lost();
            if (cooperative || self.ends.load(Ordering::Acquire)) && !lost {
                self.finish(partitions);
            }
            self.revoke(partitions);
            let keeps = cooperative && !lost;
            self.is_assigned.fetch_and(keeps, Ordering::AcqRel);
            match cooperative {
                true => consumer.incremental_unassign(partitions),
                false => consumer.unassign(),
            }
        };
        if let Err(error) = done {
            self.fail(format!("a rebalance failed: {error}"));
        }
    }
}

impl Context {
    pub(super) fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fail(&self, reason: String) {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(reason);
    }

    /// librdkafka remembers through a rebalance that a partition was paused, and the new lane knows nothing of it.
    fn forget_pauses(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let mut list = TopicPartitionList::new();
        for element in partitions.elements() {
            list.add_partition(&self.topic, element.partition());
        }
        if let Err(error) = consumer.resume(&list) {
            tracing::debug!(%error, "resume failed");
        }
    }

    /// Sets where each partition starts, and announces it. A doubt about what the group holds fails the
    /// whole assignment: a partition must never start at a wrong offset. A partition without a leader
    /// does not: it starts where the group stands, or at 0, once it has one; where that offset is gone
    /// by then, reading it fails, and the next assignment knows where the topic begins.
    fn assign(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &mut TopicPartitionList,
    ) -> Result<(), KafkaError> {
        let mut asked = TopicPartitionList::new();
        for element in partitions.elements() {
            asked.add_partition(&self.topic, element.partition());
        }
        let answered = consumer.committed_offsets(asked, PATIENCE)?;
        let mut held = metadata::of(&answered);
        let mut asking = Asking::begin(|| clock::now().mono_ms, &self.polled_ms);
        for element in answered.elements() {
            element.error()?;
            let partition = element.partition();
            self.beyond().remove(&partition);
            let ends =
                asking.ask(|patience| consumer.fetch_watermarks(&self.topic, partition, patience));
            let (low, end) = match ends {
                Ok((low, end)) => (u64::try_from(low).unwrap_or(0), u64::try_from(end).ok()),
                Err(error) => {
                    tracing::warn!(
                        partition,
                        %error,
                        "it is not known where this partition starts and ends (has it no leader?); it is read when it has one"
                    );
                    (0, None)
                }
            };
            let committed = match element.offset() {
                Offset::Offset(offset) => {
                    u64::try_from(offset).ok().map(|offset| CommittedOffset {
                        offset,
                        metadata: held.remove(&partition).unwrap_or_default(),
                    })
                }
                _ => None,
            };
            if let (Some(committed), Some(end)) = (&committed, end)
                && committed.offset > end
            {
                self.note_beyond(partition, committed.offset, end);
            }
            let start = committed
                .as_ref()
                .map_or(low, |committed| committed.offset.max(low));
            partitions.set_partition_offset(
                &self.topic,
                partition,
                Offset::Offset(i64::try_from(start).unwrap_or(i64::MAX)),
            )?;
            self.announce(partition, committed, (low, end));
        }
        Ok(())
    }

    /// The group stands behind the topic's end. For a moment that may be so after a leader was lost;
    /// if it stays so, the topic is another one.
    fn note_beyond(&self, partition: i32, offset: u64, end: u64) {
        let beyond = format!(
            "the group stands at offset {offset}, and the topic ends at {end}. If this \
             goes on, the topic was made anew, or lost its end with a broker: give the group a new id and \
             its output a new place (output.url), or the new records would be taken for what is stored"
        );
        self.beyond().insert(partition, beyond);
    }

    /// Stops a partition of which nothing was read and in which the group stands behind the end; returns whether
    /// there is one.
    pub(super) fn stop_beyond(&self) -> bool {
        let mut beyond = self.beyond();
        while let Some((partition, reason)) = beyond.pop_first() {
            if self.lanes().stop(partition, reason) {
                return true;
            }
        }
        false
    }

    pub(super) fn beyond(&self) -> MutexGuard<'_, BTreeMap<i32, String>> {
        self.beyond.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(
        &self,
        partition: i32,
        committed: Option<CommittedOffset>,
        (low, end): (u64, Option<u64>),
    ) {
        let (sender, records) = mpsc::channel(CHANNEL);
        let (tenant, tenure) = tenure();
        let epoch = self.gate.assign(partition);
        let lane = Lane::new(sender, tenant, &self.prefetch);
        self.lanes().open(partition, lane);
        let assigned = Assigned {
            partition,
            epoch,
            committed,
            low,
            end,
            records,
            tenure,
        };
        // The channel holds more partitions than a member is ever given; where it does not, the
        // consumer is made anew rather than a partition left without a worker.
        if self.assigned.try_send(assigned).is_err() {
            self.fail("partitions come faster than workers start".to_owned());
        }
    }

    /// Lets the workers of partitions that are about to go write what is open, as far as that is soon done: the
    /// next owner need not read it again then. Not where all of them go and most come back at once (the eager
    /// protocol), unless the membership ends: that would make small objects of everything at each rebalance.
    fn finish(&self, partitions: &TopicPartitionList) {
        let elements = partitions.elements();
        let going: BTreeSet<i32> = elements.iter().map(|going| going.partition()).collect();
        let goes = |partition: i32| going.contains(&partition);
        self.lanes().finish(goes);
        let began_ms = clock::now().mono_ms;
        while !self.lanes().have_ended(goes) {
            if clock::now().mono_ms.saturating_sub(began_ms) >= self.finish_ms {
                tracing::warn!(
                    ?going,
                    "what was open in these partitions could not be written before they were taken away; it is read again"
                );
                return;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Takes partitions away: closes the gate, waits for a commit of theirs that is under way, then closes the
    /// channels, and the workers find them closed.
    pub(super) fn revoke(&self, partitions: &TopicPartitionList) {
        let elements = partitions.elements();
        let going = elements.iter().map(|going| going.partition());
        self.gate.revoke(going.clone());
        let (mut beyond, mut lanes) = (self.beyond(), self.lanes());
        going.for_each(|partition| {
            beyond.remove(&partition);
            lanes.close(partition);
        });
    }
}
