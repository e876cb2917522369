//! Promise 2 for what is computed: a record counts once in the windows that it lies in, though the
//! loader is killed between any two of its steps, the device sends again, records come minutes late, and two loaders
//! share the partitions. Of tumbling and of hopping windows, and of every function.
//!
//! Each reading of a device has a bit that no other one in its window has. So the sum of the bits says which records
//! a row has, and what each function has to say of just these is reckoned here, from what was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headwater_tests::device::Device;
use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::{CLASSIC, KIP_848, Loading};
use headwater_tests::oracle::{decompress, wait_until};
use headwater_tests::s3::{Fault, Kind, Op, S3};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const DEVICES: u64 = 3;
const MINUTES: u64 = 6;
/// Readings of one device in a minute: two minutes of them have bits of their own.
const READINGS: u64 = 20;

/// Both steps compute the same; the second one says a window anew when something comes late.
fn config() -> String {
    let compute = r#"by = ["device"]
        lateness = "1m"
        compute = [
            { function = "count" },
            { function = "sum", field = "bit", as = "bits" },
            { function = "sum", field = "value" },
            { function = "min", field = "value" },
            { function = "max", field = "value" },
            { function = "mean", field = "value" },
            { function = "first", field = "at" },
            { function = "last", field = "at" },
            { function = "distinct", field = "kind" },
            { function = "quantile", q = 0.5, field = "value", as = "median" },
            { function = "quantile", q = 0.9, field = "value", as = "p90" },
        ]"#;
    format!(
        r#"
        [flush]
        age = "1s"
        records = 25
        [[transform]]
        step = "aggregate"
        window = "1m"
        path = "minutes/{{device}}"
        keep_records = true
        {compute}
        [[transform]]
        step = "aggregate"
        window = "2m"
        every = "1m"
        path = "hops/{{device}}"
        revise = "10m"
        {compute}
        "#
    )
}

/// The reading number `at` of device `n`.
#[derive(Clone, Copy)]
struct Reading {
    n: u64,
    at: u64,
}

impl Reading {
    fn bit(self) -> u64 {
        1 << (self.at % (3 * READINGS))
    }

    fn value(self) -> i64 {
        (self.at * 37 % 101).cast_signed() - 50 + self.n.cast_signed()
    }

    fn kind(self) -> String {
        format!("kind-{}", self.at * 7 % 11 % 4)
    }

    fn json(self) -> String {
        let (minute, second) = (self.at / READINGS, self.at % READINGS * 3);
        format!(
            r#"{{"device":"pi-{}","time":"2026-11-24T08:{minute:02}:{second:02}Z","value":{},"bit":{},"kind":"{}","at":{}}}"#,
            self.n,
            self.value(),
            self.bit(),
            self.kind(),
            self.at
        )
    }
}

/// The order in which a device sends: every eleventh reading comes three minutes late.
fn order() -> Vec<u64> {
    let all = MINUTES * READINGS;
    let mut order: Vec<(u64, u64)> = (0..all)
        .map(|at| (at + if at % 11 == 5 { 3 * READINGS } else { 0 }, at))
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, at)| at).collect()
}

/// Readings of some devices over some minutes, some of them sent twice; and, behind them, one of each
/// device that closes all windows but its own.
fn readings() -> Vec<Record> {
    let mut devices: Vec<Device> = (0..DEVICES)
        .map(|n| Device::new(&format!("pi-{n}"), "/sys/temp", 7))
        .collect();
    let mut records = Vec::new();
    for at in order() {
        for (n, device) in (0..).zip(&mut devices) {
            let record = device.reading(Reading { n, at }.json());
            if at % 7 == n {
                records.push(record.clone());
            }
            records.push(record);
        }
    }
    for (n, device) in devices.iter_mut().enumerate() {
        let value = format!(
            r#"{{"device":"pi-{n}","time":"2026-11-24T09:00:00Z","value":0,"bit":0,"kind":"","at":0}}"#
        );
        records.push(device.reading(value));
    }
    records
}

/// The rows of a step, by device and start of the window.
type Rows = BTreeMap<(u64, i64), Vec<Value>>;

/// What lies in the bucket. Starts are minutes from eight o'clock.
fn rows(loading: &Loading<'_>, step: &str) -> Rows {
    let mut rows = Rows::new();
    for (key, bytes) in loading
        .s3
        .objects(&loading.bucket, &format!("data/{step}/"))
    {
        let text = String::from_utf8(decompress(&key, &bytes)).expect("rows are text");
        for line in text.lines() {
            let row: Value = serde_json::from_str(line).expect("a row is JSON");
            let time = row["time"].as_str().expect("a window has a start");
            let number = |from: usize, to: usize| time[from..to].parse::<i64>().expect("digits");
            let start = number(11, 13) * 60 + number(14, 16) - 8 * 60;
            let device = row["device"].as_str().expect("it is of a device");
            let device = device[3..].parse().expect("a number");
            rows.entry((device, start)).or_default().push(row);
        }
    }
    rows
}

