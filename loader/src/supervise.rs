//! Starts the parts, watches them, and stops them in order: no more records, what is open written
//! and committed, then out of the group.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use headwater_msk::Cluster;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};

use crate::backoff::Backoff;
use crate::clock;
use crate::config::{Output, Plan};
use crate::consume::consumer::{ConsumerError, Member};
use crate::consume::prefetch::Prefetch;
use crate::consume::{Assigned, CommittedOffset};
use crate::emf::{self, Gauges, Totals};
use crate::http;
use crate::metrics::resident_bytes;
use crate::recover::{Pipelines, store_pipeline};
use crate::staging::{Staging, Tally};
use crate::status::Status;
use crate::store::dynamodb::DynamoDb;
use crate::store::folder::Folder;
use crate::store::s3::S3;
use crate::store::{Retries, Store, StoreError};
use crate::tables::keep_fresh;
use crate::worker::{self, Ended, Shared};

/// More partitions than one member is ever given between two looks.
const ASSIGNED: usize = 4096;
/// How long standard output may take the last metrics at a stop.
const EMF_PATIENCE: Duration = Duration::from_secs(2);
/// How long what is open may take before the group is left for a doubt: the partition in doubt waits meanwhile.
const FINISH: Duration = Duration::from_secs(10);
/// How long the whole of leaving may take.
const LEAVE: Duration = Duration::from_secs(20);
/// How often it is looked whether the others are done with the member.
const LOOK: Duration = Duration::from_millis(20);
/// Looks at the poll thread, which is told to end: two seconds.
const POLL_LOOKS: u32 = 100;
/// Looks at who else has the member: six seconds, for who asks the broker something blocks for five.
const LET_GO_LOOKS: u32 = 300;
/// A membership that held for so long was a success, milliseconds: longer than any wait before it.
const HELD_MS: u64 = 60_000;
/// How often the log says what was done, when something was.
const REPORT: Duration = Duration::from_secs(60);

/// Opens the output that a plan names.
pub async fn open_store(output: &Output, retries: Retries) -> Store {
    match output {
        Output::S3(settings) => {
            Store::S3(Box::new(S3::new(settings.as_ref().clone(), retries).await))
        }
        Output::Folder(root) => Store::Folder(Folder::new(root.clone())),
    }
}

/// How a membership ended.
enum Left {
    Stopped,
    Again(String),
}

/// The membership is being ended: what is open is written first.
struct Ending {
    until: tokio::time::Instant,
    left: Left,
}

impl Ending {
    fn within(patience: Duration, left: Left) -> Self {
        Self {
            until: tokio::time::Instant::now() + patience,
            left,
        }
    }

    /// Whether nobody of this process takes the partitions up again.
    fn stops(&self) -> bool {
        matches!(self.left, Left::Stopped)
    }

    /// How it is over while so many are at work; none while it is not.
    fn over(&self, now: tokio::time::Instant, at_work: usize) -> Option<Over> {
        match &self.left {
            _ if at_work == 0 => Some(Over::Written),
            _ if now < self.until => None,
            Left::Stopped => Some(Over::CutOff("the stop took")),
            Left::Again(_) => Some(Over::CutOff("writing what is open took")),
        }
    }
}

/// How it came out that a membership was ended.
#[derive(Debug, PartialEq, Eq)]
enum Over {
    /// All have ended.
    Written,
    /// Some are cut off: what took too long.
    CutOff(&'static str),
}

impl Over {
    fn say(&self) {
        if let Self::CutOff(what) = self {
            tracing::warn!("{what} too long; what was not committed is read again");
        }
    }
}

/// How long to wait before the group is joined again.
#[derive(Debug)]
struct Rejoin(Backoff);

impl Rejoin {
    fn new(seed: u64) -> Self {
        Self(Backoff::new(seed))
    }

