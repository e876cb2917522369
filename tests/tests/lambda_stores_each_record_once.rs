//! Promises 1 to 3 behind a Kafka trigger of AWS Lambda, which hands records over at least once, again
//! after a failure, cut shorter, in halves, and to an invocation that was taken for dead.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use headwater_tests::device::Device;
use headwater_tests::kafka::Record;
use headwater_tests::lambda::{Lambda, Outcome, event};
use headwater_tests::oracle::{Report, stored, wait_until};
use headwater_tests::outside::unique;
use headwater_tests::process::{Loader, Process, Setup};
use headwater_tests::s3::{Bytes, Fault, Kind, Op, S3};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(20);
const TOPIC: &str = "logs";

/// A bucket, and a topic's records.
struct Rig {
    s3: S3,
    bucket: String,
    /// Of each partition, in the order of their offsets.
    records: [Vec<Record>; 2],
    lines: Vec<String>,
}

impl Rig {
    /// Records of two devices, one a partition, some of them sent twice.
    fn new(lines: usize) -> Self {
        let s3 = S3::start();
        let bucket = s3.bucket(&unique("lambda"));
        let mut written = Vec::new();
        let records = [0, 1].map(|partition| {
            let mut device = Device::new(&format!("pi-{partition}"), "/var/log/app", 7);
            let mut records = Vec::new();
            for n in 0..lines {
                let line = format!("line {n:04} of {partition}");
                let before = device.offset();
                records.push(device.line(&line));
                if n % 7 == 3 {
                    let after = device.offset();
                    device.seek(before);
                    records.push(device.line(&line));
                    assert_eq!(device.offset(), after);
                }
                written.push(line);
            }
            for record in &mut records {
                record.partition = partition;
            }
            records
        });
        Self {
            s3,
            bucket,
            records,
            lines: written,
        }
    }

    fn config(&self, more: &str) -> String {
        format!(
            r#"
            [kafka]
            brokers = ["not-asked:9098"]
            topic = "{TOPIC}"
            [kafka.security]
            allow_plaintext = true
            [group]
            id = "not-used"
            [output]
            url = "s3://{}/data"
            endpoint = "{}"
            region = "{}"
            path_style = true
            {more}"#,
            self.bucket,
            self.s3.endpoint(),
            self.s3.region()
        )
    }

    fn setup(&self, more: &str) -> Setup {
        Loader::with(&self.config(more)).envs(self.s3.env())
    }

    fn function(&self, lambda: &Lambda, more: &str) -> Setup {
        self.setup(more).envs(lambda.env())
    }

    /// An event of a part of each partition's records.
    fn event(&self, parts: [std::ops::Range<usize>; 2]) -> Value {
        let records = self.records.iter().zip(parts).flat_map(|(records, part)| {
            let offsets = (0..).zip(records);
            offsets.skip(part.start).take(part.len())
        });
        event(TOPIC, records)
    }

    fn whole(&self) -> Value {
        self.event([0, 1].map(|n| 0..self.records[n].len()))
    }

    fn objects(&self) -> Vec<(String, Bytes)> {
        self.s3.objects(&self.bucket, "")
    }

    /// Every line is there once, and both proofs hold.
    fn assert_exact(&self) {
        let stored = stored(&self.s3, &self.bucket, "data/");
        Report::compare(self.lines.clone(), &stored).assert_exact();
        for proof in ["audit", "verify"] {
            let said = self.setup("").run(proof, &[]);
            assert_eq!(
                said.code,
                Some(0),
                "{proof}: {}{}",
                said.stdout,
                said.stderr
            );
        }
    }
}

fn all_stored() -> Outcome {
    Outcome::Answered(json!({ "batchItemFailures": [] }))
}

/// A small generator of its own, so that a seed means the same on every machine.
fn next(state: &mut u64, below: usize) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    usize::try_from((*state >> 33) % below as u64).expect("it is below a usize")
}

