//! Random lives of logs against a plain model: what was written to each file, what of it the agent
//! could see before somebody destroyed it. The ledger of the other end judges what arrived: nothing
//! twice, nothing that was not written, and all that was there to be read.

use std::collections::BTreeMap;
use std::fs;

use glob::Pattern;
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

/// What a program, or whoever rotates for it, does to one log.
#[derive(Debug, Clone)]
enum Deed {
    /// Lines, partial ones too.
    Append(String),
    /// `app.log` becomes `app.log.1`, that becomes `app.log.2.gz`, that `app.log.3.zst`, and so on.
    Rotate(Begun),
    /// `app.log` is copied to `app.log.1` and cut to nothing.
    CopyTruncate(Begun),
    /// It is cut to nothing, and nobody kept a copy.
    Truncate(Begun),
    /// It is deleted, and made again: on the same inode, as file systems like to do. Or not made again, yet.
    Delete(Begun),
    /// The program that was not told yet goes on with the rotated file.
    AppendRotated(String),
}

#[derive(Debug, Clone)]
enum Act {
    /// Something happens to a log.
    Log(Deed),
    /// The same to the second, where there is one.
    Other(Deed),
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
    prop_oneof![2 => Just(Begun::Written), 2 => Just(Begun::Empty), 1 => Just(Begun::Later)]
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => text().prop_map(Deed::Append),
        2 => begun().prop_map(Deed::Rotate),
        2 => begun().prop_map(Deed::CopyTruncate),
        1 => begun().prop_map(Deed::Truncate),
        1 => begun().prop_map(Deed::Delete),
        2 => text().prop_map(Deed::AppendRotated),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let settled = || prop::collection::vec(any::<Index>(), 8);
    prop_oneof![
        12 => deed().prop_map(Act::Log),
        3 => deed().prop_map(Act::Other),
        4 => Just(Act::Pump),
        1 => Just(Act::PassTime),
        2 => (any::<bool>(), settled())
            .prop_map(|(orderly, settled)| Act::Restart { orderly, settled }),
        1 => settled().prop_map(|settled| Act::Reload { settled }),
        1 => settled().prop_map(|settled| Act::Away { settled }),
        1 => any::<bool>().prop_map(|is_full| Act::Disk { is_full }),
        1 => Just(Act::Stop),
    ]
}

/// What was written between two times that a log was empty.
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

/// One log, and its rotated files.
struct Log {
    name: &'static str,
    /// The oldest first; the last lies there, if anything does.
    lives: Vec<Life>,
    is_there: bool,
    /// Those that are rotated, the youngest first: at `.1`, `.2.gz`, `.3.zst` and so on.
    rotated: Vec<usize>,
    /// Whether a program may still write to `app.log.1`.
    may_append: bool,
    /// The agent ended while it could not write down which files there are; those before the next that
    /// it sees may be unknown.
    lost_track: bool,
    forgotten: usize,
}

impl Log {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            lives: Vec::new(),
            is_there: false,
            rotated: Vec::new(),
            may_append: false,
            lost_track: false,
            forgotten: 0,
        }
    }

    fn last(&mut self) -> &mut Life {
        self.lives.last_mut().unwrap()
    }

    fn name_of(&self, nth: usize) -> String {
        let ending = match nth {
            0 => "",
            1 => ".gz",
            _ => ".zst",
        };
        format!("{}.{}{ending}", self.name, nth + 1)
    }

    /// The agent scans: it sees what lies at the path now, and has it if it can write that down.
    fn look(&mut self, is_full: bool) {
        if is_full || !self.is_there {
            return;
        }
        if std::mem::take(&mut self.lost_track) {
            self.forgotten = self.lives.len() - 1;
        }
        self.last().seen = true;
    }
}

struct World {
    rig: Rig,
    logs: Vec<Log>,
    is_full: bool,
    /// Times of change rise by a second at each, so that none is the same by chance.
    clock: u64,
}

/// Every file begins alike, and then says which it is.
const BANNER: &str = "the same banner of a program that likes to talk, whatever it is about\n";

