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
pub mod backoff;
pub mod counters;
pub mod event;
pub mod evict;
mod flash;
mod item;
mod lanes;
pub mod settle;
pub mod uplink;
mod window;
mod writing;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use headwater_record::{Generation, SourceId};

use self::allowance::{Allowance, BudgetUse};
use self::backoff::{Backoff, Jitter};
pub use self::counters::Counters;
pub use self::event::{Action, Event, News, Settings};
pub(crate) use self::flash::BUDGET as FLASH_BUDGET;
use self::flash::Flash;
use self::lanes::Lanes;
use self::settle::{Given, Moved, Settling};
use self::uplink::{Change, Uplink, Work};
use self::writing::Writing;
use crate::batch::Batch;
use crate::clock::Monotonic;
use crate::produce::outcome::Outcome;
use crate::spool::boot::InLanes;
use crate::spool::{BatchId, Depth, Lane, Reply, Trouble, Used, WhenFull};

/// Most batches in librdkafka at a time, however small: what a report costs is bounded, too.
pub const IN_FLIGHT_BATCHES_MAX: usize = 256;

/// How often the log is told at most that batches came back.
const COMPLAINT_EVERY: Duration = Duration::from_secs(60);

/// Where a stop has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// The broker may still acknowledge, until then.
    Flushing(Monotonic),
    /// What is left is committed; given up then.
    Committing(Monotonic),
    Done,
}

