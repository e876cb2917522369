//! What is lost beside the data: the group's offset, the agent's database, the partition that a key stands for. Nothing
//! of the data is lost by it; what is stored twice is what the documents say, and `audit` shows it.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use headwater_tests::device::Device;
use headwater_tests::kafka::Kafka;
use headwater_tests::loading::{CLASSIC, KIP_848, Loading};
use headwater_tests::oracle::wait_until;
use headwater_tests::process::{Agent, Loader, Process};
use headwater_tests::s3::S3;
use headwater_tests::writer::Writer;

const PATIENCE: Duration = Duration::from_secs(60);

fn stored(loading: &Loading<'_>, what: &str, lines: &[String]) {
    wait_until(what, PATIENCE, || {
        loading.report(lines.iter().cloned()).lost.is_empty()
    });
}

fn stop(process: &Process) {
    assert_eq!(process.sigterm_and_wait(PATIENCE).code(), Some(0));
}

#[test]
fn a_group_that_was_deleted_is_gone_on_from_the_newest_snapshot() {
    group_deleted(CLASSIC);
}

#[test]
fn a_group_that_was_deleted_is_gone_on_from_the_newest_snapshot_when_the_broker_assigns() {
    group_deleted(KIP_848);
}

/// Behind a stop, and behind a crash between the last snapshot and its commit.
fn group_deleted(group: &str) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "deleted", 1).of(group);
    let mut device = Device::new("pi-7", "/var/log/app", 7);
    let mut lines: Vec<String> = Vec::new();
    // The last ten of before come again each time.
    let mut give = |lines: &mut Vec<String>| {
        let new: Vec<String> = (0..40)
            .map(|n| format!("line {:04}", lines.len() + n))
            .collect();
        let again = lines[lines.len().saturating_sub(10)..].to_vec();
        let bytes: usize = again.iter().map(|line| line.len() + 1).sum();
        device.seek(device.offset() - bytes as u64);
        let records = again.iter().chain(&new).map(|line| device.line(line));
        kafka.produce(&loading.topic, records.collect::<Vec<_>>());
        lines.extend(new);
    };
    give(&mut lines);
    let mut loader = loading.start();
    stored(&loading, "the first are stored", &lines);
    stop(&loader);
    for crash in [None, Some("snapshot-stored")] {
        if let Some(point) = crash {
            give(&mut lines);
            let config = "[flush]\nage = \"300ms\"\n";
            let crashing = loading.loader(config).crash_at(point).start();
            assert_eq!(
                crashing.wait(PATIENCE).code(),
                None,
                "{point} was never reached"
            );
        }
        kafka.delete_group(loading.group());
        give(&mut lines);
        loader = loading.start();
        stored(&loading, "all is stored", &lines);
        stop(&loader);
        let said = loader.stderr();
        assert!(said.contains("is taken instead"), "{said}");
    }
    loading.report(lines).assert_exact();
    loading.assert_proven();
}

/// It forgets what it had sent, and sends the file as a new one.
#[test]
fn an_agents_database_that_was_deleted_repeats_and_loses_nothing() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "forgotten", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5);
    let agent = loading
        .agent(&writer.path().display().to_string(), "")
        .start();
    let loader = loading.start();
    writer.write(200);
    let before: Vec<String> = writer.lines().collect();
    stored(&loading, "the first are stored", &before);
    stop(&agent);
    writer.write(100);
    fs::remove_dir_all(agent.dir().join("state")).expect("its database");
    let agent = agent.restart();
    let lines: Vec<String> = writer.lines().collect();
    stored(&loading, "all is stored", &lines);
    wait_until("the repeats are stored", PATIENCE, || {
        loading.report(lines.iter().cloned()).duplicated.len() == before.len()
    });
    stop(&agent);
    stop(&loader);
    let report = loading.report(lines);
    report.assert_nothing_lost();
    loading.assert_proven();
    let audit = loading.audit().stdout;
    let name = writer.path().display().to_string();
    let generations = audit.lines().filter(|line| line.contains(&name));
    assert_eq!(generations.count(), 2, "{audit}");
    assert!(audit.contains(" 500 records, 0 re-sent"), "{audit}");
}

