//! What the turns of all files share: where they read into, where they write to, and how they say
//! that a file is over.

use std::sync::Arc;
use std::time::Duration;

use headwater_record::notice::{Notice, Tail};
use headwater_record::value::ValueWriter;
use headwater_record::{Generation, StreamId};
use tokio::sync::mpsc::Sender;

use super::counters::Counters;
use crate::batch::Batch;
use crate::budget::Budget;
use crate::checkpoint::{Entered, Refused, Registry, StoreStopped};
use crate::clock::{Monotonic, stamp_ms};
use crate::config::FileSource;
use crate::delivery::backoff::{Backoff, Jitter};
use crate::process::Draft;
use crate::sources::{SourceError, send};
use crate::spool::disk::Floors;

/// How long one turn waits for room in the RAM window before the thread looks around again.
pub const PATIENCE: Duration = Duration::from_millis(500);
/// What a notice takes of the RAM window: its value, roughly, with a long device name.
const NOTICE_BYTES: usize = 512;

/// What every file's turn works with; one for the thread.
#[derive(Debug)]
pub struct Desk<R> {
    /// Where generations, cuts and identities are committed.
    pub registry: R,
    /// Whether it took what it was asked for last.
    pub entry: Entry,
    /// The RAM window.
    pub budget: Budget,
    /// Where batches go.
    pub batches: Sender<Batch>,
    /// Most files that are held open, as long as there are others to let go than those that no path leads to and
    /// compressed ones.
    pub open_max: usize,
    /// What a deleted file that is held open must leave free of its file system.
    pub floors: Floors,
    /// What others see of it.
    pub counters: Arc<Counters>,
    /// The bytes of this turn: [`super::opened::CHUNK_BYTES`], or one longest record.
    pub chunk: Vec<u8>,
}

/// Whether the database takes what it is asked for. Where it refuses (a full disk, a read-only one), files
/// that are registered are read on; what must be entered first waits, and is tried again.
#[derive(Debug)]
pub struct Entry {
    backoff: Backoff,
    jitter: Jitter,
    /// It refused, and why; it is asked again then.
    refused: Option<(Refused, Monotonic)>,
}

impl Entry {
    /// It has refused nothing yet. `seed` spreads the retries.
    pub fn new(seed: u64) -> Self {
        Self {
            backoff: Backoff::default(),
            jitter: Jitter::new(seed),
            refused: None,
        }
    }

    /// When it is asked again; none where it did not refuse.
    pub fn again_at(&self) -> Option<Monotonic> {
        self.refused.map(|(_, at)| at)
    }

    fn answered(&mut self, entered: Entered, now: Monotonic) -> bool {
        match entered {
            Ok(()) => {
                if self.refused.take().is_some() {
                    tracing::info!("the spool takes new files again");
                }
                self.backoff.reset();
                true
            }
            Err(why) => {
                if self.refused.map(|(said, _)| said) != Some(why) {
                    tracing::warn!(
                        "cannot enter what is new of a file into the spool: {why}; it \
                         waits, and is tried again; other files are read on"
                    );
                }
                let wait = Duration::from_millis(self.backoff.next_ms(&mut self.jitter));
                self.refused = Some((why, now.plus(wait)));
                false
            }
        }
    }
}

impl<R: Registry> Desk<R> {
    /// Asks the database to enter something, and returns whether it did. Where it refused a moment
    /// ago, it is not asked.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn enter(
        &mut self,
        now: Monotonic,
        ask: impl FnOnce(&R) -> Result<Entered, StoreStopped>,
    ) -> Result<bool, SourceError> {
        if self.entry.again_at().is_some_and(|at| now < at) {
            return Ok(false);
        }
        let entered = ask(&self.registry)?;
        Ok(self.entry.answered(entered, now))
    }
}

/// A source, and what writes its values.
#[derive(Debug)]
pub struct Source {
    /// As configured.
    pub plan: FileSource,
    /// For its records.
    pub writer: ValueWriter,
}

/// Gives a loss notice away, whose span is `range`; returns whether the RAM window had room.
///
/// # Errors
/// See [`SourceError`].
pub fn lose<R>(
    desk: &Desk<R>,
    source: &Source,
    stream: &StreamId,
    generation: Generation,
    (start, end): (u64, u64),
    reason: &str,
) -> Result<bool, SourceError> {
    let notice = Notice::Loss {
        reason: reason.to_owned(),
        records: None,
    };
    notify(desk, source, stream, generation, (start, end), &notice)
}

/// Gives a close notice away, whose span is `range`; returns whether the RAM window had room.
///
/// # Errors
/// See [`SourceError`].
pub fn close_generation<R>(
    desk: &Desk<R>,
    source: &Source,
    stream: &StreamId,
    generation: Generation,
    (start, end): (u64, u64),
    reason: &str,
    tail: Tail,
) -> Result<bool, SourceError> {
    let notice = Notice::Close {
        reason: reason.to_owned(),
        tail,
    };
    let given = notify(desk, source, stream, generation, (start, end), &notice)?;
    if given {
        tracing::info!("{stream}: generation {generation} is closed at {end}: {reason}");
    }
    Ok(given)
}

fn notify<R>(
    desk: &Desk<R>,
    source: &Source,
    stream: &StreamId,
    generation: Generation,
    (start, end): (u64, u64),
    notice: &Notice,
) -> Result<bool, SourceError> {
    let lane = source.plan.lane;
    let Some(permit) = desk.budget.take(lane, NOTICE_BYTES, PATIENCE) else {
        return Ok(false);
    };
    let mut draft = Draft::new(start);
    let added = draft.notice(&source.writer, stamp_ms(), end, notice);
    debug_assert!(added, "an empty batch takes any record");
    if let Some(batch) = draft.finish(stream, generation, Some(permit)) {
        send(&desk.batches, batch)?;
    }
    Ok(true)
}
