//! One partition's edge: it hands the records to [`Partition`] and performs what that asks for, one
//! action at a time. No decision is made here but when to try again.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::backoff::Backoff;
use crate::books::markers_first;
use crate::clock;
use crate::config::Plan;
use crate::consume::prefetch::Prefetch;
use crate::consume::{Assigned, Commit, CommitError, HandOver};
use crate::crash;
use crate::items::write::{Patience, write_all};
use crate::metrics::Metrics;
use crate::name::state_folder;
use crate::partition::batch::Object;
use crate::partition::intent::Committed;
use crate::partition::{Action, Event, Partition};
use crate::pipeline::Pipeline;
use crate::recover::{RecoverError, recover};
use crate::staging::{Begun, Holding, Room, Staging, Tally};
use crate::status::Status;
use crate::status::devices::Devices;
use crate::store::dynamodb::DynamoDb;
use crate::store::{Store, StoreError, plain_content};

/// How often a worker looks whether its partition was taken away, while it waits for something else.
const LOOK: Duration = Duration::from_millis(500);
/// How long a partition of which too little is known waits before the membership is given up for it.
const STAND_BY_MS: u64 = 300_000;
/// How often a worker looks through its ledger for the status page, milliseconds.
const DEVICES_EVERY_MS: u64 = 10_000;
/// Objects of one batch that are under way at once.
const UPLOADS: usize = 8;

/// What every worker has.
pub struct Shared {
    /// The plan.
    pub plan: Plan,
    /// What makes the next batches: the plan's, until a table changes.
    pub pipeline: watch::Receiver<Arc<Pipeline>>,
    /// The output.
    pub store: Store,
    /// DynamoDB, where a pipeline has tables there.
    pub tables: Arc<DynamoDb>,
    /// Memory of all batches.
    pub staging: Staging,
    /// Memory of what was fetched and not yet taken in.
    pub prefetch: Arc<Prefetch>,
    /// What became of records.
    pub tally: Tally,
    /// The same, and more, for Prometheus.
    pub metrics: Arc<Metrics>,
    /// What the status page shows.
    pub status: Status,
    /// When the poll thread last looked up, monotonic milliseconds; 0 while there is none.
    pub polled_ms: Arc<AtomicU64>,
    /// Set once: close what is open and end.
    pub stop: watch::Receiver<bool>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Why a worker ended.
#[derive(Debug)]
pub enum Ended {
    /// The partition was taken away.
    Revoked,
    /// It was told to stop, and everything that it took is committed.
    Finished,
    /// A doubt: the membership has to be given up and the partition read again.
    Lost(String),
    /// Only a person can help.
    Fatal(String),
}

/// Runs one partition until it ends.
pub async fn run(shared: Arc<Shared>, member: Arc<dyn Commit>, assigned: Assigned) -> Ended {
    let partition = assigned.partition;
    let ended = match take_up(&shared, &assigned).await {
        Ok(machine) => {
            let begun = match machine.is_replaying() {
                true => Begun::Reading,
                false => Begun::No,
            };
            let mut worker = Worker {
                begun,
                shared: Arc::clone(&shared),
                member,
                assigned,
                machine,
                pending: None,
                under_way: None,
                devices_ms: None,
                said_full: false,
            };
            let ended = worker.work().await;
            if let Some(task) = worker.under_way.take() {
                task.abort();
            }
            ended
        }
        Err(ended) => ended,
    };
    shared.staging.hold(partition, Holding::default());
    shared.metrics.stands(partition, None);
    shared.status.devices(partition, None);
    ended
}

/// Waits for a new assignment, which knows more; after a while gives up the membership for it. The other
/// partitions are loaded meanwhile.
async fn stand_by(shared: &Shared, assigned: &Assigned, reason: String) -> Ended {
    let until_ms = clock::now().mono_ms.saturating_add(STAND_BY_MS);
    while clock::now().mono_ms < until_ms {
        if assigned.records.is_closed() {
            return Ended::Revoked;
        }
        if *shared.stop.borrow() {
            return Ended::Finished;
        }
        tokio::time::sleep(LOOK).await;
    }
    Ended::Lost(reason)
}

/// Recovers the partition; what may work later is tried again until the partition is taken away.
async fn take_up(shared: &Shared, assigned: &Assigned) -> Result<Partition, Ended> {
    let mut backoff = Backoff::new(assigned.epoch);
    let committed = assigned.committed.as_ref();
    loop {
        let recovered = recover(
            &shared.plan,
            &shared.store,
            assigned.partition,
            committed,
            (assigned.low, assigned.end),
        )
        .await;
        match recovered {
            Ok((machine, from)) => {
                tracing::info!(partition = assigned.partition, from, "partition taken up");
                return Ok(machine);
            }
            Err(RecoverError::Store(error @ (StoreError::Later(_) | StoreError::Refused(_)))) => {
                let wait = backoff.next_wait();
                tracing::warn!(partition = assigned.partition, %error, ?wait, "the state cannot be read yet; trying again");
                tokio::time::sleep(wait).await;
            }
            Err(error @ RecoverError::EndUnknown(_)) => {
                tracing::warn!("{error}");
                return Err(stand_by(shared, assigned, error.to_string()).await);
            }
            Err(error) => return Err(Ended::Fatal(error.to_string())),
        }
        if assigned.records.is_closed() {
            return Err(Ended::Revoked);
        }
        if *shared.stop.borrow() {
            return Err(Ended::Finished);
        }
    }
}

/// Says that a partition's ledger takes in no more streams.
pub fn say_full(partition: i32) {
    tracing::warn!(
        partition,
        "the ledger has no room for new streams (limits.ledger): their records are stored, and re-sends of them \
         are stored again; metrics and audit count them. Raise limits.ledger, or find out who makes up streams \
         (audit --by device)"
    );
}

struct Worker {
    shared: Arc<Shared>,
    member: Arc<dyn Commit>,
    assigned: Assigned,
    machine: Partition,
    /// Records that were received, and how many of them the machine has taken.
    pending: Option<(HandOver, usize)>,
    under_way: Option<JoinHandle<Result<(), Ended>>>,
    /// When the devices were last looked through, monotonic milliseconds.
    devices_ms: Option<u64>,
    /// Whether it was said that the ledger is full.
    said_full: bool,
    /// How far it is with the batch that it was taken up with.
    begun: Begun,
}

impl Worker {
    async fn work(&mut self) -> Ended {
        let mut stop = self.shared.stop.clone();
        loop {
            if let Err(ended) = self.feed() {
                return ended;
            }
            self.start_actions();
            if self.machine.is_finished() && self.under_way.is_none() {
                return Ended::Finished;
            }
            let event = match self.wait(&mut stop).await {
                Ok(event) => event,
                Err(ended) => return ended,
            };
            if let Some(event) = event
                && let Err(error) = self.machine.apply(event, clock::now())
            {
                return Ended::Lost(error.to_string());
            }
        }
    }

