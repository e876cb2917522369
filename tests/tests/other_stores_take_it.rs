//! Promises 1 to 3 on S3 servers that other people wrote (moto, MiniStack): the loader is killed
//! between every two of its steps, and each row lies there once.

use std::time::Duration;

use headwater_tests::device::Device;
use headwater_tests::kafka::Kafka;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::wait_until;
use headwater_tests::s3::{Peer, S3};

const PATIENCE: Duration = Duration::from_secs(60);

/// Kills a loader at its named points, one after the other, and lets the last go to the end.
fn killed_and_resumed(peer: Peer, more: &str, lines: usize, bytes: usize) {
    let (kafka, s3) = (Kafka::shared(), S3::start_peer(peer));
    let loading = Loading::new(kafka, &s3, "other-store", 1);
    let mut device = Device::new("pi-1", "/var/log/app", 7);
    let written: Vec<String> = (0..lines)
        .map(|i| format!("line {i:06} {}", "x".repeat(bytes)))
        .collect();
    kafka.produce(&loading.topic, written.iter().map(|line| device.line(line)));
    for point in [
        "intent-committed",
        "object-under-way",
        "object-stored",
        "batch-stored",
        "snapshot-stored",
        "before-done",
        "done-committed",
    ] {
        let status = loading.loader(more).crash_at(point).start().wait(PATIENCE);
        assert_eq!(status.code(), None, "{point} was never reached");
    }
    let last = loading.loader(more).start();
    wait_until("all is stored", PATIENCE, || {
        loading.report(written.clone()).lost.is_empty()
    });
    assert_eq!(last.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(written).assert_exact();
    loading.assert_proven();
}

const SMALL: &str = "[flush]\nage = \"60s\"\nrecords = 40\n";
const IN_PARTS: &str = "path = \"\"\ncompression = \"none\"\n[output.s3]\nmultipart_above = \"5MiB\"\n\
                        [flush]\nage = \"60s\"\nrecords = 80\n";

#[test]
fn moto_holds_each_row_once() {
    killed_and_resumed(Peer::Moto, SMALL, 400, 10);
}

#[test]
fn moto_holds_each_row_of_objects_in_parts_once() {
    killed_and_resumed(Peer::Moto, IN_PARTS, 400, 80_000);
}

#[test]
fn ministack_holds_each_row_once() {
    killed_and_resumed(Peer::MiniStack, SMALL, 400, 10);
}

#[test]
fn ministack_holds_each_row_of_objects_in_parts_once() {
    killed_and_resumed(Peer::MiniStack, IN_PARTS, 400, 80_000);
}
