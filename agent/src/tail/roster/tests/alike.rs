//! Files that hold the same: begun alike, copied, or small.

use std::fs;

use proptest::prelude::*;

use super::rig::Rig;

/// Longer than what a file is known by.
fn banner() -> String {
    "time,temperature,humidity,pressure\n".repeat(40)
}

fn rig(glob: &str) -> Rig {
    let mut rig = Rig::new(glob);
    rig.source.framing.max_line = 1024;
    rig
}

/// How often each of two lines was given.
fn count(rig: &mut Rig, line: &str) -> usize {
    rig.all_lines()
        .iter()
        .filter(|given| *given == line)
        .count()
}

#[test]
fn a_busy_file_that_begins_like_another_of_its_family_is_followed_at_once() {
    // The first is longer than the second, or as long, or shorter.
    for (first, second, more) in [
        ("worker.1.log", "worker.2.log", "1,2,3,4\n".repeat(100)),
        ("worker.1.log", "worker.2.log", String::new()),
        (
            "app-2026-11-24.log",
            "app-2026-11-25.log",
            "1,2,3,4\n".repeat(100),
        ),
        ("app.log.1", "app.log", "1,2,3,4\n".repeat(100)),
        ("app.log", "app.log.err~", "1,2,3,4\n".repeat(100)),
    ] {
        let mut rig = rig("*");
        rig.append(first, &banner());
        rig.append(first, &more);
        rig.start();
        rig.pump();
        rig.append(second, &banner());
        for n in 0..20 {
            rig.append(first, &format!("{n} of the first\n"));
            rig.append(second, &format!("{n} of the second\n"));
            rig.seconds_later(1);
            let given = rig.all_lines();
            assert!(
                given.contains(&format!("{n} of the second")),
                "{second}, second {n}"
            );
        }
        assert_eq!(rig.generations().len(), 2);
    }
}

#[test]
fn what_is_compressed_for_long_is_not_read_before_it_is_whole() {
    let mut rig = rig("app.log*");
    rig.append("app.log", &banner());
    rig.start();
    rig.pump();
    rig.rename("app.log", "app.log.1");
    rig.append(
        "app.log.copy",
        &fs::read_to_string(rig.path("app.log.1")).unwrap(),
    );
    rig.pack("app.log.copy", "app.log.1.gz");
    // A compressor on a slow card, for longer than a copy is waited for.
    for second in 0..1000 {
        rig.touch("app.log.1.gz", 2_000_000_000 + second);
        rig.seconds_later(1);
    }
    assert_eq!(rig.generations().len(), 1);
    fs::remove_file(rig.path("app.log.1")).unwrap();
    rig.pass_time();
    rig.pass_time();
    assert_eq!((rig.generations().len(), rig.closes().len()), (1, 0));
}

#[test]
fn a_file_that_grows_as_another_does_is_followed_before_long() {
    let mut rig = rig("app.log*");
    rig.append("app.log", "begun\n");
    rig.start();
    rig.pump();
    rig.append("app.log.1", "begun\n");
    let mut seconds = 0;
    while count(&mut rig, "begun") == 1 {
        rig.append("app.log", &format!("{seconds}\n"));
        rig.append("app.log.1", &format!("{seconds}\n"));
        rig.seconds_later(1);
        seconds += 1;
        assert!(seconds < 700, "as if it were a copy under way, for ever");
    }
    assert!(seconds > 60, "as if no copy took its time");
}

#[test]
fn a_copy_is_waited_for_from_its_first_byte_on() {
    let mut rig = rig("app.log*");
    let text = banner();
    rig.append("app.log", &text);
    rig.start();
    rig.pump();
    for (from, to) in [(0, 0), (0, 10), (10, 500), (500, text.len())] {
        rig.append("app.log.1", &text[from..to]);
        rig.pump();
    }
    fs::write(rig.path("app.log"), "another\n").unwrap();
    rig.pass_time();
    rig.pass_time();
    assert_eq!(rig.all_lines().len(), 41);
    assert_eq!(rig.generations().len(), 2);
}