    /// Gives the machine what was received, as far as it takes it.
    fn feed(&mut self) -> Result<(), Ended> {
        use crate::partition::PartitionError;
        let end = |error: PartitionError| match error {
            PartitionError::RecordsGone { .. } => Ended::Fatal(error.to_string()),
            PartitionError::Encode(_) | PartitionError::State(_) => Ended::Lost(error.to_string()),
        };
        self.machine.use_pipeline(&self.shared.pipeline.borrow());
        if let Some((handed, at)) = &mut self.pending {
            *at += self
                .machine
                .take(&handed.fetched, *at, clock::now())
                .map_err(end)?;
            if *at >= handed.fetched.entries.len() {
                self.pending = None;
            }
        }
        // One that closes already has nothing to give.
        if self.room() == Room::CloseYours && self.machine.closing().is_none() {
            self.machine
                .apply(Event::Pressure, clock::now())
                .map_err(end)?;
            let closes = self.machine.closing().is_some();
            self.shared.metrics.pressed.inc_by(u64::from(closes));
        }
        for counts in self.machine.take_counts() {
            if counts.unaccounted > 0 && !std::mem::replace(&mut self.said_full, true) {
                say_full(self.assigned.partition);
            }
            self.shared.tally.add(&counts);
            self.shared.metrics.count(&counts);
        }
        let rejects = self.machine.take_rejects();
        self.shared.metrics.rejected(&rejects);
        self.shared
            .status
            .rejected(self.assigned.partition, rejects);
        self.look_at_devices();
        let standing = self.machine.standing();
        self.shared
            .metrics
            .stands(self.assigned.partition, Some(standing));
        Ok(())
    }

