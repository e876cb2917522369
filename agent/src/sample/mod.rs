//! Reads sensors, at fixed intervals.
//!
//! - [`schedule`]: pure; when.
//! - [`read`]: the readers of each kind.
//! - [`reading`]: pure; what was read, and how good it is.
//! - [`policy`]: pure; which samples are told, and which are told as one.
//! - [`sensor`]: pure; the numbers of samples, and what became of each.
//! - [`group`]: the sensors of one source.
//!
//! Intervals, windows and heartbeats count time in which the device was suspended: they are about the
//! world outside. What was missed meanwhile is one reading, and no burst.
//!
//! A sample cannot be read again, so a sensor never waits for room: without it the sample is lost,
//! counted, and told. Only what the kernel has collected (a buffer's samples) waits, a moment at each
//! tick, since it goes on collecting meanwhile. Each start of the agent is a generation of its own; one that an earlier run
//! left open is closed with the word that its end is not known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use headwater_record::notice::{Notice, Tail, reason};
use headwater_record::value::ValueWriter;
use headwater_record::{DeviceId, SourceId};
use tokio::sync::mpsc::Sender;

use self::group::Group;
use self::sensor::{SAMPLE_BYTES, Sensor, Wish};
use crate::batch::Batch;
use crate::budget::{Budget, Permit};
use crate::checkpoint::{OpenGeneration, Origin, Registry};
use crate::clock::{Monotonic, boottime, moment, stamp_ms, wall_ms};
use crate::config::SensorSource;
use crate::discover::said::Said;
use crate::discover::scan;
use crate::orders::{Order, Orders};
use crate::process::Draft;
use crate::sources::{SourceError, send};
use crate::spool::Lane;
use crate::stop::Stop;

mod group;
pub mod policy;
pub mod read;
pub mod reading;
pub mod schedule;
pub mod sensor;

/// How often losses are told in the log.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// How long an earlier run's notices wait for room before they are tried again, and how long the
/// last notices wait at the end, and the samples of buffers at a tick.
const PATIENCE: Duration = Duration::from_millis(500);

/// For so many samples at a time a buffer's wait: for a batch, that is, and not for one after the other.
const WAITED_SAMPLES: usize = 8;

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Samples taken, lost ones included.
    pub taken: AtomicU64,
    /// Samples taken for which the RAM window had no room.
    pub lost: AtomicU64,
}

/// What the thread works on.
#[derive(Debug)]
pub struct SensorsInput<R> {
    /// Identity of the device.
    pub device: DeviceId,
    /// What to read.
    pub sources: Vec<SensorSource>,
    /// Every open generation that the database knows; those that are no sensors are passed over.
    pub known: Vec<OpenGeneration>,
    /// Changes of what is read.
    pub orders: Orders<SensorSource>,
    /// Where new generations are entered.
    pub registry: R,
    /// The RAM window.
    pub budget: Budget,
    /// Where records go.
    pub batches: Sender<Batch>,
    /// This thread's own.
    pub stop: Stop,
    /// What is counted, for others to read.
    pub counters: Arc<Counters>,
    /// Whether the broker does not acknowledge, as others know: roll-ups take over then.
    pub offline: Arc<AtomicBool>,
}

/// Reads sensors until told to stop.
///
/// # Errors
/// See [`SourceError`].
pub fn run<R: Registry>(input: SensorsInput<R>) -> Result<(), SourceError> {
    let (stop, orders) = (input.stop.clone(), input.orders.clone());
    let mut sensors = Sensors::new(input, boottime());
    loop {
        while let Some(order) = orders.next() {
            sensors.obey(order, boottime())?;
        }
        sensors.tick(boottime())?;
        if stop.wait(sensors.idle_for(boottime())) {
            return sensors.close();
        }
    }
}

