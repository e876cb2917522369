//! Promise 3: `audit` and `verify` say what holds, and say so when it does not. And what cannot work
//! is refused at the start, in words.

use std::time::Duration;

use headwater_record::{Kind, Notice};
use headwater_tests::device::Device;
use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::Loading;
use headwater_tests::oracle::wait_until;
use headwater_tests::process::binary;
use headwater_tests::s3::{Fault, Kind as Trouble, Op, S3};

const PATIENCE: Duration = Duration::from_secs(60);

fn load_all(loading: &Loading, lines: usize) {
    let loader = loading.start();
    wait_until("all is stored", PATIENCE, || {
        loading.stored().len() >= lines
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
}

#[test]
fn a_lost_record_is_an_unexplained_gap_until_a_notice_explains_it() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "gap", 1);
    let mut device = Device::new("pi-7", "/var/log/app", 1);
    let first = device.line("first");
    let lost = device.line("lost");
    let third = device.line("third");
    kafka.produce(&loading.topic, [first, third]);
    load_all(&loading, 2);
    let audit = loading.audit();
    assert_eq!(audit.code, Some(1), "{}", audit.stdout);
    assert!(
        audit.stdout.contains("unexplained gap [6, 11): 5 offsets"),
        "{}",
        audit.stdout
    );
    assert!(
        audit.stdout.ends_with("unexplained gaps: 1\n"),
        "{}",
        audit.stdout
    );
    device.seek(6);
    let notice = Notice::Loss {
        reason: "spool-full".into(),
        records: None,
    };
    kafka.produce(&loading.topic, [device.notice(5, Kind::Loss, &notice)]);
    let loader = loading.start();
    wait_until("the notice is in the ledger", PATIENCE, || {
        loading.audit().code == Some(0)
    });
    // What was given up comes after all: it is in the ledger already, and not stored.
    kafka.produce(&loading.topic, [lost]);
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    let audit = loading.audit();
    assert!(
        audit
            .stdout
            .contains("5 offsets lost, explained: spool-full"),
        "{}",
        audit.stdout
    );
    assert!(
        audit.stdout.ends_with("unexplained gaps: 0\n"),
        "{}",
        audit.stdout
    );
}

#[test]
fn a_missing_object_is_a_hole_that_verify_names() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "hole", 1);
    let mut device = Device::new("pi-7", "/var/log/app", 1);
    for round in 0..3 {
        let lines: Vec<Record> = (0..10)
            .map(|i| device.line(&format!("{round}/{i}")))
            .collect();
        kafka.produce(&loading.topic, lines);
        load_all(&loading, 10 * (round + 1));
    }
    loading.assert_proven();
    let keys = s3.keys(&loading.bucket, "data/");
    let middle = keys
        .iter()
        .find(|key| key.contains("+00000000000000000010-"))
        .expect("three batches of ten");
    s3.lose(&loading.bucket, middle);
    let verify = loading.verify();
    assert_eq!(verify.code, Some(1));
    assert!(
        verify.stdout.contains("hole: [10, 20) is in no object"),
        "{}",
        verify.stdout
    );
}

/// What `verify` says of what is missing, in both of its forms, where both partitions are of 30 offsets.
fn assert_told(loading: &Loading<'_>, expected: &[&str]) {
    let verify = loading.verify();
    assert_eq!(verify.code, Some(1), "{}{}", verify.stdout, verify.stderr);
    let told = verify.stdout.lines().map(str::trim);
    let told: Vec<&str> = told.filter(|line| line.starts_with("hole")).collect();
    assert_eq!(told, expected, "{}", verify.stdout);
    let verify = loading.loader("").run("verify", &["--json"]);
    assert_eq!(verify.code, Some(1));
    let report: serde_json::Value = serde_json::from_str(&verify.stdout).expect("JSON");
    let of_partitions = report["partitions"].as_array().expect("partitions");
    let problems = of_partitions
        .iter()
        .flat_map(|of| of["problems"].as_array());
    let problems: Vec<&str> = problems
        .flatten()
        .filter_map(|told| told.as_str())
        .collect();
    assert_eq!(problems, expected);
    assert_eq!(report["complete"], false);
    let named = serde_json::json!({"from": 0, "to": 30});
    assert!(of_partitions.iter().all(|of| of["expected"] == named));
}

