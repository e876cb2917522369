//! Two groups that write into one output by mistake: where one finds the other's object under a name of its own, with
//! other content, it stops that partition alone, says so, and overwrites nothing.

use std::time::Duration;

use headwater_tests::device::Device;
use headwater_tests::kafka::Kafka;
use headwater_tests::loading::{Loading, metric, page};
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::free_address;
use headwater_tests::process::Loader;
use headwater_tests::s3::S3;

const PATIENCE: Duration = Duration::from_secs(60);
const LINES: usize = 20;

/// Gives a partition as many lines as a batch has.
fn give(loading: &Loading<'_>, partition: i32) -> Vec<String> {
    let mut device = Device::new(&format!("device-{partition}"), "/var/log/app", 7);
    let lines: Vec<String> = (0..LINES)
        .map(|n| format!("line {n} of {partition}"))
        .collect();
    let records = lines.iter().map(|line| {
        let mut record = device.line(line);
        record.partition = partition;
        record
    });
    loading.kafka.produce(&loading.topic, records);
    lines
}

#[test]
fn other_content_under_a_name_stops_its_partition_alone() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "two-groups", 2);
    let listen = free_address();
    let batches = format!("[flush]\nage = \"1h\"\nrecords = {LINES}\n");
    let mut written = give(&loading, 0);
    // Between its objects and its state: another group finds no state to go on from.
    let first = loading.loader(&batches).crash_at("batch-stored").start();
    assert_eq!(first.wait(PATIENCE).code(), None);
    let objects = || s3.objects(&loading.bucket, "data/source=");
    let before = objects();
    assert!(!before.is_empty());
    written.extend(give(&loading, 1));
    let other = "[[transform]]\nstep = \"add\"\nfield = \"by\"\nvalue = \"another group\"\n";
    let config = loading.config(&format!("{batches}[http]\nlisten = \"{listen}\"\n{other}"));
    let config = config.replace(loading.group(), &format!("{}-other", loading.group()));
    let second = Loader::with(&config).envs(s3.env()).start();
    wait_until("one is stopped, and the other is stored", PATIENCE, || {
        let said = page(&listen, "/readyz");
        let lost = loading.report(written.clone()).lost;
        lost.is_empty()
            && metric(&listen, "headwater_loader_partition_stops_total") == Some(1)
            && said.is_some_and(|(status, said)| {
                status == 503
                    && said.contains("partition 0 is not loaded")
                    && said.contains("is there already and holds something else")
                    && said.contains("Give this group an output of its own")
            })
    });
    let after = objects();
    for object in &before {
        assert!(after.contains(object), "{} was overwritten", object.0);
    }
    let more: Vec<&String> = after.iter().map(|(key, _)| key).collect();
    let of_one = format!("/{}+1+", loading.topic);
    let new = more
        .iter()
        .filter(|key| !before.iter().any(|(old, _)| old == **key));
    assert!(
        new.clone().count() > 0 && new.clone().all(|key| key.contains(&of_one)),
        "{more:?}"
    );
    second.kill9();
    // Whose batch it is finishes it, and has the other partition's state from where it lies.
    let first = first.stopped().start();
    wait_until("the first group's batch is done", PATIENCE, || {
        let committed = kafka.committed(loading.group(), &loading.topic);
        committed.iter().filter_map(|held| held.offset).max() == i64::try_from(LINES).ok()
    });
    assert_eq!(first.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(written).assert_exact();
    loading.assert_proven();
}