    /// The wait behind a membership that held for so long: one that held for a while was a success, and what
    /// came before it counts no more.
    fn wait_behind(&mut self, held_ms: u64) -> Duration {
        if held_ms >= HELD_MS {
            self.0.reset();
        }
        self.0.next_wait()
    }
}

/// Signals, listened to from the start on.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            int: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }

    /// Whether one comes within so long.
    async fn come_within(&mut self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.next()).await.is_ok()
    }
}

/// Runs the loader until it is told to stop.
///
/// # Errors
/// What only a person can mend. Offsets are where they were.
pub async fn run(plan: Plan) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    // From the start on, too: without anybody who listens it would end the process.
    let usr1 = signal(SignalKind::user_defined1()).context("cannot listen for SIGUSR1")?;
    let (flush, flushed) = watch::channel(0);
    tokio::spawn(pass_on(usr1, flush));
    let cluster = Cluster::open(&plan.kafka, &plan.credentials, &host_name())?;
    let store = open_store(&plan.output, Retries::Caller).await;
    let tables = Arc::new(DynamoDb::new(plan.dynamodb.clone()));
    tokio::select! {
        ready = prepare(&store, &tables, &plan) => ready?,
        () = signals.next() => {
            say_unknown("told to stop before the output answered");
            return Ok(());
        }
    }
    let (stop, stopped) = watch::channel(false);
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let staging = Staging::new(bytes(plan.memory.batches));
    let prefetch = Arc::new(Prefetch::new(bytes(plan.memory.hand_over)));
    let (current, pipeline) = watch::channel(Arc::clone(&plan.pipeline));
    let shared = Arc::new(Shared {
        plan,
        pipeline,
        pipelines: Pipelines::default(),
        store,
        tables,
        staging,
        prefetch,
        tally: Tally::default(),
        metrics: Arc::default(),
        status: Status::default(),
        polled_ms: Arc::default(),
        refusal_lasts: worker::REFUSAL_LASTS,
        flush: flushed,
        stop: stopped,
    });
    if let Some(listen) = shared.plan.listen {
        http::serve(listen, Arc::clone(&shared), Arc::clone(&cluster)).await?;
    }
    let (told, emf) = tell_cloudwatch(&shared);
    if let Some(every) = shared.plan.table_reload {
        tokio::spawn(keep_fresh(Arc::clone(&shared), current, every.0));
    }
    let mut rejoin = Rejoin::new(u64::from(std::process::id()));
    loop {
        let joined_ms = clock::now().mono_ms;
        match member(&shared, &cluster, &mut signals, &stop).await? {
            Left::Stopped => break,
            Left::Again(reason) => {
                shared.metrics.rejoined.inc();
                let wait = rejoin.wait_behind(clock::now().mono_ms.saturating_sub(joined_ms));
                tracing::warn!(
                    reason,
                    ?wait,
                    "left the group; joining again, nothing is lost"
                );
                if signals.come_within(wait).await {
                    say_unknown("told to stop while out of the group");
                    break;
                }
            }
        }
    }
    report(&shared, "stopped");
    drop(told);
    if tokio::time::timeout(EMF_PATIENCE, emf).await.is_err() {
        tracing::warn!("emf: standard output did not take the last metrics");
    }
    Ok(())
}

/// Says that nobody looked what a crash left: what was begun is known of an assignment.
fn say_unknown(when: &str) {
    tracing::warn!("{when}: it may be that a begun batch waits to be finished");
}

fn say_begun(partition: i32) {
    tracing::warn!(
        partition,
        "a begun batch waits to be finished: by whoever takes the partition up next, with this version of the loader"
    );
}

/// Says at a stop what no worker said: what the group gave too late, and what it did not give.
fn say_left(member: &Member, assigned: &mut mpsc::Receiver<Assigned>) {
    if !member.is_assigned() {
        say_unknown("told to stop before the group gave any partition");
    }
    while let Ok(assigned) = assigned.try_recv() {
        let committed = assigned.committed.as_ref();
        if committed.is_some_and(CommittedOffset::may_begin) {
            say_begun(assigned.partition);
        }
    }
}

