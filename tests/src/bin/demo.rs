//! `make demo`: this machine's real logs and sensors, through a real Kafka, into S3; the broker is
//! cut off for some seconds in the middle. Ends by itself and leaves nothing running.
#![expect(
    clippy::print_stdout,
    reason = "showing is what a demonstration is for"
)]

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use headwater_tests::clock::now;
use headwater_tests::kafka::Kafka;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::{decompress, wait_until};
use headwater_tests::process::{Agent, Process};
use headwater_tests::s3::S3;
use headwater_tests::writer::Writer;

const PATIENCE: Duration = Duration::from_secs(60);
const ROWS_SHOWN: usize = 4;

fn main() {
    let began = now();
    let say = |text: &str| println!("[{:5.1}s] {text}", began.elapsed().as_secs_f32());
    say("starting Kafka and S3 (embedded parts, or those of KAFKA_BOOTSTRAP and S3_ENDPOINT)");
    let kafka = match Kafka::shared() {
        outside if outside.is_outside() => outside,
        own => own,
    };
    let s3 = S3::shared();
    let loading = Loading::new(kafka, s3, "demo", 3);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let app = folder.path().join("app.log");
    say(&format!(
        "topic {} with 3 partitions on {}",
        loading.topic,
        kafka.bootstrap()
    ));

    let agent = Agent::with(&agent_config(&loading, &app)).start();
    let loader = loading
        .loader("compression = \"zstd\"\n[flush]\nage = \"2s\"\n")
        .start();
    say(
        "agent and loader are running; a writer appends 500 lines a second to a file and rotates it",
    );
    let writer = Writer::new(&app, "app", 1).rate(500).in_background(2000);
    sleep(Duration::from_secs(5));
    outage(kafka, &agent, &say);
    sleep(Duration::from_secs(4));
    let writer = writer.stop();
    say(&format!(
        "the writer stopped after {} lines",
        writer.written()
    ));
    let lines: Vec<String> = writer.lines().collect();
    wait_until("every line of the writer is in S3", PATIENCE, || {
        let stored = rows_of(&loading, "app");
        let report = headwater_tests::oracle::Report::compare(lines.iter().cloned(), &stored);
        report.lost.is_empty()
    });
    say("all of them are in S3; stopping the agent, then the loader");
    let ended = (
        agent.sigterm_and_wait(PATIENCE),
        loader.sigterm_and_wait(PATIENCE),
    );
    assert!(
        ended.0.success() && ended.1.success(),
        "both end with status 0: {ended:?}"
    );
    show(&loading, &writer, &agent);
    say("done; everything is stopped and removed");
}

fn agent_config(loading: &Loading<'_>, app: &Path) -> String {
    format!(
        r#"
        device = "demo-device"
        state_dir = "{{dir}}/state"
        [kafka]
        brokers = ["{brokers}"]
        topic = "{topic}"
        [kafka.security]
        allow_plaintext = true
        [kafka.options]
        "reconnect.backoff.ms" = "100"
        "reconnect.backoff.max.ms" = "500"
        [[file]]
        id = "system"
        paths = ["/var/log/dpkg.log", "/var/log/apt/*.log", "/var/log/alternatives.log"]
        [[file]]
        id = "app"
        paths = ["{app}"]
        close_after = "1s"
        [[sensor]]
        id = "temperature"
        paths = ["/sys/class/thermal/thermal_zone*/temp"]
        interval = "1s"
        scale = 0.001
        unit = "C"
        [[sensor]]
        id = "load"
        paths = ["/proc/loadavg"]
        interval = "1s"
        "#,
        brokers = loading.kafka.bootstrap(),
        topic = loading.topic,
        app = app.display(),
    )
}

/// Cuts the broker off, and shows what the agent does about it.
fn outage(kafka: &Kafka, agent: &Process, say: &dyn Fn(&str)) {
    if kafka.is_outside() {
        say("KAFKA_BOOTSTRAP names somebody else's broker: it is not cut off");
        return;
    }
    say("cutting the broker off for 8 seconds");
    let before = agent.stderr().lines().count();
    kafka.while_paused(|| {
        for _ in 0..4 {
            sleep(Duration::from_secs(2));
            say(&format!(
                "  offline: the agent's database has {} KiB",
                database_kib(agent.dir())
            ));
        }
    });
    say("the broker is back");
    sleep(Duration::from_secs(3));
    for line in agent.stderr().lines().skip(before) {
        println!("         agent: {line}");
    }
}

fn database_kib(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder.join("state"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .sum::<u64>()
        / 1024
}

fn rows_of(loading: &Loading<'_>, source: &str) -> Vec<headwater_tests::oracle::Stored> {
    headwater_tests::oracle::stored(
        loading.s3,
        &loading.bucket,
        &format!("data/source={source}/"),
    )
}

fn show(loading: &Loading<'_>, writer: &Writer, agent: &Process) {
    println!("\n--- what was read");
    println!(
        "{:>9} lines that the writer wrote, over its rotations",
        writer.written()
    );
    for line in agent
        .stderr()
        .lines()
        .filter(|line| line.contains("stopped"))
    {
        println!("          agent: {line}");
    }
    println!("\n--- what lies in S3");
    let objects = loading.s3.objects(&loading.bucket, "data/source=");
    let mut shown = String::new();
    for (key, bytes) in &objects {
        let text = String::from_utf8_lossy(&decompress(key, bytes)).into_owned();
        println!(
            "{:>9} bytes {:>7} rows  {key}",
            bytes.len(),
            text.lines().count()
        );
        let source = key.split('/').nth(1).unwrap_or_default().to_owned();
        if !shown.contains(&source) && shown.matches("source=").count() < ROWS_SHOWN {
            shown.push_str(&format!(
                "{source}\n  {}\n",
                text.lines().next().unwrap_or_default()
            ));
        }
    }
    println!("\n--- a row of each source\n{shown}");
    println!("--- headwater-loader audit");
    println!("{}", loading.audit().stdout);
    println!("--- headwater-loader verify");
    println!("{}", loading.verify().stdout);
}
