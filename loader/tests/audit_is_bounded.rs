//! `audit` takes no more memory for a large fleet than for a small one: the program itself, under a
//! limit that the kernel keeps, over snapshots as the loader writes them.

#![expect(
    clippy::unwrap_used,
    reason = "a test's own helpers may panic as the test itself"
)]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use headwater_loader::aggregate::Windows;
use headwater_loader::books::Books;
use headwater_loader::state::State;
use headwater_record::{Generation, Ledger, Span};

/// Writable memory of the process, KiB: code, threads and TLS of an audit of nothing take 30 MiB of it.
const LIMIT_KIB: u32 = 88 * 1024;
/// More partitions than are merged at once.
const PARTITIONS: usize = 40;

/// The streams of one partition: half of all in the first, as many in each of the others. One of them
/// has a gap.
fn ledger(partition: usize, streams: usize) -> Ledger {
    let (first, count) = match partition {
        0 => (0, streams / 2),
        n => {
            let each = streams / 2 / (PARTITIONS - 1);
            (streams / 2 + (n - 1) * each, each)
        }
    };
    let mut ledger = Ledger::default();
    for stream in first..first + count {
        // Names and generations that compress about as badly as real ones.
        let name = format!("pi-{:07}/syslog//var/log/app-{stream}.log", stream / 10);
        let generation = Generation((stream as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let end = 1000 + generation.0 % 1_000_000;
        let span = Span::new(0, end).unwrap();
        ledger.accept(&name, generation, span, 1_764_000_000_000);
    }
    if partition == 7 {
        let name = "pi-0000007/syslog//var/log/with-a-gap.log";
        ledger.accept(name, Generation(1), Span::new(5, 9).unwrap(), 1);
    }
    ledger
}

/// Writes the snapshots, and says how many streams they have.
fn write_snapshots(folder: &Path, streams: usize) -> usize {
    let mut written = 0;
    for partition in 0..PARTITIONS {
        let ledger = ledger(partition, streams);
        written += ledger.streams().count();
        let state = State {
            topic: "logs",
            partition: i32::try_from(partition).unwrap(),
            end: 9,
            rows_ms: 1,
            clock_ms: 1,
            named: None,
            ledger: &ledger,
            windows: &Windows::default(),
            books: &Books::default(),
        };
        let (name, bytes) = state.encode().unwrap();
        let place = folder.join(format!("out/_headwater/state/logs/{partition}"));
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(name), bytes).unwrap();
    }
    let config = format!(
        "[kafka]\nbrokers = [\"localhost:9\"]\ntopic = \"logs\"\n[kafka.security]\nallow_plaintext = true\n\
         [group]\nid = \"g\"\n[output]\nurl = \"file://{}/out\"\n",
        folder.display()
    );
    fs::write(folder.join("loader.toml"), config).unwrap();
    written
}

/// Runs `audit` under the limit; what it prints goes to a file.
fn audit(folder: &Path, more: &[&str]) -> (Output, String) {
    let printed = folder.join("printed");
    let output = Command::new("sh")
        .args([
            "-c",
            &format!("ulimit -d {LIMIT_KIB} && exec \"$0\" \"$@\""),
        ])
        .arg(env!("CARGO_BIN_EXE_headwater-loader"))
        .args(["audit", "--config"])
        .arg(folder.join("loader.toml"))
        .args(more)
        .env("TMPDIR", folder)
        // A thread's stack counts, too, and there are as many as cores.
        .env("TOKIO_WORKER_THREADS", "2")
        .stdout(File::create(&printed).unwrap())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    (output, fs::read_to_string(printed).unwrap())
}

/// An audit of so many streams, one of which has a gap, within the memory: its folder, and how many they are.
fn is_bounded_over(streams: usize) -> (tempfile::TempDir, usize) {
    let folder = tempfile::tempdir().unwrap();
    let written = write_snapshots(folder.path(), streams);
    let (ran, text) = audit(folder.path(), &[]);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "one gap: {said}");
    assert!(text.ends_with("unexplained gaps: 1\n"));
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next().filter(|name| name.contains('/')))
        .collect();
    assert_eq!(names.len(), written);
    assert!(names.is_sorted());
    (folder, written)
}

#[test]
fn the_memory_of_an_audit_does_not_grow_with_what_is_asked() {
    let (folder, written) = is_bounded_over(200_000);
    let (ran, json) = audit(folder.path(), &["--json"]);
    assert_eq!(ran.status.code(), Some(1));
    assert_eq!(json.matches("\"stream\": ").count(), written);
    assert!(json.ends_with("\"unexplained_gaps\": 1\n}\n"));
    let (ran, text) = audit(folder.path(), &["--by", "device", "--gaps"]);
    assert_eq!(ran.status.code(), Some(1));
    let devices: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("pi-"))
        .collect();
    assert!(
        devices.len() == 1 && devices[0].starts_with("pi-0000007 "),
        "{text}"
    );
    let (ran, text) = audit(folder.path(), &["--device", "pi-0000011"]);
    assert_eq!(ran.status.code(), Some(0));
    assert_eq!(
        text.lines().filter(|line| line.starts_with("pi-")).count(),
        10
    );
    let left = fs::read_dir(folder.path()).unwrap();
    assert_eq!(left.count(), 3, "no temporary file is left");
}

/// In the same memory.
#[test]
fn the_memory_of_an_audit_does_not_grow_with_the_fleet() {
    let (_, written) = is_bounded_over(1_000_000);
    assert!(written > 999_000, "{written}");
}
