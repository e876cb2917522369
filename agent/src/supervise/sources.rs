//! The threads of the sources: started, stopped, and heard when they end, however they end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use headwater_record::SourceId;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use super::StartError;
use crate::batch::Batch;
use crate::budget::Budget;
use crate::checkpoint::{Knowledge, OpenGeneration, Origin};
use crate::clock::Monotonic;
use crate::config::{FileSource, Plan, SensorSource};
use crate::journal::{self, JOURNALCTL, JournalInput};
use crate::orders::Orders;
use crate::sample::{self, SensorsInput};
use crate::sources::SourceError;
use crate::spool::store::Store;
use crate::stop::Stop;
use crate::tail::counters::Counters;
use crate::tail::files::{self, FilesInput};
use crate::tail::nameless::Nameless;

/// Batches between the sources and delivery, which takes them at once; the window bounds their
/// bytes.
const BATCHES: usize = 16;
/// Threads that may have ended and not been heard yet; one more waits.
const ENDS: usize = 16;

/// What one thread works on. One for all files, and one for all sensors: reading a 1-Wire sensor
/// blocks for most of a second, and must not hold up the files. Besides, one for each journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Files,
    Sensors,
    Journal(SourceId),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "files",
            Self::Sensors => "sensors",
            Self::Journal(_) => "journal",
        })
    }
}

impl Part {
    /// Those that a configuration asks for.
    pub(super) fn of(plan: &Plan) -> Vec<Self> {
        let journals = plan.journals.iter();
        let mut parts: Vec<_> = journals
            .map(|journal| Self::Journal(journal.id.clone()))
            .collect();
        if !plan.files.is_empty() {
            parts.push(Self::Files);
        }
        if !plan.sensors.is_empty() {
            parts.push(Self::Sensors);
        }
        parts
    }
}

/// A source's thread is over.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) part: Part,
    /// None where it panicked.
    pub(super) result: Option<Result<(), SourceError>>,
}

/// The running sources.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) batches: Receiver<Batch>,
    pub(super) ended: Receiver<Ended>,
    pub(super) budget: Budget,
    pub(super) samples: Arc<sample::Counters>,
    pub(super) files: Arc<Counters>,
    /// Whether the broker does not acknowledge, for who reads sensors.
    pub(super) offline: Arc<AtomicBool>,
    /// Deleted files, from who followed them to who goes on.
    nameless: Arc<Nameless>,
    /// To the thread of the files, and to that of the sensors.
    to_files: Orders<FileSource>,
    to_sensors: Orders<SensorSource>,
    running: Vec<(Part, Stop)>,
    /// None once all were told to stop: the channel closes behind the last of them.
    sender: Option<Sender<Batch>>,
    ends: Sender<Ended>,
    seed: u64,
}

impl Sources {
    /// Starts a thread for each part that is configured, over what the database knows.
    pub(super) fn start(
        plan: &Plan,
        store: &Store,
        known: &Knowledge,
        seed: u64,
    ) -> Result<Self, StartError> {
        let (sender, batches) = channel(BATCHES);
        let (ends, ended) = channel(ENDS);
        let mut sources = Self {
            batches,
            ended,
            budget: Budget::with_shares(plan.window_bytes, plan.shares()),
            samples: Arc::default(),
            files: Arc::default(),
            offline: Arc::default(),
            nameless: Arc::default(),
            to_files: Orders::default(),
            to_sensors: Orders::default(),
            running: Vec::new(),
            sender: Some(sender),
            ends,
            seed,
        };
        let mut parts = Part::of(plan);
        // Also where none is configured any more: what an earlier run left open is to be closed.
        let any_open = (known.open)
            .iter()
            .any(|open| open.origin == Origin::Sensor && !journal::is_journal(open));
        if any_open && !parts.contains(&Part::Sensors) {
            parts.push(Part::Sensors);
        }
        for part in &parts {
            sources.start_part(part, plan, store, known)?;
        }
        Ok(sources)
    }

    /// Those that run.
    pub(super) fn parts(&self) -> Vec<Part> {
        self.running.iter().map(|(part, _)| part.clone()).collect()
    }

    /// Another configuration: who has a share of the window.
    pub(super) fn adapt(&self, plan: &Plan) {
        self.budget.set_shares(plan.shares());
    }