/// Tells all workers of each SIGUSR1.
async fn pass_on(mut usr1: Signal, flush: watch::Sender<u64>) {
    while usr1.recv().await.is_some() {
        tracing::info!("told to flush: open batches are closed and written");
        flush.send_modify(|times| *times += 1);
    }
}

/// Writes metrics for CloudWatch until what is returned first is dropped, and a last time then.
fn tell_cloudwatch(shared: &Arc<Shared>) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (running, mut ended) = oneshot::channel();
    let shared = Arc::clone(shared);
    let task = tokio::spawn(async move {
        let Some((emf, every)) = &shared.plan.emf else {
            return;
        };
        let mut open = true;
        let mut before = Totals::default();
        loop {
            let over = tokio::time::timeout(every.0, &mut ended).await.is_ok();
            let now_ms = clock::now().wall_ms;
            let now = Totals::of(shared.tally.sum(), &shared.metrics);
            let gauges = Gauges::of(&shared.metrics.readings(now_ms), resident_bytes());
            let line = emf.line(now_ms, (&before, &now), Some(&gauges));
            let written = tokio::task::spawn_blocking(move || {
                emf::write(&mut std::io::stdout().lock(), &line, &mut open);
                open
            });
            open = written.await.unwrap_or(false);
            before = now;
            if over {
                return;
            }
        }
    });
    (running, task)
}

/// Whom the session of an assumed role is named after, where the configuration does not say. It stays
/// the same while this process runs.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("headwater-loader-{}", name.trim())
}

/// The output is there, its tables are as they should be, and the pipeline is stored in it.
pub(crate) async fn prepare(store: &Store, tables: &DynamoDb, plan: &Plan) -> anyhow::Result<()> {
    let mut backoff = Backoff::new(u64::from(std::process::id()));
    loop {
        let ready = async {
            store.check().await?;
            for table in plan.pipeline.items() {
                tables.check(table.file()).await?;
            }
            store_pipeline(store, &plan.pipeline, &plan.tables).await
        };
        match ready.await {
            Ok(()) => return Ok(()),
            Err(error @ StoreError::Later(_)) => {
                let wait = backoff.next_wait();
                tracing::warn!(%error, ?wait, "the output does not answer yet; trying again");
                tokio::time::sleep(wait).await;
            }
            Err(error) => {
                return Err(error).context("the output cannot be used; no record was read");
            }
        }
    }
}

