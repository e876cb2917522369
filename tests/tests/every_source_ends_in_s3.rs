//! Every kind of source to S3, through an outage: lines through steps, a rate limit with its notice,
//! sensors on a tree as the kernel's sysfs has it, the journal; and the lanes, in their order. And lines that go
//! as the bytes that they are, through a clock that is not set and the spool.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use headwater_tests::device_clock::DeviceClock;
use headwater_tests::kafka::Kafka;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::{decompress, wait_until};
use headwater_tests::process::Process;
use headwater_tests::s3::S3;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const LOW: usize = 3000;

/// A thermal zone, an accelerometer's temperature, and two 1-Wire thermometers, one of which got a bit wrong.
const SYSFS: &[(&str, &str)] = &[
    ("thermal/thermal_zone0/temp", "48312\n"),
    ("thermal/thermal_zone0/type", "cpu-thermal\n"),
    ("iio/iio:device0/name", "bme280\n"),
    ("iio/iio:device0/in_temp_raw", "1200\n"),
    ("iio/iio:device0/in_temp_offset", "-200\n"),
    ("iio/iio:device0/in_temp_scale", "25\n"),
    (
        "w1/28-0000/w1_slave",
        "72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n",
    ),
    (
        "w1/28-0001/w1_slave",
        "73 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n73 01 4b 46 7f ff 0e 10 57 t=23187\n",
    ),
];

/// A line of 1 kB.
fn low(n: usize) -> String {
    format!("app {n} {}", "x".repeat(1000))
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder can be made");
    fs::write(path, text).expect("a file can be written");
}

/// A journal of five entries, as systemd writes one.
fn make_journal(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder can be made");
    let mut child = Command::new("/lib/systemd/systemd-journal-remote")
        .arg(format!("--output={}/remote.journal", folder.display()))
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("systemd-journal-remote is needed: `make tools` installs it");
    let entry = |n: u64| {
        format!(
            "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={n}\n_BOOT_ID=6c7c6013a26343b29e964691ff25d04c\n\
             MESSAGE=entry {n}\nPRIORITY=6\n_SYSTEMD_UNIT=a.service\n_PID=7\n\n",
            1_764_000_000_000_000 + n * 1_000_000
        )
    };
    let text: String = (1..6).map(entry).collect();
    let mut stdin = child.stdin.take().expect("it was piped");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
}

/// Everything but the first source, which is `app`, of the low lane.
fn sources(at: &str) -> String {
    format!(
        r#"
        lane = "low"
        [[file]]
        id = "alarms"
        paths = ["{at}/alarms.log"]
        lane = "high"
        [[file]]
        id = "pay"
        paths = ["{at}/pay.json"]
        [[file.process]]
        step = "parse"
        format = "json"
        [[file.process]]
        step = "drop"
        field = "level"
        in = ["debug"]
        [[file.process]]
        step = "redact"
        pattern = "[0-9]{{16}}"
        [[file]]
        id = "noisy"
        paths = ["{at}/noisy.log"]
        rate_limit = {{ records = 100, per = "5s" }}
        [[sensor]]
        id = "soc"
        kind = "thermal"
        paths = ["{at}/thermal/*/temp"]
        interval = "200ms"
        deadband = "0.5"
        heartbeat = "1h"
        [[sensor]]
        id = "climate"
        kind = "iio"
        paths = ["{at}/iio/*/in_temp_raw"]
        interval = "200ms"
        deadband = "0.5"
        heartbeat = "1h"
        [[sensor]]
        id = "pipes"
        kind = "one_wire"
        paths = ["{at}/w1/*/w1_slave"]
        interval = "200ms"
        deadband = "0.5"
        heartbeat = "1h"
        [[journal]]
        id = "journal"
        directory = "{at}/journal"
        [spool]
        after = "200ms"
        "#
    )
}

fn make_sources(at: &Path) {
    let lines = |what: &str, count: usize| -> String {
        (0..count).map(|n| format!("{what} {n}\n")).collect()
    };
    let low: String = (0..LOW).map(|n| low(n) + "\n").collect();
    write(&at.join("app.log"), &low);
    write(&at.join("noisy.log"), &lines("noisy", 500));
    let mut pay = String::new();
    for n in 0..20 {
        let level = if n % 4 == 0 { "debug" } else { "info" };
        pay.push_str(&format!(
            "{{\"level\":\"{level}\",\"n\":{n},\"card\":\"no. 4111111111111111\"}}\n"
        ));
    }
    write(&at.join("pay.json"), &pay);
    for (name, text) in SYSFS {
        write(&at.join(name), text);
    }
    make_journal(&at.join("journal"));
}

fn status(agent: &Process) -> Value {
    serde_json::from_str(&agent.ask("status", &["--json"]).stdout).unwrap_or_default()
}

/// So many records were read, and all are in the spool.
fn wait_until_spooled(agent: &Process, records: u64) {
    wait_until("all is in the spool", PATIENCE, || {
        let told = status(agent);
        told["counters"]["records"].as_u64() >= Some(records) && told["window"]["bytes"] == 0
    });
}

