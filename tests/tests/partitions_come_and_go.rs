//! A partition's life with a loader: it is taken up late, stopped, taken away and given back, and what it was
//! about is said all the time. Nothing of it is lost or stored twice, and no other partition stands still.

use std::time::Duration;

use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::{Loading, metric, page};
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::free_address;
use headwater_tests::s3::{Fault, Kind, Op, S3};

const PATIENCE: Duration = Duration::from_secs(120);

/// Records of one partition, `n` of them, and their lines.
fn give(loading: &Loading<'_>, partition: i32, name: &str, n: usize) -> Vec<String> {
    let lines: Vec<String> = (0..n)
        .map(|i| format!("{name} {i} of {partition}"))
        .collect();
    let records = lines.iter().map(|line| Record {
        partition,
        value: format!("{{\"message\":\"{line}\"}}").into_bytes(),
        ..Record::default()
    });
    loading.kafka.produce(&loading.topic, records);
    lines
}

fn all_is_stored(loading: &Loading<'_>, written: &[String]) -> bool {
    loading.report(written.iter().cloned()).lost.is_empty()
}

/// Until its state can be read it is not ready, and says why, and how much waits.
#[test]
fn a_partition_that_cannot_be_taken_up_is_told() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "late", 2);
    let listen = free_address();
    let http = format!("[flush]\nage = \"300ms\"\n[http]\nlisten = \"{listen}\"\n");
    let mut written = give(&loading, 0, "first", 5);
    written.extend(give(&loading, 1, "first", 5));
    let state = format!("_headwater/state/{}/1/", loading.topic);
    s3.fault(Fault::on(Op::Get, Kind::Denied).for_keys_with(&state));
    let loader = loading.loader(&http).start();
    wait_until("it says what waits, and why", PATIENCE, || {
        let reason = "partition 1 is not loaded: the state cannot be read yet: cannot get";
        let said = page(&listen, "/readyz");
        said.is_some_and(|(status, said)| status == 503 && said.contains(reason))
            && metric(&listen, "headwater_loader_durable_lag_records") == Some(5)
            && metric(&listen, "headwater_loader_durable_lag_seconds") > Some(0)
            && metric(&listen, "headwater_loader_partitions_waiting") == Some(1)
    });
    let report = loading.report(written.clone());
    assert_eq!(report.lost.len(), 5, "the other one is loaded: {report:?}");
    s3.clear_faults();
    wait_until("all is stored, and it is ready", PATIENCE, || {
        all_is_stored(&loading, &written)
            && page(&listen, "/readyz") == Some((200, "ready\n".to_owned()))
            && metric(&listen, "headwater_loader_durable_lag_records") == Some(0)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(written).assert_exact();
    loading.assert_proven();
}
