//! `compact`: the same rows in fewer objects, through kills and beside another one, with both proofs right
//! all the way.

use std::time::Duration;

use headwater_tests::device::Device;
use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::Loading;
use headwater_tests::oracle::wait_until;
use headwater_tests::process::{Finished, Process};
use headwater_tests::s3::{Fault, Kind, Op, S3};

const PATIENCE: Duration = Duration::from_secs(60);

/// One batch of ten lines, loaded.
fn load_batch(loading: &Loading, device: &mut Device, batch: usize) {
    load_batch_beside(loading, device, batch, 10 * (batch + 1));
}

/// One batch of ten lines, with which so many lines are there.
fn load_batch_beside(loading: &Loading, device: &mut Device, batch: usize, all: usize) {
    let lines: Vec<Record> = (0..10)
        .map(|i| device.line(&format!("{batch}/{i}")))
        .collect();
    loading.kafka.produce(&loading.topic, lines);
    let loader = loading.start();
    wait_until("the batch is stored", PATIENCE, || {
        loading.stored().len() >= all
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
}

fn lines(batches: usize) -> impl Iterator<Item = String> {
    (0..batches).flat_map(|batch| (0..10).map(move |i| format!("{batch}/{i}")))
}

fn compact(loading: &Loading, point: Option<&str>) -> Finished {
    let mut loader = loading.loader("");
    if let Some(point) = point {
        loader = loader.crash_at(point);
    }
    loader.run("compact", &["--apply", "--older-than", "0s"])
}

fn data(loading: &Loading) -> Vec<String> {
    let mut keys = loading.s3.keys(&loading.bucket, "data/");
    keys.retain(|key| !key.contains("/_headwater/"));
    keys
}

/// `verify` says that something is gone, and what.
fn assert_missing(loading: &Loading, told: &str) {
    let verify = loading.verify();
    assert_eq!(verify.code, Some(1), "{}", verify.stdout);
    assert!(verify.stdout.contains(told), "{}", verify.stdout);
}

/// Both proofs hold where what is the oldest may have expired, and has.
fn assert_tiled(loading: &Loading) {
    let verify = loading.loader("").run("verify", &["--expires", "1day"]);
    assert_eq!(verify.code, Some(0), "{}", verify.stdout);
    let told = "expired: [0, 60)";
    assert!(verify.stdout.contains(told), "{}", verify.stdout);
    assert_eq!(loading.audit().code, Some(0));
}

#[test]
fn compaction_killed_at_each_step_keeps_every_row_once_and_both_proofs() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "compact", 1);
    let mut device = Device::new("pi-7", "/var/log/app", 1);
    for batch in 0..5 {
        load_batch(&loading, &mut device, batch);
    }
    let before = data(&loading);
    assert_eq!(before.len(), 5, "{before:?}");
    let dry = loading.loader("").run("compact", &["--older-than", "0s"]);
    let told = &dry.stdout;
    assert!(told.contains("4 objects into 1"), "{told}{}", dry.stderr);
    let young = loading.loader("").run("compact", &["--apply"]);
    assert!(
        young.stdout.contains("0 objects into 0"),
        "{}",
        young.stdout
    );
    assert_eq!(data(&loading), before);
    for (point, objects, twice) in [
        ("compact-claimed", 5, 0),
        ("compact-stored", 6, 4),
        ("compact-removed:2", 4, 2),
    ] {
        let killed = compact(&loading, Some(point));
        assert_eq!(killed.code, None, "{point}: {}", killed.stdout);
        assert_eq!(data(&loading).len(), objects, "{point}");
        let verify = loading.verify();
        assert_eq!(verify.code, Some(0), "{point}: {}", verify.stdout);
        let says = format!("compaction under way: the rows of {twice} objects");
        assert_eq!(
            verify.stdout.contains(&says),
            twice > 0,
            "{}",
            verify.stdout
        );
        // Nothing is ever missing.
        loading.report(lines(5)).assert_nothing_lost();
    }
    let ended = compact(&loading, None);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(data(&loading).len(), 2, "{:?}", data(&loading));
    loading.report(lines(5)).assert_exact();
    loading.assert_proven();
    // The loader goes on, and so does compaction, undisturbed now.
    for batch in 5..7 {
        load_batch(&loading, &mut device, batch);
    }
    loading.report(lines(7)).assert_exact();
    let next = compact(&loading, None);
    assert!(next.stdout.contains("2 objects into 1"), "{}", next.stdout);
    assert_eq!(data(&loading).len(), 3, "{:?}", data(&loading));
    loading.report(lines(7)).assert_exact();
    loading.assert_proven();
    // What is lost of what stands for others is seen.
    let lose = |part: &str| {
        let large = data(&loading).into_iter().find(|key| key.contains(part));
        s3.lose(&loading.bucket, &large.expect("one stands for several"));
    };
    lose("+c2.");
    assert_missing(&loading, "missing: ");
    // What expires, the oldest first, is no loss where that is said, and holds no compaction up.
    lose("+c4.");
    assert_missing(&loading, "+c4.ndjson.zst, and 4 objects that it stands for");
    assert_tiled(&loading);
    load_batch_beside(&loading, &mut device, 7, 20);
    load_batch_beside(&loading, &mut device, 8, 30);
    let next = compact(&loading, None);
    assert_eq!(next.code, Some(0), "{}", next.stderr);
    assert!(next.stdout.contains("2 objects into 1"), "{}", next.stdout);
    assert_tiled(&loading);
}

