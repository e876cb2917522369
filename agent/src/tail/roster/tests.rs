//! Tailing on a real folder: the rig runs the roster step by step, with its own time.

mod alike;
mod away;
mod bounds;
mod change;
mod disk;
mod framing;
mod give_way;
mod lanes;
mod model;
mod power_cut;
mod processed;
mod rig;
mod rotation;
mod told;
mod unread;

use std::fs;
use std::os::unix::fs::symlink;

use headwater_record::notice::{Tail, reason};

use self::rig::{MAX_LINE, Rig};

#[test]
fn a_file_is_read_from_its_first_byte_as_it_grows() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log", "one\ntwo\nthr");
    rig.start();
    assert_eq!(rig.lines(), ["one", "two"]);
    rig.append("app.log", "ee\n\n");
    assert_eq!(rig.lines(), ["three", ""]);
    rig.append("b.log", "not matched\n");
    assert_eq!(rig.lines(), [""; 0]);
    assert_eq!(rig.tiled_to(0), "one\ntwo\nthree\n\n".len() as u64);
}

#[test]
fn a_renamed_file_is_drained_and_closed_when_it_is_silent() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log", "one\n");
    rig.start();
    rig.pump();
    rig.rename("app.log", "app.log.1");
    rig.append("app.log.1", "two\nlast");
    rig.append("app.log", "new\n");
    rig.pump();
    assert_eq!(rig.closes().len(), 0);
    rig.pass_time();
    assert_eq!(rig.all_lines(), ["one", "two", "new", "last"]);
    assert_eq!(
        rig.closes(),
        [(12, reason::ROTATED.to_owned(), Tail::Complete)]
    );
    assert_eq!(rig.tiled_to(0), 12);
}

#[test]
fn a_deleted_file_is_read_to_its_end() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log", "one\n");
    rig.start();
    rig.pump();
    let mut held = rig.hold("app.log");
    fs::remove_file(rig.path("app.log")).unwrap();
    std::io::Write::write_all(&mut held, b"two\n").unwrap();
    assert_eq!(rig.all_lines(), ["one", "two"]);
    rig.pass_time();
    assert_eq!(rig.closes()[0].1, reason::ROTATED);
}

#[test]
fn a_deleted_file_is_read_to_its_end_over_a_change_of_configuration() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log", "one\n");
    rig.start();
    rig.pump();
    let mut held = rig.hold("app.log");
    fs::remove_file(rig.path("app.log")).unwrap();
    rig.append("app.log", "new\n");
    std::io::Write::write_all(&mut held, b"two\n").unwrap();
    rig.settle_all();
    rig.reload();
    rig.pump();
    std::io::Write::write_all(&mut held, b"three\n").unwrap();
    rig.settle_all();
    rig.reload();
    rig.change();
    rig.pump();
    assert_eq!(rig.all_lines(), ["one", "two", "new", "three"]);
    assert_eq!(rig.generations().len(), 2);
    assert_eq!(rig.closes().len(), 0);
    rig.pass_time();
    let expected = (14, reason::ROTATED.to_owned(), Tail::Complete);
    assert_eq!(rig.closes(), [expected]);
    assert_eq!(rig.tiled_to(0), 14);
    // An end of the agent lets it go.
    fs::remove_file(rig.path("app.log")).unwrap();
    rig.settle_all();
    rig.stop();
    rig.start();
    rig.pump();
    assert_eq!(rig.closes()[1].1, reason::VANISHED);
}

#[test]
fn a_file_that_a_glob_still_leads_to_is_not_closed_and_not_read_twice() {
    let mut rig = Rig::new("app.log*");
    rig.append("app.log", "one\n");
    rig.start();
    rig.pump();
    rig.rename("app.log", "app.log.1");
    rig.append("app.log", "two\n");
    rig.pass_time();
    rig.crash();
    rig.settle_all();
    rig.start();
    rig.pass_time();
    assert_eq!(rig.all_lines(), ["one", "two"]);
    assert_eq!(rig.generations().len(), 2);
    assert_eq!(rig.closes().len(), 0);
}

#[test]
fn copy_and_truncate_begins_a_new_generation() {
    // Shorter than what was read; and longer, told by its first bytes alone.
    for content in ["new\n", "a new and longer beginning\n"] {
        let mut rig = Rig::new("app.log");
        rig.append("app.log", "old line\n");
        rig.start();
        rig.pump();
        fs::write(rig.path("app.log"), content).unwrap();
        assert_eq!(
            rig.all_lines(),
            ["old line", content.trim_end()],
            "{content}"
        );
        let expected = (9, reason::TRUNCATED.to_owned(), Tail::Unknown);
        assert_eq!(rig.closes(), [expected], "{content}");
        assert_eq!(rig.generations().len(), 2, "{content}");
    }
}