#[test]
fn through_kills_and_batches_cut_otherwise_each_time() {
    const POINTS: [&str; 7] = [
        "before-intent",
        "intent-committed",
        "object-stored",
        "batch-stored",
        "snapshot-stored",
        "before-done",
        "done-committed",
    ];
    let rig = Rig::new(150);
    let lambda = Lambda::start();
    let mut state = 7;
    let mut kills = 0;
    // How far the trigger believes each partition to be.
    let mut at = [0, 0];
    while at.iter().zip(&rig.records).any(|(at, of)| *at < of.len()) {
        let point = POINTS[kills % POINTS.len()];
        // One in three is not killed, and taken out of service after some batches.
        let (function, mut left) = match next(&mut state, 3) {
            0 => (
                rig.function(&lambda, "").start_as("lambda"),
                1 + next(&mut state, 3),
            ),
            _ => (
                rig.function(&lambda, "").crash_at(point).start_as("lambda"),
                usize::MAX,
            ),
        };
        while left > 0 {
            left -= 1;
            // A new cut each time, shorter than the last one or longer.
            let parts = [0, 1].map(|n: usize| {
                let end = at[n] + next(&mut state, 16);
                at[n]..end.min(rig.records[n].len())
            });
            let outcome = lambda.invoke(&function, &rig.event(parts.clone()), TIMEOUT);
            if outcome == all_stored() {
                at = parts.map(|part| part.end);
            } else {
                assert_eq!(outcome, Outcome::Gone);
                kills += 1;
                break;
            }
            if at.iter().zip(&rig.records).all(|(at, of)| *at == of.len()) {
                break;
            }
        }
    }
    rig.assert_exact();
    assert!(kills >= 2 * POINTS.len(), "{kills} kills");
    repeats_change_nothing(&rig, &lambda, &mut state);
}

