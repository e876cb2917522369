//! A power cut takes back what programs had written last: it was read, and settled.

use std::fs;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use proptest::sample::Index;

use headwater_record::notice::{Tail, reason};
use headwater_record::{Kind, Ledger, Verdict};

use super::rig::Rig;

/// What becomes of the last bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    Nuls,
}

/// Lines of 12 bytes each, whose numbers are these.
fn lines(numbers: std::ops::Range<usize>) -> String {
    numbers.map(|n| format!("line {n:06}\n")).collect()
}

const LINE: usize = 12;

/// Takes the last bytes of `app.log` back.
fn cut(rig: &Rig, bytes: usize, left: Left) {
    let file = fs::File::options().write(true).open(rig.path("app.log"));
    let (file, len) = (
        file.unwrap(),
        fs::metadata(rig.path("app.log")).unwrap().len(),
    );
    let to = len - bytes as u64;
    match left {
        Left::Nothing => file.set_len(to).unwrap(),
        Left::Nuls => file.write_all_at(&vec![0; bytes], to).unwrap(),
    }
}

/// 300 lines were read, ten at a time, and are settled; then the power fails.
fn read_and_fail() -> Rig {
    let mut rig = Rig::new("app.log");
    rig.start();
    for n in 0..30 {
        rig.append("app.log", &lines(n * 10..n * 10 + 10));
        rig.pump();
    }
    rig.settle_all();
    rig.crash();
    rig.rebooted = true;
    rig
}

fn said(rig: &Rig) -> Vec<String> {
    rig.messages().into_iter().skip(300).collect()
}

fn expected(numbers: impl Iterator<Item = usize>) -> Vec<String> {
    numbers.map(|n| format!("line {n:06}")).collect()
}

#[test]
fn a_file_that_lost_its_end_goes_on_where_it_was_known_last() {
    for left in [Left::Nothing, Left::Nuls] {
        let mut rig = read_and_fail();
        cut(&rig, 15 * LINE + 5, left);
        rig.note_sizes();
        // What follows makes it longer than it was.
        rig.append("app.log", &("\n".to_owned() + &lines(1000..1030)));
        rig.start();
        rig.pass_time();
        // 284 whole lines are left; at 280 there was a marker.
        let torn = format!("line {:06}", 284)[..5 + 2].to_owned();
        let end = match left {
            Left::Nothing => vec![torn],
            // Pieces of it are as long as a line may be.
            Left::Nuls => vec![torn + &"\0".repeat(9), String::new()],
        };
        let again = expected(280..284).into_iter().chain(end);
        let expected: Vec<_> = again.chain(expected(1000..1030)).collect();
        assert_eq!(said(&rig), expected, "{left:?}");
        let at = 300 * LINE as u64;
        let close = (at, reason::TRUNCATED.to_owned(), Tail::Unknown);
        assert_eq!(rig.closes(), [close]);
        let size = fs::metadata(rig.path("app.log")).unwrap().len();
        assert_eq!((rig.tiled_to(0), rig.tiled_to(1)), (at, size));
        assert_eq!(rig.generations().len(), 2);
    }
}

#[test]
fn what_was_not_settled_is_given_though_it_was_read() {
    let mut rig = read_and_fail();
    rig.settle(0, 200 * LINE as u64);
    cut(&rig, 15 * LINE, Left::Nothing);
    rig.start();
    rig.pump();
    assert_eq!(said(&rig), expected(200..285));
}

#[test]
fn a_file_that_begins_anew_is_read_whole() {
    // It was cut to nothing by its program, below and above what was read; or nobody's power failed.
    for (numbers, rebooted) in [(0..5, true), (500..900, true), (0..280, false)] {
        let mut rig = read_and_fail();
        rig.rebooted = rebooted;
        fs::write(rig.path("app.log"), lines(numbers.clone())).unwrap();
        rig.start();
        rig.pump();
        assert_eq!(said(&rig), expected(numbers));
    }
}

