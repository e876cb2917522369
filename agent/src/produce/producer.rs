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

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use headwater_msk::Cluster;
use headwater_msk::brokers::Known;
use headwater_msk::context::Voice;
use headwater_msk::credentials::TokenUser;
use headwater_msk::credentials::session::LocalToken;
use headwater_msk::push::set_token;
use headwater_msk::security::secret_file::SecretError;
use headwater_record::headers::{self, SpanHeader};
use headwater_record::{DeviceId, Kind};
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use thiserror::Error;
use tokio::sync::Notify;

use super::outcome::{Outcome, outcome};
use crate::backdate::Backdate;
use crate::batch::{Batch, RecordRef};
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
    ("queue.buffering.max.kbytes", "4096"),
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

/// What librdkafka said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Every record of a batch was reported; the worst of them counts.
    Batch {
        /// Which.
        id: BatchId,
        /// How it went.
        outcome: Outcome,
    },
    /// The client is of no use any more.
    Lost,
    /// So many bytes more have passed between it and the brokers, requests and answers.
    Wire(u64),
}

/// A librdkafka client and the thread that hears its reports. Dropped, it takes back whatever was
/// not sent, and its reports reach nobody.
pub struct Producer {
    client: Arc<BaseProducer<Context>>,
    topic: String,
    key: String,
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

struct Waiting {
    batch: Arc<Batch>,
    tally: Arc<Tally>,
    /// How many of its records librdkafka has.
    taken: usize,
}

/// How many of a batch's records were not reported yet, and the worst that was.
#[derive(Debug)]
struct Tally {
    id: BatchId,
    open: AtomicUsize,
    worst: AtomicU8,
}

#[derive(Debug)]
struct Reports {
    list: Mutex<Vec<Report>>,
    news: Arc<Notify>,
    /// Batches of which nothing was reported yet.
    open: AtomicUsize,
}

struct Context {
    voice: Voice,
    reports: Arc<Reports>,
    cluster: Arc<Cluster>,
    /// Whether bytes are to be reported.
    counts: bool,
    /// Bytes that were reported already.
    wire: AtomicU64,
    known: Known,
}

/// What is read of librdkafka's statistics: bytes of requests and answers, without TLS, and brokers.
#[derive(serde::Deserialize)]
struct Passed {
    #[serde(default)]
    tx_bytes: u64,
    #[serde(default)]
    rx_bytes: u64,
    #[serde(default)]
    brokers: BTreeMap<String, Broker>,
}

/// A broker as librdkafka knows it.
#[derive(serde::Deserialize)]
struct Broker {
    #[serde(default)]
    source: String,
}

/// Where the credentials' thread reaches the client.
struct Inlet {
    client: Weak<BaseProducer<Context>>,
    reports: Arc<Reports>,
}

impl TokenUser for Inlet {
    fn take_token(&self, token: &LocalToken) {
        let Some(client) = self.client.upgrade() else {
            return;
        };
        if let Err(reason) = set_token(client.client(), token) {
            tracing::warn!(reason, "librdkafka does not take a new token");
        }
    }

