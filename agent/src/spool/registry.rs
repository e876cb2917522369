//! The sources' way into the database: they ask, and wait until it is committed.

use std::collections::HashMap;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headwater_record::Generation;

use super::Trouble;
use super::store::{Request, Store};
use crate::checkpoint::{
    ClosedFile, Entered, FileIdentity, Knowledge, Marker, OpenGeneration, Refused, Registry,
    StoreStopped,
};
use crate::delivery::backoff::{Backoff, Jitter};
use crate::stop::Stop;

/// How often a waiting source looks whether it should stop.
const LOOK: Duration = Duration::from_secs(1);

/// What a source wants entered.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Register(Vec<OpenGeneration>),
    Identify(Vec<(Generation, FileIdentity)>),
    Cut(Generation, u64),
}

/// What was noted of a file.
#[derive(Debug, Clone)]
pub(super) struct Marked {
    /// What lies before the last offset that was read.
    pub(super) marker: Marker,
    /// See [`FileIdentity::since_ms`].
    pub(super) since_ms: u64,
    /// By what it is known, where it was read to its end and is closed now.
    pub(super) whole: Option<FileIdentity>,
    /// Of a journal's entry: what is kept beside its marker.
    pub(super) boot: Option<Marker>,
}

/// The last marker of each generation, from the thread that reads to the one that writes: a
/// checkpoint takes it along, so that it costs no transaction of its own. One for each open
/// generation at most.
#[derive(Debug, Clone, Default)]
pub(super) struct Markers(Arc<Mutex<HashMap<Generation, Marked>>>);

impl Markers {
    fn set(&self, generation: Generation, marked: Marked) {
        self.held().insert(generation, marked);
    }

    pub(super) fn get(&self, generation: Generation) -> Option<Marked> {
        self.held().get(&generation).cloned()
    }

    /// Adds files that were read to their end, and whose close is on its way.
    pub(super) fn add_closing(&self, known: &mut Knowledge) {
        let held = self.held();
        let open = known.open.iter().flat_map(OpenGeneration::chain);
        let closing = open.filter_map(|open| {
            let marked = held.get(&open.generation)?;
            Some(ClosedFile {
                stream: open.stream.clone(),
                file: marked.whole.clone()?,
                marker: Some(marked.marker),
                is_whole: true,
            })
        });
        known.closed.extend(closing);
    }

    pub(super) fn forget(&self, generation: Generation) {
        self.held().remove(&generation);
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<Generation, Marked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the last change that was asked for was not entered; nothing where it was, or where the database
/// took a commit since: who still wants something asks again.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusing(Arc<Mutex<Option<Trouble>>>);

impl Refusing {
    pub(super) fn answered(&self, entered: Result<(), Trouble>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = entered.err();
    }
}

/// A source thread's handle.
#[derive(Debug)]
pub struct StoreRegistry {
    requests: SyncSender<Request>,
    markers: Markers,
    refusing: Refusing,
    stop: Stop,
    seed: u64,
}

impl Store {
    /// A handle for the source thread that `stop` stops. `seed` spreads its retries.
    pub fn registry(&self, stop: Stop, seed: u64) -> StoreRegistry {
        StoreRegistry {
            requests: self.requests.clone(),
            markers: self.markers.clone(),
            refusing: self.refusing.clone(),
            stop,
            seed,
        }
    }

    /// Why sources wait for what they want entered; none where the last that wanted something got it.
    pub fn refuses_entries(&self) -> Option<Trouble> {
        *self
            .refusing
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry for StoreRegistry {
    fn register(&self, new: &[OpenGeneration]) -> Result<(), StoreStopped> {
        self.enter(&Change::Register(new.to_vec()))
    }

    fn identify(&self, files: &[(Generation, FileIdentity)]) -> Result<(), StoreStopped> {
        self.enter(&Change::Identify(files.to_vec()))
    }

    fn cut(&self, generation: Generation, offset: u64) -> Result<(), StoreStopped> {
        self.enter(&Change::Cut(generation, offset))
    }

    fn try_register(&self, new: &[OpenGeneration]) -> Result<Entered, StoreStopped> {
        self.enter_now(Change::Register(new.to_vec()))
    }

    fn try_identify(&self, files: &[(Generation, FileIdentity)]) -> Result<Entered, StoreStopped> {
        self.enter_now(Change::Identify(files.to_vec()))
    }

    fn try_cut(&self, generation: Generation, offset: u64) -> Result<Entered, StoreStopped> {
        self.enter_now(Change::Cut(generation, offset))
    }

    fn mark(&self, generation: Generation, marker: Marker, since_ms: u64) {
        let marked = Marked {
            marker,
            since_ms,
            whole: None,
            boot: None,
        };
        self.markers.set(generation, marked);
    }

    fn mark_entry(&self, generation: Generation, marker: Marker, boot: Marker) {
        let marked = Marked {
            marker,
            since_ms: 0,
            whole: None,
            boot: Some(boot),
        };
        self.markers.set(generation, marked);
    }

    fn read_whole(&self, generation: Generation, file: &FileIdentity, marker: Marker) {
        let marked = Marked {
            marker,
            since_ms: file.since_ms,
            whole: Some(file.clone()),
            boot: None,
        };
        self.markers.set(generation, marked);
    }
}

impl StoreRegistry {
    fn enter(&self, change: &Change) -> Result<(), StoreStopped> {
        let (mut backoff, mut jitter) = (Backoff::default(), Jitter::new(self.seed));
        let mut said = None;
        loop {
            match self.try_enter(change.clone())? {
                Ok(()) => return Ok(()),
                Err(trouble) => {
                    if said.replace(trouble) != Some(trouble) {
                        tracing::warn!(
                            "cannot enter a new file or sensor into the spool: {}; it waits, and is tried again",
                            trouble.advice()
                        );
                    }
                }
            }
            if self
                .stop
                .sleep(Duration::from_millis(backoff.next_ms(&mut jitter)))
            {
                return Err(StoreStopped);
            }
        }
    }

    fn enter_now(&self, change: Change) -> Result<Entered, StoreStopped> {
        let entered = self.try_enter(change)?;
        Ok(entered.map_err(|trouble| Refused(trouble.advice())))
    }

    fn try_enter(&self, change: Change) -> Result<Result<(), Trouble>, StoreStopped> {
        let (answer, answered) = sync_channel(1);
        self.requests
            .send(Request::Change(change, answer))
            .map_err(|_| StoreStopped)?;
        loop {
            match answered.recv_timeout(LOOK) {
                Ok(entered) => {
                    self.refusing.answered(entered);
                    return Ok(entered);
                }
                Err(RecvTimeoutError::Timeout) if !self.stop.is_set() => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(StoreStopped);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_seen_until_something_is_entered() {
        let (requests, queue) = sync_channel(1);
        let registry = StoreRegistry {
            requests,
            markers: Markers::default(),
            refusing: Refusing::default(),
            stop: Stop::new(),
            seed: 1,
        };
        let seen = registry.refusing.clone();
        let answers = [Ok(()), Err(Trouble::ReadOnly), Err(Trouble::Full), Ok(())];
        let store = std::thread::spawn(move || {
            for entered in answers {
                let Ok(Request::Change(_, answer)) = queue.recv() else {
                    panic!("no change");
                };
                answer.send(entered).unwrap();
            }
        });
        for entered in answers {
            let answered = registry.try_cut(Generation(1), 5).unwrap();
            assert_eq!(answered.is_ok(), entered.is_ok());
            assert_eq!(*seen.0.lock().unwrap(), entered.err());
        }
        store.join().unwrap();
    }
}