#[test]
fn a_file_that_begins_with_the_same_banner_is_read_whole() {
    let mut rig = Rig::new("app.log");
    rig.start();
    let banner = lines(0..10);
    rig.append("app.log", &banner);
    rig.pump();
    rig.append("app.log", &lines(10..15));
    rig.pump();
    rig.settle_all();
    rig.crash();
    // The program begins anew with the system, and cuts its log to nothing.
    fs::write(rig.path("app.log"), banner + &lines(20..22)).unwrap();
    rig.rebooted = true;
    rig.start();
    rig.pump();
    assert_eq!(rig.messages()[15..], expected((0..10).chain(20..22)));
}

#[test]
fn a_start_that_was_cut_off_behind_the_new_generation_goes_on_with_it() {
    let mut rig = read_and_fail();
    cut(&rig, 15 * LINE, Left::Nothing);
    rig.note_sizes();
    rig.start();
    rig.crash();
    assert_eq!(rig.memory.open().len(), 2);
    rig.start();
    rig.pump();
    assert_eq!(said(&rig), expected(280..285));
    assert_eq!(rig.closes().len(), 1);
}

/// The first checkpoint was at 100 lines; 150 were sent when the power failed, and of the file 120 are left.
fn sent_and_taken_back(left: Left) -> Rig {
    let mut rig = Rig::new("app.log");
    rig.memory.checkpoint_by_hand();
    rig.append("app.log", &lines(0..100));
    rig.start();
    rig.pump();
    rig.settle_all();
    rig.memory.checkpoint();
    rig.append("app.log", &lines(100..150));
    rig.pump();
    rig.crash();
    rig.rebooted = true;
    cut(&rig, 30 * LINE, left);
    rig
}

/// What the loader keeps: the first of each span.
fn stored(rig: &mut Rig) -> Vec<String> {
    let mut ledger = Ledger::default();
    let mut stored = rig.records.clone();
    stored.retain(|record| {
        record.kind == Kind::Data
            && ledger.accept("s", record.generation, record.span, 0) != Verdict::Duplicate
    });
    stored.into_iter().map(|record| record.message).collect()
}

#[test]
fn what_is_written_where_sent_lines_were_taken_back_is_no_duplicate_and_nothing_comes_twice() {
    for rotated in [false, true] {
        let mut rig = sent_and_taken_back(Left::Nothing);
        rig.note_sizes();
        rig.append("app.log", &lines(500..560));
        if rotated {
            rig.rename("app.log", "app.log.1");
            rig.append("app.log", &lines(560..570));
        }
        rig.start();
        rig.pass_time();
        let end = if rotated { 570 } else { 560 };
        let expected = expected((0..150).chain(500..end));
        assert_eq!(stored(&mut rig), expected, "{rotated}");
        let close = (
            120 * LINE as u64,
            reason::POWER_CUT.to_owned(),
            Tail::Unknown,
        );
        assert_eq!(rig.closes()[0], close);
        assert_eq!(rig.tiled_to(0), 150 * LINE as u64);
        assert_eq!(rig.tiled_to(1), 180 * LINE as u64);
    }
}

#[test]
fn where_nobody_noted_a_length_what_was_sent_since_the_checkpoint_comes_once_more() {
    let mut rig = sent_and_taken_back(Left::Nothing);
    rig.append("app.log", &lines(500..560));
    rig.start();
    rig.pass_time();
    let all = (0..150).chain(100..120).chain(500..560);
    assert_eq!(stored(&mut rig), expected(all));
    let close = (
        100 * LINE as u64,
        reason::POWER_CUT.to_owned(),
        Tail::Unknown,
    );
    assert_eq!(rig.closes(), [close]);
}

#[test]
fn nuls_in_the_place_of_what_was_sent_end_where_the_system_started() {
    let mut rig = sent_and_taken_back(Left::Nuls);
    rig.note_sizes();
    rig.append("app.log", &lines(500..560));
    rig.start();
    rig.pass_time();
    assert_eq!(stored(&mut rig), expected((0..150).chain(500..560)));
    assert_eq!(rig.tiled_to(0), 150 * LINE as u64);
}

