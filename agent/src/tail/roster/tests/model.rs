//! Random lives of a log against a plain model: what was written to each file, what of it the agent
//! could see before somebody destroyed it. The ledger of the other end judges what arrived: nothing
//! twice, nothing that was not written, and all that was there to be read.

use std::collections::BTreeMap;
use std::fs;

use headwater_record::value::CLOCK_SET_MS;
use headwater_record::{Generation, Kind, Ledger, Verdict};
use proptest::prelude::*;
use proptest::sample::Index;

use super::rig::Rig;

/// How a file begins: with a line or two, with nothing until something is appended, or not before then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    Written,
    Empty,
    Later,
}

#[derive(Debug, Clone)]
enum Act {
    /// Lines, partial ones too.
    Append(String),
    /// `app.log` becomes `app.log.1`, that becomes `app.log.2.gz`, and so on.
    Rotate(Begun),
    /// `app.log` is copied to `app.log.1` and cut to nothing.
    CopyTruncate(Begun),
    /// It is cut to nothing, and nobody kept a copy.
    Truncate(Begun),
    /// It is deleted, and made again: on the same inode, as file systems like to do. Or not made again, yet.
    Delete(Begun),
    /// The program that was not told yet goes on with the rotated file.
    AppendRotated(String),
    /// The agent looks.
    Pump,
    /// And finds rotated files silent.
    PassTime,
    /// It ends, in order or not, with any part of what it gave settled; and comes back.
    Restart { orderly: bool, settled: Vec<Index> },
    /// Another configuration takes effect, with any part of what was given settled.
    Reload { settled: Vec<Index> },
    /// It ends, and comes back while its folder cannot be looked at; then that can.
    Away { settled: Vec<Index> },
    /// The database's disk is full from now on, or has room again.
    Disk { is_full: bool },
    /// It ends and does not come back yet.
    Stop,
}

fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![4 => "[a-z]{0,20}", 3 => Just("\n".to_owned()), 1 => "[a-z]{20,60}"];
    prop::collection::vec(part, 1..8).prop_map(|parts| parts.concat())
}

fn begun() -> impl Strategy<Value = Begun> {
    prop_oneof![Just(Begun::Written), Just(Begun::Empty), Just(Begun::Later)]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => text().prop_map(Act::Append),
        2 => begun().prop_map(Act::Rotate),
        2 => begun().prop_map(Act::CopyTruncate),
        1 => begun().prop_map(Act::Truncate),
        1 => begun().prop_map(Act::Delete),
        2 => text().prop_map(Act::AppendRotated),
        4 => Just(Act::Pump),
        1 => Just(Act::PassTime),
        2 => (any::<bool>(), prop::collection::vec(any::<Index>(), 8))
            .prop_map(|(orderly, settled)| Act::Restart { orderly, settled }),
        1 => prop::collection::vec(any::<Index>(), 8).prop_map(|settled| Act::Reload { settled }),
        1 => prop::collection::vec(any::<Index>(), 8).prop_map(|settled| Act::Away { settled }),
        1 => any::<bool>().prop_map(|is_full| Act::Disk { is_full }),
        1 => Just(Act::Stop),
    ]
}

/// What was written between two times that the log was empty.
#[derive(Debug, Default, Clone)]
struct Life {
    content: String,
    /// The agent looked while it lay at the followed path.
    seen: bool,
    /// So much of it was there when the agent last read.
    read: usize,
    /// It is gone, and what was not read with it.
    destroyed: bool,
    /// No name leads to it, but the agent holds it open.
    held: bool,
}

struct World {
    rig: Rig,
    /// The oldest first; the last lies at `app.log`, if that is there.
    lives: Vec<Life>,
    is_there: bool,
    /// Names of rotated files: the number of the life at `.1`, `.2.gz` and so on.
    rotated: Vec<usize>,
    /// Whether a program may still write to `app.log.1`.
    may_append: bool,
    is_full: bool,
    /// The agent ended while it could not write down which files there are; those before the next that
    /// it sees may be unknown.
    lost_track: bool,
    forgotten: usize,
    /// Times of change rise by a second at each, so that none is the same by chance.
    clock: u64,
}

