//! `[accounts]`: that an hour is said to be complete once all of it is stored, by every partition, and that
//! each record is in one account of its device's day, though the loader is killed between any two of its
//! steps and the clock of the machine that comes next is behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use headwater_record::{Kind, Notice};
use headwater_tests::device::Device;
use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::{CLASSIC, KIP_848};
use headwater_tests::oracle::{decompress, stored_in_folder, wait_until};
use headwater_tests::outside::unique;
use headwater_tests::process::{Loader, Setup};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 3;
const HOUR: i64 = 3600;

const CONFIG: &str = r#"
    [kafka]
    brokers = @brokers
    topic = "@topic"
    [kafka.security]
    allow_plaintext = true
    [group]
    id = "@topic"
    @group
    [output]
    url = "file://@out"
    path = "hour={ingest:%Y-%m-%dT%H}"
    [flush]
    age = "500ms"
    records = 25
    [accounts]
    hourly_markers = true
    daily = "device"
"#;

/// Two devices, each of which sends some again, and of one a part is lost with a notice.
struct Devices {
    list: Vec<Device>,
    sent: u64,
    repeated: u64,
    notices: u64,
}

impl Devices {
    fn new() -> Self {
        let list = ["pi-0", "pi-1"].map(|id| Device::new(id, "/sys/temp", 7));
        Self {
            list: list.into(),
            sent: 0,
            repeated: 0,
            notices: 0,
        }
    }

    fn records(&mut self, each: u64) -> Vec<Record> {
        let mut records = Vec::new();
        for device in &mut self.list {
            for n in 0..each {
                let record = device.line("21.5 degrees");
                self.sent += 1;
                if n % 4 == 0 {
                    records.push(record.clone());
                    self.repeated += 1;
                }
                records.push(record);
            }
        }
        let lost = Notice::Loss {
            reason: "spool-full".into(),
            records: None,
        };
        records.push(self.list[0].notice(100, Kind::Loss, &lost));
        self.notices += 1;
        records
    }

    fn all(&self) -> u64 {
        self.sent + self.repeated + self.notices
    }
}

/// Files below a folder by their names, in order; their bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        // What is not there yet holds nothing.
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                open.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                files.insert(path.display().to_string(), bytes);
            }
        }
    }
    files
}

fn said(out: &Path, kind: &str) -> Vec<Value> {
    let files = files(&out.join("_headwater").join(kind));
    let whole = files
        .into_iter()
        .filter(|(name, _)| name.ends_with(".json"));
    let read = |(_, bytes): (String, Vec<u8>)| serde_json::from_slice(&bytes).expect("it is JSON");
    whole.map(read).collect()
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().expect("it is a whole number")
}

/// Hours that all partitions have said to be complete, by their names.
fn complete(out: &Path) -> BTreeSet<String> {
    let mut by_hour: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for marker in said(out, "complete") {
        let hour = marker["hour"].as_str().expect("an hour").to_owned();
        by_hour
            .entry(hour)
            .or_default()
            .insert(number(&marker, "partition"));
    }
    let whole = by_hour.into_iter().filter(|(_, of)| of.len() == 3);
    whole.map(|(hour, _)| hour).collect()
}

/// What every marker says is there, and nothing else is; and markers of a partition tile.
fn assert_true(out: &Path) -> u64 {
    let markers = said(out, "complete");
    let mut rows: BTreeMap<(String, u64), u64> = BTreeMap::new();
    for (key, bytes) in files(out) {
        let Some((_, name)) = key
            .split_once("/hour=")
            .filter(|(_, name)| name.contains('+'))
        else {
            continue;
        };
        let (hour, file) = name.split_once('/').expect("a folder and a file");
        let partition = file.split('+').nth(1).and_then(|text| text.parse().ok());
        let partition = partition.expect("our name");
        let text = String::from_utf8(decompress(&key, &bytes)).expect("rows are text");
        *rows.entry((hour.to_owned(), partition)).or_default() += text.lines().count() as u64;
    }
    let mut ends: BTreeMap<u64, (u64, String)> = BTreeMap::new();
    let mut records = 0;
    for marker in &markers {
        let (hour, partition) = (
            marker["hour"].as_str().expect("an hour"),
            number(marker, "partition"),
        );
        let there = rows.get(&(hour[..13].to_owned(), partition)).copied();
        assert_eq!(there.unwrap_or(0), number(marker, "rows"), "{marker}");
        let before = ends.insert(partition, (number(marker, "to"), hour.to_owned()));
        let (from, previous) = before.unwrap_or_default();
        assert_eq!(number(marker, "from"), from, "{marker}");
        assert_eq!(
            marker["previous"].as_str().unwrap_or_default(),
            previous,
            "{marker}"
        );
        records += number(marker, "records");
    }
    records
}

