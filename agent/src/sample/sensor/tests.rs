use std::time::Duration;

use headwater_record::value::{CLOCK_SET_MS, rfc3339};
use headwater_record::{Ledger, Span, Verdict};
use proptest::prelude::*;

use super::super::policy::{Deadband, Rollup, RollupWhen};
use super::*;
use crate::budget::Budget;
use crate::clock::Monotonic;
use crate::process::BATCH_RECORDS_MAX;
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

fn telling<'a>(writer: &'a ValueWriter, policy: &'a Policy) -> Telling<'a> {
    Telling {
        writer,
        policy,
        unit: None,
        offline: false,
    }
}

fn moment(second: u64) -> Moment {
    Moment {
        at: Monotonic(second * 1000),
        stamp_ms: CLOCK_SET_MS + second * 1000,
    }
}

fn sampled(second: u64, reading: Reading) -> Sampled {
    Sampled {
        reading,
        moment: moment(second),
    }
}

/// What becomes of samples: batches, and how many were lost.
fn take(
    sensor: &mut Sensor,
    telling: Telling<'_>,
    samples: &[Sampled],
    room: impl FnMut(Wish) -> Option<Permit>,
) -> (Vec<Batch>, u64) {
    let mut batches = Vec::new();
    let give = |batch| {
        batches.push(batch);
        Ok::<_, ()>(())
    };
    let lost = sensor.take(telling, samples, room, give).unwrap();
    (batches, lost)
}

#[test]
fn a_loss_is_told_before_the_next_sample() {
    let (mut sensor, writer) = sensor();
    let budget = Budget::new(1 << 20);
    let room = |wish: Wish| budget.try_take(Lane::Normal, wish.least);
    let telling = telling(&writer, &EVERY);
    let ok = |value| [sampled(0, Reading::ok(value))];
    assert_eq!(take(&mut sensor, telling, &ok(1.0), room).0.len(), 1);
    for value in [2.0, 3.0] {
        let (batches, lost) = take(&mut sensor, telling, &ok(value), |_| None);
        assert_eq!((batches.len(), lost), (0, 1));
    }
    assert_eq!(sensor.lost(), 2);
    let (batches, _) = take(&mut sensor, telling, &ok(4.0), room);
    let records: Vec<_> = batches[0].records().collect();
    let span = |start, end| Span::new(start, end).unwrap();
    assert_eq!((records[0].kind, records[0].span), (Kind::Loss, span(1, 3)));
    assert!(records[0].value.ends_with(b"\"records\":2}"));
    assert_eq!((records[1].kind, records[1].span), (Kind::Data, span(3, 4)));
    let end = b"\"sensor\":\"/sys/temp\",\"value\":4.0,\"unit\":\"C\",\"quality\":\"ok\"}";
    assert!(records[1].value.ends_with(end));
    assert_eq!(sensor.lost(), 0);
    assert_eq!(take(&mut sensor, telling, &ok(5.0), |_| None).1, 1);
    let batch = sensor.close(telling, moment(0), None).unwrap();
    let kinds: Vec<_> = batch
        .records()
        .map(|record| (record.kind, record.span))
        .collect();
    assert_eq!(kinds, [(Kind::Loss, span(4, 5)), (Kind::Close, span(5, 5))]);
}

