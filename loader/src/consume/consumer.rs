//! The consumer: its configuration, its callbacks, its polling thread, its commits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headwater_msk::context::Voice;
use headwater_record::headers;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::config::Plan;
use crate::consume::gate::Gate;
use crate::consume::{
    Assigned, CHANNEL, Commit, CommitError, CommittedOffset, FETCHED_BYTES, FETCHED_RECORDS,
};
use crate::fetched::{Fetched, Identity};
use crate::partition::intent::Committed;

/// How long the broker may take to answer a question in a callback.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest time in one poll: the bound on how late a pause or a stop is noticed.
const POLL: Duration = Duration::from_millis(50);

/// The consumer cannot go on.
#[derive(Debug, Error)]
pub enum ConsumerError {
    /// It has to be made anew: it left the group, or nobody knows what it holds.
    #[error("{0}")]
    Again(String),
    /// Nothing will help but a person.
    #[error("{0}")]
    Fatal(String),
}

/// One partition's way to its worker.
#[derive(Debug)]
struct Lane {
    records: mpsc::Sender<Fetched>,
    filling: Fetched,
    /// Full channel: the partition is paused until this could be handed over.
    held: Option<Fetched>,
}

/// What callbacks and poll thread share. The callbacks run on the poll thread, inside `poll`.
#[derive(Debug)]
pub struct Context {
    topic: String,
    gate: Arc<Gate>,
    assigned: mpsc::Sender<Assigned>,
    lanes: Mutex<BTreeMap<i32, Lane>>,
    failure: Mutex<Option<String>>,
    voice: Voice,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.voice.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.error(&error, reason);
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
            self.assign(consumer, partitions)
                .and_then(|()| match cooperative {
                    true => consumer.incremental_assign(partitions),
                    false => consumer.assign(partitions),
                })
        } else {
            self.revoke(partitions);
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
    fn lanes(&self) -> std::sync::MutexGuard<'_, BTreeMap<i32, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, reason: String) {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(reason);
    }

    /// Sets where each partition starts, and announces it. Any doubt fails the whole assignment: a
    /// partition must never start at a wrong offset.
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
        for element in answered.elements() {
            element.error()?;
            let partition = element.partition();
            let (low, _) = consumer.fetch_watermarks(&self.topic, partition, PATIENCE)?;
            let low = u64::try_from(low).unwrap_or(0);
            let committed = match element.offset() {
                Offset::Offset(offset) => {
                    u64::try_from(offset).ok().map(|offset| CommittedOffset {
                        offset,
                        metadata: element.metadata().to_owned(),
                    })
                }
                _ => None,
            };
            let start = committed
                .as_ref()
                .map_or(low, |committed| committed.offset.max(low));
            partitions.set_partition_offset(
                &self.topic,
                partition,
                Offset::Offset(i64::try_from(start).unwrap_or(i64::MAX)),
            )?;
            self.announce(partition, committed, low);
        }
        Ok(())
    }

    fn announce(&self, partition: i32, committed: Option<CommittedOffset>, low: u64) {
        let (sender, records) = mpsc::channel(CHANNEL);
        let epoch = self.gate.enter().assign(partition);
        let lane = Lane {
            records: sender,
            filling: Fetched::default(),
            held: None,
        };
        self.lanes().insert(partition, lane);
        let assigned = Assigned {
            partition,
            epoch,
            committed,
            low,
            records,
        };
        // The channel holds more partitions than a member is ever given; where it does not, the
        // consumer is made anew rather than a partition left without a worker.
        if self.assigned.try_send(assigned).is_err() {
            self.fail("partitions come faster than workers start".to_owned());
        }
    }

    /// Takes partitions away: waits for a commit that is under way, then closes the gate and the
    /// channels, and the workers find them closed.
    fn revoke(&self, partitions: &TopicPartitionList) {
        let mut epochs = self.gate.enter();
        let mut lanes = self.lanes();
        for element in partitions.elements() {
            epochs.revoke(element.partition());
            lanes.remove(&element.partition());
        }
    }
}

/// A member of the group, and its commits.
pub struct Member {
    consumer: BaseConsumer<Context>,
    gate: Arc<Gate>,
    topic: String,
    failed: AtomicBool,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").finish_non_exhaustive()
    }
}

