//! Files of which it cannot be told for a while whether they are there.

use std::fs;
use std::os::unix::fs::MetadataExt;

use headwater_record::notice::reason;

use super::rig::Rig;
use crate::checkpoint::Origin;

/// A rig that read two lines of `logs/app.log`, both settled, and stopped; a third was written then.
fn stopped(orderly: bool) -> Rig {
    let mut rig = Rig::new("logs/app.log");
    rig.source.framing.max_line = 1024;
    fs::create_dir(rig.path("logs")).unwrap();
    rig.append(
        "logs/app.log",
        "one of these lines is long enough to tell a file by\n",
    );
    rig.append(
        "logs/app.log",
        "and this is another one that is long enough\n",
    );
    rig.start();
    rig.pump();
    rig.settle_all();
    if orderly {
        rig.stop();
    } else {
        rig.crash();
    }
    rig.append("logs/app.log", "last\n");
    rig
}

/// A minute and more, in which it is looked for some times.
fn a_while(rig: &mut Rig) {
    for _ in 0..40 {
        rig.seconds_later(2);
    }
}

#[track_caller]
fn goes_on(rig: &mut Rig) {
    a_while(rig);
    let lines = rig.all_lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[2], "last");
    assert_eq!((rig.generations().len(), rig.closes().len()), (1, 0));
    assert_eq!(rig.out_of_reach(), 0);
}

#[test]
fn a_file_that_cannot_be_opened_at_the_start_goes_on_once_it_can() {
    for name in ["logs", "logs/app.log"] {
        for orderly in [true, false] {
            let mut rig = stopped(orderly);
            rig.refuse(name);
            rig.start();
            a_while(&mut rig);
            assert_eq!((rig.closes().len(), rig.out_of_reach()), (0, 1));
            // Also over a second start.
            rig.stop();
            rig.start();
            a_while(&mut rig);
            assert_eq!((rig.closes().len(), rig.out_of_reach()), (0, 1));
            rig.grant(name);
            goes_on(&mut rig);
        }
    }
}

#[test]
fn what_may_not_be_opened_and_has_another_name_hides_no_rotated_file() {
    let mut rig = stopped(true);
    rig.pack("logs/app.log", "logs/app.log.1.gz");
    // A link that leads to itself, which nobody can open, has the number that the log's file had.
    let secure = rig.path("logs/secure");
    std::os::unix::fs::symlink(&secure, &secure).unwrap();
    let inode = fs::symlink_metadata(&secure).unwrap().ino();
    let generation = rig.generations()[0];
    rig.memory.change(generation, |open| {
        if let Origin::File(file) = &mut open.origin {
            file.inode = inode;
        }
    });
    rig.start();
    rig.pump();
    assert_eq!(rig.out_of_reach(), 0);
    assert_eq!(rig.all_lines()[2], "last");
    assert_eq!(rig.generations().len(), 1);
}

#[test]
fn a_file_system_that_is_mounted_later_is_waited_for() {
    for mount_point in [true, false] {
        let mut rig = stopped(true);
        rig.rename("logs", "unmounted");
        if mount_point {
            fs::create_dir(rig.path("logs")).unwrap();
        }
        // The folder's device is another than the file's was.
        let generation = rig.memory.open()[0].generation;
        rig.memory.change(generation, |open| {
            if let Origin::File(identity) = &mut open.origin {
                identity.device += 1;
            }
        });
        rig.start();
        a_while(&mut rig);
        assert_eq!((rig.closes().len(), rig.out_of_reach()), (0, 1));
        if mount_point {
            fs::remove_dir(rig.path("logs")).unwrap();
        }
        rig.rename("unmounted", "logs");
        goes_on(&mut rig);
    }
}

#[test]
fn a_file_that_is_gone_once_it_can_be_looked_for_is_closed() {
    let mut rig = stopped(true);
    rig.refuse("logs");
    rig.start();
    a_while(&mut rig);
    assert_eq!((rig.closes().len(), rig.out_of_reach()), (0, 1));
    fs::remove_file(rig.path("hidden/app.log")).unwrap();
    rig.grant("logs");
    a_while(&mut rig);
    assert_eq!(rig.closes().len(), 1);
    assert_eq!(rig.closes()[0].1, reason::VANISHED);
    assert_eq!(rig.out_of_reach(), 0);
}

#[test]
fn rotated_while_it_was_out_of_reach_all_of_it_is_read() {
    let mut rig = stopped(true);
    rig.refuse("logs");
    rig.start();
    a_while(&mut rig);
    rig.rename("hidden/app.log", "hidden/app.log.2");
    rig.append("hidden/app.log.1", "came and went\n");
    rig.append("hidden/app.log", "now\n");
    rig.grant("logs");
    a_while(&mut rig);
    let mut lines = rig.all_lines().split_off(2);
    lines.sort();
    assert_eq!(lines, ["came and went", "last", "now"]);
    assert_eq!(rig.generations().len(), 3);
    assert_eq!(rig.out_of_reach(), 0);
}

#[test]
fn what_is_closed_while_the_rest_of_its_stream_is_out_of_reach_is_not_read_again() {
    let mut rig = stopped(true);
    rig.refuse("logs/app.log");
    rig.start();
    a_while(&mut rig);
    // Another comes to its path, and is read to its end and closed.
    fs::remove_file(rig.path("logs/app.log")).unwrap();
    rig.append("logs/app.log", "another file of the same stream\n");
    rig.pump();
    rig.rename("logs/app.log", "logs/app.log.1");
    rig.pass_time();
    assert_eq!((rig.closes().len(), rig.out_of_reach()), (1, 1));
    a_while(&mut rig);
    assert_eq!((rig.closes().len(), rig.out_of_reach()), (2, 0));
    assert_eq!(rig.generations().len(), 2);
}

#[test]
fn a_folder_that_is_away_while_its_file_is_held_closes_nothing() {
    let mut rig = stopped(true);
    rig.start();
    rig.pump();
    rig.refuse("logs");
    rig.append("hidden/app.log", "more\n");
    a_while(&mut rig);
    rig.grant("logs");
    a_while(&mut rig);
    assert_eq!(rig.all_lines()[2..], ["last", "more"]);
    assert_eq!((rig.generations().len(), rig.closes().len()), (1, 0));
}

/// Its log was cut since, and out of reach when the agent came back; its globs lead to the copy.
#[test]
fn what_was_out_of_reach_goes_on_in_its_copy_and_that_is_not_read_beside_it() {
    for is_full in [false, true] {
        let mut rig = Rig::new("logs/app.log*");
        rig.base = "logs";
        fs::create_dir(rig.path("")).unwrap();
        rig.append("app.log", "one\n");
        rig.start();
        rig.pump();
        rig.settle_all();
        fs::copy(rig.path("app.log"), rig.path("app.log.1")).unwrap();
        fs::write(rig.path("app.log"), "two\n").unwrap();
        rig.memory.fill(is_full);
        rig.crash();
        rig.refuse("logs");
        rig.start();
        // So long that it is not looked for at once when its folder is there again.
        for _ in 0..4 {
            rig.pass_time();
        }
        rig.grant("logs");
        for _ in 0..10 {
            rig.pump();
            rig.seconds_later(1);
        }
        rig.memory.fill(false);
        for _ in 0..10 {
            rig.pass_time();
        }
        assert_eq!(rig.out_of_reach(), 0);
        assert_eq!(rig.all_lines(), ["one", "two"], "{is_full}");
        assert_eq!(rig.generations().len(), 2, "{is_full}");
    }
}