/// Starts two that have read the same objects before one of them can say that it puts them together, and
/// returns what came of each. `targets`: of either, in bytes.
fn two_at_once(loading: &Loading, targets: [usize; 2]) -> Vec<(Option<i32>, String)> {
    let s3 = loading.s3;
    s3.forget_requests();
    s3.fault(Fault::on(Op::Put, Kind::Http503).for_keys_with("_headwater/compact/"));
    let start = |target: usize| {
        let command = format!("compact --apply --older-than 0s --target {target}");
        loading.loader("").start_as(&command)
    };
    let both: Vec<Process> = targets.into_iter().map(start).collect();
    wait_until("both have read what they put together", PATIENCE, || {
        let read = s3.count_by_key(Op::Get, &loading.bucket);
        let of_rows = read.iter().filter(|(key, _)| key.contains("/source=app/"));
        of_rows.filter(|(_, times)| **times == 2).count() >= 2
    });
    s3.clear_faults();
    let ended = both
        .iter()
        .map(|one| (one.wait(PATIENCE).code(), one.stderr()));
    ended.collect()
}

#[test]
fn of_two_at_once_one_gives_up_or_both_do_the_same() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "compact-2", 1);
    let mut device = Device::new("pi-7", "/var/log/app", 1);
    for batch in 0..5 {
        load_batch(&loading, &mut device, batch);
    }
    // Four objects into one, against pairs of them: they cannot both.
    let largest = s3.objects(&loading.bucket, "data/source=app/");
    let largest = largest.iter().map(|(_, bytes)| bytes.len()).max();
    let pair = 2 * largest.expect("objects");
    let ended = two_at_once(&loading, [pair, 100 * pair]);
    let refused = ended.iter().filter(|(code, said)| {
        assert!(
            *code == Some(0) || said.contains("another one"),
            "{code:?}: {said}"
        );
        *code == Some(1)
    });
    assert!(refused.count() > 0, "{ended:?}");
    loading.report(lines(5)).assert_nothing_lost();
    let mended = compact(&loading, None);
    assert_eq!(mended.code, Some(0), "{}", mended.stderr);
    loading.report(lines(5)).assert_exact();
    loading.assert_proven();

    // The same twice: whoever is late finds it done.
    for batch in 5..8 {
        load_batch(&loading, &mut device, batch);
    }
    let ended = two_at_once(&loading, [100 * pair; 2]);
    assert!(ended.iter().any(|(code, _)| *code == Some(0)), "{ended:?}");
    loading.report(lines(8)).assert_exact();
    loading.assert_proven();
    let verify = loading.verify();
    assert!(!verify.stdout.contains("under way"), "{}", verify.stdout);
}
