//! One partition's edge: it hands the records to [`Partition`] and performs what that asks for, one
//! action at a time. No decision is made here but when to try again.

mod guard;
mod perform;
mod seat;
mod take_up;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock;
use crate::config::Plan;
use crate::consume::prefetch::Prefetch;
use crate::consume::tenure::Call;
use crate::consume::{Assigned, Commit, HandOver};
use crate::crash;
use crate::items::write::{Patience, write_all};
use crate::metrics::Metrics;
use crate::name::state_folder;
use crate::partition::batch::Object;
use crate::partition::{Action, Event, Partition, PartitionError};
use crate::pipeline::Pipeline;
use crate::recover::Pipelines;
use crate::staging::{Begun, Holding, Room, Staging, Tally};
use crate::status::Status;
use crate::status::devices::Devices;
use crate::store::dynamodb::DynamoDb;
use crate::store::{Store, plain_content};
use crate::worker::guard::Guard;
use crate::worker::perform::{commit, publish, put, upload};
use crate::worker::seat::Seat;
use crate::worker::take_up::{stand_by, take_up};

/// Longest time between two looks at the clock.
const LOOK: Duration = Duration::from_millis(500);
/// How long an output refuses before that is more than a moment's: a token that ran out, rights that are changed.
pub const REFUSAL_LASTS: Duration = Duration::from_secs(60);
/// How often a worker looks through its ledger for the status page, milliseconds.
const DEVICES_EVERY_MS: u64 = 10_000;

/// What every worker has.
pub struct Shared {
    /// The plan.
    pub plan: Plan,
    /// What makes the next batches: the plan's, until a table changes.
    pub pipeline: watch::Receiver<Arc<Pipeline>>,
    /// Those that something is made with.
    pub pipelines: Pipelines,
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
    /// How long an output refuses what it will go on to refuse: [`REFUSAL_LASTS`].
    pub refusal_lasts: Duration,
    /// Changes each time that what is open is to be closed at once.
    pub flush: watch::Receiver<u64>,
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
    /// It was told to stop, and a batch of this partition that was begun waits for whoever comes next.
    Unfinished(i32),
    /// A doubt: the membership has to be given up and the partition read again.
    Lost(String),
    /// A trouble of this partition alone, that time or a person may mend.
    Stopped(String),
}

/// Runs one partition until it ends, or is dropped. Either way nothing of it is left: no task that writes on,
/// no byte in the memory bound, no line on the board. What troubles this partition alone stops it alone.
pub async fn run(shared: Arc<Shared>, member: Arc<dyn Commit>, mut assigned: Assigned) -> Ended {
    // What is declared first is dropped last.
    let seat = Seat::take(&shared, &assigned);
    let loading = load(&seat, &shared, &member, &mut assigned);
    let ended = match caught(&seat, loading).await {
        Ended::Stopped(reason) => stand_by(&seat, &shared, &member, assigned, reason).await,
        ended => ended,
    };
    match ended {
        Ended::Finished if seat.has_begun() => Ended::Unfinished(seat.who.0),
        ended => ended,
    }
}

/// Takes a partition up, and loads it.
async fn load(
    seat: &Seat<'_>,
    shared: &Arc<Shared>,
    member: &Arc<dyn Commit>,
    assigned: &mut Assigned,
) -> Ended {
    let (machine, first) = match take_up(seat, shared, member, assigned).await {
        Ok(taken) => taken,
        Err(ended) => return ended,
    };
    let begun = match machine.is_replaying() {
        true => Begun::Reading,
        false => Begun::No,
    };
    let mut worker = Worker {
        begun,
        seat,
        shared,
        member: Arc::clone(member),
        assigned,
        machine,
        pending: first.map(|first| (first, 0)),
        under_way: JoinSet::new(),
        devices_ms: None,
        said_full: false,
        guard: Guard::default(),
    };
    let ended = worker.work().await;
    seat.looks_no_more();
    // A commit that is under way cannot be cut off.
    worker.under_way.shutdown().await;
    ended
}

