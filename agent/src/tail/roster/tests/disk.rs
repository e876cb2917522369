//! While the database takes nothing new: its disk is full, or read-only.

use std::fs;

use super::rig::Rig;
use crate::config::file::StartAt;

fn rig(glob: &str) -> Rig {
    let mut rig = Rig::new(glob);
    rig.source.framing.max_line = 1024;
    rig
}

/// Longer than the longest wait before the database is asked again.
fn a_while(rig: &mut Rig) {
    for _ in 0..40 {
        rig.seconds_later(2);
    }
}

#[test]
fn what_is_registered_is_read_on_and_what_is_new_waits() {
    let mut rig = rig("*.log");
    rig.append("old.log", "one\n");
    rig.start();
    rig.pump();
    rig.memory.fill(true);
    rig.append("new.log", "first\n");
    for n in 0..50 {
        rig.append("old.log", &format!("{n}\n"));
        rig.seconds_later(2);
    }
    assert_eq!(rig.all_lines().len(), 51);
    assert_eq!((rig.generations().len(), rig.memory.open().len()), (1, 1));
    rig.append("new.log", "second\n");
    rig.memory.fill(false);
    a_while(&mut rig);
    assert_eq!(rig.all_lines()[51..], ["first", "second"]);
}

#[test]
fn an_agent_that_starts_on_a_full_disk_waits_and_loses_nothing() {
    for start_at in [StartAt::Beginning, StartAt::End] {
        let mut rig = rig("*.log");
        rig.source.start_at = start_at;
        rig.append("a.log", "before\n");
        rig.memory.fill(true);
        rig.start();
        a_while(&mut rig);
        assert_eq!(rig.records.len(), 0);
        // What is written while it waits is no more old than what comes later.
        rig.append("a.log", "meanwhile\n");
        a_while(&mut rig);
        rig.memory.fill(false);
        a_while(&mut rig);
        let expected: &[_] = match start_at {
            StartAt::Beginning => &["before", "meanwhile"],
            StartAt::End => &["meanwhile"],
        };
        assert_eq!(rig.all_lines(), expected);
    }
}

#[test]
fn what_is_renamed_or_deleted_while_it_waits_is_read() {
    let mut rig = rig("app.log");
    rig.append("app.log", "one\n");
    rig.start();
    rig.pump();
    rig.memory.fill(true);
    for (n, line) in ["two", "three", "four"].into_iter().enumerate() {
        if n == 2 {
            fs::remove_file(rig.path("app.log")).unwrap();
        } else {
            rig.rename("app.log", &format!("gone.{n}"));
        }
        rig.append("app.log", &format!("{line}\n"));
        a_while(&mut rig);
    }
    assert_eq!(rig.all_lines(), ["one"]);
    rig.memory.fill(false);
    a_while(&mut rig);
    assert_eq!(rig.all_lines(), ["one", "two", "three", "four"]);
    assert_eq!((rig.generations().len(), rig.closes().len()), (4, 3));
}

#[test]
fn no_record_goes_before_what_must_be_entered_first() {
    let mut rig = rig("*.log");
    // Nothing tells the first yet but its inode; the second ends without a newline.
    rig.append("empty.log", "");
    rig.append("end.log", "one\nlast");
    rig.start();
    rig.pump();
    rig.memory.fill(true);
    rig.append("empty.log", "begun\n");
    rig.rename("end.log", "end");
    a_while(&mut rig);
    assert_eq!(rig.all_lines(), ["one"]);
    assert_eq!(rig.closes().len(), 0);
    rig.memory.fill(false);
    a_while(&mut rig);
    let mut lines = rig.all_lines();
    lines.sort();
    assert_eq!(lines, ["begun", "last", "one"]);
    assert_eq!(rig.closes().len(), 1);
}

#[test]
fn a_stop_does_not_wait_for_the_disk() {
    let mut rig = rig("app.log");
    rig.append("app.log", "one\n");
    rig.start();
    rig.pump();
    rig.settle_all();
    rig.append("app.log", "two\n");
    rig.memory.fill(true);
    rig.pump();
    rig.stop();
    rig.memory.fill(false);
    rig.start();
    a_while(&mut rig);
    assert_eq!(rig.all_lines(), ["one", "two"]);
    assert_eq!(rig.generations().len(), 1);
}
