//! Promise 4, from outside: what the kernel grants and what the owner allows is used up, and it costs
//! no line.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use headwater_tests::device::Device;
use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::{Loading, metric};
use headwater_tests::oracle::{wait_until, wait_until_complete};
use headwater_tests::outside::free_address;
use headwater_tests::process::{Agent, Process};
use headwater_tests::s3::{Fault, Kind, Op, S3};
use headwater_tests::writer::Writer;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);

fn status(agent: &Process) -> Value {
    let told = agent.ask("status", &["--json"]);
    serde_json::from_str(&told.stdout).unwrap_or_default()
}

fn finish(loading: &Loading<'_>, agent: &Process, loader: &Process) {
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    wait_until("the ledger is complete", PATIENCE, || {
        loading.audit().code == Some(0)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.assert_proven();
}

/// More happens than inotify's queue holds, while the agent cannot look. Nothing but the overflow
/// itself tells of the last lines, and of a file that was made meanwhile: the next rescan is an hour
/// away.
#[test]
fn an_overflow_of_inotifys_queue_loses_nothing_and_is_said_once() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "overflow", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events");
    let queue: u64 = queue
        .expect("Linux has it")
        .trim()
        .parse()
        .expect("a number");
    let paths = format!("{}/*.log", folder.path().display());
    let config = loading.agent_config(kafka.bootstrap(), &paths, "");
    let setup = loading.agent(&paths, "");
    setup.set_config(&config.replace("rescan = \"1s\"", "rescan = \"1h\""));
    let mut writers: Vec<Writer> = ["a", "b"]
        .map(|id| Writer::new(path(&format!("{id}.log")), id, 5))
        .into();
    writers.iter_mut().for_each(|writer| writer.write(10));
    let agent = setup.start();
    let loader = loading.start();
    let all_is_stored = |writers: &[Writer]| {
        let writers: Vec<&Writer> = writers.iter().collect();
        wait_until_complete(&writers, &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    };
    all_is_stored(&writers);
    for round in ["c", "d"] {
        agent.pause();
        // An event like the one before it is not queued: two files in turns. Twice what the queue
        // holds, since what the agent had read already, it has.
        for _ in 0..queue {
            writers[0].write(1);
            writers[1].write(1);
        }
        let mut late = Writer::new(path(&format!("{round}.log")), round, 5);
        late.write(5);
        writers.push(late);
        agent.resume();
        all_is_stored(&writers);
    }
    assert_eq!(
        agent.stderr().matches("events were lost").count(),
        1,
        "{}",
        agent.stderr()
    );
    finish(&loading, &agent, &loader);
}

/// In a user namespace that grants one watch: one folder is watched, the other found by the rescan.
#[test]
fn without_a_watch_left_the_rescan_finds_everything_and_it_is_said_once() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "watches", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    for name in ["x", "y", "z"] {
        fs::create_dir(path(name)).expect("a folder");
    }
    let globs = ["x", "y", "z"].map(|name| format!("{}/*.log", path(name).display()));
    let limited = "echo 1 >/proc/sys/user/max_inotify_watches && exec \"$0\" \"$@\"";
    let agent = loading
        .agent(&globs.join("\", \""), "")
        .under(&["unshare", "--user", "--map-root-user", "sh", "-c", limited])
        .start();
    let loader = loading.start();
    let mut writers: BTreeMap<&str, Writer> = BTreeMap::new();
    for round in 0..3 {
        for name in ["x", "y", "z"] {
            let file = path(name).join("app.log");
            let writer = writers
                .entry(name)
                .or_insert_with(|| Writer::new(file, name, 5));
            writer.write(100);
            if round == 1 {
                writer.rotate();
            }
        }
        let writers: Vec<&Writer> = writers.values().collect();
        wait_until_complete(&writers, &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    }
    assert_eq!(
        agent.stderr().matches("no watch is left").count(),
        1,
        "{}",
        agent.stderr()
    );
    finish(&loading, &agent, &loader);
}

/// What a month grants is used up: nothing more is sent, a restart does not make it more, and once its
/// owner grants more, what waited goes.
#[test]
fn a_budget_is_used_up_outlives_a_restart_and_what_waited_goes_once_there_is_more() {
    const BUDGET: u64 = 200_000;
    /// A budget is overrun by one batch at most, and by what the protocol takes besides.
    const OVERRUN: u64 = 100_000;
    const LINES: u64 = 6000;
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "budget", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5);
    writer.write(LINES);
    let paths = format!("{}/app.log", folder.path().display());
    let with_budget = |bytes: u64| {
        let budget =
            format!("[uplink]\nbytes_per_month = \"{bytes}B\"\n[spool]\nafter = \"300ms\"\n");
        loading.agent_config(kafka.bootstrap(), &paths, &budget)
    };
    let used = |agent: &Process| {
        let told = status(agent);
        let used = told["uplink"]["budgets"][0]["used_bytes"].as_u64();
        used.unwrap_or_else(|| panic!("no budget in {told}"))
    };
    let mut agent = Agent::start(&with_budget(BUDGET));
    let loader = loading.start();
    for run in 0..2 {
        wait_until("the budget is said to be used up", PATIENCE, || {
            agent
                .stderr()
                .contains("the uplink's budget (uplink.bytes_per_month) is used up")
        });
        // It is said before the brokers have acknowledged what went.
        wait_until("nothing is under way", PATIENCE, || {
            status(&agent)["window"]["bytes"] == 0
        });
        let sent = kafka.depth(&loading.topic);
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(
            kafka.depth(&loading.topic),
            sent,
            "run {run}: it sends all the same"
        );
        let (most, used) = (BUDGET + OVERRUN, used(&agent));
        assert!((BUDGET..most).contains(&used), "run {run}: {used} bytes");
        assert!(
            0 < sent && sent < i64::try_from(LINES).expect("a few"),
            "{sent} lines"
        );
        assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
        if run == 1 {
            agent.set_config(&with_budget(100 * BUDGET));
        }
        agent = agent.restart();
    }
    wait_until_complete(&[&writer], &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    finish(&loading, &agent, &loader);
}

/// What a month grants a lane is used up, its spool is full and it waits, with the window as full as it may make it:
/// a line of the higher lane, which keeps a tenth of the month, is read and delivered all the same.
#[test]
fn an_alarm_is_delivered_though_the_lane_below_waits_for_the_next_month() {
    /// A tenth of it is more than the lane below may overrun it by.
    const BUDGET: u64 = 2_000_000;
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "lanes", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut app = Writer::new(folder.path().join("app.log"), "w", 5);
    let mut alarms = Writer::new(folder.path().join("alarms"), "a", 5);
    app.write(60_000);
    let with_budget = |bytes: u64| {
        let more = format!(
            r#"
            [uplink]
            bytes_per_month = "{bytes}B"
            [window]
            bytes = "1MiB"
            [spool]
            after = "300ms"
            max_bytes = "256KiB"
            [[file]]
            id = "alarms"
            paths = ["{}"]
            lane = "high"
            rescan = "1s"
            "#,
            alarms.path().display()
        );
        loading.agent_config(kafka.bootstrap(), &app.path().display().to_string(), &more)
    };
    // Of seven eighths of the window less is left than a batch asks for.
    let is_filled = |told: &Value| told["window"]["bytes"].as_u64() > Some(812_000);
    let (tight, wide) = (with_budget(BUDGET), with_budget(100 * BUDGET));
    let agent = Agent::start(&tight);
    let loader = loading.start();
    wait_until("the lane waits", PATIENCE, || {
        let said = agent.stderr();
        said.contains("is kept for higher lanes")
            && said.contains("the spool is full")
            && is_filled(&status(&agent))
    });
    for lines in [1, 5] {
        alarms.write(lines);
        wait_until("the alarm is stored", PATIENCE, || {
            loading.report(alarms.lines()).lost.is_empty()
        });
    }
    let told = status(&agent);
    assert!(is_filled(&told), "the lane below goes on: {told}");
    assert!(told["counters"]["records"].as_u64() < Some(app.written()));
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    agent.set_config(&wide);
    let agent = agent.restart();
    wait_until_complete(&[&app, &alarms], &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    finish(&loading, &agent, &loader);
}

/// Many more files than may be open, the database and all sockets among them: those that are silent are let go,
/// which is said once, and nothing is refused.
#[test]
fn more_files_than_the_system_grants_cost_no_line() {
    const GRANTED: u64 = 100;
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "nofile", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writers: Vec<Writer> = (0..4 * GRANTED)
        .map(|n| Writer::new(folder.path().join(format!("{n}.log")), &format!("f{n}"), 5))
        .collect();
    let paths = format!("{}/*.log", folder.path().display());
    let limit = format!("--nofile={GRANTED}:{GRANTED}");
    let setup = loading.agent(&paths, "");
    writers.iter_mut().for_each(|writer| writer.write(3));
    let agent = setup.under(&["prlimit", &limit]).start();
    let loader = loading.start();
    for _ in 0..2 {
        let all: Vec<&Writer> = writers.iter().collect();
        wait_until_complete(&all, &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
        let told = status(&agent);
        assert_eq!(told["process"]["open_files_max"], GRANTED, "{told}");
        assert!(
            told["process"]["open_files"].as_u64() < Some(GRANTED),
            "{told}"
        );
        writers.iter_mut().for_each(|writer| writer.write(2));
    }
    let all: Vec<&Writer> = writers.iter().collect();
    wait_until_complete(&all, &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    let said = agent.stderr();
    assert!(!said.contains("Too many open files"), "{said}");
    assert_eq!(said.matches("may be open at once").count(), 1, "{said}");
    finish(&loading, &agent, &loader);
}

/// An outage in which more is to be spooled than a day's flash budget has: the kernel counts no more than
/// that, files wait, and once the owner grants more everything goes its way.
#[test]
fn a_flash_budget_is_kept_as_the_kernel_counts() {
    const BUDGET: u64 = 1_000_000;
    /// An eighth of it is said to be overdrawn; one commit gathers 2 MiB of values, a quarter of which is written.
    const OVERRUN: u64 = 700_000;
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "flash", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5);
    writer.write(60_000);
    let paths = format!("{}/app.log", folder.path().display());
    let config = |brokers: &str, flash: &str| {
        let more = format!("[spool]\nafter = \"300ms\"\n{flash}");
        loading.agent_config(brokers, &paths, &more)
    };
    let budget = format!("[flash]\nbytes_per_day = \"{BUDGET}B\"\n");
    let agent = Agent::start(&config("no-such-host.invalid:9092", &budget));
    wait_until("a commit waits for the budget", PATIENCE, || {
        status(&agent)["counters"]["flash_waits"].as_u64() > Some(0)
    });
    // What does not stop there shows it now.
    std::thread::sleep(Duration::from_secs(5));
    let (told, written) = (status(&agent), agent.io_write_bytes());
    assert!(written <= BUDGET + OVERRUN, "{written} bytes");
    assert!(
        told["counters"]["records"].as_u64() < Some(60_000),
        "files do not wait: {told}"
    );
    assert!(
        agent.stderr().contains("flash.bytes_per_day"),
        "{}",
        agent.stderr()
    );
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    agent.set_config(&config(kafka.bootstrap(), ""));
    let agent = agent.restart();
    let loader = loading.start();
    wait_until_complete(&[&writer], &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    finish(&loading, &agent, &loader);
}

/// A log of so many lines, compressed with a window of 8 MiB.
fn packed_log(path: &Path, id: &str, lines: u64) -> Writer {
    let mut writer = Writer::new(path.with_extension("log"), id, 5);
    writer.write(lines);
    let file = fs::File::create(path).expect("a file can be made");
    let mut encoder = zstd::Encoder::new(file, 3).expect("zstd");
    encoder.window_log(23).expect("8 MiB");
    let mut plain = fs::File::open(writer.path()).expect("it was written");
    std::io::copy(&mut plain, &mut encoder).expect("it is compressed");
    encoder.finish().expect("it ends");
    fs::remove_file(writer.path()).expect("it is there");
    writer
}

/// A whole outage, with a folder of compressed logs to be read in it and a log at full load beside them; and
/// the drain of all that. The sum of the parts' shares is kept.
#[test]
fn the_agent_stays_within_its_memory_offline_and_draining() {
    const GRANTED_MIB: u64 = 64;
    const LINES: u64 = 80_000;
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "memory", 2);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let mut writers: Vec<Writer> = (0..6)
        .map(|n| packed_log(&path(&format!("old-{n}.zst")), &format!("old-{n}"), LINES))
        .collect();
    let mut log = Writer::new(path("app.log"), "app", 5);
    log.write(4 * LINES);
    writers.push(log);
    let paths = format!("{}/*", folder.path().display());
    let memory = format!("[memory]\nmax = \"{GRANTED_MIB}MiB\"\n");
    let config = |brokers: &str| loading.agent_config(brokers, &paths, &memory);
    let agent = Agent::start(&config("no-such-host.invalid:9092"));
    wait_until("all of it is in the spool", PATIENCE, || {
        let told = status(&agent);
        told["counters"]["records"] == 10 * LINES
            && told["counters"]["spooled"] == told["counters"]["batches"]
    });
    let offline = agent.rss_kib_max();
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    agent.set_config(&config(kafka.bootstrap()));
    let agent = agent.restart();
    let loader = loading.start();
    let all: Vec<&Writer> = writers.iter().collect();
    wait_until_complete(&all, &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    let peaks = [offline, agent.rss_kib_max()];
    assert!(
        peaks.iter().all(|peak| *peak <= GRANTED_MIB * 1024),
        "{peaks:?} KiB resident"
    );
    finish(&loading, &agent, &loader);
}

/// Values that hardly compress, 2 KiB each, in partitions that each have every path: 350 MiB by zstd.
struct Bulk;

impl Bulk {
    const RECORDS: u64 = 240_000;
    const PARTITIONS: u64 = 8;
    const PATHS: u64 = 500;
    const NOISE_BYTES: usize = 1500;

    fn message(n: u64) -> String {
        format!("record {n}")
    }

    fn records() -> impl Iterator<Item = Record> {
        let mut state = 1_u64;
        let mut noise = Vec::with_capacity(Self::NOISE_BYTES + 8);
        (0..Self::RECORDS).map(move |n| {
            noise.clear();
            while noise.len() < Self::NOISE_BYTES {
                // xorshift: plain, and nothing that zstd could find again.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                noise.extend_from_slice(&state.to_le_bytes());
            }
            let noise = base64::engine::general_purpose::STANDARD.encode(&noise);
            let (message, path) = (Self::message(n), n / Self::PARTITIONS % Self::PATHS);
            let value = format!(r#"{{"message":"{message}","path":"p{path}","noise":"{noise}"}}"#);
            Record {
                partition: i32::try_from(n % Self::PARTITIONS).expect("a few"),
                value: value.into_bytes(),
                ..Record::default()
            }
        })
    }
}

/// What is open in 500 paths of each of eight partitions would take more than was granted, with the
/// output away and with no batch due for its size or age: then nothing bounds it but the memory's own
/// rule. And the same again for a loader that takes up what a killed one had begun.
#[test]
fn five_hundred_paths_a_partition_stay_within_the_memory_that_was_granted() {
    const GRANTED_KIB: u64 = 256 * 1024;
    /// 350 MiB are read, compressed and stored, some of it twice.
    const PATIENCE: Duration = Duration::from_secs(300);
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let partitions = i32::try_from(Bulk::PARTITIONS).expect("a few");
    let loading = Loading::new(kafka, &s3, "bulk", partitions);
    kafka.produce(&loading.topic, Bulk::records());
    let listen = free_address();
    let config = |age: &str| {
        format!(
            "path = \"path={{path}}\"\n[flush]\nage = \"{age}\"\nbytes = \"56MiB\"\n\
             [limits]\nmemory = \"256MiB\"\n[http]\nlisten = \"{listen}\"\n"
        )
    };
    let committed = || {
        let all = kafka.committed(loading.group(), &loading.topic);
        let offsets = all.iter().filter_map(|committed| committed.offset);
        offsets.sum::<i64>().unsigned_abs()
    };
    s3.fault(Fault::on(Op::Put, Kind::Http503).for_keys_with("path="));
    let loader = loading.loader(&config("1h")).start();
    wait_until("batches take what there is for them", PATIENCE, || {
        let held = metric(&listen, "headwater_loader_batch_memory_bytes");
        let most = metric(&listen, "headwater_loader_batch_memory_bytes_max");
        (held.zip(most)).is_some_and(|(held, most)| most > 0 && held >= most)
    });
    // What does not stop there shows it now.
    std::thread::sleep(Duration::from_secs(3));
    s3.clear_faults();
    // What may stay open is less than half of all.
    wait_until("half of it is stored", PATIENCE, || {
        committed() >= Bulk::RECORDS / 2
    });
    let first = loader.rss_kib_max();
    // Nothing else closes one: not its age, nor its bytes, nor the end.
    let of = |name: &str| metric(&listen, &format!("headwater_loader_{name}"));
    let (whole, early) = (of("batches_total"), of("early_batches_total"));
    assert!(
        whole > Some(0) && early >= whole,
        "{whole:?} batches, {early:?} early"
    );
    // More may have closed between the two looks.
    let whole = of("batches_total");
    assert!(early <= whole.map(|whole| whole + Bulk::PARTITIONS));
    loader.kill9();
    drop(loader);
    let loader = loading.loader(&config("1s")).start();
    wait_until("all of it is stored", PATIENCE, || {
        committed() == Bulk::RECORDS
    });
    let peaks = [first, loader.rss_kib_max()];
    assert!(
        peaks.iter().all(|peak| *peak <= GRANTED_KIB),
        "{peaks:?} KiB resident"
    );
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading
        .report((0..Bulk::RECORDS).map(Bulk::message))
        .assert_exact();
    loading.assert_proven();
}

/// Records that each have a stream of their own: 240,000 lines in the ledgers, 100 MiB and more. And each brings
/// bytes that hardly compress, so that batches take what there is for them.
struct Streams;

impl Streams {
    const COUNT: u64 = 240_000;
    const PARTITIONS: u64 = 4;
    const NOISE_BYTES: usize = 500;

    fn records() -> impl Iterator<Item = Record> {
        let mut state = 1_u64;
        (0..Self::COUNT).map(move |n| {
            let mut noise = Vec::with_capacity(Self::NOISE_BYTES + 8);
            while noise.len() < Self::NOISE_BYTES {
                // xorshift, as above.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                noise.extend_from_slice(&state.to_le_bytes());
            }
            let noise = base64::engine::general_purpose::STANDARD.encode(&noise);
            let value = format!(r#"{{"message":"{}","noise":"{noise}"}}"#, Bulk::message(n));
            let mut device = Device::new("pi-7", &format!("/var/log/app-{n}"), n);
            let mut record = device.reading(value.into_bytes());
            record.partition = i32::try_from(n % Self::PARTITIONS).expect("a few");
            record
        })
    }
}

/// What is known of many streams, and what batches may take without it, are together more than was granted.
#[test]
fn ledgers_count_against_the_memory_that_was_granted() {
    const GRANTED_KIB: u64 = 256 * 1024;
    const PATIENCE: Duration = Duration::from_secs(300);
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let partitions = i32::try_from(Streams::PARTITIONS).expect("a few");
    let loading = Loading::new(kafka, &s3, "ledgers", partitions);
    kafka.produce(&loading.topic, Streams::records());
    let listen = free_address();
    let config = format!(
        "path = \"rows\"\n[flush]\nage = \"1h\"\nbytes = \"56MiB\"\n\
         [limits]\nmemory = \"256MiB\"\n[http]\nlisten = \"{listen}\"\n"
    );
    let of = |name: &str| metric(&listen, &format!("headwater_loader_{name}"));
    let committed = || {
        let all = kafka.committed(loading.group(), &loading.topic);
        let offsets = all.iter().filter_map(|committed| committed.offset);
        offsets.sum::<i64>().unsigned_abs()
    };
    let loader = loading.loader(&config).start();
    wait_until("it is at work", PATIENCE, || of("partitions") == Some(4));
    wait_until("all of it is stored", PATIENCE, || {
        loader.sigusr1();
        committed() == Streams::COUNT
    });
    // From here on nothing is: batches take what is left for them, beside the ledgers.
    s3.fault(Fault::on(Op::Put, Kind::Http503).for_keys_with("rows/"));
    let more = Streams::records().map(|record| Record {
        headers: Vec::new(),
        ..record
    });
    kafka.produce(&loading.topic, more);
    wait_until("batches take what there is for them", PATIENCE, || {
        let (held, most) = (of("batch_memory_bytes"), of("batch_memory_bytes_max"));
        held.zip(most).is_some_and(|(held, most)| held >= most)
    });
    // What does not stop there shows it now.
    std::thread::sleep(Duration::from_secs(3));
    let (state, most) = (of("state_memory_bytes"), of("batch_memory_bytes_max"));
    let (state, most) = (state.expect("told"), most.expect("told"));
    let peak = loader.rss_kib_max();
    assert!(
        peak <= GRANTED_KIB,
        "{peak} KiB resident; {state} bytes are known, {most} are for batches"
    );
    assert!(
        state > 80 * 1024 * 1024 && most < 40 * 1024 * 1024,
        "{state} {most}"
    );
    assert_eq!(
        loader
            .stderr()
            .matches("what is known of the partitions")
            .count(),
        1
    );
    s3.clear_faults();
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.assert_proven();
}