#[test]
fn copy_and_truncate_is_told_by_what_lies_before_the_offset() {
    // The same first 1024 bytes, and longer than what was read: only the marker tells. While it
    // runs, and across a restart, in order or not.
    let banner = "the same banner, as every file of this program has\n".repeat(30);
    let old = format!("{banner}Monday: one, two, three, and so on until Tuesday comes\n");
    let new =
        format!("{banner}Tuesday: another one, another two, until Wednesday comes\nand more\n");
    for how in ["running", "stopped", "crashed"] {
        let mut rig = Rig::new("app.log");
        rig.source.framing.max_line = 1024;
        rig.append("app.log", &old);
        rig.start();
        rig.pump();
        rig.settle_all();
        rig.comes_to_be(how);
        fs::write(rig.path("app.log"), &new).unwrap();
        if !rig.is_running() {
            rig.start();
        }
        let expected: Vec<_> = old.lines().chain(new.lines()).collect();
        assert_eq!(rig.all_lines(), expected, "{how}");
        assert_eq!(rig.generations().len(), 2, "{how}");
        assert_eq!(rig.tiled_to(1), new.len() as u64, "{how}");
    }
}

#[test]
fn a_file_written_anew_to_the_same_length_is_read_anew() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log", "one two three\n");
    rig.start();
    rig.pump();
    // Two times of a file system may be the same number: this one is another for certain.
    fs::write(rig.path("app.log"), "one two tiger\n").unwrap();
    rig.touch("app.log", 1);
    assert_eq!(rig.all_lines(), ["one two three", "one two tiger"]);
    rig.touch("app.log", 2);
    assert_eq!(rig.lines(), [""; 0]);
    assert_eq!(rig.generations().len(), 2);
}

#[test]
fn deleted_and_made_again_on_the_same_inode_it_is_another_file() {
    for (first, second) in [
        ("one line of some length\n", "another of the length.\n"),
        ("the same\nfirst\n", "the same\nother\n"),
        ("", "begun\n"),
        ("short\n", "longer than it was before\n"),
    ] {
        let mut rig = Rig::new("app.log");
        rig.source.framing.max_line = 1024;
        rig.append("app.log", first);
        rig.start();
        rig.pump();
        rig.settle_all();
        rig.stop();
        let inode = rig.inode("app.log");
        fs::remove_file(rig.path("app.log")).unwrap();
        rig.append("app.log", second);
        // Most file systems give the number again; where one does not, the rest holds as well.
        let again = inode == rig.inode("app.log");
        rig.start();
        let expected: Vec<_> = first.lines().chain(second.lines()).collect();
        assert_eq!(rig.all_lines(), expected, "the inode again: {again}");
    }
}

#[test]
fn files_that_begin_alike_are_each_themselves() {
    let mut rig = Rig::new("*.log");
    rig.source.framing.max_line = 1024;
    let banner = "time,temperature,humidity,pressure\n".repeat(40);
    for name in ["a.log", "b.log", "c.log"] {
        rig.append(name, &banner);
    }
    rig.start();
    rig.pump();
    rig.settle_all();
    rig.crash();
    // Every name changes its file while nobody looks.
    rig.append("a.log", "a\n");
    rig.append("b.log", "b\n");
    rig.rename("a.log", "x");
    rig.rename("b.log", "a.log");
    rig.rename("c.log", "b.log");
    rig.rename("x", "c.log");
    rig.append("b.log", "c\n");
    rig.start();
    let mut lines = rig.lines();
    lines.sort();
    assert_eq!(lines, ["a", "b", "c"]);
    assert_eq!(rig.generations().len(), 3);
    assert_eq!(rig.closes().len(), 0);
}

#[test]
fn a_symlink_that_is_switched_leads_to_a_new_generation() {
    for how in ["running", "stopped", "crashed"] {
        let mut rig = Rig::new("current");
        rig.append("a", "one\n");
        rig.append("b", "two\n");
        symlink(rig.path("a"), rig.path("current")).unwrap();
        rig.start();
        rig.pump();
        rig.settle_all();
        rig.comes_to_be(how);
        fs::remove_file(rig.path("current")).unwrap();
        symlink(rig.path("b"), rig.path("current")).unwrap();
        rig.append("a", "last\n");
        if !rig.is_running() {
            rig.start();
        }
        rig.pass_time();
        assert_eq!(rig.all_lines(), ["one", "last", "two"], "{how}");
        let counted = (rig.generations().len(), rig.closes().len());
        assert_eq!(counted, (2, 1), "{how}");
    }
}

