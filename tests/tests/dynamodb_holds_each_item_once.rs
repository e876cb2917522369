//! Items beside objects, under one boundary, on servers that other people wrote (moto, MiniStack) and
//! behind faults: the loader is killed between every two of its steps and comes back as a zombie, and the
//! tables hold exactly what the records say.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use headwater_tests::device::Device;
use headwater_tests::dynamodb::{Asked, Tables};
use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::lambda::{Lambda, Outcome, event};
use headwater_tests::loading::{Loading, metric, page};
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::{free_address, unique};
use headwater_tests::process::Loader;
use headwater_tests::s3::{Peer, S3};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(120);

/// Devices whose readings come in any order of their times, now and then twice.
struct Fleet {
    devices: Vec<(String, Device)>,
    /// The readings: device, time, number.
    sent: Vec<(String, String, u64)>,
}

impl Fleet {
    fn new(n: usize) -> Self {
        let device = |i: usize| {
            let id = format!("device-{i}");
            let device = Device::new(&id, "temperature", 7 + i as u64);
            (id, device)
        };
        Self {
            devices: (0..n).map(device).collect(),
            sent: Vec::new(),
        }
    }

    fn readings(&mut self, n: u64) -> Vec<Record> {
        let mut records = Vec::new();
        for round in 0..n {
            for (id, device) in &mut self.devices {
                let number = self.sent.len() as u64;
                let time = format!(
                    "2020-01-01T00:{:02}:{:02}Z",
                    number / 60 % 60,
                    number * 37 % 60
                );
                let value = json!({ "device": id, "time": time, "n": number, "on": true });
                // Digits that no binary number has.
                let value = value
                    .to_string()
                    .replace('}', ",\"exact\":0.10000000000000000000000000000000000001}");
                records.push(device.reading(value.clone()));
                if round % 5 == 4 {
                    device.seek(device.offset() - 1);
                    records.push(device.reading(value));
                }
                self.sent.push((id.clone(), time, number));
            }
        }
        records
    }

    /// Of each device the number of the reading with the latest time, the last of those.
    fn latest(&self) -> BTreeMap<String, u64> {
        let mut latest: BTreeMap<String, (String, u64)> = BTreeMap::new();
        for (device, time, number) in &self.sent {
            let of_device = latest.entry(device.clone()).or_default();
            *of_device = of_device.clone().max((time.clone(), *number));
        }
        latest
            .into_iter()
            .map(|(device, (_, number))| (device, number))
            .collect()
    }
}

/// `output.dynamodb` with both kinds of tables.
fn section(tables: &Tables<'_>, flush: &str) -> String {
    format!(
        r#"
        [output.dynamodb]
        endpoint = "{}"
        region = "us-east-1"
        timeout = "5s"
        [[output.dynamodb.table]]
        name = "devices"
        mode = "latest"
        partition_key = {{ name = "device", value = "{{device}}" }}
        ttl = {{ name = "gone", after = "30days" }}
        [[output.dynamodb.table]]
        name = "readings"
        mode = "append"
        partition_key = {{ name = "of", value = "{{hw-stream}}" }}
        sort_key = {{ name = "at", value = "{{time}}" }}
        [flush]
        {flush}
        "#,
        tables.endpoint()
    )
}

fn number(item: &serde_json::Map<String, Value>) -> u64 {
    let text = item["n"]["N"].as_str().expect("n is a number");
    text.parse().expect("a whole one")
}

fn text<'a>(item: &'a serde_json::Map<String, Value>, name: &str) -> &'a str {
    item[name]["S"].as_str().expect("a text")
}

fn assert_exact(tables: &Tables<'_>, fleet: &Fleet) {
    let readings = tables.scan("readings");
    let mut numbers: Vec<u64> = readings.iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..fleet.sent.len() as u64).collect::<Vec<_>>());
    for item in &readings {
        let (device, time, _) = &fleet.sent[usize::try_from(number(item)).expect("a place")];
        assert_eq!(item["of"]["S"], format!("{device}/app/temperature"));
        assert_eq!(item["device"]["S"], **device);
        assert!(text(item, "at").starts_with(time));
        assert_eq!(item["on"]["BOOL"], true);
        assert_eq!(
            item["exact"]["N"],
            "0.10000000000000000000000000000000000001"
        );
    }
    let devices = tables.scan("devices");
    let held: BTreeMap<String, u64> = devices
        .iter()
        .map(|item| (text(item, "device").to_owned(), number(item)))
        .collect();
    assert_eq!(held, fleet.latest());
    assert!(devices.iter().all(|item| item["gone"]["N"].is_string()));
}

