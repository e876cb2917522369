//! Rotations of every kind, while the agent runs, waits and is away.

use std::fs;
use std::time::Duration;

use headwater_record::notice::{Tail, reason};

use super::rig::Rig;
use crate::config::file::StartAt;

/// Lines of one day: `count` of them, each its own.
fn day(name: &str, count: usize) -> String {
    (0..count).map(|n| format!("{name} line {n}\n")).collect()
}

fn rig(glob: &str) -> Rig {
    let mut rig = Rig::new(glob);
    rig.source.framing.max_line = 1024;
    rig
}

fn lines(texts: &[&str]) -> Vec<String> {
    texts.concat().lines().map(str::to_owned).collect()
}

/// Compares without printing thousands of lines.
#[track_caller]
fn same(given: &[String], expected: &[String]) {
    let differ = (given.iter().zip(expected)).position(|(given, expected)| given != expected);
    let at = differ.unwrap_or(given.len().min(expected.len()));
    let around = |lines: &[String]| lines[at.saturating_sub(2)..lines.len().min(at + 3)].to_vec();
    assert!(
        given == expected,
        "line {at} of {} and {}: {:?} is not {:?}",
        given.len(),
        expected.len(),
        around(given),
        around(expected)
    );
}

/// `app.log` becomes `.1`, `.1` becomes `.2.gz`, `.2.gz` becomes `.3.zst`.
fn rotate(rig: &Rig) {
    if rig.path("app.log.2.gz").exists() {
        rig.repack("app.log.2.gz", "app.log.3.zst");
    }
    if rig.path("app.log.1").exists() {
        rig.pack("app.log.1", "app.log.2.gz");
    }
    rig.rename("app.log", "app.log.1");
}

#[test]
fn an_outage_of_many_rotations_is_read_in_order_from_the_middle_of_a_compressed_file() {
    for orderly in [true, false] {
        let mut rig = rig("app.log");
        let days = ["mon", "tue", "wed", "thu"].map(|name| day(name, 5000));
        rig.append("app.log", &days[0][..40_000]);
        rig.start();
        rig.pump();
        rig.settle_all();
        if orderly {
            rig.stop();
        } else {
            rig.crash();
            rig.settle(0, (days[0][..20_000].rfind('\n').unwrap() + 1) as u64);
        }
        rig.append("app.log", &days[0][40_000..]);
        for day in &days[1..] {
            rotate(&rig);
            rig.append("app.log", day);
        }
        rig.start();
        rig.pass_time();
        let all: Vec<_> = days.iter().map(String::as_str).collect();
        same(&rig.all_lines(), &lines(&all));
        assert_eq!(rig.generations().len(), 4);
        for (n, day) in days.iter().enumerate() {
            assert_eq!(rig.tiled_to(n), day.len() as u64);
        }
        let complete =
            |day: &String| (day.len() as u64, reason::ROTATED.to_owned(), Tail::Complete);
        assert_eq!(
            rig.closes(),
            days[..3].iter().map(complete).collect::<Vec<_>>()
        );
    }
}

#[test]
fn files_that_come_and_go_between_two_looks_are_read() {
    let mut rig = rig("app.log");
    rig.append("app.log.1", &day("old", 3));
    rig.append("app.log", &day("mon", 3));
    rig.start();
    rig.pump();
    rig.append("app.log", "mon end\n");
    for name in ["tue", "wed", "thu"] {
        rotate(&rig);
        rig.append("app.log", &day(name, 3));
    }
    // `.1` was there before: no source leads to it, and nobody saw it at the path.
    rig.pass_time();
    let (mon, rest) = (
        day("mon", 3),
        ["tue", "wed", "thu"].map(|name| day(name, 3)),
    );
    let expected = lines(&[&mon, "mon end\n", &rest[0], &rest[1], &rest[2]]);
    same(&rig.all_lines(), &expected);
    // And again, when for a while nothing lies at the path.
    rotate(&rig);
    rig.pump();
    rig.append("app.log", "fri\n");
    rotate(&rig);
    rig.append("app.log", "sat\n");
    assert_eq!(rig.lines(), ["fri", "sat"]);
}

