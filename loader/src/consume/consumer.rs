//! The consumer: its configuration, its callbacks, its polling thread, its commits.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use headwater_msk::Cluster;
use headwater_msk::brokers::Known;
use headwater_msk::context::Voice;
use headwater_msk::credentials::TokenUser;
use headwater_msk::credentials::session::LocalToken;
use headwater_msk::push::set_token;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::clock;
use crate::config::Plan;
use crate::config::file::Protocol;
use crate::consume::gate::Gate;
use crate::consume::headers;
use crate::consume::prefetch::Prefetch;
use crate::consume::{Assigned, CHANNEL, Commit, CommitError, CommittedOffset, HandOver};
use crate::fetched::{Fetched, Identity};
use crate::metrics::{Ends, Metrics};
use crate::partition::intent::Committed;

/// How long the broker may take to answer a question in a callback.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest time in one poll: the bound on how late a pause or a stop is noticed.
const POLL: Duration = Duration::from_millis(50);
/// Most messages between two looks at a stop, a doubt, or a hold: under a backlog there is always one
/// more.
const POLLED_MAX: u32 = 50_000;
/// How long the brokers may take to say where a partition starts, once another had no leader to say so.
const PATIENCE_WITHOUT_LEADER: Duration = Duration::from_secs(1);
/// How long the poll thread waits for room before it pauses a partition: a pause throws away what
/// was fetched for it, so it is for workers that stand still, not for those that are merely slower.
const PAUSE_AFTER: Duration = Duration::from_millis(50);

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
    records: mpsc::Sender<HandOver>,
    filling: Fetched,
    /// Bytes that its worker has not taken in yet.
    outstanding: Arc<AtomicUsize>,
    /// No room for it: it is paused until there is.
    paused: bool,
}

/// What callbacks and poll thread share. The callbacks run on the poll thread, inside `poll`.
#[derive(Debug)]
pub struct Context {
    topic: String,
    gate: Arc<Gate>,
    assigned: mpsc::Sender<Assigned>,
    prefetch: Arc<Prefetch>,
    metrics: Arc<Metrics>,
    lanes: Mutex<BTreeMap<i32, Lane>>,
    failure: Mutex<Option<String>>,
    /// A partition in which the group stands behind the end, as of the last assignment.
    beyond: Mutex<Option<String>>,
    voice: Voice,
    known: Known,
    cluster: Arc<Cluster>,
}

/// Where the credentials' thread reaches the consumer.
struct Inlet(Weak<BaseConsumer<Context>>);

impl TokenUser for Inlet {
    fn take_token(&self, token: &LocalToken) {
        let Some(consumer) = self.0.upgrade() else {
            return;
        };
        if let Err(reason) = set_token(consumer.client(), token) {
            tracing::warn!(reason, "librdkafka does not take a new token");
        }
    }

