//! A lane that is held up, and those above it.

use std::fs;

use glob::Pattern;
use headwater_record::notice::{Tail, reason};

use super::rig::Rig;
use crate::spool::Lane;
use crate::spool::disk::Floors;
use crate::tail::roster::Pass;

const LINES: usize = 8000;

fn text(name: &str) -> String {
    (0..LINES).map(|n| format!("{name} {n}\n")).collect()
}

/// Two lanes: "*.log" in the normal one, and "alarm" in the high one. The window is full of what the files of the
/// first hold, as far as they may fill it.
fn held_up(names: &[&str]) -> Rig {
    let mut rig = Rig::new("*.log");
    rig.source.framing.max_line = 1024;
    let mut second = rig.source.clone();
    (second.id, second.lane) = ("alarms".parse().unwrap(), Lane::High);
    second.paths = vec![Pattern::new(rig.path("alarm").to_str().unwrap()).unwrap()];
    rig.second = Some(second);
    rig.window_bytes = 1 << 20;
    for name in names {
        rig.append(name, &text(name));
    }
    rig.append("alarm", "");
    rig.start();
    assert_eq!(rig.pass_holding(), Pass::NoRoom);
    rig
}

fn alarms(rig: &Rig) -> Vec<&str> {
    let lines = rig.records.iter().map(|record| record.message.as_str());
    lines.filter(|line| line.starts_with("fire")).collect()
}

#[test]
fn a_lane_that_is_held_up_holds_up_no_higher_one_and_costs_one_turn_a_pass() {
    let names: Vec<_> = (0..50).map(|n| format!("{n:02}.log")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut rig = held_up(&names);
    let mut wanted = Vec::new();
    for n in 0..4 {
        let line = format!("fire {n}");
        rig.append("alarm", &format!("{line}\n"));
        wanted.push(line);
        // Its own, and that of the file that waits for room; the alarm's own again where any was heard of.
        let (pass, turns) = rig.pass_once_holding();
        assert_eq!(pass, Pass::NoRoom);
        assert!(turns <= 2, "{turns} turns");
        rig.acknowledge("alarms");
        assert_eq!(alarms(&rig), wanted);
    }
    // The share is there for what nobody acknowledges, too.
    for n in 4..8 {
        rig.append("alarm", &format!("fire {n}\n"));
        assert_eq!(rig.pass_once_holding().0, Pass::NoRoom);
    }
    rig.acknowledge("alarms");
    assert_eq!(alarms(&rig).len(), 8);
    // And what was held up is all there once it goes on.
    rig.pump();
    assert_eq!(rig.all_messages().len(), 50 * LINES + 8);
}

#[test]
fn each_file_of_a_lane_that_is_held_up_has_its_turn() {
    let mut rig = held_up(&["a.log", "b.log", "c.log", "d.log"]);
    // Room comes by the batch, and a turn could take several.
    for _ in 0..16 {
        rig.acknowledge_one();
        assert_eq!(rig.pass_holding(), Pass::NoRoom);
    }
    rig.acknowledge("app");
    let lines = rig.all_messages();
    let read = ["a.log", "b.log", "c.log", "d.log"]
        .map(|name| lines.iter().filter(|line| line.starts_with(name)).count());
    assert!(read.iter().all(|lines| *lines >= 1000), "{read:?}");
}

/// What is to be said of files that are gone waits for room in its lane alone.
#[test]
fn a_lane_whose_last_words_find_no_room_holds_up_no_higher_one() {
    let mut rig = held_up(&["a.log", "b.log"]);
    rig.stop();
    rig.floors = Floors {
        bytes: u64::MAX,
        inodes: 0,
    };
    rig.start();
    assert_eq!(rig.pass_holding(), Pass::NoRoom);
    fs::remove_file(rig.path("a.log")).unwrap();
    for _ in 0..20 {
        rig.scan_holding(10);
    }
    let rest = rig.fill_up(Lane::Normal);
    rig.append("alarm", "fire\n");
    let (pass, turns) = rig.pass_once_holding();
    assert_eq!(
        (pass, turns),
        (Pass::NoRoom, 1),
        "the window has no room for a notice"
    );
    rig.acknowledge("alarms");
    assert_eq!(alarms(&rig), ["fire"]);
    drop(rest);
    rig.pump();
    let len = text("a.log").len() as u64;
    let close = (len, reason::DELETED_UNREAD.to_owned(), Tail::Complete);
    assert_eq!(rig.closes(), [close]);
}

/// Decoding takes memory, so one file is decoded at a time: not the one that is held up.
#[test]
fn a_compressed_file_that_is_held_up_holds_up_none_of_a_higher_lane() {
    let mut rig = held_up(&["b.log", "c.log"]);
    rig.pump();
    rig.append("plain", &text("a"));
    rig.append("plain", &text("b"));
    rig.pack("plain", "a.log");
    // Nobody may write to what is compressed for so long.
    rig.scan_holding(1);
    rig.scan_holding(10);
    assert_eq!(rig.pass_holding(), Pass::NoRoom);
    assert_eq!(rig.decoding(), 1);
    rig.append("plain", "fire\n");
    fs::remove_file(rig.path("alarm")).unwrap();
    rig.pack("plain", "alarm");
    rig.scan_holding(20);
    rig.scan_holding(20);
    for _ in 0..3 {
        rig.pass_once_holding();
    }
    rig.acknowledge("alarms");
    assert_eq!(alarms(&rig), ["fire"]);
}

/// Where a pass ends for want of room, the next goes on in the middle: a younger file of a stream still waits for
/// the end of the older one.
#[test]
fn a_rotated_file_goes_before_the_next_also_where_room_runs_out_between_them() {
    let mut rig = Rig::new("*.log");
    rig.source.framing.max_line = 1024;
    let text = |name: &str| {
        (0..3000)
            .map(|n| format!("{name} {n}\n"))
            .collect::<String>()
    };
    rig.append("a.log", &text("old"));
    rig.append("b.log", &text("b"));
    rig.window_bytes = 110 * 1024;
    rig.start();
    rig.rename("a.log", "a.1");
    rig.append("a.log", "new\n");
    rig.scan_holding(10);
    for _ in 0..40 {
        if rig.pass_once_holding().0 == Pass::NoRoom {
            rig.acknowledge_one();
        }
    }
    rig.pump();
    let mut lines = rig.records.iter().map(|record| record.message.as_str());
    let last_old = lines.clone().rposition(|line| line.starts_with("old"));
    let first_new = lines.position(|line| line == "new");
    assert!(first_new > last_old, "{first_new:?}, {last_old:?}");
}
