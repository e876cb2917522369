//! What is looked at, where the system tells of changes: counted, not timed.

use std::fs;

use super::super::look::LOOK_EVERY;
use super::rig::Rig;

const FILES: usize = 200;
const FOLDERS: usize = 2;

/// Quiet files in two folders, every third of them empty, all of them read.
fn quiet() -> Rig {
    let mut rig = not_started();
    rig.start();
    rig.pump();
    rig.pump();
    rig
}

fn not_started() -> Rig {
    let rig = Rig::new("*/*.log");
    for n in 0..FILES {
        let folder = format!("{}", n % FOLDERS);
        fs::create_dir_all(rig.path(&folder)).unwrap();
        let text = if n % 3 == 0 { "" } else { "a line\n" };
        rig.append(&format!("{folder}/{n}.log"), text);
    }
    rig
}

#[test]
fn a_quiet_file_of_which_is_told_costs_nothing_and_another_one_look() {
    let mut rig = quiet();
    // One of them is the look at everything.
    let untold = rig.rescans(LOOK_EVERY, &[]);
    assert_eq!(untold, u64::from(LOOK_EVERY) * FILES as u64);
    rig.tell_of(&["0", "1"]);
    let told = rig.rescans(LOOK_EVERY, &[]);
    // The names of each folder, and once each file.
    let names = u64::from(LOOK_EVERY - 1) * FOLDERS as u64;
    assert_eq!(told, names + FILES as u64);
    assert_eq!(rig.open_files(), FILES);
}

#[test]
fn what_is_told_of_is_read_at_once_and_what_is_new_is_found() {
    let mut rig = quiet();
    rig.tell_of(&["0", "1"]);
    rig.rescans(LOOK_EVERY, &[]);
    rig.append("0/0.log", "one\n");
    rig.append("1/new.log", "two\n");
    rig.rescans(1, &["0.log"]);
    fs::remove_file(rig.path("0/2.log")).unwrap();
    rig.append("0/2.log", "made again\n");
    rig.rescans(2, &["2.log"]);
    let lines: Vec<_> = rig.messages().split_off(FILES - FILES.div_ceil(3));
    assert_eq!(lines, ["one", "two", "made again"]);
}

#[test]
fn what_is_written_unheard_is_found_in_the_end_and_from_then_on_at_each_rescan() {
    let mut rig = quiet();
    rig.tell_of(&["0", "1"]);
    rig.rescans(LOOK_EVERY, &[]);
    let before = rig.messages().len();
    rig.append("0/0.log", "one\n");
    rig.rescans(LOOK_EVERY, &[]);
    assert_eq!(rig.messages()[before..], ["one"]);
    for text in ["two", "three"] {
        rig.append("0/0.log", &format!("{text}\n"));
        rig.rescans(1, &[]);
    }
    assert_eq!(rig.messages()[before..], ["one", "two", "three"]);
    // Until it is heard of.
    rig.rescans(1, &["0.log"]);
    rig.append("0/0.log", "four\n");
    rig.rescans(1, &[]);
    assert_eq!(rig.messages().len(), before + 3);
}

#[test]
fn a_file_with_another_name_elsewhere_is_looked_at_each_time() {
    let mut rig = not_started();
    fs::hard_link(rig.path("0/0.log"), rig.path("elsewhere")).unwrap();
    rig.start();
    rig.pump();
    rig.tell_of(&["0", "1"]);
    rig.rescans(LOOK_EVERY, &[]);
    let before = rig.messages().len();
    rig.append("elsewhere", "one\n");
    rig.rescans(1, &[]);
    assert_eq!(rig.messages()[before..], ["one"]);
}

#[test]
fn a_folder_that_is_another_now_is_looked_at_again() {
    let mut rig = quiet();
    rig.tell_of(&["0", "1"]);
    rig.rescans(LOOK_EVERY, &[]);
    let before = rig.messages().len();
    rig.rename("0", "away");
    fs::create_dir(rig.path("0")).unwrap();
    rig.append("0/0.log", "another\n");
    rig.rescans(2, &[]);
    assert_eq!(rig.messages()[before..], ["another"]);
}