#[test]
fn what_came_and_went_behind_a_log_that_was_deleted_and_closed_is_read() {
    for how in ["running", "stopped", "crashed"] {
        for rotated in [false, true] {
            let mut rig = rig("app.log");
            rig.source.start_at = StartAt::End;
            rig.start();
            rig.append("app.log", "mon\n");
            rig.pump();
            rig.append("app.log", "mon end\n");
            rig.pump();
            match rotated {
                true => rotate(&rig),
                false => fs::remove_file(rig.path("app.log")).unwrap(),
            }
            rig.pass_time();
            rig.settle_all();
            assert_eq!(rig.memory.open(), [], "all of it is closed");
            rig.comes_to_be(how);
            for name in ["tue\n", "wed\n"] {
                rig.append("app.log", name);
                rotate(&rig);
            }
            rig.append("app.log", "thu\n");
            if how != "running" {
                rig.start();
            }
            rig.pass_time();
            let expected = ["mon", "mon end", "tue", "wed", "thu"];
            assert_eq!(rig.all_lines(), expected, "{how}");
        }
    }
}

#[test]
fn a_file_that_was_closed_before_an_older_one_is_not_read_again_while_nothing_lies_at_the_path() {
    for how in ["changed", "stopped", "crashed"] {
        let mut rig = rig("app.log");
        rig.append("app.log", "mon\n");
        rig.start();
        rig.pump();
        rig.rename("app.log", "app.log.1");
        rig.append("app.log", "tue\n");
        rig.pump();
        rig.rename("app.log.1", "app.log.2");
        rig.rename("app.log", "app.log.1");
        // Somebody writes to the older one still.
        for text in ["mon 2\n", "mon 3\n", "mon 4\n"] {
            rig.append("app.log.2", text);
            rig.seconds_later(4);
        }
        assert_eq!(rig.closes().len(), 1, "the younger one");
        rig.settle_all();
        match how {
            "changed" => rig.change(),
            how => {
                rig.comes_to_be(how);
                rig.rename("app.log.2", "app.log.3");
                rig.rename("app.log.1", "app.log.2");
                rig.start();
            }
        }
        rig.pump();
        rig.append("app.log", "wed\n");
        rig.pass_time();
        let mut lines = rig.all_lines();
        lines.sort();
        let expected = ["mon", "mon 2", "mon 3", "mon 4", "tue", "wed"];
        assert_eq!(lines, expected, "{how}");
    }
}

/// Many a log begins with the names of its columns. One that has nothing else, and is closed, is in none of the others.
#[test]
fn a_closed_file_with_a_header_alone_hides_none_that_begins_as_it_does() {
    for how in ["stopped", "crashed"] {
        for packed in [false, true] {
            let mut rig = rig("app.log");
            rig.append("app.log", "time,temperature,humidity\n");
            rig.start();
            rig.pump();
            rig.rename("app.log", "app.log.1");
            rig.append("app.log", "time,temperature,humidity\nmon,1,2\n");
            rig.pass_time();
            rig.settle_all();
            match packed {
                true => rig.pack("app.log.1", "app.log.2.gz"),
                false => fs::remove_file(rig.path("app.log.1")).unwrap(),
            }
            rig.comes_to_be(how);
            // Meanwhile two come, and one of them goes. Not within the kernel's tick (4 ms, 10 at most) in which the
            // closed one was last changed, or a new one that has its inode has its time of change, too, and is its.
            std::thread::sleep(Duration::from_millis(20));
            rig.rename("app.log", "app.log.1");
            rig.append("app.log", "time,temperature,humidity\ntue,3,4\n");
            if packed {
                rig.rename("app.log.2.gz", "app.log.3.gz");
            }
            rig.pack("app.log.1", "app.log.2.gz");
            rig.rename("app.log", "app.log.1");
            rig.append("app.log", "time,temperature,humidity\nwed,5,6\n");
            rig.start();
            rig.pass_time();
            let mut lines = rig.all_lines();
            lines.retain(|line| !line.starts_with("time"));
            assert_eq!(lines, ["mon,1,2", "tue,3,4", "wed,5,6"], "{how} {packed}");
        }
    }
}

