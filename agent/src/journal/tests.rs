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
/// Behind the reason of a close whose tail is.
const UNKNOWN: &str = ", tail unknown";
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

    fn mark(&self, _: Generation, _: Marker, _: u64) {
        panic!("an entry has a boot")
    }

    fn mark_entry(&self, generation: Generation, marker: Marker, boot: Marker) {
        let mut held = self.0.lock().unwrap();
        let open = held.iter_mut().find(|open| open.generation == generation);
        let open = open.unwrap();
        (open.marker, open.earlier) = (Some(marker), vec![boot]);
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
             *i=63*) cat {at}/find-63 || cat {at}/find ;;\n*) cat {at}/find ;;\nesac\n"
        );
        fs::write(folder.join("new"), script).unwrap();
        fs::set_permissions(folder.join("new"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(folder.join("new"), &self.program).unwrap();
    }

    /// A journal of these entries, as journalctl would show it: their numbers, boots and times.
    fn journal_of(&self, entries: &[(u64, u128, u64)]) {
        let at = self.folder.path();
        let line = |(number, boot, time): &(u64, u128, u64)| {
            format!(
                r#"{{"__CURSOR":"s={ID};i={number:x};b={boot:032x};m=0;t={time:x};x=0","MESSAGE":"{boot} {number}"}}"#
            )
        };
        let lines: Vec<_> = entries.iter().map(line).collect();
        for old in fs::read_dir(at).unwrap().flatten() {
            if old.file_name() != "calls" {
                fs::remove_file(old.path()).unwrap();
            }
        }
        fs::write(at.join("all"), lines.join("\n") + "\n").unwrap();
        for (n, (number, boot, _)) in entries.iter().enumerate() {
            fs::write(at.join(format!("boot-{boot:032x}")), &lines[n]).unwrap();
            fs::write(at.join(format!("number-{number:x}")), lines[n..].join("\n")).unwrap();
        }
        fs::write(at.join("last"), lines.last().unwrap()).unwrap();
        let at = at.display();
        let script = format!(
            "#!/bin/sh\necho \"$@\" >> {at}/calls\n\
             n=$(echo \"$*\" | sed -n 's/.*;i=\\([0-9a-f]*\\);.*/\\1/p')\n\
             b=$(echo \"$*\" | sed -n 's/.*_BOOT_ID=\\([0-9a-f]*\\).*/\\1/p')\n\
             case \"$*\" in\n\
             *--follow*) if [ -n \"$n\" ]; then cat {at}/number-$n; else cat {at}/all; fi; echo; exec sleep 600 ;;\n\
             *_BOOT_ID=*) cat {at}/boot-$b 2>/dev/null || true ;;\n\
             *--cursor=*) cat {at}/number-$n 2>/dev/null | head -n 1 ;;\n\
             *) cat {at}/last ;;\nesac\n"
        );
        fs::write(self.folder.path().join("new"), script).unwrap();
        fs::set_permissions(
            self.folder.path().join("new"),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        fs::rename(self.folder.path().join("new"), &self.program).unwrap();
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
                let is_unknown = value["tail"].as_str() == Some("unknown");
                let told = (
                    batch.stream.path().to_owned(),
                    record.kind,
                    record.span,
                    said.unwrap().to_owned() + if is_unknown { UNKNOWN } else { "" },
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
        said if said.ends_with(UNKNOWN) => Kind::Close,
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
        &line(ID, 104, "b"),
    );
    // As of when nothing of it was read.
    fs::write(rig.folder.path().join("find-63"), line(ID, 99, "x")).unwrap();
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

/// Entries 1 to 10 of the first boot are read, and all of them settled.
fn read_ten() -> (Rig, Vec<(u64, u128, u64)>) {
    let mut rig = Rig::new(None);
    let first: Vec<_> = (1..=10).map(|n| (n, 1, 1000 + n)).collect();
    rig.journal_of(&first);
    rig.start();
    rig.records(10);
    rig.stop();
    (rig, first)
}

/// What is told where the entries of `numbers` came in the second boot, behind a close at `end`.
fn another_life(end: u64, close: &str, numbers: std::ops::RangeInclusive<u64>) -> Vec<Told> {
    let mut all = vec![told(ID, end, end, close)];
    let first = *numbers.start();
    for number in numbers {
        let start = if number == first { 0 } else { number - 1 };
        all.push(told(ID, start, number, &format!("2 {number}")));
    }
    all
}

#[test]
fn numbers_that_come_again_after_a_power_cut_are_of_another_generation() {
    let cut = reason::TRUNCATED.to_owned() + UNKNOWN;
    // The clock goes on, or was set back; and the number of the last one is another's, or nobody's yet.
    for (time, last) in [(9000, 12), (10, 12), (9000, 9), (10, 9)] {
        let (mut rig, mut entries) = read_ten();
        entries.truncate(7);
        entries.extend((8..=last).map(|n| (n, 2, time + n)));
        rig.journal_of(&entries);
        rig.start();
        let expected = another_life(10, &cut, 8..=last);
        assert_eq!(rig.records(expected.len()), expected, "{time}, {last}");
        rig.stop();
        // And so it stays.
        entries.push((last + 1, 2, time + last + 1));
        rig.journal_of(&entries);
        rig.start();
        let next = last + 1;
        assert_eq!(rig.records(1), [told(ID, last, next, &format!("2 {next}"))]);
        rig.stop();
    }
}

#[test]
fn what_of_a_boot_was_not_settled_is_read_before_its_numbers_come_again() {
    let (mut rig, mut entries) = read_ten();
    rig.memory.0.lock().unwrap()[0].settled = 5;
    entries.truncate(7);
    entries.extend((8..=11).map(|n| (n, 2, 9000 + n)));
    rig.journal_of(&entries);
    rig.start();
    let mut expected = vec![told(ID, 5, 6, "1 6"), told(ID, 6, 7, "1 7")];
    expected.extend(another_life(
        7,
        &(reason::TRUNCATED.to_owned() + UNKNOWN),
        8..=11,
    ));
    assert_eq!(rig.records(expected.len()), expected);
    rig.stop();
}

#[test]
fn where_nothing_of_the_boot_is_left_all_behind_its_beginning_is_new() {
    let (mut rig, _) = read_ten();
    let entries: Vec<_> = (1..=3).map(|n| (n, 2, 9000 + n)).collect();
    rig.journal_of(&entries);
    // The generation began behind number 0, so that is asked for.
    fs::copy(
        rig.folder.path().join("number-1"),
        rig.folder.path().join("number-0"),
    )
    .unwrap();
    rig.start();
    let expected = another_life(10, &(reason::TRUNCATED.to_owned() + UNKNOWN), 1..=3);
    assert_eq!(rig.records(4), expected);
    rig.stop();
}

#[test]
fn without_a_boot_what_is_later_than_the_last_one_is_new() {
    let (mut rig, mut entries) = read_ten();
    rig.memory.0.lock().unwrap()[0].earlier.clear();
    entries.truncate(7);
    entries.extend((8..=11).map(|n| (n, 2, 9000 + n)));
    rig.journal_of(&entries);
    fs::copy(
        rig.folder.path().join("all"),
        rig.folder.path().join("number-0"),
    )
    .unwrap();
    rig.start();
    let expected = another_life(10, &(reason::TRUNCATED.to_owned() + UNKNOWN), 8..=11);
    assert_eq!(rig.records(5), expected);
    rig.stop();
}

#[test]
fn another_boot_begins_a_generation_at_a_start_since_what_was_read_last_may_be_gone() {
    let (mut rig, mut entries) = read_ten();
    let (mut other, _) = read_ten();
    // As of an earlier agent.
    other.memory.0.lock().unwrap()[0].earlier.clear();
    // 11 and 12 of the first boot were sent, and that was not written down; and the journal lost them.
    entries.extend((11..=12).map(|n| (n, 2, 9000 + n)));
    for rig in [&mut rig, &mut other] {
        rig.journal_of(&entries);
        rig.start();
        assert_eq!(rig.records(3), another_life(10, reason::ROTATED, 11..=12));
        rig.stop();
    }
    // Once a start: what comes then is read by this one alone.
    let boots = (13..=16).map(|n| (n, u128::from(n), 9000 + n));
    entries.extend(boots);
    rig.journal_of(&entries);
    rig.start();
    let generations = |rig: &Rig| rig.memory.0.lock().unwrap().len();
    rig.records(5);
    assert_eq!(generations(&rig), 1);
    assert_eq!(rig.told[rig.told.len() - 1], told(ID, 15, 16, "16 16"));
    rig.stop();
}

#[test]
fn what_a_run_has_read_is_its_own_though_it_is_not_written_down_yet() {
    let (mut rig, mut entries) = read_ten();
    entries.extend((11..=12).map(|n| (n, 2, 9000 + n)));
    rig.journal_of(&entries);
    // Another configuration: 11 is given, and the database knows of 10.
    rig.memory.0.lock().unwrap()[0].settled = 11;
    rig.start();
    assert_eq!(rig.records(2), another_life(11, reason::ROTATED, 12..=12));
    rig.stop();
}

#[test]
fn a_generation_that_was_not_closed_yet_ends_where_the_next_begins() {
    let (mut rig, mut entries) = read_ten();
    let first = rig.memory.0.lock().unwrap()[0].clone();
    entries.truncate(7);
    entries.extend((8..=11).map(|n| (n, 2, 10 + n)));
    rig.journal_of(&entries);
    rig.start();
    let told = rig.records(5).to_vec();
    rig.stop();
    // Nothing of that was settled.
    let mut held = rig.memory.0.lock().unwrap();
    held[0].settled = 0;
    let second = held[0].generation;
    held.push(first);
    drop(held);
    rig.start();
    assert_eq!(rig.records(5), told);
    rig.stop();
    let held = rig.memory.0.lock().unwrap();
    assert_eq!(
        held.iter().map(|open| open.generation).collect::<Vec<_>>(),
        [second]
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