/// A program that preallocates its log goes on in the place of NULs, behind which nothing is.
#[test]
fn what_is_written_in_the_place_of_nuls_is_no_duplicate_and_not_passed_over() {
    let mut rig = sent_and_taken_back(Left::Nuls);
    rig.note_sizes();
    rig.start();
    rig.pass_time();
    // Not within the tick of the kernel's clock (4 ms, 10 at most) in which the NULs were seen.
    std::thread::sleep(std::time::Duration::from_millis(20));
    let file = fs::File::options().write(true).open(rig.path("app.log"));
    let new = lines(500..520);
    (file
        .unwrap()
        .write_all_at(new.as_bytes(), 120 * LINE as u64))
    .unwrap();
    rig.pass_time();
    assert_eq!(stored(&mut rig), expected((0..150).chain(500..520)));
}

/// A salvage lost the row of the generation under which the file was to go on.
#[test]
fn a_generation_without_the_next_ends_and_what_follows_is_read_once() {
    let mut rig = sent_and_taken_back(Left::Nothing);
    rig.note_sizes();
    rig.append("app.log", &lines(500..560));
    rig.start();
    rig.crash();
    let next = rig.memory.open().iter().map(|open| open.skip_to).max();
    assert_eq!(next, Some(Some(120 * LINE as u64)));
    rig.memory.lose(|open| open.skip_to.is_some());
    rig.start();
    rig.pass_time();
    assert_eq!(stored(&mut rig), expected((0..150).chain(500..560)));
}

/// What was settled of the next generation was taken back by another cut, before the close of this one was settled.
#[test]
fn a_cut_below_what_was_settled_of_the_next_generation_goes_on_where_that_was_known_last() {
    let mut rig = sent_and_taken_back(Left::Nothing);
    rig.note_sizes();
    rig.append("app.log", &lines(500..520));
    rig.start();
    for n in 52..58 {
        rig.pump();
        rig.memory.checkpoint();
        rig.append("app.log", &lines(n * 10..n * 10 + 10));
    }
    rig.pump();
    rig.settle(0, 120 * LINE as u64);
    rig.settle(1, 200 * LINE as u64);
    rig.memory.checkpoint();
    rig.crash();
    rig.rebooted = true;
    cut(&rig, 15 * LINE, Left::Nothing);
    rig.note_sizes();
    rig.append("app.log", &lines(600..610));
    rig.start();
    rig.pass_time();
    let again = expected((0..150).chain(500..580).chain(560..565).chain(600..610));
    assert_eq!(stored(&mut rig), again, "not from its beginning");
}

/// Of a file nothing is known but what is before a noted length; then the agent ends, in one way or the other, with
/// so many records of the old generation settled, and starts again in the same boot.
#[test]
fn a_start_that_was_cut_off_between_two_generations_goes_on_with_both() {
    for how in ["stopped", "crashed"] {
        for settled in [100, 110, 120] {
            let mut rig = sent_and_taken_back(Left::Nothing);
            rig.note_sizes();
            rig.append("app.log", &lines(500..560));
            rig.start();
            rig.pump();
            rig.settle(0, settled * LINE as u64);
            rig.comes_to_be(how);
            rig.start();
            rig.append("app.log", &lines(560..570));
            rig.pass_time();
            let expected = expected((0..150).chain(500..570));
            assert_eq!(stored(&mut rig), expected, "{how} {settled}");
            assert_eq!(rig.generations().len(), 2);
        }
    }
}

