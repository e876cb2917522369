//! A table of what may be wrong with a topic, one thing at a time.

use super::*;

/// As `topics create` makes it, on three brokers.
fn sound() -> TopicState {
    let partition = |id| PartitionState {
        id,
        leader: Some(1),
        replicas: vec![1, 2, 3],
        in_sync: vec![3, 1, 2],
    };
    let mut configs: BTreeMap<String, String> = Topic::default()
        .configs()
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    // What a broker adds.
    for (key, value) in [
        ("max.message.bytes", "1048588"),
        ("message.timestamp.after.max.ms", "3600000"),
        ("message.timestamp.before.max.ms", "9223372036854775807"),
        ("retention.bytes", "-1"),
        ("unclean.leader.election.enable", "false"),
    ] {
        configs.insert(key.to_owned(), value.to_owned());
    }
    TopicState {
        name: "logs".to_owned(),
        brokers: 3,
        partitions: (0..3).map(partition).collect(),
        configs,
    }
}

/// What is found when one thing is changed.
fn found(change: impl FnOnce(&mut Topic, &mut TopicState)) -> Vec<(Severity, &'static str)> {
    let (mut plan, mut topic) = (Topic::default(), sound());
    change(&mut plan, &mut topic);
    let findings = check(&plan, &topic);
    for finding in &findings {
        assert!(!finding.why.is_empty() && !finding.change.is_empty());
    }
    findings
        .iter()
        .map(|finding| (finding.severity, finding.about))
        .collect()
}

fn with(config: &str, value: &str) -> Vec<(Severity, &'static str)> {
    found(|_, topic| {
        topic.configs.insert(config.to_owned(), value.to_owned());
    })
}

#[test]
fn what_create_makes_is_sound() {
    assert_eq!(Topic::default().problems(), Vec::<String>::new());
    assert_eq!(found(|_, _| {}), []);
}

#[test]
fn each_setting_that_costs_data_is_found() {
    use Severity::{Risk, Wrong};
    for (config, value, severity) in [
        ("cleanup.policy", "compact", Wrong),
        ("cleanup.policy", "compact,delete", Wrong),
        ("retention.ms", "86400000", Wrong),
        ("retention.ms", "0", Wrong),
        ("retention.bytes", "1073741824", Risk),
        ("min.insync.replicas", "1", Wrong),
        ("min.insync.replicas", "3", Risk),
        ("unclean.leader.election.enable", "true", Wrong),
        ("message.timestamp.type", "CreateTime", Risk),
        ("max.message.bytes", "1000000", Wrong),
        ("compression.type", "gzip", Risk),
    ] {
        assert_eq!(
            with(config, value),
            [(severity, config)],
            "{config}={value}"
        );
    }
    for (config, value) in [
        ("retention.ms", "-1"),
        ("retention.ms", "259200000"),
        ("max.message.bytes", "8388608"),
    ] {
        assert_eq!(with(config, value), [], "{config}={value}");
    }
}

#[test]
fn partitions_and_copies_are_counted() {
    use Severity::{Risk, Wrong};
    let partitions = |n: i32| found(|plan, _| plan.partitions = n);
    assert_eq!(partitions(6), [(Risk, "partitions")]);
    assert_eq!(partitions(2), [(Risk, "partitions")]);
    let copies = |n: usize| {
        found(|_, topic| {
            topic.partitions[1].replicas.truncate(n);
            topic.partitions[1].in_sync = topic.partitions[1].replicas.clone();
        })
    };
    assert_eq!(copies(1), [(Wrong, "replication factor")]);
    // Two copies, two of which must be written: nothing may be away.
    assert_eq!(
        copies(2),
        [(Risk, "replication factor"), (Risk, "min.insync.replicas")]
    );
    let away = found(|_, topic| topic.partitions[2].leader = None);
    assert_eq!(away, [(Wrong, "leader")]);
    let behind = found(|_, topic| topic.partitions[2].in_sync.truncate(2));
    assert_eq!(behind, [(Risk, "in-sync replicas")]);
}

#[test]
fn the_worst_comes_first_and_says_what_to_do() {
    let mut topic = sound();
    topic.configs.insert("retention.bytes".into(), "1".into());
    topic
        .configs
        .insert("retention.ms".into(), "3600000".into());
    let findings = check(&Topic::default(), &topic);
    assert_eq!(findings[0].about, "retention.ms");
    assert_eq!(findings[0].found, "3600000 (1h)");
    assert_eq!(
        findings[0].change,
        "kafka-configs.sh --alter --topic logs --add-config retention.ms=604800000"
    );
    assert_eq!(findings[1].severity, Severity::Risk);
}

#[test]
fn a_clock_that_counts_as_planned_is_told_of_refusals_only() {
    let plan = |after_ms: &str| {
        found(|plan, topic| {
            plan.timestamps = TimestampType::CreateTime;
            let mut set = |key: &str, value: &str| topic.configs.insert(key.into(), value.into());
            set("message.timestamp.type", "CreateTime");
            set("message.timestamp.after.max.ms", after_ms);
        })
    };
    assert_eq!(plan("9223372036854775807"), []);
    assert_eq!(
        plan("3600000"),
        [(Severity::Risk, "message.timestamp.after.max.ms")]
    );
}

#[test]
fn what_may_not_be_read_is_said() {
    let found = found(|_, topic| topic.configs.clear());
    assert_eq!(found, [(Severity::Risk, "configuration")]);
}

#[test]
fn the_section_is_checked_by_itself() {
    let problems = |text: &str| {
        crate::config_file::parse::<Topic>(text)
            .expect("it is well formed")
            .problems()
            .len()
    };
    assert_eq!(problems(""), 0);
    assert_eq!(problems("partitions = 0\nreplication = 16"), 2);
    assert_eq!(problems("replication = 2\nmin_in_sync = 3"), 1);
    assert_eq!(problems("retention = '1day'\noutage = '2days'"), 1);
    assert_eq!(problems("compression = 'brotli'"), 1);
    assert!(crate::config_file::parse::<Topic>("timestamps = 'Never'").is_err());
}