/// Behind all else a batch of which nothing is kept: its offsets are in no object, and none is missing.
fn read_and_not_kept(kafka: &Kafka, loading: &Loading<'_>, device: &mut Device) {
    let filtered = device.line("nothing is kept of this");
    let partition = 0;
    kafka.produce(
        &loading.topic,
        [Record {
            partition,
            ..filtered
        }],
    );
    let nothing = "[[transform]]\nstep = \"filter\"\nfield = \"message\"\nin = [\"nothing else\"]\n[flush]\nage = \"300ms\"\n";
    let loader = loading.loader(nothing).start();
    wait_until("it is read", PATIENCE, || {
        let committed = kafka.committed(loading.group(), &loading.topic);
        committed.iter().any(|held| held.offset == Some(31))
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
}

/// The newest objects of a partition, its oldest, and all of them: the state beside them says from where and up to where
/// they have to be there.
#[test]
fn what_is_missing_at_the_ends_of_a_partition_is_named_too() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "ends", 2);
    let mut devices = ["pi-7", "pi-8"].map(|id| Device::new(id, "/var/log/app", 1));
    for round in 0..3 {
        for (partition, device) in (0..).zip(&mut devices) {
            let lines = (0..10).map(|i| Record {
                partition,
                ..device.line(&format!("{round}/{i}"))
            });
            kafka.produce(&loading.topic, lines.collect::<Vec<_>>());
        }
        load_all(&loading, 20 * (round + 1));
    }
    read_and_not_kept(kafka, &loading, &mut devices[0]);
    loading.assert_proven();
    let lose = |partition: i32, at: &[usize]| {
        let mut keys = s3.keys(&loading.bucket, "data/source=app/");
        keys.retain(|key| key.contains(&format!("+{partition}+")));
        keys.sort_by_key(|key| key.rsplit('/').next().map(str::to_owned));
        at.iter()
            .for_each(|at| s3.lose(&loading.bucket, &keys[*at]));
    };
    let newest = "hole: [20, 30) is in no object: the newest are gone";
    lose(0, &[2]);
    assert_told(&loading, &[newest]);
    lose(1, &[0, 1, 2]);
    assert_told(
        &loading,
        &[newest, "hole: [0, 30) is in no object: nothing is left"],
    );
    // What is the oldest may have expired, where that is said. The newest is younger, and so is what was in the other.
    lose(0, &[0]);
    let oldest =
        "hole: [0, 10) is in no object: the oldest are gone (where data expires, say --expires)";
    let nothing = "hole: [0, 30) is in no object: nothing is left";
    assert_told(&loading, &[oldest, newest, nothing]);
    let verify = loading.loader("").run("verify", &["--expires", "30days"]);
    assert_eq!(verify.code, Some(1));
    for (told, times) in [
        (oldest, 0),
        (newest, 1),
        (nothing, 1),
        ("expired: [0, 10)", 1),
    ] {
        assert_eq!(
            verify.stdout.matches(told).count(),
            times,
            "{}",
            verify.stdout
        );
    }
}

/// Objects that are there before the state behind them: what a look finds in the middle of a batch is no hole, and no
/// reason to alarm anybody.
#[test]
fn verify_may_look_while_a_batch_is_being_written() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "looking", 1);
    let mut device = Device::new("pi-7", "/var/log/app", 1);
    kafka.produce(&loading.topic, [device.line("before")]);
    let loader = loading.start();
    wait_until("the first batch is done", PATIENCE, || {
        loading.verify().code == Some(0)
    });
    s3.fault(Fault::on(Op::Put, Trouble::Http503).for_keys_with("_headwater/state/"));
    kafka.produce(&loading.topic, [device.line("now")]);
    wait_until("its objects are there", PATIENCE, || {
        loading.stored().len() == 2
    });
    let verify = loading.verify();
    assert_eq!(verify.code, Some(0), "{}{}", verify.stdout, verify.stderr);
    assert!(
        verify.stdout.contains("being written: 1 "),
        "{}",
        verify.stdout
    );
    s3.clear_faults();
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    let verify = loading.verify();
    assert!(
        !verify.stdout.contains("being written"),
        "{}",
        verify.stdout
    );
    loading.assert_proven();
}

