//! What reads a stretch of the topic beside the live group (`plan`, `replay`, `backfill`): it leaves
//! the group and its output as they are, and says or writes what `run` would.

use std::time::Duration;

use headwater_tests::device::Device;
use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::Loading;
use headwater_tests::oracle::wait_until;
use headwater_tests::process::{Finished, Loader, Setup};
use headwater_tests::s3::S3;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A record without an agent.
fn foreign(partition: i32, value: &str) -> Record {
    Record {
        partition,
        value: value.as_bytes().to_vec(),
        ..Record::default()
    }
}

fn lines(device: &mut Device, partition: i32, n: usize) -> Vec<Record> {
    let line = |i| Record {
        partition,
        ..device.line(&format!("{partition}/{i}"))
    };
    (0..n).map(line).collect()
}

#[test]
fn a_dry_run_says_what_would_be_written_and_writes_nothing() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "dry", 2);
    let mut devices = [0, 1].map(|n| Device::new(&format!("pi-{n}"), "/var/log/app", n + 1));
    for (partition, device) in (0..).zip(&mut devices) {
        kafka.produce(&loading.topic, lines(device, partition, 40));
    }
    // A re-send, an aborted transaction, and what is no JSON.
    devices[0].seek(0);
    kafka.produce(&loading.topic, [devices[0].line("0/0")]);
    kafka.produce_aborted(&loading.topic, [foreign(1, "{\"message\":\"aborted\"}")]);
    kafka.produce(&loading.topic, [foreign(1, "no JSON at all")]);
    let mut loader = loading.loader("[flush]\nobjects = 1000\n");
    let plan = loader.run("plan", &["--json", "--from", "earliest"]);
    assert_eq!(plan.code, Some(0), "{}", plan.stderr);
    let report: Value = serde_json::from_str(&plan.stdout).expect("JSON");
    for (field, n) in [
        ("records", 82),
        ("rows", 81),
        ("duplicates", 1),
        ("dead_letters", 1),
        ("paths", 2),
        ("guard_closed_batches", 0),
    ] {
        assert_eq!(report[field], n, "{field}: {}", plan.stdout);
    }
    assert_eq!(report["rejects"][0]["example"], "no JSON at all");
    assert_eq!(report["rejects"][0]["example_partition"], 1);
    let text = loader.run("plan", &["--records", "20", "--partition", "0"]);
    assert_eq!(text.code, Some(0), "{}", text.stderr);
    assert!(
        text.stdout.starts_with("20 records of topic"),
        "{}",
        text.stdout
    );
    assert!(s3.keys(&loading.bucket, "").is_empty());
    assert!(s3.requests().is_empty(), "{:?}", s3.requests());
    let committed = kafka.committed(loading.group(), &loading.topic);
    assert!(
        committed.iter().all(|held| held.offset.is_none()),
        "{committed:?}"
    );
    // A path of its own for each row.
    let mut guarded = loading.loader(
        "[flush]\nobjects = 5\n[[transform]]\nstep = \"route\"\n\
        path = \"{message}\"\nwhen = { field = \"message\", exists = true }\n",
    );
    let plan = guarded.run("plan", &[]);
    assert_eq!(plan.code, Some(1), "{}{}", plan.stdout, plan.stderr);
    assert!(
        plan.stdout.contains("WARNING: the guard closed"),
        "{}",
        plan.stdout
    );
}