#[test]
fn rotated_while_the_agent_was_stopped_it_goes_on_in_the_middle() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log", "one\ntwo\n");
    rig.start();
    rig.pump();
    rig.stop();
    rig.settle(0, 4);
    rig.append("app.log", "three\n");
    rig.rename("app.log", "app.log.1");
    rig.append("app.log", "four\n");
    rig.rename("app.log.1", "app.log.2");
    rig.rename("app.log", "app.log.1");
    rig.append("app.log", "five\n");
    rig.start();
    rig.pass_time();
    // The second, which came and went unseen, in its turn.
    assert_eq!(rig.all_lines(), ["one", "two", "three", "four", "five"]);
    assert_eq!(rig.closes().len(), 2);
}

#[test]
fn what_is_gone_at_the_start_is_closed_with_an_unknown_tail() {
    let mut rig = Rig::new("*.log");
    rig.append("a.log", "one\ntwo\n");
    rig.append("b.log", "some line\n");
    rig.start();
    rig.pump();
    rig.crash();
    rig.settle(0, 4);
    rig.settle(1, 10);
    fs::remove_file(rig.path("a.log")).unwrap();
    fs::write(rig.path("b.log"), "some\n").unwrap();
    rig.start();
    rig.pump();
    let mut closes = rig.closes();
    closes.sort_by_key(|(at, ..)| *at);
    // The second is shorter than the first bytes that it was known by: nobody can say that it is
    // the same file.
    let vanished = |at| (at, reason::VANISHED.to_owned(), Tail::Unknown);
    assert_eq!(closes, [vanished(4), vanished(10)]);
    assert_eq!(rig.generations().len(), 3);
}

#[test]
fn a_file_cut_short_while_the_agent_was_stopped_is_told_as_such() {
    let mut rig = Rig::new("a.log");
    let long: String = (0..200).map(|n| format!("line {n}\n")).collect();
    rig.append("a.log", &long);
    rig.start();
    rig.pump();
    rig.settle_all();
    rig.stop();
    fs::write(rig.path("a.log"), &long[..1100]).unwrap();
    rig.start();
    rig.pump();
    let expected = (
        long.len() as u64,
        reason::TRUNCATED.to_owned(),
        Tail::Unknown,
    );
    assert_eq!(rig.closes(), [expected]);
}

#[test]
fn an_unterminated_end_is_one_record_also_after_a_crash() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log", "one\nlast");
    rig.start();
    rig.pump();
    rig.rename("app.log", "app.log.1");
    rig.pass_time();
    assert_eq!(rig.all_lines(), ["one", "last"]);
    rig.crash();
    rig.settle(0, 4);
    // More came after all: the line ends where it was said to end, and the rest is its own.
    rig.append("app.log.1", " words\n");
    rig.start();
    rig.pass_time();
    assert_eq!(rig.all_lines(), ["one", "last", " words"]);
    assert_eq!(rig.tiled_to(0), 15);
}

#[test]
fn start_at_the_end_skips_once_and_survives_a_crash() {
    let mut rig = Rig::new("*.log");
    rig.source.start_at = crate::config::file::StartAt::End;
    rig.append("a.log", "old\nold\n");
    rig.start();
    assert_eq!(rig.lines(), [""; 0]);
    rig.crash();
    rig.append("a.log", "new\n");
    rig.start();
    assert_eq!(rig.all_lines(), ["new"]);
    assert_eq!(
        (rig.records[0].span.start(), rig.records[0].span.end()),
        (0, 12)
    );
    rig.stop();
    rig.settle_all();
    // Rotated while nobody looked: what took its place is read from its first byte.
    rig.rename("a.log", "a.1");
    rig.append("a.log", "next\n");
    rig.append("b.log", "unknown stream: skipped\n");
    rig.start();
    rig.append("c.log", "created while running\n");
    rig.pump();
    let mut lines = rig.all_lines();
    lines.sort();
    assert_eq!(lines, ["created while running", "new", "next"]);
}

#[test]
fn a_skipped_file_that_is_closed_accounts_for_what_was_skipped() {
    let mut rig = Rig::new("a.log");
    rig.source.start_at = crate::config::file::StartAt::End;
    rig.append("a.log", "old\n");
    rig.start();
    rig.pump();
    rig.rename("a.log", "a.1");
    rig.pass_time();
    assert_eq!(
        rig.closes(),
        [(4, reason::ROTATED.to_owned(), Tail::Complete)]
    );
    assert_eq!(rig.tiled_to(0), 4);
}

