//! Promise 2 for what a VRL program makes: a row, a record that the program aborts and one that it fails
//! on each come out once, with the batch's own clock and table, also where a batch is made again after a
//! kill and the table has changed meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine;
use headwater_tests::device::Device;
use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::{CLASSIC, KIP_848, Loading};
use headwater_tests::oracle::{Report, Stored, decompress, wait_until};
use headwater_tests::s3::{Fault, Kind, Op, S3};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A table's version is seen in each row; `now()` too, and where the record lies. The third kind of line
/// has no number, and the program does not say what then.
const PROGRAM: &str = r#"
    line = string!(.message)
    if starts_with(line, "debug") { abort }
    .n = to_int!(parse_regex!(line, r'^line (?P<n>\d+)$').n)
    .version = lookup("sites", .device).version
    .seen = now()
    .offset = %hw.offset
    del(.source)
"#;

struct Programs<'a> {
    loading: Loading<'a>,
    device: Device,
    /// Lines that become rows, and records that become dead letters.
    rows: Vec<String>,
    failing: Vec<Vec<u8>>,
    /// What lies in each offset of the topic.
    sent: Vec<Record>,
}

/// A stored object: of which versions of the table and which clocks its rows are, and where they lie.
struct Object {
    versions: BTreeSet<u64>,
    clocks: BTreeSet<String>,
    offsets: Vec<u64>,
}

impl Programs<'_> {
    fn set_table(&self, version: u64) {
        let Loading { s3, bucket, .. } = &self.loading;
        let table = format!("device,version\npi-7,{version}\n");
        s3.put(bucket, "tables/sites.csv", table);
    }

    fn config(&self) -> String {
        format!(
            r#"
            path = "all"
            [flush]
            age = "200ms"
            records = 40
            [tables]
            reload = "1s"
            [[transform]]
            step = "vrl"
            source = '''{PROGRAM}'''
            [transform.tables.sites]
            table = "s3://{}/tables/sites.csv"
            column = "device"
            "#,
            self.loading.bucket
        )
    }

    /// Sends `n` of each kind, and every fifth line twice, as a device does that had no answer.
    fn produce(&mut self, n: usize) {
        let from = self.sent.len();
        for _ in 0..n {
            let number = self.rows.len();
            let row = format!("line {number}");
            let record = self.device.line(&row);
            if number.is_multiple_of(5) {
                self.sent.push(record.clone());
            }
            self.sent.push(record);
            self.rows.push(row);
            self.sent.push(self.device.line(&format!("debug {number}")));
            let broken = self.device.line(&format!("broken {number}"));
            self.failing.push(broken.value.clone());
            self.sent.push(broken);
        }
        let Loading { kafka, topic, .. } = &self.loading;
        kafka.produce(topic, self.sent[from..].to_vec());
    }

    fn texts(&self, prefix: &str) -> Vec<(String, Vec<Value>)> {
        let objects = self.loading.s3.objects(&self.loading.bucket, prefix);
        let read = objects.into_iter().map(|(key, bytes)| {
            let text = String::from_utf8(decompress(&key, &bytes)).expect("rows are text");
            let rows = text
                .lines()
                .map(|line| serde_json::from_str(line).expect("JSON"));
            let rows = rows.collect();
            (key, rows)
        });
        read.collect()
    }

    fn objects(&self) -> Vec<Object> {
        let objects = self.texts("data/all/").into_iter().map(|(_, rows)| Object {
            versions: rows.iter().filter_map(version).collect(),
            clocks: rows.iter().map(|r| text(r, "seen")).collect(),
            offsets: rows.iter().filter_map(|r| r["offset"].as_u64()).collect(),
        });
        objects.collect()
    }

    fn until_version(&mut self, version: u64) {
        wait_until("the table's new version is used", PATIENCE, || {
            self.produce(2);
            std::thread::sleep(Duration::from_millis(100));
            let objects = self.objects();
            objects.iter().any(|o| o.versions.contains(&version))
        });
    }

    /// The dead letters' records, and that each says what a person needs.
    fn dead_letters(&self) -> Vec<Vec<u8>> {
        let letters = self.texts("data/_dead_letters/").into_iter();
        let mut values: Vec<Vec<u8>> = letters
            .flat_map(|(_, letters)| letters)
            .map(|letter| {
                assert_eq!(letter["step"], "1 (vrl)", "{letter}");
                let reason = text(&letter, "reason");
                assert!(
                    reason.contains("could not find any pattern matches"),
                    "{letter}"
                );
                let value =
                    base64::engine::general_purpose::STANDARD.decode(text(&letter, "value_base64"));
                value.expect("base64")
            })
            .collect();
        values.sort();
        values
    }

    /// Rows, dead letters and nothing else; each row's number and place are its own record's.
    fn assert_each_once(&mut self) {
        let mut stored = Vec::new();
        for (object, rows) in self.texts("data/all/") {
            for row in rows {
                let message = text(&row, "message");
                assert_eq!(message, format!("line {}", row["n"]), "{row}");
                assert!(row.get("source").is_none(), "{row}");
                let offset = usize::try_from(row["offset"].as_u64().expect("an offset"));
                let sent = &self.sent[offset.expect("a few records")].value;
                let sent: Value = serde_json::from_slice(sent).expect("JSON");
                assert_eq!(sent["message"], message.as_str(), "{row}");
                let object = object.clone();
                stored.push(Stored { message, object });
            }
        }
        Report::compare(self.rows.clone(), &stored).assert_exact();
        self.failing.sort();
        assert_eq!(self.dead_letters(), self.failing);
        self.loading.assert_proven();
    }
}