/// `worker.2.log` looks as rotated names of `worker.1.log` do, where a number stands before the extension.
#[test]
fn a_log_beside_one_that_was_deleted_and_closed_is_not_taken_for_what_is_left_of_it() {
    for how in ["running", "stopped", "crashed"] {
        let mut rig = rig("worker.1.log");
        rig.append("worker.1.log", "one\n");
        rig.start();
        rig.pump();
        fs::remove_file(rig.path("worker.1.log")).unwrap();
        rig.pass_time();
        rig.settle_all();
        rig.comes_to_be(how);
        rig.append("worker.2.log", "another's\n");
        rig.append("worker.1.log", "two\n");
        if how != "running" {
            rig.start();
        }
        rig.pass_time();
        assert_eq!(rig.all_lines(), ["one", "two"], "{how}");
    }
}

#[test]
fn dated_names_are_walked_too() {
    let mut rig = rig("app.log");
    rig.append("app.log-20261120", "old\n");
    rig.append("app.log", "mon\n");
    rig.start();
    rig.pump();
    rig.settle_all();
    rig.stop();
    rig.rename("app.log", "app.log-20261123");
    rig.append("app.log", "tue\n");
    rig.pack("app.log", "app.log-20261124.gz");
    rig.append("app.log", "wed\n");
    rig.rename("app.log", "app.log-20261125");
    rig.append("app.log", "thu\n");
    rig.start();
    rig.pass_time();
    assert_eq!(rig.all_lines(), ["mon", "tue", "wed", "thu"]);
}

#[test]
fn a_log_rotated_out_of_existence_does_not_take_the_younger_ones_along() {
    let mut rig = rig("app.log");
    rig.append("app.log.2", "never followed\n");
    rig.touch("app.log.2", 1_000_000);
    rig.append("app.log", "mon\n");
    rig.start();
    rig.pump();
    rig.crash();
    fs::remove_file(rig.path("app.log")).unwrap();
    rig.append("app.log.1", "tue\n");
    rig.append("app.log", "wed\n");
    rig.start();
    rig.pass_time();
    assert_eq!(rig.all_lines(), ["mon", "tue", "wed"]);
    let vanished = (0, reason::VANISHED.to_owned(), Tail::Unknown);
    assert_eq!(rig.closes()[0], vanished);
}

#[test]
fn copy_and_truncate_loses_nothing_that_is_in_the_copy() {
    let banner = day("banner", 200);
    for glob in ["app.log", "app.log*"] {
        for how in ["running", "stopped", "crashed"] {
            let mut rig = rig(glob);
            rig.append("app.log", &banner);
            rig.append("app.log", "one\n");
            rig.start();
            rig.pump();
            rig.settle_all();
            rig.comes_to_be(how);
            rig.append("app.log", "two\nthree");
            fs::copy(rig.path("app.log"), rig.path("app.log.1")).unwrap();
            // Longer than before, and the same beginning.
            fs::write(rig.path("app.log"), format!("{banner}four\nfive\nsix\n")).unwrap();
            if !rig.is_running() {
                rig.start();
            }
            rig.pass_time();
            rig.pass_time();
            let mut expected = lines(&[&banner, "one\ntwo\nthree\n", &banner, "four\nfive\nsix"]);
            let mut given = rig.all_lines();
            if glob == "app.log*" {
                // Where a glob leads to the copy it stays open, and its last line waits.
                expected.retain(|line| line != "three");
                assert_eq!(rig.closes().len(), 0);
            } else {
                assert_eq!(rig.closes().len(), 1, "{how}");
                assert_eq!(rig.closes()[0].1, reason::TRUNCATED);
            }
            given.sort();
            expected.sort();
            same(&given, &expected);
            assert_eq!(rig.generations().len(), 2, "{glob}, {how}");
        }
    }
}

