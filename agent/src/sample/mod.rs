//! Reads sensors: small text files that hold a number, at fixed intervals.
//!
//! - [`schedule`]: pure; when.
//! - [`value_file`]: the reading.
//! - [`sensor`]: pure; the numbers of samples, and what became of each.
//!
//! A sample cannot be read again, so a sensor never waits for room: without it the sample is lost,
//! counted, and told. Each start of the agent is a generation of its own; one that an earlier run
//! left open is closed with the word that its end is not known.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headwater_record::notice::{Notice, Tail, reason};
use headwater_record::value::ValueWriter;
use headwater_record::{DeviceId, SourceId, StreamId};
use tokio::sync::mpsc::Sender;

use self::schedule::Schedule;
use self::sensor::{Reading, SAMPLE_BYTES, Sensor};
use crate::batch::Batch;
use crate::budget::Budget;
use crate::checkpoint::{OpenGeneration, Origin, Registry};
use crate::clock::{Monotonic, monotonic, wall_ms};
use crate::config::SensorSource;
use crate::discover::said::Said;
use crate::discover::scan;
use crate::process::Draft;
use crate::sources::{SourceError, draw_generation, send};
use crate::stop::Stop;

pub mod schedule;
pub mod sensor;
pub mod value_file;

/// How often the globs are matched again: a sensor that is plugged in may wait so long.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How often losses are told in the log.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// Most sensors of one source: a mistaken glob must not fill the database with generations.
const SENSORS_MAX: usize = 1000;
/// How long an earlier run's notices wait for room before they are tried again, and how long the
/// last notices wait at the end.
const PATIENCE: Duration = Duration::from_millis(500);

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
}

/// Reads sensors until told to stop.
///
/// # Errors
/// See [`SourceError`].
pub fn run<R: Registry>(input: SensorsInput<R>) -> Result<(), SourceError> {
    let stop = input.stop.clone();
    let mut sensors = Sensors::new(input, monotonic());
    loop {
        sensors.tick(monotonic())?;
        if stop.wait(sensors.idle_for(monotonic())) {
            return sensors.close();
        }
    }
}

/// A source, and its sensors.
#[derive(Debug)]
struct Group {
    plan: SensorSource,
    writer: ValueWriter,
    schedule: Schedule,
    look_at: Monotonic,
    sensors: Vec<Sensor>,
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
    counters: Arc<Counters>,
    said: Said,
    losses_said_at: Option<Monotonic>,
}

impl<R: Registry> Sensors<R> {
    fn new(input: SensorsInput<R>, now: Monotonic) -> Self {
        let group = |plan: SensorSource| Group {
            writer: ValueWriter::new(&input.device, &plan.id),
            schedule: Schedule::new(plan.interval, now),
            look_at: now,
            sensors: Vec::new(),
            plan,
        };
        let groups: Vec<_> = input.sources.into_iter().map(group).collect();
        for Group { plan, .. } in &groups {
            for unmatched in scan(&plan.paths, &[]).unmatched {
                tracing::warn!(
                    "source {}: {} matches nothing at the moment; it is tried again",
                    plan.id,
                    plan.paths[unmatched]
                );
            }
        }
        let is_sensor = |open: &OpenGeneration| open.origin == Origin::Sensor;
        Self {
            unclean: input.known.into_iter().filter(is_sensor).collect(),
            groups,
            device: input.device,
            registry: input.registry,
            budget: input.budget,
            batches: input.batches,
            counters: input.counters,
            said: Said::default(),
            losses_said_at: None,
        }
    }