/// A panic is no more than a trouble of the partition that it came of.
async fn caught(seat: &Seat<'_>, load: impl Future<Output = Ended>) -> Ended {
    let mut load = pin!(load);
    poll_fn(|context| {
        // Nothing of it is looked at behind a panic: it is dropped.
        catch_unwind(AssertUnwindSafe(|| load.as_mut().poll(context))).unwrap_or_else(|_| {
            // Or it would seem to hang from then on.
            seat.looks_no_more();
            let reason = "its worker panicked (see the log): this is a fault of the loader";
            Poll::Ready(Ended::Stopped(reason.to_owned()))
        })
    })
    .await
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

struct Worker<'a> {
    seat: &'a Seat<'a>,
    shared: &'a Arc<Shared>,
    member: Arc<dyn Commit>,
    assigned: &'a mut Assigned,
    machine: Partition,
    /// Records that were received, and how many of them the machine has taken.
    pending: Option<(HandOver, usize)>,
    /// The action that is performed, if any: aborted when this is dropped, and all that it began with it.
    under_way: JoinSet<Result<(), Ended>>,
    /// When the devices were last looked through, monotonic milliseconds.
    devices_ms: Option<u64>,
    /// Whether it was said that the ledger is full.
    said_full: bool,
    guard: Guard,
    /// How far it is with the batch that it was taken up with.
    begun: Begun,
}

