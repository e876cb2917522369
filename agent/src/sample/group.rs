//! The sensors of one source: found, read in their turn.

use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use headwater_record::value::ValueWriter;
use headwater_record::{DeviceId, StreamId};

use super::read::buffer::{Buffers, Clocks};
use super::read::{Kind, ReadError};
use super::reading::{Quality, Reading, Sampled};
use super::schedule::Schedule;
use super::sensor::{Sensor, Telling};
use crate::checkpoint::{OpenGeneration, Origin, Registry};
use crate::clock::{Moment, Monotonic, kernel_ns, moment, stamp_ms, wall_ms};
use crate::config::SensorSource;
use crate::discover::said::Said;
use crate::discover::scan;
use crate::last_words::without_digits;
use crate::sources::{SourceError, draw_generation};

/// How often the globs are matched again: a sensor that is plugged in may wait so long.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Most sensors of one source: a mistaken glob must not fill the database with generations.
const SENSORS_MAX: usize = 1000;
/// The path of the stream of a command.
const COMMAND: &str = "command";

/// A source, and its sensors.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) plan: SensorSource,
    pub(super) writer: ValueWriter,
    pub(super) schedule: Schedule,
    pub(super) sensors: Vec<Sensor>,
    look_at: Monotonic,
    buffers: Buffers,
}

impl Group {
    pub(super) fn new(plan: SensorSource, device: &DeviceId, now: Monotonic) -> Self {
        // The same at each start, and another for each device and source: a fleet is spread.
        let seed = crc32c::crc32c(format!("{device}/{}", plan.id).as_bytes());
        Self {
            writer: ValueWriter::new(device, &plan.id),
            schedule: Schedule::new(plan.beat, u64::from(seed), now, wall_ms()),
            sensors: Vec::new(),
            look_at: now,
            buffers: Buffers::default(),
            plan,
        }
    }

