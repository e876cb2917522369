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
use crate::clock::stamp_ms;
use crate::config::FileSource;
use crate::process::Draft;
use crate::sources::{SourceError, send};

/// How long one turn waits for room in the RAM window before the thread looks around again.
pub const PATIENCE: Duration = Duration::from_millis(500);
/// What a notice takes of the RAM window: its value, roughly, with a long device name.
const NOTICE_BYTES: usize = 512;

/// What every file's turn works with; one for the thread.
#[derive(Debug)]
pub struct Desk<R> {
    /// Where generations, cuts and identities are committed.
    pub registry: R,
    /// The RAM window.
    pub budget: Budget,
    /// Where batches go.
    pub batches: Sender<Batch>,
    /// Most files that are held open, but for those that no path leads to and compressed ones.
    pub open_max: usize,
    /// What others see of it.
    pub counters: Arc<Counters>,
    /// The bytes of this turn: [`super::opened::CHUNK_BYTES`], or one longest record.
    pub chunk: Vec<u8>,
}

/// A source, and what writes its values.
#[derive(Debug)]
pub struct Source {
    /// As configured.
    pub plan: FileSource,
    /// For its records.
    pub writer: ValueWriter,
}

/// Gives a close notice away, whose span is `range`; returns whether the RAM window had room.
///
/// # Errors
/// See [`SourceError`].
pub fn close_generation<R>(
    desk: &Desk<R>,
    writer: &ValueWriter,
    stream: &StreamId,
    generation: Generation,
    (start, end): (u64, u64),
    reason: &str,
    tail: Tail,
) -> Result<bool, SourceError> {
    let Some(permit) = desk.budget.take(NOTICE_BYTES, PATIENCE) else {
        return Ok(false);
    };
    let notice = Notice::Close {
        reason: reason.to_owned(),
        tail,
    };
    let mut draft = Draft::new(start);
    let added = draft.notice(writer, stamp_ms(), end, &notice);
    debug_assert!(added, "an empty batch takes any record");
    if let Some(batch) = draft.finish(stream, generation, Some(permit)) {
        send(&desk.batches, batch)?;
    }
    tracing::info!("{stream}: generation {generation} is closed at {end}: {reason}");
    Ok(true)
}