impl Worker<'_> {
    async fn work(&mut self) -> Ended {
        let mut stop = self.shared.stop.clone();
        let mut flush = self.shared.flush.clone();
        // What came before is nothing to it.
        flush.mark_unchanged();
        loop {
            if let Err(ended) = self.feed() {
                return ended;
            }
            self.start_actions();
            self.seat.begins(self.machine.has_begun());
            if self.machine.is_finished() && self.under_way.is_empty() {
                return Ended::Finished;
            }
            let event = match self.wait(&mut stop, &mut flush).await {
                Ok(event) => event,
                Err(ended) => return ended,
            };
            if event == Some(Event::ActionDone) {
                self.seat.goes_on();
            }
            if let Some(event) = event {
                self.look_for_quiet();
                let applied = self.machine.apply(event, clock::now());
                // Whatever ends it next: a batch that is done is begun no more.
                self.seat.begins(self.machine.has_begun());
                if let Err(error) = applied {
                    return Ended::Stopped(error.to_string());
                }
            }
        }
    }

    /// Gives the machine what was received, as far as it takes it.
    fn feed(&mut self) -> Result<(), Ended> {
        let end = |error: PartitionError| Ended::Stopped(error.to_string());
        self.machine.use_pipeline(&self.shared.pipeline.borrow());
        if let Some((handed, at)) = &mut self.pending {
            crash::hang("feed");
            *at += self
                .machine
                .take(&handed.fetched, *at, clock::now())
                .map_err(end)?;
            if *at >= handed.fetched.entries.len() {
                self.pending = None;
            }
        }
        if self.room() == Room::CloseYours {
            match (self.machine.closing(), self.seat.why_it_stays()) {
                (None, reason) => {
                    self.machine
                        .apply(Event::Pressure, clock::now())
                        .map_err(end)?;
                    let closes = self.machine.closing().is_some();
                    self.shared.metrics.pressed.inc_by(u64::from(closes));
                    // What is said behind a batch is refused, and nothing closes before it is.
                    if let Some(reason) = reason.filter(|_| !closes) {
                        return Err(Ended::Stopped(reason));
                    }
                }
                // It closes already, and cannot, and not for a moment: its memory is for those that can.
                (Some(_), Some(reason)) => return Err(Ended::Stopped(reason)),
                (Some(_), None) => {}
            }
        }
        for counts in self.machine.take_counts() {
            if counts.unaccounted > 0 && !std::mem::replace(&mut self.said_full, true) {
                say_full(self.assigned.partition);
            }
            self.shared.tally.add(&counts);
            self.shared.metrics.count(&counts);
        }
        self.tell_guarded();
        let rejects = self.machine.take_rejects();
        self.shared.metrics.rejected(&rejects);
        self.shared
            .status
            .rejected(self.assigned.partition, rejects);
        self.look_at_devices();
        self.seat.stands(self.machine.standing());
        Ok(())
    }

    /// Batches that the guard against too many paths closed.
    fn tell_guarded(&mut self) {
        let guarded = self.machine.take_guarded();
        if guarded == 0 {
            return;
        }
        self.shared.metrics.guarded.inc_by(guarded);
        let pipeline = self.shared.pipeline.borrow();
        let why = (pipeline.spec(), self.shared.plan.flush.objects);
        let now_ms = clock::now().mono_ms;
        self.guard.closed(self.assigned.partition, why, now_ms);
    }

    /// Windows close without a record only where no record waits anywhere.
    fn look_for_quiet(&mut self) {
        if self.machine.has_open_windows() {
            let is_all_taken = self.pending.is_none()
                && self.assigned.records.is_empty()
                && self.shared.metrics.is_all_taken(self.assigned.partition);
            self.machine.close_when_quiet(is_all_taken);
        }
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
            self.shared.status.devices(self.seat.who, Some(devices));
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
            state: self.machine.state_held(),
            // Nobody's turn waits for one that cannot go on.
            begun: match self.seat.why_it_stays() {
                Some(_) => Begun::No,
                None => self.begun,
            },
        };
        self.seat.place.hold(holding)
    }

    fn start_actions(&mut self) {
        while self.under_way.is_empty()
            && let Some(action) = self.machine.next_action()
        {
            let shared = Arc::clone(self.shared);
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
                    self.under_way
                        .spawn_blocking(move || commit(&*member, partition, epoch, &committed));
                }
                Action::Upload(objects) => {
                    self.under_way.spawn(upload(shared, objects, self.seat.who));
                }
                Action::WriteItems(items) => {
                    let who = self.seat.who;
                    self.under_way.spawn(async move {
                        let counts = &shared.metrics.items;
                        let patience = Patience::Endless(Arc::clone(&shared.metrics), who);
                        write_all(&shared.tables, &items, counts, patience, who.1)
                            .await
                            .map_err(|error| Ended::Stopped(error.to_string()))
                    });
                }
                Action::Publish(objects) => {
                    self.under_way
                        .spawn(publish(shared, objects, self.seat.who));
                }
                Action::StoreSnapshot { name, bytes } => {
                    let who = self.seat.who;
                    self.under_way.spawn(async move {
                        let content = plain_content(&bytes);
                        let object = Object {
                            key: format!("{folder}{name}"),
                            bytes,
                            content,
                        };
                        put(&shared, &object, who, 0).await?;
                        crash::point("snapshot-stored");
                        Ok(())
                    });
                }
            }
        }
    }

    /// Waits for whatever comes first.
    async fn wait(
        &mut self,
        stop: &mut watch::Receiver<bool>,
        flush: &mut watch::Receiver<u64>,
    ) -> Result<Option<Event>, Ended> {
        let may_read = self.room() == Room::Free;
        let hungry = self.pending.is_none() && self.machine.has_room() && may_read;
        let now = clock::now().mono_ms;
        let deadline = self.machine.next_deadline().map_or(LOOK, |deadline| {
            LOOK.min(Duration::from_millis(deadline.saturating_sub(now)))
        });
        let stopped = *stop.borrow();
        tokio::select! {
            call = self.assigned.tenure.call() => match call {
                Call::Finish => Ok(Some(Event::Stop)),
                Call::Stop(reason) => Err(Ended::Stopped(reason)),
                Call::Gone => Err(Ended::Revoked),
            },
            Some(done) = self.under_way.join_next() => match done {
                Ok(Ok(())) => Ok(Some(Event::ActionDone)),
                Ok(Err(ended)) => Err(ended),
                // Whatever is in doubt by it, this partition does nothing more under this membership.
                Err(error) => Err(Ended::Stopped(format!("a task ended early: {error}"))),
            },
            fetched = self.assigned.records.recv(), if hungry => match fetched {
                Some(handed) => {
                    self.pending = Some((handed, 0));
                    Ok(None)
                }
                None => Err(Ended::Revoked),
            },
            _ = stop.changed(), if !stopped => Ok(Some(Event::Stop)),
            Ok(()) = flush.changed() => Ok(Some(Event::Flush)),
            () = tokio::time::sleep(deadline) => Ok(Some(if stopped { Event::Stop } else { Event::Tick })),
        }
    }
}

#[cfg(test)]
mod tests;
