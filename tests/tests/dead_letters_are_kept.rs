//! Promise 2, for what cannot be loaded: a record that fails is a dead letter once, whole, with the reason,
//! through kills; and once the configuration is mended it comes back, once. And the lag that people set
//! alarms on counts nothing that is stored or filtered.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use headwater_tests::device::Device;
use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::{CLASSIC, KIP_848, Loading, metric};
use headwater_tests::oracle::{decompress, stored_in_folder, wait_until};
use headwater_tests::outside::free_address;
use headwater_tests::s3::S3;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
/// A step that half of the records fail in.
const STEPS: &str = r#"
    [flush]
    records = 7
    age = "300ms"
    [[transform]]
    step = "timestamp"
    field = "message"
    formats = ["rfc3339"]
    to = "at"
    "#;

/// The dead letters that are stored: the step, and the bytes of the record.
fn letters(loading: &Loading) -> Vec<(Option<String>, Vec<u8>)> {
    let objects = loading.s3.objects(&loading.bucket, "data/_dead_letters/");
    let mut all = Vec::new();
    for (key, bytes) in objects {
        let text = String::from_utf8(decompress(&key, &bytes)).expect("NDJSON");
        for line in text.lines() {
            let row: Value = serde_json::from_str(line).expect("a row");
            assert_eq!(row["topic"], loading.topic.as_str(), "{row}");
            assert!(row["reason"].is_string() && row["offset"].is_u64(), "{row}");
            let value = row["value_base64"].as_str().expect("its bytes");
            let value = base64::engine::general_purpose::STANDARD.decode(value);
            let step = row["step"].as_str().map(str::to_owned);
            all.push((step, value.expect("base64")));
        }
    }
    all.sort();
    all
}

#[test]
fn a_record_that_fails_is_kept_once_and_comes_back_when_it_is_mended() {
    failing_record(CLASSIC);
}

#[test]
fn a_record_that_fails_is_kept_once_and_comes_back_when_it_is_mended_when_the_broker_assigns() {
    failing_record(KIP_848);
}

