//! What a running loader's metrics say is what happened, as Kafka, the store and the process itself show it, and
//! docs/loader.md names each of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use headwater_tests::clock;
use headwater_tests::device::Device;
use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::{Loading, metric, page};
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::free_address;
use headwater_tests::s3::{Fault, Kind, Op, S3};

const PATIENCE: Duration = Duration::from_secs(60);
const PAGE: &str = include_str!("../../docs/loader.md");

fn now_ms() -> u64 {
    let now = clock::wall().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// Records by what became of them.
fn outcomes(listen: &str) -> BTreeMap<String, u64> {
    let (_, text) = page(listen, "/metrics").unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("headwater_loader_records_total{outcome=\"")?;
        let (outcome, count) = rest.split_once("\"} ")?;
        Some((outcome.to_owned(), count.parse().ok()?))
    });
    lines.filter(|(_, count)| *count > 0).collect()
}

/// Everything that a batch stores: keys and sizes, and the lines of rows.
fn stored(loading: &Loading<'_>) -> (Vec<(String, u64)>, Vec<String>) {
    let objects = loading.s3.objects(&loading.bucket, "data/");
    let of_batches = objects
        .into_iter()
        .filter(|(key, _)| !key.contains("/_headwater/"));
    let (mut keys, mut lines) = (Vec::new(), Vec::new());
    for (key, bytes) in of_batches {
        if !key.contains("/_dead_letters/") {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            lines.extend(text.lines().map(str::to_owned));
        }
        keys.push((key, bytes.len() as u64));
    }
    (keys, lines)
}

/// What comes: of each kind a few. `whole`: the device that goes on behind it.
fn records(whole: &mut Device) -> Vec<Record> {
    let mut torn = Device::new("pi-8", "/var/log/app", 1);
    let mut records: Vec<Record> = (0..30).map(|i| whole.line(&format!("line {i}"))).collect();
    records.extend((0..5).map(|_| whole.line("noise")));
    // Sent again: skipped.
    records.extend(records[3..6].to_vec());
    // Half of it had come: stored, and told.
    whole.seek(whole.offset() - 3);
    records.push(whole.line("across"));
    records.push(torn.line("first"));
    torn.seek(torn.offset() + 10);
    records.push(torn.line("behind a gap"));
    records.push(whole.reading("no JSON at all"));
    // Of nobody's stream, and with a header as no agent writes it.
    let plain = |headers: Vec<(String, Vec<u8>)>| Record {
        partition: 0,
        value: b"{\"message\":\"plain\",\"time\":\"2026-11-24T00:00:01Z\"}".to_vec(),
        headers,
        ..Record::default()
    };
    records.push(plain(Vec::new()));
    records.push(plain(vec![("hw-span".to_owned(), b"x".to_vec())]));
    records
}

/// What became of them, as they were made and as the store has it.
fn assert_counts(loading: &Loading<'_>, listen: &str, bytes: u64) {
    let of = |name: &str| metric(listen, &format!("headwater_loader_{name}"));
    let expected = [
        ("written", 30 + 1 + 2 + 2),
        ("filtered", 5),
        ("duplicate", 3),
        ("dead_letter", 1),
        ("overlap", 1),
        ("refused_headers", 1),
        // No line is JSON, and that is only marked.
        ("unparsed", 30 + 1 + 2 + 2),
    ];
    let expected = expected.map(|(outcome, n)| (outcome.to_owned(), n));
    assert_eq!(outcomes(listen), BTreeMap::from(expected));
    assert_eq!(of("bytes_total"), Some(bytes));
    assert_eq!(of("dead_letters_total"), Some(1));
    let (objects, lines) = stored(loading);
    assert_eq!(
        of("objects_total"),
        Some(objects.len() as u64),
        "{objects:?}"
    );
    let sizes = objects.iter().map(|(_, size)| size).sum();
    assert_eq!(of("object_bytes_total"), Some(sizes), "{objects:?}");
    let windows = lines.iter().filter(|line| line.contains("window_end"));
    assert_eq!(of("window_rows_total").unwrap_or(0), windows.count() as u64);
}

/// Of the record whose headers nobody can read, nobody can say whether it came once.
fn assert_told_by_audit(loading: &Loading<'_>) {
    let audit = loading.audit();
    assert_eq!(audit.code, Some(1));
    let told = "\n1 records and notices of streams that a ledger had no room for (limits.ledger), or whose hw- headers";
    assert!(audit.stdout.contains(told), "{}", audit.stdout);
}