/// One membership in the group, from joining to leaving.
async fn member(
    shared: &Arc<Shared>,
    cluster: &Arc<Cluster>,
    signals: &mut Signals,
    stop: &watch::Sender<bool>,
) -> anyhow::Result<Left> {
    let (sender, mut assigned) = mpsc::channel::<Assigned>(ASSIGNED);
    let ours = (Arc::clone(&shared.prefetch), Arc::clone(&shared.metrics));
    let member = match Member::join(&shared.plan, cluster, sender, ours) {
        Ok(member) => Arc::new(member),
        Err(ConsumerError::Again(reason)) => return Ok(Left::Again(reason)),
        Err(error) => return Err(error.into()),
    };
    tracing::info!(
        group = shared.plan.group,
        topic = shared.plan.kafka.topic,
        "joining the group"
    );
    let halt = Arc::new(AtomicBool::new(false));
    let hold = Arc::new(AtomicBool::new(false));
    let mut polling = poll_thread(&member, &halt, &hold, &shared.polled_ms)?;
    let mut workers: JoinSet<Ended> = JoinSet::new();
    let mut reports = tokio::time::interval(REPORT);
    let mut ending: Option<Ending> = None;
    let left = loop {
        let until = ending.as_ref().map(|ending| ending.until);
        let until = until.unwrap_or_else(|| tokio::time::Instant::now() + REPORT);
        tokio::select! {
            Some(assigned) = assigned.recv(), if ending.is_none() => {
                workers.spawn(worker::run(Arc::clone(shared), Arc::clone(&member) as _, assigned));
            }
            Some(ended) = workers.join_next(), if !workers.is_empty() => {
                let stops = ending.as_ref().is_some_and(Ending::stops);
                judge(ended, &member, stops);
            }
            polled = &mut polling => match polled {
                Ok(Ok(())) => break Ok(Left::Stopped),
                Ok(Err(ConsumerError::Again(reason))) => {
                    hold.store(true, Ordering::Release);
                    polling = poll_thread(&member, &halt, &hold, &shared.polled_ms)?;
                    if ending.is_none() {
                        member.finish();
                        ending = Some(in_doubt(reason, shared.plan.stop_grace.0));
                    }
                }
                Ok(Err(ConsumerError::Fatal(reason))) => break Err(anyhow::anyhow!(reason)),
                Err(_) => break Err(anyhow::anyhow!("the poll thread ended early")),
            },
            () = signals.next() => {
                hold.store(true, Ordering::Release);
                ending = Some(told_to_stop(ending.as_ref(), stop, shared.plan.stop_grace.0));
            }
            () = tokio::time::sleep_until(until), if ending.is_some() => {}
            _ = reports.tick() => report(shared, "so far"),
        }
        let now = tokio::time::Instant::now();
        let over = ending
            .as_ref()
            .and_then(|ending| ending.over(now, workers.len()));
        if let Some(over) = over
            && let Some(ending) = ending.take()
        {
            over.say();
            if ending.stops() {
                say_left(&member, &mut assigned);
            }
            break Ok(ending.left);
        }
    };
    halt.store(true, Ordering::Release);
    workers.shutdown().await;
    leave(member, polling).await;
    shared.metrics.joined(false);
    left
}

/// The membership is given up, and begun anew behind that.
fn in_doubt(reason: String, stop_grace: Duration) -> Ending {
    tracing::warn!(reason, "leaving the group: writing what is open");
    Ending::within(FINISH.min(stop_grace), Left::Again(reason))
}

/// The first time what is open is written, the second time nothing more.
fn told_to_stop(
    before: Option<&Ending>,
    stop: &watch::Sender<bool>,
    stop_grace: Duration,
) -> Ending {
    if before.is_some_and(Ending::stops) {
        tracing::warn!("told to stop twice: ending at once; what was not committed is read again");
        std::process::exit(130);
    }
    tracing::info!("stopping: writing what is open");
    stop.send_replace(true);
    Ending::within(stop_grace, Left::Stopped)
}

/// What the end of a worker means for the membership. Nothing that a single partition meets ends the loader:
/// the next one that is given the partition would end by it, too. `stops`: this process takes it up no more.
fn judge(ended: Result<Ended, JoinError>, member: &Member, stops: bool) {
    match ended {
        Ok(Ended::Revoked | Ended::Finished) => {}
        Ok(Ended::Unfinished(partition)) if !stops => {
            tracing::debug!(partition, "a begun batch goes with its partition");
        }
        Ok(Ended::Unfinished(partition)) => say_begun(partition),
        Ok(Ended::Lost(reason) | Ended::Stopped(reason)) => {
            tracing::warn!(reason, "a partition has to be read again");
            member.give_up();
        }
        Err(error) => {
            tracing::error!(%error, "a worker ended early; its partition has to be read again");
            member.give_up();
        }
    }
}

type Polling = oneshot::Receiver<Result<(), ConsumerError>>;

fn poll_thread(
    member: &Arc<Member>,
    halt: &Arc<AtomicBool>,
    hold: &Arc<AtomicBool>,
    polled_ms: &Arc<AtomicU64>,
) -> anyhow::Result<Polling> {
    let (ended, polling) = oneshot::channel();
    let (member, halt, hold) = (Arc::clone(member), Arc::clone(halt), Arc::clone(hold));
    let polled_ms = Arc::clone(polled_ms);
    std::thread::Builder::new()
        .name("poll".into())
        .spawn(move || {
            let polled = member.poll(&halt, &hold, &polled_ms);
            polled_ms.store(0, Ordering::Release);
            drop(member);
            if ended.send(polled).is_err() {
                tracing::debug!("nobody waits for the poll thread any more");
            }
        })
        .context("cannot start the poll thread")?;
    Ok(polling)
}

