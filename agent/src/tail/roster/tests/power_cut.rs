//! A power cut takes back what programs had written last: it was read, and settled.

use std::fs;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use proptest::sample::Index;

use headwater_record::notice::{Tail, reason};

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
    rig.start();
    rig.crash();
    assert_eq!(rig.memory.open().len(), 2);
    rig.rebooted = true;
    rig.start();
    rig.pump();
    assert_eq!(said(&rig), expected(280..285));
    assert_eq!(rig.closes().len(), 1);
}

#[derive(Debug, Clone)]
enum Act {
    /// So many lines.
    Append(usize),
    Pump,
    Restart(Index),
    /// The last bytes go, of those that were written since the last time that the disk was waited for.
    PowerCut(Index, bool, Index),
    /// Something waits for the disk: what was written stays.
    Sync,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1_usize..60).prop_map(Act::Append),
        6 => Just(Act::Pump),
        1 => any::<Index>().prop_map(Act::Restart),
        2 => (any::<Index>(), any::<bool>(), any::<Index>())
            .prop_map(|(bytes, nuls, settled)| Act::PowerCut(bytes, nuls, settled)),
        2 => Just(Act::Sync),
    ]
}

struct World {
    rig: Rig,
    written: usize,
    synced: usize,
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
                let (end, is_close) = (last.span.end(), last.kind == headwater_record::Kind::Close);
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
            Act::Restart(settled) => {
                self.rig.crash();
                self.settle(*settled);
                self.rig.start();
            }
            Act::PowerCut(bytes, nuls, settled) => {
                self.rig.crash();
                self.settle(*settled);
                let left = if *nuls { Left::Nuls } else { Left::Nothing };
                let loses = self.len() - self.synced;
                if loses > 0 {
                    cut(&self.rig, bytes.index(loses + 1), left);
                }
                // The program begins anew, and ends what was torn.
                self.rig.append("app.log", "\n");
                self.synced = self.len();
                self.rig.rebooted = true;
                self.rig.start();
            }
            Act::Sync => self.synced = self.len(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever power cuts take back: each line that the file holds in the end was given.
    #[test]
    fn nothing_that_is_left_is_lost(acts in prop::collection::vec(act(), 1..40)) {
        let mut world = World { rig: Rig::new("app.log"), written: 0, synced: 0 };
        world.rig.append("app.log", "");
        world.rig.start();
        for act in &acts {
            world.act(act);
        }
        world.rig.pass_time();
        let given: std::collections::BTreeSet<_> = world.rig.messages().into_iter().collect();
        let content = fs::read(world.rig.path("app.log")).unwrap();
        let lines = content.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
        // What a power cut tore ends with NULs, which are in no whole line.
        for line in lines.filter(|line| !line.contains('\0')) {
            prop_assert!(given.contains(line.as_ref()) || line.is_empty(), "{line}");
        }
        for nth in 0..world.rig.generations().len() {
            world.rig.tiled_to(nth);
        }
    }
}