#[test]
fn a_long_line_goes_in_pieces_and_in_bounded_memory() {
    let mut rig = Rig::new("a.log");
    rig.source.framing.max_line = 100 * 1024;
    let long = "0123456789".repeat(1024 * 1024);
    rig.append("a.log", &format!("before\n{long}\nafter\n"));
    rig.start();
    rig.pump();
    assert!(rig.chunk_bytes() <= 100 * 1024 + 4 + 64);
    assert!(rig.records.len() > 100);
    assert_eq!(rig.all_lines(), ["before", &long, "after"]);
}

#[test]
fn a_full_window_holds_reading_and_loses_nothing() {
    let mut rig = Rig::new("a.log");
    let text: String = (0..2000).map(|n| format!("line {n}\n")).collect();
    rig.append("a.log", &text);
    rig.window_bytes = 100 * 1024;
    rig.start();
    // Batches are kept as if nobody acknowledged them, until the window is full.
    assert_eq!(rig.pass_holding(), super::Pass::NoRoom);
    rig.rename("a.log", "a.1");
    rig.append("a.log", "next file\n");
    rig.pump();
    let lines = rig.all_lines();
    assert_eq!(lines.len(), 2001);
    let expected: Vec<_> = text.lines().collect();
    let old: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("line"))
        .collect();
    assert_eq!(old, expected.iter().collect::<Vec<_>>());
}

#[test]
fn an_unreadable_file_does_not_hold_the_others() {
    let mut rig = Rig::new("*.log");
    fs::create_dir(rig.path("dir.log")).unwrap();
    symlink(rig.path("nowhere"), rig.path("dangling.log")).unwrap();
    rig.append("ok.log", "fine\n");
    rig.start();
    assert_eq!(rig.all_lines(), ["fine"]);
    rig.append("nowhere", "here now\n");
    assert_eq!(rig.lines(), ["here now"]);
}

#[test]
fn a_fingerprint_is_stored_before_the_first_record_goes() {
    let mut rig = Rig::new("a.log");
    rig.append("a.log", "");
    rig.start();
    rig.pump();
    assert_eq!(rig.stored().fingerprint_len, 0);
    rig.append("a.log", "one\n");
    // Without the scan that would store it too.
    rig.pass_holding();
    assert_eq!(rig.stored().fingerprint_len, 4);
    rig.pump();
    // Another file on the same inode, and longer than what was settled.
    rig.crash();
    rig.settle_all();
    fs::write(rig.path("a.log"), "another\n").unwrap();
    rig.start();
    rig.pump();
    assert_eq!(rig.all_lines(), ["one", "another"]);
    assert_eq!(rig.generations().len(), 2);
}

#[test]
fn lines_end_where_the_limit_says() {
    let mut rig = Rig::new("a.log");
    let exact = "x".repeat(MAX_LINE);
    rig.append("a.log", &format!("{exact}\n{exact}y\n"));
    rig.start();
    rig.pump();
    let ends: Vec<_> = rig.records.iter().map(|record| record.span.end()).collect();
    assert_eq!(ends, [17, 33, 35]);
}

#[test]
fn a_line_that_outgrows_the_window_goes_alone() {
    let mut rig = Rig::new("a.log");
    rig.source.framing.max_line = 128 * 1024;
    rig.window_bytes = 256 * 1024;
    // JSON writes each of these bytes as six.
    let long = "\u{1}".repeat(128 * 1024);
    rig.append("a.log", &format!("before\n{long}\nafter\n"));
    rig.start();
    assert_eq!(rig.all_lines(), ["before", &long, "after"]);
    assert_eq!(rig.records.len(), 3);
}

#[test]
fn two_sources_follow_one_file_each_for_itself() {
    let mut rig = Rig::new("a.log");
    let mut second = rig.source.clone();
    second.id = "again".parse().unwrap();
    rig.second = Some(second);
    rig.append("a.log", "one\n");
    rig.start();
    rig.pump();
    rig.crash();
    rig.settle_all();
    rig.append("a.log", "two\n");
    rig.start();
    assert_eq!(rig.all_lines(), ["one", "one", "two", "two"]);
    assert_eq!(rig.generations().len(), 2);
    let streams: Vec<_> = rig
        .memory
        .open()
        .into_iter()
        .map(|open| open.stream)
        .collect();
    assert_ne!(streams[0], streams[1]);
}
