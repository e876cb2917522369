//! The thread against a stand-in for journalctl, and against the real one on a journal that systemd
//! wrote.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use headwater_record::{Generation, Kind, Span};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc::{self, Receiver};

use super::*;
use crate::checkpoint::{FileIdentity, Marker, StoreStopped};
use crate::config::file::StartAt;
use crate::process::ProcessPlan;
use crate::spool::Lane;

const ID: &str = "739ad463348b4ceca5a9e69c95a3c93f";
const OTHER: &str = "00000000000000000000000000000abc";

#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<Vec<OpenGeneration>>>);

impl Registry for Memory {
    fn register(&self, new: &[OpenGeneration]) -> Result<(), StoreStopped> {
        self.0.lock().unwrap().extend_from_slice(new);
        Ok(())
    }

    fn identify(&self, _: &[(Generation, FileIdentity)]) -> Result<(), StoreStopped> {
        panic!("a journal has no identity")
    }

    fn cut(&self, _: Generation, _: u64) -> Result<(), StoreStopped> {
        panic!("a journal has no lines")
    }

    fn mark(&self, generation: Generation, marker: Marker, _: u64) {
        let mut held = self.0.lock().unwrap();
        let open = held.iter_mut().find(|open| open.generation == generation);
        open.unwrap().marker = Some(marker);
    }
}

/// A stream's path, its kind, span, and what it says.
type Told = (String, Kind, Span, String);

/// The thread, what it gives, and what stops it.
type Thread = (JoinHandle<Result<(), SourceError>>, Receiver<Batch>, Stop);

struct Rig {
    folder: TempDir,
    source: JournalSource,
    program: PathBuf,
    memory: Memory,
    running: Option<Thread>,
    told: Vec<Told>,
}

impl Rig {
    fn new(program: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = program.map_or_else(|| folder.path().join("journalctl"), Path::to_owned);
        Self {
            source: JournalSource {
                id: "journal".parse().unwrap(),
                units: Vec::new(),
                lane: Lane::default(),
                priority: None,
                since: None,
                start_at: StartAt::Beginning,
                directory: None,
                fields: Vec::new(),
                process: ProcessPlan::default(),
            },
            program,
            folder,
            memory: Memory::default(),
            running: None,
            told: Vec::new(),
        }
    }

