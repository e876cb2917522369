//! What waits in a file: last lines, events, NULs; and files that are not UTF-8.

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use headwater_record::Kind;

use super::rig::Rig;
use crate::config::file::LastLine;
use crate::frame::encoding::Encoding;
use crate::frame::frames::AtCut;
use crate::frame::multiline::{Multiline, Preset};

fn rig() -> Rig {
    let mut rig = Rig::new("app.log");
    rig.source.framing.max_line = 1024;
    rig
}

/// The marks of the last record: continued, continues.
fn marks(rig: &Rig) -> (bool, bool) {
    let last = rig.records.last().unwrap();
    (last.continued, last.continues)
}

#[test]
fn a_last_line_waits_or_goes_as_configured() {
    for (rule, first, second) in [
        (LastLine::Complete, (false, false), (true, false)),
        (LastLine::Continue, (false, true), (true, false)),
    ] {
        let mut rig = rig();
        rig.source.last_line = rule;
        rig.source.framing.at_cut = match rule {
            LastLine::Continue => AtCut::Continues,
            _ => AtCut::Complete,
        };
        rig.append("app.log", "one\ntwo");
        rig.start();
        assert_eq!(rig.lines(), ["one"]);
        let due = rig.next_due();
        assert_eq!(due, Duration::from_secs(3), "the thread wakes for it");
        rig.pass_time();
        assert_eq!(rig.records.last().unwrap().message, "two");
        assert_eq!(marks(&rig), first, "{rule:?}");
        // The boundary was committed first: read again, it is the same record.
        rig.crash();
        rig.settle(0, 4);
        rig.append("app.log", " and more\n");
        rig.start();
        rig.pump();
        let spans: Vec<_> = rig.records.iter().map(|record| record.span.end()).collect();
        assert_eq!(spans, [4, 7, 7, 17], "{rule:?}");
        assert_eq!(marks(&rig), second, "{rule:?}");
    }
    let mut rig = rig();
    rig.append("app.log", "one\ntwo");
    rig.start();
    rig.pass_time();
    rig.pass_time();
    assert_eq!(rig.all_lines(), ["one"]);
}

#[test]
fn an_event_is_over_in_time_and_stays_what_it_was() {
    let mut rig = rig();
    rig.source.framing.multiline = Some(Multiline::Preset(Preset::Java));
    rig.append("app.log", "1 error\n\tat a\n\tat b\n2 next\n\tat");
    rig.start();
    rig.pump();
    assert_eq!(rig.all_messages(), ["1 error\n\tat a\n\tat b"]);
    assert_eq!(rig.next_due(), Duration::from_secs(2));
    // Whole lines go; a line under way stays.
    rig.pass_time();
    rig.pass_time();
    assert_eq!(rig.all_messages(), ["1 error\n\tat a\n\tat b", "2 next"]);
    // It went on after all, twice, and each boundary holds after a crash.
    rig.append("app.log", " c\n");
    rig.pass_time();
    rig.append("app.log", "\tat d\n");
    rig.pass_time();
    let expected = ["1 error\n\tat a\n\tat b", "2 next", "\tat c", "\tat d"];
    assert_eq!(rig.all_messages(), expected);
    rig.crash();
    rig.settle(0, 20);
    rig.start();
    rig.pass_time();
    assert_eq!(rig.all_messages(), expected);
    assert_eq!(
        rig.tiled_to(0),
        fs::metadata(rig.path("app.log")).unwrap().len()
    );
}

#[test]
fn a_line_of_a_container_goes_when_it_is_whole_or_its_time_is_over_also_after_a_crash() {
    let mut rig = rig();
    rig.source.framing.multiline = Some(Multiline::Preset(Preset::Cri));
    rig.append(
        "app.log",
        "2026-1T stdout P a\n2026-2T stdout F b\n2026-3T stderr F c\n",
    );
    rig.start();
    rig.pump();
    // Nothing follows, and nothing is waited for.
    assert_eq!(
        rig.all_messages(),
        ["2026-1T stdout F ab", "2026-3T stderr F c"]
    );
    rig.append("app.log", "2026-4T stdout P d\n");
    rig.pass_time();
    rig.pass_time();
    rig.append("app.log", "2026-5T stdout F e\n");
    rig.pass_time();
    let expected = [
        "2026-1T stdout F ab",
        "2026-3T stderr F c",
        "2026-4T stdout P d",
        "2026-5T stdout F e",
    ];
    assert_eq!(rig.all_messages(), expected);
    // The rest is there now, and the part that went without it stays what it was.
    rig.crash();
    rig.settle(0, 38);
    rig.start();
    rig.pass_time();
    assert_eq!(rig.all_messages(), expected);
    assert_eq!(rig.tiled_to(0), 95);
}

