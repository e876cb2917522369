//! One sensor: its samples, their numbers, and what became of each. Pure.
//!
//! Every sample has a number. One that is told is a record; one that configuration leaves out, or
//! that became part of a roll-up, lies in the span of the next record. A sample cannot be read again:
//! where one was to be told and the RAM window had no room, it is lost, and the next batch that finds
//! room begins with a loss notice. A roll-up that finds no room waits, and grows: while there is one,
//! no sample is lost.
//!
//! Samples that come at once (a buffer's) go in as few batches as hold them, each with its own time.
//!
//! ```text
//!   taken  0 1 2 3 4 5 6 7
//!   room   y y n n n y y     ─►  [0) [1) [loss: 2..5)[5)  [6)
//! ```

use std::path::PathBuf;

use headwater_record::notice::{Notice, Tail, reason};
use headwater_record::value::{Sample, ValueWriter, append_number};
use headwater_record::{Generation, Kind, StreamId};

use super::policy::{Policy, Summary, Tell, Told};
use super::read::About;
use super::reading::{Quality, Reading, Sampled};
use crate::batch::Batch;
use crate::budget::Permit;
use crate::clock::Moment;
use crate::process::{BATCH_BYTES, Draft};

/// What a sample takes of the RAM window, with a loss notice and a roll-up before it: three values,
/// roughly, with long names.
pub const SAMPLE_BYTES: usize = 2048;
/// Records that a sample becomes at most: a loss notice, a roll-up, itself.
const SAMPLE_RECORDS: usize = 3;

/// One sensor in one run of the agent.
#[derive(Debug)]
pub struct Sensor {
    /// Its file; `command` where a command is run.
    pub path: PathBuf,
    /// Its stream.
    pub stream: StreamId,
    /// This run.
    pub generation: Generation,
    /// What is fixed of it.
    pub about: About,
    /// Number of the next sample.
    next: u64,
    /// Every number below is in the span of a record that was given away.
    given: u64,
    told: Told,
    /// Number behind the last sample of the window under way.
    window_end: u64,
    lost: Lost,
    /// What the longest of its records took, bytes.
    longest: usize,
}

/// Samples that were to be told and found no room.
#[derive(Debug, Clone, Copy, Default)]
struct Lost {
    count: u64,
    /// Number behind the last of them.
    end: u64,
}

/// What a record says.
struct Said<'a> {
    numbers: &'a [(&'a str, Option<f64>)],
    counts: &'a [(&'a str, u64)],
    quality: Quality,
}

/// What is asked of the RAM window for samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Enough for the next of them.
    pub least: usize,
    /// All that a batch of them can take.
    pub most: usize,
}

/// A batch under way, and the room that it was given.
struct Open {
    draft: Draft,
    permit: Permit,
}

/// How samples are told, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Telling<'a> {
    /// Writes values.
    pub writer: &'a ValueWriter,
    /// Which samples are told.
    pub policy: &'a Policy,
    /// Configured unit, instead of the sensor's own.
    pub unit: Option<&'a str>,
    /// Whether the broker does not acknowledge.
    pub offline: bool,
}

impl Sensor {
    /// A sensor whose generation is registered.
    pub fn new(path: PathBuf, stream: StreamId, generation: Generation, about: About) -> Self {
        Self {
            path,
            stream,
            generation,
            about,
            next: 0,
            given: 0,
            told: Told::default(),
            window_end: 0,
            lost: Lost::default(),
            longest: 0,
        }
    }

    /// Samples that were lost and are in no notice yet.
    pub fn lost(&self) -> u64 {
        self.lost.count
    }

    /// Takes samples, in the order of their moments, and gives away what is to be told of them. `room`
    /// is asked only where something is to be told. Returns how many were lost.
    ///
    /// # Errors
    /// What `give` returns.
    pub fn take<E>(
        &mut self,
        telling: Telling<'_>,
        samples: &[Sampled],
        mut room: impl FnMut(Wish) -> Option<Permit>,
        mut give: impl FnMut(Batch) -> Result<(), E>,
    ) -> Result<u64, E> {
        let (mut open, mut lost): (Option<Open>, _) = (None, 0);
        for (sample, left) in samples.iter().zip((1..=samples.len()).rev()) {
            let Sampled { reading, moment } = *sample;
            self.next += 1;
            let what = (self.told).take(telling.policy, reading, telling.offline, moment.at);
            if self.told.window().is_some() && !matches!(what, Tell::SummaryThenSample(_)) {
                self.window_end = self.next;
            }
            if what == Tell::Nothing {
                continue;
            }
            let least = SAMPLE_BYTES.max(SAMPLE_RECORDS * self.longest);
            if !open.as_ref().is_some_and(|open| open.has_room(least)) {
                self.give(open.take(), &mut give)?;
                let most = least.saturating_mul(left).min(BATCH_BYTES).max(least);
                open = room(Wish { least, most }).map(|permit| Open {
                    draft: Draft::new(self.given),
                    permit,
                });
            }
            match &mut open {
                Some(open) => self.tell(&mut open.draft, telling, what, *sample),
                None => lost += u64::from(self.is_lost(what, reading)),
            }
        }
        self.give(open, &mut give)?;
        Ok(lost)
    }

