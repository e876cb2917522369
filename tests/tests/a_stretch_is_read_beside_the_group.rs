//! What reads a stretch of the topic beside the live group (`plan`, `replay`, `backfill`): it leaves
//! the group and its output as they are, and says or writes what `run` would.

use headwater_tests::device::Device;
use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::Loading;
use headwater_tests::s3::S3;
use serde_json::Value;

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
