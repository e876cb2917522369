//! Many files, chatty files, files of every name and kind.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use headwater_record::notice::Tail;

use super::rig::Rig;
use crate::tail::counters::FURTHEST;

#[test]
fn more_files_than_may_be_open_are_all_followed() {
    let mut rig = Rig::new("*.log");
    rig.source.framing.max_line = 1024;
    rig.open_max = 16;
    let name = |n: usize| format!("{n:03}.log");
    for n in 0..200 {
        rig.append(&name(n), &format!("{n} first\n"));
    }
    rig.start();
    rig.pump();
    assert!(rig.open_files() <= 16, "{}", rig.open_files());
    rig.settle_all();
    for restart in [false, true] {
        if restart {
            rig.stop();
            rig.start();
            assert!(rig.open_files() <= 16, "{}", rig.open_files());
        }
        for n in 0..200 {
            rig.append(&name(n), &format!("{n} again {restart}\n"));
        }
        rig.pump();
        assert!(rig.open_files() <= 16, "{}", rig.open_files());
        rig.settle_all();
    }
    // While it is not held open: renamed with more in it, deleted, cut, replaced.
    rig.append(&name(0), "0 last\n");
    rig.rename(&name(0), "000.old");
    fs::remove_file(rig.path(&name(1))).unwrap();
    fs::write(rig.path(&name(2)), "2 anew\n").unwrap();
    rig.rename(&name(3), "003.old");
    rig.append(&name(3), "3 anew\n");
    rig.pass_time();
    rig.pass_time();
    let lines = rig.all_lines();
    assert_eq!(lines.len(), 3 * 200 + 3);
    for line in ["0 last", "2 anew", "3 anew", "199 again true"] {
        assert!(lines.iter().any(|given| given == line), "{line}");
    }
    // The deleted one may have been held open, or not; then its end is not known.
    let count = |tail: Tail| rig.closes().iter().filter(|close| close.2 == tail).count();
    assert_eq!(count(Tail::Complete) + count(Tail::Unknown), 4);
    assert!(count(Tail::Complete) >= 2 && count(Tail::Unknown) >= 1);
}

/// Decoding takes up to 8 MiB: the files of a folder of compressed logs are read one after the other, and
/// plain ones beside them have their turns.
#[test]
fn one_compressed_file_is_decoded_at_a_time() {
    let mut rig = Rig::new("*");
    rig.source.framing.max_line = 1024;
    let lines = |n: usize| (0..20_000).map(move |k| format!("{n} {k}"));
    let ends = ["zst", "gz", "zst", "gz"];
    for (n, end) in ends.iter().enumerate() {
        let text: Vec<_> = lines(n).collect();
        rig.append("plain", &(text.join("\n") + "\n"));
        rig.pack("plain", &format!("{n}.{end}"));
    }
    rig.start();
    // Nobody may write to what is compressed for so long.
    rig.later(10);
    let mut wanted: Vec<_> = (0..ends.len()).flat_map(lines).collect();
    for round in 0.. {
        assert!(rig.decoding() <= 1, "round {round}: {}", rig.decoding());
        // A round a line of the log's own.
        if rig.all_messages().len() >= wanted.len() + round {
            break;
        }
        // In the middle of them the agent ends, and begins.
        if round == 3 {
            rig.settle_all();
            rig.stop();
            rig.start();
        }
        rig.append("log", &format!("round {round}\n"));
        rig.scan_and_pass();
        assert!(
            rig.records
                .iter()
                .any(|record| record.message == format!("round {round}")),
            "a plain file waits for them"
        );
        assert!(round < 1000, "they stand still");
    }
    let mut given = rig.all_messages();
    given.retain(|line| !line.starts_with("round"));
    given.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(given.len(), wanted.len());
    assert!(given == wanted);
    rig.pump();
    assert_eq!(rig.decoding(), 0, "what was read to its end is let go");
}

