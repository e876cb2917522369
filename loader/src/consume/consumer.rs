//! A member of the group: its polling thread, and its commits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use headwater_msk::Cluster;
use headwater_msk::brokers::Known;
use headwater_msk::context::Voice;
use headwater_msk::credentials::TokenUser;
use headwater_msk::credentials::session::LocalToken;
use headwater_msk::push::set_token;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::clock;
use crate::config::Plan;
use crate::config::file::Protocol;
use crate::consume::context::Context;
use crate::consume::gate::Gate;
use crate::consume::lane::Offer;
use crate::consume::options::client_config;
use crate::consume::prefetch::Prefetch;
use crate::consume::raw::{headers, metadata};
use crate::consume::{Assigned, Commit, CommitError};
use crate::crash;
use crate::fetched::Identity;
use crate::metrics::Metrics;
use crate::partition::intent::Committed;

/// Longest time in one poll: the bound on how late a pause or a stop is noticed.
const POLL: Duration = Duration::from_millis(50);
/// Most messages between two looks at a stop, a doubt, or a hold: under a backlog there is always one
/// more.
const POLLED_MAX: u32 = 50_000;
/// How long the poll thread waits for room before it pauses a partition: a pause throws away what
/// was fetched for it, so it is for workers that stand still, not for those that are merely slower.
const PAUSE_AFTER: Duration = Duration::from_millis(50);

/// After so long in the group without a word on what is ours, there is nothing for us: with KIP-848 nobody says so.
/// What others are to give up for us takes their heartbeat (5 s, unless the broker says otherwise) and
/// [`FINISH_MS_MAX`].
const NOTHING_AFTER_MS: u64 = 15_000;
/// How long the broker may take to say whether there is such a topic.
const PATIENCE_FOR_TOPIC: Duration = Duration::from_secs(1);

/// Longest time for what is open in partitions that go, milliseconds.
const FINISH_MS_MAX: u64 = 5_000;
/// How long the broker may take to say where a partition ends.
const PATIENCE_FOR_END: Duration = Duration::from_secs(5);

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

/// A member of the group, and its commits.
pub struct Member {
    consumer: Arc<BaseConsumer<Context>>,
    /// Where tokens come in (`iam`); the session holds it weakly.
    _token_user: Arc<Inlet>,
    gate: Arc<Gate>,
    topic: String,
    /// Whether the group's protocol has no word for an assignment of nothing.
    says_nothing: bool,
    failed: AtomicBool,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").finish_non_exhaustive()
    }
}

