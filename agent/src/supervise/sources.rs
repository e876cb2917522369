//! The threads of the sources: started, stopped, and heard when they end, however they end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use headwater_record::DeviceId;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::StartError;
use crate::batch::Batch;
use crate::budget::Budget;
use crate::checkpoint::{OpenGeneration, Origin};
use crate::config::Plan;
use crate::journal::{self, JOURNALCTL, JournalInput};
use crate::sample::{self, SensorsInput};
use crate::sources::SourceError;
use crate::spool::store::Store;
use crate::stop::Stop;
use crate::tail::files::{self, FilesInput};

/// Batches between the sources and delivery, which takes them at once; the window bounds their
/// bytes.
const BATCHES: usize = 16;
/// One thread for files, and one for sensors: reading a 1-Wire sensor blocks for most of a second,
/// and must not hold up the files. Besides, one for each journal source.
const THREADS: usize = 2;

/// A source's thread is over.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) thread: &'static str,
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
    /// Whether the broker does not acknowledge, for who reads sensors.
    pub(super) offline: Arc<AtomicBool>,
    stops: Vec<Stop>,
}

impl Sources {
    /// Starts a thread for each kind that is configured, over what the database knows.
    pub(super) fn start(
        plan: &Plan,
        store: &Store,
        known: &[OpenGeneration],
        seed: u64,
    ) -> Result<Self, StartError> {
        let (sender, batches) = channel(BATCHES);
        let (ends, ended) = channel(THREADS + plan.journals.len());
        let samples = Arc::new(sample::Counters::default());
        let mut sources = Self {
            batches,
            ended,
            budget: budget(plan),
            samples: Arc::clone(&samples),
            offline: Arc::default(),
            stops: Vec::new(),
        };
        let inputs = Inputs {
            device: &plan.device,
            known,
            sender,
        };
        sources.start_journals(plan, store, &inputs, seed, &ends)?;
        if !plan.files.is_empty() {
            let stop = sources.add_stop();
            let input = FilesInput {
                device: inputs.device.clone(),
                sources: plan.files.clone(),
                known: inputs.known.to_vec(),
                registry: store.registry(stop.clone(), seed),
                budget: sources.budget.clone(),
                batches: inputs.sender.clone(),
                stop,
            };
            spawn("files", ends.clone(), move || files::run(input))?;
        }
        // Also where none is configured any more: what an earlier run left open is to be closed.
        let any_open = known.iter().any(|open| open.origin == Origin::Sensor);
        if !plan.sensors.is_empty() || any_open {
            let stop = sources.add_stop();
            let input = SensorsInput {
                device: inputs.device.clone(),
                sources: plan.sensors.clone(),
                known: (inputs.known.iter())
                    .filter(|open| !is_of_journal(plan, open))
                    .cloned()
                    .collect(),
                registry: store.registry(stop.clone(), !seed),
                budget: sources.budget.clone(),
                batches: inputs.sender.clone(),
                stop,
                counters: samples,
                offline: Arc::clone(&sources.offline),
            };
            spawn("sensors", ends, move || sample::run(input))?;
        }
        Ok(sources)
    }

    fn start_journals(
        &mut self,
        plan: &Plan,
        store: &Store,
        inputs: &Inputs<'_>,
        seed: u64,
        ends: &Sender<Ended>,
    ) -> Result<(), StartError> {
        for (nth, source) in (0_u64..).zip(&plan.journals) {
            let stop = self.add_stop();
            let seed = seed.rotate_left(17) ^ nth;
            let is_its = |open: &&OpenGeneration| {
                is_of_journal(plan, open) && open.stream.source() == source.id.as_str()
            };
            let input = JournalInput {
                device: inputs.device.clone(),
                source: source.clone(),
                program: JOURNALCTL.into(),
                known: inputs.known.iter().filter(is_its).cloned().collect(),
                registry: store.registry(stop.clone(), seed),
                budget: self.budget.clone(),
                batches: inputs.sender.clone(),
                stop,
                seed,
            };
            spawn("journal", ends.clone(), move || journal::run(input))?;
        }
        Ok(())
    }

    fn add_stop(&mut self) -> Stop {
        let stop = Stop::new();
        self.stops.push(stop.clone());
        stop
    }

    /// Tells every thread to stop; its channel closes behind it.
    pub(super) fn stop(&self) {
        for stop in &self.stops {
            stop.set();
        }
    }
}

/// Whether a generation is of a journal source: it has no file and no identity, as a sensor's, and its
/// source goes on with it.
fn is_of_journal(plan: &Plan, open: &OpenGeneration) -> bool {
    let source = open.stream.source();
    open.stream.device() == plan.device.as_str()
        && plan
            .journals
            .iter()
            .any(|journal| journal.id.as_str() == source)
}

/// What every source is given.
struct Inputs<'a> {
    device: &'a DeviceId,
    known: &'a [OpenGeneration],
    sender: Sender<Batch>,
}

/// The window; where there are sensors, an eighth of it is theirs alone.
fn budget(plan: &Plan) -> Budget {
    let reserve = if plan.sensors.is_empty() {
        0
    } else {
        plan.window_bytes / 8
    };
    Budget::with_reserve(plan.window_bytes, reserve)
}

fn spawn(
    thread: &'static str,
    ends: Sender<Ended>,
    work: impl FnOnce() -> Result<(), SourceError> + Send + 'static,
) -> Result<(), StartError> {
    thread::Builder::new()
        .name(thread.into())
        .spawn(move || {
            let mut end = End {
                thread,
                ends,
                result: None,
            };
            end.result = Some(work());
        })
        .map(drop)
        .map_err(|source| StartError::Thread { thread, source })
}

/// Says that the thread is over when it is dropped, so that a panic is heard too.
struct End {
    thread: &'static str,
    ends: Sender<Ended>,
    result: Option<Result<(), SourceError>>,
}

impl Drop for End {
    fn drop(&mut self) {
        let ended = Ended {
            thread: self.thread,
            result: self.result.take(),
        };
        // There is a place for each thread; nobody listens any more only after the end.
        drop(self.ends.try_send(ended));
    }
}