impl World {
    /// `two`: a second log lies beside the first, and is rotated as well.
    fn new(two: bool) -> Self {
        let mut logs = vec![Log::new("app.log")];
        if two {
            logs.push(Log::new("other.log"));
        }
        let mut world = Self {
            rig: Rig::new("logs/app.log"),
            logs,
            is_full: false,
            clock: CLOCK_SET_MS / 1000,
        };
        world.rig.base = "logs";
        fs::create_dir(world.rig.path("")).unwrap();
        if two {
            let both = world.rig.path("*.log").display().to_string();
            world.rig.source.paths = vec![Pattern::new(&both).unwrap()];
        }
        for log in 0..world.logs.len() {
            world.begin(log, Begun::Written);
        }
        world
    }

    fn touch(&mut self, name: &str) {
        self.clock += 1;
        self.rig.touch(name, self.clock);
    }

    fn begin(&mut self, log: usize, begun: Begun) {
        let name = self.logs[log].name;
        let is_made = !self.rig.path(name).exists();
        self.logs[log].is_there = !is_made;
        if begun == Begun::Later && is_made {
            // Names changed.
            self.touch("");
            return;
        }
        self.rig.append(name, "");
        if is_made {
            self.rig.born(name, self.clock + 1);
        }
        self.logs[log].lives.push(Life::default());
        match begun {
            Begun::Written => self.append(log, name, self.logs[log].lives.len() - 1, ""),
            Begun::Empty | Begun::Later => self.touch(name),
        }
        self.logs[log].is_there = true;
        // Names changed then, too.
        self.rig.touch("", self.clock);
    }

    /// The first bytes of each say which it is.
    fn append(&mut self, log: usize, name: &str, nth: usize, text: &str) {
        let life = &mut self.logs[log].lives[nth];
        let is_first = life.content.is_empty();
        let first = is_first.then(|| format!("{BANNER}file {log} {nth}\n"));
        let text = first.unwrap_or_default() + text;
        life.content.push_str(&text);
        self.rig.append(name, &text);
        self.touch(name);
    }

    /// Makes way for a new `app.log.1`.
    fn shift(&mut self, log: usize) {
        let log = &mut self.logs[log];
        for nth in (0..log.rotated.len()).rev() {
            let (from, to) = (log.name_of(nth), log.name_of(nth + 1));
            match nth {
                0 => self.rig.pack(&from, &to),
                1 => self.rig.repack(&from, &to),
                _ => self.rig.rename(&from, &to),
            }
            if nth < 2 {
                self.rig.born(&to, self.clock);
            }
        }
        log.rotated.insert(0, log.lives.len() - 1);
    }

    fn look(&mut self) {
        for log in &mut self.logs {
            log.look(self.is_full);
        }
    }

    fn read(&mut self) {
        self.look();
        if self.is_full {
            // It reads what it knew already; that this is of use is for other tests.
            return;
        }
        let lives = self.logs.iter_mut().flat_map(|log| &mut log.lives);
        for life in lives.filter(|life| !life.destroyed) {
            life.read = life.content.len();
        }
    }

    /// Rotated files are silent for so long that they are closed.
    fn let_close(&mut self) {
        self.logs.iter_mut().for_each(|log| log.may_append = false);
    }

    fn lose_track(&mut self) {
        for log in &mut self.logs {
            log.lost_track |= self.is_full;
        }
    }

    /// The agent is gone: what only it held is gone too.
    fn let_go(&mut self) {
        let lives = self.logs.iter_mut().flat_map(|log| &mut log.lives);
        for life in lives.filter(|life| life.held) {
            life.destroyed = true;
        }
        self.lose_track();
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
        self.let_close();
        self.rig.pass_time();
        while self.rig.out_of_reach() > 0 {
            self.rig.pass_time();
        }
    }