/// What every function has to say of these readings is what the row says.
fn assert_right(row: &Value, of: &[Reading]) {
    let mut values: Vec<i64> = of.iter().map(|reading| reading.value()).collect();
    values.sort_unstable();
    let sum: i64 = values.iter().sum();
    let kinds: BTreeSet<String> = of.iter().map(|reading| reading.kind()).collect();
    let number = |n: usize| i64::try_from(n).expect("a small number");
    let at = |reading: Option<&Reading>| reading.expect("a row has records").at;
    for (name, expected) in [
        ("count", number(of.len())),
        ("sum_value", sum),
        ("min_value", values[0]),
        ("max_value", values[values.len() - 1]),
        ("first_at", at(of.iter().min_by_key(|r| r.at)).cast_signed()),
        ("last_at", at(of.iter().max_by_key(|r| r.at)).cast_signed()),
        ("distinct_kind", number(kinds.len())),
    ] {
        assert_eq!(row[name], expected, "{name} of {row}");
    }
    let rank = |percent: usize| values[((values.len() - 1) * percent + 50) / 100] as f64;
    for (name, expected, within) in [
        ("mean_value", sum as f64 / values.len() as f64, 1e-9),
        ("median", rank(50), rank(50).abs() * 0.016),
        ("p90", rank(90), rank(90).abs() * 0.016),
    ] {
        let said = row[name].as_f64().expect("a number");
        assert!(
            (said - expected).abs() <= within,
            "{name}: {said}, not {expected}, of {row}"
        );
    }
}

/// The readings that a row has: these bits, of this device and in this window.
fn readings_of(row: &Value, n: u64, minutes: std::ops::Range<i64>) -> Vec<Reading> {
    let bits = row["bits"].as_u64().expect("bits");
    let of: Vec<Reading> = (0..MINUTES * READINGS)
        .filter(|at| minutes.contains(&(at / READINGS).cast_signed()))
        .map(|at| Reading { n, at })
        .filter(|reading| reading.bit() & bits != 0)
        .collect();
    let sum: u64 = of.iter().map(|reading| reading.bit()).sum();
    assert_eq!(
        sum, bits,
        "a reading counts twice, or in another window: {row}"
    );
    of
}

/// What stands of a window's rows: those that another one took the place of are taken out.
fn standing(rows: &[Value]) -> Vec<&Value> {
    let revision = |row: &Value| row["revision"].as_u64().unwrap_or(0);
    let bits = |row: &Value| row["bits"].as_u64().expect("bits");
    let mut rows: Vec<&Value> = rows.iter().collect();
    rows.sort_by_key(|row| revision(row));
    let mut standing: Vec<&Value> = Vec::new();
    for row in rows {
        if let Some(before) = revision(row).checked_sub(1) {
            let has_all = |held: &&Value| revision(held) == before && bits(held) & !bits(row) == 0;
            let at = standing.iter().position(has_all);
            standing.swap_remove(at.unwrap_or_else(|| panic!("it takes nobody's place: {row}")));
        }
        standing.push(row);
    }
    standing
}

/// How often each reading is counted by windows of so many minutes; each row is right.
fn counted(rows: &Rows, minutes: i64) -> BTreeMap<(u64, u64), usize> {
    let mut counted = BTreeMap::new();
    for ((n, start), rows) in rows.iter().filter(|((_, start), _)| *start < 58) {
        for row in rows {
            assert_right(row, &readings_of(row, *n, *start..start + minutes));
        }
        for row in standing(rows) {
            for reading in readings_of(row, *n, *start..start + minutes) {
                *counted.entry((*n, reading.at)).or_insert(0) += 1;
            }
        }
    }
    counted
}

fn each(times: usize) -> BTreeMap<(u64, u64), usize> {
    let of = |n| (0..MINUTES * READINGS).map(move |at| ((n, at), times));
    (0..DEVICES).flat_map(of).collect()
}

/// Whether all is there, whatever is wrong with it.
fn is_all_there(loading: &Loading<'_>) -> bool {
    [("minutes", 1), ("hops", 2)].iter().all(|(step, times)| {
        let rows = rows(loading, step);
        let before = rows.iter().filter(|((_, start), _)| *start < 58);
        let held = before.flat_map(|(_, rows)| standing(rows));
        let count = held.map(|row| row["count"].as_u64().unwrap_or(0));
        count.sum::<u64>() >= times * DEVICES * MINUTES * READINGS
    })
}