/// Every file begins alike, and then says which it is.
const BANNER: &str = "the same banner of a program that likes to talk, whatever it is about\n";

impl World {
    fn new() -> Self {
        let mut world = Self {
            rig: Rig::new("logs/app.log"),
            lives: Vec::new(),
            is_there: false,
            rotated: Vec::new(),
            may_append: false,
            is_full: false,
            lost_track: false,
            forgotten: 0,
            clock: CLOCK_SET_MS / 1000,
        };
        world.rig.base = "logs";
        fs::create_dir(world.rig.path("")).unwrap();
        world.begin(Begun::Written);
        world
    }

    fn touch(&mut self, name: &str) {
        self.clock += 1;
        self.rig.touch(name, self.clock);
    }

    fn begin(&mut self, begun: Begun) {
        self.is_there = self.is_there && self.rig.path("app.log").exists();
        if begun == Begun::Later && !self.is_there {
            // Names changed.
            self.clock += 1;
            self.rig.touch("", self.clock);
            return;
        }
        let is_made = !self.rig.path("app.log").exists();
        self.rig.append("app.log", "");
        if is_made {
            self.rig.born("app.log", self.clock + 1);
        }
        self.lives.push(Life::default());
        match begun {
            Begun::Written => self.append("app.log", self.lives.len() - 1, ""),
            Begun::Empty | Begun::Later => self.touch("app.log"),
        }
        self.is_there = true;
        // Names changed then, too.
        self.rig.touch("", self.clock);
    }

    /// The first bytes of each say which it is.
    fn append(&mut self, name: &str, nth: usize, text: &str) {
        let is_first = self.lives[nth].content.is_empty();
        let first = is_first.then(|| format!("{BANNER}file {nth}\n"));
        let text = first.unwrap_or_default() + text;
        self.rig.append(name, &text);
        self.touch(name);
        self.lives[nth].content.push_str(&text);
    }

    fn last(&mut self) -> &mut Life {
        self.lives.last_mut().unwrap()
    }

    fn name(nth: usize) -> String {
        match nth {
            0 => "app.log.1".to_owned(),
            nth => format!("app.log.{}.gz", nth + 1),
        }
    }

    fn is_rotated_written(&self) -> bool {
        !self.lives[self.rotated[0]].content.is_empty()
    }

    /// Makes way for a new `app.log.1`.
    fn shift(&mut self) {
        for nth in (0..self.rotated.len()).rev() {
            let (from, to) = (Self::name(nth), Self::name(nth + 1));
            if nth == 0 {
                self.rig.pack(&from, &to);
                self.rig.born(&to, self.clock);
            } else {
                self.rig.rename(&from, &to);
            }
        }
        self.rotated.insert(0, self.lives.len() - 1);
    }

    /// The agent scans: it sees what lies at the path now, and has it if it can write that down.
    fn look(&mut self) {
        if self.is_full || !self.is_there {
            return;
        }
        if std::mem::take(&mut self.lost_track) {
            self.forgotten = self.lives.len() - 1;
        }
        self.last().seen = true;
    }

    fn read(&mut self) {
        self.look();
        if self.is_full {
            // It reads what it knew already; that this is of use is for other tests.
            return;
        }
        for life in self.lives.iter_mut().filter(|life| !life.destroyed) {
            life.read = life.content.len();
        }
    }

    /// The agent is gone: what only it held is gone too.
    fn let_go(&mut self) {
        for life in self.lives.iter_mut().filter(|life| life.held) {
            life.destroyed = true;
        }
        if self.is_full {
            self.lost_track = true;
        }
    }