#[test]
fn a_copy_under_way_is_not_taken_for_a_new_file() {
    let mut rig = rig("app.log*");
    let text = day("mon", 300);
    rig.append("app.log", &text);
    rig.start();
    rig.pump();
    rig.append("app.log.1", &text[..2000]);
    rig.pump();
    rig.append("app.log.1", &text[2000..]);
    rig.pump();
    fs::write(rig.path("app.log"), "tue\n").unwrap();
    rig.pass_time();
    rig.pass_time();
    same(&rig.all_lines(), &lines(&[&text, "tue\n"]));
    // A copy that stays beside its original is a file of its own.
    rig.append("app.log.bak", "tue\n");
    rig.pass_time();
    rig.pass_time();
    assert_eq!(rig.lines(), [""; 0]);
    assert_eq!(rig.generations().len(), 3);
}

#[test]
fn what_a_glob_leads_to_is_not_read_again_when_it_is_compressed() {
    for running in [true, false] {
        let mut rig = rig("app.log*");
        let (mon, tue) = (day("mon", 2000), day("tue", 10));
        rig.append("app.log", &mon);
        rig.start();
        rig.pump();
        rig.rename("app.log", "app.log.1");
        rig.append("app.log", &tue);
        rig.pass_time();
        rig.settle_all();
        if !running {
            rig.stop();
        }
        for (from, to) in [
            ("app.log.1", "app.log.2.gz"),
            ("app.log.2.gz", "app.log.3.zst"),
        ] {
            if from.ends_with("gz") {
                rig.repack(from, to);
            } else {
                rig.pack(from, to);
            }
            if !rig.is_running() {
                rig.start();
            }
            rig.pass_time();
            rig.pass_time();
        }
        same(&rig.all_lines(), &lines(&[&mon, &tue]));
        assert_eq!(rig.generations().len(), 2);
        assert_eq!(rig.closes().len(), 0);
        fs::remove_file(rig.path("app.log.3.zst")).unwrap();
        rig.pass_time();
        let closed = (mon.len() as u64, reason::ROTATED.to_owned(), Tail::Complete);
        assert_eq!(rig.closes(), [closed]);
    }
}

#[test]
fn a_compressed_file_that_a_glob_leads_to_is_read_as_what_it_holds() {
    let mut rig = rig("*");
    let text = day("old", 3000);
    for name in ["a.log", "b.log"] {
        rig.append(name, &text);
    }
    rig.pack("a.log", "a.log.1.gz");
    rig.pack("b.log", "b.log.1.zst");
    rig.start();
    // Who writes it may still be at it.
    assert_eq!(rig.lines(), [""; 0]);
    rig.pass_time();
    rig.pass_time();
    let mut given = rig.all_lines();
    let mut expected = lines(&[&text, &text]);
    given.sort();
    expected.sort();
    same(&given, &expected);
    assert_eq!(
        (rig.tiled_to(0), rig.tiled_to(1)),
        (text.len() as u64, text.len() as u64)
    );
}

#[test]
fn a_compressed_file_without_its_end_gives_what_it_holds_and_says_so() {
    let mut rig = rig("app.log");
    let text = day("mon", 5000);
    rig.append("app.log", &text[..8]);
    rig.start();
    rig.pump();
    rig.stop();
    rig.append("app.log", &text[8..]);
    rig.pack("app.log", "app.log.1.gz");
    let packed = fs::read(rig.path("app.log.1.gz")).unwrap();
    fs::write(rig.path("app.log.1.gz"), &packed[..packed.len() / 2]).unwrap();
    rig.append("app.log", "tue\n");
    rig.start();
    rig.pass_time();
    let given = rig.all_lines();
    let whole = lines(&[&text]);
    assert!(given.len() > 1000 && given.len() < 5000, "{}", given.len());
    assert!(given.contains(&"tue".to_owned()));
    assert_eq!(given[..given.len() - 2], whole[..given.len() - 2]);
    let closes = rig.closes();
    assert_eq!(
        (closes[0].1.as_str(), closes[0].2),
        (reason::DAMAGED, Tail::Unknown)
    );
    assert_eq!(rig.tiled_to(0), closes[0].0);
}