#[test]
fn samples_that_come_at_once_share_batches_and_keep_their_times() {
    let (mut sensor, writer) = sensor();
    let budget = Budget::new(1 << 20);
    let samples: Vec<_> = (0..1000)
        .map(|n| sampled(n, Reading::ok(n as f64)))
        .collect();
    let room = |wish: Wish| budget.try_take(Lane::Normal, wish.most);
    let (batches, lost) = take(&mut sensor, telling(&writer, &EVERY), &samples, room);
    assert_eq!(
        (batches.len(), lost),
        (1000_usize.div_ceil(BATCH_RECORDS_MAX), 0)
    );
    for batch in &batches {
        let permit = batch.permit.as_ref().unwrap().bytes();
        assert!(permit >= batch.values.len() && permit <= BATCH_BYTES);
    }
    let records: Vec<_> = batches.iter().flat_map(Batch::records).collect();
    for (n, record) in (0..).zip(&records) {
        assert_eq!(record.span, Span::new(n, n + 1).unwrap());
        let value: serde_json::Value = serde_json::from_slice(record.value).unwrap();
        let time = rfc3339(CLOCK_SET_MS + n * 1000);
        assert_eq!(value["time"].as_str().unwrap().as_bytes(), time);
        assert_eq!(value["value"], n as f64);
    }
    assert_eq!(records.len(), 1000);
    // What little room there is is used, and what is beyond it is told as lost.
    let mut permits = vec![budget.try_take(Lane::Normal, 4 * SAMPLE_BYTES)];
    let room = |_: Wish| permits.pop().flatten();
    let (batches, lost) = take(&mut sensor, telling(&writer, &EVERY), &samples, room);
    let told = batches[0].records().count() as u64;
    assert!(batches.len() == 1 && told > 4, "{told}");
    assert_eq!(lost, 1000 - told);
    assert_eq!(sensor.lost(), lost);
}

#[test]
fn windows_and_heartbeats_end_by_the_moments_of_the_samples() {
    let budget = Budget::new(1 << 20);
    // A minute, of which each second gave one; and it did not move.
    let samples: Vec<_> = (0..60).map(|n| sampled(n, Reading::ok(1.0))).collect();
    let band = Policy {
        deadband: Some(Deadband::Absolute(5.0)),
        heartbeat: Duration::from_secs(20),
        rollup: None,
    };
    let window = Policy {
        rollup: Some(Rollup {
            window: Duration::from_secs(9),
            when: RollupWhen::Always,
        }),
        ..EVERY
    };
    let told = |policy: &Policy| {
        let (mut sensor, writer) = sensor();
        let room = |wish: Wish| budget.try_take(Lane::Normal, wish.least);
        let (batches, _) = take(&mut sensor, telling(&writer, policy), &samples, room);
        let records = batches.iter().flat_map(Batch::records);
        records.map(|record| record.span.end()).collect::<Vec<_>>()
    };
    assert_eq!(told(&band), [1, 21, 41]);
    assert_eq!(told(&window), [10, 20, 30, 40, 50, 60]);
}

/// A sample of a property: seconds since the one before, its value (none: missing), whether the
/// broker is away, whether there is room, whether it comes together with the next.
type Taken = (u64, Option<i8>, bool, bool, bool);

fn any_taken() -> impl Strategy<Value = Taken> {
    let value = prop::option::of(any::<i8>());
    (
        0_u64..30,
        value,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
}

proptest! {
    #[test]
    fn every_sample_is_in_one_record_or_notice(
        samples in prop::collection::vec(any_taken(), 0..40),
        deadband in prop::option::of(1_u8..50),
        rollup in prop::option::of((1_u64..60, any::<bool>())),
    ) {
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
        };
        let (mut second, mut lost, mut offline_samples) = (0, 0, 0);
        let mut together = Vec::new();
        for (n, (passed, value, offline, room, with_next)) in samples.iter().enumerate() {
            second += passed;
            let reading = value.map_or(Reading::none(Quality::Missing), |value| Reading::ok(f64::from(value)));
            together.push(sampled(second, reading));
            if *with_next && n + 1 < samples.len() {
                continue;
            }
            let mut telling = telling(&writer, &policy);
            telling.offline = *offline;
            offline_samples += if *offline { together.len() as u64 } else { 0 };
            // Room for some of them may be all that there is.
            let mut rooms = usize::from(*room);
            let room = |wish: Wish| {
                rooms = rooms.checked_sub(1)?;
                Some(budget.try_take(Lane::Normal, wish.least + wish.most / 3).unwrap())
            };
            let (batches, now_lost) = take(&mut sensor, telling, &together, room);
            batches.iter().for_each(&mut judge);
            lost += now_lost;
            together.clear();
        }
        judge(&sensor.close(telling(&writer, &policy), moment(second), None).unwrap());
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
            prop_assert!(in_windows >= offline_samples);
        }
    }
}
