//! From a queued batch to a settled one: what is sent, what is spooled, what is checkpointed, and
//! when. Pure: a moment is handed in with each event, and what is to be done comes out as actions.
//!
//! ```text
//!   Queued ──► window (RAM) ──► Send ──► Reported: delivered ──► settled ──► checkpoint ─┐
//!                 │ late, or the window is full while nobody acknowledges                ├► Commit
//!                 └────────────► row ──► (committed: settled) ──► Load, Send, delete ────┘
//! ```
//!
//! - One order: what is in the spool goes before what is in RAM ([`window`]).
//! - Only a delivery report or a commit settles; a checkpoint is never above the lowest offset that
//!   is not settled ([`settle`]).
//! - A batch never leaves: it is in RAM, in the spool, or acknowledged. What fails is tried again,
//!   for ever, with a back-off ([`backoff`]). Where the disk refuses, or the spool is full, batches
//!   stay in RAM, their permits with them, and the sources wait.
//! - `plan` alone decides; the edge that waits and performs is [`crate::supervise`], and another one
//!   is the simulation that tests this.

pub mod allowance;
mod answers;
pub mod backoff;
mod budgets;
pub mod counters;
pub mod event;
pub mod evict;
mod flash;
mod held;
mod item;
mod lanes;
mod room;
mod sending;
pub mod settle;
mod stopping;
pub mod uplink;
mod window;
mod writing;

use std::collections::{BTreeMap, VecDeque};

use headwater_record::{Generation, SourceId};

use self::allowance::Allowance;
use self::answers::Broker;
use self::backoff::Jitter;
pub use self::counters::Counters;
pub use self::event::{Action, Event, News, Settings};
pub(crate) use self::flash::BUDGET as FLASH_BUDGET;
use self::flash::Flash;
use self::lanes::Lanes;
use self::settle::{Given, Moved, Settling};
use self::stopping::Phase;
use self::uplink::Uplink;
use self::writing::Writing;
use crate::clock::Monotonic;
use crate::spool::boot::InLanes;
use crate::spool::{BatchId, Depth, Lane, Reply, Trouble, Used, WhenFull};

/// Most batches in librdkafka at a time, however small: what a report costs is bounded, too.
pub const IN_FLIGHT_BATCHES_MAX: usize = 256;

/// The machine. One event in, [`Delivery::next_action`] until there is none, and then wait for the
/// next event or [`Delivery::next_deadline`].
#[derive(Debug)]
pub struct Delivery {
    settings: Settings,
    window: Lanes,
    lane_of: BTreeMap<SourceId, Lane>,
    settling: Settling,
    writing: Writing,
    broker: Broker,
    uplink: Uplink,
    /// What a session, where there are any, is there to deliver: all that was queued when it began.
    session_through: InLanes,
    allowance: Allowance,
    flash: Flash,
    /// The place behind which rows were asked for, and when.
    loading: Option<(BatchId, Monotonic)>,
    jitter: Jitter,
    phase: Phase,
    counters: Counters,
    actions: VecDeque<Action>,
    /// What of the budgets' use was written down last.
    written_down: Vec<Used>,
    /// What the wall clock said last, and when.
    wall: (Monotonic, u64),
    /// Whether the uplink was open when it was looked at last.
    gate_open: Option<bool>,
}

impl Delivery {
    /// A machine over a spool that holds `depth`, the last row of each lane being `last`. The same
    /// `seed` and the same events give the same actions.
    pub fn new(settings: Settings, seed: u64, depth: Depth, last: [BatchId; Lane::COUNT]) -> Self {
        Self {
            settings,
            window: Lanes::new(last),
            lane_of: BTreeMap::new(),
            settling: Settling::default(),
            writing: Writing::new(depth),
            broker: Broker::default(),
            uplink: Uplink::new(settings.uplink),
            session_through: InLanes::default(),
            allowance: Allowance::new(settings.uplink.budgets),
            flash: Flash::new(settings.flash_bytes_per_day),
            loading: None,
            jitter: Jitter::new(seed),
            phase: Phase::Running,
            counters: Counters::default(),
            actions: VecDeque::new(),
            written_down: Vec::new(),
            wall: (Monotonic::default(), 0),
            gate_open: None,
        }
    }

    /// Whether a producer is wanted before anything is planned.
    pub fn connects_at_start(&self) -> bool {
        self.settings.uplink.connects_at_start()
    }

    /// Begins without a producer: [`Action::Recreate`] asks for one when something may be sent.
    pub fn without_producer(&mut self) {
        self.broker.lost = true;
    }

    /// The last batch of each lane that was queued.
    pub fn last_queued(&self) -> InLanes {
        self.window.last_queued()
    }

    /// Says which sources are of another lane than the normal one.
    #[must_use]
    pub fn with_lanes(mut self, lane_of: BTreeMap<SourceId, Lane>) -> Self {
        self.set_lanes(lane_of);
        self
    }

    /// Says so anew, for what is queued from now on.
    pub fn set_lanes(&mut self, lane_of: BTreeMap<SourceId, Lane>) {
        self.allowance.set_lanes(lane_of.values().copied());
        self.lane_of = lane_of;
    }

    /// How far each generation was given, settled or not.
    pub fn given(&self) -> BTreeMap<Generation, Given> {
        self.settling.given()
    }