/// All sensors of all sources.
#[derive(Debug)]
struct Sensors<R> {
    device: DeviceId,
    groups: Vec<Group>,
    /// What an earlier run left open.
    unclean: Vec<OpenGeneration>,
    registry: R,
    budget: Budget,
    batches: Sender<Batch>,
    stop: Stop,
    counters: Arc<Counters>,
    offline: Arc<AtomicBool>,
    said: Said,
    losses_said_at: Option<Monotonic>,
    /// Until when the samples of buffers wait for room, in the tick under way.
    patient_until: Option<Monotonic>,
}

impl<R: Registry> Sensors<R> {
    fn new(input: SensorsInput<R>, now: Monotonic) -> Self {
        let is_sensor = |open: &OpenGeneration| open.origin == Origin::Sensor;
        let mut sensors = Self {
            unclean: input.known.into_iter().filter(is_sensor).collect(),
            groups: Vec::new(),
            device: input.device,
            registry: input.registry,
            budget: input.budget,
            batches: input.batches,
            stop: input.stop,
            counters: input.counters,
            offline: input.offline,
            said: Said::default(),
            losses_said_at: None,
            patient_until: None,
        };
        sensors.take_up(input.sources, now);
        sensors
    }

    /// Reads other sources from now on. A sensor's generation ends where its source is let go of, so
    /// there is nothing to go on with.
    fn obey(&mut self, order: Order<SensorSource>, now: Monotonic) -> Result<(), SourceError> {
        match order {
            Order::LetGo { sources, done } => {
                let is_one = |group: &mut Group| sources.contains(&group.plan.id);
                let mut groups: Vec<_> = self.groups.extract_if(.., is_one).collect();
                self.close_all(&mut groups)?;
                // Nobody waits for it where the agent stops.
                done.send(()).ok();
            }
            Order::TakeUp { sources, .. } => self.take_up(sources, now),
        }
        Ok(())
    }

    fn take_up(&mut self, sources: Vec<SensorSource>, now: Monotonic) {
        for plan in sources {
            for unmatched in scan(&plan.paths, &[]).unmatched {
                tracing::warn!(
                    "source {}: {} matches nothing at the moment; it is tried again",
                    plan.id,
                    plan.paths[unmatched]
                );
            }
            self.groups.push(Group::new(plan, &self.device, now));
        }
    }

    /// Does everything that is due.
    fn tick(&mut self, now: Monotonic) -> Result<(), SourceError> {
        self.close_unclean()?;
        self.patient_until = None;
        for index in 0..self.groups.len() {
            let group = &mut self.groups[index];
            if !group.schedule.is_due(now, wall_ms()) {
                continue;
            }
            group.look(&self.device, &self.registry, &mut self.said, now)?;
            group.fill();
            for nth in 0..self.groups[index].sensors.len() {
                // Some take most of a second each: a stop need not wait for all of them.
                if self.stop.is_set() {
                    return Ok(());
                }
                self.sample(index, nth, now)?;
            }
        }
        self.say_losses(now);
        Ok(())
    }

    /// How long nothing is due.
    fn idle_for(&self, now: Monotonic) -> Duration {
        let ticks = self.groups.iter().map(|group| group.schedule.next());
        let unclean = (!self.unclean.is_empty()).then(|| now.plus(PATIENCE));
        (ticks.chain(unclean).min()).map_or(Duration::from_secs(60), |at| at.since(now))
    }

    /// Closes what an earlier run left open, as far as there is room.
    fn close_unclean(&mut self) -> Result<(), SourceError> {
        for open in std::mem::take(&mut self.unclean) {
            let Some(permit) = self.budget.try_take(self.lane_of(&open), SAMPLE_BYTES) else {
                self.unclean.push(open);
                continue;
            };
            let notice = Notice::Close {
                reason: reason::UNCLEAN.to_owned(),
                tail: Tail::Unknown,
            };
            let mut draft = Draft::new(open.settled);
            let names = (
                open.stream.device().parse::<DeviceId>(),
                open.stream.source().parse::<SourceId>(),
            );
            // A stream's parts were checked as ids when it was read: both parse.
            if let (Ok(device), Ok(source)) = names {
                let writer = ValueWriter::new(&device, &source);
                let added = draft.notice(&writer, stamp_ms(), open.settled, &notice);
                debug_assert!(added, "an empty batch takes any record");
            }
            if let Some(batch) = draft.finish(&open.stream, open.generation, Some(permit)) {
                send(&self.batches, batch)?;
            }
        }
        Ok(())
    }