    /// Does everything that is due.
    fn tick(&mut self, now: Monotonic) -> Result<(), SourceError> {
        self.close_unclean()?;
        for index in 0..self.groups.len() {
            if !self.groups[index].schedule.is_due(now) {
                continue;
            }
            if now >= self.groups[index].look_at {
                self.look(index, now)?;
            }
            for nth in 0..self.groups[index].sensors.len() {
                self.sample(index, nth)?;
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
        while let Some(open) = self.unclean.last() {
            let Some(permit) = self.budget.try_take(SAMPLE_BYTES) else {
                return Ok(());
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
                let added = draft.notice(&writer, wall_ms(), open.settled, &notice);
                debug_assert!(added, "an empty batch takes any record");
            }
            if let Some(batch) = draft.finish(&open.stream, open.generation, Some(permit)) {
                send(&self.batches, batch)?;
            }
            self.unclean.pop();
        }
        Ok(())
    }

    /// Matches a source's globs, and registers what is new, all in one transaction.
    fn look(&mut self, index: usize, now: Monotonic) -> Result<(), SourceError> {
        let group = &mut self.groups[index];
        group.look_at = now.plus(LOOK_AGAIN);
        let found = scan(&group.plan.paths, &[]);
        for trouble in &found.troubles {
            let text = trouble.to_string();
            if self.said.is_news(trouble.path(), &text) {
                tracing::warn!("source {}: {text}", group.plan.id);
            }
        }
        let known: HashSet<_> = group.sensors.iter().map(|sensor| &sensor.path).collect();
        let new: Vec<_> = (found.files.into_iter())
            .map(|seen| seen.path)
            .filter(|path| !known.contains(path))
            .collect();
        let mut opens = Vec::new();
        let mut sensors = Vec::new();
        for path in new {
            let stream = StreamId::new(&self.device, &group.plan.id, path.as_os_str().as_bytes());
            let text = match stream {
                Ok(stream) if group.sensors.len() + sensors.len() < SENSORS_MAX => {
                    let generation = draw_generation()?;
                    opens.push(OpenGeneration {
                        generation,
                        stream: stream.clone(),
                        origin: Origin::Sensor,
                        settled: 0,
                        skip_to: None,
                        cut: None,
                        marker: None,
                    });
                    sensors.push(Sensor::new(path, stream, generation));
                    continue;
                }
                Ok(_) => format!("left out: a source is {SENSORS_MAX} sensors at most"),
                Err(error) => format!("left out: it cannot name a stream: {error}"),
            };
            if self.said.is_news(&path, &text) {
                tracing::warn!("source {}: {}: {text}", group.plan.id, path.display());
            }
        }
        if !opens.is_empty() {
            self.registry.register(&opens)?;
            group.sensors.extend(sensors);
        }
        Ok(())
    }

    /// Reads one sensor. Without a reading there is no sample, and no number is used.
    fn sample(&mut self, index: usize, nth: usize) -> Result<(), SourceError> {
        let group = &mut self.groups[index];
        let (plan, sensor) = (&group.plan, &mut group.sensors[nth]);
        let raw = match value_file::read(&sensor.path) {
            Ok(raw) => raw,
            Err(error) => {
                let text = error.to_string();
                if self.said.is_news(&sensor.path, &text) {
                    tracing::warn!(
                        "source {}: no reading from {}: {text}; tried again at each interval",
                        plan.id,
                        sensor.path.display()
                    );
                }
                return Ok(());
            }
        };
        if self.said.is_over(&sensor.path) {
            tracing::info!(
                "source {}: {} gives readings",
                plan.id,
                sensor.path.display()
            );
        }
        let reading = Reading {
            time_ms: wall_ms(),
            value: raw * plan.scale + plan.offset,
            unit: plan.unit.as_deref(),
        };
        self.counters.taken.fetch_add(1, Ordering::Relaxed);
        let room = self.budget.try_take(SAMPLE_BYTES);
        match sensor.sample(&group.writer, reading, room) {
            Some(batch) => send(&self.batches, batch)?,
            None => {
                self.counters.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
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
        let mut patience = PATIENCE;
        for group in &mut self.groups {
            for sensor in &mut group.sensors {
                let room = self.budget.take(SAMPLE_BYTES, patience);
                if room.is_none() {
                    patience = Duration::ZERO;
                }
                if let Some(batch) = sensor.close(&group.writer, wall_ms(), room) {
                    send(&self.batches, batch)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