/// The parts within their bounds, and the whole as the kernel has it: `most` bytes at its most.
fn assert_memory(of: &impl Fn(&str) -> Option<u64>, most: impl Fn() -> u64) {
    let (held, bound) = (of("state_memory_bytes"), of("state_memory_bytes_max"));
    assert!(held > Some(0) && held <= bound, "{held:?} of {bound:?}");
    let batches = of("batch_memory_bytes_max").expect("it is told");
    let all = batches + held.unwrap_or(0);
    assert_eq!(bound, Some(all / 4 * 3), "a quarter is for batches alone");
    assert!(of("ledger_memory_bytes") > Some(0) && of("fetched_memory_bytes") == Some(0));
    let resident = of("resident_memory_bytes").expect("it is told");
    // Asked behind it: it may have grown by a page meanwhile.
    let most = most();
    assert!(
        resident <= most && 2 * resident > most,
        "{resident} of {most}"
    );
}

/// A clock that is so many hours ahead.
fn set_clock(file: &Path, hours: u64) {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, format!("{}\n", hours * 3600)).expect("a file can be written");
    std::fs::rename(&fresh, file).expect("a file can be renamed");
}

/// Hours turn, and where two of their markers belong lies what another lineage wrote: that stays, and is counted;
/// all others are counted as they lie there.
fn assert_published(
    loading: &Loading<'_>,
    of: &impl Fn(&str) -> Option<u64>,
    set_clock: &impl Fn(u64),
) {
    const HOUR_MS: u64 = 3_600_000;
    let published = || -> BTreeMap<String, Vec<u8>> {
        let own = ["complete", "account"].map(|kind| format!("data/_headwater/{kind}/"));
        let objects = own
            .iter()
            .flat_map(|prefix| loading.s3.objects(&loading.bucket, prefix));
        objects.map(|(key, bytes)| (key, bytes.to_vec())).collect()
    };
    let of_another = "{\"of\":\"another lineage\"}\n";
    for hour_ms in [now_ms(), now_ms() + HOUR_MS] {
        let hour = jiff::Timestamp::from_millisecond(hour_ms.cast_signed()).expect("a time");
        let key = format!(
            "data/_headwater/complete/{}/{}Z/0.json",
            loading.topic,
            hour.strftime("%Y-%m-%dT%H")
        );
        loading.s3.put(&loading.bucket, &key, of_another);
    }
    assert_eq!(of("publish_conflicts_total"), Some(0));
    set_clock(5);
    let count = |name: &str| of(name).unwrap_or(0);
    wait_until("what is due was published, or stays", PATIENCE, || {
        let there = published().len() as u64;
        there >= 4 && count("published_total") + count("publish_conflicts_total") == there
    });
    assert_eq!(count("publish_conflicts_total"), 2);
    let stay = published()
        .into_values()
        .filter(|bytes| bytes == of_another.as_bytes());
    assert_eq!(stay.count(), 2);
}

/// Whoever sees a metric finds it in the document.
fn assert_documented(listen: &str) {
    let (_, text) = page(listen, "/metrics").expect("it answers");
    let kinds = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE headwater_loader_"));
    let families = kinds.filter_map(|line| line.split_once(' '));
    let mut seen = 0;
    for (name, kind) in families {
        seen += 1;
        let total = if kind == "counter" { "_total" } else { "" };
        let named = ["`", "{"].map(|end| format!("`{name}{total}{end}"));
        assert!(
            named.iter().any(|named| PAGE.contains(named)),
            "docs/loader.md does not name {name}{total}"
        );
    }
    assert!(seen > 30, "only {seen} metrics are there");
}