/// Of the new generation more is settled than of the old one: what is read on has another marker.
#[test]
fn a_start_behind_what_was_settled_of_the_new_generation_goes_on_there() {
    let mut rig = sent_and_taken_back(Left::Nothing);
    rig.note_sizes();
    rig.append("app.log", &lines(500..560));
    rig.start();
    rig.pump();
    rig.settle(0, 120 * LINE as u64);
    rig.settle(1, 150 * LINE as u64);
    rig.memory.checkpoint();
    rig.crash();
    rig.append("app.log", &lines(560..570));
    rig.start();
    rig.pass_time();
    assert_eq!(stored(&mut rig), expected((0..150).chain(500..570)));
    assert_eq!(
        (rig.tiled_to(1), rig.closes().len()),
        (190 * LINE as u64, 2)
    );
}

#[test]
fn a_second_power_cut_before_the_old_generation_is_over_takes_nothing_along() {
    let mut rig = sent_and_taken_back(Left::Nothing);
    rig.note_sizes();
    rig.append("app.log", &lines(500..560));
    rig.start();
    rig.pump();
    rig.crash();
    rig.rebooted = true;
    cut(&rig, 40 * LINE, Left::Nothing);
    rig.note_sizes();
    rig.append("app.log", &lines(600..650));
    rig.start();
    rig.pass_time();
    let expected = expected((0..150).chain(500..560).chain(600..650));
    assert_eq!(stored(&mut rig), expected);
    assert_eq!(rig.generations().len(), 3);
}

#[test]
fn after_a_stop_in_order_files_go_on_as_they_were() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log", &lines(0..10));
    rig.start();
    rig.pump();
    rig.settle_all();
    rig.stop();
    rig.rebooted = true;
    rig.append("app.log", &lines(10..20));
    rig.start();
    rig.pass_time();
    assert_eq!(rig.generations().len(), 1);
    assert_eq!(rig.closes(), []);
}

#[test]
fn a_file_that_is_gone_or_cut_since_closes_all_of_its_generations() {
    for gone in [true, false] {
        let mut rig = sent_and_taken_back(Left::Nothing);
        rig.note_sizes();
        match gone {
            true => fs::remove_file(rig.path("app.log")).unwrap(),
            false => fs::write(rig.path("app.log"), lines(900..903)).unwrap(),
        }
        rig.start();
        rig.pass_time();
        let close = |at: usize| {
            let why = reason::VANISHED.to_owned();
            ((at * LINE) as u64, why, Tail::Unknown)
        };
        let mut closes = rig.closes();
        closes.sort_by_key(|(at, ..)| *at);
        assert_eq!(closes, [close(100), close(120)]);
        let left = if gone { 0..0 } else { 900..903 };
        assert_eq!(stored(&mut rig), expected((0..150).chain(left)));
    }
}

#[test]
fn a_copy_that_was_made_between_two_generations_is_read_under_both() {
    let mut rig = sent_and_taken_back(Left::Nothing);
    rig.note_sizes();
    rig.append("app.log", &lines(500..560));
    rig.start();
    fs::copy(rig.path("app.log"), rig.path("app.log.1")).unwrap();
    fs::write(rig.path("app.log"), lines(900..903)).unwrap();
    rig.pass_time();
    rig.pass_time();
    let expected = expected((0..150).chain(500..560).chain(900..903));
    assert_eq!(stored(&mut rig), expected);
}

#[derive(Debug, Clone)]
enum Act {
    /// So many lines.
    Append(usize),
    Pump,
    Restart,
    /// The last bytes go, of those that were written since the last time that the disk was waited for.
    /// Somebody noted how long the file was, or not; and so many lines were written before the agent started.
    PowerCut(Index, bool, bool, usize),
    /// Some of what was sent was acknowledged, and that is written down.
    Checkpoint(Index),
    /// Something waits for the disk: what was written stays.
    Sync,
    Rotate,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1_usize..60).prop_map(Act::Append),
        6 => Just(Act::Pump),
        1 => Just(Act::Restart),
        2 => (any::<Index>(), any::<bool>(), any::<bool>(), 0_usize..90)
            .prop_map(|(bytes, nuls, noted, after)| Act::PowerCut(bytes, nuls, noted, after)),
        2 => any::<Index>().prop_map(Act::Checkpoint),
        2 => Just(Act::Sync),
        1 => Just(Act::Rotate),
    ]
}

