//! The sequence that is read: how far, and what of it is gone. Pure.
//!
//! journalctl keeps the files open that it reads, and reads deleted ones to their end. But whoever is
//! held up (no room, a slow uplink) while files come and go finds the next number far behind: what
//! lies between was left out by a filter, or is gone. The journal loses its oldest entries first: if
//! the entry that was taken last is still there, so is all that lies behind it. So that is asked, where
//! numbers jump, and what is gone is told.

use std::time::Duration;

use headwater_record::notice::{Notice, reason};
use headwater_record::value::ValueWriter;
use headwater_record::{Generation, Kind, StreamId};

use super::again::Fresh;
use super::entry::Cursor;
use super::place::Place;
use crate::clock::{Monotonic, stamp_ms};
use crate::config::JournalSource;
use crate::process::{Draft, State};

/// It is asked at most so often where nothing is found to be gone: it costs a process. With filters, where
/// numbers jump all the time, only if there was always more to read for as long.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// The sequence that is read.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) id: String,
    pub(super) stream: StreamId,
    pub(super) generation: Generation,
    /// The next record's span starts here.
    pub(super) given: u64,
    /// The last entry that was taken.
    pub(super) read: Cursor,
    /// Entries up to here are gone, and are in no notice yet: and why.
    lost: Option<(u64, &'static str)>,
    /// Numbers below this one are no longer in the journal.
    gone_below: u64,
    /// What lies behind the entry that was taken last may be gone, and nobody knows how far.
    pub(super) torn: bool,
    asked: Option<Monotonic>,
    pub(super) state: State,
    /// Its first entry is behind this number.
    pub(super) behind: u64,
    /// The last entry that an earlier run read, until it was looked whether that is still there.
    pub(super) marked: Option<Cursor>,
    /// Entries that are none of this generation: another begins with the first of them.
    pub(super) fresh: Option<Fresh>,
    /// Reading begins here, before the last entry that was taken: the numbers behind it come again.
    pub(super) again_from: Option<Cursor>,
}

impl Sequence {
    pub(super) fn resume(place: Place) -> Self {
        Self {
            id: place.read.id.clone(),
            stream: place.stream,
            generation: place.generation,
            given: place.given,
            read: place.read,
            lost: None,
            gone_below: 0,
            torn: false,
            asked: None,
            state: State::default(),
            behind: place.behind,
            marked: Some(place.marked),
            fresh: None,
            again_from: None,
        }
    }

    /// One that begins now: nobody read of it before.
    pub(super) fn begin(place: Place) -> Self {
        Self {
            marked: None,
            ..Self::resume(place)
        }
    }

    /// It was looked whether what an earlier run read is still there: the generation ends before the first of these.
    pub(super) fn ends_before(&mut self, mut fresh: Option<Fresh>) {
        self.marked = None;
        // After a reload this run has read more than is written down.
        if let Some(fresh) = (fresh.as_mut()).filter(|fresh| fresh.is_by_boot()) {
            fresh.above = fresh.above.max(self.read.number);
        }
        let above = fresh.as_ref().map(|fresh| fresh.above);
        self.again_from = above
            .filter(|above| *above < self.read.number)
            .map(|number| Cursor {
                number,
                ..self.read.clone()
            });
        self.fresh = fresh;
    }

    /// Whether numbers come again, so that nobody knows what of it was never read.
    pub(super) fn comes_again(&self) -> bool {
        !self.fresh.as_ref().is_none_or(Fresh::is_by_boot)
    }

    /// Whether an entry is of another generation, or sequence.
    pub(super) fn is_over_at(&self, entry: &Cursor) -> bool {
        self.id != entry.id || (self.fresh.as_ref()).is_some_and(|fresh| fresh.holds(entry))
    }

    pub(super) fn due_at(&self, source: &JournalSource) -> Option<Monotonic> {
        self.state.due_at(&source.process)
    }

    /// Whether it is to be asked for the entry that was taken last, before `number` is taken.
    /// `behind_since`: since when there was always more to read.
    pub(super) fn is_to_be_asked(
        &mut self,
        number: u64,
        (filtered, behind_since): (bool, Monotonic),
        now: Monotonic,
    ) -> bool {
        let jumps = number > self.read.number.saturating_add(1) && number > self.gone_below;
        let long_ago = |at: Monotonic| now.since(at) >= ASK_EVERY;
        let asks =
            jumps && self.asked.is_none_or(long_ago) && (!filtered || long_ago(behind_since));
        if asks {
            self.asked = Some(now);
        }
        asks
    }

