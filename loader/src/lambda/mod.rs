//! `headwater-loader lambda`: the same pipeline behind a Kafka trigger of AWS Lambda. The binary is
//! the function's `bootstrap` (runtime provided.al2023).
//!
//! Exactly once there, too, though Lambda hands over a batch at least once, again after a failure, and
//! in halves: see [`partition`].
//!
//! An invocation whose records could not all be stored **fails as a whole**, and Lambda hands it over
//! again; what was stored is found stored. With `[lambda] report_batch_item_failures` it names the
//! partitions and the offsets from which to go on instead. That has to be switched on at the trigger
//! too (`ReportBatchItemFailures`): a trigger that does not know it would take the answer for a
//! success, and the records would be lost.

pub mod event;
pub mod head;
pub mod partition;
pub mod runtime;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::json;
use tokio::task::JoinSet;

use self::event::parse;
use self::partition::{Loaded, Means};
use self::runtime::{Invocation, Runtime};
use crate::books::Daily;
use crate::clock;
use crate::config::{Output, Plan};
use crate::emf::{self, Totals};
use crate::fetched::Fetched;
use crate::metrics::{ItemCounts, RequestSums, Requests};
use crate::pipeline::Pipeline;
use crate::store::dynamodb::DynamoDb;
use crate::store::{Retries, Store};
use crate::supervise::{open_store, prepare};
use crate::tables::Versions;

/// Time before the deadline that is left for the answer.
const MARGIN_MS: u64 = 500;
/// Reading tables again takes one part in so many of the time that is left, at most.
const RELOAD_SHARE: u64 = 4;

/// What every invocation has.
#[derive(Debug)]
struct Function {
    plan: Plan,
    store: Arc<Store>,
    tables: Arc<DynamoDb>,
    /// What was asked of them.
    requests: Requests,
}

/// The pipeline over the tables as they are now, as far as that is known.
#[derive(Debug)]
struct Fresh {
    pipeline: Arc<Pipeline>,
    versions: Versions,
    /// When they were last read, Unix milliseconds.
    read_ms: u64,
}

impl Fresh {
    fn new(plan: &Plan) -> Self {
        Self {
            pipeline: Arc::clone(&plan.pipeline),
            versions: Versions::new(plan),
            read_ms: clock::now().wall_ms,
        }
    }

    /// Reads the tables again where their time has come: between invocations nothing runs. What takes
    /// longer than its share of the time that is left, or cannot be read, leaves them as they are.
    async fn refresh(&mut self, function: &Function, invocation: &Invocation) {
        let now_ms = clock::now().wall_ms;
        let Some(every) = function.plan.table_reload else {
            return;
        };
        if now_ms.saturating_sub(self.read_ms) < every.as_millis() {
            return;
        }
        self.read_ms = now_ms;
        let share = invocation.deadline_ms.saturating_sub(now_ms) / RELOAD_SHARE;
        let sources = (&function.plan.table_sources, &function.requests);
        let read = (self.versions).read_again(sources, &function.store, &self.pipeline);
        let reason = match tokio::time::timeout(Duration::from_millis(share), read).await {
            Ok(Ok(None)) => return,
            Ok(Ok(Some(pipeline))) => {
                tracing::info!(
                    pipeline = pipeline.hash(),
                    "a table has changed; this invocation uses it"
                );
                self.pipeline = pipeline;
                return;
            }
            Ok(Err(reason)) => reason,
            Err(_) => "it took too long".to_owned(),
        };
        tracing::warn!(
            reason,
            "a table cannot be read again; the one from before stays"
        );
    }
}

/// Answers invocations until the environment ends.
///
/// # Errors
/// It cannot start, or the runtime API is gone.
pub async fn run(plan: Plan, api: &str) -> anyhow::Result<()> {
    let runtime = Runtime::new(api);
    let function = match start(plan).await {
        Ok(function) => Arc::new(function),
        Err(error) => {
            runtime.cannot_start(&format!("{error:#}")).await?;
            return Err(error);
        }
    };
    let mut fresh = Fresh::new(&function.plan);
    let mut told = RequestSums::default();
    loop {
        let invocation = runtime.next().await?;
        fresh.refresh(&function, &invocation).await;
        match answer(&function, &fresh.pipeline, &invocation, &mut told).await {
            Ok(answer) => runtime.respond(&invocation, answer).await?,
            Err(error) => {
                tracing::error!("{error:#}; Lambda hands the records over again");
                runtime.fail(&invocation, &format!("{error:#}")).await?;
            }
        }
    }
}

