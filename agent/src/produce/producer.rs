//! librdkafka's client: hands batches over record by record, and hears of each batch once.
//!
//! ```text
//!   delivery's thread                     librdkafka            reports thread
//!   send(id, batch) ─► records, each ───► queue ─► broker ─┐    blocks in poll(); per record:
//!        ▲              with the batch's Tally             └──► Tally - 1; at 0: Report ─┐
//!        └──────────────── news (Notify), take_reports() ◄─── list ◄──────────────────────┘
//! ```
//!
//! No thread can wait for the other: a report is put into a list, which never blocks and holds at
//! most one entry for each batch in flight (delivery bounds those); and where librdkafka's queue is
//! full, the rest of a batch waits here and is handed over a moment later ([`Producer::is_waiting`]).

mod context;
mod hand_over;
mod reports;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use headwater_msk::Cluster;
use headwater_msk::security::secret_file::SecretError;
use headwater_record::DeviceId;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _};
use thiserror::Error;
use tokio::sync::Notify;

use self::context::{Context, Inlet};
use self::hand_over::{Waiting, hand_over};
pub use self::reports::Report;
use self::reports::{Reports, Tally};
use super::key::Key;
use super::outcome::outcome;
use crate::backdate::Backdate;
use crate::batch::Batch;
use crate::clock;
use crate::spool::BatchId;
use crate::spool::boot::InLanes;
use crate::stop::Stop;

/// How long the reports thread waits for a report while a batch is in flight. A report wakes it at
/// once; this only bounds how long it takes to end.
const POLL: Duration = Duration::from_secs(1);
/// How long it sleeps while none is. What librdkafka has to say then (that a broker is away) can
/// wait so long; the next batch wakes it.
const IDLE: Duration = Duration::from_secs(30);
/// How often bytes are counted, where there is a budget for them; the thread does not sleep longer
/// then.
const WIRE_EVERY: Duration = Duration::from_secs(1);
/// How often librdkafka says which brokers it knows, where bytes are not counted: some kilobytes of
/// JSON. A client that has forgotten all of them is made anew after two of these.
const KNOWN_EVERY: Duration = Duration::from_secs(30);

/// Most that librdkafka queues, KiB.
pub const QUEUE_KIB_MAX: u64 = 4096;
const QUEUE_KIB_MAX_TEXT: &str = "4096";

/// The producer's properties, with what each is for. `[kafka.options]` goes before those that are
/// not reserved.
const PROPERTIES: &[(&str, &str)] = &[
    // Reserved: delivery rests on them. Never give up; every replica; no re-send out of order.
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("message.timeout.ms", "0"),
    // As Java's clients place a key, so that another producer of the device meets it there.
    ("partitioner", "murmur2_random"),
    ("compression.codec", "zstd"),
    // What a request gathers: 50 ms of a quiet device, or some 1000 lines, which zstd packs nearly
    // as well as more, and of which a few fit into what may be in flight.
    ("linger.ms", "50"),
    ("batch.num.messages", "1000"),
    ("batch.size", "262144"),
    ("message.max.bytes", "1000000"),
    // librdkafka's default is 1 GiB. Delivery hands over less than this; it is the belt to that.
    ("queue.buffering.max.kbytes", QUEUE_KIB_MAX_TEXT),
    ("queue.buffering.max.messages", "100000"),
];

/// Why there is no client.
#[derive(Debug, Error)]
pub enum ProducerError {
    /// librdkafka refuses the configuration, or the system a thread.
    #[error(
        "cannot make a Kafka producer: {0}; check [kafka] and its options in the configuration"
    )]
    Client(#[source] KafkaError),
    /// A file of a secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The system gives no thread.
    #[error("cannot start the producer's thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// Which batches may hold records without a time, since the clock was unset when they were read: see
/// [`crate::backdate`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Undated {
    /// In each lane, batches before it are of an earlier boot.
    pub first_of_boot: InLanes,
    /// In each lane, batches behind it have their times.
    pub through: InLanes,
}

