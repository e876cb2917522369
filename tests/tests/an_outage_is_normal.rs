//! Promise 5: an outage of any length is normal, also with a restart of the agent in the middle.

use std::time::Duration;

use headwater_tests::kafka::Kafka;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::{Report, wait_until, wait_until_complete};
use headwater_tests::process::Agent;
use headwater_tests::s3::S3;
use headwater_tests::writer::Writer;

const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_broker_down_beyond_every_time_out_with_the_agent_restarted() {
    let kafka = Kafka::start(1);
    let s3 = S3::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5);
    let loading = Loading::new(&kafka, &s3, "outage", 2);
    let bucket = &loading.bucket;
    // librdkafka's waits are seconds here: the outage is longer than each of them several times.
    let more = "[spool]\nafter = \"500ms\"\n[checkpoint]\nevery = \"1s\"\n";
    let setup = loading.agent(&format!("{}/app.log", folder.path().display()), more);
    let loader_setup = loading.loader("[flush]\nage = \"500ms\"\n");
    let mut agent = setup.start();
    let loader = loader_setup.start();
    writer.write(2000);
    wait_until_complete(&[&writer], &s3, bucket, "data/", PATIENCE).assert_exact();
    kafka.kill();
    writer.write(5000);
    std::thread::sleep(Duration::from_secs(8));
    agent.kill9();
    writer.write(3000);
    writer.rotate();
    agent = agent.restart();
    writer.write(3000);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(
        agent.sigterm_and_wait(PATIENCE).code(),
        Some(0),
        "it stops in order while offline"
    );
    agent = agent.restart();
    writer.write(100);
    std::thread::sleep(Duration::from_secs(5));
    kafka.restart();
    wait_until_complete(&[&writer], &s3, bucket, "data/", PATIENCE).assert_exact();
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    Report::of([&writer], &s3, bucket, "data/").assert_exact();
    loading.assert_proven();
}

#[test]
fn a_broker_that_does_not_resolve_is_waited_for() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "resolve", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5);
    writer.write(3000);
    let paths = format!("{}/app.log", folder.path().display());
    let config =
        |brokers: &str| loading.agent_config(brokers, &paths, "[spool]\nafter = \"300ms\"\n");
    let agent = Agent::start(&config("no-such-host.invalid:9092"));
    std::thread::sleep(Duration::from_secs(4));
    assert!(agent.is_running(), "it keeps buffering");
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    // The name is put right: what was buffered goes out, nothing was lost.
    std::fs::remove_file(folder.path().join("app.log")).expect("the file is there");
    agent.set_config(&config(kafka.bootstrap()));
    let agent = agent.restart();
    let loader = loading.start();
    wait_until_complete(&[&writer], &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    wait_until("the ledger is complete", PATIENCE, || {
        loading.audit().code == Some(0)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
}
