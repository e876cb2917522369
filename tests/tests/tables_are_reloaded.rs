//! Tables that rows are enriched from change while the loader runs: every batch has one version of them,
//! also when it is made again after a kill and the table has changed once more, and nothing is lost or
//! stored twice.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use headwater_tests::clock;
use headwater_tests::device::Device;
use headwater_tests::kafka::Kafka;
use headwater_tests::loading::{CLASSIC, KIP_848, Loading};
use headwater_tests::oracle::{decompress, wait_until};
use headwater_tests::outside::free_address;
use headwater_tests::process::Process;
use headwater_tests::s3::{Fault, Kind, Op, S3};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
/// The time from one reading of the tables to the failure of the next one, on a machine that has much to do.
const AGE_MOST: Duration = Duration::from_secs(15);

/// What the table says of `pi-7` in its version `n`.
fn table(n: u64) -> String {
    format!(
        "{{\"device\":\"pi-7\",\"site\":{{\"name\":\"Ulm\",\"version\":{n}}}}}\n{{\"device\":8}}\n"
    )
}

struct Enriched<'a> {
    loading: Loading<'a>,
    device: Device,
    written: Vec<String>,
}

impl Enriched<'_> {
    fn set_table(&self, text: &str) {
        let Loading { s3, bucket, .. } = &self.loading;
        s3.put(bucket, "tables/sites.ndjson", text.to_owned());
    }

    fn config(&self, more: &str) -> String {
        format!(
            r#"
            path = "all"
            [flush]
            age = "200ms"
            [tables]
            reload = "1s"
            {more}
            [[transform]]
            step = "lookup"
            table = "s3://{}/tables/sites.ndjson"
            field = "device"
            "#,
            self.loading.bucket
        )
    }

    fn produce(&mut self, n: usize) {
        let mut records = Vec::new();
        for _ in 0..n {
            let line = format!("line {:06}", self.written.len());
            records.push(self.device.line(&line));
            self.written.push(line);
        }
        self.loading.kafka.produce(&self.loading.topic, records);
    }

    /// The versions of the table in each object, with its rows' lines.
    fn objects(&self) -> Vec<(Vec<u64>, Vec<String>)> {
        let objects = self.loading.s3.objects(&self.loading.bucket, "data/all/");
        let rows = objects.into_iter().map(|(key, bytes)| {
            let text = String::from_utf8(decompress(&key, &bytes)).expect("rows are text");
            let rows = text.lines().map(|line| {
                let row: Value = serde_json::from_str(line).expect("a row is JSON");
                let version = row["site"]["version"].as_u64().expect("a typed version");
                (version, row["message"].as_str().expect("a line").to_owned())
            });
            let (mut versions, lines): (Vec<u64>, Vec<String>) = rows.unzip();
            versions.dedup();
            (versions, lines)
        });
        rows.collect()
    }

    fn versions(&self) -> Vec<u64> {
        self.objects()
            .into_iter()
            .flat_map(|(versions, _)| versions)
            .collect()
    }

    /// Sends records until some of them show this version.
    fn until_version(&mut self, version: u64) {
        wait_until("the table's new version is used", PATIENCE, || {
            self.produce(3);
            std::thread::sleep(Duration::from_millis(100));
            self.versions().contains(&version)
        });
    }
}

fn counted(loader: &Process, listen: &str, name: &str) -> u64 {
    assert!(loader.is_running(), "{}", loader.stderr());
    let mut text = String::new();
    let mut stream = TcpStream::connect(listen).expect("the loader listens");
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).expect("the loader reads");
    stream
        .read_to_string(&mut text)
        .expect("the loader answers");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|n| n.trim().parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// A table that has grown beyond the memory plan is not taken, and that is said.
fn one_without_room_is_not_taken(enriched: &Enriched<'_>, loader: &Process, listen: &str) {
    let failures = || {
        counted(
            loader,
            listen,
            "headwater_loader_table_reload_failures_total",
        )
    };
    let before = failures();
    let rows: String = (0..20_000)
        .map(|n| format!("{{\"device\":{n},\"site\":{{\"name\":\"Ulm\",\"version\":9}}}}\n"))
        .collect();
    enriched.set_table(&(table(9).replace("{\"device\":8}\n", "") + &rows));
    // Counted, then said: whoever finds the words finds the number.
    wait_until("it is said", PATIENCE, || {
        let said = loader.stderr();
        said.contains("raise limits.memory and start anew")
    });
    assert!(failures() > before, "it is not counted");
}

