//! Promise 1, from files on a device to rows in S3: every line, once, whatever happens to the agent.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use headwater_tests::kafka::Kafka;
use headwater_tests::loading::{KIP_848, Loading};
use headwater_tests::oracle::{Report, stored, wait_until, wait_until_complete};
use headwater_tests::process::{Process, Setup};
use headwater_tests::s3::S3;
use headwater_tests::writer::Writer;

const PATIENCE: Duration = Duration::from_secs(120);

fn finish(loading: &Loading, agent: &Process, loader: &Process) {
    assert_eq!(
        agent.sigterm_and_wait(PATIENCE).code(),
        Some(0),
        "the agent ends in order"
    );
    wait_until("the ledger knows it too", PATIENCE, || {
        loading.audit().code == Some(0)
    });
    assert_eq!(
        loader.sigterm_and_wait(PATIENCE).code(),
        Some(0),
        "the loader ends in order"
    );
    loading.assert_proven();
}

/// Renames the file once the agent follows it, as a line of it that is stored shows: the glob knows but
/// its name, and a file that nobody had seen under it would be gone.
fn rotate_once_followed(loading: &Loading, writer: &mut Writer, first_line: &mut u64) {
    let first = usize::try_from(*first_line).expect("a few lines");
    let first = writer.lines().nth(first).expect("the file has a line");
    wait_until("the file is followed", PATIENCE, || {
        loading.stored().iter().any(|row| row.message == first)
    });
    writer.rotate();
    *first_line = writer.written();
}

#[test]
fn a_steady_flow_of_200_000_lines_with_rotation() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "steady", 3);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |n: usize| folder.path().join(format!("app-{n}.log"));
    let mut writers: Vec<Writer> = (0..5)
        .map(|n| Writer::new(path(n), &format!("w{n}"), n as u64).in_pieces())
        .collect();
    let agent = loading
        .agent(&format!("{}/app-?.log", folder.path().display()), "")
        .start();
    let loader = loading.loader("[flush]\nage = \"2s\"\n").start();
    let mut first_lines = [0; 5];
    for round in 0..8 {
        for (writer, first_line) in writers.iter_mut().zip(&mut first_lines) {
            writer.write(5_000);
            if round % 3 == 2 {
                rotate_once_followed(&loading, writer, first_line);
            }
        }
    }
    let all: Vec<&Writer> = writers.iter().collect();
    let patience = Duration::from_secs(300);
    wait_until_complete(&all, &s3, &loading.bucket, "data/", patience).assert_exact();
    finish(&loading, &agent, &loader);
    Report::of(all, &s3, &loading.bucket, "data/").assert_exact();
}

#[test]
fn an_agent_killed_twenty_times() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "agentkill", 2).of(KIP_848);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5).in_pieces();
    let loader = loading.start();
    // Checkpoints come often, so that a life rarely begins where the last one did.
    let more = "[checkpoint]\nevery = \"500ms\"\n[spool]\nafter = \"300ms\"\n";
    let setup = loading.agent(&format!("{}/app.log", folder.path().display()), more);
    let points = [
        "spool-before-commit",
        "spool-after-commit",
        "checkpoint-before-commit",
        "delivered-before-settle:3",
        "register-after-commit",
    ];
    let mut agent = setup.start();
    let mut first_line = 0;
    for round in 0..20_usize {
        writer.write(400);
        if round % 6 == 5 {
            rotate_once_followed(&loading, &mut writer, &mut first_line);
        }
        std::thread::sleep(Duration::from_millis(50 + (round as u64 * 331) % 900));
        agent.kill9();
        let mut stopped = agent.stopped();
        if round % 4 == 3 {
            stopped = stopped.crash_at(points[round / 4]);
        }
        agent = stopped.start();
    }
    if !agent.is_running() {
        agent = agent.restart();
    }
    writer.write(10);
    wait_until_complete(&[&writer], &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    finish(&loading, &agent, &loader);
    Report::of([&writer], &s3, &loading.bucket, "data/").assert_exact();
}