impl Commit for Member {
    fn commit(&self, partition: i32, epoch: u64, committed: &Committed) -> Result<(), CommitError> {
        let Some(_passage) = self.gate.pass(partition, epoch) else {
            return Err(CommitError::NotOurs);
        };
        if self.consumer.assignment_lost() {
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

    fn end(&self, partition: i32) -> Option<u64> {
        let asked = (self.consumer).fetch_watermarks(&self.topic, partition, PATIENCE_FOR_END);
        u64::try_from(asked.ok()?.1).ok()
    }
}

impl Member {
    /// Joins the group of `cluster`. Assignments come through `assigned`. `polled_ms`: when the poll thread last
    /// looked up, on the monotonic clock.
    ///
    /// # Errors
    /// A configuration that librdkafka refuses, or a file of a secret that cannot be used.
    pub fn join(
        plan: &Plan,
        cluster: &Arc<Cluster>,
        assigned: mpsc::Sender<Assigned>,
        (prefetch, metrics, polled_ms): (Arc<Prefetch>, Arc<Metrics>, Arc<AtomicU64>),
    ) -> Result<Self, ConsumerError> {
        let fatal =
            |error: KafkaError| ConsumerError::Fatal(format!("cannot make a consumer: {error}"));
        let gate = Arc::new(Gate::default());
        let context = Context {
            topic: plan.kafka.topic.clone(),
            gate: Arc::clone(&gate),
            assigned,
            prefetch,
            finish_ms: FINISH_MS_MAX.min(plan.session_timeout.as_millis() / 2),
            metrics,
            lanes: Mutex::default(),
            failure: Mutex::default(),
            polled_ms,
            beyond: Mutex::default(),
            heard: Mutex::default(),
            is_assigned: AtomicBool::new(false),
            ends: AtomicBool::new(false),
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
            says_nothing: plan.protocol == Protocol::Consumer,
            failed: AtomicBool::new(false),
        })
    }

    /// A worker cannot go on: the membership is given up and everything read again.
    pub fn give_up(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// Whether the group has told what is ours, be it nothing, and has not taken it back to say it anew.
    pub fn is_assigned(&self) -> bool {
        let context = self.consumer.context();
        context.is_assigned.load(Ordering::Acquire)
    }

    /// Every worker writes what is open, and ends.
    pub fn finish(&self) {
        self.consumer.context().lanes().finish(|_| true);
    }

    /// Polls until `stop`, or until the membership is no good any more. While `hold` is set nothing
    /// more is handed over, but the membership is kept alive, doubtful as it may be: what is open is being
    /// written.
    ///
    /// # Errors
    /// See [`ConsumerError`].
    pub fn poll(&self, stop: &AtomicBool, hold: &AtomicBool) -> Result<(), ConsumerError> {
        let polled_ms = &self.consumer.context().polled_ms;
        let mut holding = false;
        let mut member_ms = None;
        while !stop.load(Ordering::Acquire) {
            polled_ms.store(clock::now().mono_ms.max(1), Ordering::Release);
            crash::hang("poll");
            if hold.load(Ordering::Acquire) && !holding {
                holding = true;
                self.consumer.context().ends.store(true, Ordering::Release);
                self.pause_all();
            }
            self.look_for_group(&mut member_ms);
            let wait = if self.hand_over() { POLL } else { POLL / 10 };
            let mut next = self.consumer.poll(wait);
            let mut taken = 0;
            while let Some(polled) = next {
                taken += 1;
                match polled {
                    Ok(message) if !holding => self.sort_in(&message),
                    Ok(_) => {}
                    Err(error) => match self.judge(&error) {
                        Err(ConsumerError::Again(reason)) if holding => {
                            tracing::debug!(reason, "the membership ends soon");
                        }
                        judged => judged?,
                    },
                }
                next = match taken < POLLED_MAX {
                    true => self.consumer.poll(Duration::ZERO),
                    false => None,
                };
            }
            if let Some(reason) = self.doubt().filter(|_| !holding) {
                return Err(ConsumerError::Again(reason));
            }
        }
        Ok(())
    }

    /// Notes that the group has nothing for us, where it does not say so by itself (KIP-848): a topic that is there
    /// is others'. `member_ms`: since when we are seen to be in it, monotonic.
    fn look_for_group(&self, member_ms: &mut Option<u64>) {
        let metrics = &self.consumer.context().metrics;
        if !self.says_nothing || metrics.is_joined() {
            return;
        }
        let now_ms = clock::now().mono_ms;
        match metadata::is_member(self.consumer.client()) {
            false => *member_ms = None,
            true => {
                let since_ms = *member_ms.get_or_insert(now_ms);
                if now_ms.saturating_sub(since_ms) >= NOTHING_AFTER_MS {
                    *member_ms = None;
                    if self.is_topic_there() {
                        metrics.joined(true);
                    }
                }
            }
        }
    }

    fn is_topic_there(&self) -> bool {
        let asked = (self.consumer).fetch_metadata(Some(&self.topic), PATIENCE_FOR_TOPIC);
        asked.is_ok_and(|told| {
            let mut topics = told.topics().iter();
            topics.any(|topic| topic.error().is_none() && !topic.partitions().is_empty())
        })
    }

    /// Why the membership is no good any more; none where it is.
    fn doubt(&self) -> Option<String> {
        let context = self.consumer.context();
        let failure = context.failure.lock();
        if let Some(reason) = failure.unwrap_or_else(PoisonError::into_inner).take() {
            return Some(reason);
        }
        let failed = self.failed.load(Ordering::Acquire);
        failed.then(|| "a partition has to be read again".to_owned())
    }

    /// Closes the gate before the consumer goes: whatever a worker still does, it commits nothing.
    pub fn close_gate(&self) {
        self.gate.revoke_all();
        self.consumer.context().lanes().close_all();
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
                // librdkafka does not say which partition it is, and reads that one no more. Where none that is
                // not read yet stands behind its end, it is one of those that retention overtook.
                match self.consumer.context().stop_beyond() {
                    true => Ok(()),
                    false => Err(ConsumerError::Again(
                        "an offset that was to be read is gone from the topic".to_owned(),
                    )),
                }
            }
            (_, Some(RDKafkaErrorCode::PollExceeded)) => Err(ConsumerError::Again(
                "the poll thread was held up for longer than max.poll.interval.ms".to_owned(),
            )),
            // librdkafka would pass the batch over, and the names would say that its records were stored.
            (_, Some(RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::NotImplemented)) => {
                Err(ConsumerError::Again(
                    "a batch of records came with another checksum than it was written with (check.crcs), or in a \
                     format that is not known: it is fetched again, and nothing behind it is stored before it comes \
                     whole. If this goes on, it is damaged where it lies: move the group's offset behind it"
                        .to_owned(),
                ))
            }
            (_, Some(RDKafkaErrorCode::BadCompression)) => {
                self.consumer.context().voice.error(
                    error,
                    "a batch of records cannot be decompressed (it is damaged, or holds more than 100 MB): its \
                     partition stands at it, and durable_lag_records says which; the batch is fetched again and again until \
                     retention has passed it, or somebody moves the group's offset behind it",
                );
                Ok(())
            }
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
        let lane = lanes.get_mut(message.partition());
        let Some(lane) = lane.filter(|lane| lane.live().is_some()) else {
            return;
        };
        let identity = identify(message, lane.last());
        let time_ms = message
            .timestamp()
            .to_millis()
            .and_then(|ms| u64::try_from(ms).ok())
            .unwrap_or(0);
        let gathered = lane.push(offset, time_ms, message.payload(), identity);
        if gathered < context.prefetch.hand_over_bytes(partitions) {
            return;
        }
        let (partition, was_paused) = (message.partition(), lane.paused);
        let mut offer = lanes.offer(partition, &context.prefetch);
        drop(lanes);
        if offer == Offer::NoRoom && !was_paused {
            context.prefetch.wait(PAUSE_AFTER);
            let mut lanes = context.lanes();
            offer = lanes.offer(partition, &context.prefetch);
            if let Some(lane) = lanes.get_mut(partition) {
                lane.paused = offer == Offer::NoRoom;
            }
        }
        match offer {
            Offer::Taken => {}
            Offer::NoRoom if was_paused => {}
            Offer::NoRoom | Offer::Orphaned => self.set_paused(partition, true),
        }
    }

    /// Hands over what has gathered. `true`: nothing waits for room.
    fn hand_over(&self) -> bool {
        let context = self.consumer.context();
        let offers = context.lanes().offer_all(&context.prefetch);
        for partition in offers.resume {
            self.set_paused(partition, false);
        }
        for partition in offers.orphaned {
            self.set_paused(partition, true);
        }
        !offers.waiting
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

/// Reads a message's headers; the stream's text is shared with the record before, where it is the same.
pub(crate) fn identify(message: &BorrowedMessage<'_>, last: Option<&Identity>) -> Identity {
    match headers::of(message) {
        Some(all) => Identity::read(all, last),
        None => Identity::Foreign,
    }
}

#[cfg(test)]
mod tests;