#[test]
fn they_say_what_happened() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "metrics", 1);
    let listen = free_address();
    let of = |name: &str| metric(&listen, &format!("headwater_loader_{name}"));
    let mut whole = Device::new("pi-7", "/var/log/app", 1);
    let records = records(&mut whole);
    let bytes: usize = records.iter().map(|record| record.value.len()).sum();
    kafka.produce(&loading.topic, records);

    s3.fault(
        Fault::on(Op::Put, Kind::SlowDown)
            .times(2)
            .for_keys_with("source="),
    );
    let more = |flush: &str| {
        format!(
            "compression = \"none\"\npath = \"source={{source}}\"\n[flush]\n{flush}\n[http]\nlisten = \"{listen}\"\n\
             [accounts]\nhourly_markers = true\ndaily = \"device\"\n\
             [[transform]]\nstep = \"drop\"\nfield = \"message\"\nin = [\"noise\"]\n\
             [[transform]]\nstep = \"parse\"\nformat = \"json\"\n\
             [[transform]]\nstep = \"aggregate\"\nwindow = \"1s\"\nlateness = \"1s\"\nby = [\"device\"]\n\
             keep_records = true\npath = \"windows\"\ncompute = [{{ function = \"count\" }}]\n"
        )
    };
    // Sums are exact as long as no commit is of unknown outcome, and no session is lost to a machine that
    // stands still.
    let group = "session_timeout = \"30s\"";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock_file = folder.path().join("clock");
    set_clock(&clock_file, 0);
    let loader = loading
        .loader_as(group, &more("age = \"300ms\""))
        .env("HEADWATER_TEST_CLOCK", &clock_file.display().to_string())
        .start();
    wait_until("all is taken in, and nothing waits", PATIENCE, || {
        of("batches_total") > Some(0) && of("durable_lag_records") == Some(0)
    });
    assert_counts(&loading, &listen, bytes as u64);
    // One window is open at the least: nothing came behind it.
    assert!(of("windows") > Some(0) && of("window_memory_bytes") > Some(0));
    assert_eq!((of("streams"), of("unexplained_gaps")), (Some(2), Some(1)));
    assert_eq!(
        (of("partitions"), of("partitions_waiting")),
        (Some(1), Some(0))
    );
    assert_eq!(of("output_retries_total"), Some(2));
    assert_eq!(of("accounts"), Some(2));
    assert_eq!(of("rejoins_total"), Some(0));
    assert_eq!(of("early_batches_total"), Some(0));
    assert_published(&loading, &of, &|hours| set_clock(&clock_file, hours));

    assert_memory(&of, || loader.rss_kib_max() * 1024);
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));

    // What is not stored is lag: so many records, and as old as the first of them.
    let loader = loading.loader_as(group, &more("age = \"50m\"")).start();
    let open: Vec<Record> = (0..7).map(|i| whole.line(&format!("open {i}"))).collect();
    kafka.produce(&loading.topic, open);
    wait_until("they are lag", PATIENCE, || {
        of("durable_lag_records") == Some(7)
    });
    let came = kafka.records(&loading.topic).into_iter().rev().nth(6);
    let came = came.and_then(|record| u64::try_from(record.timestamp_ms?).ok());
    let came = came.expect("Kafka stamped it");
    wait_until("the lag is as old as they are", PATIENCE, || {
        let before = now_ms().saturating_sub(came) / 1000;
        let lag = of("durable_lag_seconds");
        let after = now_ms().saturating_sub(came) / 1000;
        assert!(
            lag >= Some(before) && lag <= Some(after),
            "{before} {lag:?} {after}"
        );
        after >= 2
    });

    assert_documented(&listen);
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_told_by_audit(&loading);
}

/// A path with a value of its own for each record: the guard closes batch after batch, which is counted, and said
/// once, with the template and what to do.
#[test]
fn batches_that_end_for_their_paths_are_counted_and_told_of_once() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "paths", 1);
    let listen = free_address();
    let mut device = Device::new("pi-7", "/var/log/app", 1);
    let lines: Vec<String> = (0..50).map(|i| format!("line {i}")).collect();
    kafka.produce(&loading.topic, lines.iter().map(|line| device.line(line)));
    let config = format!(
        "path = \"of={{message}}\"\n[flush]\nage = \"1h\"\nobjects = 10\n[http]\nlisten = \"{listen}\"\n"
    );
    // Sums are exact as long as no session is lost to a machine that stands still.
    let loader = loading
        .loader_as("session_timeout = \"30s\"", &config)
        .start();
    let of = |name: &str| metric(&listen, &format!("headwater_loader_{name}"));
    wait_until("all is stored", PATIENCE, || {
        of("objects_total") == Some(50)
    });
    assert_eq!(of("guard_closed_batches_total"), Some(5));
    let said = loader.stderr();
    let said: Vec<_> = said
        .lines()
        .filter(|line| line.contains("as flush.objects allows"))
        .collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("path=\"of={message}\""), "{said:?}");
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(lines).assert_exact();
}