#[test]
fn small_files_that_hold_the_same_are_each_read() {
    // Where the second appears, and what becomes of the first: it gets another name, or is deleted.
    let (today, tomorrow) = ("app-20261124.log", "app-20261125.log");
    for (glob, first, second, becomes) in [
        ("app.log", "app.log", "app.log", Some("app.log.1")),
        ("app.log*", "app.log", "app.log", Some("app.log.1")),
        ("app.log", "app.log", "app.log", None),
        ("app-*.log", today, tomorrow, Some(today)),
        ("app-*.log", today, tomorrow, Some("elsewhere")),
        ("app-*.log", today, tomorrow, None),
        ("worker.*.log", "worker.2.log", "worker.1.log", None),
        (
            "worker.*.log",
            "worker.1.log",
            "worker.2.log",
            Some("elsewhere"),
        ),
    ] {
        for how in ["running", "stopped", "crashed"] {
            let mut rig = rig(glob);
            rig.append(first, "start\n");
            rig.start();
            rig.pump();
            rig.comes_to_be(how);
            // Made while the first is there, so that it does not get its inode.
            rig.append("new", "start\n");
            match becomes {
                Some(name) => rig.rename(first, name),
                None => fs::remove_file(rig.path(first)).unwrap(),
            }
            rig.rename("new", second);
            if !rig.is_running() {
                rig.start();
            }
            rig.pump();
            rig.append(second, "more\n");
            rig.pass_time();
            rig.pass_time();
            let lines = (count(&mut rig, "start"), count(&mut rig, "more"));
            assert_eq!(lines, (2, 1), "{glob}, {first} -> {becomes:?}, {how}");
        }
    }
}

#[test]
fn what_came_and_went_unseen_is_read_though_it_holds_what_another_does() {
    for running in [true, false] {
        let mut rig = rig("app.log");
        rig.append("app.log", "start\n");
        rig.start();
        rig.pump();
        if !running {
            rig.crash();
        }
        for _ in 0..3 {
            rig.rename("app.log", "app.log.new");
            for n in (1..4).rev() {
                if rig.path(&format!("app.log.{n}")).exists() {
                    rig.rename(&format!("app.log.{n}"), &format!("app.log.{}", n + 1));
                }
            }
            rig.rename("app.log.new", "app.log.1");
            rig.append("app.log", "start\n");
        }
        if !running {
            rig.start();
        }
        rig.pass_time();
        rig.pass_time();
        assert_eq!(count(&mut rig, "start"), 4, "running: {running}");
    }
}

#[test]
fn a_copy_of_which_the_original_was_deleted_is_that_file_still() {
    for running in [true, false] {
        let mut rig = rig("app.log*");
        rig.append("app.log", "start\n");
        rig.start();
        rig.pump();
        rig.settle_all();
        if !running {
            rig.stop();
        }
        fs::copy(rig.path("app.log"), rig.path("app.log.1")).unwrap();
        fs::remove_file(rig.path("app.log")).unwrap();
        if !running {
            rig.start();
        }
        rig.append("app.log.1", "more\n");
        rig.pass_time();
        rig.pass_time();
        assert_eq!(rig.all_lines(), ["start", "more"]);
        assert_eq!(rig.generations().len(), 1);
    }
}

/// What becomes of a log into which a program writes nothing that tells its files apart.
#[derive(Debug, Clone)]
enum Act {
    Append(usize),
    /// `app.log` becomes `app.log.1`, that becomes `app.log.2`, and so on; and a new one begins.
    Rotate,
    Pump,
    PassTime,
    Restart {
        orderly: bool,
    },
    Stop,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (1..4_usize).prop_map(Act::Append),
        3 => Just(Act::Rotate),
        2 => Just(Act::Pump),
        1 => Just(Act::PassTime),
        1 => any::<bool>().prop_map(|orderly| Act::Restart { orderly }),
        1 => Just(Act::Stop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// As many lines come as were written, from the file on that was seen first.
    #[test]
    fn lines_that_are_all_the_same_are_counted(
        acts in prop::collection::vec(act(), 1..30),
        wide in any::<bool>(),
    ) {
        let mut rig = rig(if wide { "app.log*" } else { "app.log" });
        let (mut written, mut rotations, mut clock) = (1, 0, 1_000_000);
        rig.append("app.log", "start\n");
        rig.touch("app.log", clock);
        rig.start();
        rig.pump();
        for act in &acts {
            clock += 1;
            match act {
                Act::Append(lines) => {
                    rig.append("app.log", &"start\n".repeat(*lines));
                    rig.touch("app.log", clock);
                    written += lines;
                }
                Act::Rotate => {
                    for n in (1..=rotations).rev() {
                        rig.rename(&format!("app.log.{n}"), &format!("app.log.{}", n + 1));
                    }
                    rig.rename("app.log", "app.log.1");
                    rig.append("app.log", "start\n");
                    rig.touch("app.log", clock);
                    rotations += 1;
                    written += 1;
                }
                Act::Pump if rig.is_running() => rig.pump(),
                Act::PassTime if rig.is_running() => rig.pass_time(),
                Act::Restart { orderly } => {
                    if *orderly {
                        rig.stop();
                    } else {
                        rig.crash();
                    }
                    rig.settle_all();
                    rig.start();
                }
                Act::Stop => rig.crash(),
                Act::Pump | Act::PassTime => {}
            }
        }
        if !rig.is_running() {
            rig.start();
        }
        rig.pass_time();
        rig.pass_time();
        prop_assert_eq!(count(&mut rig, "start"), written);
    }
}