impl Commit for Member {
    fn commit(&self, partition: i32, epoch: u64, committed: &Committed) -> Result<(), CommitError> {
        let gate = self.gate.enter();
        if !gate.admits(partition, epoch) || self.consumer.assignment_lost() {
            return Err(CommitError::NotOurs);
        }
        let refused = |error: KafkaError| {
            // Refused or unanswered: only a new membership makes sure that no late arrival counts.
            self.failed.store(true, Ordering::Release);
            CommitError::Refused {
                partition,
                offset: committed.offset,
                reason: error.to_string(),
            }
        };
        let offset = i64::try_from(committed.offset).unwrap_or(i64::MAX);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))
            .map_err(refused)?;
        if let Some(mut element) = list.find_partition(&self.topic, partition) {
            element.set_metadata(committed.metadata());
        }
        self.consumer
            .commit(&list, CommitMode::Sync)
            .map_err(refused)
    }
}

impl Member {
    /// Joins the group. Assignments come through `assigned`.
    ///
    /// # Errors
    /// A configuration that librdkafka refuses.
    pub fn join(plan: &Plan, assigned: mpsc::Sender<Assigned>) -> Result<Self, ConsumerError> {
        let fatal =
            |error: KafkaError| ConsumerError::Fatal(format!("cannot make a consumer: {error}"));
        let mut config = plan.kafka.client_config("headwater-loader");
        let defaults = [
            ("group.id", plan.group.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("isolation.level", "read_committed"),
        ];
        for (name, value) in defaults {
            config.set(name, value);
        }
        let modest = [
            (
                "session.timeout.ms",
                plan.session_timeout.as_millis().to_string(),
            ),
            (
                "heartbeat.interval.ms",
                (plan.session_timeout.as_millis() / 4).max(1).to_string(),
            ),
            ("partition.assignment.strategy", "range".to_owned()),
            ("queued.max.messages.kbytes", "16384".to_owned()),
            ("fetch.wait.max.ms", "200".to_owned()),
        ];
        for (name, value) in modest {
            if !plan.kafka.options.contains_key(name) {
                config.set(name, value);
            }
        }
        if let Some(instance) = &plan.instance {
            config.set("group.instance.id", instance);
        }
        let gate = Arc::new(Gate::default());
        let context = Context {
            topic: plan.kafka.topic.clone(),
            gate: Arc::clone(&gate),
            assigned,
            lanes: Mutex::default(),
            failure: Mutex::default(),
            voice: Voice::default(),
        };
        let consumer: BaseConsumer<Context> = config.create_with_context(context).map_err(fatal)?;
        consumer.subscribe(&[&plan.kafka.topic]).map_err(fatal)?;
        Ok(Self {
            consumer,
            gate,
            topic: plan.kafka.topic.clone(),
            failed: AtomicBool::new(false),
        })
    }

    /// A worker cannot go on: the membership is given up and everything read again.
    pub fn give_up(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// Polls until `stop`, or until the membership is no good any more. While `hold` is set nothing
    /// more is handed over, but the membership is kept alive.
    ///
    /// # Errors
    /// See [`ConsumerError`].
    pub fn poll(&self, stop: &AtomicBool, hold: &AtomicBool) -> Result<(), ConsumerError> {
        let mut holding = false;
        while !stop.load(Ordering::Acquire) {
            if hold.load(Ordering::Acquire) && !holding {
                holding = true;
                self.pause_all();
            }
            let wait = if self.hand_over() { POLL } else { POLL / 10 };
            let mut next = self.consumer.poll(wait);
            while let Some(polled) = next {
                match polled {
                    Ok(message) if !holding => self.sort_in(&message),
                    Ok(_) => {}
                    Err(error) => self.judge(&error)?,
                }
                next = self.consumer.poll(Duration::ZERO);
            }
            let failure = self
                .consumer
                .context()
                .failure
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(reason) = failure {
                return Err(ConsumerError::Again(reason));
            }
            if self.failed.load(Ordering::Acquire) {
                return Err(ConsumerError::Again(
                    "a partition has to be read again".to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// Closes the gate before the consumer goes: whatever a worker still does, it commits nothing.
    pub fn close_gate(&self) {
        self.gate.enter().revoke_all();
        self.consumer.context().lanes().clear();
    }

    fn judge(&self, error: &KafkaError) -> Result<(), ConsumerError> {
        let code = error.rdkafka_error_code();
        match (error, code) {
            (KafkaError::MessageConsumptionFatal(_), _) => Err(ConsumerError::Fatal(format!(
                "the consumer was shut out ({error}); is another loader running with the same group.instance?"
            ))),
            (_, Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)) => {
                Err(ConsumerError::Again(
                    "an offset that was to be read is gone from the topic".to_owned(),
                ))
            }
            (_, Some(RDKafkaErrorCode::PollExceeded)) => Err(ConsumerError::Again(
                "the poll thread was held up for longer than max.poll.interval.ms".to_owned(),
            )),
            _ => {
                // Brokers that are down, a topic that is not there yet: librdkafka goes on trying.
                self.consumer
                    .context()
                    .voice
                    .error(error, "consuming goes on when it can");
                Ok(())
            }
        }
    }

    fn sort_in(&self, message: &BorrowedMessage<'_>) {
        let Ok(offset) = u64::try_from(message.offset()) else {
            return;
        };
        let mut lanes = self.consumer.context().lanes();
        let Some(lane) = lanes.get_mut(&message.partition()) else {
            return;
        };
        let last = lane.filling.entries.last().map(|entry| &entry.identity);
        let identity = identify(message, last);
        lane.filling.push(offset, message.payload(), identity);
        let full = lane.filling.entries.len() >= FETCHED_RECORDS
            || lane.filling.bytes.len() >= FETCHED_BYTES;
        if full && lane.held.is_none() && !lane.offer() {
            self.set_paused(message.partition(), true);
        }
    }

    /// Hands over what has gathered. `true`: nothing waits for room.
    fn hand_over(&self) -> bool {
        let mut all = true;
        let mut lanes = self.consumer.context().lanes();
        for (partition, lane) in lanes.iter_mut() {
            let was_paused = lane.held.is_some();
            let free = lane.offer();
            match (was_paused, free) {
                (true, true) => self.set_paused(*partition, false),
                (false, false) => self.set_paused(*partition, true),
                _ => {}
            }
            all &= free;
        }
        all
    }

    fn set_paused(&self, partition: i32, paused: bool) {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        let done = match paused {
            true => self.consumer.pause(&list),
            false => self.consumer.resume(&list),
        };
        if let Err(error) = done {
            // The partition is no longer ours; its lane goes with the rebalance.
            tracing::debug!(partition, paused, %error, "pause or resume failed");
        }
    }

    fn pause_all(&self) {
        let paused = self
            .consumer
            .assignment()
            .and_then(|all| self.consumer.pause(&all));
        if let Err(error) = paused {
            tracing::debug!(%error, "pause failed");
        }
    }
}

impl Lane {
    /// Tries to hand over what is held and what has gathered. `false`: the channel is full.
    fn offer(&mut self) -> bool {
        loop {
            let next = match self.held.take() {
                Some(held) => held,
                None if self.filling.entries.is_empty() => return true,
                None => std::mem::take(&mut self.filling),
            };
            match self.records.try_send(next) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(next)) => {
                    self.held = Some(next);
                    return false;
                }
                // The worker is gone; so will be this lane.
                Err(mpsc::error::TrySendError::Closed(_)) => return true,
            }
        }
    }
}

/// Reads a message's headers; the stream's text is shared with the record before, where it is the same.
fn identify(message: &BorrowedMessage<'_>, last: Option<&Identity>) -> Identity {
    let Some(all) = message.headers() else {
        return Identity::Foreign;
    };
    match headers::decode(all.iter().map(|header| (header.key, header.value))) {
        Ok(None) => Identity::Foreign,
        Err(error) => Identity::Refused(error),
        Ok(Some(tag)) => {
            let stream = match last {
                Some(Identity::Tagged { stream, .. }) if **stream == *tag.stream => {
                    Arc::clone(stream)
                }
                _ => tag.stream.into(),
            };
            Identity::Tagged {
                stream,
                generation: tag.generation,
                span: tag.span,
                kind: tag.kind,
            }
        }
    }
}