fn assert_exact(loading: &Loading<'_>) {
    let (minutes, hops) = (rows(loading, "minutes"), rows(loading, "hops"));
    assert_eq!(counted(&minutes, 1), each(1), "in windows of a minute");
    assert_eq!(counted(&hops, 2), each(2), "in hopping windows");
    let marked = |rows: &Rows, mark: &str| {
        let rows = rows.values().flatten();
        rows.filter(|row| row.get(mark).is_some()).count()
    };
    assert!(marked(&minutes, "late") > 0, "nothing came late");
    assert!(marked(&hops, "revision") > 0, "nothing was said anew");
    loading.assert_proven();
}

#[test]
fn through_a_kill_at_every_step() {
    killed_at_every_step(CLASSIC);
}

#[test]
fn through_a_kill_at_every_step_when_the_broker_assigns() {
    killed_at_every_step(KIP_848);
}

fn killed_at_every_step(group: &str) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "windows", 1);
    kafka.produce(&loading.topic, readings());
    for point in [
        "before-intent",
        "intent-committed",
        "object-under-way",
        "object-stored",
        "batch-stored",
        "snapshot-stored",
        "before-done",
        "done-committed",
        "snapshot-stored:3",
    ] {
        let loader = loading.loader_as(group, &config()).crash_at(point).start();
        let status = loader.wait(PATIENCE);
        assert_eq!(status.code(), None, "{point} was never reached");
    }
    s3.fault(Fault::on(Op::Put, Kind::HangUpAfterCommit).times(3));
    let last = loading.loader_as(group, &config()).start();
    wait_until("all windows are there", PATIENCE, || is_all_there(&loading));
    assert_eq!(last.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_exact(&loading);
}

#[test]
fn through_a_change_of_the_step_and_a_second_loader() {
    changed_and_shared(CLASSIC);
}

#[test]
fn through_a_change_of_the_step_and_a_second_loader_when_the_broker_assigns() {
    changed_and_shared(KIP_848);
}

fn changed_and_shared(group: &str) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "windows-2", 2);
    let records = readings();
    let (first, rest) = records.split_at(records.len() / 2);
    kafka.produce(&loading.topic, first.to_vec());
    // The same windows under other paths: other steps, so the change closes what is open.
    let before = config().replace("/{device}", "/before/{device}");
    let one = loading.loader_as(group, &before).start();
    wait_until("the first windows are there", PATIENCE, || {
        !rows(&loading, "minutes").is_empty()
    });
    one.kill9();
    let one = loading.loader_as(group, &config()).start();
    let two = loading.loader_as(group, &config()).start();
    kafka.produce(&loading.topic, rest.to_vec());
    wait_until("all is counted", PATIENCE, || is_all_there(&loading));
    for loader in [one, two] {
        assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    }
    assert_exact(&loading);
}

/// Nothing comes any more: the last windows close all the same, once, though the loader is killed at every step of
/// the batch without a record that does it.
#[test]
fn the_last_windows_of_a_partition_that_went_quiet() {
    const POINTS: [&str; 6] = [
        "intent-committed:2",
        "object-under-way",
        "object-stored",
        "batch-stored",
        "snapshot-stored",
        "before-done",
    ];
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "quiet", 1);
    // Records go on, so that those before have taken all offsets there are for names.
    let config = config()
        .replace(
            "lateness = \"1m\"",
            "lateness = \"1m\"\n        idle = \"2s\"",
        )
        .replace(
            "revise = \"10m\"",
            "revise = \"10m\"\n        keep_records = true",
        );
    let mut expected = BTreeMap::new();
    for (n, point) in (0..).zip(POINTS) {
        let mut device = Device::new(&format!("pi-{n}"), "/sys/temp", 7);
        let records = (0..READINGS).map(|at| device.reading(Reading { n, at }.json()));
        kafka.produce(&loading.topic, records);
        expected.extend((0..READINGS).map(|at| ((n, at), 1)));
        let status = loading
            .loader(&config)
            .crash_at(point)
            .start()
            .wait(PATIENCE);
        assert_eq!(status.code(), None, "{point} was never reached");
    }
    let last = loading.loader(&config).start();
    wait_until("all windows are there", PATIENCE, || {
        counted(&rows(&loading, "minutes"), 1).len() >= expected.len()
            && counted(&rows(&loading, "hops"), 2).values().sum::<usize>() >= 2 * expected.len()
    });
    assert_eq!(last.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(counted(&rows(&loading, "minutes"), 1), expected);
    expected.values_mut().for_each(|times| *times = 2);
    assert_eq!(counted(&rows(&loading, "hops"), 2), expected);
    let without_a_record = |key: &String| {
        let file = key.rsplit('/').next().unwrap_or_default();
        file.contains("w0000000")
    };
    let keys = s3.keys(&loading.bucket, "data/minutes/pi-0/");
    assert!(keys.iter().all(without_a_record), "{keys:?}");
    loading.assert_proven();
}
