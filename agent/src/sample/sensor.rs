//! One sensor: its samples, their numbers, and what became of each.
//!
//! A sample cannot be read again. Where the RAM window has no room for one it is lost, and its
//! number with it: the next batch that finds room begins with a loss notice for exactly those
//! numbers.
//!
//! ```text
//!   taken  0 1 2 3 4 5 6 7
//!   room   y y n n n y y     ─►  [0) [1) [loss: 2..5)[5)  [6)
//! ```

use std::path::PathBuf;

use headwater_record::notice::{Notice, Tail, reason};
use headwater_record::value::ValueWriter;
use headwater_record::{Generation, Kind, StreamId};

use crate::batch::Batch;
use crate::budget::Permit;
use crate::process::Draft;

/// What a sample with a loss notice before it takes of the RAM window: two values, roughly, with
/// long names.
pub const SAMPLE_BYTES: usize = 1024;

/// One sensor in one run of the agent.
#[derive(Debug)]
pub struct Sensor {
    /// Its file.
    pub path: PathBuf,
    /// Its stream.
    pub stream: StreamId,
    /// This run.
    pub generation: Generation,
    /// Number of the next sample.
    next: u64,
    /// Every number below is in a record that was given away.
    given: u64,
}

/// A reading, and when it was taken.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// Unix time, milliseconds.
    pub time_ms: u64,
    /// The scaled value.
    pub value: f64,
    /// Its unit.
    pub unit: Option<&'a str>,
}

impl Sensor {
    /// A sensor whose generation is registered.
    pub fn new(path: PathBuf, stream: StreamId, generation: Generation) -> Self {
        Self {
            path,
            stream,
            generation,
            next: 0,
            given: 0,
        }
    }

    /// Samples that were taken and are in no record yet.
    pub fn lost(&self) -> u64 {
        self.next - self.given
    }

    /// Takes a sample: its batch where there is room, `None` where it is lost.
    pub fn sample(
        &mut self,
        writer: &ValueWriter,
        reading: Reading<'_>,
        room: Option<Permit>,
    ) -> Option<Batch> {
        let number = self.next;
        self.next += 1;
        let permit = room?;
        let mut draft = self.draft(writer, reading.time_ms, number);
        let added = draft.push(self.next, Kind::Data, |out| {
            let (time, sensor) = (reading.time_ms, self.stream.path());
            writer.sample(out, time, sensor, reading.value, reading.unit);
        });
        debug_assert!(added, "two short records fit a batch");
        self.given = self.next;
        draft.finish(&self.stream, self.generation, Some(permit))
    }

    /// Closes the generation: it was stopped in order. Without room it goes without a permit, for
    /// it is the last thing that the sensor gives.
    pub fn close(
        &mut self,
        writer: &ValueWriter,
        time_ms: u64,
        room: Option<Permit>,
    ) -> Option<Batch> {
        let mut draft = self.draft(writer, time_ms, self.next);
        let notice = Notice::Close {
            reason: reason::STOPPED.to_owned(),
            tail: Tail::Complete,
        };
        let added = draft.notice(writer, time_ms, self.next, &notice);
        debug_assert!(added, "two short records fit a batch");
        self.given = self.next;
        draft.finish(&self.stream, self.generation, room)
    }

    /// A batch that begins with the loss of what is below `number`, if anything is.
    fn draft(&self, writer: &ValueWriter, time_ms: u64, number: u64) -> Draft {
        let mut draft = Draft::new(self.given);
        if self.given < number {
            let notice = Notice::Loss {
                reason: reason::WINDOW_FULL.to_owned(),
            };
            let added = draft.notice(writer, time_ms, number, &notice);
            debug_assert!(added, "an empty batch takes any record");
        }
        draft
    }
}

#[cfg(test)]
mod tests {
    use headwater_record::{Ledger, Span, Verdict};
    use proptest::prelude::*;

    use super::*;
    use crate::budget::Budget;

    fn sensor() -> (Sensor, ValueWriter) {
        let stream = StreamId::parse("pi-7/cpu//sys/temp").unwrap();
        let writer = ValueWriter::new(&"pi-7".parse().unwrap(), &"cpu".parse().unwrap());
        (
            Sensor::new("/sys/temp".into(), stream, Generation(1)),
            writer,
        )
    }

    fn reading(value: f64) -> Reading<'static> {
        Reading {
            time_ms: 0,
            value,
            unit: Some("C"),
        }
    }

    #[test]
    fn a_loss_is_told_before_the_next_sample() {
        let (mut sensor, writer) = sensor();
        let budget = Budget::new(1 << 20);
        let room = || budget.try_take(SAMPLE_BYTES);
        assert!(sensor.sample(&writer, reading(1.0), room()).is_some());
        assert!(sensor.sample(&writer, reading(2.0), None).is_none());
        assert!(sensor.sample(&writer, reading(3.0), None).is_none());
        assert_eq!(sensor.lost(), 2);
        let batch = sensor.sample(&writer, reading(4.0), room()).unwrap();
        let records: Vec<_> = batch.records().collect();
        let span = |start, end| Span::new(start, end).unwrap();
        assert_eq!((records[0].kind, records[0].span), (Kind::Loss, span(1, 3)));
        assert_eq!((records[1].kind, records[1].span), (Kind::Data, span(3, 4)));
        assert!(
            records[1]
                .value
                .ends_with(b"\"sensor\":\"/sys/temp\",\"value\":4.0,\"unit\":\"C\"}")
        );
        assert_eq!(sensor.lost(), 0);
        assert!(sensor.sample(&writer, reading(5.0), None).is_none());
        let batch = sensor.close(&writer, 0, None).unwrap();
        let kinds: Vec<_> = batch
            .records()
            .map(|record| (record.kind, record.span))
            .collect();
        assert_eq!(kinds, [(Kind::Loss, span(4, 5)), (Kind::Close, span(5, 5))]);
    }

    proptest! {
        #[test]
        fn every_sample_is_given_or_its_loss_is(rooms in prop::collection::vec(any::<bool>(), 0..40)) {
            let (mut sensor, writer) = sensor();
            let budget = Budget::new(1 << 20);
            let mut ledger = Ledger::default();
            let mut judge = |batch: Batch| {
                for record in batch.records() {
                    match record.kind {
                        Kind::Data => {
                            let verdict = ledger.accept("s", batch.generation, record.span, 0);
                            assert_eq!(verdict, Verdict::New);
                        }
                        kind => {
                            let notice = Notice::parse(record.value);
                            ledger.explain("s", batch.generation, record.span, kind, notice.as_ref(), 0);
                        }
                    }
                }
            };
            for room in &rooms {
                let room = room.then(|| budget.try_take(SAMPLE_BYTES).unwrap());
                sensor.sample(&writer, reading(0.0), room).into_iter().for_each(&mut judge);
            }
            sensor.close(&writer, 0, None).into_iter().for_each(&mut judge);
            let state = ledger.get("s", Generation(1)).unwrap();
            let lost = rooms.iter().filter(|room| !**room).count() as u64;
            prop_assert_eq!(state.settled, rooms.len() as u64);
            prop_assert_eq!(state.records, rooms.len() as u64 - lost);
            prop_assert_eq!(state.lost.values().sum::<u64>(), lost);
            prop_assert!(state.gaps.is_empty() && state.closed.is_some());
        }
    }
}
