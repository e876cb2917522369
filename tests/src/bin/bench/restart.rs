//! A loader that is killed under load, and started anew: how long until it stores again.

use headwater_tests::clock;
use headwater_tests::kafka::Record;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::unique;

use super::{Bench, PATIENCE};

/// Records before the kill, and again behind it.
const RECORDS: u64 = 200_000;
const PARTITIONS: u64 = 16;
/// Starts of each kind: a session that is left alone ends at another moment each time.
const TIMES: usize = 3;

pub(crate) fn run(bench: &Bench) {
    println!(
        "\n| a loader killed under load, and started again | first new object after, s ({TIMES} times) |"
    );
    println!("|---|---|");
    for (what, group_keys) in [
        ("`group.instance` (static membership)", "instance = 'one'\n"),
        ("without, a session of 10 s (the default)", ""),
    ] {
        let times: Vec<String> = (0..TIMES)
            .map(|_| format!("{:.2}", restart(bench, group_keys)))
            .collect();
        println!("| {what} | {} |", times.join(", "));
    }
}

/// Seconds from the start after SIGKILL to the first object of a record that nothing stored before.
fn restart(bench: &Bench, group_keys: &str) -> f64 {
    let partitions = i32::try_from(PARTITIONS).unwrap_or(1);
    let loading = Loading::new(&bench.kafka, &bench.s3, "restart", partitions);
    let produce = || {
        let records = (0..RECORDS).map(|n| Record {
            partition: i32::try_from(n % PARTITIONS).unwrap_or(0),
            value: format!(r#"{{"id":{n},"name":"{}"}}"#, unique("r")).into_bytes(),
            ..Record::default()
        });
        bench.kafka.produce(&loading.topic, records);
    };
    produce();
    let more = "path = ''\n[flush]\nage = '1s'\n";
    let loader = loading.loader_as(group_keys, more).start();
    let objects = || {
        let keys = bench.s3.keys(&loading.bucket, "data/");
        keys.iter()
            .filter(|key| !key.contains("_headwater"))
            .count()
    };
    wait_until("it stores", PATIENCE, || objects() > 0);
    let stopped = loader.stopped();
    produce();
    let before = objects();
    let begin = clock::now();
    let loader = stopped.start();
    wait_until("it stores again", PATIENCE, || objects() > before);
    let first = begin.elapsed().as_secs_f64();
    loader.kill9();
    first
}