    /// What the stand-in prints when it is asked to follow, and when for the entry taken last.
    fn stand_in(&self, follow: &str, find: &str) {
        let folder = self.folder.path();
        fs::write(folder.join("follow"), follow).unwrap();
        fs::write(folder.join("find"), find).unwrap();
        let at = folder.display();
        let script = format!(
            "#!/bin/sh\necho \"$@\" >> {at}/calls\ncase \"$*\" in\n*--follow*) cat {at}/follow; exec sleep 600 ;;\n\
             *) cat {at}/find ;;\nesac\n"
        );
        fs::write(folder.join("new"), script).unwrap();
        fs::set_permissions(folder.join("new"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(folder.join("new"), &self.program).unwrap();
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    fn input(&self, batches: Sender<Batch>, stop: &Stop) -> JournalInput<Memory> {
        JournalInput {
            device: "pi-7".parse().unwrap(),
            source: self.source.clone(),
            program: self.program.clone(),
            known: self.memory.0.lock().unwrap().clone(),
            registry: self.memory.clone(),
            budget: Budget::new(4 << 20),
            batches,
            stop: stop.clone(),
            seed: 1,
        }
    }

    fn start(&mut self) {
        let (batches, receiver) = mpsc::channel(64);
        let stop = Stop::new();
        let input = self.input(batches, &stop);
        self.running = Some((std::thread::spawn(move || run(input)), receiver, stop));
    }

    /// Waits for so many records more; those before `from` are settled as if acknowledged.
    fn records(&mut self, count: usize) -> &[Told] {
        let from = self.told.len();
        let (_, receiver, _) = self.running.as_mut().unwrap();
        while self.told.len() < from + count {
            let batch = receiver.blocking_recv().unwrap();
            for record in batch.records() {
                let value: Value = serde_json::from_slice(record.value).unwrap();
                let said = value["message"].as_str().or(value["reason"].as_str());
                let told = (
                    batch.stream.path().to_owned(),
                    record.kind,
                    record.span,
                    said.unwrap().to_owned(),
                );
                self.told.push(told);
            }
            let mut held = self.memory.0.lock().unwrap();
            if batch.closes() {
                held.retain(|open| open.generation != batch.generation);
            } else {
                let open = held
                    .iter_mut()
                    .find(|open| open.generation == batch.generation);
                open.unwrap().settled = batch.end();
            }
        }
        &self.told[from..]
    }

    fn stop(&mut self) {
        let (thread, mut receiver, stop) = self.running.take().unwrap();
        stop.set();
        assert_eq!(thread.join().unwrap(), Ok(()));
        assert!(receiver.try_recv().is_err(), "nothing else was told");
    }
}

fn line(id: &str, number: u64, message: &str) -> String {
    let message = Value::from(message);
    format!(
        r#"{{"__CURSOR":"s={id};i={number:x};b=0;m=0;t={:x};x=0","MESSAGE":{message}}}"#,
        number + 1000
    ) + "\n"
}

fn told(id: &str, start: u64, end: u64, said: &str) -> Told {
    let kind = match said {
        reason::JOURNAL_VACUUMED | reason::TOO_LARGE => Kind::Loss,
        reason::ROTATED => Kind::Close,
        _ => Kind::Data,
    };
    (
        format!("journal/{id}"),
        kind,
        Span::new(start, end).unwrap_or(Span::empty_at(start)),
        said.to_owned(),
    )
}

#[test]
fn entries_are_records_and_a_restart_goes_on_behind_the_settled_one() {
    let mut rig = Rig::new(None);
    rig.source.priority = Some("info".into());
    let first = line(ID, 100, "a") + "no entry\n" + &line(ID, 104, "b");
    rig.stand_in(&first, "");
    rig.start();
    assert_eq!(
        rig.records(2),
        [told(ID, 0, 100, "a"), told(ID, 100, 104, "b")]
    );
    rig.stop();
    assert!(
        rig.calls()[0].ends_with("--follow --priority=info --no-tail"),
        "{:?}",
        rig.calls()
    );

    // 104 is there, and given again, as it is behind no cursor of this stand-in's.
    rig.stand_in(
        &(line(ID, 104, "b") + &line(ID, 105, "c")),
        &line(ID, 104, "b"),
    );
    rig.start();
    assert_eq!(rig.records(1), [told(ID, 104, 105, "c")]);
    rig.stop();
    let calls = rig.calls();
    assert!(
        calls[1].ends_with(&format!("--lines=1 --cursor=s={ID};i=68;t=450")),
        "{calls:?}"
    );
    assert!(
        calls[2].ends_with(&format!("--no-tail --cursor=s={ID};i=68;t=450")),
        "{calls:?}"
    );
}

#[test]
fn what_was_not_settled_comes_again_the_same() {
    let mut rig = Rig::new(None);
    rig.source.priority = Some("info".into());
    rig.stand_in(&(line(ID, 100, "a") + &line(ID, 104, "b")), "");
    rig.start();
    let before = rig.records(2).to_vec();
    rig.stop();
    rig.memory.0.lock().unwrap()[0].settled = 0;
    rig.stand_in(
        &(line(ID, 100, "a") + &line(ID, 104, "b")),
        &line(ID, 99, "x"),
    );
    rig.start();
    assert_eq!(rig.records(2), before);
    rig.stop();
}

#[test]
fn deleted_entries_and_too_long_ones_are_losses() {
    let mut rig = Rig::new(None);
    rig.source.priority = Some("info".into());
    rig.stand_in(&line(ID, 10, "a"), "");
    rig.start();
    rig.records(1);
    rig.stop();
    let long = line(ID, 33, &"x".repeat(2 << 20));
    rig.stand_in(
        &(line(ID, 31, "b") + &long + &line(ID, 40, "c")),
        &line(ID, 30, "of another unit"),
    );
    rig.start();
    let expected = [
        told(ID, 10, 29, reason::JOURNAL_VACUUMED),
        told(ID, 29, 31, "b"),
        told(ID, 31, 39, reason::TOO_LARGE),
        told(ID, 39, 40, "c"),
    ];
    assert_eq!(rig.records(4), expected);
    rig.stop();
}

#[test]
fn what_is_deleted_while_it_is_followed_is_a_loss_too() {
    let mut rig = Rig::new(None);
    let lines = line(ID, 10, "a") + &line(ID, 31, "b") + &line(ID, 32, "c");
    rig.stand_in(&lines, &line(ID, 30, "of another unit"));
    rig.start();
    let expected = [
        told(ID, 0, 10, "a"),
        told(ID, 10, 29, reason::JOURNAL_VACUUMED),
        told(ID, 29, 31, "b"),
        told(ID, 31, 32, "c"),
    ];
    assert_eq!(rig.records(4), expected);
    rig.stop();
    // All of it goes, while the agent does not run; then there is more.
    rig.stand_in(&(line(ID, 50, "d") + &line(OTHER, 1, "e")), "");
    rig.start();
    let expected = [
        told(ID, 32, 49, reason::JOURNAL_VACUUMED),
        told(ID, 49, 50, "d"),
        told(ID, 50, 50, reason::ROTATED),
        told(OTHER, 0, 1, "e"),
    ];
    assert_eq!(rig.records(4), expected);
    rig.stop();
}

#[test]
fn a_stop_waits_for_no_question_about_a_jump() {
    let rig = Rig::new(None);
    rig.stand_in("", "");
    let (batches, mut given) = mpsc::channel(64);
    let stop = Stop::new();
    let mut journal = Journal::new(rig.input(batches, &stop));
    let mut too_long = false;
    let mut take = |number| {
        let line = line(ID, number, "a");
        journal.take(line.as_bytes(), &mut too_long)
    };
    assert_eq!(take(10), Ok(true));
    stop.set();
    assert_eq!(take(31), Ok(false));
    assert_eq!(rig.calls(), [""; 0]);
    assert_eq!(given.try_recv().unwrap().end(), 10);
    assert!(
        given.try_recv().is_err(),
        "31 comes again at the next start"
    );
}

#[test]
fn another_sequence_is_another_stream_and_closes_the_first() {
    let mut rig = Rig::new(None);
    rig.stand_in(
        &(line(ID, 100, "a") + &line(OTHER, 1, "b") + &line(OTHER, 2, "c")),
        "",
    );
    rig.start();
    let expected = [
        told(ID, 0, 100, "a"),
        told(ID, 100, 100, reason::ROTATED),
        told(OTHER, 0, 1, "b"),
        told(OTHER, 1, 2, "c"),
    ];
    assert_eq!(rig.records(4), expected);
    rig.stop();
}

#[test]
fn a_journalctl_that_ends_is_run_again_and_one_that_is_not_there_is_waited_for() {
    let mut rig = Rig::new(None);
    rig.start();
    rig.stand_in(&line(ID, 1, "a"), &line(ID, 1, "a"));
    assert_eq!(rig.records(1), [told(ID, 0, 1, "a")]);
    rig.stop();
    let script = fs::read_to_string(&rig.program)
        .unwrap()
        .replace("exec sleep 600", "exit 1");
    fs::write(&rig.program, script).unwrap();
    rig.start();
    while rig
        .calls()
        .iter()
        .filter(|call| call.contains("--follow"))
        .count()
        < 3
    {
        std::thread::yield_now();
    }
    rig.stop();
}

#[test]
fn the_real_journalctl_reads_what_systemd_wrote() {
    let mut rig = Rig::new(Some(Path::new("/usr/bin/journalctl")));
    let folder = rig.folder.path().to_owned();
    // The entry behind which a second start goes on is longer than the answer to a question may be.
    let message = |n: u64| match n {
        4 => format!("line 4{}", "x".repeat(100_000)),
        _ => format!("line {n}"),
    };
    let journal = |numbers: std::ops::Range<u64>| {
        let entry = |n: u64| {
            format!(
                "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={n}\n_BOOT_ID=6c7c6013a26343b29e964691ff25d04c\n\
                 MESSAGE={}\nPRIORITY={}\n_SYSTEMD_UNIT={}.service\n_PID=7\n\n",
                1_764_000_000_000_000 + n * 1_000_000,
                message(n),
                if n.is_multiple_of(2) { 3 } else { 6 },
                if n < 5 { "a" } else { "b" },
            )
        };
        let mut child = Command::new("/lib/systemd/systemd-journal-remote")
            .arg(format!(
                "--output={}",
                folder.join("remote.journal").display()
            ))
            .arg("-")
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("systemd-journal-remote is needed: `make tools` installs it");
        let text: String = numbers.map(entry).collect();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success());
    };
    journal(1..9);
    rig.source.directory = Some(folder.clone());
    rig.start();
    let first: Vec<_> = rig.records(8).to_vec();
    let said: Vec<_> = first
        .iter()
        .map(|(_, _, span, said)| (span.end(), said.clone()))
        .collect();
    assert_eq!(said, (1..9).map(|n| (n, message(n))).collect::<Vec<_>>());
    rig.stop();
    // Half of it was not settled; and more came meanwhile, of which a filter passes a part. The cursor's
    // own entry is not of it, and nothing may be skipped for that.
    rig.memory.0.lock().unwrap()[0].settled = 4;
    journal(9..13);
    rig.source.priority = Some("err".into());
    rig.source.units = vec!["b.service".into()];
    rig.start();
    let spans: Vec<_> = rig
        .records(4)
        .iter()
        .map(|(_, _, span, said)| (span.start(), span.end(), said.clone()))
        .collect();
    let span = |start: u64, end: u64| (start, end, format!("line {end}"));
    assert_eq!(spans, [span(4, 6), span(6, 8), span(8, 10), span(10, 12)]);
    rig.stop();
}