struct World {
    rig: Rig,
    written: usize,
    synced: usize,
    /// The number that the next rotated file has behind the oldest.
    rotated: usize,
}

impl World {
    fn len(&self) -> usize {
        usize::try_from(fs::metadata(self.rig.path("app.log")).unwrap().len()).unwrap()
    }

    /// Settles some first records of what is open.
    fn settle(&mut self, choice: Index) {
        for open in self.rig.memory.open() {
            let given: Vec<_> = (self.rig.since_start().iter())
                .filter(|record| record.generation == open.generation)
                .filter(|record| record.span.end() >= open.settled)
                .collect();
            if let Some(last) = (!given.is_empty()).then(|| given[choice.index(given.len())]) {
                let (end, is_close) = (last.span.end(), last.kind == Kind::Close);
                match is_close {
                    true => self.rig.memory.forget(open.generation),
                    false => (self.rig.memory).change(open.generation, |open| open.settled = end),
                }
            }
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Append(count) => {
                self.rig
                    .append("app.log", &lines(self.written..self.written + count));
                self.written += count;
            }
            Act::Pump => self.rig.pump(),
            Act::Restart => {
                self.rig.crash();
                self.rig.start();
            }
            Act::PowerCut(bytes, nuls, noted, after) => {
                self.rig.crash();
                let left = if *nuls { Left::Nuls } else { Left::Nothing };
                let loses = self.len() - self.synced;
                if loses > 0 {
                    cut(&self.rig, bytes.index(loses + 1), left);
                }
                if *noted {
                    self.rig.note_sizes();
                }
                // The program begins anew, and ends what was torn.
                self.rig.append("app.log", "\n");
                self.rig
                    .append("app.log", &lines(self.written..self.written + after));
                self.written += after;
                self.synced = self.len();
                self.rig.rebooted = true;
                self.rig.start();
            }
            Act::Sync => self.synced = self.len(),
            Act::Rotate => {
                // What comes and goes within a tick of the kernel's clock is another test's.
                self.rig.pump();
                for n in (1..self.rotated).rev() {
                    let (from, to) = (format!("app.log.{n}"), format!("app.log.{}", n + 1));
                    self.rig.rename(&from, &to);
                }
                self.rig.rename("app.log", "app.log.1");
                self.rig.append("app.log", "");
                self.rig.pump();
                (self.rotated, self.synced) = (self.rotated + 1, 0);
            }
            Act::Checkpoint(settled) => {
                self.settle(*settled);
                self.rig.memory.checkpoint();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever power cuts take back: each line that the file holds in the end was stored.
    #[test]
    fn nothing_that_is_left_is_lost(acts in prop::collection::vec(act(), 1..40)) {
        let mut world = World { rig: Rig::new("app.log"), written: 0, synced: 0, rotated: 1 };
        world.rig.memory.checkpoint_by_hand();
        world.rig.append("app.log", "");
        world.rig.start();
        for act in &acts {
            world.act(act);
        }
        world.rig.pass_time();
        // What was given was sent, and a loader keeps the first of each span.
        let given: std::collections::BTreeSet<_> = stored(&mut world.rig).into_iter().collect();
        let names = (1..world.rotated).map(|n| format!("app.log.{n}")).chain(["app.log".to_owned()]);
        for name in names {
            let content = fs::read(world.rig.path(&name)).unwrap();
            let lines = content.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
            // What a power cut tore is no whole line, or ends with NULs.
            for line in lines.filter(|line| line.len() == LINE - 1 && !line.contains('\0')) {
                prop_assert!(given.contains(line.as_ref()), "{name}: {line}");
            }
        }
        for nth in 0..world.rig.generations().len() {
            world.rig.tiled_to(nth);
        }
    }
}