    /// Looks through the ledger for the status page, where there is one, every now and then: it takes
    /// as long as there are streams.
    fn look_at_devices(&mut self) {
        let now_ms = clock::now().mono_ms;
        let due = self
            .devices_ms
            .is_none_or(|last| now_ms.saturating_sub(last) >= DEVICES_EVERY_MS);
        if due && self.shared.plan.listen.is_some() {
            let devices = Devices::of(self.machine.ledger());
            let partition = self.assigned.partition;
            self.shared.status.devices(partition, Some(devices));
            self.devices_ms = Some(now_ms);
        }
    }

    fn room(&mut self) -> Room {
        let closes = self.machine.closing().is_some();
        self.begun = match self.begun {
            Begun::No => Begun::No,
            _ if self.machine.is_replaying() => Begun::Reading,
            _ if closes => Begun::Closing,
            _ => Begun::No,
        };
        let holding = Holding {
            bytes: self.machine.held(),
            begun: self.begun,
        };
        self.shared.staging.hold(self.assigned.partition, holding)
    }

    fn start_actions(&mut self) {
        while self.under_way.is_none()
            && let Some(action) = self.machine.next_action()
        {
            let shared = Arc::clone(&self.shared);
            let folder = state_folder(&shared.plan.kafka.topic, self.assigned.partition);
            match action {
                Action::RemoveSnapshot(name) => {
                    tokio::spawn(async move {
                        if let Err(error) = shared.store.remove(&format!("{folder}{name}")).await {
                            tracing::debug!(%error, "an old snapshot stays; it does no harm");
                        }
                    });
                }
                Action::Commit(committed) => {
                    let (member, partition, epoch) = (
                        Arc::clone(&self.member),
                        self.assigned.partition,
                        self.assigned.epoch,
                    );
                    self.under_way = Some(tokio::task::spawn_blocking(move || {
                        commit(&*member, partition, epoch, &committed)
                    }));
                }
                Action::Upload(objects) => {
                    let seed = self.assigned.epoch;
                    self.under_way =
                        Some(tokio::spawn(
                            async move { upload(shared, objects, seed).await },
                        ));
                }
                Action::WriteItems(items) => {
                    let seed = self.assigned.epoch;
                    self.under_way = Some(tokio::spawn(async move {
                        let counts = &shared.metrics.items;
                        write_all(&shared.tables, &items, counts, Patience::Endless, seed)
                            .await
                            .map_err(|error| Ended::Lost(error.to_string()))
                    }));
                }
                Action::Publish(objects) => {
                    let seed = self.assigned.epoch;
                    self.under_way =
                        Some(tokio::spawn(
                            async move { publish(shared, objects, seed).await },
                        ));
                }
                Action::StoreSnapshot { name, bytes } => {
                    let seed = self.assigned.epoch;
                    self.under_way = Some(tokio::spawn(async move {
                        let content = plain_content(&bytes);
                        let object = Object {
                            key: format!("{folder}{name}"),
                            bytes,
                            content,
                        };
                        put(&shared, &object, seed).await?;
                        crash::point("snapshot-stored");
                        Ok(())
                    }));
                }
            }
        }
    }