/// Each life of an agent ends by itself, at a named point of its own, and the next one goes on.
#[test]
fn an_agent_killed_at_each_point() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "points", 2);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5);
    let loader = loading.start();
    // Everything goes through the spool.
    let more = "[checkpoint]\nevery = \"500ms\"\n[spool]\nafter = \"0s\"\n";
    let mut agent = loading.agent(&format!("{}/app.log", folder.path().display()), more);
    let dies_at = |agent: Setup, point: &str| {
        let agent = agent.crash_at(point).start();
        let status = agent.wait(PATIENCE);
        assert_eq!(status.signal(), Some(9), "{point}: {}", agent.stderr());
        agent.stopped()
    };
    for point in [
        "register-after-commit",
        "spool-before-commit",
        "spool-after-commit",
        "delivered-before-settle",
        "checkpoint-before-commit",
    ] {
        writer.write(200);
        agent = dies_at(agent, point);
    }
    // A life of its own, to the end: what was stored so far is of those before.
    let running = agent.start();
    writer.write(10);
    let complete = |writer: &Writer| {
        wait_until_complete(&[writer], &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    };
    complete(&writer);
    assert_eq!(running.sigterm_and_wait(PATIENCE).code(), Some(0));
    // And between the two names of a salvaged spool: its first page says no longer what it is.
    agent = running.stopped();
    let spool = agent.dir().join("state/spool.db");
    let spool = fs::OpenOptions::new().write(true).open(spool);
    let damaged = spool.and_then(|spool| spool.write_all_at(&[0; 16], 0));
    damaged.expect("the spool can be damaged");
    writer.write(200);
    agent = dies_at(agent, "salvage-between-renames");
    let running = agent.start();
    writer.write(10);
    complete(&writer);
    finish(&loading, &running, &loader);
    Report::of([&writer], &s3, &loading.bucket, "data/").assert_exact();
}

#[test]
fn bad_input_costs_nobody_else_a_line() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "badinput", 1).of(KIP_848);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("folder.log")).expect("a folder");
    std::os::unix::fs::symlink("/nowhere/at/all", path("dangling.log")).expect("a symlink");
    let mut hostile = b"caf\xe9 not UTF-8\nNUL \0 and \x07 bell\r\n".to_vec();
    hostile.extend(b"x".repeat(10 * 1024 * 1024));
    hostile.extend(b"\nafter the long line\n");
    fs::write(path("hostile.log"), hostile).expect("a file");
    let no_text = folder.path().join(OsStr::from_bytes(b"caf\xe9\n.log"));
    fs::write(no_text, "of a name that is no text\n").expect("a file of any name");
    let mut writer = Writer::new(path("good.log"), "w", 5);
    writer.write(1000);
    let agent = loading
        .agent(&format!("{}/*.log", folder.path().display()), "")
        .start();
    let loader = loading.start();
    let messages = || -> Vec<String> {
        let rows = stored(&s3, &loading.bucket, "data/");
        rows.into_iter().map(|row| row.message).collect()
    };
    wait_until("the last line of each file is stored", PATIENCE, || {
        let all = messages();
        let has = |line: &str| all.iter().any(|message| message == line);
        has("after the long line") && has("of a name that is no text")
    });
    let all = messages();
    let good: Vec<&String> = all
        .iter()
        .filter(|message| message.starts_with("w:"))
        .collect();
    assert_eq!(good.len(), 1000);
    assert!(all.contains(&"caf\u{fffd} not UTF-8".to_owned()));
    let stream = format!("pi-7/app/{}/caf%E9%0A.log", folder.path().display());
    let mut headers = kafka.records(&loading.topic).into_iter();
    assert!(headers.any(|record| record.header("hw-stream").as_deref() == Some(&*stream)));
    assert!(all.contains(&"NUL \0 and \u{7} bell".to_owned()));
    let long: usize = all
        .iter()
        .filter(|message| message.starts_with("xxxx"))
        .map(String::len)
        .sum();
    assert_eq!(
        long,
        10 * 1024 * 1024,
        "the long line came in pieces, all of it"
    );
    // Nothing was wrong with the process for it: 10 MiB did not have to fit.
    assert!(
        agent.rss_kib_max() < 64 * 1024,
        "{} KiB",
        agent.rss_kib_max()
    );
    finish(&loading, &agent, &loader);
}