/// Each record is in one hour and in one account.
fn assert_accounts(out: &Path, devices: &Devices) {
    assert_eq!(assert_true(out), devices.all());
    let accounts = said(out, "account");
    let of = |name: &str| {
        accounts
            .iter()
            .map(|account| number(account, name))
            .sum::<u64>()
    };
    assert_eq!(of("records"), devices.sent);
    assert_eq!(of("written"), devices.sent);
    assert_eq!(of("duplicates"), devices.repeated);
    assert_eq!(of("notices"), devices.notices);
    let lost = accounts
        .iter()
        .filter_map(|account| account["gaps"]["lost"]["spool-full"].as_u64());
    assert_eq!(lost.sum::<u64>(), 100 * devices.notices);
}

/// The machine that comes next is two hours behind; two days later nothing comes any more, and all that came is
/// told.
fn end(
    out: &Path,
    loader: &impl Fn() -> Setup,
    set: &impl Fn(i64),
    (hours, devices): (i64, &Devices),
) {
    let one = loader().start();
    wait_until("what came to it is stored", PATIENCE, || {
        stored_in_folder(out).len() as u64 == devices.sent
    });
    assert!(one.stderr().contains("is ahead of this machine's clock"));
    // Of a folder in which nothing moves.
    one.pause();
    let before = complete(out);
    assert_true(out);
    one.resume();
    let two = loader().start();
    set(hours + 48);
    wait_until("all hours are complete", PATIENCE, || {
        complete(out).len() >= before.len() + 46
    });
    wait_until("the accounts are there", PATIENCE, || {
        let accounts = said(out, "account");
        let of = |name| {
            accounts
                .iter()
                .map(|account| number(account, name))
                .sum::<u64>()
        };
        of("records") + of("duplicates") + of("notices") >= devices.all()
    });
    for loader in [&one, &two] {
        assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
        assert!(
            !loader.stderr().contains("another lineage"),
            "{}",
            loader.stderr()
        );
    }
}

#[test]
fn through_kills_and_a_clock_that_steps() {
    kills_and_a_clock(CLASSIC);
}

#[test]
fn through_kills_and_a_clock_that_steps_when_the_broker_assigns() {
    kills_and_a_clock(KIP_848);
}

fn kills_and_a_clock(group: &str) {
    let kafka = Kafka::shared();
    let topic = unique("hours");
    kafka.create_topic(&topic, PARTITIONS, &[]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = &folder.path().join("out");
    fs::create_dir(out).expect("a folder can be made");
    let config = CONFIG
        .replace("@brokers", &kafka.brokers())
        .replace("@topic", &topic)
        .replace("@group", group)
        .replace("@out", &out.display().to_string());
    let clock = folder.path().join("clock");
    let set = |hours: i64| {
        // A reader must never see half of it.
        let fresh = clock.with_extension("new");
        fs::write(&fresh, format!("{}\n", hours * HOUR)).expect("a file can be written");
        fs::rename(&fresh, &clock).expect("a file can be renamed");
    };
    let loader = || -> Setup {
        Loader::with(&config).env("HEADWATER_TEST_CLOCK", &clock.display().to_string())
    };
    let mut devices = Devices::new();
    let mut hours = 0;
    set(hours);
    kafka.produce(&topic, devices.records(40));
    let first = loader().start();
    wait_until("the first records are stored", PATIENCE, || {
        stored_in_folder(out).len() as u64 == devices.sent
    });
    wait_until("every partition has begun its books", PATIENCE, || {
        let state = out.join("_headwater/state").join(&topic);
        (0..PARTITIONS).all(|partition| !files(&state.join(partition.to_string())).is_empty())
    });
    assert_eq!(first.sigterm_and_wait(PATIENCE).code(), Some(0));
    for point in [
        "before-publish",
        "publish-under-way",
        "published",
        "before-intent",
        "intent-committed",
        "batch-stored",
        "snapshot-stored",
        "before-done",
        "done-committed",
        "published:3",
    ] {
        hours += 1;
        set(hours);
        kafka.produce(&topic, devices.records(10));
        let killed = loader().crash_at(point).start();
        let status = killed.wait(PATIENCE);
        let said = killed.stderr();
        assert_eq!(status.code(), None, "{point} was never reached: {said}");
        assert_true(out);
    }
    set(hours - 2);
    kafka.produce(&topic, devices.records(10));
    end(out, &loader, &set, (hours, &devices));
    assert_accounts(out, &devices);
    for command in ["audit", "verify"] {
        let proof = loader().run(command, &[]);
        assert_eq!(
            proof.code,
            Some(0),
            "{command}: {} {}",
            proof.stdout,
            proof.stderr
        );
    }
}
