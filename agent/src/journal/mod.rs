//! Follows the systemd journal, by cursor, through `journalctl`.
//!
//! ```text
//!   journalctl -f -o json --cursor=…  ─►  whole lines  ─►  entry  ─►  process  ─►  Batch
//! ```
//!
//! - [`entry`]: pure; one entry.
//! - [`child`]: journalctl, running.
//! - [`place`]: pure; where reading begins, from what the database knows.
//! - [`sequence`]: pure; how far a sequence is read, and what of it is gone.
//! - [`again`]: pure; numbers that come again after a power cut.
//!
//! The journal numbers its entries, and an entry's number is its offset: the settled offset *is* the
//! cursor. One sequence of numbers (journald begins another when its files are gone) is one stream,
//! `<source>/journal/<sequence>`, and one generation, or several where numbers came again. Entries
//! that a filter of journalctl's left out lie in the next record's span, as dropped lines do. Entries
//! that were deleted before they were read are a loss, and said.
//!
//! Without journalctl nothing is read: it is said, and tried again.

mod again;
mod arguments;
mod child;
pub mod entry;
mod place;
mod sequence;

use std::path::PathBuf;
use std::time::Duration;

use headwater_record::notice::{Notice, Tail, reason};
use headwater_record::value::ValueWriter;
use headwater_record::{DeviceId, StreamId};
use tokio::sync::mpsc::Sender;

use self::again::{Fresh, Marked, Which};
use self::arguments::Question;
pub use self::child::BYTES_MAX;
use self::child::Running;
pub(crate) use self::child::{Output, Whole};
use self::entry::{Cursor, Entry, Malformed};
pub(crate) use self::place::is_journal;
use self::place::{Place, boot_of, marker_of};
use self::sequence::Sequence;
use crate::batch::Batch;
use crate::budget::{Budget, Permit};
use crate::checkpoint::{OpenGeneration, Origin, Registry};
use crate::clock::{Monotonic, monotonic, stamp_ms};
use crate::config::JournalSource;
use crate::delivery::backoff::{Backoff, Jitter};
use crate::last_words::without_digits;
use crate::process::{BATCH_BYTES, Draft, Stage};
use crate::sample::read::command;
use crate::sources::{SourceError, draw_generation, send};
use crate::stop::Stop;

/// The program.
pub const JOURNALCTL: &str = "/usr/bin/journalctl";
/// How long one wait for room lasts before the thread looks whether it should stop.
const PATIENCE: Duration = Duration::from_millis(500);
/// Longest wait where nothing is due.
const IDLE: Duration = Duration::from_secs(60);

/// What the thread works on.
#[derive(Debug)]
pub struct JournalInput<R> {
    /// Identity of the device.
    pub device: DeviceId,
    /// What to follow.
    pub source: JournalSource,
    /// The program.
    pub program: PathBuf,
    /// Open generations of this source.
    pub known: Vec<OpenGeneration>,
    /// Where new generations are entered.
    pub registry: R,
    /// The RAM window.
    pub budget: Budget,
    /// Where records go.
    pub batches: Sender<Batch>,
    /// This thread's own.
    pub stop: Stop,
    /// Spreads retries.
    pub seed: u64,
}

/// Follows the journal until told to stop.
///
/// # Errors
/// See [`SourceError`].
pub fn run<R: Registry>(input: JournalInput<R>) -> Result<(), SourceError> {
    let (stop, seed) = (input.stop.clone(), input.seed);
    let mut journal = Journal::new(input);
    let (mut backoff, mut jitter) = (Backoff::default(), Jitter::new(seed));
    let mut said = String::new();
    while !stop.is_set() {
        let trouble = match journal.follow(&mut backoff)? {
            Some(trouble) if !stop.is_set() => trouble,
            // The agent stops, or another place is to be read from.
            _ => continue,
        };
        let news = without_digits(&trouble);
        if said != news {
            tracing::warn!(
                "source {}: the journal cannot be followed: {trouble}; it is tried again, from where \
                 it ended",
                journal.source.id
            );
            said = news;
        }
        if stop.sleep(Duration::from_millis(backoff.next_ms(&mut jitter))) {
            break;
        }
    }
    Ok(())
}

/// One source.
#[derive(Debug)]
struct Journal<R> {
    device: DeviceId,
    source: JournalSource,
    program: PathBuf,
    writer: ValueWriter,
    /// Open generations that are not the current one.
    known: Vec<Place>,
    current: Option<Sequence>,
    /// Since when journalctl has always had more.
    behind_since: Monotonic,
    registry: R,
    budget: Budget,
    batches: Sender<Batch>,
    stop: Stop,
}