/// A librdkafka client and the thread that hears its reports. Dropped, it takes back whatever was
/// not sent, and its reports reach nobody.
pub struct Producer {
    client: Arc<BaseProducer<Context>>,
    topic: String,
    key: Key,
    /// Batches of which librdkafka has not taken every record yet, in order.
    waiting: VecDeque<Waiting>,
    /// For batches up to this one: some of their records may have no time yet.
    undated: Undated,
    reports: Arc<Reports>,
    /// Where tokens come in (`iam`); the session holds it weakly.
    _token_user: Arc<Inlet>,
    /// Of the reports thread.
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl Producer {
    /// A client for the records of `device`, with keys as said. `news` is notified when there are reports to take.
    /// `counts`: whether it is to say how many bytes pass ([`Report::Wire`]), each second.
    ///
    /// # Errors
    /// See [`ProducerError`]. A broker that cannot be reached is none: librdkafka tries for ever.
    pub fn new(
        cluster: &Arc<Cluster>,
        (device, key): (&DeviceId, &Key),
        (undated, counts): (Undated, bool),
        news: Arc<Notify>,
    ) -> Result<Self, ProducerError> {
        let reports = Arc::new(Reports::new(news));
        let context = Context::new(Arc::clone(cluster), Arc::clone(&reports), counts);
        let mut properties = properties(cluster, device)?;
        let every = if counts { WIRE_EVERY } else { KNOWN_EVERY };
        if counts || properties.get("statistics.interval.ms").is_none() {
            properties.set("statistics.interval.ms", every.as_millis().to_string());
        }
        let client: BaseProducer<Context> = properties
            .create_with_context(context)
            .map_err(ProducerError::Client)?;
        let (client, stop) = (Arc::new(client), Stop::new());
        let idle = if counts { WIRE_EVERY } else { IDLE };
        let (polled, heard, end) = (Arc::clone(&client), Arc::clone(&reports), stop.clone());
        let thread = std::thread::Builder::new()
            .name("reports".into())
            .spawn(move || hear(&polled, &heard, &end, idle))
            .map_err(ProducerError::Thread)?;
        let inlet = Arc::new(Inlet::new(&client, Arc::clone(&reports)));
        if let Some(session) = cluster.session() {
            session.subscribe(&inlet);
        }
        Ok(Self {
            client,
            topic: cluster.topic().to_owned(),
            key: key.clone(),
            waiting: VecDeque::new(),
            undated,
            reports,
            _token_user: inlet,
            stop,
            thread: Some(thread),
        })
    }

    /// From now on these may hold records without a time.
    pub fn set_undated(&mut self, undated: Undated) {
        self.undated = undated;
    }

    /// Hands a batch over: as much of it as librdkafka takes now, the rest at [`Producer::resume`].
    /// One [`Report::Batch`] follows.
    pub fn send(&mut self, id: BatchId, batch: Arc<Batch>) {
        let tally = Arc::new(Tally::new(id, batch.entries.len()));
        self.waiting.push_back(Waiting {
            batch,
            tally,
            taken: 0,
        });
        if self.reports.expect_one() {
            self.stop.wake();
        }
        self.resume();
    }

    /// Whether librdkafka had no room for all that was sent: then [`Producer::resume`] is to be
    /// called soon. No report tells of room: the first part of a batch alone makes none.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Goes on with what librdkafka had no room for.
    pub fn resume(&mut self) {
        while let Some(first) = self.waiting.front_mut() {
            let id = first.tally.id();
            // Anew for each: the clock is stepped when it is set better.
            let backdate = (id <= self.undated.through[id.lane().index()]).then(|| Backdate {
                booted_ms: clock::booted_ms(),
                first_of_boot: self.undated.first_of_boot,
            });
            let key = self.key.of(&first.batch.stream);
            let to = (self.topic.as_str(), key.as_str());
            let code = hand_over(&self.client, to, backdate, first);
            match code {
                RDKafkaErrorCode::NoError => {}
                RDKafkaErrorCode::QueueFull => return,
                refused => {
                    let rest = first.batch.entries.len() - first.taken;
                    let context = self.client.context();
                    context.say(
                        &KafkaError::MessageProduction(refused),
                        "librdkafka does not take records; they are kept, and handed over again",
                    );
                    first.tally.reported(rest, outcome(refused), &self.reports);
                }
            }
            self.waiting.pop_front();
        }
    }

    /// What was reported since the last call.
    pub fn take_reports(&self) -> Vec<Report> {
        self.reports.take()
    }

    /// Takes back what was not sent, and ends the thread: a second at most.
    pub fn close(mut self) {
        self.stop.set();
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the thread of the delivery reports ended before it was told to");
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // The thread drops the client: that can take half a second, which delivery has not.
        self.stop.set();
    }
}

/// The reports thread. With nothing in flight, nothing can be reported, and it sleeps.
fn hear(client: &BaseProducer<Context>, reports: &Reports, stop: &Stop, idle: Duration) {
    while !stop.is_set() {
        if reports.are_expected() {
            client.poll(POLL);
        } else if !stop.wait(idle) {
            client.poll(Duration::ZERO);
        }
    }
}

fn properties(cluster: &Cluster, device: &DeviceId) -> Result<ClientConfig, SecretError> {
    let mut config = cluster.client_config(&format!("headwater-{device}"))?;
    for (name, value) in PROPERTIES {
        if config.get(name).is_none() {
            config.set(*name, *value);
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests;
