//! Three brokers, three copies, two of them written before a record counts (`acks=all`): any one
//! broker may die or be restarted in the middle, and nothing is lost or stored twice.

use headwater_tests::kafka::Kafka;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::{wait_until, wait_until_complete};
use headwater_tests::s3::S3;
use headwater_tests::writer::Writer;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn one_broker_killed_and_another_restarted_in_the_middle() {
    let (kafka, s3) = (Kafka::start(3), S3::start());
    let loading = Loading::new(&kafka, &s3, "failover", 3);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = |name: &str| folder.path().join(format!("{name}.log"));
    // One file grows all the time, also while leaders move; the other says when they have moved.
    let steady = Writer::new(log("steady"), "steady", 1)
        .rate(200)
        .in_background(500);
    let mut marks = Writer::new(log("marks"), "marks", 2);
    let paths = format!("{}/*.log", folder.path().display());
    let more = "[spool]\nafter = \"500ms\"\n";
    let agent = loading.agent(&paths, more).start();
    let loader = loading.start();
    let mut pass = |what: &str| {
        marks.write(300);
        let wanted: Vec<String> = marks.lines().collect();
        wait_until(what, PATIENCE, || {
            let stored = loading.stored();
            let found = stored
                .iter()
                .filter(|line| line.message.starts_with("marks:"));
            found.count() >= wanted.len()
        });
    };
    pass("all is stored with three brokers");
    kafka.kill_node(0);
    pass("all is stored while one of them is dead");
    kafka.restart();
    kafka.stop_node(1);
    pass("all is stored while another is stopped");
    kafka.restart();
    pass("all is stored with three brokers again");
    let steady = steady.stop();
    let all = [&steady, &marks];
    wait_until_complete(&all, &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    wait_until_complete(&all, &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    loading.assert_proven();
}
