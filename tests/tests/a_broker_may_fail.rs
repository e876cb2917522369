//! Three brokers, three copies, two of them written before a record counts (`acks=all`): any one
//! broker may die or be restarted in the middle, and nothing is lost or stored twice.

use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::Loading;
use headwater_tests::oracle::{Report, wait_until, wait_until_complete};
use headwater_tests::outside::unique;
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
    // One file grows all the time, also while leaders move; the other says when they have moved. The
    // agent runs by now, and has ten seconds to find each file before it gets another name.
    let steady = Writer::new(log("steady"), "steady", 1)
        .rate(200)
        .in_background(2000);
    pass("all is stored with a second file");
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

/// A record for each partition, by name.
fn give(loading: &Loading<'_>, partitions: std::ops::Range<i32>, name: &str) -> Vec<String> {
    let line = |partition: i32| format!("{name} of {partition}");
    let records = partitions.clone().map(|partition| Record {
        partition,
        value: format!("{{\"message\":\"{}\"}}", line(partition)).into_bytes(),
        ..Record::default()
    });
    loading.kafka.produce(&loading.topic, records);
    partitions.map(line).collect()
}

/// A topic without copies, and its partitions' brokers die in turns: whoever starts meanwhile loads what
/// has a leader, committed before or not, and the rest when it is back.
#[test]
fn a_partition_without_a_leader_holds_up_no_other() {
    let (kafka, s3) = (Kafka::start(3), S3::start());
    let mut loading = Loading::new(&kafka, &s3, "leaderless", 1);
    loading.topic = unique("leaderless-alone");
    kafka.create_topic_without_copies(&loading.topic, 6);
    let mut written = Vec::new();
    let stored = |loading: &Loading<'_>, what: &str, count: usize| {
        wait_until(what, PATIENCE, || loading.stored().len() >= count);
    };
    let mut loader = None;
    for round in ["never committed", "committed"] {
        written.extend(give(&loading, 0..6, round));
        let down = kafka.leader(&loading.topic, 0);
        let away = (0..6)
            .filter(|p| kafka.leader(&loading.topic, *p) == down)
            .count();
        kafka.stop_node(down);
        let started = loading.start();
        stored(
            &loading,
            "what has a leader is stored",
            written.len() - away,
        );
        kafka.restart();
        stored(&loading, "all is stored", written.len());
        if round == "never committed" {
            assert_eq!(started.sigterm_and_wait(PATIENCE).code(), Some(0));
        } else {
            loader = Some(started);
        }
    }
    assert_eq!(
        loader
            .expect("of the last round")
            .sigterm_and_wait(PATIENCE)
            .code(),
        Some(0)
    );
    Report::compare(written, &loading.stored()).assert_exact();
    let verified = loading.verify();
    assert_eq!(
        verified.code,
        Some(0),
        "{}{}",
        verified.stdout,
        verified.stderr
    );
}

/// The group's offsets go with the topic. Under offsets that are stored already lie other records now: they
/// are not taken for those, and it is said what to do.
#[test]
fn a_topic_that_was_made_anew_is_not_taken_for_the_old_one() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "anew", 1);
    let old: Vec<String> = (0..5)
        .flat_map(|n| give(&loading, 0..1, &n.to_string()))
        .collect();
    let stored = |count: usize| {
        wait_until("all is stored", PATIENCE, || {
            loading.stored().len() >= count
        });
    };
    let loader = loading.start();
    stored(old.len());
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    kafka.remake_topic(&loading.topic, 1);
    give(&loading, 0..1, "new");
    let loader = loading.start();
    wait_until("it says so", PATIENCE, || {
        let words = "the output holds all below offset 5, and the topic ends at 1";
        loader.stderr().contains(words)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    Report::compare(old, &loading.stored()).assert_exact();
}