#[test]
fn copied_cut_and_then_renamed_unseen_both_are_read() {
    let mut rig = rig("app.log");
    rig.append("app.log", &day("mon", 50));
    rig.start();
    rig.pump();
    // Its inode goes to Tuesday, and that is what lies at the next name of the log.
    fs::copy(rig.path("app.log"), rig.path("app.log.1")).unwrap();
    fs::write(rig.path("app.log"), day("tue", 70)).unwrap();
    rotate(&rig);
    rig.append("app.log", "wed\n");
    rig.pass_time();
    rig.pass_time();
    let mut given = rig.all_lines();
    let mut expected = lines(&[&day("mon", 50), &day("tue", 70), "wed\n"]);
    given.sort();
    expected.sort();
    same(&given, &expected);
}

#[test]
fn what_is_copied_after_a_cut_without_a_copy_is_read_and_nothing_of_it_twice() {
    for middle in [Some(day("wed", 30)), None] {
        let mut rig = rig("app.log");
        // All of one moment, as files of one tick of the kernel's clock are.
        let same_moment = |rig: &Rig, name: &str| rig.touch(name, 1_000_000);
        rig.append("app.log", &day("mon", 50));
        same_moment(&rig, "app.log");
        rig.start();
        rig.pump();
        fs::copy(rig.path("app.log"), rig.path("app.log.1")).unwrap();
        same_moment(&rig, "app.log.1");
        fs::write(
            rig.path("app.log"),
            "tuesday, and no line yet, long enough to",
        )
        .unwrap();
        same_moment(&rig, "app.log");
        // The copy is read to its end and closed; the file goes on as another.
        rig.pass_time();
        rig.pass_time();
        // It is cut, and what is written next is copied and cut too, or is what lies there now.
        if let Some(wednesday) = &middle {
            rig.rename("app.log.1", "app.log.2");
            fs::write(rig.path("app.log.1"), wednesday).unwrap();
            same_moment(&rig, "app.log.1");
        }
        fs::write(rig.path("app.log"), "thu\n").unwrap();
        rig.pass_time();
        rig.pass_time();
        let mut given = rig.all_lines();
        let middle = middle.unwrap_or_default();
        let mut expected = lines(&[&day("mon", 50), &middle, "thu\n"]);
        given.retain(|line| !line.starts_with("tuesday"));
        given.sort();
        expected.sort();
        same(&given, &expected);
    }
}

#[test]
fn what_is_compressed_in_a_way_that_is_not_read_is_no_text() {
    let heads: [&[u8]; 5] = [
        b"\xfd7zXZ\0",
        b"BZh91AY&SY",
        b"\x04\x22\x4d\x18",
        b"\x1f\x9d\x90",
        b"PK\x03\x04",
    ];
    let mut rig = rig("*");
    for (n, head) in heads.into_iter().enumerate() {
        rig.append_bytes(&format!("{n}.log"), &[head, b"\nnot text\n"].concat());
    }
    rig.append("bzip.log", "BZh9 is how a text may begin\n");
    rig.start();
    rig.pass_time();
    rig.pass_time();
    assert_eq!(rig.all_lines(), ["BZh9 is how a text may begin"]);
    assert_eq!(rig.skipped(), 5);
    // No glob leads to what came and went here, but the walk through the rotated files does.
    let mut rig = self::rig("app.log");
    rig.append("app.log", "mon\n");
    rig.touch("app.log", 1_000_000);
    rig.start();
    rig.pump();
    rig.rename("app.log", "app.log.2");
    rig.append_bytes("app.log.1.xz", b"\xfd7zXZ\0\nnot text\n");
    rig.append("app.log", "wed\n");
    rig.pass_time();
    assert_eq!(rig.all_lines(), ["mon", "wed"]);
    assert_eq!(rig.skipped(), 1);
}