    /// Another configuration: what is deleted is held on.
    fn reload(&mut self, settled: &[Index]) {
        self.lose_track();
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
            self.let_close();
        }
    }

    fn do_to(&mut self, log: usize, deed: &Deed) {
        let name = self.logs[log].name;
        let rotated = format!("{name}.1");
        let is_running = self.rig.is_running();
        match deed {
            Deed::Append(text) => {
                if !self.logs[log].is_there {
                    self.begin(log, Begun::Empty);
                }
                self.append(log, name, self.logs[log].lives.len() - 1, text);
            }
            Deed::Rotate(begun)
            | Deed::CopyTruncate(begun)
            | Deed::Truncate(begun)
            | Deed::Delete(begun)
                if !self.logs[log].is_there =>
            {
                self.begin(log, *begun);
            }
            Deed::Rotate(begun) => {
                self.shift(log);
                self.rig.rename(name, &rotated);
                self.begin(log, *begun);
                self.logs[log].may_append = true;
            }
            Deed::CopyTruncate(begun) => {
                self.shift(log);
                fs::copy(self.rig.path(name), self.rig.path(&rotated)).unwrap();
                self.touch(&rotated);
                self.rig.born(&rotated, self.clock);
                fs::write(self.rig.path(name), "").unwrap();
                self.begin(log, *begun);
                self.logs[log].may_append = false;
            }
            Deed::Truncate(begun) => {
                self.logs[log].last().destroyed = true;
                fs::write(self.rig.path(name), "").unwrap();
                self.begin(log, *begun);
            }
            Deed::Delete(begun) => {
                let last = self.logs[log].last();
                let is_held = is_running && last.seen;
                (last.held, last.destroyed) = (is_held, !is_held);
                fs::remove_file(self.rig.path(name)).unwrap();
                self.begin(log, *begun);
            }
            Deed::AppendRotated(text) if self.logs[log].may_append => {
                let nth = self.logs[log].rotated[0];
                if !self.logs[log].lives[nth].content.is_empty() {
                    // Not later than the last line of the next file: where that one is then deleted while
                    // the agent is away, nothing tells this one from a file that came and went unseen.
                    let changed = fs::metadata(self.rig.path(&rotated)).unwrap().modified();
                    self.append(log, &rotated, nth, text);
                    self.rig.set_modified(&rotated, changed.unwrap());
                }
            }
            Deed::AppendRotated(_) => {}
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Log(deed) => self.do_to(0, deed),
            Act::Other(deed) => self.do_to(self.logs.len() - 1, deed),
            Act::Pump if self.rig.is_running() => {
                self.read();
                self.rig.pump();
            }
            Act::PassTime if self.rig.is_running() => {
                self.read();
                self.let_close();
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
                // Nothing was taken back: what is shorter now was cut by somebody.
                self.rig.rebooted = *orderly;
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
        for (number, log) in self.logs.iter().enumerate() {
            judge_log(number, log, &mut arrived)?;
        }
        prop_assert!(arrived.is_empty(), "never written: {:?}", arrived);
        Ok(())
    }
}

fn judge_log(
    number: usize,
    log: &Log,
    arrived: &mut BTreeMap<String, String>,
) -> Result<(), TestCaseError> {
    // What came and went unseen is read too, from the first that was seen on.
    let from = log.lives.iter().position(|life| life.seen);
    let from = from.unwrap_or(usize::MAX).max(log.forgotten);
    let last = log.lives.len() - 1;
    for (nth, life) in log.lives.iter().enumerate() {
        let name = format!("file {number} {nth}");
        let given = arrived.remove(&name).unwrap_or_default();
        let mut all = life.content.clone();
        if (nth != last || !log.is_there) && !all.is_empty() && !all.ends_with('\n') {
            all.push('\n');
        }
        let least = match life.destroyed {
            true => whole_lines(&life.content[..life.read]),
            false if nth >= from => whole_lines(&all),
            false => "",
        };
        prop_assert!(
            all.starts_with(&given),
            "{}: {:?} of {:?}",
            name,
            given,
            all
        );
        prop_assert!(
            given.len() >= least.len(),
            "{}: {:?} of {:?}",
            name,
            given,
            least
        );
    }
    Ok(())
}

fn whole_lines(content: &str) -> &str {
    &content[..content.rfind('\n').map_or(0, |at| at + 1)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_nothing_comes_twice(
        two in any::<bool>(),
        acts in prop::collection::vec(act(), 1..40),
    ) {
        let mut world = World::new(two);
        for act in &acts {
            world.act(act);
        }
        world.act(&Act::Disk { is_full: false });
        // What came to a path and went is looked for when something lies there.
        for log in 0..world.logs.len() {
            if !world.logs[log].is_there {
                world.begin(log, Begun::Written);
            }
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