/// What is stored, by source.
fn rows(s3: &S3, bucket: &str) -> BTreeMap<String, Vec<Value>> {
    let mut rows = BTreeMap::<String, Vec<Value>>::new();
    for (key, bytes) in s3.objects(bucket, "data/") {
        if key.contains("/_headwater/") || key.contains("_dead_letters/") {
            continue;
        }
        let text = decompress(&key, &bytes);
        for line in String::from_utf8_lossy(&text).lines() {
            let row: Value = serde_json::from_str(line).expect("a line of JSON");
            let source = row["source"].as_str().unwrap_or_default().to_owned();
            rows.entry(source).or_default().push(row);
        }
    }
    rows
}

/// What librdkafka had been handed before it was known that nobody answers goes first (1 MiB at most, a
/// third of the low lane); everything else waited for the alarms, though they came last.
fn assert_in_lanes(kafka: &Kafka, topic: &str) {
    let (mut alarms, mut low_before) = (0, 0);
    for record in kafka.records(topic) {
        let stream = record.header("hw-stream").unwrap_or_default();
        match stream.split('/').nth(1) {
            Some("alarms") => alarms += 1,
            Some("app") if alarms < 50 => low_before += 1,
            _ => {}
        }
    }
    assert_eq!(alarms, 50);
    assert!(
        low_before < LOW / 2,
        "{low_before} of {LOW} went before the alarms"
    );
}

