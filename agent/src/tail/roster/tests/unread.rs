//! Files of which nothing was read yet, when they were copied and cut.

use std::fs;

use headwater_record::notice::{Tail, reason};
use headwater_record::value::CLOCK_SET_MS;

use super::rig::Rig;

/// Long ago, but the clock was set, seconds after 1970.
const LONG_AGO: u64 = CLOCK_SET_MS / 1000;

/// A rig whose `app.log` is followed, and as empty as it was long ago.
fn empty(glob: &str) -> Rig {
    empty_log("app.log", glob)
}

fn empty_log(name: &str, glob: &str) -> Rig {
    let mut rig = Rig::new(glob);
    rig.append(name, "");
    made_long_ago(&rig, name);
    rig.start();
    rig.pump();
    rig
}

fn made_long_ago(rig: &Rig, name: &str) {
    rig.touch(name, LONG_AGO);
    rig.born(name, LONG_AGO);
    rig.touch("", LONG_AGO);
}

fn copy_and_cut(rig: &Rig, then: &str) {
    fs::copy(rig.path("app.log"), rig.path("app.log.1")).unwrap();
    fs::write(rig.path("app.log"), then).unwrap();
}

#[track_caller]
fn gives(rig: &mut Rig, expected: &[&str]) {
    rig.pass_time();
    rig.pass_time();
    assert_eq!(rig.all_lines(), expected);
}

#[test]
fn what_an_empty_file_held_before_it_was_cut_is_read_from_its_copies() {
    for how in ["running", "stopped", "crashed"] {
        for last in ["", "now\n", "more than there was in any of the copies\n"] {
            let mut rig = empty("app.log");
            rig.comes_to_be(how);
            rig.append("app.log", "mon\n");
            copy_and_cut(&rig, "tue\nand a part");
            rig.pack("app.log.1", "app.log.2.gz");
            copy_and_cut(&rig, last);
            if !rig.is_running() {
                rig.start();
            }
            let mut expected = vec!["mon", "tue", "and a part"];
            expected.extend(last.lines());
            rig.pass_time();
            rig.pass_time();
            let mut given = rig.all_lines();
            given.sort();
            expected.sort();
            assert_eq!(given, expected, "{how}, {last:?}");
            let copied = |end| (end, reason::TRUNCATED.to_owned(), Tail::Unknown);
            assert_eq!(rig.closes()[0], copied(4), "{how}, {last:?}");
        }
    }
}

/// logrotate's `copytruncate` with `dateext` and `extension .log`, and then compressed.
#[test]
fn a_copy_with_a_date_before_its_extension_is_one() {
    for how in ["running", "stopped", "crashed"] {
        for is_read in [false, true] {
            let mut rig = empty("app.log");
            if is_read {
                rig.append("app.log", "sun\n");
                rig.pump();
                rig.settle_all();
            }
            rig.comes_to_be(how);
            for (day, names) in [("mon\n", "app-20261123.log"), ("tue\n", "app-20261124.log")] {
                rig.append("app.log", day);
                fs::copy(rig.path("app.log"), rig.path(names)).unwrap();
                fs::write(rig.path("app.log"), "").unwrap();
            }
            rig.pack("app-20261123.log", "app-20261123.log.gz");
            // Of another length than what was read: two times of a file system may be the same number.
            rig.append("app.log", "wednesday\n");
            if !rig.is_running() {
                rig.start();
            }
            let expected = ["sun", "mon", "tue", "wednesday"];
            gives(&mut rig, &expected[usize::from(!is_read)..]);
            assert_eq!(rig.generations().len(), 3, "{how}, {is_read}");
        }
    }
}

#[test]
fn a_copy_that_a_glob_leads_to_is_read_once() {
    for running in [true, false] {
        let mut rig = empty("app.log*");
        if !running {
            rig.stop();
        }
        rig.append("app.log", "mon\n");
        copy_and_cut(&rig, "tue\n");
        if !running {
            rig.start();
        }
        rig.pass_time();
        rig.pass_time();
        let mut given = rig.all_lines();
        given.sort();
        assert_eq!(given, ["mon", "tue"]);
    }
}

#[test]
fn what_was_read_and_closed_is_no_copy_of_an_empty_file() {
    for orderly in [true, false] {
        let mut rig = Rig::new("app.log");
        rig.append("app.log", "old\n");
        rig.start();
        rig.pump();
        rig.rename("app.log", "app.log.1");
        rig.append("app.log", "");
        made_long_ago(&rig, "app.log");
        // The program was slow to reopen its log, and what it had written last lies in what was made later.
        rig.append("app.log.1", "last\n");
        rig.touch("app.log.1", LONG_AGO + 1);
        rig.pass_time();
        assert_eq!(rig.closes().len(), 1);
        rig.settle_all();
        if orderly {
            rig.stop();
        } else {
            rig.crash();
        }
        rig.pack("app.log.1", "app.log.2.gz");
        rig.append("app.log", "new\n");
        rig.start();
        gives(&mut rig, &["old", "last", "new"]);
    }
}