/// What a loader says of its requests: by operation and what came of them, and of items.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    requests: BTreeMap<(String, String), u64>,
    /// Put, put already, left undone.
    items: [u64; 3],
    /// Requests that met a capacity, and that were refused.
    troubles: [u64; 2],
}

impl Counted {
    /// As the proxy before the tables saw it.
    fn seen(asked: &[Asked]) -> Self {
        let mut seen = Self::default();
        for asked in asked {
            let outcome = match (asked.status, asked.kind.as_str()) {
                (0, _) => "no_answer",
                (200, _) => "ok",
                (500, _) => "server_error",
                (_, "ProvisionedThroughputExceededException") => "slow_down",
                (_, "ConditionalCheckFailedException") => "condition_failed",
                (_, "ResourceNotFoundException") => "not_found",
                other => panic!("{asked:?} came to {other:?}"),
            };
            let of = (asked.operation.clone(), outcome.to_owned());
            *seen.requests.entry(of).or_default() += 1;
            let [written, superseded, undone] = &mut seen.items;
            let [throttled, refused] = &mut seen.troubles;
            match outcome {
                "ok" => *written += asked.items - asked.left,
                "condition_failed" => *superseded += 1,
                "slow_down" => *throttled += 1,
                "not_found" => *refused += 1,
                _ => {}
            }
            *undone += asked.left;
        }
        seen
    }

    /// As its page of metrics has it.
    fn told(listen: &str) -> Self {
        let (_, text) = page(listen, "/metrics").unwrap_or_default();
        let requests = text.lines().filter_map(|line| {
            let labels = line.strip_prefix("headwater_loader_requests_total{sink=\"dynamodb\",")?;
            let quoted: Vec<&str> = labels.split('"').collect();
            let [_, operation, _, outcome, count] = quoted.as_slice() else {
                return None;
            };
            let count = count.strip_prefix("} ")?.parse().ok()?;
            Some((((*operation).to_owned(), (*outcome).to_owned()), count))
        });
        let of = |name: &str| metric(listen, &format!("headwater_loader_{name}")).unwrap_or(0);
        let outcome = |outcome: &str| of(&format!("items_total{{outcome=\"{outcome}\"}}"));
        Self {
            requests: requests.collect(),
            items: [
                outcome("written"),
                outcome("superseded"),
                of("items_unprocessed_total"),
            ],
            troubles: [of("items_throttled_total"), of("items_refused_total")],
        }
    }

    /// How many requests came to one of these.
    fn came_to(&self, outcomes: &[&str]) -> u64 {
        let of = self.requests.iter();
        let of = of.filter(|((_, outcome), _)| outcomes.contains(&outcome.as_str()));
        of.map(|(_, count)| count).sum()
    }
}