    /// The agent ends, and comes back while its folder cannot be looked at; then that can.
    fn come_back_to_nothing(&mut self, settled: &[Index]) {
        self.rig.crash();
        self.let_go();
        self.settle(settled);
        self.rig.refuse("logs");
        self.rig.start();
        self.rig.pass_time();
        self.rig.grant("logs");
        self.read();
        self.may_append = false;
        self.rig.pass_time();
        while self.rig.out_of_reach() > 0 {
            self.rig.pass_time();
        }
    }

    /// Another configuration: what is deleted is held on.
    fn reload(&mut self, settled: &[Index]) {
        self.lost_track |= self.is_full;
        self.settle(settled);
        self.look();
        self.rig.reload();
    }

    /// From now on the database's disk is full, or has room.
    fn fill(&mut self, is_full: bool) {
        self.is_full = is_full;
        self.rig.memory.fill(is_full);
        if self.rig.is_running() && !is_full {
            // As long as the database waits at most until it is asked again.
            for _ in 0..7 {
                self.rig.pass_time();
            }
            self.read();
            self.may_append = false;
        }
    }

    /// What is done to the log, and to what is rotated.
    fn change(&mut self, act: &Act) {
        match act {
            Act::Append(text) => {
                if !self.is_there {
                    self.begin(Begun::Empty);
                }
                self.append("app.log", self.lives.len() - 1, text);
            }
            Act::Rotate(begun)
            | Act::CopyTruncate(begun)
            | Act::Truncate(begun)
            | Act::Delete(begun)
                if !self.is_there =>
            {
                self.begin(*begun);
            }
            Act::Rotate(begun) => {
                self.shift();
                self.rig.rename("app.log", "app.log.1");
                self.begin(*begun);
                self.may_append = true;
            }
            Act::CopyTruncate(begun) => {
                self.shift();
                fs::copy(self.rig.path("app.log"), self.rig.path("app.log.1")).unwrap();
                self.touch("app.log.1");
                self.rig.born("app.log.1", self.clock);
                fs::write(self.rig.path("app.log"), "").unwrap();
                self.begin(*begun);
                self.may_append = false;
            }
            Act::Truncate(begun) => {
                self.last().destroyed = true;
                fs::write(self.rig.path("app.log"), "").unwrap();
                self.begin(*begun);
            }
            Act::Delete(begun) => {
                let is_held = self.rig.is_running() && self.last().seen;
                (self.last().held, self.last().destroyed) = (is_held, !is_held);
                fs::remove_file(self.rig.path("app.log")).unwrap();
                self.begin(*begun);
            }
            Act::AppendRotated(text) if self.may_append && self.is_rotated_written() => {
                // Not later than the last line of the next file: where that one is then deleted while
                // the agent is away, nothing tells this one from a file that came and went unseen.
                let changed = fs::metadata(self.rig.path("app.log.1")).unwrap().modified();
                self.append("app.log.1", self.rotated[0], text);
                self.rig.set_modified("app.log.1", changed.unwrap());
            }
            _ => {}
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Pump if self.rig.is_running() => {
                self.read();
                self.rig.pump();
            }
            Act::PassTime if self.rig.is_running() => {
                self.read();
                self.may_append = false;
                self.rig.pass_time();
            }
            Act::Restart { orderly, settled } => {
                if *orderly {
                    self.rig.stop();
                } else {
                    self.rig.crash();
                }
                self.let_go();
                self.settle(settled);
                self.look();
                self.rig.start();
            }
            Act::Reload { settled } if self.rig.is_running() => self.reload(settled),
            Act::Away { settled } => self.come_back_to_nothing(settled),
            Act::Disk { is_full } => self.fill(*is_full),
            Act::Stop => {
                self.rig.crash();
                self.let_go();
            }
            Act::Pump | Act::PassTime | Act::Reload { .. } => {}
            _ => self.change(act),
        }
    }

