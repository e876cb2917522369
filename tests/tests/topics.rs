//! The topic on a real cluster: `headwater-loader topics` makes, describes and judges it, and `run` refuses one that
//! is compacted.

use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::{CLASSIC, KIP_848, Loading};
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::{free_address, unique};
use headwater_tests::process::{Finished, Loader};
use headwater_tests::s3::S3;
use serde_json::Value;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn topics(kafka: &Kafka, verb: &str, topic: &str, section: &str) -> Finished {
    topics_of(&kafka.brokers(), verb, topic, section)
}

fn topics_of(brokers: &str, verb: &str, topic: &str, section: &str) -> Finished {
    let config = format!(
        r#"
        [kafka]
        brokers = {brokers}
        topic = "{topic}"
        [group]
        id = "loader"
        [output]
        url = "file://{{dir}}/out"
        [topic]
        {section}"#
    );
    Loader::with(&config).run("topics", &[verb, "--json"])
}

fn report(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", finished.stdout, finished.stderr))
}

fn about(report: &Value) -> Vec<(&str, &str)> {
    let all = report["findings"].as_array().expect("findings");
    all.iter()
        .map(|one| {
            (
                one["severity"].as_str().expect("a severity"),
                one["about"].as_str().expect("what it is about"),
            )
        })
        .collect()
}

#[test]
fn a_topic_on_three_brokers_is_made_as_planned_and_found_sound() {
    let kafka = Kafka::start(3);
    let made = topics(&kafka, "create", "logs", "retention = \"10days\"");
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let made = report(&made);
    assert_eq!(about(&made), []);
    assert_eq!(made["sound"], true);
    let configs = &made["topic"]["configs"];
    assert_eq!(configs["retention.ms"], "864000000");
    assert_eq!(configs["min.insync.replicas"], "2");
    assert_eq!(configs["message.timestamp.type"], "LogAppendTime");
    let partitions = made["topic"]["partitions"].as_array().expect("partitions");
    assert_eq!(partitions.len(), 3);
    assert!(
        partitions
            .iter()
            .all(|p| p["replicas"].as_array().is_some_and(|r| r.len() == 3))
    );

    let again = topics(&kafka, "create", "logs", "");
    assert_eq!(again.code, Some(1));
    assert!(
        again
            .stderr
            .contains("is there already, nothing was changed"),
        "{}",
        again.stderr
    );
    let check = topics(&kafka, "check", "logs", "");
    assert_eq!((check.code, about(&report(&check))), (Some(0), Vec::new()));

    // Added under keyed data, and a broker away.
    kafka.grow_topic("logs", 4);
    kafka.kill_node(2);
    wait_until("the loss is seen", PATIENCE, || {
        let check = topics(&kafka, "check", "logs", "");
        check.code == Some(0)
            && about(&report(&check)) == [("risk", "partitions"), ("risk", "in-sync replicas")]
    });
}

#[test]
fn what_costs_data_is_found_and_the_exit_status_says_so() {
    let kafka = Kafka::shared();
    let topic = unique("logs");
    let missing = topics(kafka, "check", &topic, "");
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.stderr.contains("is not there"),
        "{}",
        missing.stderr
    );
    let nobody = free_address();
    let away = topics_of(&format!("[\"{nobody}\"]"), "check", &topic, "");
    assert_eq!(away.code, Some(2), "it could not look: {}", away.stderr);
    let wrong = topics(kafka, "check", &topic, "retension = \"1h\"");
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    kafka.create_topic(
        &topic,
        3,
        &[
            ("cleanup.policy", "compact"),
            ("retention.ms", "3600000"),
            ("unclean.leader.election.enable", "true"),
        ],
    );
    let check = topics(kafka, "check", &topic, "");
    assert_eq!(check.code, Some(1), "{}", check.stderr);
    let check = report(&check);
    let wrong: Vec<&str> = about(&check)
        .into_iter()
        .filter(|(severity, _)| *severity == "wrong")
        .map(|(_, about)| about)
        .collect();
    assert_eq!(
        wrong,
        [
            "replication factor",
            "unclean.leader.election.enable",
            "retention.ms",
            "cleanup.policy"
        ]
    );
    assert!(about(&check).contains(&("risk", "message.timestamp.type")));
    let described = topics(kafka, "describe", &topic, "");
    assert_eq!(described.code, Some(0));
    if !kafka.is_outside() {
        let refused = topics(kafka, "create", &unique("logs"), "");
        assert_eq!(refused.code, Some(1));
        assert!(
            refused.stderr.contains("the cluster has 1 brokers"),
            "{}",
            refused.stderr
        );
    }
}

/// Before it stores anything, since what it began could not be made again.
#[test]
fn a_compacted_topic_is_not_loaded() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    for (group, policy) in [(CLASSIC, "compact"), (KIP_848, "delete,compact")] {
        let settings = [("cleanup.policy", policy)];
        let loading = Loading::with_topic(kafka, &s3, "compacted", 2, &settings).of(group);
        let records = (0..2).map(|partition| Record {
            partition,
            key: Some(b"device".to_vec()),
            value: br#"{"message":"a line"}"#.to_vec(),
            ..Record::default()
        });
        kafka.produce(&loading.topic, records);
        let loader = loading.loader("[flush]\nage = \"100ms\"\n").start();
        assert_eq!(loader.wait(PATIENCE).code(), Some(1), "{}", loader.stderr());
        let said = loader.stderr();
        for part in [
            format!(
                "topic {} is compacted (cleanup.policy is {policy})",
                loading.topic
            ),
            format!(
                "--topic {} --add-config cleanup.policy=delete",
                loading.topic
            ),
        ] {
            assert!(said.contains(&part), "{said}");
        }
        assert_eq!(loading.stored(), []);
        let committed = kafka.committed(loading.group(), &loading.topic);
        assert!(
            committed.iter().all(|one| one.offset.is_none()),
            "{committed:?}"
        );
    }
}