fn killed_at_any_point(s3: &S3, tables: &Tables<'_>) {
    let kafka = Kafka::shared();
    tables.create("devices", &["device"]);
    tables.create("readings", &["of", "at"]);
    let loading = Loading::new(kafka, s3, "items", 2);
    let mut fleet = Fleet::new(4);
    let config = section(tables, "age = \"300ms\"\nrecords = 60\n");
    for point in [
        "intent-committed",
        "batch-stored",
        "item-written",
        "item-written:4",
        "items-written",
        "snapshot-stored",
        "before-done",
        "done-committed",
    ] {
        kafka.produce(&loading.topic, fleet.readings(15));
        let status = loading
            .loader(&config)
            .crash_at(point)
            .start()
            .wait(PATIENCE);
        assert_eq!(status.code(), None, "{point} was never reached");
    }
    let last = loading.loader(&config).start();
    wait_until("all is stored", PATIENCE, || {
        tables.scan("readings").len() == fleet.sent.len()
    });
    assert_eq!(last.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_exact(tables, &fleet);
    loading.assert_proven();
    for kind in ["throttled", "lost", "error", "part"] {
        assert!(tables.faults(kind) > 0, "no {kind} was met");
    }
}

#[test]
fn moto_holds_each_item_once() {
    let s3 = S3::start_peer(Peer::Moto);
    killed_at_any_point(&s3, &Tables::behind_faults(&s3));
}

#[test]
fn ministack_holds_each_item_once() {
    let s3 = S3::start_peer(Peer::MiniStack);
    killed_at_any_point(&s3, &Tables::behind_faults(&s3));
}

#[test]
#[ignore = "its licence wants an AWS account of yours: make test DYNAMODB_LOCAL=accepted"]
fn dynamodb_local_holds_each_item_once() {
    let s3 = S3::start();
    killed_at_any_point(&s3, &Tables::on_dynamodb_local(&s3));
}

#[test]
fn a_zombie_changes_no_item() {
    let (kafka, s3) = (Kafka::shared(), S3::start_peer(Peer::MiniStack));
    let tables = Tables::behind_faults(&s3);
    tables.create("devices", &["device"]);
    tables.create("readings", &["of", "at"]);
    let loading = Loading::new(kafka, &s3, "items-zombie", 2);
    let mut fleet = Fleet::new(4);
    let config = section(&tables, "age = \"300ms\"\nrecords = 60\n");
    let complete = |fleet: &Fleet| tables.scan("readings").len() == fleet.sent.len();
    kafka.produce(&loading.topic, fleet.readings(15));
    let first = loading.loader(&config).start();
    wait_until("the first is at work", PATIENCE, || complete(&fleet));
    let second = loading.loader(&config).start();
    for round in 0..4 {
        kafka.produce(&loading.topic, fleet.readings(60));
        // Somewhere in its batch; it sleeps past its session, and the other takes over.
        sleep(Duration::from_millis(500 + 230 * round));
        first.pause();
        kafka.produce(&loading.topic, fleet.readings(15));
        wait_until("the other has taken over", PATIENCE, || complete(&fleet));
        first.resume();
        sleep(Duration::from_secs(2));
        assert_exact(&tables, &fleet);
    }
    assert_eq!(second.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(first.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_exact(&tables, &fleet);
    loading.assert_proven();
}

/// What DynamoDB would not take is a dead letter once, and nothing of it is in a table; a table with
/// another key is refused before the first record.
#[test]
fn what_makes_no_item_is_a_dead_letter() {
    let (kafka, s3) = (Kafka::shared(), S3::start_peer(Peer::Moto));
    let tables = Tables::behind_faults(&s3);
    tables.create("devices", &["another"]);
    tables.create("readings", &["of", "at"]);
    let loading = Loading::new(kafka, &s3, "items-refused", 1);
    let config = section(&tables, "age = \"300ms\"\n");
    let refused = loading.loader(&config).run("run", &[]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("its HASH key is \"another\""),
        "{}",
        refused.stderr
    );
    let config = config.replace("\"devices\"", "\"by-device\"");
    let refused = loading.loader(&config).run("run", &[]);
    assert!(
        refused.stderr.contains("there is none of that name"),
        "{}",
        refused.stderr
    );
    tables.create("by-device", &["device"]);
    let mut device = Device::new("pi", "temperature", 7);
    let large = format!(
        r#"{{"device":"pi","time":"2020-01-01T00:00:01Z","x":"{}"}}"#,
        "x".repeat(410_000)
    );
    let values = [
        r#"{"time":"2020-01-01T00:00:00Z","n":1}"#,
        large.as_str(),
        r#"{"device":"pi","time":"2020-01-01T00:00:00Z","n":0}"#,
    ];
    kafka.produce(&loading.topic, values.map(|value| device.reading(value)));
    let loader = loading.loader(&config).start();
    wait_until("all is stored", PATIENCE, || {
        !tables.scan("by-device").is_empty()
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(tables.scan("readings").len(), 1);
    assert_eq!(tables.scan("by-device").len(), 1);
    let letters = loading.loader(&config).run("dlq list", &[]);
    assert!(
        letters.stdout.contains("its key needs device"),
        "{}",
        letters.stdout
    );
    assert!(
        letters.stdout.contains("409600 are the most"),
        "{}",
        letters.stdout
    );
}

/// Somebody removes a table: which one is missing is said, and what waits is written once it is there again.
#[test]
fn a_table_that_is_gone_is_told_until_it_is_there_again() {
    let (kafka, s3) = (Kafka::shared(), S3::start_peer(Peer::Moto));
    let tables = Tables::behind_faults(&s3);
    tables.create("devices", &["device"]);
    tables.create("readings", &["of", "at"]);
    let loading = Loading::new(kafka, &s3, "items-gone", 2);
    let listen = free_address();
    let http = format!("[http]\nlisten = \"{listen}\"\n");
    let config = section(&tables, "age = \"300ms\"\n") + &http;
    let mut fleet = Fleet::new(4);
    kafka.produce(&loading.topic, fleet.readings(5));
    let loader = loading.loader(&config).start();
    let all_is_there = |fleet: &Fleet| tables.scan("readings").len() == fleet.sent.len();
    wait_until("all is stored", PATIENCE, || all_is_there(&fleet));
    tables.remove("devices");
    kafka.produce(&loading.topic, fleet.readings(5));
    let reason = "cannot write to table devices: there is none of that name";
    wait_until("it says what it waits for", PATIENCE, || {
        let says = |path: &str| page(&listen, path).filter(|(_, said)| said.contains(reason));
        let number = |name: &str| metric(&listen, &format!("headwater_loader_{name}"));
        says("/readyz").is_some_and(|(status, _)| status == 503)
            && says("/status.json").is_some()
            && number("partitions_waiting") > Some(0)
            && number("items_refused_total") > Some(0)
    });
    tables.create("devices", &["device"]);
    wait_until("all is stored, and it is ready", PATIENCE, || {
        page(&listen, "/readyz") == Some((200, "ready\n".to_owned())) && all_is_there(&fleet)
    });
    // Whoever sees an item may be faster than the count of it.
    wait_until(
        "each request is counted as the tables saw it",
        PATIENCE,
        || Counted::told(&listen) == Counted::seen(&tables.requests()),
    );
    let counted = Counted::told(&listen);
    for outcome in ["ok", "no_answer", "server_error", "slow_down", "not_found"] {
        assert!(counted.came_to(&[outcome]) > 0, "{outcome}: {counted:?}");
    }
    assert!(counted.items[0] > 0, "{counted:?}");
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.assert_proven();
}

/// What CloudWatch gets of three invocations: a line for each, and together what the tables saw.
fn assert_told(lines: &str, seen: &Counted) {
    // A line for each invocation: the repeat of what is there puts nothing.
    let told: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of metrics"))
        .collect();
    let number = |line: &Value, name: &str| line[name].as_u64().expect("a number");
    let rows: Vec<(u64, u64)> = told
        .iter()
        .map(|line| (number(line, "items_written"), number(line, "rows")))
        .collect();
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert!(rows[1].0 >= rows[1].1 && rows[1].1 > 0, "{rows:?}");
    assert_eq!(rows[2], (0, 0), "{rows:?}");
    // Together they tell what the tables saw.
    let sum = |name: &str| told.iter().map(|line| number(line, name)).sum::<u64>();
    let requests = seen.requests.values().sum::<u64>();
    let failed = seen.came_to(&["no_answer", "server_error", "slow_down"]);
    for (name, expected) in [
        ("dynamodb_requests", requests),
        ("dynamodb_requests_failed", failed),
        ("dynamodb_requests_slowed", seen.came_to(&["slow_down"])),
        ("items_written", seen.items[0]),
        ("items_superseded", seen.items[1]),
        ("items_unprocessed", seen.items[2]),
        ("items_throttled", seen.troubles[0]),
    ] {
        assert_eq!(sum(name), expected, "{name}: {told:?} {seen:?}");
    }
    assert!(failed > 0 && seen.troubles[0] > 0, "{seen:?}");
}

/// As a function: cut off anywhere, and handed a part of the same records again, or more of them.
#[test]
fn a_function_puts_each_item_once() {
    let s3 = S3::start_peer(Peer::MiniStack);
    let tables = Tables::behind_faults(&s3);
    tables.create("devices", &["device"]);
    tables.create("readings", &["of", "at"]);
    let lambda = Lambda::start();
    let bucket = s3.bucket(&unique("items-lambda"));
    let config = format!(
        r#"
        [kafka]
        brokers = ["not-asked:9098"]
        topic = "logs"
        [kafka.security]
        allow_plaintext = true
        [group]
        id = "not-used"
        [output]
        url = "s3://{bucket}/data"
        endpoint = "{}"
        region = "{}"
        path_style = true
        {}
        [emf]
        namespace = "headwater"
        "#,
        s3.endpoint(),
        s3.region(),
        section(&tables, "")
    );
    let function = || Loader::with(&config).envs(s3.env()).envs(lambda.env());
    let mut fleet = Fleet::new(2);
    let mut records = fleet.readings(70);
    for record in &mut records {
        record.partition = 0;
    }
    let handed = |to: usize| event("logs", (0..).zip(&records[..to]));
    for (at, point) in [
        "intent-committed",
        "batch-stored",
        "item-written",
        "items-written",
        "snapshot-stored",
        "before-done",
    ]
    .into_iter()
    .enumerate()
    {
        // Whoever comes finishes what was decided, and decides a batch of its own.
        let killed = function().crash_at(point).start_as("lambda");
        let outcome = lambda.invoke(&killed, &handed(20 * (at + 1)), PATIENCE);
        assert_eq!(outcome, Outcome::Gone, "{point}");
    }
    // What those asked that were killed has been answered.
    sleep(Duration::from_millis(500));
    let before = tables.requests().len();
    let last = function().start_as("lambda");
    for to in [100, records.len(), 40] {
        let outcome = lambda.invoke(&last, &handed(to), PATIENCE);
        assert!(matches!(outcome, Outcome::Answered(_)), "{outcome:?}");
    }
    let seen = Counted::seen(&tables.requests()[before..]);
    assert_told(&last.stdout(), &seen);
    assert_exact(&tables, &fleet);
}
