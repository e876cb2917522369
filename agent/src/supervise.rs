//! Starts the parts, waits for whatever happens, and stops the parts in order.
//!
//! Start: store, producer, sources; then systemd hears READY. Stop, upstream first, at SIGTERM or
//! SIGINT or when a source fails: the sources are told to stop, and their channel closes behind
//! them; delivery gives the broker `shutdown.flush`, commits what is left and is done; the producer
//! takes back what it holds; the store writes its log back and ends. A second signal ends the
//! process at once: nothing is lost by that either, some of it is only sent again.
//!
//! SIGHUP takes a new configuration without a stop ([`reload`]).
//!
//! One thread runs all of this on a tokio runtime without a pool; it never blocks on a disk or a
//! socket. Every wait ends at a deadline, and an idle agent's nearest one is half a minute away.

mod answer;
mod edge;
mod losses;
mod opening;
mod progress;
mod reload;
mod sources;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use headwater_msk::Cluster;
use headwater_msk::cluster::ClusterError;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};

use self::edge::Edge;
use self::losses::Losses;
use self::progress::Progress;
use self::reload::Reload;
use self::sources::{Ended, Sources};
use crate::admin::server::{ASKS, Ask, Server, serve};
use crate::admin::status::Reloads;
use crate::admin::tap::Taps;
use crate::batch::Batch;
use crate::checkpoint::Knowledge;
use crate::clock::{self, Monotonic};
use crate::config::{Listen, Plan};
use crate::delivery::{Delivery, Event, Settings};
use crate::produce::producer::{ProducerError, Undated};
use crate::spool::boot::{InLanes, first_of_boot, is_another_boot};
use crate::spool::disk;
use crate::spool::run;
use crate::spool::schema::OpenError;
use crate::spool::sealing::KeyError;
use crate::spool::{BatchId, Reply, Trouble};
use crate::systemd;

/// Most that librdkafka holds. It copies what it is given, so this comes on top of the window; some
/// 2000 lines are several requests under way at once.
const IN_FLIGHT_BYTES_MAX: usize = 1024 * 1024;
/// How often it is looked whether the clock was set, while it is not.
const CLOCK_LOOK: Duration = Duration::from_secs(1);
/// How long the sources may take to stop. A read from a dead network file system never ends.
const SOURCES_GRACE: Duration = Duration::from_secs(10);
/// Why the agent did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The state directory or its database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The keys that the spool is sealed with.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store's thread ended.
    #[error("the store's thread panicked: please report this with the log")]
    Store,
    /// The secrets that the cluster wants.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// librdkafka.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// Nobody could ask.
    #[error("cannot listen at {listen} (admin.listen): {source}; choose another place, or \"off\"")]
    Admin {
        /// Where.
        listen: Listen,
        /// What the system said.
        source: io::Error,
    },
    /// The system refuses what every program needs.
    #[error("cannot set up {what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The system refuses a thread.
    #[error("cannot start the thread {thread:?}: {source}")]
    Thread {
        /// Which.
        thread: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// How a run that had started ended. Either way the stop was orderly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was told to.
    Stopped,
    /// A source failed; the log says which and why.
    Failed,
}

/// Reads the configuration again, or says all that is wrong with it.
pub type Reread<'a> = &'a dyn Fn() -> Result<Plan, String>;

/// Runs the agent until it is told to stop. `reread`: for SIGHUP.
///
/// # Errors
/// See [`StartError`]; nothing was read or sent then.
pub fn run(plan: &Plan, reread: Reread<'_>) -> Result<Ending, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| StartError::System {
            what: "the runtime",
            source,
        })?;
    runtime.block_on(async {
        let Some(mut agent) = Agent::start(plan, reread).await? else {
            return Ok(Ending::Stopped);
        };
        agent.turn().await;
        Ok(agent.end())
    })
}

fn settings(plan: &Plan) -> Settings {
    Settings {
        spool_after: plan.spool.after,
        spool_bytes_max: plan.spool.max_bytes,
        when_full: plan.spool.when_full,
        uplink: plan.uplink,
        flash_bytes_per_day: plan.flash_bytes_per_day,
        checkpoint_every: plan.checkpoint.every,
        checkpoint_bytes: plan.checkpoint.bytes,
        window_bytes: plan.window_bytes,
        in_flight_bytes_max: IN_FLIGHT_BYTES_MAX.min(plan.window_bytes / 2),
        flush: plan.shutdown_flush,
    }
}

/// Takes note of how this run goes, for the next one. Where it cannot, that one takes it for cut off, or an earlier one
/// for this.
fn note_run(plan: &Plan, note: fn(&Path, &str) -> io::Result<()>) {
    let Some(boot_id) = clock::boot_id() else {
        return;
    };
    if let Err(error) = note(&plan.state_dir, &boot_id) {
        tracing::warn!(%error, "cannot write {}/run; it is tried again at the next start", plan.state_dir.display());
    }
}