    /// The journal was asked, without any filter, for the entry that was taken last, and gave it, or
    /// the next one that is there, or none.
    pub(super) fn found(&mut self, found: Option<&Cursor>) {
        match found.filter(|found| found.id == self.id) {
            Some(found) if found.number > self.read.number => {
                self.gone_below = found.number;
                // While files go, the next jump is most likely of the same kind.
                self.asked = None;
                self.lost = Some((found.number - 1, reason::JOURNAL_VACUUMED));
            }
            Some(_) => {}
            None => self.torn = true,
        }
    }

    /// An entry of this number comes next, behind one that was too long to be kept or not.
    pub(super) fn comes(&mut self, number: u64, after_too_long: bool) {
        let before = number - 1;
        let gone = match std::mem::take(&mut self.torn) {
            true => before,
            false => before.min(self.gone_below.saturating_sub(1)),
        };
        // What is still there is not lost, though it was read from a file that is gone by now.
        self.lost = self.lost.map(|(end, why)| (end.min(before), why));
        if self.lost.is_none() && gone > self.read.number {
            self.lost = Some((gone, reason::JOURNAL_VACUUMED));
        }
        if self.lost.is_none() && after_too_long && before > self.read.number {
            self.lost = Some((before, reason::TOO_LARGE));
        }
    }

    /// Tells what is gone. `false` where the batch has no room for it.
    pub(super) fn tell_lost(&mut self, draft: &mut Draft, writer: &ValueWriter) -> bool {
        let Some((end, reason)) = self.lost else {
            return true;
        };
        let notice = Notice::Loss {
            reason: reason.to_owned(),
            records: None,
        };
        let told = end <= draft.end()
            || draft.push(end, Kind::Loss, |out| {
                writer.notice(out, stamp_ms(), &notice)
            });
        if told {
            self.lost = None;
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "739ad463348b4ceca5a9e69c95a3c93f";

    fn at(number: u64) -> Cursor {
        Cursor {
            id: ID.to_owned(),
            number,
            time_us: 0,
            boot: 0,
        }
    }

    fn sequence(number: u64) -> Sequence {
        Sequence::resume(Place {
            stream: StreamId::parse("pi-7/j/journal/x").unwrap(),
            generation: Generation(1),
            given: number,
            read: at(number),
            behind: 0,
            marked: at(number),
        })
    }

    fn took(sequence: &mut Sequence, number: u64) -> Option<u64> {
        sequence.comes(number, false);
        let lost = sequence.lost.take().map(|(end, _)| end);
        sequence.read = at(number);
        lost
    }

    #[test]
    fn every_jump_below_what_is_gone_is_a_loss_and_none_above() {
        let mut sequence = sequence(10);
        sequence.found(Some(&at(40)));
        // From a file that is deleted, and was still open.
        assert_eq!(took(&mut sequence, 12), Some(11));
        assert_eq!(took(&mut sequence, 13), None);
        assert_eq!(took(&mut sequence, 50), Some(39));
        assert_eq!(took(&mut sequence, 60), None);
    }

    #[test]
    fn while_the_journal_loses_entries_every_jump_is_asked_about() {
        let mut sequence = sequence(10);
        let mut jump = |number, gone_to: Option<u64>, now| {
            let asks = sequence.is_to_be_asked(number, (false, Monotonic(0)), Monotonic(now));
            if asks {
                let found = gone_to.map_or_else(|| sequence.read.clone(), at);
                sequence.found(Some(&found));
            }
            (asks, took(&mut sequence, number))
        };
        assert_eq!(jump(20, Some(20), 20_000), (true, Some(19)));
        assert_eq!(jump(40, Some(39), 20_001), (true, Some(38)));
        // Left out by a filter: that is asked once, and then not for a while.
        assert_eq!(jump(50, None, 20_002), (true, None));
        assert_eq!(jump(60, Some(58), 30_001), (false, None));
        assert_eq!(jump(70, Some(65), 30_002), (true, Some(64)));
    }

    #[test]
    fn where_nothing_is_left_everything_up_to_the_next_is_gone() {
        let mut sequence = sequence(10);
        sequence.found(None);
        assert!(sequence.torn);
        assert_eq!(took(&mut sequence, 30), Some(29));
        assert!(!sequence.torn, "it is known now");
        assert_eq!(took(&mut sequence, 40), None);
    }

    #[test]
    fn it_is_asked_where_numbers_jump_and_not_too_often() {
        let mut sequence = sequence(10);
        let (long, short) = (Monotonic(0), Monotonic(19_999));
        for (number, filtered, behind_since, now, asks) in [
            (11, false, long, 20_000, false),
            (13, true, short, 20_000, false),
            (13, true, long, 20_000, true),
            (13, false, long, 29_999, false),
            (13, false, short, 30_000, true),
        ] {
            let behind = (filtered, behind_since);
            assert_eq!(
                sequence.is_to_be_asked(number, behind, Monotonic(now)),
                asks,
                "{number} at {now}"
            );
        }
    }
}