#[test]
fn an_archive_that_was_read_and_made_anew_since_is_no_copy_of_an_empty_file() {
    for how in ["running", "stopped", "crashed"] {
        let mut rig = Rig::new("app.log");
        rig.append("app.log", "old\n");
        rig.start();
        rig.pump();
        rig.rename("app.log", "app.log.1");
        rig.append("app.log", "");
        made_long_ago(&rig, "app.log");
        rig.touch("app.log.1", LONG_AGO);
        rig.pass_time();
        rig.settle_all();
        rig.comes_to_be(how);
        rig.pack("app.log.1", "app.log.2.gz");
        rig.touch("app.log.2.gz", LONG_AGO * 2);
        rig.born("app.log.2.gz", LONG_AGO * 2);
        rig.append("app.log", "new\n");
        if how != "running" {
            rig.start();
        }
        gives(&mut rig, &["old", "new"]);
    }
}

#[test]
fn what_was_there_before_is_no_copy_of_an_empty_file() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log.1", "never followed\n");
    rig.pack("app.log.1", "app.log.2.gz");
    rig.append("app.log.1", "nor this\n");
    rig.append("app.log", "");
    rig.touch("app.log", LONG_AGO);
    rig.born("app.log", LONG_AGO);
    rig.touch("app.log.2.gz", LONG_AGO + 1);
    rig.start();
    rig.pump();
    rig.stop();
    // As old as its folder says, and so is what lies beside it; one of them was written to since.
    rig.append("app.log", "new\n");
    rig.touch("app.log", LONG_AGO * 2);
    rig.touch("app.log.1", LONG_AGO * 2);
    rig.start();
    gives(&mut rig, &["new"]);
}

#[test]
fn a_copy_under_way_of_what_was_not_read_yet_is_not_read() {
    let mut rig = empty("app.log");
    rig.append("app.log", "one line\nand two\n");
    for part in ["one li", "ne\nand two\n"] {
        rig.append("app.log.1", part);
        rig.pump();
    }
    assert_eq!(rig.all_lines(), ["one line", "and two"]);
    fs::write(rig.path("app.log"), "new\n").unwrap();
    gives(&mut rig, &["one line", "and two", "new"]);
    assert_eq!(rig.generations().len(), 2);
}

#[test]
fn where_the_clock_was_unset_nothing_is_taken_for_a_copy() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log.1", "old\n");
    rig.append("app.log", "");
    rig.touch("app.log", 1000);
    rig.born("app.log", 1000);
    rig.touch("", 1000);
    rig.start();
    rig.pump();
    rig.stop();
    rig.append("app.log", "new\n");
    rig.start();
    gives(&mut rig, &["new"]);
}

#[test]
fn the_log_of_another_is_no_copy_of_an_empty_file() {
    for (own, other) in [
        ("worker.1.log", "worker.2.log"),
        ("worker.2.log", "worker.1.log"),
        ("app-25.log", "app-24.log"),
        ("app-20261125.log", "app-20261124.log"),
        ("worker.log", "worker.1.log"),
    ] {
        for packed in [false, true] {
            let mut rig = empty_log(own, own);
            rig.append(other, "of another\n");
            if packed {
                rig.pack(other, &format!("{other}.gz"));
            }
            rig.append(own, "own\n");
            gives(&mut rig, &["own"]);
        }
    }
}

/// Such a file never has a fingerprint, however much of it was read.
#[test]
fn what_begins_with_nuls_is_gone_on_with_by_its_marker() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log", "one\n");
    rig.start();
    rig.pump();
    rig.settle_all();
    rig.stop();
    rig.pack("app.log", "app.log.2.gz");
    rig.append("app.log", &format!("{}two\n", "\0".repeat(64)));
    rig.pack("app.log", "app.log.1.gz");
    rig.born("app.log.1.gz", 2_000_000_000);
    rig.append("app.log", "three\n");
    rig.start();
    rig.pump();
    rig.settle_all();
    rig.stop();
    rig.start();
    rig.pump();
    assert_eq!((rig.all_lines().len(), rig.generations().len()), (3, 3));
    let vanished = |(_, why, _): &(u64, String, Tail)| why == reason::VANISHED;
    assert!(!rig.closes().iter().any(vanished));
}

#[test]
fn what_was_made_later_on_the_inode_of_an_empty_file_is_another() {
    let mut rig = empty("app.log");
    rig.stop();
    rig.append("app.log", "new\n");
    rig.born("app.log", LONG_AGO + 1);
    rig.start();
    gives(&mut rig, &["new"]);
    assert_eq!(rig.closes()[0].1, reason::VANISHED);
}