async fn start(plan: Plan) -> anyhow::Result<Function> {
    let Output::S3(settings) = &plan.output else {
        bail!("output.url: a function stores in s3://, since its own disk is not kept");
    };
    ensure!(
        settings.options.conditional,
        "output.s3.conditional_writes: a function needs a store that knows If-Match"
    );
    ensure!(
        plan.pipeline.spec().accounts.daily != Some(Daily::Device),
        "accounts.daily = \"device\": what is due at the end of a day has to be written before the next record is \
         stored, and an object for each device may take longer than an invocation has: take \"partition\""
    );
    let requests = Requests::default();
    let store = Arc::new(open_store(&plan.output, Retries::Caller, &requests).await);
    let tables = Arc::new(DynamoDb::new(plan.dynamodb.clone(), requests.clone()));
    prepare(&store, &tables, &plan).await?;
    Ok(Function {
        plan,
        store,
        tables,
        requests,
    })
}

/// Stores an event's records, its partitions side by side, and says what came of it. `told`: the requests that
/// metrics have told.
async fn answer(
    function: &Arc<Function>,
    pipeline: &Arc<Pipeline>,
    invocation: &Invocation,
    told: &mut RequestSums,
) -> anyhow::Result<String> {
    let items = ItemCounts::default();
    let left = invocation
        .deadline_ms
        .saturating_sub(clock::now().wall_ms + MARGIN_MS);
    let mut loads = JoinSet::new();
    for (id, fetched) in parse(&invocation.event, &function.plan.kafka.topic)? {
        let (function, pipeline) = (Arc::clone(function), Arc::clone(pipeline));
        let items = items.clone();
        loads.spawn(async move {
            let means = Means {
                plan: &function.plan,
                pipeline: &pipeline,
                store: &function.store,
                tables: &function.tables,
                items: &items,
            };
            let load = partition::load(means, id, &fetched);
            let loaded = match tokio::time::timeout(Duration::from_millis(left), load).await {
                Ok(loaded) => loaded.map_err(anyhow::Error::from),
                Err(_) => Err(anyhow!("the function's time-out is near")),
            };
            (id, fetched, loaded)
        });
    }
    let mut failed: BTreeMap<i32, (Fetched, anyhow::Error)> = BTreeMap::new();
    let mut sum = Totals::default();
    while let Some(load) = loads.join_next().await {
        let (id, fetched, loaded) = load.context("a partition's task ended early")?;
        match loaded {
            Ok(loaded) => {
                say(id, &loaded);
                sum.counts = sum.counts.plus(&loaded.counts);
                sum.objects += loaded.objects.0;
                sum.object_bytes += loaded.objects.1;
            }
            Err(error) => {
                failed.insert(id, (fetched, error));
            }
        }
    }
    sum.items = items.sums();
    if let Some((emf, _)) = &function.plan.emf {
        let requests = function.requests.sums();
        sum.requests = requests.since(told);
        *told = requests;
        let line = emf.line(clock::now().wall_ms, (&Totals::default(), &sum), None);
        let write = move || emf::write(&mut std::io::stdout().lock(), &line, &mut true);
        tokio::task::spawn_blocking(write).await?;
    }
    if failed.is_empty() || function.plan.report_batch_item_failures {
        return failures(function, failed).await;
    }
    let errors = failed
        .iter()
        .map(|(id, (_, error))| format!("partition {id}: {error:#}"));
    bail!("{}", errors.collect::<Vec<_>>().join("; "))
}

fn say(partition: i32, loaded: &Loaded) {
    tracing::info!(
        partition,
        offset = loaded.offset,
        records = loaded.counts.records,
        rows = loaded.counts.rows,
        dead_letters = loaded.counts.dead_letters,
        duplicates = loaded.counts.duplicates,
        "loaded"
    );
}

/// An answer that names what failed.
async fn failures(
    function: &Function,
    failed: BTreeMap<i32, (Fetched, anyhow::Error)>,
) -> anyhow::Result<String> {
    let mut items = Vec::new();
    for (id, (fetched, error)) in failed {
        tracing::error!(
            partition = id,
            "{error:#}; Lambda hands its records over again"
        );
        let from = partition::resume_from(&function.plan, &function.store, id, &fetched)
            .await
            .with_context(|| format!("partition {id}: how far it is cannot be read"))?;
        if let Some(from) = from {
            let partition = format!("{}-{id}", function.plan.kafka.topic);
            items.push(json!({ "itemIdentifier": { "partition": partition, "offset": from } }));
        }
    }
    Ok(json!({ "batchItemFailures": items }).to_string())
}