    /// Waits for whatever comes first.
    async fn wait(&mut self, stop: &mut watch::Receiver<bool>) -> Result<Option<Event>, Ended> {
        let may_read = self.room() == Room::Free;
        let hungry = self.pending.is_none() && self.machine.has_room() && may_read;
        let now = clock::now().mono_ms;
        let deadline = self.machine.next_deadline().map_or(LOOK, |deadline| {
            LOOK.min(Duration::from_millis(deadline.saturating_sub(now)))
        });
        let stopped = *stop.borrow();
        tokio::select! {
            done = async { self.under_way.as_mut().expect("guarded below").await }, if self.under_way.is_some() => {
                self.under_way = None;
                match done {
                    Ok(Ok(())) => Ok(Some(Event::ActionDone)),
                    Ok(Err(ended)) => Err(ended),
                    Err(error) => Err(Ended::Lost(format!("a task ended early: {error}"))),
                }
            }
            fetched = self.assigned.records.recv(), if hungry => match fetched {
                Some(handed) => {
                    self.pending = Some((handed, 0));
                    Ok(None)
                }
                None => Err(Ended::Revoked),
            },
            _ = stop.changed(), if !stopped => Ok(Some(Event::Stop)),
            () = tokio::time::sleep(deadline) => {
                if self.assigned.records.is_closed() {
                    return Err(Ended::Revoked);
                }
                Ok(Some(if stopped { Event::Stop } else { Event::Tick }))
            }
        }
    }
}

fn commit(
    member: &dyn Commit,
    partition: i32,
    epoch: u64,
    committed: &Committed,
) -> Result<(), Ended> {
    let begins = committed.intent.is_some();
    crash::point(if begins {
        "before-intent"
    } else {
        "before-done"
    });
    match member.commit(partition, epoch, committed) {
        Ok(()) => {
            crash::point(if begins {
                "intent-committed"
            } else {
                "done-committed"
            });
            Ok(())
        }
        Err(CommitError::NotOurs) => Err(Ended::Revoked),
        Err(error @ CommitError::Refused { .. }) => Err(Ended::Lost(error.to_string())),
    }
}

async fn upload(shared: Arc<Shared>, objects: Arc<Vec<Object>>, seed: u64) -> Result<(), Ended> {
    let mut tasks = JoinSet::new();
    for at in 0..objects.len() {
        if tasks.len() >= UPLOADS {
            join_one(&mut tasks).await?;
        }
        let (shared, objects) = (Arc::clone(&shared), Arc::clone(&objects));
        tasks.spawn(async move {
            put(&shared, &objects[at], seed + at as u64).await?;
            shared.metrics.objects.inc();
            shared
                .metrics
                .object_bytes
                .inc_by(objects[at].bytes.len() as u64);
            Ok(())
        });
        crash::point("object-under-way");
    }
    while !tasks.is_empty() {
        join_one(&mut tasks).await?;
        crash::point("object-stored");
    }
    crash::point("batch-stored");
    Ok(())
}

/// Stores markers and accounts. Where something else lies, another lineage wrote it (the group's offset was
/// set back, or the topic made anew): it stays, and is no reason to stop loading.
async fn publish(shared: Arc<Shared>, objects: Arc<Vec<Object>>, seed: u64) -> Result<(), Ended> {
    crash::point("before-publish");
    let (markers, accounts) = markers_first(&objects);
    for (at, marker) in markers.iter().enumerate() {
        say(&shared, marker, seed + at as u64).await;
        crash::point("publish-under-way");
    }
    let mut tasks = JoinSet::new();
    for (at, account) in accounts.iter().enumerate() {
        if tasks.len() >= UPLOADS {
            join_one(&mut tasks).await?;
        }
        let (shared, account) = (Arc::clone(&shared), account.clone());
        tasks.spawn(async move {
            say(&shared, &account, seed + at as u64).await;
            Ok(())
        });
        crash::point("publish-under-way");
    }
    while !tasks.is_empty() {
        join_one(&mut tasks).await?;
    }
    crash::point("published");
    Ok(())
}

/// Stores one marker or account; what was said before stays.
async fn say(shared: &Shared, object: &Object, seed: u64) {
    match put(shared, object, seed).await {
        Ok(()) => shared.metrics.published.inc(),
        Err(TakenName(error)) => {
            shared.metrics.publish_conflicts.inc();
            tracing::warn!("an account was written before by another lineage, and stays: {error}");
            0
        }
    };
}

async fn join_one(tasks: &mut JoinSet<Result<(), Ended>>) -> Result<(), Ended> {
    match tasks.join_next().await {
        None => Ok(()),
        Some(Ok(done)) => done,
        Some(Err(error)) => Err(Ended::Lost(format!("an upload ended early: {error}"))),
    }
}

/// Something else lies under an object's name; what it is.
struct TakenName(String);

impl From<TakenName> for Ended {
    fn from(TakenName(error): TakenName) -> Self {
        Self::Fatal(error)
    }
}

/// Stores an object, for as long as it takes: while the output is down nothing else could be done,
/// and the offset stays where it is.
async fn put(shared: &Shared, object: &Object, seed: u64) -> Result<(), TakenName> {
    let mut backoff = Backoff::new(seed);
    loop {
        match shared
            .store
            .put_new(&object.key, object.bytes.clone(), object.content)
            .await
        {
            Ok(_) => return Ok(()),
            Err(error @ (StoreError::Conflict { .. } | StoreError::Changed(_))) => {
                return Err(TakenName(error.to_string()));
            }
            Err(error @ (StoreError::Later(_) | StoreError::Refused(_))) => {
                let wait = backoff.next_wait();
                shared.metrics.retries.inc();
                tracing::warn!(%error, ?wait, "not stored yet; trying again, the offset stays where it is");
                tokio::time::sleep(wait).await;
            }
        }
    }
}