/// Where it cannot be written down, what is in the spool counts as read under an earlier boot.
fn first_of_this_boot(plan: &Plan, last: InLanes) -> InLanes {
    let Some(boot_id) = clock::boot_id() else {
        return last.map(BatchId::next);
    };
    first_of_boot(&plan.state_dir, &boot_id, last).unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot write {}/boot; it is tried again at the next start", plan.state_dir.display());
        last.map(BatchId::next)
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, StartError> {
        let catch = |kind| {
            signal(kind).map_err(|source| StartError::System {
                what: "the signals",
                source,
            })
        };
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hangup: catch(SignalKind::hangup())?,
        })
    }
}

impl Signals {
    /// Ends when the agent is told to stop.
    async fn told_to_stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        tracing::info!("told to stop");
    }
}

/// What ended a wait.
enum Wake {
    Batch(Option<Batch>),
    Reports,
    Store(Option<Reply>),
    Ended(Ended),
    Asked(Ask),
    Signal(SignalKind),
    LetGo,
    Known(Result<Knowledge, Trouble>),
    Deadline,
}

struct Agent<'a> {
    /// In force now.
    plan: Plan,
    reread: Reread<'a>,
    reload: Option<Reload>,
    started: Monotonic,
    edge: Edge<'a>,
    sources: Sources,
    replies: mpsc::Receiver<Reply>,
    news: Arc<Notify>,
    signals: Signals,
    /// No source gives anything any more.
    drained: bool,
    /// Until when the sources may take to stop, once they were told to.
    grace: Option<Monotonic>,
    ending: Ending,
    progress: Progress,
    taps: Taps,
    asks: mpsc::Receiver<Ask>,
    reloads: Reloads,
    losses: Losses,
    /// Files are still to go on under other generations.
    not_split: bool,
    /// Listens for as long as it is held.
    _server: Server,
}

impl<'a> Agent<'a> {
    /// Starts every part. None where it is told to stop while it waits for its spool.
    async fn start(plan: &'a Plan, reread: Reread<'a>) -> Result<Option<Self>, StartError> {
        let mut signals = Signals::new()?;
        let Some((store, mut found, replies)) = opening::open(plan, &mut signals).await? else {
            return Ok(None);
        };
        let news = Arc::new(Notify::new());
        let (ask, asks) = mpsc::channel(ASKS);
        let server = serve(&plan.admin_listen, ask).map_err(|source| StartError::Admin {
            listen: plan.admin_listen.clone(),
            source,
        })?;
        let cluster = Cluster::open(&plan.kafka, &plan.credentials, plan.device.as_str())?;
        // It only spreads retries: a clock does where the system has no random number.
        let seed = getrandom::u64().unwrap_or_else(|_| clock::wall_ms());
        let delivery = Delivery::new(settings(plan), seed, found.depth, found.last)
            .with_lanes(plan.lanes())
            .with_usage(&found.usage, clock::wall_ms(), clock::monotonic());
        // Before that is written down anew.
        found.known.rebooted =
            clock::boot_id().is_some_and(|id| is_another_boot(&plan.state_dir, &id));
        if !found.not_split {
            note_run(plan, run::begins);
        }
        let undated = Undated {
            first_of_boot: first_of_this_boot(plan, found.last),
            through: found.last,
        };
        let to = (cluster, &plan.device, &plan.key);
        let mut edge = Edge::new(delivery, store, Arc::clone(&news), to, undated);
        edge.start()?;
        let sources = Sources::start(plan, &edge.store, &found.known, seed)?;
        tracing::info!(
            device = %plan.device,
            generations = found.known.open.len(),
            spool_rows = found.depth.rows,
            spool_bytes = found.depth.bytes,
            "started"
        );
        systemd::ready();
        edge.offline = Arc::clone(&sources.offline);
        let now = clock::monotonic();
        Ok(Some(Self {
            plan: plan.clone(),
            reread,
            reload: None,
            started: now,
            edge,
            sources,
            replies,
            news,
            signals,
            drained: false,
            grace: None,
            ending: Ending::Stopped,
            progress: Progress::new(now),
            taps: Taps::default(),
            asks,
            reloads: Reloads::default(),
            losses: Losses::default(),
            not_split: found.not_split,
            _server: server,
        }))
    }

    /// What a source gave.
    fn take(&mut self, batch: Batch) {
        self.taps.show(&batch);
        self.losses.count(&batch);
        self.edge.apply(Event::Queued(batch));
    }