impl<R: Registry> Journal<R> {
    fn new(input: JournalInput<R>) -> Self {
        Self {
            writer: ValueWriter::new(&input.device, &input.source.id),
            known: input.known.iter().filter_map(Place::of).collect(),
            device: input.device,
            source: input.source,
            program: input.program,
            current: None,
            behind_since: monotonic(),
            registry: input.registry,
            budget: input.budget,
            batches: input.batches,
            stop: input.stop,
        }
    }

    /// Runs journalctl until it ends, and says why it did; nothing where the agent stops, or it is to be run anew.
    fn follow(&mut self, backoff: &mut Backoff) -> Result<Option<String>, SourceError> {
        if self.current.is_none()
            && let Some(place) = place::first(&mut self.known)
        {
            self.current = Some(Sequence::resume(place));
        }
        if let Err(trouble) = self.look() {
            return Ok(Some(trouble));
        }
        let after = (self.current.as_ref())
            .map(|current| current.again_from.as_ref().unwrap_or(&current.read));
        let arguments = self.source.arguments(after);
        let mut running = match Running::start(&self.program, &arguments, &self.stop) {
            Ok(running) => running,
            Err(error) => {
                return Ok(Some(format!(
                    "{} cannot be run: {error}",
                    self.program.display()
                )));
            }
        };
        let mut too_long = false;
        self.behind_since = monotonic();
        loop {
            match running.next() {
                Some(Output::Lines(lines)) => {
                    backoff.reset();
                    if !self.take(&lines, &mut too_long)? {
                        return Ok(None);
                    }
                }
                Some(Output::TooLong) => too_long = true,
                Some(Output::Ended) => {
                    let how = running
                        .end()
                        .unwrap_or_else(|| "it closed its output".into());
                    return Ok(Some(format!("{} ended: {how}", self.program.display())));
                }
                None => {
                    let now = monotonic();
                    self.behind_since = now;
                    let due = self
                        .current
                        .as_ref()
                        .and_then(|current| current.due_at(&self.source));
                    if due.is_some_and(|at| at <= now) && !self.tell(now)? {
                        return Ok(None);
                    }
                    if self.stop.wait(
                        due.map_or(IDLE, |at| at.since(now))
                            .max(Duration::from_millis(1)),
                    ) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Asks the journal, without any filter.
    ///
    /// # Errors
    /// What is wrong with journalctl.
    fn ask(&self, question: Question<'_>) -> Result<Option<Cursor>, String> {
        let mut line = vec![self.program.to_string_lossy().into_owned()];
        line.extend(self.source.arguments_for(&question));
        let output = command::run(&line).map_err(|error| error.to_string())?;
        let first = output
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        let found = entry::parse(first, &[], Malformed::Shown);
        Ok(found.ok().map(|entry| entry.cursor))
    }

    /// Looks what the journal still has of what was read.
    ///
    /// # Errors
    /// What is wrong with journalctl.
    fn look(&mut self) -> Result<(), String> {
        let marked = self
            .current
            .as_ref()
            .and_then(|current| current.marked.clone());
        let found = marked.map_or(Ok(None), |marked| self.look_for_marked(&marked))?;
        match &mut self.current {
            // Its number is another entry's by now.
            Some(current) if current.again_from.is_some() => Ok(()),
            Some(current) if found.is_some() => {
                current.found(found.as_ref());
                Ok(())
            }
            _ => self.look_for_deleted(),
        }
    }

    /// Looks whether the last entry that an earlier run read is still there: otherwise numbers come again, and the
    /// generation ends with the last entry that is. Returns what was found, where that is also the entry behind
    /// which reading goes on.
    fn look_for_marked(&mut self, marked: &Cursor) -> Result<Option<Cursor>, String> {
        let Some(current) = &self.current else {
            return Ok(None);
        };
        let (behind, is_last) = (current.behind, current.read.number == marked.number);
        let mut found = None;
        let of_sequence = self.known.iter().filter(|place| place.read.id == marked.id);
        let fresh = match of_sequence.map(|place| place.behind).min() {
            Some(above) => Some(Fresh {
                above,
                which: Which::All,
            }),
            // Nothing of it was read as of then.
            None if marked.number == behind => Fresh::of_other_boots(behind, marked.boot),
            None => {
                found = self.ask(Question::At(marked))?;
                self.fresh_behind(marked, found.as_ref(), behind)?
            }
        };
        if let Some(current) = &mut self.current {
            current.ends_before(fresh);
        }
        Ok(found.filter(|_| is_last))
    }

    /// What is none of a generation of which `marked` was the last entry that was read, and which begins behind
    /// the number `behind`. `found`: that entry, or the next that is there.
    fn fresh_behind(
        &self,
        marked: &Cursor,
        found: Option<&Cursor>,
        behind: u64,
    ) -> Result<Option<Fresh>, String> {
        let number = marked.number;
        let last = || self.ask(Question::Last);
        Ok(match again::compare(marked, found, last)? {
            Marked::There(boot) if marked.boot == 0 => Fresh::of_other_boots(number, boot),
            Marked::There(_) | Marked::Gone => Fresh::of_other_boots(number, marked.boot),
            Marked::Again if marked.boot == 0 => Some(Fresh {
                above: behind,
                which: Which::LaterThan(marked.time_us),
            }),
            Marked::Again => {
                let last = self.ask(Question::LastOfBoot(marked.boot))?;
                let is_its = |last: &Cursor| last.id == marked.id && last.number < number;
                let above = last
                    .filter(is_its)
                    .map_or(behind, |last| last.number.max(behind));
                Some(Fresh {
                    above,
                    which: Which::All,
                })
            }
        })
    }

    /// Asks, without any filter, for the entry that was taken last: where it is no longer there,
    /// entries behind it may be gone as well, and the next one that is there says how many.
    ///
    /// # Errors
    /// What is wrong with journalctl.
    fn look_for_deleted(&mut self) -> Result<(), String> {
        let Some(current) = &self.current else {
            return Ok(());
        };
        let found = self.ask(Question::At(&current.read))?;
        if let Some(current) = &mut self.current {
            current.found(found.as_ref());
        }
        Ok(())
    }

    /// Where numbers jump: looks whether what was passed over is still there. `false` where the agent
    /// stops: a question may take seconds, and there may be many.
    fn look_at_jump(&mut self, number: u64) -> bool {
        let filtered = !self.source.units.is_empty() || self.source.priority.is_some();
        let behind = (filtered, self.behind_since);
        let asks = (self.current.as_mut())
            .is_some_and(|current| current.is_to_be_asked(number, behind, monotonic()));
        if asks && self.stop.is_set() {
            return false;
        }
        if asks && let Err(trouble) = self.look_for_deleted() {
            tracing::debug!("source {}: at a jump: {trouble}", self.source.id);
        }
        true
    }

    /// Takes whole lines; `false` where the agent stops, or journalctl is to be run anew.
    fn take(&mut self, lines: &[u8], too_long: &mut bool) -> Result<bool, SourceError> {
        let mut batch = None;
        let malformed = Malformed::of(&self.source.process);
        for line in lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let entry = match entry::parse(line, &self.source.fields, malformed) {
                Ok(entry) => entry,
                Err(why) => {
                    tracing::debug!("source {}: a line of journalctl's: {why}", self.source.id);
                    continue;
                }
            };
            let current = self.current.as_ref();
            let is_other = current.is_none_or(|current| current.is_over_at(&entry.cursor));
            if is_other && !(self.give(batch.take())? && self.change(&entry.cursor)?) {
                return Ok(false);
            }
            // What is left of the lines comes again.
            if !*too_long && !self.look_at_jump(entry.cursor.number) {
                return self.give(batch).map(|_| false);
            }
            if !self.push(&mut batch, entry, std::mem::take(too_long))? {
                return Ok(false);
            }
        }
        self.give(batch)
    }

    /// Puts an entry into the batch under construction; gives that away where it is full.
    fn push(
        &mut self,
        batch: &mut Option<(Draft, Permit)>,
        entry: Entry,
        after_too_long: bool,
    ) -> Result<bool, SourceError> {
        let time_ms = entry.cursor.time_us / 1000;
        loop {
            let Some((mut draft, permit)) = batch.take().map_or_else(|| self.begin(), Some) else {
                return Ok(false);
            };
            let Some(current) = &mut self.current else {
                return Ok(true);
            };
            if entry.cursor.number <= current.read.number {
                *batch = Some((draft, permit));
                return Ok(true);
            }
            current.comes(entry.cursor.number, after_too_long);
            let told = current.tell_lost(&mut draft, &self.writer);
            let moment = (stamp_ms(), monotonic());
            let (plan, writer) = (&self.source.process, &self.writer);
            let mut stage =
                Stage::new(plan, writer, current.generation, &mut current.state, moment);
            let taken =
                told && stage.row(&mut draft, entry.cursor.number, time_ms, entry.row.clone());
            if taken {
                stage.tell_filtered(&mut draft, entry.cursor.number);
            }
            plan.counters.add(stage.tally);
            if taken {
                current.read = entry.cursor;
                let (marker, boot) = (marker_of(&current.read), boot_of(&current.read));
                self.registry.mark_entry(current.generation, marker, boot);
                *batch = Some((draft, permit));
                return Ok(true);
            }
            if !self.give(Some((draft, permit)))? {
                return Ok(false);
            }
        }
    }

    /// A batch to fill, once there is room; nothing where the agent stops.
    fn begin(&self) -> Option<(Draft, Permit)> {
        let permit = self.room(BATCH_BYTES)?;
        Some((Draft::new(self.current.as_ref()?.given), permit))
    }

    fn room(&self, bytes: usize) -> Option<Permit> {
        while !self.stop.is_set() {
            if let Some(permit) = self.budget.take(self.source.lane, bytes, PATIENCE) {
                return Some(permit);
            }
        }
        None
    }

    /// Gives a batch away; `false` where the agent stops.
    fn give(&mut self, batch: Option<(Draft, Permit)>) -> Result<bool, SourceError> {
        let Some((draft, mut permit)) = batch else {
            return Ok(true);
        };
        if draft.bytes() > BATCH_BYTES {
            // First given back, then asked for anew: who waits while holding could wait for ever.
            drop(permit);
            match self.room(draft.bytes()) {
                Some(larger) => permit = larger,
                None => return Ok(false),
            }
        }
        let Some(current) = &mut self.current else {
            return Ok(true);
        };
        current.given = draft.end();
        if let Some(batch) = draft.finish(&current.stream, current.generation, Some(permit)) {
            send(&self.batches, batch)?;
        }
        Ok(true)
    }

    /// Tells what is held back.
    fn tell(&mut self, now: Monotonic) -> Result<bool, SourceError> {
        let Some((mut draft, permit)) = self.begin() else {
            return Ok(self.current.is_none());
        };
        if let Some(current) = &mut self.current {
            let (plan, writer) = (&self.source.process, &self.writer);
            let moment = (stamp_ms(), now);
            let mut stage =
                Stage::new(plan, writer, current.generation, &mut current.state, moment);
            let told = stage.tell(&mut draft);
            debug_assert!(told, "an empty batch holds two records");
            plan.counters.add(stage.tally);
        }
        self.give(Some((draft, permit)))
    }

    /// Closes the current generation, and goes on with the one of `next`; `false` where the agent stops, or
    /// journalctl is to be run anew.
    fn change(&mut self, next: &Cursor) -> Result<bool, SourceError> {
        if self.current.is_some() {
            if !self.tell(monotonic())? {
                return Ok(false);
            }
            let Some((mut draft, permit)) = self.begin() else {
                return Ok(false);
            };
            if let Some(current) = &mut self.current {
                let told = current.tell_lost(&mut draft, &self.writer);
                let (reason, tail) = match current.comes_again() {
                    true => (reason::TRUNCATED, Tail::Unknown),
                    false if current.torn => (reason::ROTATED, Tail::Unknown),
                    false => (reason::ROTATED, Tail::Complete),
                };
                let notice = Notice::Close {
                    reason: reason.to_owned(),
                    tail,
                };
                let end = current.read.number.max(draft.end());
                let added = draft.notice(&self.writer, stamp_ms(), end, &notice);
                debug_assert!(told && added, "an empty batch holds two records");
                tracing::info!("{}: the journal's sequence ends at {end}", current.stream);
            }
            if !self.give(Some((draft, permit)))? {
                return Ok(false);
            }
            self.current = None;
        }
        if let Some(place) = place::first_of(&mut self.known, &next.id) {
            // It is to be looked at first, as at a start: journalctl is run anew.
            self.current = Some(Sequence::resume(place));
            return Ok(false);
        }
        self.current = Some(Sequence::begin(self.register(next)?));
        Ok(true)
    }

    /// Enters a sequence that begins, for us, with the entry `first`: what lies before is skipped, as
    /// configured, and the first record's span covers it.
    fn register(&self, first: &Cursor) -> Result<Place, SourceError> {
        let path = format!("{}{}", place::PATH, first.id);
        let Ok(stream) = StreamId::new(&self.device, &self.source.id, path.as_bytes()) else {
            // An id and 40 letters always name a stream.
            return Err(SourceError::Downstream);
        };
        let read = Cursor {
            number: first.number - 1,
            ..first.clone()
        };
        let open = OpenGeneration {
            generation: draw_generation()?,
            stream: stream.clone(),
            origin: Origin::Sensor,
            settled: 0,
            skip_to: Some(read.number),
            cuts: Vec::new(),
            marker: Some(marker_of(&read)),
            earlier: vec![boot_of(&read)],
            goes_on: None,
        };
        self.registry.register(std::slice::from_ref(&open))?;
        tracing::info!(
            "{stream}: followed from entry {}, generation {}",
            first.number,
            open.generation
        );
        Ok(Place {
            stream,
            generation: open.generation,
            given: 0,
            behind: read.number,
            marked: read.clone(),
            read,
        })
    }
}

#[cfg(test)]
mod tests;
