//! The loader: Kafka to S3, beside `kcat -G` to /dev/null on the same topic: the plainest member of a
//! group, which takes what the partitions hold and throws it away.

use headwater_tests::kafka::Record;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::unique;

use super::consumers::CONSUMERS;
use super::input::Input;
use super::measure::{as_f64, cpu_of, end, number};
use super::{Bench, PATIENCE};

/// Records that an agent sent.
const LINES: u64 = 1_000_000;

/// Records as sensors write them.
const SMALL: u64 = 2_000_000;

/// Of each program.
const RUNS: usize = 3;

pub(crate) fn run(bench: &Bench) {
    println!("\n| loader | CPU s per M records | kcat (floor) | of it | peak RSS MiB | |");
    println!("|---|---|---|---|---|---|");
    let input = Input::service(&bench.folder, 1, LINES, 200);
    let loading = Loading::new(&bench.kafka, &bench.s3, "spans", 1);
    let agent = bench.agent(&loading, &input.glob(), "");
    bench.wait_for(&loading.topic, LINES);
    end(&agent);
    input.remove();
    measure(
        bench,
        "an agent's records, to NDJSON.zst",
        &loading.topic,
        LINES,
        "path = ''\n",
    );
    peers(bench, "an agent's records", &loading.topic, LINES);
    small(bench);
}

/// Records as sensors write them, over 16 partitions, in each format; 500 paths; and the same in one.
fn small(bench: &Bench) {
    let topic = topic_of_small(bench, 16);
    let columns = "[[output.column]]\nname='id'\ntype='int'\n[[output.column]]\nname='category'\ntype='string'\n\
                   [[output.column]]\nname='value'\ntype='float'\n[[output.column]]\nname='ts'\ntype='timestamp'\n";
    let regex = "[[transform]]\nstep='parse'\nfield='ts'\nformat='regex'\n\
                 pattern='^(?P<day>[0-9-]+)T(?P<clock>[0-9:]+)Z$'\n";
    let add = "[[transform]]\nstep='rename'\nfrom='id'\nto='n'\n[[transform]]\nstep='add'\nfield='site'\nvalue='Ulm'\n";
    for (what, config) in [
        ("small ones, to NDJSON.zst", "path = ''\n".to_owned()),
        (
            "small ones, one regex, to NDJSON.zst",
            format!("path = ''\n{regex}"),
        ),
        (
            "small ones, one regex and two fields changed, to NDJSON.zst",
            format!("path = ''\n{regex}{add}"),
        ),
        (
            "small ones, 50,000 in a batch, to NDJSON.zst",
            "path = ''\n[flush]\nrecords = 50000\n".to_owned(),
        ),
        (
            "small ones, to NDJSON.gz",
            "path = ''\ncompression = 'gzip'\n".to_owned(),
        ),
        (
            "small ones, two fields changed, to NDJSON.zst",
            format!("path = ''\n{add}"),
        ),
        (
            "small ones, two fields changed by VRL, to NDJSON.zst",
            "path = ''\n[[transform]]\nstep='vrl'\nsource='''\n.n = del(.id)\n.site = \"Ulm\"\n'''\n".to_owned(),
        ),
        (
            "small ones, to Parquet",
            format!("path = ''\nformat = 'parquet'\n{columns}"),
        ),
        (
            "small ones, 500 paths, to NDJSON.zst",
            "path = 'category={category}'\n".to_owned(),
        ),
    ] {
        measure(bench, what, &topic, SMALL, &config);
    }
    peers(bench, "small ones", &topic, SMALL);
    let one = topic_of_small(bench, 1);
    measure(
        bench,
        "small ones, 1 partition, to NDJSON.zst",
        &one,
        SMALL,
        "path = ''\n",
    );
}

/// A topic with all of them.
fn topic_of_small(bench: &Bench, partitions: u64) -> String {
    let topic = unique("small");
    bench
        .kafka
        .create_topic(&topic, i32::try_from(partitions).unwrap_or(1), &[]);
    let record = |n: u64| Record {
        partition: i32::try_from(n % partitions).unwrap_or(0),
        value: format!(
            r#"{{"id":{n},"category":"c{}","value":{}.{},"ts":"2026-11-24T08:{:02}:{:02}Z"}}"#,
            n * 7 % 500,
            n % 100,
            n % 10,
            n / 60 % 60,
            n % 60
        )
        .into_bytes(),
        ..Record::default()
    };
    bench.kafka.produce(&topic, (0..SMALL).map(record));
    topic
}

/// One run of a loader.
struct Run {
    cpu: f64,
    rss_kib: u64,
    value_bytes: u64,
}

/// Loader and kcat in turns, so that a busy minute meets both; the least of each counts, for what a busy
/// machine adds is never negative.
fn measure(bench: &Bench, what: &str, topic: &str, records: u64, config: &str) {
    let runs = (0..RUNS).map(|_| {
        (
            of_loader(bench, topic, records, config),
            floor(bench, topic),
        )
    });
    let (loader, floor): (Vec<Run>, Vec<f64>) = runs.unzip();
    let least = |all: &mut dyn Iterator<Item = f64>| all.fold(f64::INFINITY, f64::min);
    let cpu = least(&mut loader.iter().map(|run| run.cpu));
    let floor = least(&mut floor.into_iter());
    let rss_kib = loader.iter().map(|run| run.rss_kib).max().unwrap_or(0);
    let value_bytes = loader.first().map_or(0, |run| run.value_bytes);
    let millions = as_f64(records) / 1e6;
    println!(
        "| {what} | {:.2} | {:.2} | {:.2} | {:.1} | about {:.0} MB/s a core |",
        cpu / millions,
        floor / millions,
        cpu / floor,
        as_f64(rss_kib) / 1024.0,
        as_f64(value_bytes) / 1e6 / cpu
    );
}

/// What others use for the same topic, once each: it is told apart by far more than the noise.
fn peers(bench: &Bench, what: &str, topic: &str, records: u64) {
    for (who, run) in CONSUMERS {
        let used = run(bench, topic, records);
        let millions = as_f64(records) / 1e6;
        let floor = floor(bench, topic);
        println!(
            "| {who}: {what} | {:.2} | {:.2} | {:.2} | {:.1} | |",
            used.cpu / millions,
            floor / millions,
            used.cpu / floor,
            used.rss_mib
        );
    }
}

fn of_loader(bench: &Bench, topic: &str, records: u64, config: &str) -> Run {
    let mut loading = Loading::new(&bench.kafka, &bench.s3, "load", 1);
    topic.clone_into(&mut loading.topic);
    let loader = loading.loader(config).start();
    wait_until("every row is in S3", PATIENCE, || {
        let committed = bench.kafka.committed(loading.group(), topic);
        let offsets = committed.iter().filter_map(|committed| committed.offset);
        offsets.sum::<i64>() >= i64::try_from(records).unwrap_or(i64::MAX)
    });
    let (cpu, rss_kib) = (loader.cpu_seconds(), loader.rss_kib_max());
    end(&loader);
    Run {
        cpu,
        rss_kib,
        value_bytes: number(&loader.stderr(), " bytes="),
    }
}

/// CPU seconds of kcat as a member of a group: until it has read the topic to its ends.
fn floor(bench: &Bench, topic: &str) -> f64 {
    cpu_of(&format!(
        "kcat -b {} -G {} -e -q -X auto.offset.reset=earliest -X fetch.wait.max.ms=200 {topic} > /dev/null",
        bench.kafka.bootstrap(),
        unique("floor"),
    ))
}
