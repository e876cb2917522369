//! An open batch: what the records from its start on have become so far.

use std::sync::Arc;

use bytes::Bytes;
use headwater_record::{Kind, Ledger, Notice, Verdict};
use serde::{Deserialize, Serialize};

use crate::aggregate::{WindowRow, Windows};
use crate::books::{Came, Day, Outcome};
use crate::encode::{Compressor, Content, EncodeError};
use crate::fetched::{Entry, Identity};
use crate::items::batch::{Items, OpenItems};
use crate::partition::objects::Objects;
use crate::partition::rejects::Rejects;
use crate::pipeline::{Made, Pipeline, Record, Scratch, To};

/// One finished object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its key below the output's prefix.
    pub key: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// What they hold.
    pub content: Content,
}

/// What a batch stores.
#[derive(Debug)]
pub struct Finished {
    /// Its objects.
    pub objects: Vec<Object>,
    /// Its items.
    pub items: Items,
    /// Where the next batch's names start.
    pub names_from: u64,
}

/// What the records of a batch were. Counted anew for a batch that is made again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Records read.
    pub records: u64,
    /// Their values' bytes.
    pub bytes: u64,
    /// Rows written, dead letters among them.
    pub rows: u64,
    /// Rows that could not be made; they are among `rows`.
    pub dead_letters: u64,
    /// Filtered by configuration.
    pub filtered: u64,
    /// Counted in windows, and without a row of their own.
    pub aggregated: u64,
    /// Rows of closed windows; they are among `rows`.
    pub windows: u64,
    /// Skipped: the ledger had them.
    pub duplicates: u64,
    /// Stored though part of their range had come before.
    pub overlaps: u64,
    /// Notices: they go to the ledger.
    pub notices: u64,
    /// Headers that could not be read; stored, not accounted.
    pub refused: u64,
    /// Records and notices of streams that the ledger had no room for; records are stored.
    pub unaccounted: u64,
    /// Records of which a step could not parse a text, whatever became of them.
    pub unparsed: u64,
}

impl Counts {
    /// Both together.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            records: self.records + other.records,
            bytes: self.bytes + other.bytes,
            rows: self.rows + other.rows,
            dead_letters: self.dead_letters + other.dead_letters,
            filtered: self.filtered + other.filtered,
            aggregated: self.aggregated + other.aggregated,
            windows: self.windows + other.windows,
            duplicates: self.duplicates + other.duplicates,
            overlaps: self.overlaps + other.overlaps,
            notices: self.notices + other.notices,
            refused: self.refused + other.refused,
            unaccounted: self.unaccounted + other.unaccounted,
            unparsed: self.unparsed + other.unparsed,
        }
    }
}

/// A batch being filled.
#[derive(Debug)]
pub struct OpenBatch {
    /// Batch clock, Unix milliseconds.
    pub clock_ms: u64,
    /// What makes its rows.
    pub pipeline: Arc<Pipeline>,
    /// What its records were.
    pub counts: Counts,
    /// What its dead letters were.
    pub rejects: Rejects,
    /// Kafka's timestamps of its first and its last record, Unix milliseconds.
    times_ms: (u64, u64),
    /// Whether it has windows to close, and no record.
    is_quiet: bool,
    objects: Objects,
    items: OpenItems,
    scratch: Scratch,
}

impl OpenBatch {
    /// An empty batch.
    pub fn new(clock_ms: u64, pipeline: Arc<Pipeline>) -> Self {
        Self {
            clock_ms,
            pipeline,
            counts: Counts::default(),
            rejects: Rejects::default(),
            times_ms: (0, 0),
            is_quiet: false,
            objects: Objects::default(),
            items: OpenItems::default(),
            scratch: Scratch::default(),
        }
    }

    /// One that has no record, and closes windows.
    pub fn quiet(clock_ms: u64, pipeline: Arc<Pipeline>) -> Self {
        let mut batch = Self::new(clock_ms, pipeline);
        batch.is_quiet = true;
        batch.times_ms.1 = clock_ms;
        batch.scratch.name_windows_for(clock_ms);
        batch
    }

    /// Whether windows close with it.
    pub fn closes_windows(&self) -> bool {
        self.is_quiet || self.counts.records > 0
    }

    /// Kafka's timestamps of its first and its last record, Unix milliseconds; none where it has none.
    pub fn times_ms(&self) -> Option<(u64, u64)> {
        (self.counts.records > 0).then_some(self.times_ms)
    }

    /// Bytes of memory that its objects and items hold, about.
    pub fn held(&self) -> usize {
        self.objects.held() + self.items.held()
    }

    /// How many objects it has.
    pub fn objects(&self) -> usize {
        self.objects.len()
    }

