//! The loader: Kafka to S3, beside `kcat -G` to /dev/null on the same topic: the plainest member of a
//! group, which takes what the partitions hold and throws it away.

use headwater_tests::kafka::Record;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::unique;

use super::input::Input;
use super::measure::{as_f64, cpu_of, end, number};
use super::{Bench, PATIENCE};

/// Records that an agent sent.
const LINES: u64 = 1_000_000;

/// Records as sensors write them.
const SMALL: u64 = 2_000_000;

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
    small(bench);
}

/// Records as sensors write them, over 16 partitions, in each format; and 500 paths.
fn small(bench: &Bench) {
    let topic = unique("small");
    bench.kafka.create_topic(&topic, 16, &[]);
    let record = |n: u64| Record {
        partition: i32::try_from(n % 16).unwrap_or(0),
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
}

fn measure(bench: &Bench, what: &str, topic: &str, records: u64, config: &str) {
    let mut loading = Loading::new(&bench.kafka, &bench.s3, "load", 1);
    topic.clone_into(&mut loading.topic);
    let loader = loading.loader(config).start();
    wait_until("every row is in S3", PATIENCE, || {
        let committed = bench.kafka.committed(loading.group(), topic);
        let offsets = committed.iter().filter_map(|committed| committed.offset);
        offsets.sum::<i64>() >= i64::try_from(records).unwrap_or(i64::MAX)
    });
    let (cpu, rss) = (loader.cpu_seconds(), loader.rss_kib_max());
    end(&loader);
    let floor = floor(bench, topic);
    let value_bytes = as_f64(number(&loader.stderr(), " bytes="));
    let millions = as_f64(records) / 1e6;
    println!(
        "| {what} | {:.2} | {:.2} | {:.2} | {:.1} | about {:.0} MB/s a core |",
        cpu / millions,
        floor / millions,
        cpu / floor,
        as_f64(rss) / 1024.0,
        value_bytes / 1e6 / cpu
    );
}

/// CPU seconds of kcat as a member of a group: until it has read the topic to its ends. The least of
/// three: what a busy machine adds is never negative.
fn floor(bench: &Bench, topic: &str) -> f64 {
    let runs = (0..3).map(|_| {
        cpu_of(&format!(
            "kcat -b {} -G {} -e -q -X auto.offset.reset=earliest -X fetch.wait.max.ms=200 {topic} > /dev/null",
            bench.kafka.bootstrap(),
            unique("floor"),
        ))
    });
    runs.fold(f64::INFINITY, f64::min)
}