/// All of it once more, whole and in pieces: not one byte changes.
fn repeats_change_nothing(rig: &Rig, lambda: &Lambda, state: &mut u64) {
    let before = rig.objects();
    rig.s3.forget_requests();
    let emf = "[emf]\nnamespace = \"headwater\"\n";
    let function = rig.function(lambda, emf).start_as("lambda");
    assert_eq!(
        lambda.invoke(&function, &rig.whole(), TIMEOUT),
        all_stored()
    );
    // What CloudWatch is told of repeats: an invocation, and no record of it counted again.
    let told = function.stdout();
    assert!(told.contains(r#""Namespace":"headwater""#), "{told}");
    assert!(told.contains(r#""records":0"#), "{told}");
    for _ in 0..10 {
        let parts = [0, 1].map(|n: usize| {
            let start = next(state, rig.records[n].len());
            start..(start + 30).min(rig.records[n].len())
        });
        assert_eq!(
            lambda.invoke(&function, &rig.event(parts), TIMEOUT),
            all_stored()
        );
    }
    assert_eq!(rig.objects(), before);
    // And of each request that it made, once.
    let told = function.stdout();
    let told: u64 = told
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("a line of metrics");
            line["s3_requests"].as_u64().expect("a number")
        })
        .sum();
    assert_eq!(told, rig.s3.requests().len() as u64);
}

/// Hands an event to a function that stands still while it waits for the answer to so many requests.
fn stands_still_in(rig: &Rig, lambda: &Lambda, function: &Process, op: Op, count: usize) -> u64 {
    // The ones before it are carried out at once, and this one late enough to be stopped in.
    let late = |time, times| Fault::on(op, Kind::Delay(time)).times(times);
    let before = u32::try_from(count - 1).expect("a few");
    rig.s3.fault(late(Duration::ZERO, before));
    rig.s3.fault(late(Duration::from_secs(2), u32::MAX));
    rig.s3.forget_requests();
    let number = lambda.hand_over(&rig.whole(), PATIENCE);
    wait_until("it is in the middle of it", PATIENCE, || {
        rig.s3.count(op) >= count
    });
    function.pause();
    assert_eq!(lambda.outcome(number), None, "it is through already");
    rig.s3.clear_faults();
    number
}

#[test]
fn a_frozen_invocation_that_wakes_up_changes_nothing() {
    // Frozen before it decides, while it does, while it stores an object or its state, and at the end.
    let gets = (1..=4).map(|count| (Op::Get, count));
    for (op, count) in gets.chain((1..=8).map(|count| (Op::Put, count))) {
        let rig = Rig::new(30);
        let (one, two) = (Lambda::start(), Lambda::start());
        let frozen = rig.function(&one, "").start_as("lambda");
        let first = rig.event([0..5, 0..8]);
        assert_eq!(one.invoke(&frozen, &first, TIMEOUT), all_stored());
        let number = stands_still_in(&rig, &one, &frozen, op, count);
        let other = rig.function(&two, "").start_as("lambda");
        // The trigger takes the first for dead, and cuts the batch shorter.
        let half = rig.event([0..10, 0..17]);
        assert_eq!(two.invoke(&other, &half, TIMEOUT), all_stored());
        assert_eq!(two.invoke(&other, &rig.whole(), TIMEOUT), all_stored());
        rig.assert_exact();
        let data = |rig: &Rig| rig.s3.objects(&rig.bucket, "data/source");
        let before = data(&rig);
        frozen.resume();
        wait_until("the first is through", PATIENCE, || {
            one.outcome(number).is_some()
        });
        assert_eq!(data(&rig), before, "frozen at {op:?} {count}");
        rig.assert_exact();
    }
}

#[test]
fn what_could_not_be_stored_fails_the_batch_or_is_named() {
    let rig = Rig::new(20);
    let lambda = Lambda::start();
    // For what stands; that the function has started is seen before, with nothing to store.
    let short = Duration::from_secs(6);
    let started = |more: &str| {
        let function = rig.function(&lambda, more).start_as("lambda");
        let nothing = rig.event([0..0, 0..0]);
        assert_eq!(lambda.invoke(&function, &nothing, TIMEOUT), all_stored());
        function
    };
    // Partition 1 cannot be stored.
    rig.s3
        .fault(Fault::on(Op::Put, Kind::Http503).for_keys_with("logs+1+"));
    let function = started("");
    match lambda.invoke(&function, &rig.whole(), short) {
        Outcome::Failed(words) => assert!(words.contains("partition 1"), "{words}"),
        other => panic!("{other:?}"),
    }
    function.kill9();
    let report = "[lambda]\nreport_batch_item_failures = true\n";
    let function = started(report);
    let last = rig.records[1].len() - 1;
    let named = json!({ "batchItemFailures": [
        { "itemIdentifier": { "partition": "logs-1", "offset": last } }
    ] });
    assert_eq!(
        lambda.invoke(&function, &rig.whole(), short),
        Outcome::Answered(named)
    );
    rig.s3.clear_faults();
    // Lambda goes on from there.
    let rest = rig.event([0..0, last..last + 1]);
    assert_eq!(lambda.invoke(&function, &rest, TIMEOUT), all_stored());
    rig.assert_exact();
}

#[test]
fn what_is_no_event_of_its_topic_fails_and_the_next_one_is_taken() {
    let rig = Rig::new(5);
    let lambda = Lambda::start();
    let function = rig.function(&lambda, "").start_as("lambda");
    for (bad, why) in [
        (json!({"Records": []}), "no event of a Kafka trigger"),
        (event("other", [(0, &rig.records[0][0])]), "\"other\""),
    ] {
        match lambda.invoke(&function, &bad, TIMEOUT) {
            Outcome::Failed(words) => assert!(words.contains(why), "{words}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        lambda.invoke(&function, &rig.whole(), TIMEOUT),
        all_stored()
    );
    rig.assert_exact();
}

/// What makes no row lies among the dead letters, once, however often it is handed over.
#[test]
fn what_makes_no_row_is_a_dead_letter_once() {
    let mut rig = Rig::new(5);
    let mut device = Device::new("pi-9", "/var/log/bad", 7);
    rig.records[0].push(Record {
        partition: 0,
        ..device.reading("no JSON at all")
    });
    let lambda = Lambda::start();
    let function = rig.function(&lambda, "").start_as("lambda");
    for _ in 0..2 {
        let outcome = lambda.invoke(&function, &rig.whole(), TIMEOUT);
        assert_eq!(outcome, all_stored());
    }
    let objects = rig.s3.objects(&rig.bucket, "data/_dead_letters/");
    let [(_, bytes)] = &objects[..] else {
        panic!("{} objects", objects.len())
    };
    let text = zstd::decode_all(&bytes[..]).expect("zstd");
    let letter: Value = serde_json::from_slice(&text).expect("one letter");
    let at = rig.records[0].len() - 1;
    assert_eq!(letter["offset"], at);
    assert_eq!(letter["value_base64"], "bm8gSlNPTiBhdCBhbGw=");
}

/// What `make lambda` packs, here of the binary that is tested, as Lambda unpacks it.
fn unpacked(folder: &Path, config: &str) -> PathBuf {
    let written = folder.join("written.toml");
    std::fs::write(&written, config).expect("a configuration");
    let (package, unpacked) = (folder.join("package.zip"), folder.join("unpacked"));
    let python = |arguments: &[&OsStr]| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("lambda-package.py");
        let mut python = Command::new("python3");
        let ran = python.arg(script).args(arguments).output();
        let ran = ran.expect("python3 runs");
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        String::from_utf8(ran.stdout).expect("text")
    };
    let binary = headwater_tests::process::binary("headwater-loader");
    let (pack, fast) = (OsStr::new("pack"), OsStr::new("1"));
    python(&[
        pack,
        package.as_ref(),
        binary.as_ref(),
        written.as_ref(),
        fast,
    ]);
    let there = python(&["unpack".as_ref(), package.as_ref(), unpacked.as_ref()]);
    assert_eq!(there, "755 bootstrap\n644 loader.toml\n");
    unpacked
}

#[test]
fn as_bootstrap_it_finds_its_configuration_and_says_why_it_cannot_start() {
    let rig = Rig::new(5);
    let lambda = Lambda::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let unpacked = unpacked(folder.path(), &rig.config(""));
    let start = || {
        Command::new(unpacked.join("bootstrap"))
            .envs(rig.s3.env())
            .envs(lambda.env())
            .env("LAMBDA_TASK_ROOT", &unpacked)
            .spawn()
            .expect("it starts")
    };
    let mut function = start();
    let number = lambda.hand_over(&rig.whole(), TIMEOUT);
    wait_until("it has answered", PATIENCE, || {
        lambda.outcome(number).is_some()
    });
    function.kill().expect("it runs");
    function.wait().expect("it ends");
    assert_eq!(lambda.outcome(number), Some(all_stored()));
    rig.assert_exact();
    let elsewhere = rig.config("").replace(&rig.bucket, "no-such-bucket");
    std::fs::write(unpacked.join("loader.toml"), elsewhere).expect("a configuration");
    let mut function = start();
    assert_eq!(function.wait().expect("it ends").code(), Some(1));
    let said = lambda.no_start().expect("it said so");
    assert!(said.contains("does not exist"), "{said}");
}

#[test]
fn an_output_is_a_groups_or_a_functions() {
    let rig = Rig::new(5);
    let lambda = Lambda::start();
    let folder = rig.config("").replace(
        &format!("s3://{}/data", rig.bucket),
        "file:///tmp/headwater-no-folder",
    );
    let folder = folder
        .lines()
        .filter(|line| {
            !["endpoint", "region", "path_style"]
                .iter()
                .any(|key| line.trim().starts_with(key))
        })
        .collect::<Vec<_>>()
        .join("\n");
    let function = Loader::with(&folder).envs(lambda.env()).start_as("lambda");
    assert_eq!(function.wait(PATIENCE).code(), Some(1));
    let said = lambda.no_start().expect("it said so");
    assert!(said.contains("s3://"), "{said}");
    // State of a group, as a loader leaves it.
    let key = format!(
        "data/_headwater/state/{TOPIC}/0/{:020}-00000000.json.zst",
        5
    );
    rig.s3.put(&rig.bucket, &key, "x");
    let function = rig.function(&lambda, "").start_as("lambda");
    match lambda.invoke(&function, &rig.whole(), TIMEOUT) {
        Outcome::Failed(words) => assert!(words.contains("an output of its own"), "{words}"),
        other => panic!("{other:?}"),
    }
}

/// Where a path for each line makes many batches of one event, each has its boundary, and each is said to be
/// done; and so it goes on where it was cut off in the middle of them.
#[test]
fn each_batch_of_an_event_is_decided_before_anything_of_it_is_stored() {
    let paths = "path = \"{message}\"\n[flush]\nobjects = 2\n";
    let rig = Rig::new(30);
    let lambda = Lambda::start();
    let function = rig.function(&lambda, paths).crash_at("intent-committed:9");
    let function = function.start_as("lambda");
    let first = rig.event([0..25, 0..0]);
    assert_eq!(lambda.invoke(&function, &first, TIMEOUT), Outcome::Gone);
    // The trigger hands it over again, and all that there is of both.
    let function = rig.function(&lambda, paths).start_as("lambda");
    assert_eq!(
        lambda.invoke(&function, &rig.whole(), TIMEOUT),
        all_stored()
    );
    rig.assert_exact();

    // Of a partition that nothing cut off: an object of rows comes behind a head that holds it.
    let puts = rig
        .s3
        .requests()
        .into_iter()
        .filter(|request| request.op == Op::Put);
    let keys: Vec<String> = puts.map(|put| put.key).collect();
    let head = format!("data/_headwater/state/{TOPIC}/1/head");
    let (mut heads, mut states, mut rows) = (0, 0, 0);
    for key in keys
        .iter()
        .filter(|key| key.contains("logs/1/") || key.contains("logs+1+"))
    {
        if *key == head {
            heads += 1;
        } else if key.starts_with("data/_headwater/") {
            states += 1;
            assert_eq!(heads, 2 * states, "{keys:#?}");
        } else {
            rows += 1;
            assert_eq!(heads, 2 * states + 2, "{keys:#?}");
        }
    }
    assert_eq!((rows, states, heads), (30, 15, 31), "{keys:#?}");
}

/// Nothing of a batch is seen where all of it went into windows or was filtered; the state that it
/// leaves before it is done must not look like a consumer group's.
#[test]
fn a_first_batch_without_rows_is_cut_off_and_goes_on() {
    let rig = Rig::new(5);
    let lambda = Lambda::start();
    let windows = "[[transform]]\nstep = \"aggregate\"\nwindow = \"1h\"\ncompute = [{ function = \"count\" }]\n";
    for point in ["snapshot-stored", "before-done", "done-committed"] {
        let function = rig
            .function(&lambda, windows)
            .crash_at(point)
            .start_as("lambda");
        let outcome = lambda.invoke(&function, &rig.event([0..6, 0..0]), TIMEOUT);
        // Done in the first try behind which the head says so.
        let expected = match point {
            "done-committed" => [all_stored(), Outcome::Gone],
            _ => [Outcome::Gone, Outcome::Gone],
        };
        assert!(expected.contains(&outcome), "{point}: {outcome:?}");
    }
    let function = rig.function(&lambda, windows).start_as("lambda");
    let event = rig.event([0..6, 0..0]);
    assert_eq!(lambda.invoke(&function, &event, TIMEOUT), all_stored());
    assert_eq!(rig.s3.keys(&rig.bucket, "data/source"), [""; 0]);
    let audit = rig.setup(windows).run("audit", &[]);
    assert_eq!(audit.code, Some(0), "{}{}", audit.stdout, audit.stderr);
}

#[test]
fn a_table_that_changes_between_invocations_is_used_by_the_next() {
    let rig = Rig::new(12);
    let table = |version: &str| {
        let text = format!("device,site\npi-0,{version}\npi-1,{version}\n");
        rig.s3.put(&rig.bucket, "tables/sites.csv", text);
    };
    table("one");
    let lambda = Lambda::start();
    let more = format!(
        "path = \"site={{site}}\"\n[tables]\nreload = \"1s\"\n[[transform]]\nstep = \"lookup\"\n\
         table = \"s3://{}/tables/sites.csv\"\nfield = \"device\"\n",
        rig.bucket
    );
    let function = rig.function(&lambda, &more).start_as("lambda");
    let stored = |site: &str| {
        let prefix = format!("data/site={site}/");
        stored(&rig.s3, &rig.bucket, &prefix).len()
    };
    let all = rig.records[0].len();
    // A table is read again within a share of the time that an invocation has.
    let invoke = |parts| {
        let outcome = lambda.invoke(&function, &rig.event(parts), PATIENCE);
        assert!(matches!(outcome, Outcome::Answered(_)), "{outcome:?}");
    };
    invoke([0..4, 0..0]);
    let first = stored("one");
    assert!(first > 0);
    // What cannot be used is said, and the one from before stays.
    rig.s3
        .put(&rig.bucket, "tables/sites.csv", "device,site\npi-0\n");
    std::thread::sleep(Duration::from_millis(1100));
    invoke([4..8, 0..0]);
    assert!(stored("one") > first);
    assert!(function.stderr().contains("the one from before stays"));
    table("two");
    std::thread::sleep(Duration::from_millis(1100));
    invoke([8..all, 0..all]);
    assert!(stored("two") > 0);
    rig.assert_exact();
}