    /// Takes one record in: the ledger says whether it is new, the pipeline what it becomes. `windows`
    /// are aligned with this batch's pipeline.
    ///
    /// # Errors
    /// See [`EncodeError`]; the batch is then dropped and made again.
    pub fn take(
        &mut self,
        (topic, partition): (&str, i32),
        entry: &Entry,
        value: Option<&[u8]>,
        (ledger, windows, day): (&mut Ledger, &mut Windows, Option<&mut Day>),
        compressor: &Compressor,
    ) -> Result<(), EncodeError> {
        if self.counts.records == 0 {
            self.times_ms.0 = entry.time_ms;
        }
        self.times_ms.1 = entry.time_ms;
        self.counts.records += 1;
        self.counts.bytes += value.map_or(0, <[u8]>::len) as u64;
        let (clock_ms, most) = (self.clock_ms, self.pipeline.spec().accounts.devices);
        let came = self.admit(entry, value, ledger);
        if !is_let_through(&came) {
            if let Some(day) = day {
                day.note((entry, value), (&came, None), clock_ms, most);
            }
            return Ok(());
        }
        let record = Record {
            topic,
            partition,
            entry,
            value,
        };
        let made = self
            .pipeline
            .make(record, self.clock_ms, windows, &mut self.scratch);
        if let Some(day) = day {
            let outcome = Some(outcome(&made));
            day.note((entry, value), (&came, outcome), clock_ms, most);
        }
        note_reject(&mut self.rejects, &made, &self.pipeline, entry);
        self.objects.put(
            &made,
            record.entry.offset,
            &self.pipeline,
            &mut self.counts,
            compressor,
        )?;
        self.counts.unparsed += u64::from(self.scratch.was_unparsed());
        self.take_items();
        Ok(())
    }

    fn take_items(&mut self) {
        for item in self.scratch.take_items() {
            self.items.put(item);
        }
        self.scratch.let_go();
    }

    /// Bytes of what it makes rows in.
    #[cfg(test)]
    pub(super) fn scratch(&self) -> usize {
        self.scratch.held()
    }

    /// Puts the row of a closed window in. `at`: what the batch read last.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn take_window(
        &mut self,
        (topic, partition): (&str, i32),
        at: u64,
        row: &WindowRow,
        compressor: &Compressor,
    ) -> Result<(), EncodeError> {
        let entry = Entry::foreign(at, self.times_ms.1);
        let record = Record {
            topic,
            partition,
            entry: &entry,
            value: None,
        };
        self.counts.windows += 1;
        let made = self
            .pipeline
            .make_window(row, record, self.clock_ms, &mut self.scratch);
        note_reject(&mut self.rejects, &made, &self.pipeline, &entry);
        self.objects.put(
            &made,
            record.entry.offset,
            &self.pipeline,
            &mut self.counts,
            compressor,
        )?;
        self.take_items();
        Ok(())
    }

    /// What the ledger says to the record.
    fn admit(&mut self, entry: &Entry, value: Option<&[u8]>, ledger: &mut Ledger) -> Came {
        let Identity::Tagged {
            stream,
            generation,
            span,
            kind,
        } = &entry.identity
        else {
            if entry.identity != Identity::Foreign {
                self.counts.refused += 1;
                ledger.note_unreadable();
            }
            return Came::Nameless;
        };
        if *kind != Kind::Data {
            let notice = value.and_then(Notice::parse);
            let said = notice.as_ref();
            let covered = ledger.explain(stream, *generation, *span, *kind, said, self.clock_ms);
            self.counts.unaccounted += u64::from(covered.is_none());
            self.counts.notices += 1;
            let lost = match (kind, notice) {
                (Kind::Loss, Some(Notice::Loss { reason, .. })) => Some(reason),
                (Kind::Loss, _) => Some("unreadable-notice".to_owned()),
                _ => None,
            };
            let covered = covered.unwrap_or_default();
            return Came::Notice { lost, covered };
        }
        let (verdict, covered) = ledger.take(stream, *generation, *span, self.clock_ms);
        match verdict {
            Verdict::New => {}
            Verdict::Unaccounted => self.counts.unaccounted += 1,
            Verdict::Overlap => self.counts.overlaps += 1,
            Verdict::Duplicate => self.counts.duplicates += 1,
        }
        Came::Data(verdict, covered)
    }

    /// The batch's objects, named for ranges of `[names_from, end)`, and its items.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn finish(
        self,
        who: (&str, i32),
        names_from: u64,
        end: u64,
        compressor: &Compressor,
    ) -> Result<Finished, EncodeError> {
        let (objects, names_from) = self.objects.finish(
            who,
            ((names_from, end), self.clock_ms),
            &self.pipeline,
            compressor,
        )?;
        let items = self.items.finish(self.pipeline.items());
        Ok(Finished {
            objects,
            items,
            names_from,
        })
    }
}

/// Whether a record is to be stored.
fn is_let_through(came: &Came) -> bool {
    match came {
        Came::Nameless => true,
        Came::Data(verdict, _) => *verdict != Verdict::Duplicate,
        Came::Notice { .. } => false,
    }
}

fn outcome(made: &Made<'_>) -> Outcome {
    match made {
        Made::Filtered => Outcome::Filtered,
        Made::Aggregated => Outcome::Aggregated,
        Made::Row {
            to: To::DeadLetters(_),
            ..
        } => Outcome::DeadLetter,
        Made::Row { .. } => Outcome::Written,
    }
}

fn note_reject(rejects: &mut Rejects, made: &Made<'_>, pipeline: &Pipeline, entry: &Entry) {
    if let Made::Row {
        to: To::DeadLetters(refusal),
        ..
    } = made
    {
        let at = (entry.offset, entry.time_ms);
        rejects.add(&pipeline.step_label(refusal), &refusal.reason, at);
    }
}