#[test]
fn a_chatty_file_does_not_starve_the_rest() {
    let mut rig = Rig::new("*.log");
    rig.source.framing.max_line = 1024;
    rig.append(
        "a.log",
        &"a line that a chatty program writes\n".repeat(100_000),
    );
    for n in 0..50 {
        rig.append(&format!("b{n}.log"), "quiet\n");
    }
    rig.start();
    rig.pass_once();
    let quiet = rig
        .records
        .iter()
        .filter(|record| record.message == "quiet");
    assert_eq!(
        quiet.count(),
        50,
        "each had its turn beside one chunk of the first"
    );
    assert!(rig.records.len() < 5000, "{}", rig.records.len());
}

/// It is read a chunk a pass however much there is, also when it is rotated meanwhile; and every line of it
/// comes once it is slower.
#[test]
fn a_file_that_grows_faster_than_it_is_read_costs_nobody_a_line() {
    const LINES: usize = 4000;
    let mut rig = Rig::new("*.log");
    rig.source.framing.max_line = 1024;
    rig.append("b.log", "first of b\n");
    rig.append("a.log", "first of a\n");
    rig.start();
    rig.pump();
    let chunk = rig.chunk_bytes();
    let mut wanted: Vec<String> = ["first of a", "first of b"].map(str::to_owned).into();
    for round in 0..12 {
        let lines = (0..LINES).map(|n| format!("{round}: line {n} of a program in a loop"));
        let lines: Vec<String> = lines.collect();
        let text = lines.join("\n") + "\n";
        assert!(text.len() > 2 * chunk, "{} against {chunk}", text.len());
        rig.append("a.log", &text);
        rig.append("b.log", &format!("{round} of b\n"));
        wanted.extend(lines);
        wanted.push(format!("{round} of b"));
        let before = rig.records.len();
        rig.pass_once();
        let new = &rig.records[before..];
        let quiet = new.iter().filter(|record| record.message.ends_with("of b"));
        assert_eq!(quiet.count(), 1, "round {round}: the other has its turn");
        let read: usize = new.iter().map(|record| record.message.len() + 1).sum();
        assert!(read <= 2 * chunk, "round {round}: {read} bytes in a pass");
        if round == 6 {
            rig.rename("a.log", "a.log.1");
        }
    }
    let mut lines = rig.all_lines();
    lines.sort();
    wanted.sort();
    assert_eq!(lines, wanted);
}

#[test]
fn names_are_any_text() {
    let mut rig = Rig::new("*.log");
    let long = format!("{}.log", "x".repeat(251));
    let names: [&[u8]; 6] = [
        b"line\nbreak.log",
        long.as_bytes(),
        b" \t\x01.log",
        b"per%cent.log",
        b"[*?].log",
        b"caf\xe9.log",
    ];
    for name in names {
        fs::write(rig.path_of(OsStr::from_bytes(name)), "text\n").unwrap();
    }
    rig.start();
    rig.pump();
    rig.settle_all();
    rig.crash();
    rig.start();
    rig.pump();
    assert_eq!(rig.all_lines(), ["text"; 6]);
    let mut streams: Vec<_> = (rig.memory.open().into_iter())
        .map(|open| open.stream.as_str().to_owned())
        .collect();
    streams.sort();
    streams.dedup();
    assert_eq!(
        streams.len(),
        6,
        "each names a stream of its own: {streams:?}"
    );
    for stream in streams {
        assert!(stream.bytes().all(|byte| byte >= b' '), "{stream:?}");
    }
}

