//! One sensor: its samples, their numbers, and what became of each. Pure.
//!
//! Every sample has a number. One that is told is a record; one that configuration leaves out, or
//! that became part of a roll-up, lies in the span of the next record. A sample cannot be read again:
//! where one was to be told and the RAM window had no room, it is lost, and the next batch that finds
//! room begins with a loss notice. A roll-up that finds no room waits, and grows: while there is one,
//! no sample is lost.
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
use super::reading::{Quality, Reading};
use crate::batch::Batch;
use crate::budget::Permit;
use crate::clock::Monotonic;
use crate::process::Draft;

/// What a sample takes of the RAM window, with a loss notice and a roll-up before it: three values,
/// roughly, with long names.
pub const SAMPLE_BYTES: usize = 2048;

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

/// What became of a sample.
#[derive(Debug)]
pub enum Became {
    /// A record.
    Told(Batch),
    /// Nothing, as configured; or part of a roll-up.
    Held,
    /// It is lost.
    Lost,
}

/// How and when samples are told, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Telling<'a> {
    /// Writes values.
    pub writer: &'a ValueWriter,
    /// Which samples are told.
    pub policy: &'a Policy,
    /// Configured unit, instead of the sensor's own.
    pub unit: Option<&'a str>,
    /// Unix time, milliseconds.
    pub time_ms: u64,
    /// The same moment.
    pub now: Monotonic,
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
        }
    }

    /// Samples that were lost and are in no notice yet.
    pub fn lost(&self) -> u64 {
        self.lost.count
    }

    /// Takes a sample. `room` is asked only where something is to be told.
    pub fn sample(
        &mut self,
        telling: Telling<'_>,
        reading: Reading,
        room: impl FnOnce() -> Option<Permit>,
    ) -> Became {
        self.next += 1;
        let what = (self.told).take(telling.policy, reading, telling.offline, telling.now);
        if self.told.window().is_some() && !matches!(what, Tell::SummaryThenSample(_)) {
            self.window_end = self.next;
        }
        if what == Tell::Nothing {
            return Became::Held;
        }
        let Some(permit) = room() else {
            return self.without_room(what, reading);
        };
        let mut draft = Draft::new(self.given);
        self.push_lost(&mut draft, telling);
        if let Tell::Summary(summary) | Tell::SummaryThenSample(summary) = what {
            self.push_summary(&mut draft, telling, &summary);
        }
        if let Tell::Sample | Tell::SummaryThenSample(_) = what {
            let said = Said {
                numbers: &[("value", reading.value)],
                counts: &[],
                quality: reading.quality,
            };
            self.push(&mut draft, telling, self.next, &said);
        }
        self.told.told(what, reading, telling.now);
        self.given = draft.end();
        match draft.finish(&self.stream, self.generation, Some(permit)) {
            Some(batch) => Became::Told(batch),
            None => Became::Held,
        }
    }

    /// Closes the generation: it was stopped in order. Without room it goes without a permit, for
    /// it is the last thing that the sensor gives.
    pub fn close(&mut self, telling: Telling<'_>, room: Option<Permit>) -> Option<Batch> {
        let mut draft = Draft::new(self.given);
        self.push_lost(&mut draft, telling);
        if let Some(summary) = self.told.window() {
            self.push_summary(&mut draft, telling, &summary);
        }
        let notice = Notice::Close {
            reason: reason::STOPPED.to_owned(),
            tail: Tail::Complete,
        };
        let added = draft.notice(telling.writer, telling.time_ms, self.next, &notice);
        debug_assert!(added, "some short records fit a batch");
        self.given = self.next;
        draft.finish(&self.stream, self.generation, room)
    }

    fn without_room(&mut self, what: Tell, reading: Reading) -> Became {
        match what {
            Tell::Nothing | Tell::Summary(_) => Became::Held,
            Tell::SummaryThenSample(_) => {
                self.told.join(reading);
                self.window_end = self.next;
                Became::Held
            }
            Tell::Sample => {
                self.lost.count += 1;
                self.lost.end = self.next;
                Became::Lost
            }
        }
    }

    fn push_summary(&self, draft: &mut Draft, telling: Telling<'_>, summary: &Summary) {
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
        self.push(draft, telling, self.window_end, &said);
    }

    /// The loss of what was lost, if anything was: it lies before everything that was not told yet.
    fn push_lost(&mut self, draft: &mut Draft, telling: Telling<'_>) {
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
            (telling.writer).notice(&mut value, telling.time_ms, &notice);
            append_number(&mut value, "records", lost.count);
            out.append(&mut value);
        });
        debug_assert!(added, "some short records fit a batch");
    }

    fn push(&self, draft: &mut Draft, telling: Telling<'_>, end: u64, said: &Said<'_>) {
        let sample = Sample {
            sensor: self.stream.path(),
            label: self.about.label.as_deref(),
            numbers: said.numbers,
            counts: said.counts,
            unit: telling.unit.or(self.about.unit),
            quality: said.quality.word(),
        };
        let added = draft.push(end, Kind::Data, |out| {
            telling.writer.sample(out, telling.time_ms, &sample);
        });
        debug_assert!(added, "some short records fit a batch");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use headwater_record::{Ledger, Span, Verdict};
    use proptest::prelude::*;

    use super::super::policy::{Deadband, Rollup, RollupWhen};
    use super::*;
    use crate::budget::Budget;
    use crate::spool::Lane;

    fn sensor() -> (Sensor, ValueWriter) {
        let stream = StreamId::parse("pi-7/cpu//sys/temp").unwrap();
        let writer = ValueWriter::new(&"pi-7".parse().unwrap(), &"cpu".parse().unwrap());
        let about = About {
            label: None,
            unit: Some("C"),
        };
        (
            Sensor::new("/sys/temp".into(), stream, Generation(1), about),
            writer,
        )
    }

    const EVERY: Policy = Policy {
        deadband: None,
        heartbeat: Duration::from_secs(600),
        rollup: None,
    };

    fn telling<'a>(writer: &'a ValueWriter, policy: &'a Policy, second: u64) -> Telling<'a> {
        Telling {
            writer,
            policy,
            unit: None,
            time_ms: 0,
            now: Monotonic(second * 1000),
            offline: false,
        }
    }

    fn batch(became: Became) -> Option<Batch> {
        match became {
            Became::Told(batch) => Some(batch),
            Became::Held | Became::Lost => None,
        }
    }

    #[test]
    fn a_loss_is_told_before_the_next_sample() {
        let (mut sensor, writer) = sensor();
        let budget = Budget::new(1 << 20);
        let room = || budget.try_take(Lane::Normal, SAMPLE_BYTES);
        let telling = telling(&writer, &EVERY, 0);
        assert!(batch(sensor.sample(telling, Reading::ok(1.0), room)).is_some());
        for value in [2.0, 3.0] {
            let became = sensor.sample(telling, Reading::ok(value), || None);
            assert!(matches!(became, Became::Lost));
        }
        assert_eq!(sensor.lost(), 2);
        let batch = batch(sensor.sample(telling, Reading::ok(4.0), room)).unwrap();
        let records: Vec<_> = batch.records().collect();
        let span = |start, end| Span::new(start, end).unwrap();
        assert_eq!((records[0].kind, records[0].span), (Kind::Loss, span(1, 3)));
        assert!(records[0].value.ends_with(b"\"records\":2}"));
        assert_eq!((records[1].kind, records[1].span), (Kind::Data, span(3, 4)));
        let end = b"\"sensor\":\"/sys/temp\",\"value\":4.0,\"unit\":\"C\",\"quality\":\"ok\"}";
        assert!(records[1].value.ends_with(end));
        assert_eq!(sensor.lost(), 0);
        assert!(matches!(
            sensor.sample(telling, Reading::ok(5.0), || None),
            Became::Lost
        ));
        let batch = sensor.close(telling, None).unwrap();
        let kinds: Vec<_> = batch
            .records()
            .map(|record| (record.kind, record.span))
            .collect();
        assert_eq!(kinds, [(Kind::Loss, span(4, 5)), (Kind::Close, span(5, 5))]);
    }

    /// A sample of a property: seconds since the one before, its value (none: missing), whether the
    /// broker is away, whether there is room.
    type Taken = (u64, Option<i8>, bool, bool);

    proptest! {
        #[test]
        fn every_sample_is_in_one_record_or_notice(
            samples in prop::collection::vec((0_u64..30, prop::option::of(any::<i8>()), any::<bool>(), any::<bool>()), 0..40),
            deadband in prop::option::of(1_u8..50),
            rollup in prop::option::of((1_u64..60, any::<bool>())),
        ) {
            let samples: Vec<Taken> = samples;
            let policy = Policy {
                deadband: deadband.map(|width| Deadband::Absolute(f64::from(width))),
                heartbeat: Duration::from_secs(60),
                rollup: rollup.map(|(window, always)| Rollup {
                    window: Duration::from_secs(window),
                    when: if always { RollupWhen::Always } else { RollupWhen::Offline },
                }),
            };
            let (mut sensor, writer) = sensor();
            let budget = Budget::new(1 << 20);
            let (mut ledger, mut in_windows, mut said_lost) = (Ledger::default(), 0, 0);
            let mut judge = |batch: &Batch| {
                for record in batch.records() {
                    let value: serde_json::Value = serde_json::from_slice(record.value).unwrap();
                    if record.kind == Kind::Data {
                        assert!(!record.span.is_empty());
                        assert_eq!(ledger.accept("s", batch.generation, record.span, 0), Verdict::New);
                        in_windows += value["count"].as_u64().unwrap_or(0) + value["missing"].as_u64().unwrap_or(0);
                    } else {
                        said_lost += value["records"].as_u64().unwrap_or(0);
                        let notice = Notice::parse(record.value);
                        ledger.explain("s", batch.generation, record.span, record.kind, notice.as_ref(), 0);
                    }
                }
                assert!(batch.records().count() <= 3);
            };
            let (mut second, mut lost) = (0, 0);
            for (passed, value, offline, room) in &samples {
                second += passed;
                let mut telling = telling(&writer, &policy, second);
                telling.offline = *offline;
                let reading = value.map_or(Reading::none(Quality::Missing), |value| Reading::ok(f64::from(value)));
                match sensor.sample(telling, reading, || room.then(|| budget.try_take(Lane::Normal, SAMPLE_BYTES).unwrap())) {
                    Became::Told(batch) => judge(&batch),
                    Became::Held => {}
                    Became::Lost => lost += 1,
                }
            }
            judge(&sensor.close(telling(&writer, &policy, second), None).unwrap());
            let state = ledger.get("s", Generation(1)).unwrap();
            prop_assert_eq!(state.settled, samples.len() as u64);
            prop_assert!(state.gaps.is_empty() && state.closed.is_some());
            prop_assert_eq!(said_lost, lost);
            prop_assert!(state.lost.values().sum::<u64>() >= lost);
            let always = policy.rollup.is_some_and(|rollup| rollup.when == RollupWhen::Always);
            if always {
                prop_assert_eq!(in_windows, samples.len() as u64);
            } else if policy.rollup.is_none() {
                prop_assert_eq!(in_windows, 0);
            } else {
                // And those that found no room while one was under way.
                let offline = samples.iter().filter(|(_, _, offline, _)| *offline).count() as u64;
                prop_assert!(in_windows >= offline);
            }
        }
    }
}