/// Loads all into the live output and stops.
fn load_all(loading: &Loading, more: &str, lines: usize) {
    let loader = loading.loader(&format!("[flush]\nage = \"300ms\"\n{more}"));
    let loader = loader.start();
    wait_until("all is stored", PATIENCE, || {
        messages(loading, "data/").len() >= lines
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
}

/// What is stored under a prefix, windows aside.
fn messages(loading: &Loading, prefix: &str) -> Vec<String> {
    let objects = loading.s3.objects(&loading.bucket, prefix);
    let ours = objects
        .iter()
        .filter(|(key, _)| !key.contains("/_headwater/") && !key.contains("/windows/"));
    let mut messages: Vec<String> = ours
        .flat_map(|(key, bytes)| {
            let text = headwater_tests::oracle::decompress(key, bytes);
            let text = String::from_utf8(text).expect("NDJSON");
            let message = |line| headwater_tests::oracle::message(line).expect("a message");
            text.lines().map(message).collect::<Vec<_>>()
        })
        .collect();
    messages.sort();
    messages
}

/// A loader whose own output is another prefix: for `verify` and `audit`.
fn looking_at(loading: &Loading, prefix: &str) -> Setup {
    let config = loading
        .config("")
        .replace("/data\"", &format!("/{prefix}\""));
    Loader::with(&config).envs(loading.s3.env())
}

/// Keys without their first part, and bytes.
fn relative(loading: &Loading, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let objects = loading.s3.objects(&loading.bucket, &format!("{prefix}/"));
    let part = |key: String| key[prefix.len()..].to_owned();
    objects
        .into_iter()
        .map(|(key, bytes)| (part(key), bytes.to_vec()))
        .collect()
}

/// What the rows of windows count, all together.
fn counted(objects: &[(String, Vec<u8>)]) -> u64 {
    let windows = objects
        .iter()
        .filter(|(key, _)| key.starts_with("/windows/"));
    let counts = windows.flat_map(|(key, bytes)| {
        let text = headwater_tests::oracle::decompress(key, bytes);
        let rows = String::from_utf8(text).expect("NDJSON");
        let count = |row: &str| {
            let row: Value = serde_json::from_str(row).expect("a row");
            row["count"].as_u64().expect("a count")
        };
        rows.lines().map(count).collect::<Vec<_>>()
    });
    counts.sum()
}

fn data_keys(all: &[(String, Vec<u8>)]) -> Vec<&String> {
    let keys = all.iter().map(|(key, _)| key);
    keys.filter(|key| !key.contains("_headwater")).collect()
}

const WINDOWS: &str = "[[transform]]\nstep = \"aggregate\"\nwindow = \"3s\"\nby = [\"device\"]\n\
    lateness = \"1s\"\nkeep_records = true\npath = \"windows\"\ncompute = [{ function = \"count\" }]\n";

/// Runs `replay` from offset 10 into a prefix; it dies at `point`.
fn replay(loading: &Loading, to: &str, until: &str, point: Option<&str>) -> Finished {
    let mut loader = loading.loader(WINDOWS);
    if let Some(point) = point {
        loader = loader.crash_at(point);
    }
    let to = format!("s3://{}/{to}", loading.bucket);
    let more = ["--from", "10", "--until", until, "--batch-bytes", "1KiB"];
    loader.run("replay", &[&more[..], &["--to", &to]].concat())
}

/// Two partitions of 120 lines each, all loaded. They end with what is no record: the marker of a
/// transaction.
fn loaded<'a>(kafka: &'a Kafka, s3: &'a S3) -> Loading<'a> {
    let loading = Loading::new(kafka, s3, "replay", 2);
    let mut devices = [0, 1].map(|n| Device::new(&format!("pi-{n}"), "/var/log/app", n + 1));
    for (partition, device) in (0..).zip(&mut devices) {
        kafka.produce(&loading.topic, lines(device, partition, 120));
        let aborted = [foreign(partition, "{\"message\":\"aborted\"}")];
        kafka.produce_aborted(&loading.topic, aborted);
    }
    load_all(&loading, "", 240);
    loading
}

/// Without the moment at which each was begun, which its manifest says.
fn apart_from_begun(all: &[(String, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    let mut manifests = 0;
    let all = all.iter().map(|(key, bytes)| {
        let mut bytes = bytes.clone();
        let manifest: Option<Value> = serde_json::from_slice(&bytes).ok();
        if let Some(mut manifest) = manifest.filter(|value| value["begun_ms"].is_u64()) {
            manifests += 1;
            manifest["begun_ms"] = 0.into();
            bytes = manifest.to_string().into_bytes();
        }
        (key.clone(), bytes)
    });
    let all = all.collect();
    assert_eq!(manifests, 1);
    all
}

#[test]
fn a_replay_killed_at_every_point_writes_what_an_undisturbed_one_writes() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = loaded(kafka, &s3);
    let (group, live) = (
        kafka.committed(loading.group(), &loading.topic),
        relative(&loading, "data"),
    );
    let calm = replay(&loading, "calm", "latest", None);
    assert_eq!(calm.code, Some(0), "{}", calm.stderr);
    let told = &calm.stdout;
    assert!(told.contains("records: 110, rows: "), "{told}");
    for point in [
        "object-stored",
        "object-stored:4",
        "batch-stored:2",
        "snapshot-stored",
        "done-committed:2",
        "snapshot-stored:3",
        "done-committed",
    ] {
        let killed = replay(&loading, "killed", "latest", Some(point));
        assert_eq!(killed.code, None, "{point}: {}", killed.stdout);
    }
    let verify = looking_at(&loading, "killed").run("verify", &[]);
    assert_eq!(verify.code, Some(1), "it is not finished");
    let ended = replay(&loading, "killed", "latest", None);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let again = replay(&loading, "killed", "latest", None).stdout;
    assert!(again.contains("records: 0, rows: 0"), "{again}");
    let (calm, killed) = (relative(&loading, "calm"), relative(&loading, "killed"));
    assert!(data_keys(&calm).len() > 8, "{:?}", data_keys(&calm));
    let names = |all: &[(String, Vec<u8>)]| all.iter().map(|(key, _)| key.clone()).collect();
    let (wanted, found): (Vec<String>, Vec<String>) = (names(&calm), names(&killed));
    assert_eq!(wanted, found);
    assert!(
        apart_from_begun(&calm) == apart_from_begun(&killed),
        "the same names hold something else"
    );
    let lines = [0, 1].map(|p| (10..120).map(move |i| format!("{p}/{i}")));
    let mut wanted: Vec<String> = lines.into_iter().flatten().collect();
    wanted.sort();
    assert_eq!(messages(&loading, "killed/"), wanted);
    assert_eq!(
        counted(&killed),
        220,
        "each record is in one row of one window"
    );
    for proof in ["verify", "audit"] {
        let proven = looking_at(&loading, "killed").run(proof, &[]);
        assert_eq!(proven.code, Some(0), "{}{}", proven.stdout, proven.stderr);
    }
    // The live side is as it was.
    let committed = kafka.committed(loading.group(), &loading.topic);
    assert_eq!(format!("{group:?}"), format!("{committed:?}"));
    assert!(live == relative(&loading, "data"));
    loading.assert_proven();
}

#[test]
fn a_place_is_of_one_stretch_and_never_in_the_output() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = loaded(kafka, &s3);
    assert_eq!(replay(&loading, "again", "60", None).code, Some(0));
    for (to, until, why) in [
        ("again", "50", "begun with another --until"),
        ("data/inside", "60", "lie in one another"),
        ("other", "700", "700 is none of them"),
    ] {
        let refused = replay(&loading, to, until, None);
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
}

#[test]
fn a_backfill_ends_where_the_output_begins() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "backfill", 1);
    let mut device = Device::new("pi-7", "/var/log/app", 1);
    for round in 1..=2 {
        kafka.produce(&loading.topic, lines(&mut device, 0, 20));
        load_all(&loading, "", 20 * round);
    }
    // As if the output had begun at 20.
    let keys = s3.keys(&loading.bucket, "data/");
    let first = keys
        .iter()
        .find(|key| key.contains("+00000000000000000000-"));
    s3.lose(&loading.bucket, first.expect("an object from 0 on"));
    let to = format!("s3://{}/before", loading.bucket);
    let done = loading.loader("").run("backfill", &["--to", &to]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("[0, 20) is stored"), "{}", done.stdout);
    assert_eq!(messages(&loading, "before/").len(), 20);
    let verify = looking_at(&loading, "before").run("verify", &["--json"]);
    assert_eq!(verify.code, Some(0), "{}{}", verify.stdout, verify.stderr);
    // And where it lacks an object, it says so.
    let keys = s3.keys(&loading.bucket, "before/source");
    s3.lose(&loading.bucket, &keys[0]);
    let verify = looking_at(&loading, "before").run("verify", &[]);
    assert_eq!(verify.code, Some(1));
    assert!(verify.stdout.contains("hole: [0, 20)"), "{}", verify.stdout);
}