/// `begun`: a line of the batch that was made again.
fn each_batch_has_one_version(enriched: &Enriched<'_>, begun: &String) {
    for (versions, lines) in enriched.objects() {
        assert_eq!(
            versions.len(),
            1,
            "one batch, two versions: {versions:?}, {lines:?}"
        );
        if lines.contains(begun) {
            assert_eq!(
                versions,
                [2],
                "made again with the table that it was begun with"
            );
        }
    }
}

fn at_a_start_a_broken_table_is_refused(enriched: &Enriched<'_>) {
    // There is no old one at a start.
    enriched.set_table("no JSON\n");
    let refused = enriched
        .loading
        .loader(&enriched.config(""))
        .run("check", &[]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("line 1 is no JSON object"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_batch_has_one_version_through_reloads_and_a_kill() {
    reloads_and_a_kill(CLASSIC);
}

#[test]
fn a_batch_has_one_version_through_reloads_and_a_kill_when_the_broker_assigns() {
    reloads_and_a_kill(KIP_848);
}

fn reloads_and_a_kill(group: &str) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let mut enriched = Enriched {
        loading: Loading::new(kafka, &s3, "tables", 1).of(group),
        device: Device::new("pi-7", "/var/log/app", 7),
        written: Vec::new(),
    };
    enriched.set_table(&table(1));
    let listen = free_address();
    let http = format!("[http]\nlisten = \"{listen}\"\n");
    let config = enriched.config(&http);
    let loader = enriched.loading.loader(&config).start();
    enriched.until_version(1);
    // A version that makes no sense is not taken, and said.
    enriched.set_table("{\"device\":\"pi-7\"}\n{\"device\":\"pi-7\"}\n");
    wait_until("the failure is said", PATIENCE, || {
        loader.stderr().contains("the one from before stays")
    });
    let since = clock::now();
    let failures = "headwater_loader_table_reload_failures_total";
    assert!(counted(&loader, &listen, failures) > 0, "it is not counted");
    let age_s = || counted(&loader, &listen, "headwater_loader_table_age_seconds");
    enriched.produce(10);
    one_without_room_is_not_taken(&enriched, &loader, &listen);
    wait_until("the tables age", PATIENCE, || age_s() >= 4);
    // None was read since the failure was said, and before that one was every second.
    let (least, age, most) = (
        since.elapsed().as_secs(),
        age_s(),
        since.elapsed() + AGE_MOST,
    );
    assert!(
        age >= least && age <= most.as_secs(),
        "{least} {age} {most:?}"
    );
    enriched.set_table(&table(2));
    enriched.until_version(2);
    wait_until("they are read every second again", PATIENCE, || {
        age_s() <= 1
    });
    assert_eq!(
        counted(&loader, &listen, "headwater_loader_table_reloads_total"),
        1
    );

    // A batch is begun with version 2 and cannot be stored; then the loader is killed.
    s3.fault(Fault::on(Op::Put, Kind::Http503).for_keys_with("data/all/"));
    enriched.produce(20);
    wait_until("a batch is begun", PATIENCE, || s3.faults_met() > 0);
    loader.kill9();
    let committed = kafka.committed(enriched.loading.group(), &enriched.loading.topic);
    assert!(committed[0].metadata.contains("\"e\":"), "{committed:?}");
    // Each line is a record, so that the batch's first offset is the number of its first line.
    let begun = committed[0].offset.expect("batches were committed");
    let begun = &enriched.written[usize::try_from(begun).expect("a few records")].clone();
    s3.clear_faults();
    enriched.set_table(&table(3));
    enriched.produce(20);
    let loader = enriched.loading.loader(&config).start();
    enriched.until_version(3);
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));

    each_batch_has_one_version(&enriched, begun);
    enriched
        .loading
        .report(enriched.written.clone())
        .assert_exact();
    enriched.loading.assert_proven();
    at_a_start_a_broken_table_is_refused(&enriched);
}