    fn give<E>(
        &self,
        open: Option<Open>,
        give: &mut impl FnMut(Batch) -> Result<(), E>,
    ) -> Result<(), E> {
        let batch = open
            .and_then(|open| (open.draft).finish(&self.stream, self.generation, Some(open.permit)));
        batch.map_or(Ok(()), give)
    }

    fn tell(&mut self, draft: &mut Draft, telling: Telling<'_>, what: Tell, sample: Sampled) {
        let Sampled { reading, moment } = sample;
        self.push_lost(draft, telling, moment);
        if let Tell::Summary(summary) | Tell::SummaryThenSample(summary) = what {
            self.push_summary(draft, telling, moment, &summary);
        }
        if let Tell::Sample | Tell::SummaryThenSample(_) = what {
            let said = Said {
                numbers: &[("value", reading.value)],
                counts: &[],
                quality: reading.quality,
            };
            self.push(draft, telling, (self.next, moment), &said);
        }
        self.told.told(what, reading, moment.at);
        self.given = draft.end();
    }

    /// Closes the generation: it was stopped in order. Without room it goes without a permit, for
    /// it is the last thing that the sensor gives.
    pub fn close(
        &mut self,
        telling: Telling<'_>,
        moment: Moment,
        room: Option<Permit>,
    ) -> Option<Batch> {
        let mut draft = Draft::new(self.given);
        self.push_lost(&mut draft, telling, moment);
        if let Some(summary) = self.told.window() {
            self.push_summary(&mut draft, telling, moment, &summary);
        }
        let notice = Notice::Close {
            reason: reason::STOPPED.to_owned(),
            tail: Tail::Complete,
        };
        let added = draft.notice(telling.writer, moment.stamp_ms, self.next, &notice);
        debug_assert!(added, "some short records fit a batch");
        self.given = self.next;
        draft.finish(&self.stream, self.generation, room)
    }

    /// What becomes of a sample for which there is no room: whether it is lost.
    fn is_lost(&mut self, what: Tell, reading: Reading) -> bool {
        match what {
            Tell::Nothing | Tell::Summary(_) => false,
            Tell::SummaryThenSample(_) => {
                self.told.join(reading);
                self.window_end = self.next;
                false
            }
            Tell::Sample => {
                self.lost.count += 1;
                self.lost.end = self.next;
                true
            }
        }
    }

    fn push_summary(
        &mut self,
        draft: &mut Draft,
        telling: Telling<'_>,
        moment: Moment,
        summary: &Summary,
    ) {
        let of = |value: f64| (summary.count > 0).then_some(value);
        let numbers = [
            ("min", of(summary.min)),
            ("max", of(summary.max)),
            ("mean", of(summary.mean())),
            ("last", of(summary.last)),
        ];
        let counts = [("count", summary.count), ("missing", summary.missing)];
        let counts = if summary.missing > 0 {
            &counts[..]
        } else {
            &counts[..1]
        };
        let said = Said {
            numbers: &numbers,
            counts,
            quality: summary.quality,
        };
        self.push(draft, telling, (self.window_end, moment), &said);
    }

    /// The loss of what was lost, if anything was: it lies before everything that was not told yet.
    fn push_lost(&mut self, draft: &mut Draft, telling: Telling<'_>, moment: Moment) {
        let lost = std::mem::take(&mut self.lost);
        if lost.count == 0 {
            return;
        }
        let notice = Notice::Loss {
            reason: reason::WINDOW_FULL.to_owned(),
            records: None,
        };
        let added = draft.push(lost.end, Kind::Loss, |out| {
            let mut value = Vec::new();
            (telling.writer).notice(&mut value, moment.stamp_ms, &notice);
            append_number(&mut value, "records", lost.count);
            out.append(&mut value);
        });
        debug_assert!(added, "some short records fit a batch");
    }

    fn push(
        &mut self,
        draft: &mut Draft,
        telling: Telling<'_>,
        (end, moment): (u64, Moment),
        said: &Said<'_>,
    ) {
        let before = draft.bytes();
        let sample = Sample {
            sensor: self.stream.path(),
            label: self.about.label.as_deref(),
            numbers: said.numbers,
            counts: said.counts,
            unit: telling.unit.or(self.about.unit),
            quality: said.quality.word(),
        };
        let added = draft.push(end, Kind::Data, |out| {
            telling.writer.sample(out, moment.stamp_ms, &sample);
        });
        debug_assert!(added, "some short records fit a batch");
        self.longest = self.longest.max(draft.bytes() - before);
    }
}

impl Open {
    /// Whether what a sample becomes, of so many bytes in all, fits behind the others.
    fn has_room(&self, bytes: usize) -> bool {
        self.draft.has_room(SAMPLE_RECORDS, bytes)
            && self.draft.bytes() + bytes <= self.permit.bytes()
    }
}

#[cfg(test)]
mod tests;