#[test]
fn an_event_at_the_end_of_a_rotated_file_is_whole() {
    let mut rig = rig();
    rig.source.framing.multiline = Some(Multiline::Preset(Preset::Python));
    rig.append(
        "app.log",
        "ERROR\nTraceback (most recent call last):\n  File\nKeyError: a",
    );
    rig.start();
    rig.pump();
    rig.rename("app.log", "app.log.1");
    rig.pass_time();
    let whole = "ERROR\nTraceback (most recent call last):\n  File\nKeyError: a";
    assert_eq!(rig.all_messages(), [whole]);
    assert_eq!(rig.closes().len(), 1);
}

#[test]
fn a_long_event_goes_in_pieces_of_whole_lines() {
    let mut rig = rig();
    rig.source.framing.max_line = 100 * 1024;
    rig.source.framing.multiline = Some(Multiline::Start("^[0-9]".parse().unwrap()));
    let trace = "\tat some.method(File.java:1)\n".repeat(20_000);
    rig.append("app.log", &format!("1 begin\n{trace}2 next\n3\n"));
    rig.start();
    let lines = rig.lines();
    assert_eq!(lines.len(), 2, "{}", lines.len());
    let pieces: Vec<_> = (rig.records.iter())
        .map(|record| record.message.len())
        .collect();
    assert!(
        pieces.len() > 5 && pieces.iter().all(|len| *len <= 100 * 1024),
        "{pieces:?}"
    );
    assert!(rig.chunk_bytes() < 110 * 1024, "{}", rig.chunk_bytes());
}

#[test]
fn nuls_are_skipped_once_something_follows_however_many() {
    let mut rig = rig();
    rig.append("app.log", "one\ntwo");
    let file = fs::File::options()
        .write(true)
        .open(rig.path("app.log"))
        .unwrap();
    // Longer than a turn looks: a hole, as preallocation and power cuts leave it.
    file.set_len(9_000_000).unwrap();
    rig.source.last_line = LastLine::Complete;
    rig.start();
    rig.pass_time();
    assert_eq!(rig.all_lines(), ["one"]);
    // The line is completed where the hole began.
    file.write_all_at(b" more\nthr", 7).unwrap();
    rig.touch("app.log", 1);
    assert_eq!(rig.lines(), ["two more"]);
    rig.append("app.log", "after\n");
    assert_eq!(rig.lines(), ["thr", "after"]);
    let losses: Vec<_> = (rig.records.iter())
        .filter(|record| record.kind == Kind::Loss)
        .map(|record| (record.span.start(), record.span.end()))
        .collect();
    assert_eq!(losses, [(16, 9_000_000)]);
    assert_eq!(rig.tiled_to(0), 9_000_006);
    rig.crash();
    rig.settle(0, 13);
    rig.start();
    rig.pump();
    assert_eq!(rig.all_lines(), ["one", "two more", "thr", "after"]);
}

#[test]
fn nuls_at_the_end_of_a_rotated_file_are_accounted_for() {
    let mut rig = rig();
    rig.append("app.log", "one\ntwo");
    let file = fs::File::options()
        .write(true)
        .open(rig.path("app.log"))
        .unwrap();
    file.set_len(500_000).unwrap();
    rig.start();
    rig.pump();
    rig.rename("app.log", "app.log.1");
    rig.pass_time();
    rig.pass_time();
    assert_eq!(rig.all_lines(), ["one", "two"]);
    assert_eq!(rig.closes()[0].0, 500_000);
    assert_eq!(rig.tiled_to(0), 500_000);
}

#[test]
fn a_file_in_utf_16_is_followed_from_its_first_byte() {
    let mut rig = rig();
    rig.source.framing.encoding = Encoding::parse("utf-16").unwrap();
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_be_bytes).collect() };
    // The mark comes in two halves.
    rig.append_bytes("app.log", b"\xfe");
    rig.start();
    rig.pump();
    rig.append_bytes("app.log", b"\xff");
    rig.append_bytes("app.log", &wide("größer\r\nಊ und"));
    assert_eq!(rig.lines(), ["größer"]);
    rig.append_bytes("app.log", &wide(" weiter\n")[..9]);
    assert_eq!(rig.lines(), [""; 0]);
    rig.append_bytes("app.log", &wide(" weiter\n")[9..]);
    assert_eq!(rig.lines(), ["ಊ und weiter"]);
    rig.crash();
    rig.settle(0, 18);
    rig.start();
    assert_eq!(rig.all_lines(), ["größer", "ಊ und weiter"]);
}