    /// Closes the deleted files that a thread left to the next one, where there is none any more: they would
    /// take their blocks for as long as the agent runs.
    pub(super) fn let_go_of_deleted(&self) {
        if !self.parts().contains(&Part::Files) {
            drop(self.nameless.take());
        }
    }

    /// Starts one thread; nothing where all were told to stop.
    pub(super) fn start_part(
        &mut self,
        part: &Part,
        plan: &Plan,
        store: &Store,
        known: &Knowledge,
    ) -> Result<(), StartError> {
        let Some(batches) = self.sender.clone() else {
            return Ok(());
        };
        let stop = Stop::new();
        let give = Given {
            plan,
            store,
            known,
            batches,
            stop: stop.clone(),
        };
        match part {
            // What was ordered of an earlier thread is not for this one: it starts with all of the plan.
            Part::Files => {
                self.to_files = Orders::default();
                self.start_files(give)?;
            }
            Part::Sensors => {
                self.to_sensors = Orders::default();
                self.start_sensors(give)?;
            }
            Part::Journal(id) => self.start_journal(id, give)?,
        }
        self.running.push((part.clone(), stop));
        Ok(())
    }

    fn start_files(&self, give: Given<'_>) -> Result<(), StartError> {
        let input = FilesInput {
            device: give.plan.device.clone(),
            sources: give.plan.files.clone(),
            known: give.known.clone(),
            nameless: Arc::clone(&self.nameless),
            orders: self.to_files.clone(),
            registry: give.store.registry(give.stop.clone(), self.seed),
            budget: self.budget.clone(),
            batches: give.batches,
            floors: give.plan.spool.floors,
            stop: give.stop,
            seed: self.seed,
            counters: Arc::clone(&self.files),
        };
        self.spawn(Part::Files, input.stop.clone(), move || files::run(input))
    }

    fn start_sensors(&self, give: Given<'_>) -> Result<(), StartError> {
        let known = give.known.open.iter();
        let input = SensorsInput {
            device: give.plan.device.clone(),
            sources: give.plan.sensors.clone(),
            known: known
                .filter(|open| !journal::is_journal(open))
                .cloned()
                .collect(),
            orders: self.to_sensors.clone(),
            registry: give.store.registry(give.stop.clone(), !self.seed),
            budget: self.budget.clone(),
            batches: give.batches,
            stop: give.stop,
            counters: Arc::clone(&self.samples),
            offline: Arc::clone(&self.offline),
        };
        self.spawn(Part::Sensors, input.stop.clone(), move || {
            sample::run(input)
        })
    }

    fn start_journal(&self, id: &SourceId, give: Given<'_>) -> Result<(), StartError> {
        let mut numbered = (0_u64..).zip(&give.plan.journals);
        let Some((nth, source)) = numbered.find(|(_, source)| source.id == *id) else {
            return Ok(());
        };
        let seed = self.seed.rotate_left(17) ^ nth;
        let device = give.plan.device.as_str();
        let is_its = |open: &&OpenGeneration| {
            let stream = &open.stream;
            journal::is_journal(open) && (stream.device(), stream.source()) == (device, id.as_str())
        };
        let input = JournalInput {
            device: give.plan.device.clone(),
            source: source.clone(),
            program: JOURNALCTL.into(),
            known: give.known.open.iter().filter(is_its).cloned().collect(),
            registry: give.store.registry(give.stop.clone(), seed),
            budget: self.budget.clone(),
            batches: give.batches,
            stop: give.stop,
            seed,
        };
        let stop = input.stop.clone();
        self.spawn(Part::Journal(id.clone()), stop, move || journal::run(input))
    }

    /// The thread that was heard of least recently, and how long ago that was.
    pub(super) fn most_silent(&self, now: Monotonic) -> Option<(String, Duration)> {
        let all = self.running.iter();
        all.map(|(part, stop)| (part.to_string(), stop.silent_for(now)))
            .max_by_key(|(_, silent)| *silent)
    }

    /// Tells one thread to stop; [`Ended`] follows.
    pub(super) fn stop_part(&self, part: &Part) {
        for (_, stop) in self.running.iter().filter(|(other, _)| other == part) {
            stop.set();
        }
    }

    /// Tells a thread of several sources to let go of those that the new plan has no more, or others;
    /// none where there is nothing to let go of.
    pub(super) fn let_go(
        &self,
        part: &Part,
        (old, new): (&Plan, &Plan),
    ) -> Option<oneshot::Receiver<()>> {
        let answer = match part {
            Part::Files => {
                (self.to_files).let_go((&old.files, &new.files), |source| source.id.clone())
            }
            Part::Sensors => {
                (self.to_sensors).let_go((&old.sensors, &new.sensors), |source| source.id.clone())
            }
            Part::Journal(_) => None,
        }?;
        self.wake(part);
        Some(answer)
    }