    /// Takes note of what happened, and plans what follows from it.
    pub fn apply(&mut self, event: Event, now: Monotonic) {
        match event {
            Event::Queued(batch) => self.queued(batch, now),
            Event::Reported { id, outcome } => self.reported(id, outcome, now),
            Event::ProducerLost => self.producer_lost(now),
            Event::Store(Reply::Committed(depth)) => self.committed(depth, now),
            Event::Store(Reply::CommitFailed(trouble)) => {
                let evicts = self
                    .writing
                    .under_way
                    .take()
                    .is_some_and(|commit| commit.evicts);
                self.window.commit_failed();
                // A disk that is full to the last block may still take new rows in place of old ones.
                let drops = self.settings.when_full.contains(&WhenFull::DropOldest);
                if trouble == Trouble::Floor || (trouble == Trouble::Full && drops) {
                    self.writing.no_room(evicts, now);
                }
                if trouble != Trouble::Floor {
                    self.disk_failed(trouble, now);
                }
            }
            Event::Store(Reply::Loaded {
                rows,
                through,
                lost,
            }) => {
                let after = self.loading.take().map_or(through, |(after, _)| after);
                self.writing.unread = None;
                self.window.loaded(rows, after, through, now);
                self.counters.lost += lost;
            }
            Event::Store(Reply::LoadFailed(trouble)) => {
                self.loading = None;
                let is_lost = trouble == Trouble::Io && self.writing.is_unreadable(now);
                self.disk_failed(if is_lost { Trouble::Damaged } else { trouble }, now);
            }
            Event::Store(Reply::Healed { depth, last }) => self.healed(depth, last, now),
            Event::Store(Reply::HealFailed(trouble)) => {
                self.writing.healing = false;
                self.writing.heals_failed = true;
                self.writing.damaged = true;
                self.disk_failed(trouble, now);
            }
            Event::Clock { set, wall_ms } => {
                self.wall = (now, wall_ms);
                self.clock(set);
            }
            Event::Stop if self.phase == Phase::Running => {
                self.phase = Phase::Flushing(now.plus(self.settings.flush));
            }
            Event::Wall(wall_ms) => self.wall = (now, wall_ms),
            Event::Slept { period, wall_ms } => self.slept(period, wall_ms, now),
            Event::Written(bytes) => self.note_written(bytes, now),
            Event::Wire(bytes) => {
                let in_flight = self.window.in_flight().cost;
                self.allowance.counted(bytes, in_flight);
            }
            Event::Stop | Event::Tick => {}
        }
        self.plan(now);
    }

    /// What is to be done next; nothing until another event.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to apply [`Event::Tick`], if nothing happens before.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let phase = match self.phase {
            Phase::Flushing(until) | Phase::Committing(until) => Some(until),
            Phase::Running | Phase::Done { .. } => None,
        };
        [
            phase,
            self.recreate_at(),
            self.send_at(),
            self.load_at(),
            self.commit_at(),
            self.heal_at(),
            self.silent_at(),
            self.window
                .release_at()
                .filter(|_| !matches!(self.phase, Phase::Done { .. })),
            self.uplink.next().filter(|_| self.is_sending()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Sums since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What the spool held at the last commit.
    pub fn depth(&self) -> Depth {
        self.writing.depth
    }

    /// Whether anything is held back since the clock is unset.
    pub fn clock_unset(&self) -> bool {
        self.broker.clock_unset
    }

    /// Batches that came back unsent and have not arrived since.
    pub fn refused_batches(&self) -> u64 {
        self.window.refusals() as u64
    }

    /// Whether the broker acknowledges in time, as far as anything was sent.
    pub fn is_online(&self) -> bool {
        !self.broker.silent && !self.broker.lost
    }

    /// When the broker acknowledged last.
    pub fn acknowledged(&self) -> Option<Monotonic> {
        self.broker.acknowledged
    }

    /// Why the database did not do what it was asked last; none where it did.
    pub fn disk_trouble(&self) -> Option<Trouble> {
        self.writing.disk.trouble()
    }

    /// Since when the store has owed an answer: a disk that hangs shows here.
    pub fn store_owes_since(&self) -> Option<Monotonic> {
        let commit = self.writing.under_way.as_ref().map(|commit| commit.since);
        let load = self.loading.map(|(_, since)| since);
        commit.into_iter().chain(load).min()
    }

    fn say(&mut self, news: News) {
        self.actions.push_back(Action::Say(news));
    }

    /// Everything that is due now: again where that brought a stop forward, since more is due then.
    fn plan(&mut self, now: Monotonic) {
        self.flash.turn(now);
        self.turn_uplink(now);
        loop {
            let phase = self.phase;
            self.go_on_stopping(now);
            self.do_what_is_due(now);
            self.go_on_stopping(now);
            if self.phase == phase {
                break;
            }
        }
        self.note_silence(now);
    }

    /// Each step does nothing where its moment, which [`Delivery::next_deadline`] shows, has not
    /// come.
    fn do_what_is_due(&mut self, now: Monotonic) {
        let due = |at: Option<Monotonic>| at.is_some_and(|at| at <= now);
        self.window.release(now);
        if due(self.heal_at()) {
            self.heal();
        }
        // First, since what the disk cannot take may be sent without.
        if due(self.commit_at()) {
            self.commit(now);
        }
        if due(self.recreate_at()) {
            self.broker.lost = false;
            self.counters.recreated += 1;
            self.actions.push_back(Action::Recreate);
        }
        loop {
            while due(self.send_at()) {
                let Some((id, cost, batch)) = self.window.send_next() else {
                    break;
                };
                self.counters.sent += 1;
                self.allowance.sent(cost);
                self.actions.push_back(Action::Send { id, batch });
            }
            // What was committed and not sent at once waits for its turn on the disk; a lower lane
            // may go meanwhile.
            if !self.window.leave_rest_to_spool() {
                break;
            }
        }
        if due(self.load_at()) {
            self.load(now);
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