fn assert_rows(rows: &BTreeMap<String, Vec<Value>>) {
    let messages = |source: &str| -> Vec<_> {
        let of = rows[source].iter();
        of.map(|row| row["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let numbered = |what: &str, count: usize| -> Vec<_> {
        (0..count).map(|n| format!("{what} {n}")).collect()
    };
    let low: Vec<_> = (0..LOW).map(low).collect();
    assert!(
        messages("app") == low,
        "the low lane is not as it was written"
    );
    assert_eq!(messages("alarms"), numbered("alarm", 50));
    assert_eq!(messages("noisy"), numbered("noisy", 100), "and no more");
    let journal: Vec<_> = (1..6).map(|n| format!("entry {n}")).collect();
    assert_eq!(messages("journal"), journal);
    let pay = &rows["pay"];
    assert_eq!(pay.len(), 15, "debug is dropped");
    for row in pay {
        assert_eq!(row["card"], "no. [redacted]");
        assert!(row["n"].as_u64().is_some_and(|n| n % 4 != 0), "{row}");
    }
    let sensor = |source: &str, place: &str| {
        let of = rows[source].iter();
        let mut of = of.filter(|row| row["sensor"].as_str().is_some_and(|at| at.contains(place)));
        let first = of.next().unwrap_or(&Value::Null);
        (
            first["value"].clone(),
            first["unit"].clone(),
            first["quality"].clone(),
        )
    };
    let expect = |value: f64| (value.into(), "C".into(), "ok".into());
    assert_eq!(sensor("soc", "thermal_zone0"), expect(48.312));
    assert_eq!(sensor("climate", "device0"), expect(25.0));
    assert_eq!(sensor("pipes", "28-0000"), expect(23.125));
    assert_eq!(sensor("pipes", "28-0001").2, "crc");
}

#[test]
fn steps_sensors_and_the_journal_through_an_outage_in_the_order_of_lanes() {
    let (kafka, s3) = (Kafka::start(1), S3::start());
    let loading = Loading::new(&kafka, &s3, "sources", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    make_sources(folder.path());
    kafka.kill();
    let at = folder.path().display().to_string();
    let agent = loading
        .agent(&format!("{at}/app.log"), &sources(&at))
        .start();
    wait_until_spooled(&agent, LOW as u64 + 100 + 15 + 4 + 5);
    let alarms: String = (0..50).map(|n| format!("alarm {n}\n")).collect();
    write(&folder.path().join("alarms.log"), &alarms);
    wait_until_spooled(&agent, LOW as u64 + 100 + 15 + 4 + 5 + 50);
    let list = agent.ask("spool list", &["--json"]);
    let list: Value = serde_json::from_str(&list.stdout).expect("spool list --json is JSON");
    assert_eq!(list["streams"][0]["lane"], "high", "{list}");
    let export = agent.ask("spool export", &["--source", "alarms"]);
    assert_eq!(export.code, Some(0), "{}", export.stderr);
    assert_eq!(export.stdout.lines().count(), 50, "{}", export.stdout);
    assert!(
        !agent
            .ask("spool export", &["--source", "pay"])
            .stdout
            .contains("4111"),
        "it is covered before it reaches the disk"
    );

    kafka.restart();
    wait_until("the spool drains", PATIENCE, || {
        status(&agent)["spool"]["batches"] == 0
    });
    assert_in_lanes(&kafka, &loading.topic);
    // It is told when the stretch is over.
    let limited = || -> Vec<_> {
        let told = kafka.records(&loading.topic);
        let values = told.iter().map(headwater_tests::kafka::Record::text);
        values
            .filter(|value| value.contains("rate-limited"))
            .collect()
    };
    wait_until("the notice of the rate limit is there", PATIENCE, || {
        !limited().is_empty()
    });
    assert_eq!(limited().len(), 1);
    assert!(limited()[0].contains("\"records\":400"), "{:?}", limited());
    let loader = loading.start();
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    wait_until("the ledger is complete", PATIENCE, || {
        loading.audit().code == Some(0)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_rows(&rows(&s3, &loading.bucket));
    loading.assert_proven();
}

/// Lines that no JSON holds as they are, and some that look like headwater's own: an undated record, and a notice.
fn odd_lines() -> Vec<Vec<u8>> {
    let mut lines = vec![
        b"plain".to_vec(),
        Vec::new(),
        b"NUL \0\0\0 and \x1b[2J".to_vec(),
        b"\xff\xfe no UTF-8 \xc3".to_vec(),
        "\u{fffd} \u{10feff} \u{1f980}".as_bytes().to_vec(),
        br#"{"device":"pi-7","source":"app","time":"boot+00000000000001.000s","message":"x"}"#.to_vec(),
        br#"{"device":"pi-7","source":"app","time":"2026-11-24T08:15:00.123Z","notice":"loss","reason":"x"}"#.to_vec(),
        b" \t \r in it".to_vec(),
    ];
    // Every byte but LF, and enough of them for several batches.
    for n in 0..3000_usize {
        let bytes = (0..40).map(|at| u8::try_from((n * 7 + at * 13) % 256).unwrap_or_default());
        let bytes = bytes.map(|byte| if byte == b'\n' { b'_' } else { byte });
        lines.push(
            [
                format!("{n} ").as_bytes(),
                &bytes.collect::<Vec<u8>>(),
                b".",
            ]
            .concat(),
        );
    }
    lines
}

#[test]
fn lines_go_as_the_bytes_that_they_are() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "raw", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lines = odd_lines();
    let file = folder.path().join("app.log");
    let joined = |lines: &[Vec<u8>]| -> Vec<u8> {
        let ended = lines.iter().flat_map(|line| [line.as_slice(), b"\n"]);
        ended.flatten().copied().collect()
    };
    fs::write(&file, joined(&lines)).expect("a file can be written");
    // While the clock is unset all of it goes through the spool, where times are set that are not ours.
    let device_clock = DeviceClock::unset();
    let paths = file.display().to_string();
    let more = "value = \"raw\"\n[spool]\nafter = \"300ms\"\n";
    let setup = loading.agent(&paths, more);
    let agent = setup.envs(device_clock.env()).start();
    wait_until("all is in the spool", PATIENCE, || {
        let told = status(&agent);
        let counters = &told["counters"];
        counters["records"] == lines.len() && counters["spooled"] == counters["batches"]
    });
    let export = agent.ask("spool export", &[]);
    assert_eq!(export.code, Some(0), "{}", export.stderr);
    let shown: Vec<Value> = (export.stdout.lines())
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    assert_eq!(shown.len(), lines.len());
    assert_eq!(shown[0]["value"], "plain");
    assert_eq!(shown[2]["value"], "NUL \0\0\0 and \x1b[2J");
    assert_eq!(shown[3]["value_base64"], "//4gbm8gVVRGLTggww==");

    let agent = agent.restart();
    device_clock.set();
    let raw = "format = \"raw\"\nraw_field = \"\"\npath = \"lines\"\n[flush]\nage = \"300ms\"\n";
    let loader = loading.loader(raw).start();
    let stored = || -> Vec<u8> {
        let objects = s3.objects(&loading.bucket, "data/lines/");
        let texts = (objects.iter()).map(|(key, bytes)| decompress(key, bytes));
        texts.collect::<Vec<_>>().concat()
    };
    wait_until("all is stored", PATIENCE, || {
        stored().len() >= joined(&lines).len()
    });
    // One is deleted: its close is JSON, and no line.
    fs::remove_file(&file).expect("it is there");
    wait_until("the file is closed", PATIENCE, || {
        let records = kafka.records(&loading.topic);
        (records.iter()).any(|record| record.header("hw-kind").as_deref() == Some("close"))
    });
    wait_until("the ledger is complete", PATIENCE, || {
        loading.audit().code == Some(0)
    });
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert!(stored() == joined(&lines), "other bytes are stored");
    let records = kafka.records(&loading.topic);
    let (notices, data): (Vec<_>, Vec<_>) =
        (records.iter()).partition(|record| record.header("hw-kind").is_some());
    let values: Vec<_> = data.iter().map(|record| record.value.clone()).collect();
    assert!(values == lines, "the topic holds other values");
    for notice in &notices {
        let value: Value = serde_json::from_slice(&notice.value).expect("a notice is JSON");
        assert!(
            value["time"]
                .as_str()
                .is_some_and(|time| time.starts_with("20")),
            "{value}"
        );
    }
    assert!(!notices.is_empty());
    let dead = s3.objects(&loading.bucket, "data/_dead_letters/");
    assert!(dead.is_empty(), "{dead:?}");
    loading.assert_proven();
}
