//! A device that was suspended: what it missed comes once and not in a burst, what it waited to send goes, and
//! nothing is lost or stored twice for it.

use std::fs;
use std::time::Duration;

use headwater_tests::clock;
use headwater_tests::device_clock::DeviceClock;
use headwater_tests::kafka::Kafka;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::{decompress, wait_until, wait_until_complete};
use headwater_tests::process::Process;
use headwater_tests::s3::S3;
use headwater_tests::writer::Writer;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: i64 = 3600;

fn status(agent: &Process) -> Value {
    let told = agent.ask("status", &["--json"]);
    serde_json::from_str(&told.stdout).unwrap_or_default()
}

fn samples(agent: &Process) -> u64 {
    status(agent)["samples"]["taken"].as_u64().unwrap_or(0)
}

/// Unix milliseconds of the rows of a source, in order.
fn times(s3: &S3, bucket: &str, source: &str) -> Vec<i64> {
    let mut times = Vec::new();
    for (key, bytes) in s3.objects(bucket, &format!("data/source={source}/")) {
        let text = String::from_utf8(decompress(&key, &bytes)).expect("NDJSON is text");
        for row in text.lines() {
            let row: Value = serde_json::from_str(row).expect("a row is JSON");
            let time = row["time"].as_str().and_then(|time| time.parse().ok());
            let time: jiff::Timestamp = time.unwrap_or_else(|| panic!("{row} has no time"));
            times.push(time.as_millisecond());
        }
    }
    times.sort_unstable();
    times
}

#[test]
fn what_a_sleep_missed_is_one_sample_and_a_session_and_what_was_read_goes_then() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "sleep", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sensor = folder.path().join("temperature");
    fs::write(&sensor, "21.5\n").expect("a file can be written");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5);
    let paths = format!("{}/app.log", folder.path().display());
    let sources = format!(
        "[spool]\nafter = \"300ms\"\n[[sensor]]\nid = \"temperature\"\nkind = \"number\"\n\
         paths = [\"{}\"]\ninterval = \"1s\"\n",
        sensor.display()
    );
    let more = format!("[uplink]\nsession = \"cycle\"\nevery = \"20h\"\n{sources}");
    let device_clock = DeviceClock::right();
    // Kafka refuses what is dated later than in an hour.
    device_clock.set_off(-24 * HOUR);
    let agent = loading
        .agent(&paths, &more)
        .envs(device_clock.env())
        .start();
    let loader = loading.start();
    writer.write(500);
    wait_until("lines and some samples are in the spool", PATIENCE, || {
        let told = status(&agent);
        told["counters"]["records"].as_u64() >= Some(503) && told["window"]["bytes"] == 0
    });
    assert_eq!(kafka.depth(&loading.topic), 0, "it waits for its session");

    let asleep = clock::now();
    let before = samples(&agent);
    device_clock.suspend(21 * HOUR);
    wait_until(
        "the session that was slept through begins",
        PATIENCE,
        || kafka.depth(&loading.topic) >= 500,
    );
    wait_until("readings go on", PATIENCE, || samples(&agent) >= before + 4);
    let (taken, awake) = (samples(&agent) - before, asleep.elapsed().as_secs());
    assert!(taken <= awake + 2, "{taken} samples in {awake} s");

    // What came since waits for the next session; without a cycle it goes.
    writer.write(20);
    let stopped = agent.stopped();
    stopped.set_config(&loading.agent_config(kafka.bootstrap(), &paths, &sources));
    let agent = stopped.start();
    wait_until_complete(
        &[&writer],
        &s3,
        &loading.bucket,
        "data/source=app/",
        PATIENCE,
    )
    .assert_exact();
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    wait_until("the ledger is complete", PATIENCE, || {
        loading.audit().code == Some(0)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.assert_proven();

    let times = times(&s3, &loading.bucket, "temperature");
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    let gaps: Vec<i64> = gaps.filter(|gap| *gap > 60_000).collect();
    let hours: Vec<i64> = gaps.iter().map(|gap| (gap + 30_000) / 3_600_000).collect();
    assert_eq!(hours, [21], "{gaps:?} ms between two samples");
}
