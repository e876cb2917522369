//! A device without a battery-backed clock boots in 1970: it reads, spools, and sends when the clock
//! is set, and every record has its time then. And a clock that was wrong is set back.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use headwater_record::value::rfc3339;
use headwater_tests::clock;
use headwater_tests::device_clock::DeviceClock;
use headwater_tests::kafka::Kafka;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::{decompress, wait_until, wait_until_complete};
use headwater_tests::process::Process;
use headwater_tests::s3::S3;
use headwater_tests::writer::Writer;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);

fn wait_until_spooled(agent: &Process, records: usize) {
    wait_until("all of it is in the spool", PATIENCE, || {
        let told = agent.ask("status", &["--json"]);
        let told: Value = serde_json::from_str(&told.stdout).unwrap_or_default();
        told["clock_unset"] == true
            && told["counters"]["records"] == records
            && told["counters"]["spooled"] == told["counters"]["batches"]
    });
}

fn now() -> String {
    let since = clock::wall().duration_since(UNIX_EPOCH);
    let ms = since.expect("this machine's clock is set").as_millis();
    let time = rfc3339(u64::try_from(ms).expect("not in our time"));
    String::from_utf8(time.to_vec()).expect("a date is text")
}

#[test]
fn what_was_read_before_has_its_time_afterwards() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "clock", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5);
    let device_clock = DeviceClock::unset();
    let paths = format!("{}/app.log", folder.path().display());
    let setup = loading.agent(&paths, "[spool]\nafter = \"300ms\"\n");
    writer.write(500);
    let agent = setup.envs(device_clock.env()).start();
    wait_until_spooled(&agent, 500);
    // Not at once, and not a while later.
    for _ in 0..20 {
        assert_eq!(kafka.depth(&loading.topic), 0, "it is sent");
        std::thread::sleep(Duration::from_millis(100));
    }

    // A reboot, as far as the agent can tell: the file that names the boot names another.
    let stopped = agent.stopped();
    fs::write(stopped.dir().join("state/boot"), "another-boot\n1 1 1\n").expect("it is there");
    let began = now();
    writer.write(200);
    let agent = stopped.start();
    wait_until_spooled(&agent, 200);

    // And a crash of the agent alone: the boot goes on.
    let agent = agent.restart();
    let loader = loading.start();
    device_clock.set();
    wait_until_complete(&[&writer], &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    let ended = now();
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    wait_until("the ledger is complete", PATIENCE, || {
        loading.audit().code == Some(0)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.assert_proven();

    let (mut placed, mut estimated) = (0, 0);
    for (key, bytes) in s3.objects(&loading.bucket, "data/source=app/") {
        let text = String::from_utf8(decompress(&key, &bytes)).expect("NDJSON is text");
        for row in text.lines() {
            let row: Value = serde_json::from_str(row).expect("a row is JSON");
            let time = row["time"]
                .as_str()
                .unwrap_or_else(|| panic!("{row} has no time"));
            if row["time_estimated"] == true {
                assert!(time < ended.as_str(), "{row}");
                estimated += 1;
            } else {
                assert!(
                    (began.as_str()..=ended.as_str()).contains(&time),
                    "{row}: {began} to {ended}"
                );
                placed += 1;
            }
        }
    }
    assert_eq!((placed, estimated), (200, 500));
}

/// What librdkafka waits for ends by a clock that nobody sets (`msk/include/pthread.h`): what follows a step by
/// hours arrives as soon as ever.
#[test]
fn a_clock_that_is_set_back_holds_nothing_up() {
    let (kafka, s3) = (Kafka::start(1), S3::start());
    let loading = Loading::new(&kafka, &s3, "back", 2);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5);
    let (device_clock, cloud_clock) = (DeviceClock::right(), DeviceClock::right());
    let set_back = |hours: i64| {
        device_clock.set_off(-3600 * hours);
        cloud_clock.set_off(-3600 * hours);
    };
    let paths = format!("{}/app.log", folder.path().display());
    let agent = loading.agent(&paths, "").envs(device_clock.env()).start();
    let loader = loading.loader("[flush]\nage = \"300ms\"\n");
    let loader = loader.envs(cloud_clock.env()).start();
    let mut complete = |lines: u64| {
        writer.write(lines);
        wait_until_complete(&[&writer], &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    };
    complete(200);
    set_back(2);
    complete(200);
    // While they wait to connect anew.
    kafka.while_down(|| {
        std::thread::sleep(Duration::from_secs(1));
        set_back(4);
        std::thread::sleep(Duration::from_millis(200));
    });
    complete(200);
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    wait_until("the ledger is complete", PATIENCE, || {
        loading.audit().code == Some(0)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.assert_proven();
}