    /// Tells a thread of several sources to take up those that are new in the new plan, or others.
    pub(super) fn take_up(&self, part: &Part, (old, new): (&Plan, &Plan), known: &Knowledge) {
        match part {
            Part::Files => {
                (self.to_files).take_up((&old.files, &new.files), known.clone());
            }
            // A sensor's generation ends where its source is let go of: nothing of it is open.
            Part::Sensors => {
                (self.to_sensors).take_up((&old.sensors, &new.sensors), Knowledge::default());
            }
            Part::Journal(_) => {}
        }
        self.wake(part);
    }

    /// The device was suspended: the time that a thread waits is counted without that, when a sensor is due is not.
    pub(super) fn was_suspended(&self) {
        self.wake(&Part::Sensors);
    }

    fn wake(&self, part: &Part) {
        for (_, stop) in self.running.iter().filter(|(other, _)| other == part) {
            stop.wake();
        }
    }

    /// A thread is over.
    pub(super) fn forget(&mut self, part: &Part) {
        self.running.retain(|(other, _)| other != part);
    }

    /// Tells every thread to stop; their channel closes behind them.
    pub(super) fn stop(&mut self) {
        self.sender = None;
        for (_, stop) in &self.running {
            stop.set();
        }
    }

    fn spawn(
        &self,
        part: Part,
        stop: Stop,
        work: impl FnOnce() -> Result<(), SourceError> + Send + 'static,
    ) -> Result<(), StartError> {
        let thread = match part {
            Part::Files => "files",
            Part::Sensors => "sensors",
            Part::Journal(_) => "journal",
        };
        let ends = self.ends.clone();
        thread::Builder::new()
            .name(thread.into())
            .spawn(move || {
                let mut end = End {
                    part,
                    ends,
                    result: None,
                };
                end.result = Some(work().or_else(|error| as_told(error, &stop)));
            })
            .map(drop)
            .map_err(|source| StartError::Thread { thread, source })
    }
}

/// A thread that is told to stop while it waits for the database leaves what it asked for, as if that
/// were gone: it ended as it was told to. What it asked for may be entered yet; who comes next asks the
/// database behind it.
fn as_told(error: SourceError, stop: &Stop) -> Result<(), SourceError> {
    match error {
        SourceError::Downstream if stop.is_set() => Ok(()),
        error => Err(error),
    }
}

/// What a thread is given.
struct Given<'a> {
    plan: &'a Plan,
    store: &'a Store,
    known: &'a Knowledge,
    batches: Sender<Batch>,
    stop: Stop,
}

/// Says that the thread is over when it is dropped, so that a panic is heard too.
struct End {
    part: Part,
    ends: Sender<Ended>,
    result: Option<Result<(), SourceError>>,
}

impl Drop for End {
    fn drop(&mut self) {
        let ended = Ended {
            part: self.part.clone(),
            result: self.result.take(),
        };
        // Nobody listens any more only after the end.
        drop(self.ends.blocking_send(ended));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_stopped_while_it_waits_has_not_failed() {
        let (sender, batches) = channel(BATCHES);
        let (ends, ended) = channel(ENDS);
        let mut sources = Sources {
            batches,
            ended,
            budget: Budget::new(1 << 20),
            samples: Arc::default(),
            files: Arc::default(),
            offline: Arc::default(),
            nameless: Arc::default(),
            to_files: Orders::default(),
            to_sensors: Orders::default(),
            running: Vec::new(),
            sender: Some(sender),
            ends,
            seed: 0,
        };
        let mut ends_with = |is_told: bool, error: Option<SourceError>| {
            let stop = Stop::new();
            if is_told {
                stop.set();
            }
            let work = move || error.map_or(Ok(()), Err);
            sources.spawn(Part::Files, stop, work).unwrap();
            sources.ended.blocking_recv().unwrap().result
        };
        let downstream = SourceError::Downstream;
        assert_eq!(ends_with(true, Some(downstream)), Some(Ok(())));
        assert_eq!(ends_with(false, Some(downstream)), Some(Err(downstream)));
        assert_eq!(ends_with(true, None), Some(Ok(())));
    }
}
