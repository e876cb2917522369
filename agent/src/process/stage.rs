//! A stream's lines on their way into a batch: steps, repeats, rate limit.
//!
//! All or nothing for each line: where the batch has no room for what becomes of it, the stage says
//! so, and the line is offered again to the next batch, as if it had not been seen.

use std::borrow::Cow;

use headwater_record::escape;
use headwater_record::notice::{Notice, reason};
use headwater_record::steps::{Ran, Row};
use headwater_record::value::{Piece, ValueWriter, append_number, decoded_row, line_row};
use headwater_record::{Generation, Kind};
use serde::{Deserialize, Serialize};

use super::gates::{KEPT_BYTES_MAX, Limit, Pass, Repeats};
use super::{Draft, Form, ProcessPlan};
use crate::clock::Monotonic;
use crate::frame::frames::Line;

/// Bytes of nothing but dropped lines after which a notice says so, and the settled offset moves: a
/// restart reads so much again in a second or two, and 200 bytes on the wire for it are nothing.
pub const FILTERED_BYTES: u64 = 4 * 1024 * 1024;
/// Largest value that goes to Kafka, bytes: its limit of 1,000,000 for a message holds key and
/// headers, too.
const VALUE_BYTES_MAX: usize = 970_000;
/// What stands for a piece of a line where the source redacts: what is to be covered may lie across
/// the cut, and no pattern finds half of it.
const PIECE: &str = "[redacted: a piece of a line longer than max_line]";

/// What a stream remembers of its lines. Nothing, and no allocation, where the source has no gates.
#[derive(Debug, Clone, Default)]
pub struct State {
    repeats: Repeats,
    limit: Limit,
}

impl State {
    /// When [`Stage::tell`] has something to tell, if no further line comes.
    pub fn due_at(&self, plan: &ProcessPlan) -> Option<Monotonic> {
        let limit = plan.rate_limit.and_then(|limit| self.limit.due_at(limit));
        [self.repeats.due_at(), limit].into_iter().flatten().min()
    }

    /// Whether anything is held back.
    pub fn holds(&self) -> bool {
        self.repeats.count > 0 || self.limit.cut > 0
    }
}

/// What came of some lines, where it was not a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Dropped by steps.
    pub filtered: u64,
    /// Not readable for a `parse` step.
    pub unparsed: u64,
    /// Repeats of the line before.
    pub repeated: u64,
    /// Cut by the rate limit.
    pub limited: u64,
    /// Made too large by steps.
    pub too_large: u64,
}

/// Where the lines of one turn of one stream go through.
#[derive(Debug)]
pub struct Stage<'a> {
    plan: &'a ProcessPlan,
    writer: &'a ValueWriter,
    generation: Generation,
    state: &'a mut State,
    time_ms: u64,
    now: Monotonic,
    value: Vec<u8>,
    /// What came of the lines so far.
    pub tally: Tally,
}

