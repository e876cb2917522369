//! Starts the parts, watches them, and stops them in order: no more records, what is open written
//! and committed, then out of the group.

mod admission;
mod ending;
mod membership;
mod telling;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use headwater_msk::Cluster;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::clock;
use crate::config::{Output, Plan};
use crate::consume::prefetch::Prefetch;
use crate::http;
use crate::metrics::{Metrics, Requests};
use crate::recover::{Pipelines, store_pipeline};
use crate::staging::{Staging, Tally};
use crate::status::Status;
use crate::store::dynamodb::DynamoDb;
use crate::store::folder::Folder;
use crate::store::s3::S3;
use crate::store::{Retries, Store, StoreError};
use crate::supervise::admission::Admission;
use crate::supervise::ending::{Left, Rejoin};
use crate::supervise::membership::member;
use crate::supervise::telling::{report, tell_cloudwatch};
use crate::tables::keep_fresh;
use crate::worker::{self, Shared};

/// How long standard output may take the last metrics at a stop.
const EMF_PATIENCE: Duration = Duration::from_secs(2);

/// Opens the output that a plan names. What is asked of it is counted in `requests`.
pub async fn open_store(output: &Output, retries: Retries, requests: &Requests) -> Store {
    match output {
        Output::S3(settings) => Store::S3(Box::new(
            S3::new(settings.as_ref().clone(), retries, requests).await,
        )),
        Output::Folder(root) => Store::Folder(Folder::new(root.clone())),
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
    let flushed = flushes()?;
    let cluster = Cluster::open(&plan.kafka, &plan.credentials, &host_name())?;
    let metrics = Arc::<Metrics>::default();
    let store = open_store(&plan.output, Retries::Caller, &metrics.requests).await;
    let tables = DynamoDb::new(plan.dynamodb.clone(), metrics.requests.clone());
    let tables = Arc::new(tables);
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
        metrics,
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
    stay(&shared, &cluster, &mut signals, &stop).await?;
    report(&shared, "stopped");
    drop(told);
    if tokio::time::timeout(EMF_PATIENCE, emf).await.is_err() {
        tracing::warn!("emf: standard output did not take the last metrics");
    }
    Ok(())
}

/// Is a member of the group, one time after the other, until it is told to stop.
async fn stay(
    shared: &Arc<Shared>,
    cluster: &Arc<Cluster>,
    signals: &mut Signals,
    stop: &watch::Sender<bool>,
) -> anyhow::Result<()> {
    let mut rejoin = Rejoin::new(u64::from(std::process::id()));
    let mut admission = Admission::new(cluster);
    loop {
        let joined_ms = clock::now().mono_ms;
        let of = (cluster, &mut admission);
        match member(shared, of, signals, stop).await? {
            Left::Stopped => return Ok(()),
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
                    return Ok(());
                }
            }
        }
    }
}

/// Says that nobody looked what a crash left: what was begun is known of an assignment.
fn say_unknown(when: &str) {
    tracing::warn!("{when}: it may be that a begun batch waits to be finished");
}

/// What changes with each SIGUSR1.
fn flushes() -> anyhow::Result<watch::Receiver<u64>> {
    let usr1 = signal(SignalKind::user_defined1()).context("cannot listen for SIGUSR1")?;
    let (flush, flushed) = watch::channel(0);
    tokio::spawn(pass_on(usr1, flush));
    Ok(flushed)
}

/// Tells all workers of each SIGUSR1.
async fn pass_on(mut usr1: Signal, flush: watch::Sender<u64>) {
    while usr1.recv().await.is_some() {
        tracing::info!("told to flush: open batches are closed and written");
        flush.send_modify(|times| *times += 1);
    }
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