/// Whoever makes up streams fills the ledger, and loses nothing; and what the ledger knew before goes on.
#[test]
fn streams_without_end_are_stored_and_told_and_cost_others_nothing() {
    const STREAMS: usize = 3000;
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "flood", 1);
    let mut known = Device::new("pi-7", "/var/log/app", 1);
    let first = known.line("known first");
    kafka.produce(&loading.topic, [first.clone()]);
    let flood = (0..STREAMS).map(|n| {
        let mut device = Device::new("pi-666", &format!("/made/up/{n}"), 1);
        device.line(&format!("made up {n}"))
    });
    kafka.produce(&loading.topic, flood);
    // A re-send, and one more record, of what was known.
    let last = known.line("known last");
    kafka.produce(&loading.topic, [first, last]);
    let bounded = "[flush]\nage = \"300ms\"\n[limits]\nledger = \"1MiB\"\n";
    // Said once by whoever has the partition: a session that is lost to a slow machine would make another.
    let loader = loading
        .loader_as("session_timeout = \"30s\"", bounded)
        .start();
    wait_until("all is stored", PATIENCE, || {
        loading.stored().len() >= STREAMS + 2
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    // An object is in the bucket before the loader comes to say what was in it.
    let said = loader.stderr();
    assert_eq!(
        loading.stored().len(),
        STREAMS + 2,
        "a re-send is stored twice"
    );
    assert_eq!(said.matches("no room for new streams").count(), 1, "{said}");
    let audit = loading.audit();
    assert_eq!(audit.code, Some(1));
    let told = audit.stdout.lines().rev().nth(1).unwrap_or_default();
    let records = told.split(' ').next().and_then(|n| n.parse::<usize>().ok());
    assert!(records.is_some_and(|n| (500..1500).contains(&n)), "{told}");
    let by = loading
        .loader("")
        .run("audit", &["--by", "device", "--device", "pi-7"]);
    let line = by.stdout.lines().find(|line| line.starts_with("pi-7 "));
    let fields: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
    assert_eq!(
        fields.get(1..5),
        Some(&["1", "2", "0", "0"][..]),
        "{}",
        by.stdout
    );
    assert_eq!(loading.verify().code, Some(0));
}

#[test]
fn foreign_and_broken_records_are_kept() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "foreign", 1);
    let foreign = |value: &[u8], headers: Vec<(String, Vec<u8>)>| Record {
        partition: 0,
        value: value.to_vec(),
        headers,
        ..Record::default()
    };
    let claim = |span: &str| {
        vec![
            ("hw-stream".to_owned(), b"pi-7/app//x".to_vec()),
            (
                "hw-span".to_owned(),
                format!("00000000000000ab:{span}").into_bytes(),
            ),
        ]
    };
    kafka.produce(
        &loading.topic,
        [
            foreign(br#"{"message":"plain"}"#, vec![]),
            foreign(
                br#"{"message":"absurd"}"#,
                vec![("hw-span".into(), b"\xff".to_vec())],
            ),
            foreign(b"\xff\xfe no JSON", vec![]),
            // A device that claims all offsets there are, and then more.
            foreign(
                br#"{"message":"all of it"}"#,
                claim("1+18446744073709551614"),
            ),
            foreign(
                br#"{"message":"too much"}"#,
                claim("0+18446744073709551616"),
            ),
            foreign(
                br#"{"message":"far","time":"9999-12-31T23:59:59Z","time":"0001-01-01T00:00:00Z"}"#,
                vec![],
            ),
        ],
    );
    let loader = loading.start();
    let keys = || s3.keys(&loading.bucket, "data/");
    wait_until("all is committed", PATIENCE, || {
        let committed = kafka.committed(loading.group(), &loading.topic);
        committed.iter().filter_map(|held| held.offset).sum::<i64>() >= 6
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert!(
        keys().iter().any(|key| key.contains("/_dead_letters/")),
        "{:?}",
        keys()
    );
    let messages: Vec<String> = loading
        .stored()
        .into_iter()
        .map(|row| row.message)
        .collect();
    for message in ["plain", "absurd", "all of it", "too much", "far"] {
        assert!(messages.iter().any(|m| m == message), "{messages:?}");
    }
}

#[test]
fn a_command_is_not_over_at_the_first_busy_answer() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "busy", 1);
    let mut device = Device::new("pi-7", "/var/log/app", 1);
    for batch in 0..2 {
        let lines: Vec<Record> = (0..10)
            .map(|i| device.line(&format!("{batch}/{i}")))
            .collect();
        kafka.produce(&loading.topic, lines);
        load_all(&loading, 10 * (batch + 1));
    }
    for command in ["verify", "audit", "compact", "dlq list"] {
        let before = s3.faults_met();
        s3.fault(Fault::on(Op::List, Trouble::SlowDown).times(1));
        s3.fault(Fault::on(Op::List, Trouble::HangUp).times(1));
        let done = loading.loader("").run(command, &[]);
        assert_eq!(done.code, Some(0), "{command}: {}", done.stderr);
        assert_eq!(s3.faults_met(), before + 2, "{command}");
    }
    s3.fault(Fault::on(Op::Get, Trouble::Http503).times(2));
    let audit = loading.audit();
    assert_eq!(audit.code, Some(0), "{}", audit.stderr);
}

#[test]
fn what_cannot_work_is_refused_in_words_and_moves_no_offset() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let mut loading = Loading::new(kafka, &s3, "refused", 1);
    kafka.produce(&loading.topic, [Device::new("pi-7", "/x", 1).line("waits")]);
    let good = loading.bucket.clone();
    loading.bucket = "no-such-bucket".into();
    let run = loading.loader("").run("run", &[]);
    assert_eq!(run.code, Some(1));
    assert!(
        run.stderr.contains("no-such-bucket") && run.stderr.contains("does not exist"),
        "{}",
        run.stderr
    );
    loading.bucket = good;
    let audit = loading.audit();
    assert_eq!(audit.code, Some(2), "it could not look");
    assert!(audit.stderr.contains("no ledger"), "{}", audit.stderr);
    let check = loading.loader("[flush]\nagee = \"1s\"\n").run("check", &[]);
    assert_eq!(check.code, Some(1));
    let unread = std::process::Command::new(binary("headwater-loader"))
        .args(["check", "--config", "/no/such.toml"])
        .status();
    assert_eq!(
        unread.expect("it starts").code(),
        Some(2),
        "it could not look"
    );
    let verify = loading
        .loader("[flush]\nagee = \"1s\"\n")
        .run("verify", &[]);
    assert_eq!(verify.code, Some(2));
    assert!(
        check.stderr.contains("did you mean `age`"),
        "{}",
        check.stderr
    );
    let check = loading.loader("").run("check", &[]);
    assert!(check.stdout.contains("age = \"1m\""), "{}", check.stdout);
    load_all(&loading, 1);
    loading.assert_proven();
}