fn failing_record(group: &str) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "dead", 1).of(group);
    let mut device = Device::new("pi-7", "/var/log/app", 1);
    let mut records: Vec<Record> = Vec::new();
    let mut bad = Vec::new();
    for i in 0..60 {
        match i % 3 {
            0 => {
                records.push(device.line(&format!("2026-11-24T00:00:{i:02}Z")));
            }
            1 => {
                let record = device.line(&format!("no time, number {i}"));
                bad.push((Some("1 (timestamp)".to_owned()), record.value.clone()));
                records.push(record);
            }
            _ => {
                // Not even text.
                let value = vec![0xff, b'{', u8::try_from(i).expect("small")];
                records.push(device.reading(value.clone()));
                bad.push((None, value));
            }
        }
    }
    bad.sort();
    kafka.produce(&loading.topic, records);
    let points = [
        "intent-committed",
        "object-under-way",
        "object-stored",
        "batch-stored",
        "snapshot-stored",
    ];
    for point in points {
        let loader = loading.loader(STEPS).crash_at(point).start();
        loader.wait(PATIENCE);
    }
    let loader = loading.loader(STEPS).start();
    wait_until("every record is a row or a dead letter", PATIENCE, || {
        loading.s3.objects(&loading.bucket, "data/source=").len() > 1
            && letters(&loading).len() >= bad.len()
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(letters(&loading), bad);
    loading.assert_proven();

    assert_listed(&loading);
    assert_replayed(&loading);
}

/// `dlq list` counts them by step.
fn assert_listed(loading: &Loading) {
    let list = loading.loader(STEPS).run("dlq list", &["--json"]);
    assert_eq!(list.code, Some(0), "{}", list.stderr);
    let list: Value = serde_json::from_str(&list.stdout).expect("JSON");
    let reasons = list.as_array().expect("a list of reasons");
    let count = |step: Option<&str>| -> u64 {
        let of = reasons
            .iter()
            .filter(|reason| reason["step"].as_str() == step);
        of.filter_map(|reason| reason["count"].as_u64()).sum()
    };
    assert_eq!(
        (count(Some("1 (timestamp)")), count(None)),
        (20, 20),
        "{list}"
    );
}

/// `dlq replay` with a configuration that takes half of them brings those back, once.
fn assert_replayed(loading: &Loading) {
    // Mended: lines that are no time are left as they are. What is no text stays a dead letter.
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    let to = format!("file://{}", elsewhere.path().display());
    let mended = "[flush]\nrecords = 7\n";
    let mut files = Vec::new();
    for _ in 0..2 {
        let replay = loading.loader(mended).run("dlq replay", &["--to", &to]);
        assert_eq!(replay.code, Some(1), "{}{}", replay.stdout, replay.stderr);
        assert!(replay.stdout.starts_with("rows: 20\n"), "{}", replay.stdout);
        assert!(
            replay.stdout.contains("dead letters again: 20\n"),
            "{}",
            replay.stdout
        );
        files.push(snapshot(elsewhere.path()));
    }
    assert_eq!(files[0], files[1], "twice writes nothing twice");
    let back = stored_in_folder(elsewhere.path());
    let back = back
        .iter()
        .filter(|row| row.message.starts_with("no time"))
        .count();
    assert_eq!(back, 20);

    // Mended once more: there what it makes would have other names beside the same rows.
    let again = format!("{mended}[[transform]]\nstep = \"remove\"\nfields = [\"nothing\"]\n");
    let refused = loading.loader(&again).run("dlq replay", &["--to", &to]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(
        refused.stderr.contains("with another configuration"),
        "{}",
        refused.stderr
    );
    assert_eq!(snapshot(elsewhere.path()), files[0]);
    // A place of its own takes what is told of: all of the last hour, nothing of the last moment.
    for (since, rows) in [("1ms", 0), ("1h", 20)] {
        let to = format!("{to}-{since}");
        let args = ["--to", &to, "--since", since];
        let replay = loading.loader(&again).run("dlq replay", &args);
        let told = format!("rows: {rows}\n");
        assert!(replay.stdout.starts_with(&told), "{}", replay.stdout);
        fs::remove_dir_all(to.trim_start_matches("file://")).expect("it was made");
    }

    let into = format!("s3://{}/data", loading.bucket);
    let refused = loading.loader(mended).run("dlq replay", &["--to", &into]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("lie in one another"),
        "{}",
        refused.stderr
    );
}

/// Every file with its bytes.
fn snapshot(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => all.push((path.display().to_string(), fs::read(&path).expect("a file"))),
            }
        }
    }
    all.sort();
    all
}

/// A text that is not of its format is kept apart, counted, and back once the step is another.
#[test]
fn a_text_that_cannot_be_parsed_is_kept_and_counted() {
    unparsed_text(CLASSIC);
}

#[test]
fn a_text_that_cannot_be_parsed_is_kept_and_counted_when_the_broker_assigns() {
    unparsed_text(KIP_848);
}

fn unparsed_text(group: &str) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "unparsed", 1).of(group);
    let listen = free_address();
    let steps = |on_error: &str| {
        format!(
            "[flush]\nage = \"300ms\"\n[http]\nlisten = \"{listen}\"\n[[transform]]\nstep = \"parse\"\n\
             format = \"json\"\nkeep_field = true\non_error = \"{on_error}\"\n"
        )
    };
    let mut device = Device::new("pi-7", "/var/log/app", 1);
    let lines = ["{\"a\":1}", "prose", "{\"a\":2}", "[1]", "{\"a\":3}"];
    kafka.produce(&loading.topic, lines.map(|line| device.line(line)));
    let loader = loading.loader(&steps("dead_letter")).start();
    let of = |outcome: &str| {
        let name = format!("headwater_loader_records_total{{outcome=\"{outcome}\"}}");
        metric(&listen, &name)
    };
    wait_until("all is stored", PATIENCE, || {
        (of("written"), of("dead_letter")) == (Some(3), Some(2))
    });
    assert_eq!(of("unparsed"), Some(2));
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    let kept: Vec<_> = letters(&loading)
        .into_iter()
        .map(|letter| letter.0)
        .collect();
    assert_eq!(
        kept,
        [Some("1 (parse)".to_owned()), Some("1 (parse)".to_owned())]
    );
    loading.assert_proven();
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    let to = format!("file://{}", elsewhere.path().display());
    let replay = loading
        .loader(&steps("mark"))
        .run("dlq replay", &["--to", &to]);
    assert_eq!(replay.code, Some(0), "{}{}", replay.stdout, replay.stderr);
    let mut back: Vec<String> = stored_in_folder(elsewhere.path())
        .into_iter()
        .map(|row| row.message)
        .collect();
    back.sort();
    assert_eq!(back, ["[1]", "prose"]);
}