#[test]
fn what_is_no_file_is_passed_over_and_does_not_block() {
    let mut rig = Rig::new("**/*.log");
    let made = Command::new("mkfifo")
        .arg(rig.path("fifo.log"))
        .status()
        .unwrap();
    assert!(made.success());
    let _socket = UnixListener::bind(rig.path("socket.log")).unwrap();
    fs::create_dir_all(rig.path("folder.log/deep")).unwrap();
    symlink("/dev/zero", rig.path("device.log")).unwrap();
    // Links that lead in a circle: to itself, and to a folder above.
    symlink(rig.path("circle.log"), rig.path("circle.log")).unwrap();
    symlink(rig.path(""), rig.path("folder.log/deep/up")).unwrap();
    rig.append("folder.log/deep/a.log", "fine\n");
    rig.start();
    assert_eq!(rig.all_lines(), ["fine"]);
    rig.append("folder.log/deep/a.log", "still\n");
    assert_eq!(rig.lines(), ["still"]);
    assert_eq!(rig.generations().len(), 1);
}

#[test]
fn folders_that_come_later_are_found() {
    let mut rig = Rig::new("*/logs/*.log");
    rig.start();
    rig.pump();
    fs::create_dir_all(rig.path("a/logs")).unwrap();
    rig.append("a/logs/x.log", "one\n");
    assert_eq!(rig.lines(), ["one"]);
    rig.append("a/logs/x.log", "two\n");
    fs::rename(rig.path("a"), rig.path("b")).unwrap();
    rig.append("b/logs/x.log", "three\n");
    assert_eq!(rig.lines(), ["two", "three"]);
    assert_eq!(rig.generations().len(), 1);
    fs::remove_dir_all(rig.path("b")).unwrap();
    rig.pass_time();
    assert_eq!(rig.closes().len(), 1);
}

/// Of two compressed files of one stream the younger holds more, so it was found first: it does not hold up the
/// older one, behind which it waits, and with it their log.
#[test]
fn compressed_files_of_one_stream_are_read_one_after_the_other() {
    let mut rig = Rig::new("app.log*");
    let text = |lines: usize| {
        (0..lines)
            .map(|k| format!("{lines} {k}\n"))
            .collect::<String>()
    };
    rig.append("app.log", &text(1000));
    rig.touch("app.log", 100);
    rig.start();
    rig.pump();
    for (lines, packed, secs) in [(5000, "app.log.2.gz", 100), (2000, "app.log.1.gz", 200)] {
        rig.pack("app.log", packed);
        rig.touch(packed, secs);
        rig.append("app.log", &text(lines));
        rig.touch("app.log", secs + 100);
        rig.pump();
    }
    rig.settle_all();
    rig.stop();
    rig.start();
    rig.append("app.log", "more\n");
    rig.scan_and_pass();
    // Nothing is heard of from here on, and no rescan is due.
    for _ in 0..50 {
        rig.pass_unheard();
    }
    let given = rig.all_messages();
    assert_eq!(given.len(), 1000 + 5000 + 2000 + 1);
    assert!(given.iter().any(|line| line == "more"));
    assert_eq!(rig.decoding(), 0, "each is let go at its end");
}

#[test]
fn how_much_of_the_files_waits_to_be_read_is_told_as_of_the_last_scan() {
    let mut rig = Rig::new("*.log");
    for n in 0..FURTHEST + 2 {
        rig.append(&format!("{n:02}.log"), "first\n");
    }
    rig.start();
    let told = |rig: &Rig| {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let furthest = rig.counters.furthest();
        (
            load(&rig.counters.behind),
            load(&rig.counters.unread_bytes),
            furthest.into_iter().map(|(_, bytes)| bytes).collect(),
        )
    };
    rig.pump();
    assert_eq!(told(&rig), (0, 0, vec![]));
    for n in 0..FURTHEST + 2 {
        rig.append(&format!("{n:02}.log"), &"x".repeat(1 + n));
    }
    // Nobody looked yet.
    assert_eq!(told(&rig), (0, 0, vec![]));
    rig.scan_holding(10);
    let all: u64 = (1..13).sum();
    assert_eq!(told(&rig), (12, all, (3..13).rev().collect()));
    // A line that has no end waits as well.
    rig.append("11.log", "\n");
    rig.pump();
    assert_eq!(told(&rig), (11, all - 12, (2..12).rev().collect()));
}
