//! Promise 2 for what is computed: a record counts once in the windows that it lies in, though the
//! loader is killed between any two of its steps, the device sends again, and two loaders share the
//! partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_tests::device::Device;
use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::Loading;
use headwater_tests::oracle::{decompress, wait_until};
use headwater_tests::s3::{Fault, Kind, Op, S3};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const DEVICES: i64 = 3;
const MINUTES: i64 = 6;
/// Readings of one device in a minute.
const READINGS: i64 = 20;

const CONFIG: &str = r#"
    [flush]
    age = "1s"
    records = 25
    [[transform]]
    step = "aggregate"
    window = "1m"
    by = ["device"]
    lateness = "1m"
    path = "minutes/{device}"
    compute = [
        { function = "count" },
        { function = "sum", field = "value" },
        { function = "max", field = "value" },
        { function = "quantile", q = 0.5, field = "value", as = "median" },
    ]
"#;

/// Readings of some devices over some minutes, some of them sent twice; and, behind them, one of each
/// device that closes all windows but its own.
fn readings() -> Vec<Record> {
    let mut devices: Vec<Device> = (0..DEVICES)
        .map(|n| Device::new(&format!("pi-{n}"), "/sys/temp", 7))
        .collect();
    let mut records = Vec::new();
    for at in 0..MINUTES * READINGS {
        for (n, device) in (0..).zip(&mut devices) {
            let (minute, second) = (at / READINGS, at % READINGS * 3);
            let value = format!(
                r#"{{"device":"pi-{n}","time":"2026-11-24T08:{minute:02}:{second:02}Z","value":{}}}"#,
                at % READINGS + n
            );
            let record = device.reading(value);
            if at % 7 == n {
                records.push(record.clone());
            }
            records.push(record);
        }
    }
    for (n, device) in devices.iter_mut().enumerate() {
        let value = format!(r#"{{"device":"pi-{n}","time":"2026-11-24T09:00:00Z","value":0}}"#);
        records.push(device.reading(value));
    }
    records
}

/// What lies in the bucket, by device and minute: count, sum and largest, over all rows.
fn counted(loading: &Loading<'_>) -> BTreeMap<String, (i64, i64, i64)> {
    let mut counted: BTreeMap<String, (i64, i64, i64)> = BTreeMap::new();
    for (key, bytes) in loading.s3.objects(&loading.bucket, "data/minutes/") {
        let text = String::from_utf8(decompress(&key, &bytes)).expect("rows are text");
        for line in text.lines() {
            let row: Value = serde_json::from_str(line).expect("a row is JSON");
            let number = |name: &str| row[name].as_i64().expect("it is a whole number");
            let window = format!("{} {}", row["device"], row["time"]);
            let sums = counted.entry(window).or_insert((0, 0, i64::MIN));
            *sums = (
                sums.0 + number("count"),
                sums.1 + number("sum_value"),
                sums.2.max(number("max_value")),
            );
        }
    }
    counted
}

fn expected() -> BTreeMap<String, (i64, i64, i64)> {
    let window = |n: i64, minute: i64| {
        let name = format!("\"pi-{n}\" \"2026-11-24T08:{minute:02}:00Z\"");
        let sum = READINGS * (READINGS - 1) / 2 + READINGS * n;
        (name, (READINGS, sum, READINGS - 1 + n))
    };
    (0..DEVICES)
        .flat_map(|n| (0..MINUTES).map(move |minute| window(n, minute)))
        .collect()
}

#[test]
fn through_a_kill_at_every_step() {
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
        let status = loading
            .loader(CONFIG)
            .crash_at(point)
            .start()
            .wait(PATIENCE);
        assert_eq!(status.code(), None, "{point} was never reached");
    }
    s3.fault(Fault::on(Op::Put, Kind::HangUpAfterCommit).times(3));
    let last = loading.loader(CONFIG).start();
    wait_until("all windows are there", PATIENCE, || {
        counted(&loading).len() >= expected().len()
    });
    assert_eq!(last.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(counted(&loading), expected());
    loading.assert_proven();
}

#[test]
fn through_a_change_of_the_step_and_a_second_loader() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "windows-2", 2);
    let records = readings();
    let (first, rest) = records.split_at(records.len() / 2);
    kafka.produce(&loading.topic, first.to_vec());
    // The same windows under another path: another step, so the change closes what is open.
    let before = CONFIG.replace("minutes/{device}", "minutes/before/{device}");
    let one = loading.loader(&before).start();
    wait_until("the first windows are there", PATIENCE, || {
        !counted(&loading).is_empty()
    });
    one.kill9();
    let one = loading.loader(CONFIG).start();
    let two = loading.loader(CONFIG).start();
    kafka.produce(&loading.topic, rest.to_vec());
    wait_until("all is counted", PATIENCE, || {
        counted(&loading)
            .iter()
            .filter(|(window, _)| !window.contains("09:00"))
            .map(|(_, (count, ..))| count)
            .sum::<i64>()
            >= DEVICES * MINUTES * READINGS
    });
    for loader in [one, two] {
        assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    }
    assert_eq!(counted(&loading), expected());
    loading.assert_proven();
}