    /// Settles some first records of each generation that is open.
    fn settle(&mut self, choices: &[Index]) {
        if self.is_full {
            // That could not be written down either.
            return;
        }
        for (open, choice) in self.rig.memory.open().into_iter().zip(choices) {
            let given: Vec<_> = (self.rig.since_start().iter())
                .filter(|record| record.generation == open.generation)
                .filter(|record| record.span.end() >= open.settled)
                .collect();
            if given.is_empty() {
                continue;
            }
            let last = given[choice.index(given.len())];
            match last.kind {
                Kind::Close => self.rig.memory.forget(open.generation),
                _ => {
                    (self.rig.memory).change(open.generation, |open| open.settled = last.span.end())
                }
            }
        }
    }

    /// What a loader would have stored of each generation.
    fn arrived(&self) -> Result<Vec<String>, TestCaseError> {
        let mut ledger = Ledger::default();
        let mut contents: BTreeMap<Generation, String> = BTreeMap::new();
        let mut first_given = BTreeMap::new();
        for record in &self.rig.records {
            let (generation, span) = (record.generation, record.span);
            if record.kind != Kind::Data {
                ledger.explain("s", generation, span, record.kind, None, 0);
                continue;
            }
            let first = first_given.entry((generation, span)).or_insert(record);
            prop_assert_eq!(first.content(), record.content());
            let content = contents.entry(generation).or_default();
            match ledger.accept("s", generation, span, 0) {
                Verdict::New => {
                    content.push_str(&record.message);
                    if !record.continues {
                        content.push('\n');
                    }
                }
                Verdict::Duplicate => {}
                verdict => prop_assert!(false, "{record:?}: {verdict:?}"),
            }
        }
        prop_assert_eq!(ledger.unexplained_gaps(), 0);
        // A piece that was given of a last line under way is not a line yet.
        Ok(contents
            .into_values()
            .map(|content| whole_lines(&content).to_owned())
            .collect())
    }

    /// Compares what arrived with what was written.
    fn judge(&self) -> Result<(), TestCaseError> {
        let mut arrived = BTreeMap::new();
        for content in self.arrived()? {
            // What a file says of itself comes in one read with its banner.
            let Some(name) = content
                .strip_prefix(BANNER)
                .and_then(|rest| rest.lines().next())
            else {
                prop_assert_eq!(content, "");
                continue;
            };
            let twice = arrived.insert(name.to_owned(), content.clone());
            prop_assert_eq!(twice, None, "two generations of one file");
        }
        // What came and went unseen is read too, from the first that was seen on.
        let from = self
            .lives
            .iter()
            .position(|life| life.seen)
            .unwrap_or(usize::MAX);
        let last = self.lives.len() - 1;
        for (nth, life) in self.lives.iter().enumerate() {
            let given = arrived.remove(&format!("file {nth}")).unwrap_or_default();
            let mut all = life.content.clone();
            if (nth != last || !self.is_there) && !all.is_empty() && !all.ends_with('\n') {
                all.push('\n');
            }
            let least = match (life.destroyed, nth >= from.max(self.forgotten)) {
                (true, _) => whole_lines(&life.content[..life.read]),
                (false, true) => whole_lines(&all),
                (false, false) => "",
            };
            prop_assert!(
                all.starts_with(&given),
                "file {}: {:?} of {:?}",
                nth,
                given,
                all
            );
            prop_assert!(
                given.len() >= least.len(),
                "file {}: {:?} of {:?}",
                nth,
                given,
                least
            );
        }
        prop_assert!(arrived.is_empty(), "never written: {:?}", arrived);
        Ok(())
    }
}

fn whole_lines(content: &str) -> &str {
    &content[..content.rfind('\n').map_or(0, |at| at + 1)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_nothing_comes_twice(acts in prop::collection::vec(act(), 1..40)) {
        let mut world = World::new();
        for act in &acts {
            world.act(act);
        }
        world.act(&Act::Disk { is_full: false });
        // What came to the path and went is looked for when something lies there.
        if !world.is_there {
            world.begin(Begun::Written);
        }
        if !world.rig.is_running() {
            world.look();
            world.rig.start();
        }
        world.read();
        world.rig.pass_time();
        world.rig.pass_time();
        world.judge()?;
    }
}