impl<'a> Stage<'a> {
    /// For lines that were read at `time_ms` (Unix time) and `now`.
    pub fn new(
        plan: &'a ProcessPlan,
        writer: &'a ValueWriter,
        generation: Generation,
        state: &'a mut State,
        (time_ms, now): (u64, Monotonic),
    ) -> Self {
        Self {
            plan,
            writer,
            generation,
            state,
            time_ms,
            now,
            value: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Takes a line: it becomes a record of the draft, or is dropped or held, as configured. `false`
    /// where the draft has no room: then it was not taken.
    #[must_use]
    pub fn line(&mut self, draft: &mut Draft, line: &Line<'_>) -> bool {
        if self.plan.is_plain() {
            return match self.plan.form {
                Form::Json => draft.line(self.writer, self.time_ms, line),
                Form::Raw => draft.raw(line.end, line.exact),
            };
        }
        let is_due = |at: Monotonic| at <= self.now;
        if self.state.due_at(self.plan).is_some_and(is_due) && !self.tell(draft) {
            return false;
        }
        let mut value = std::mem::take(&mut self.value);
        value.clear();
        let ran = self.make(&mut value, line);
        let may_repeat = line.piece == Piece::default();
        self.take(draft, line.end, ran, may_repeat, value)
    }

    /// As [`Stage::line`], for what is a row already: it ends at `end`. Where values are raw, `message` is a
    /// text of [`escape::text`].
    #[must_use]
    pub fn row(&mut self, draft: &mut Draft, end: u64, time_ms: u64, mut row: Row) -> bool {
        let is_due = |at: Monotonic| at <= self.now;
        if self.state.due_at(self.plan).is_some_and(is_due) && !self.tell(draft) {
            return false;
        }
        self.time_ms = time_ms;
        let mut value = std::mem::take(&mut self.value);
        value.clear();
        let ran = self.plan.steps.run(&mut row, self.generation.0 ^ end);
        if !ran.dropped {
            match self.plan.form {
                Form::Json => self.writer.row(&mut value, time_ms, &row),
                Form::Raw => value.extend_from_slice(&message_of(&row)),
            }
        }
        self.take(draft, end, ran, true, value)
    }

    fn take(
        &mut self,
        draft: &mut Draft,
        end: u64,
        ran: Ran,
        may_repeat: bool,
        value: Vec<u8>,
    ) -> bool {
        let taken = ran.dropped || self.gate(draft, end, may_repeat, &value);
        if taken {
            self.tally.filtered += u64::from(ran.dropped);
            self.tally.unparsed += u64::from(ran.unparsed);
        }
        self.value = value;
        taken
    }

    /// Takes NULs from `start` to `end`, which are no line: a notice says so, and what was dropped or
    /// held before them is told first. `false` where the draft has no room for all of it.
    #[must_use]
    pub fn nuls(&mut self, draft: &mut Draft, start: u64, end: u64) -> bool {
        if !self.tell(draft) {
            return false;
        }
        let (writer, time_ms) = (self.writer, self.time_ms);
        (draft.end() >= start || draft.notice(writer, time_ms, start, &Notice::Filtered))
            && draft.notice(writer, time_ms, end, &loss(reason::NUL_RUN))
    }

    /// Tells what is held back. `false` where the draft has no room for all of it.
    #[must_use]
    pub fn tell(&mut self, draft: &mut Draft) -> bool {
        self.tell_repeats(draft) && self.tell_cut(draft)
    }

    /// Says that nothing but dropped lines lies between the draft's end and `end`, where that is
    /// much. Returns whether it said so: where the draft has no room, the next batch's turn comes.
    pub fn tell_filtered(&mut self, draft: &mut Draft, end: u64) -> bool {
        end.saturating_sub(draft.end()) >= FILTERED_BYTES
            && self.tell(draft)
            && draft.notice(self.writer, self.time_ms, end, &Notice::Filtered)
    }

    /// Runs the steps, and writes the value of what they leave.
    fn make(&self, value: &mut Vec<u8>, line: &Line<'_>) -> Ran {
        let (steps, piece) = (&self.plan.steps, line.piece);
        if self.plan.form == Form::Raw {
            return self.make_raw(value, line);
        }
        if steps.is_empty() {
            let (bytes, raw) = (line.bytes, line.raw);
            (self.writer).decoded_line(value, self.time_ms, bytes, raw, piece);
            return Ran::default();
        }
        let bytes = match steps.redacts() && piece != Piece::default() {
            true => PIECE.as_bytes(),
            false => line.bytes,
        };
        // The exact bytes would show what redaction covers.
        let mut row = match line.raw.filter(|_| !steps.redacts()) {
            Some(raw) => decoded_row(bytes, raw, piece),
            None => line_row(bytes, piece, !steps.redacts()),
        };
        // Where a line ends is what stands for it: the same after a crash.
        let ran = steps.run(&mut row, self.generation.0 ^ line.end);
        if !ran.dropped {
            self.writer.row(value, self.time_ms, &row);
        }
        ran
    }

    /// As [`Stage::make`], where the value is the line's bytes: the steps see a text of them, and change
    /// it only by covering what must not leave.
    fn make_raw(&self, value: &mut Vec<u8>, line: &Line<'_>) -> Ran {
        let (steps, piece) = (&self.plan.steps, line.piece);
        if steps.is_empty() {
            value.extend_from_slice(line.exact);
            return Ran::default();
        }
        let text = match steps.redacts() && piece != Piece::default() {
            true => PIECE.into(),
            false => escape::text(line.bytes),
        };
        let mut row = line_row(text.as_bytes(), piece, false);
        let ran = steps.run(&mut row, self.generation.0 ^ line.end);
        if !ran.dropped {
            match steps.redacts() {
                true => value.extend_from_slice(&message_of(&row)),
                false => value.extend_from_slice(line.exact),
            }
        }
        ran
    }

    /// Whether the value repeats the last one; if not, it goes on.
    fn gate(&mut self, draft: &mut Draft, end: u64, may_repeat: bool, value: &[u8]) -> bool {
        let Some(within) = self.plan.repeats else {
            return self.emit(draft, end, value);
        };
        let repeats = &mut self.state.repeats;
        let is_short = may_repeat && value.len() <= KEPT_BYTES_MAX;
        if is_short
            && !repeats.value.is_empty()
            && self.writer.said(&repeats.value) == self.writer.said(value)
        {
            repeats.hold(end, self.time_ms, within, self.now);
            self.tally.repeated += 1;
            return true;
        }
        if !self.tell_repeats(draft) || !self.emit(draft, end, value) {
            return false;
        }
        let kept = &mut self.state.repeats.value;
        kept.clear();
        if is_short {
            kept.extend_from_slice(value);
        }
        true
    }

    /// Puts a value into the draft, unless the rate limit cuts it.
    fn emit(&mut self, draft: &mut Draft, end: u64, value: &[u8]) -> bool {
        if let Some(limit) = self.plan.rate_limit {
            let mut pass = self.state.limit.ask(limit, self.now);
            if pass == Pass::TellFirst {
                if !self.tell_cut(draft) {
                    return false;
                }
                pass = self.state.limit.ask(limit, self.now);
            }
            if pass == Pass::No {
                self.state.limit.cut(end);
                self.tally.limited += 1;
                return true;
            }
        }
        let added = if value.len() > VALUE_BYTES_MAX {
            let notice = loss(reason::TOO_LARGE);
            let added = draft.notice(self.writer, self.time_ms, end, &notice);
            self.tally.too_large += u64::from(added);
            added
        } else {
            match self.plan.form {
                Form::Json => draft.push(end, Kind::Data, |out| out.extend_from_slice(value)),
                Form::Raw => draft.raw(end, value),
            }
        };
        if added {
            self.state.limit.pass();
        }
        added
    }

    fn tell_repeats(&mut self, draft: &mut Draft) -> bool {
        if self.state.repeats.count == 0 {
            return true;
        }
        let held = &self.state.repeats;
        let (end, mut value) = (held.end, held.value.clone());
        self.writer.set_time(&mut value, held.time_ms);
        append_number(&mut value, "repeated", held.count);
        let told = self.emit(draft, end, &value);
        if told {
            self.state.repeats.count = 0;
        }
        told
    }

    fn tell_cut(&mut self, draft: &mut Draft) -> bool {
        let limit = &mut self.state.limit;
        if limit.cut == 0 {
            return true;
        }
        let told = draft.push(limit.cut_end, Kind::Loss, |out| {
            let start = out.len();
            self.writer
                .notice(out, self.time_ms, &loss(reason::RATE_LIMITED));
            let mut value = out.split_off(start);
            append_number(&mut value, "records", limit.cut);
            out.append(&mut value);
        });
        if told {
            limit.cut = 0;
        }
        told
    }
}

/// The bytes of a row's message, as a text of [`escape::text`].
fn message_of(row: &Row) -> Cow<'_, [u8]> {
    let message = row.get("message").and_then(serde_json::Value::as_str);
    escape::bytes(message.unwrap_or_default())
}

fn loss(reason: &str) -> Notice {
    Notice::Loss {
        reason: reason.to_owned(),
        records: None,
    }
}

#[cfg(test)]
mod tests;