/// Leaves the group: the gate is shut first, so that nothing is committed behind our back. Only who has the member
/// last leaves, and it has to be this: the process may end behind it.
async fn leave(member: Arc<Member>, mut polling: Polling) {
    let closed = tokio::task::spawn_blocking(move || {
        for _ in 0..POLL_LOOKS {
            if !matches!(polling.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
                break;
            }
            std::thread::sleep(LOOK);
        }
        member.close_gate();
        match alone(member, LET_GO_LOOKS) {
            Some(member) => drop(member),
            None => tracing::warn!(
                "the broker does not answer a question about a partition: the group is left behind it"
            ),
        }
    });
    if tokio::time::timeout(LEAVE, closed).await.is_err() {
        tracing::warn!(
            "the group did not answer; the broker will notice by the session's time-out"
        );
    }
}

/// What nobody else has any more. None after so many looks: whoever has it last drops it.
fn alone<T>(mut shared: Arc<T>, looks: u32) -> Option<T> {
    for _ in 0..looks {
        match Arc::try_unwrap(shared) {
            Ok(own) => return Some(own),
            Err(others_too) => shared = others_too,
        }
        std::thread::sleep(LOOK);
    }
    Arc::into_inner(shared)
}

fn report(shared: &Shared, when: &str) {
    let sum = shared.tally.sum();
    if sum.records > 0 {
        tracing::info!(
            records = sum.records,
            bytes = sum.bytes,
            rows = sum.rows,
            dead_letters = sum.dead_letters,
            filtered = sum.filtered,
            aggregated = sum.aggregated,
            windows = sum.windows,
            duplicates = sum.duplicates,
            overlaps = sum.overlaps,
            notices = sum.notices,
            refused = sum.refused,
            unparsed = sum.unparsed,
            "{when}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_workers_were_cut_off_is_said_whatever_ends_the_wait() {
        let ends = |left| Ending::within(Duration::ZERO, left);
        let (stop, again) = (ends(Left::Stopped), ends(Left::Again("a doubt".to_owned())));
        let before = stop.until.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(stop.over(before, 1), None);
        assert_eq!(stop.over(before, 0), Some(Over::Written));
        assert_eq!(stop.over(stop.until, 0), Some(Over::Written));
        let cut_off = stop.over(stop.until, 1);
        assert_eq!(cut_off, Some(Over::CutOff("the stop took")));
        assert!(matches!(
            again.over(again.until, 1),
            Some(Over::CutOff(what)) if what != "the stop took"
        ));
    }

    #[test]
    fn a_member_that_somebody_still_asks_is_waited_for() {
        let member = Arc::new("the member");
        let asks = Arc::clone(&member);
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let answer: Result<(), _> = answered.recv();
                drop(asks);
                answer.unwrap();
            });
            assert!(alone(Arc::clone(&member), 2).is_none(), "not for ever");
            answer.send(()).unwrap();
            assert_eq!(alone(member, 3000), Some("the member"));
        });
    }

    #[test]
    fn a_membership_that_held_makes_the_next_wait_short_again() {
        let mut rejoin = Rejoin::new(7);
        let short = Duration::from_millis(500);
        let in_a_row: Vec<Duration> = (0..20).map(|_| rejoin.wait_behind(HELD_MS - 1)).collect();
        assert!(in_a_row.iter().any(|wait| *wait > 10 * short));
        assert!(rejoin.wait_behind(HELD_MS) < short);
        let again: Vec<Duration> = (0..20).map(|_| rejoin.wait_behind(0)).collect();
        assert!(again.iter().any(|wait| *wait > 10 * short));
    }
}