#[test]
fn the_durable_lag_is_what_is_not_stored_and_nothing_else() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "lag", 2);
    let listen = free_address();
    let more = |age: &str| {
        format!(
            "[flush]\nage = \"{age}\"\n[http]\nlisten = \"{listen}\"\n\
             [[transform]]\nstep = \"filter\"\nfield = \"message\"\nnot_in = [\"noise\"]\n"
        )
    };
    // Sums are exact as long as no commit is of unknown outcome, and no session is lost to a machine that
    // stands still.
    let with_age = |age: &str| loading.loader_as("session_timeout = \"30s\"", &more(age));
    let lag = || metric(&listen, "headwater_loader_durable_lag_records");
    let mut device = Device::new("pi-7", "/var/log/app", 1);

    // An idle topic.
    let loader = with_age("300ms").start();
    wait_until("an idle topic has no lag", PATIENCE, || lag() == Some(0));

    // One whose records are all filtered: the offset moves all the same.
    let noise: Vec<Record> = (0..50).map(|_| device.line("noise")).collect();
    kafka.produce(&loading.topic, noise);
    wait_until("all is filtered, and no lag is left", PATIENCE, || {
        metric(&listen, "headwater_loader_records_total") == Some(50) && lag() == Some(0)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));

    // Fetched and not stored is lag, however long ago it was fetched.
    let loader = with_age("1h").start();
    let lines: Vec<Record> = (0..30).map(|i| device.line(&format!("line {i}"))).collect();
    kafka.produce(&loading.topic, lines);
    wait_until("what is held open is lag", PATIENCE, || lag() == Some(30));
    assert!(loading.stored().is_empty());
    // And it is gone when a stop has stored it.
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(loading.stored().len(), 30);
    let loader = with_age("1h").start();
    wait_until("nothing is left", PATIENCE, || lag() == Some(0));
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
}

/// Whoever may produce may call a header what they like. Such a record is read like any other: what ended
/// the loader would end it again after each start.
#[test]
fn a_header_whose_name_is_no_text_ends_no_loader() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "header", 1);
    let mut device = Device::new("pi-7", "/var/log/app", 1);
    kafka.produce(&loading.topic, [device.line("before")]);
    let value = file_of(br#"{"message":"between"}"#);
    let produced = Command::new("kcat")
        .args([
            "-P",
            "-b",
            kafka.bootstrap(),
            "-t",
            &loading.topic,
            "-p",
            "0",
            "-H",
        ])
        .arg(OsString::from_vec(b"\xff\xfe=x".to_vec()))
        .arg(value.path())
        .status();
    assert!(produced.expect("kcat is installed: make test").success());
    kafka.produce(&loading.topic, [device.line("behind")]);
    let loader = loading.start();
    wait_until("all is stored", PATIENCE, || loading.stored().len() >= 3);
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    let written = ["before", "between", "behind"].map(str::to_owned);
    loading.report(written).assert_exact();
    loading.assert_proven();
}

/// A file with these bytes, gone with its handle.
fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), bytes).expect("it can be written");
    file
}