    /// The lane of its source; where that is no longer there, the normal one, as for its batch.
    fn lane_of(&self, open: &OpenGeneration) -> Lane {
        let mut plans = self.groups.iter().map(|group| &group.plan);
        let its = plans.find(|plan| plan.id.as_str() == open.stream.source());
        its.map(|plan| plan.lane).unwrap_or_default()
    }

    /// Reads one sensor, and gives away what is to be told.
    fn sample(&mut self, index: usize, nth: usize, now: Monotonic) -> Result<(), SourceError> {
        let offline = self.offline.load(Ordering::Relaxed);
        let group = &mut self.groups[index];
        let samples = group.readings(nth, &mut self.said, now);
        let mut sensors = std::mem::take(&mut group.sensors);
        let lane = group.plan.lane;
        let (budget, until) = (&self.budget, &mut self.patient_until);
        let wait = |wish: Wish| {
            let now = boottime();
            let until = *until.get_or_insert(now.plus(PATIENCE));
            let bytes = wish.least.saturating_mul(WAITED_SAMPLES).min(wish.most);
            budget.take_last(lane, bytes, until.since(now))
        };
        let mut wait = group.is_buffered().then_some(wait);
        let lost = sensors[nth].take(
            group.telling(offline),
            &samples,
            |wish| room(budget, lane, wish).or_else(|| wait.as_mut()?(wish)),
            |batch| send(&self.batches, batch),
        );
        group.sensors = sensors;
        let taken = samples.len() as u64;
        self.counters.taken.fetch_add(taken, Ordering::Relaxed);
        self.counters.lost.fetch_add(lost?, Ordering::Relaxed);
        Ok(())
    }

    fn say_losses(&mut self, now: Monotonic) {
        let sensors = self.groups.iter().flat_map(|group| &group.sensors);
        let lost: u64 = sensors.map(Sensor::lost).sum();
        let is_quiet = |said: Monotonic| now.since(said) < SAY_AGAIN;
        if lost > 0 && !self.losses_said_at.is_some_and(is_quiet) {
            tracing::warn!(
                "the window (window.bytes) is full: {lost} samples are lost since there was room; \
                 notices will name them"
            );
            self.losses_said_at = Some(now);
        }
    }

    /// Closes every sensor, in order.
    fn close(&mut self) -> Result<(), SourceError> {
        let mut groups = std::mem::take(&mut self.groups);
        self.close_all(&mut groups)
    }

    fn close_all(&self, groups: &mut [Group]) -> Result<(), SourceError> {
        let mut patience = PATIENCE;
        for group in groups {
            let (lane, mut sensors) = (group.plan.lane, std::mem::take(&mut group.sensors));
            let telling = group.telling(false);
            for sensor in &mut sensors {
                let room = self.budget.take_last(lane, SAMPLE_BYTES, patience);
                if room.is_none() {
                    patience = Duration::ZERO;
                }
                if let Some(batch) = sensor.close(telling, moment(), room) {
                    send(&self.batches, batch)?;
                }
            }
        }
        Ok(())
    }
}

/// As much of what samples can take as there is, if it is enough for the next of them.
fn room(budget: &Budget, lane: Lane, wish: Wish) -> Option<Permit> {
    let halves = std::iter::successors(Some(wish.most), |most| Some(most / 2));
    let halves = halves.take_while(|most| *most > wish.least);
    halves
        .chain([wish.least])
        .find_map(|bytes| budget.try_take(lane, bytes))
}

#[cfg(test)]
mod tests;
