//! Promise 4 has a metric for each bound, and promise 5 a word for "away, and all is well": a running
//! agent tells how it goes, on a socket, while the broker is there and while it is not.

use std::path::Path;
use std::time::Duration;

use headwater_tests::kafka::Kafka;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::wait_until;
use headwater_tests::process::Process;
use headwater_tests::s3::S3;
use headwater_tests::writer::Writer;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

fn status(agent: &Process) -> Value {
    let told = agent.ask("status", &["--json"]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    serde_json::from_str(&told.stdout).expect("status --json is JSON")
}

#[test]
fn status_tap_and_metrics_with_and_without_a_broker() {
    let (kafka, s3) = (Kafka::start(1), S3::start());
    let loading = Loading::new(&kafka, &s3, "outside", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5);
    writer.write(500);
    let paths = format!("{}/app.log", folder.path().display());
    let agent = loading
        .agent(&paths, "[spool]\nafter = \"300ms\"\n")
        .start();
    wait_until("all is delivered", PATIENCE, || {
        let told = agent.ask("status", &["--json"]);
        let told: Value = serde_json::from_str(&told.stdout).unwrap_or_default();
        told["counters"]["records"] == 500
            && told["counters"]["delivered"] == told["counters"]["batches"]
            && told["spool"]["batches"] == 0
    });
    let online = status(&agent);
    assert_eq!(online["broker"]["online"], true);
    assert!(
        online["process"]["rss_bytes"].as_u64() > Some(1 << 20),
        "{online}"
    );

    let tap = agent.ask_in_background("tap", &["--source", "app", "--count", "10"]);
    wait_until("a watcher sees ten records", PATIENCE, || {
        writer.write(5);
        !tap.is_running()
    });
    let seen = tap.stdout();
    assert_eq!(seen.lines().count(), 10, "{seen}");
    for line in seen.lines() {
        let record: Value = serde_json::from_str(line).expect("a line of JSON");
        assert!(record["value"]["message"].is_string(), "{line}");
    }

    kafka.kill();
    writer.write(1000);
    wait_until("the outage shows", PATIENCE, || {
        let told = status(&agent);
        told["broker"]["online"] == false && told["spool"]["batches"].as_u64() > Some(0)
    });
    let table = agent.ask("status", &[]);
    assert!(
        table.stdout.contains("broker      OFFLINE"),
        "{}",
        table.stdout
    );
    kafka.restart();
    wait_until("it shows that the outage is over", PATIENCE, || {
        let told = status(&agent);
        told["broker"]["online"] == true && told["spool"]["batches"] == 0
    });
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    let gone = agent.ask("status", &[]);
    assert_eq!(gone.code, Some(1));
    assert!(
        gone.stderr.contains("no agent answers at unix:"),
        "{}",
        gone.stderr
    );
    assert_explained(&agent, folder.path(), &mut writer);
}

/// `check --explain` says what the database knows of a file, without an agent.
#[track_caller]
fn assert_explained(agent: &Process, folder: &Path, writer: &mut Writer) {
    let explained = |name: &str| {
        let path = folder.join(name).display().to_string();
        agent.ask("check", &["--explain", &path]).stdout
    };
    let bytes = std::fs::metadata(folder.join("app.log")).expect("the file is there");
    let settled = format!("settled to offset {0} of {0}, 0 bytes behind", bytes.len());
    let said = explained("app.log");
    assert!(
        said.contains(&settled) && said.contains("its marker is found"),
        "{said}"
    );
    writer.rotate();
    let rotated = std::fs::read_dir(folder)
        .expect("a folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|name| name != "app.log");
    let said = explained(&rotated.expect("it is rotated"));
    assert!(
        said.contains("a rotated file of") && said.contains("none of its globs matches"),
        "{said}"
    );
}