    fn principal_changed(&self) {
        self.reports.put(Report::Lost);
    }
}

impl Producer {
    /// A client for the records of `device`. `news` is notified when there are reports to take.
    /// `counts`: whether it is to say how many bytes pass ([`Report::Wire`]), each second.
    ///
    /// # Errors
    /// See [`ProducerError`]. A broker that cannot be reached is none: librdkafka tries for ever.
    pub fn new(
        cluster: &Arc<Cluster>,
        device: &DeviceId,
        (undated, counts): (Undated, bool),
        news: Arc<Notify>,
    ) -> Result<Self, ProducerError> {
        let reports = Arc::new(Reports {
            list: Mutex::default(),
            news,
            open: AtomicUsize::new(0),
        });
        let context = Context {
            voice: Voice::default(),
            reports: Arc::clone(&reports),
            cluster: Arc::clone(cluster),
            counts,
            wire: AtomicU64::new(0),
            known: Known::default(),
        };
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
        let inlet = Arc::new(Inlet {
            client: Arc::downgrade(&client),
            reports: Arc::clone(&reports),
        });
        if let Some(session) = cluster.session() {
            session.subscribe(&inlet);
        }
        Ok(Self {
            client,
            topic: cluster.topic().to_owned(),
            key: device.as_str().to_owned(),
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
        let tally = Arc::new(Tally {
            id,
            open: AtomicUsize::new(batch.entries.len()),
            worst: AtomicU8::new(Outcome::Delivered as u8),
        });
        self.waiting.push_back(Waiting {
            batch,
            tally,
            taken: 0,
        });
        if self.reports.open.fetch_add(1, Ordering::AcqRel) == 0 {
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
            let id = first.tally.id;
            // Anew for each: the clock is stepped when it is set better.
            let backdate = (id <= self.undated.through[id.lane().index()]).then(|| Backdate {
                booted_ms: clock::booted_ms(),
                first_of_boot: self.undated.first_of_boot,
            });
            let to = (self.topic.as_str(), self.key.as_str());
            let code = hand_over(&self.client, to, backdate, first);
            match code {
                RDKafkaErrorCode::NoError => {}
                RDKafkaErrorCode::QueueFull => return,
                refused => {
                    let rest = first.batch.entries.len() - first.taken;
                    let context = self.client.context();
                    context.voice.error(
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
        std::mem::take(
            &mut *self
                .reports
                .list
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
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
        if reports.open.load(Ordering::Acquire) > 0 {
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

/// Hands over the records that are left: `NoError` once librdkafka has all of them.
fn hand_over(
    client: &BaseProducer<Context>,
    (topic, key): (&str, &str),
    backdate: Option<Backdate>,
    waiting: &mut Waiting,
) -> RDKafkaErrorCode {
    let batch = Arc::clone(&waiting.batch);
    for record in batch.records().skip(waiting.taken) {
        let value = match &backdate {
            None => Cow::Borrowed(record.value),
            Some(backdate) => backdate.value(waiting.tally.id, record.value),
        };
        // No timestamp: librdkafka stamps the time of sending. A week-old backlog with the times of
        // its events would fall to time retention at once.
        let message = BaseRecord::with_opaque_to(topic, Arc::clone(&waiting.tally))
            .key(key)
            .payload(&*value)
            .headers(headers_of(&batch, record));
        if let Err((error, _)) = client.send(message) {
            return error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        }
        waiting.taken += 1;
    }
    RDKafkaErrorCode::NoError
}

fn headers_of(batch: &Batch, record: RecordRef<'_>) -> OwnedHeaders {
    let span = SpanHeader::new(batch.generation, record.span);
    let kind = record.kind.header();
    let mut owned = OwnedHeaders::new_with_capacity(2 + usize::from(kind.is_some()))
        .insert(Header {
            key: headers::STREAM,
            value: Some(batch.stream.as_str()),
        })
        .insert(Header {
            key: headers::SPAN,
            value: Some(span.as_bytes()),
        });
    if let Some(kind) = kind {
        debug_assert_ne!(record.kind, Kind::Data, "data has no hw-kind");
        owned = owned.insert(Header {
            key: headers::KIND,
            value: Some(kind),
        });
    }
    owned
}

impl Tally {
    /// `records` more are done. The one who brings the last says how the batch went.
    fn reported(&self, records: usize, outcome: Outcome, reports: &Reports) {
        self.worst.fetch_max(outcome as u8, Ordering::AcqRel);
        if self.open.fetch_sub(records, Ordering::AcqRel) != records {
            return;
        }
        let worst = self.worst.load(Ordering::Acquire);
        let outcome = [Outcome::Delivered, Outcome::Retry]
            .into_iter()
            .find(|outcome| *outcome as u8 == worst)
            .unwrap_or(Outcome::Recreate);
        reports.open.fetch_sub(1, Ordering::AcqRel);
        reports.put(Report::Batch {
            id: self.id,
            outcome,
        });
    }
}

impl Reports {
    fn put(&self, report: Report) {
        self.list
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(report);
        self.news.notify_one();
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.voice.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.error(&error, reason);
        let is_fatal = error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal);
        if is_fatal || self.cluster.is_outdated(&error, reason) {
            self.reports.put(Report::Lost);
        }
    }

    /// Of some kilobytes of JSON, two numbers and the brokers.
    fn stats_raw(&self, statistics: &[u8]) {
        let passed = match serde_json::from_slice::<Passed>(statistics) {
            Ok(passed) => passed,
            Err(error) => {
                tracing::debug!(%error, "librdkafka's statistics are not understood");
                return;
            }
        };
        let sources = passed.brokers.values();
        if (self.known).are_forgotten(sources.map(|broker| broker.source.as_str())) {
            tracing::warn!("librdkafka knows of no broker any more; its client is made anew");
            self.reports.put(Report::Lost);
        }
        if !self.counts {
            return;
        }
        let bytes = passed.tx_bytes.saturating_add(passed.rx_bytes);
        let before = self.wire.swap(bytes, Ordering::AcqRel);
        if bytes > before {
            self.reports.put(Report::Wire(bytes - before));
        }
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.cluster.oauth_token()
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Tally>;

    fn delivery(&self, result: &DeliveryResult<'_>, tally: Arc<Tally>) {
        let code = match result {
            Ok(_) => RDKafkaErrorCode::NoError,
            Err((error, _)) => error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail),
        };
        let outcome = outcome(code);
        if outcome == Outcome::Retry {
            self.voice.error(
                &KafkaError::MessageProduction(code),
                "the broker refuses records; they are kept, and sent again",
            );
        }
        tally.reported(1, outcome, &self.reports);
    }
}

#[cfg(test)]
mod tests;