/// How many gaps at a generation's beginning end where the same generation is settled in another partition.
fn gap_ends(audit: &str) -> usize {
    let lines: Vec<Vec<&str>> = audit
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let ends = |gap: &[Vec<&str>]| {
        let end = gap[1].get(3)?.strip_suffix("):")?;
        let generation = gap[0].get(1)?;
        gap[1]
            .starts_with(&["unexplained", "gap", "[0,"])
            .then_some(())?;
        lines
            .iter()
            .find(|line| line.get(1) == Some(generation) && line.get(3) == Some(&end))
    };
    lines.windows(2).filter_map(ends).count()
}

/// More partitions while both ends work, and an agent that is killed behind it and sends again what it had sent before.
#[test]
fn partitions_that_are_added_under_way_lose_nothing() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "grown", 2);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let writer = |n: u64| {
        let path = folder.path().join(format!("w{n}.log"));
        Writer::new(path, &format!("w{n}"), n)
            .rate(50)
            .in_background(0)
    };
    // Both ends look for new partitions every 5 minutes by themselves.
    let often = "[kafka.options]\n\"topic.metadata.refresh.interval.ms\" = \"500\"\n";
    let paths = format!("{}/*.log", folder.path().display());
    let more = "[produce]\nkey = \"stream\"\n[checkpoint]\nevery = \"5m\"\n";
    let config = loading.agent_config(kafka.bootstrap(), &paths, more);
    let agent = Agent::with(&config.replace("[kafka.options]\n", often)).start();
    let config = loading.config("[flush]\nage = \"300ms\"\n");
    let loader = Loader::with(&config.replace("[kafka.options]\n", often))
        .envs(s3.env())
        .start();
    // So many that some key moves into a new partition.
    let writers: Vec<_> = (0..12).map(writer).collect();
    wait_until("some is stored", PATIENCE, || loading.stored().len() > 300);
    kafka.grow_topic(&loading.topic, 5);
    wait_until("the new partitions have some", PATIENCE, || {
        let records = kafka.records(&loading.topic);
        (2..5).any(|new| records.iter().filter(|one| one.partition == new).count() > 50)
    });
    let written = writers
        .into_iter()
        .flat_map(|one| one.stop().lines().collect::<Vec<_>>());
    let lines: Vec<String> = written.collect();
    stored(&loading, "all is stored", &lines);
    loading.report(lines.clone()).assert_exact();
    // A ledger is of one partition: what came before the change is a gap of the new one, up to where the old one ends.
    wait_until(
        "audit shows what lies in the other partition",
        PATIENCE,
        || {
            let audit = loading.audit();
            let gaps = audit.stdout.matches("unexplained gap [0, ").count();
            let at_the_seam = gap_ends(&audit.stdout);
            audit.code == Some(1) && gaps > 0 && at_the_seam == gaps
        },
    );
    agent.kill9();
    let agent = agent.restart();
    wait_until(
        "the gaps are filled by what is sent again",
        PATIENCE,
        || loading.audit().code == Some(0),
    );
    stop(&agent);
    stop(&loader);
    let report = loading.report(lines);
    report.assert_nothing_lost();
    let audit = loading.audit();
    let said = &audit.stdout;
    assert_eq!(audit.code, Some(0), "{said}");
    assert!(
        said.contains(&format!(" {} records, ", report.stored)),
        "{said}"
    );
    // What is stored twice lies in the old partition and in the new one, and so does its stream.
    let repeated: BTreeSet<&str> = (report.duplicated.iter())
        .filter_map(|(line, _)| line.split(':').next())
        .collect();
    assert!(!repeated.is_empty(), "no key has moved");
    for id in repeated {
        let name = format!("/{id}.log ");
        let generations = said.lines().filter(|line| line.contains(&name));
        assert_eq!(generations.count(), 2, "{id}: {said}");
    }
}
