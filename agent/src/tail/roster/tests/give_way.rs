//! Deleted files while records cannot go, and the disk is down to what is kept free.

use std::fs;
use std::io::Write;
use std::sync::atomic::Ordering;

use headwater_record::notice::{Tail, reason};

use super::rig::Rig;
use crate::spool::disk::Floors;
use crate::tail::roster::Pass;

const FULL: Floors = Floors {
    bytes: u64::MAX,
    inodes: 0,
};

fn text() -> String {
    (0..4000).map(|n| format!("line {n}\n")).collect()
}

/// A rig whose window is full of the first lines of some files, and whose disk has no room, or has some.
fn stuck(names: &[&str], floors: Floors) -> Rig {
    let mut rig = Rig::new("*.log");
    (rig.window_bytes, rig.floors) = (100 * 1024, floors);
    for name in names {
        rig.append(name, &text());
    }
    rig.start();
    assert_eq!(rig.pass_holding(), Pass::NoRoom);
    rig
}

/// Some minutes in which nothing is acknowledged.
fn minutes(rig: &mut Rig) {
    for _ in 0..20 {
        rig.scan_holding(10);
    }
}

fn given_up(rig: &Rig) -> (u64, u64) {
    let counters = &rig.counters;
    let count = counters.given_up.load(Ordering::Relaxed);
    (count, counters.given_up_bytes.load(Ordering::Relaxed))
}

#[test]
fn deleted_files_give_way_one_by_one_and_what_was_not_read_is_told() {
    let mut rig = stuck(&["a.log", "b.log"], FULL);
    fs::remove_file(rig.path("a.log")).unwrap();
    fs::remove_file(rig.path("b.log")).unwrap();
    rig.scan_holding(10);
    rig.scan_holding(50);
    assert_eq!((given_up(&rig).0, rig.open_deleted()), (0, 2));
    rig.scan_holding(10);
    assert_eq!((given_up(&rig).0, rig.open_deleted()), (1, 1));
    minutes(&mut rig);
    assert_eq!((given_up(&rig).0, rig.open_deleted()), (2, 0));
    // The notices wait for room, and go then.
    rig.pump();
    let len = text().len() as u64;
    let close = (len, reason::DELETED_UNREAD.to_owned(), Tail::Complete);
    assert_eq!(rig.closes(), [close.clone(), close]);
    assert_eq!((rig.tiled_to(0), rig.tiled_to(1)), (len, len));
    let read: usize = rig.all_messages().iter().map(|line| line.len() + 1).sum();
    assert_eq!(given_up(&rig).1, 2 * len - read as u64);
}

#[test]
fn what_was_written_to_it_since_its_last_turn_is_told_too() {
    let mut rig = stuck(&["a.log", "b.log"], FULL);
    rig.append("b.log", &text());
    fs::remove_file(rig.path("b.log")).unwrap();
    minutes(&mut rig);
    assert_eq!((given_up(&rig).0, rig.open_deleted()), (1, 0));
    rig.pump();
    let len = 2 * text().len() as u64;
    let close = (len, reason::DELETED_UNREAD.to_owned(), Tail::Complete);
    assert_eq!(rig.closes(), [close]);
    assert_eq!(rig.tiled_to(1), len);
}

#[test]
fn where_a_compressed_one_ends_nobody_knows_and_it_is_told_all_the_same() {
    let mut rig = stuck(&["a.log", "b.log"], FULL);
    rig.crash();
    rig.pack("b.log", "b.log.1.gz");
    rig.start();
    assert_eq!(rig.pass_holding(), Pass::NoRoom);
    fs::remove_file(rig.path("b.log.1.gz")).unwrap();
    minutes(&mut rig);
    assert_eq!((given_up(&rig).0, rig.open_deleted()), (1, 0));
    rig.pump();
    let closes = rig.closes();
    let (_, why, tail) = closes.first().expect("it is closed");
    assert_eq!(
        (why.as_str(), *tail),
        (reason::DELETED_UNREAD, Tail::Unknown)
    );
}

#[test]
fn where_the_disk_has_room_or_a_program_writes_on_a_deleted_file_is_read() {
    for floors in [Floors::default(), FULL] {
        let mut rig = stuck(&["a.log"], floors);
        let mut held = rig.hold("a.log");
        fs::remove_file(rig.path("a.log")).unwrap();
        for n in 0..20 {
            if floors == FULL {
                writeln!(held, "more {n}").unwrap();
            }
            rig.scan_holding(10);
        }
        rig.pump();
        assert_eq!(given_up(&rig), (0, 0));
        let expected = if floors == FULL { 4020 } else { 4000 };
        assert_eq!(rig.all_lines().len(), expected);
    }
}

#[test]
fn what_lies_there_compressed_is_read_on_in_that() {
    let mut rig = stuck(&["a.log"], FULL);
    rig.pack("a.log", "a.log.1.gz");
    assert_eq!(rig.open_deleted(), 1);
    minutes(&mut rig);
    assert_eq!(rig.open_deleted(), 0);
    rig.pass_time();
    assert_eq!(given_up(&rig), (0, 0));
    assert_eq!(rig.all_lines().len(), 4000);
    assert_eq!(rig.generations().len(), 1);
}

/// After a power cut a file goes on under another generation; before that has begun, both are told of.
#[test]
fn a_file_that_is_to_go_on_under_another_generation_gives_way_with_both() {
    let mut rig = Rig::new("*.log");
    rig.append("a.log", &text());
    rig.start();
    rig.crash();
    rig.rebooted = true;
    rig.note_sizes();
    rig.append("a.log", &text());
    (rig.window_bytes, rig.floors) = (20 * 1024, FULL);
    rig.start();
    assert_eq!(rig.pass_holding(), Pass::NoRoom);
    fs::remove_file(rig.path("a.log")).unwrap();
    rig.scan_holding(10);
    rig.scan_holding(60);
    rig.scan_holding(10);
    assert_eq!((given_up(&rig).0, rig.open_deleted()), (1, 0));
    rig.pump();
    let len = text().len() as u64;
    let close = |at| (at, reason::DELETED_UNREAD.to_owned(), Tail::Complete);
    assert_eq!(rig.closes(), [close(len), close(2 * len)]);
    assert_eq!((rig.tiled_to(0), rig.tiled_to(1)), (len, 2 * len));
    let read: usize = rig.all_messages().iter().map(|line| line.len() + 1).sum();
    assert_eq!(given_up(&rig).1, 2 * len - read as u64);
}