    fn principal_changed(&self) {
        if let Some(consumer) = self.0.upgrade() {
            let reason = "the credentials are of another principal".to_owned();
            consumer.context().fail(reason);
        }
    }
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
        let offset = |offset: i64| u64::try_from(offset).ok();
        let topic = statistics.topics.get(&self.topic);
        let partitions = topic.into_iter().flat_map(|topic| &topic.partitions);
        let ends = partitions.filter_map(|(id, partition)| {
            let ends = Ends {
                end: offset(partition.ls_offset)?,
                reached: offset(partition.eof_offset),
            };
            Some((*id, ends))
        });
        self.metrics.ends(ends.collect());
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
        let mut patience = PATIENCE;
        for element in answered.elements() {
            element.error()?;
            let partition = element.partition();
            let ends = consumer.fetch_watermarks(&self.topic, partition, patience);
            let (low, end) = match ends {
                Ok((low, end)) => (u64::try_from(low).unwrap_or(0), u64::try_from(end).ok()),
                Err(error) => {
                    tracing::warn!(
                        partition,
                        %error,
                        "it is not known where this partition starts and ends (has it no leader?); it is read when it has one"
                    );
                    // The callback holds up the others.
                    patience = PATIENCE_WITHOUT_LEADER;
                    (0, None)
                }
            };
            let committed = match element.offset() {
                Offset::Offset(offset) => {
                    u64::try_from(offset).ok().map(|offset| CommittedOffset {
                        offset,
                        metadata: element.metadata().to_owned(),
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
            "partition {partition}: the group stands at offset {offset}, and the topic ends at {end}. If this \
             goes on, the topic was made anew, or lost its end with a broker: give the group a new id and \
             its output a new place (output.url), or the new records would be taken for what is stored"
        );
        *self.beyond.lock().unwrap_or_else(PoisonError::into_inner) = Some(beyond);
    }

    fn announce(
        &self,
        partition: i32,
        committed: Option<CommittedOffset>,
        (low, end): (u64, Option<u64>),
    ) {
        let (sender, records) = mpsc::channel(CHANNEL);
        let epoch = self.gate.enter().assign(partition);
        let lane = Lane {
            records: sender,
            filling: Fetched::default(),
            outstanding: Arc::default(),
            paused: false,
        };
        self.lanes().insert(partition, lane);
        let assigned = Assigned {
            partition,
            epoch,
            committed,
            low,
            end,
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
    consumer: Arc<BaseConsumer<Context>>,
    /// Where tokens come in (`iam`); the session holds it weakly.
    _token_user: Arc<Inlet>,
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
    /// Joins the group of `cluster`. Assignments come through `assigned`.
    ///
    /// # Errors
    /// A configuration that librdkafka refuses, or a file of a secret that cannot be used.
    pub fn join(
        plan: &Plan,
        cluster: &Arc<Cluster>,
        assigned: mpsc::Sender<Assigned>,
        (prefetch, metrics): (Arc<Prefetch>, Arc<Metrics>),
    ) -> Result<Self, ConsumerError> {
        let fatal =
            |error: KafkaError| ConsumerError::Fatal(format!("cannot make a consumer: {error}"));
        let gate = Arc::new(Gate::default());
        let context = Context {
            topic: plan.kafka.topic.clone(),
            gate: Arc::clone(&gate),
            assigned,
            prefetch,
            metrics,
            lanes: Mutex::default(),
            failure: Mutex::default(),
            beyond: Mutex::default(),
            voice: Voice::default(),
            known: Known::default(),
            cluster: Arc::clone(cluster),
        };
        let consumer: BaseConsumer<Context> = client_config(plan, cluster)?
            .create_with_context(context)
            .map_err(fatal)?;
        consumer.subscribe(&[&plan.kafka.topic]).map_err(fatal)?;
        let consumer = Arc::new(consumer);
        let inlet = Arc::new(Inlet(Arc::downgrade(&consumer)));
        if let Some(session) = cluster.session() {
            session.subscribe(&inlet);
        }
        Ok(Self {
            consumer,
            _token_user: inlet,
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
    /// more is handed over, but the membership is kept alive. `polled_ms`: when it last looked up, on the
    /// monotonic clock.
    ///
    /// # Errors
    /// See [`ConsumerError`].
    pub fn poll(
        &self,
        stop: &AtomicBool,
        hold: &AtomicBool,
        polled_ms: &AtomicU64,
    ) -> Result<(), ConsumerError> {
        let mut holding = false;
        while !stop.load(Ordering::Acquire) {
            polled_ms.store(clock::now().mono_ms.max(1), Ordering::Release);
            if hold.load(Ordering::Acquire) && !holding {
                holding = true;
                self.pause_all();
            }
            let wait = if self.hand_over() { POLL } else { POLL / 10 };
            let mut next = self.consumer.poll(wait);
            let mut taken = 0;
            while let Some(polled) = next {
                taken += 1;
                match polled {
                    Ok(message) if !holding => self.sort_in(&message),
                    Ok(_) => {}
                    Err(error) => self.judge(&error)?,
                }
                next = match taken < POLLED_MAX {
                    true => self.consumer.poll(Duration::ZERO),
                    false => None,
                };
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
            // With KIP-848 a name is free only when its session is over.
            (
                KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::UnreleasedInstanceId),
                _,
            ) => Err(ConsumerError::Again(
                "group.instance is still held by a member that did not leave; the broker gives it \
                 free when that one's session is over (group.consumer.session.timeout.ms). If this \
                 goes on, another loader runs under the same name"
                    .to_owned(),
            )),
            (KafkaError::MessageConsumptionFatal(_), _) => Err(ConsumerError::Fatal(format!(
                "the consumer was shut out ({error}); is another loader running with the same group.instance?"
            ))),
            (_, Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)) => {
                let beyond = &self.consumer.context().beyond;
                let beyond = beyond.lock().unwrap_or_else(PoisonError::into_inner).take();
                Err(ConsumerError::Again(beyond.unwrap_or_else(|| {
                    "an offset that was to be read is gone from the topic".to_owned()
                })))
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
        let context = self.consumer.context();
        let mut lanes = context.lanes();
        let partitions = lanes.len();
        let Some(lane) = lanes.get_mut(&message.partition()) else {
            return;
        };
        let last = lane.filling.entries.last().map(|entry| &entry.identity);
        let identity = identify(message, last);
        let time_ms = message
            .timestamp()
            .to_millis()
            .and_then(|ms| u64::try_from(ms).ok())
            .unwrap_or(0);
        lane.filling
            .push(offset, time_ms, message.payload(), identity);
        let full = lane.filling.held() >= context.prefetch.hand_over_bytes(partitions);
        if !full || lane.offer(&context.prefetch, partitions) || lane.paused {
            return;
        }
        drop(lanes);
        context.prefetch.wait(PAUSE_AFTER);
        let mut lanes = context.lanes();
        if let Some(lane) = lanes.get_mut(&message.partition())
            && !lane.offer(&context.prefetch, partitions)
        {
            lane.paused = true;
            self.set_paused(message.partition(), true);
        }
    }

    /// Hands over what has gathered. `true`: nothing waits for room.
    fn hand_over(&self) -> bool {
        let context = self.consumer.context();
        let mut lanes = context.lanes();
        let partitions = lanes.len();
        let mut all = true;
        for (partition, lane) in lanes.iter_mut() {
            let handed = lane.offer(&context.prefetch, partitions);
            if handed && lane.paused {
                lane.paused = false;
                self.set_paused(*partition, false);
            }
            all &= handed;
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
    /// Tries to hand over what has gathered. `false`: there is no room for it now.
    fn offer(&mut self, prefetch: &Arc<Prefetch>, partitions: usize) -> bool {
        if self.filling.entries.is_empty() {
            return true;
        }
        let Ok(slot) = self.records.try_reserve() else {
            // Full; or the worker is gone, and so will be this lane.
            return self.records.is_closed();
        };
        let bytes = self.filling.held();
        let Some(permit) = prefetch.admit(&self.outstanding, partitions, bytes) else {
            return false;
        };
        let next = Fetched::like(&self.filling);
        let fetched = std::mem::replace(&mut self.filling, next);
        slot.send(HandOver { fetched, permit });
        true
    }
}

/// librdkafka's configuration for a plan. What a person may change in `[kafka.options]` stays.
fn client_config(plan: &Plan, cluster: &Cluster) -> Result<ClientConfig, ConsumerError> {
    let mut config = cluster
        .client_config("headwater-loader")
        .map_err(|error| ConsumerError::Again(error.to_string()))?;
    let fixed = [
        ("group.id", plan.group.as_str()),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("isolation.level", "read_committed"),
    ];
    for (name, value) in fixed {
        config.set(name, value);
    }
    let fetch = plan.memory.fetch;
    let mut modest = vec![
        ("queued.max.messages.kbytes", fetch / 1024),
        // A response is decompressed whole: it must not be many times the queue's bound.
        ("fetch.max.bytes", fetch / 2),
        ("max.partition.fetch.bytes", (fetch / 2).min(1024 * 1024)),
        ("fetch.wait.max.ms", 200),
        // Where partitions end, for the lag; a few milliseconds of work each time.
        ("statistics.interval.ms", 2000),
    ];
    match plan.protocol {
        Protocol::Classic => {
            let session = plan.session_timeout.as_millis();
            modest.push(("session.timeout.ms", session));
            modest.push(("heartbeat.interval.ms", (session / 4).max(1)));
            // librdkafka wants it no shorter than the session; 5 min is its default.
            modest.push(("max.poll.interval.ms", session.max(300_000)));
            if !plan
                .kafka
                .options
                .contains_key("partition.assignment.strategy")
            {
                config.set("partition.assignment.strategy", "range");
            }
        }
        // Session and heartbeats are the broker's (group.consumer.session.timeout.ms).
        Protocol::Consumer => {
            config.set("group.protocol", "consumer");
        }
    }
    for (name, value) in modest {
        if !plan.kafka.options.contains_key(name) {
            config.set(name, value.to_string());
        }
    }
    if let Some(instance) = &plan.instance {
        config.set("group.instance.id", instance);
    }
    Ok(config)
}

/// Reads a message's headers; the stream's text is shared with the record before, where it is the same.
pub(crate) fn identify(message: &BorrowedMessage<'_>, last: Option<&Identity>) -> Identity {
    match headers::of(message) {
        Some(all) => Identity::read(all, last),
        None => Identity::Foreign,
    }
}

#[cfg(test)]
mod tests;