    /// Waits, tells delivery, and does what it wants, until the stop is complete.
    async fn turn(&mut self) {
        self.edge.apply(Event::Wall(clock::wall_ms()));
        // A backlog begins to move at once.
        self.edge.apply(Event::Tick);
        while !self.edge.is_done() {
            let wake = self.wait().await;
            self.edge.look_at_clock();
            if self.edge.take_suspended() {
                self.sources.was_suspended();
            }
            match wake {
                Wake::Batch(Some(batch)) => {
                    self.take(batch);
                }
                Wake::Batch(None) => {
                    self.drained = true;
                    if self.grace.is_none() {
                        self.fail("every source has ended, and nobody told them to");
                    }
                    self.edge.apply(Event::Stop);
                }
                Wake::Reports => self.edge.take_reports(),
                Wake::Store(Some(reply)) => self.edge.apply(Event::Store(reply)),
                Wake::Store(None) => {
                    tracing::error!(
                        "the store's thread is gone; what it has not committed is read or sent again at the next start"
                    );
                    self.ending = Ending::Failed;
                    return;
                }
                Wake::Ended(ended) => self.source_ended(&ended),
                Wake::Asked(ask) => self.answer(ask),
                Wake::LetGo => self.sources_let_go(),
                Wake::Known(known) => self.known(known),
                Wake::Signal(kind) => self.signalled(kind),
                Wake::Deadline => {
                    self.edge.take_reports();
                    self.edge.apply(Event::Tick);
                }
            }
            let now = clock::monotonic();
            self.lose_patience(now);
            self.look_at_reload(now);
            let used = self.sources.budget.used();
            let store = (&self.edge.delivery, self.edge.store.salvage());
            if self.progress.tell(store, used, now) {
                self.edge.apply(Event::Wall(clock::wall_ms()));
                if let Some(written) = disk::written() {
                    self.edge.apply(Event::Written(written));
                }
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        let now = clock::monotonic();
        let sleep = tokio::time::sleep(self.next_deadline(now).since(now));
        tokio::select! {
            _ = self.signals.terminate.recv() => Wake::Signal(SignalKind::terminate()),
            _ = self.signals.interrupt.recv() => Wake::Signal(SignalKind::interrupt()),
            _ = self.signals.hangup.recv() => Wake::Signal(SignalKind::hangup()),
            reply = self.replies.recv() => Wake::Store(reply),
            () = self.news.notified() => Wake::Reports,
            batch = self.sources.batches.recv(), if !self.drained => Wake::Batch(batch),
            Some(ended) = self.sources.ended.recv() => Wake::Ended(ended),
            Some(ask) = self.asks.recv() => Wake::Asked(ask),
            woken = Reload::next(&mut self.reload) => woken,
            () = sleep => Wake::Deadline,
        }
    }

    fn next_deadline(&self, now: Monotonic) -> Monotonic {
        let grace = self.grace.filter(|_| !self.drained);
        // Nobody tells when the clock is set.
        let unset = self.edge.delivery.clock_unset();
        let look = unset.then(|| now.plus(CLOCK_LOOK));
        let reload = self.reload.as_ref().and_then(Reload::next_deadline);
        [self.edge.next_deadline(now), grace, look, reload]
            .into_iter()
            .flatten()
            .fold(self.progress.next_deadline(), Monotonic::min)
    }

    fn source_ended(&mut self, ended: &Ended) {
        self.sources.forget(&ended.part);
        if self.ended_for_reload(ended) {
            return;
        }
        let thread = ended.part.to_string();
        match &ended.result {
            Some(Ok(())) if self.grace.is_some() => {}
            Some(Ok(())) => self.fail(&format!(
                "the thread {thread:?} ended, and nobody told it to"
            )),
            Some(Err(error)) => self.fail(&format!("the thread {thread:?} failed: {error}")),
            None => self.fail(&format!(
                "the thread {thread:?} panicked: please report this with the log"
            )),
        }
    }

    fn fail(&mut self, why: &str) {
        tracing::error!("{why}; the agent stops in order");
        self.ending = Ending::Failed;
        self.stop();
    }

    fn signalled(&mut self, kind: SignalKind) {
        if kind == SignalKind::hangup() {
            self.reload();
            return;
        }
        if self.grace.is_some() {
            tracing::warn!(
                "told to stop again: ending at once; what is not settled is read or sent again"
            );
            std::process::exit(128 + kind.as_raw_value());
        }
        tracing::info!("told to stop");
        self.stop();
    }

    fn stop(&mut self) {
        if self.grace.is_none() {
            self.grace = Some(clock::monotonic().plus(SOURCES_GRACE));
            systemd::stopping();
            self.reload = None;
            self.sources.stop();
        }
    }

    /// Goes on without sources that do not stop in their time.
    fn lose_patience(&mut self, now: Monotonic) {
        if self.grace.is_some_and(|until| until <= now) && !self.drained {
            tracing::error!("a source does not stop; going on without it");
            self.ending = Ending::Failed;
            // What is in the channel is still taken; then it ends.
            self.sources.batches.close();
            self.grace = Some(Monotonic(u64::MAX));
        }
    }

    fn end(self) -> Ending {
        let depth = self.edge.delivery.depth();
        let is_settled = self.edge.delivery.is_settled();
        let counters = self.edge.close();
        if is_settled && !self.not_split {
            note_run(&self.plan, run::ends);
        }
        progress::log_end(counters, depth, &self.sources.samples);
        self.ending
    }
}

#[cfg(test)]
mod tests;