/// How it stands with the broker.
#[derive(Debug, Default)]
struct Broker {
    backoff: Backoff,
    /// Nothing is sent before.
    not_before: Monotonic,
    /// The client must be made anew first.
    lost: bool,
    /// When it acknowledged last.
    acknowledged: Option<Monotonic>,
    /// The wall clock is unset: no certificate is valid and no signature, so nothing is sent, and the
    /// spool holds what is read.
    clock_unset: bool,
    /// A batch was late, and none was acknowledged since it was queued.
    silent: bool,
    /// When the log was last told that batches came back.
    complained: Option<Monotonic>,
}

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
    /// The place behind which rows were asked for.
    loading: Option<BatchId>,
    jitter: Jitter,
    phase: Phase,
    counters: Counters,
    actions: VecDeque<Action>,
    /// What of the budgets' use was written down last.
    written_down: Vec<Used>,
    /// What the wall clock said last, and when.
    wall: (Monotonic, u64),
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

    /// Goes on with what earlier runs used of the budgets of uplink and flash. `wall_ms`: the wall
    /// clock, Unix milliseconds.
    #[must_use]
    pub fn with_usage(mut self, usage: &[Used], wall_ms: u64, now: Monotonic) -> Self {
        self.wall = (now, wall_ms);
        self.allowance.restore(usage);
        self.flash.restore(usage, wall_ms, now);
        self
    }

    /// What was used of the budgets, for the next run; nothing where hardly anything was since it
    /// was written down last, since that costs a page.
    fn usage(&mut self, now: Monotonic) -> Vec<Used> {
        let flash = self.flash.usage(self.wall_ms(now), now);
        let (now_used, steps): (Vec<_>, Vec<_>) = self.allowance.usage().chain(flash).unzip();
        let is_near = |((old, new), step): ((&Used, &Used), &u64)| {
            let is_of_one = old.budget == new.budget && (old.at_ms == new.at_ms || new.is_level());
            is_of_one && old.bytes.abs_diff(new.bytes) <= *step
        };
        let is_same = self.written_down.len() == now_used.len()
            && (self.written_down.iter().zip(&now_used))
                .zip(&steps)
                .all(is_near);
        if is_same && self.phase == Phase::Running {
            return Vec::new();
        }
        self.written_down.clone_from(&now_used);
        now_used
    }

    /// Bytes that passed between the agent and the brokers; none where nothing counts them.
    pub fn uplink_bytes(&self) -> Option<u64> {
        self.allowance.total()
    }

    /// What is left of the flash budget; none where there is none.
    pub fn flash_left_bytes(&self) -> Option<u64> {
        self.flash.left()
    }

    /// How it stands with the budgets of the uplink.
    pub fn budgets(&self) -> Vec<BudgetUse> {
        self.allowance.uses()
    }

    /// Takes note of what happened, and plans what follows from it.
    pub fn apply(&mut self, event: Event, now: Monotonic) {
        match event {
            Event::Queued(batch) => self.queued(batch, now),
            Event::Reported { id, outcome } => self.reported(id, outcome, now),
            Event::ProducerLost => self.producer_lost(now),
            Event::Store(Reply::Committed(depth)) => self.committed(depth, now),
            Event::Store(Reply::CommitFailed(trouble)) => {
                self.writing.under_way = None;
                self.window.commit_failed();
                // A disk that is full to the last block may still take new rows in place of old ones.
                let drops = self.settings.when_full.contains(&WhenFull::DropOldest);
                if trouble == Trouble::Floor || (trouble == Trouble::Full && drops) {
                    self.writing.no_room(now);
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
                let after = self.loading.take().unwrap_or(through);
                self.window.loaded(rows, after, through, now);
                self.counters.lost += lost;
            }
            Event::Store(Reply::LoadFailed(trouble)) => {
                self.loading = None;
                self.disk_failed(trouble, now);
            }
            Event::Store(Reply::Healed { depth, last }) => self.healed(depth, last, now),
            Event::Store(Reply::HealFailed(trouble)) => {
                self.writing.healing = false;
                self.writing.heals_failed = true;
                self.writing.damaged = true;
                self.disk_failed(trouble, now);
            }
            Event::Clock { set } => self.clock(set),
            Event::Stop if self.phase == Phase::Running => {
                self.phase = Phase::Flushing(now.plus(self.settings.flush));
            }
            Event::Wall(wall_ms) => self.wall = (now, wall_ms),
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
            Phase::Running | Phase::Done => None,
        };
        [
            phase,
            self.recreate_at(),
            self.send_at(),
            self.load_at(),
            self.commit_at(),
            self.heal_at(),
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

    /// Whether the broker acknowledges in time, as far as anything was sent.
    pub fn is_online(&self) -> bool {
        !self.broker.silent && !self.broker.lost
    }

    /// When the broker acknowledged last.
    pub fn acknowledged(&self) -> Option<Monotonic> {
        self.broker.acknowledged
    }

    /// Since when the store has owed an answer: a disk that hangs shows here.
    pub fn store_owes_since(&self) -> Option<Monotonic> {
        self.writing
            .under_way
            .as_ref()
            .map(|under_way| under_way.since)
    }

    fn clock(&mut self, set: bool) {
        if std::mem::replace(&mut self.broker.clock_unset, !set) == set {
            self.say(if set {
                News::ClockSet
            } else {
                News::ClockUnset
            });
        }
    }

    /// Unix milliseconds, as far as the clock was right when it was looked at.
    fn wall_ms(&self, now: Monotonic) -> u64 {
        let (at, wall_ms) = self.wall;
        wall_ms.saturating_add(now.0.saturating_sub(at.0))
    }

    fn queued(&mut self, batch: Batch, now: Monotonic) {
        self.counters.batches += 1;
        self.counters.records += batch.entries.len() as u64;
        self.counters.bytes += batch.values.len() as u64;
        let source: Option<SourceId> = batch.stream.source().parse().ok();
        let lane = source.and_then(|source| self.lane_of.get(&source).copied());
        let window = self.window.of_mut(lane.unwrap_or_default());
        let stretch = window.queue(batch, now);
        self.settling.expect(stretch);
    }

    fn reported(&mut self, id: BatchId, outcome: Outcome, now: Monotonic) {
        // What was in flight could not be given up.
        self.writing.try_dropping_again(&self.settings.when_full);
        match outcome {
            Outcome::Delivered => {
                let Some(acknowledged) = self.window.acknowledge(id) else {
                    return;
                };
                self.counters.delivered += 1;
                self.broker.backoff.reset();
                self.broker.acknowledged = Some(now);
                if std::mem::take(&mut self.broker.silent) {
                    self.say(News::Online);
                }
                if acknowledged.settles {
                    let moved = self.settling.settle(acknowledged.stretch);
                    self.writing.settled(moved, acknowledged.bytes, now);
                }
                self.writing.note_gone(self.window.gone(), now);
            }
            Outcome::Retry => {
                self.window.unsend(id);
                self.counters.retries += 1;
                // Batches come back together: one wait for all of them.
                if self.broker.not_before <= now && !self.broker.lost {
                    let wait_ms = self.hold_back(now);
                    let quiet = |at: Monotonic| now.since(at) < COMPLAINT_EVERY;
                    if !self.broker.complained.is_some_and(quiet) {
                        self.broker.complained = Some(now);
                        self.say(News::Refused { wait_ms });
                    }
                }
            }
            Outcome::Recreate => self.producer_lost(now),
        }
    }

    fn producer_lost(&mut self, now: Monotonic) {
        if !self.uplink.is_connected() || std::mem::replace(&mut self.broker.lost, true) {
            return;
        }
        self.counters.retries += self.window.in_flight().batches as u64;
        self.window.unsend_all();
        self.allowance.uncounted();
        self.actions
            .retain(|action| !matches!(action, Action::Send { .. }));
        let wait_ms = self.hold_back(now);
        self.say(News::ProducerLost { wait_ms });
    }

    fn hold_back(&mut self, now: Monotonic) -> u64 {
        let wait_ms = self.broker.backoff.next_ms(&mut self.jitter);
        self.broker.not_before = now.plus(Duration::from_millis(wait_ms));
        wait_ms
    }

    fn disk_failed(&mut self, trouble: Trouble, now: Monotonic) {
        self.counters.refused += 1;
        self.writing.damaged |= trouble == Trouble::Damaged;
        if self.writing.disk.failed(trouble, &mut self.jitter, now) {
            self.say(News::DiskTrouble(trouble));
        }
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
    }

    fn turn_uplink(&mut self, now: Monotonic) {
        let wall_ms = self.wall_ms(now);
        self.allowance.turn(wall_ms);
        if let Some(closed) = self.allowance.news() {
            self.say(News::UplinkBudget(closed));
        }
        let lane = self.window.waiting();
        let waiting = self.is_sending() && lane.is_some_and(|lane| self.allowance.has_left(lane));
        let in_flight = self.window.in_flight().batches > 0;
        let moves = waiting || in_flight;
        let work = Work {
            waiting,
            in_flight,
            // What waits for a budget is not what a session waits for.
            behind: moves && self.is_sending() && self.window.is_behind(self.session_through),
            acknowledged: self.acknowledged(),
        };
        let closed_for = self.allowance.closed_for(wall_ms);
        match self.uplink.turn(work, closed_for, now, wall_ms) {
            None => {}
            Some(Change::Connect) => {
                self.counters.sessions += 1;
                self.session_through = self.window.last_queued();
                self.broker.lost = true;
                self.broker.not_before = now;
            }
            Some(Change::Disconnect) => {
                self.window.unsend_all();
                self.allowance.uncounted();
                self.actions
                    .retain(|action| !matches!(action, Action::Send { .. } | Action::Recreate));
                self.broker.lost = false;
                self.actions.push_back(Action::Disconnect);
            }
        }
    }

    /// Each step does nothing where its moment, which [`Delivery::next_deadline`] shows, has not
    /// come.
    fn do_what_is_due(&mut self, now: Monotonic) {
        let due = |at: Option<Monotonic>| at.is_some_and(|at| at <= now);
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
            self.load();
        }
    }

    fn go_on_stopping(&mut self, now: Monotonic) {
        if let Phase::Flushing(until) = self.phase {
            // What stands behind a backlog cannot be sent in time.
            let next = self.window.next_to_send();
            let waits = self.is_sending()
                && self.window.unsettled() > 0
                && next.is_some_and(|id| self.may_send(id.lane()));
            let quiet = !waits && self.window.in_flight().batches == 0;
            if quiet || until <= now {
                self.phase = Phase::Committing(now.plus(writing::LAST_COMMIT_MAX));
                self.writing.disk.try_now();
                self.writing.look_again();
            }
        }
        if let Phase::Committing(until) = self.phase {
            let complete = self.writing.under_way.is_none()
                && self.commit_at().is_none()
                && !self.writing.damaged;
            if complete || until <= now {
                self.phase = Phase::Done;
                let batches = self.window.unsettled();
                if batches > 0 {
                    self.say(News::LeftBehind { batches });
                }
                self.actions.push_back(Action::Done);
            }
        }
    }

    /// Whether anything may still be sent or loaded.
    fn is_sending(&self) -> bool {
        !self.broker.clock_unset && matches!(self.phase, Phase::Running | Phase::Flushing(_))
    }

    /// Whether the uplink is open for a lane: in a session, in its hours, within its budgets.
    fn may_send(&self, lane: Lane) -> bool {
        self.uplink.may_send() && self.allowance.has_left(lane)
    }

    fn recreate_at(&self) -> Option<Monotonic> {
        let wanted = self.broker.lost && self.uplink.is_connected() && self.is_sending();
        wanted.then_some(self.broker.not_before)
    }

    fn send_at(&self) -> Option<Monotonic> {
        if self.broker.lost || !self.uplink.may_send() || !self.is_sending() {
            return None;
        }
        let next = self.window.next_to_send()?;
        let (cost, is_row) = self.window.look(next)?;
        if !self.allowance.allows(next.lane(), cost) {
            return None;
        }
        let in_flight = self.window.in_flight();
        let has_room = in_flight.batches < IN_FLIGHT_BATCHES_MAX
            && in_flight.cost + cost <= self.settings.in_flight_bytes_max;
        // Alone, a batch of any size may go.
        if !has_room && in_flight.batches > 0 {
            return None;
        }
        let disk_first = self.settings.spool_after.is_zero() && !self.writing.refuses();
        (is_row || !disk_first).then_some(self.broker.not_before)
    }

    fn load_at(&self) -> Option<Monotonic> {
        let in_flight = self.window.in_flight();
        let idle = self.loading.is_none();
        // Half of it empty: so that what is loaded can be sent at once, and reads are not small.
        let has_room = in_flight.cost <= self.settings.in_flight_bytes_max / 2
            && in_flight.batches <= IN_FLIGHT_BATCHES_MAX / 2;
        let asks = self.phase == Phase::Running && self.is_sending() && self.uplink.may_send();
        let whole = !self.broker.lost && !self.writing.damaged;
        if !idle || !has_room || !asks || !whole {
            return None;
        }
        let (_, through) = self.window.to_load()?;
        if !self.allowance.has_left(through.lane()) {
            return None;
        }
        Some(self.broker.not_before.max(self.writing.disk.not_before))
    }

    fn load(&mut self) {
        if let Some((after, through)) = self.window.to_load() {
            self.loading = Some(after);
            let room = self.settings.in_flight_bytes_max - self.window.in_flight().cost;
            self.actions.push_back(Action::Load {
                after,
                through,
                bytes_max: room as u64,
            });
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