    /// How its samples are told, now.
    pub(super) fn telling(&self, offline: bool) -> Telling<'_> {
        Telling {
            writer: &self.writer,
            policy: &self.plan.policy,
            unit: self.plan.unit.as_deref(),
            offline,
        }
    }

    /// Matches the globs, where it is time, and registers what is new, all in one transaction.
    pub(super) fn look<R: Registry>(
        &mut self,
        device: &DeviceId,
        registry: &R,
        said: &mut Said,
        now: Monotonic,
    ) -> Result<(), SourceError> {
        if now < self.look_at {
            return Ok(());
        }
        self.look_at = now.plus(LOOK_AGAIN);
        let known: HashSet<_> = self.sensors.iter().map(|sensor| &sensor.path).collect();
        let paths = self.paths(said).into_iter();
        let new: Vec<_> = paths.filter(|path| !known.contains(path)).collect();
        let (mut opens, mut sensors) = (Vec::new(), Vec::new());
        for path in new {
            let stream = StreamId::new(device, &self.plan.id, path.as_os_str().as_bytes());
            let text = match stream {
                Ok(stream) if self.sensors.len() + sensors.len() < SENSORS_MAX => {
                    let generation = draw_generation()?;
                    opens.push(OpenGeneration {
                        generation,
                        stream: stream.clone(),
                        origin: Origin::Sensor,
                        settled: 0,
                        skip_to: None,
                        cuts: Vec::new(),
                        marker: None,
                        earlier: Vec::new(),
                        goes_on: None,
                    });
                    let about = self.plan.reader.about(&path);
                    sensors.push(Sensor::new(path, stream, generation, about));
                    continue;
                }
                Ok(_) => format!("left out: a source is {SENSORS_MAX} sensors at most"),
                Err(error) => format!("left out: it cannot name a stream: {error}"),
            };
            if said.is_news(&path, &text) {
                tracing::warn!("source {}: {}: {text}", self.plan.id, path.display());
            }
        }
        if !opens.is_empty() {
            match registry.try_register(&opens)? {
                Ok(()) => {
                    sensors.iter().for_each(|sensor| {
                        said.is_over(&sensor.path);
                    });
                    self.sensors.extend(sensors);
                }
                // Those that are known go on, and so does a reload.
                Err(refused) => {
                    let text = refused.to_string();
                    if (sensors.iter()).any(|sensor| said.is_news(&sensor.path, &text)) {
                        tracing::warn!(
                            "cannot enter a new file or sensor into the spool: {refused}; it waits, and is tried again"
                        );
                    }
                }
            }
        }
        Ok(())
    }

    fn paths(&self, said: &mut Said) -> Vec<PathBuf> {
        if self.plan.reader.command.is_some() {
            return vec![PathBuf::from(COMMAND)];
        }
        let found = scan(&self.plan.paths, &[]);
        for trouble in &found.troubles {
            let text = trouble.to_string();
            if said.is_news(trouble.path(), &text) {
                tracing::warn!("source {}: {text}", self.plan.id);
            }
        }
        let paths = found.files.into_iter().map(|seen| seen.path);
        match self.plan.reader.kind {
            // An element that is not enabled is no sensor.
            Kind::IioBuffer => paths
                .filter(|path| self.plan.reader.is_enabled(path))
                .collect(),
            _ => paths.collect(),
        }
    }

    /// Reads what is read of all sensors at once.
    pub(super) fn fill(&mut self) {
        if self.is_buffered() {
            let paths: Vec<_> = self
                .sensors
                .iter()
                .map(|sensor| sensor.path.as_path())
                .collect();
            let clocks = Clocks {
                now: moment(),
                kernel_ns: &kernel_ns,
                interval: self.plan.beat.interval,
            };
            self.buffers.fill(&self.plan.reader.dev, &paths, &clocks);
        }
    }

    /// Whether its samples were collected meanwhile, and are more at a tick.
    pub(super) fn is_buffered(&self) -> bool {
        self.plan.reader.kind == Kind::IioBuffer && self.plan.reader.command.is_none()
    }

    /// What a sensor says now: one reading, or what was collected since the last time.
    pub(super) fn readings(&mut self, nth: usize, said: &mut Said, now: Monotonic) -> Vec<Sampled> {
        let (plan, sensor) = (&self.plan, &self.sensors[nth]);
        // The moment at which it was read.
        let taken = || Moment {
            at: now,
            stamp_ms: stamp_ms(),
        };
        let one = |value| vec![(value, taken())];
        let read = match &plan.reader.command {
            Some(command) => plan.reader.run(command).map(one),
            None if self.is_buffered() => self.buffers.take(&sensor.path),
            None => plan.reader.read(&sensor.path).map(one),
        };
        let values = match read {
            Ok(values) => values,
            Err(error) => {
                say_trouble(plan, &sensor.path, &error, said);
                return vec![Sampled {
                    reading: Reading::none(error.quality()),
                    moment: taken(),
                }];
            }
        };
        if said.is_over(&sensor.path) {
            tracing::info!(
                "source {}: {} gives readings",
                plan.id,
                sensor.path.display()
            );
        }
        let is_stale = plan.reader.command.is_none()
            && plan
                .stale_after
                .is_some_and(|after| is_older(&sensor.path, after));
        let reading = |raw: f64| {
            let mut reading = plan.conversion.reading(raw);
            if is_stale && reading.quality == Quality::Ok {
                reading.quality = Quality::Stale;
            }
            reading
        };
        values
            .into_iter()
            .map(|(raw, moment)| Sampled {
                reading: reading(raw),
                moment,
            })
            .collect()
    }
}

fn say_trouble(plan: &SensorSource, path: &Path, error: &ReadError, said: &mut Said) {
    let text = error.to_string();
    let news = match error {
        ReadError::Command(_) => without_digits(&text),
        _ => text.clone(),
    };
    if said.is_news(path, &news) {
        tracing::warn!(
            "source {}: no reading from {}: {text}; tried again at each interval",
            plan.id,
            path.display()
        );
    }
}

/// Whether a file was written longer ago than that. One written in the future was not.
fn is_older(path: &Path, after: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    let since = modified.map(|at| at.duration_since(SystemTime::UNIX_EPOCH));
    match since {
        Ok(Ok(at)) => Duration::from_millis(wall_ms()).saturating_sub(at) > after,
        Ok(Err(_)) | Err(_) => false,
    }
}