fn text(value: &Value, name: &str) -> String {
    let text = value[name].as_str();
    text.unwrap_or_else(|| panic!("no text {name} in {value}"))
        .to_owned()
}

fn version(row: &Value) -> Option<u64> {
    // CSV has texts alone.
    row["version"].as_str()?.parse().ok()
}

/// Unix milliseconds of a time as rows have it.
fn millis(text: &str) -> u64 {
    let time: jiff::Timestamp = text.parse().expect("RFC 3339");
    u64::try_from(time.as_millisecond()).expect("after 1970")
}

/// Starts a batch that cannot be stored, and kills the loader there. Returns where the batch begins and
/// its clock, as the group has them.
fn begin_and_kill(programs: &mut Programs<'_>) -> (u64, u64) {
    let loader = programs.loading.loader(&programs.config()).start();
    programs.until_version(1);
    let Loading { kafka, s3, .. } = programs.loading;
    s3.fault(Fault::on(Op::Put, Kind::Http503).for_keys_with("data/all/"));
    programs.produce(20);
    wait_until("a batch is begun", PATIENCE, || s3.faults_met() > 0);
    loader.kill9();
    s3.clear_faults();
    let committed = kafka.committed(programs.loading.group(), &programs.loading.topic);
    let intent: Value = serde_json::from_str(&committed[0].metadata).expect("JSON");
    assert!(intent["e"].is_u64(), "{intent}");
    let clock = intent["t"].as_u64().expect("a batch clock");
    let begins = committed[0].offset.expect("batches before it");
    (u64::try_from(begins).expect("an offset"), clock)
}

#[test]
fn through_kills_and_a_changed_table() {
    kills_and_a_changed_table(CLASSIC);
}

#[test]
fn through_kills_and_a_changed_table_when_the_broker_assigns() {
    kills_and_a_changed_table(KIP_848);
}

fn kills_and_a_changed_table(group: &str) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let mut programs = Programs {
        loading: Loading::new(kafka, &s3, "programs", 1).of(group),
        device: Device::new("pi-7", "/var/log/app", 7),
        rows: Vec::new(),
        failing: Vec::new(),
        sent: Vec::new(),
    };
    programs.set_table(1);
    let (begins, clock) = begin_and_kill(&mut programs);
    programs.set_table(2);
    // It is made again, and killed on the way, once and again.
    for point in ["object-under-way", "object-stored", "snapshot-stored"] {
        let loader = programs.loading.loader(&programs.config());
        let status = loader.crash_at(point).start().wait(PATIENCE);
        assert_eq!(status.code(), None, "{point} was never reached");
    }
    let loader = programs.loading.loader(&programs.config()).start();
    programs.until_version(2);
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));

    let mut again = 0;
    for object in programs.objects() {
        let (first, last) = (object.offsets.first(), object.offsets.last());
        let place = format!("{first:?} to {last:?}");
        assert_eq!(object.versions.len(), 1, "{place}: {:?}", object.versions);
        assert_eq!(object.clocks.len(), 1, "{place}: {:?}", object.clocks);
        let seen = millis(object.clocks.first().expect("one"));
        if (begins..begins + 3).any(|offset| object.offsets.contains(&offset)) {
            assert_eq!(object.versions, BTreeSet::from([1]), "{place}");
            assert_eq!(seen, clock, "{place}: `now()` is not the batch clock");
            again += 1;
        }
    }
    assert_eq!(again, 1, "the batch that was made again");
    programs.assert_each_once();
}
