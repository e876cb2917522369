//! Random lives of a log file against a plain model: what was written to each file, and whether the
//! agent could see it. The ledger of the other end judges what arrived.

use std::collections::BTreeMap;

use headwater_record::{Generation, Kind, Ledger, Verdict};
use proptest::prelude::*;
use proptest::sample::Index;

use super::rig::Rig;

#[derive(Debug, Clone)]
enum Act {
    /// Lines, partial ones too.
    Append(String),
    /// `app.log` becomes `app.log.1`, that becomes `.2`, and so on.
    Rotate,
    /// The program that was not told yet goes on with the rotated file.
    AppendRotated(String),
    /// The agent looks.
    Pump,
    /// And finds rotated files silent.
    PassTime,
    /// It ends, in order or not, with any part of what it gave settled; and comes back.
    Restart { orderly: bool, settled: Vec<Index> },
    /// It ends and does not come back yet.
    Stop,
}

fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![4 => "[a-z]{0,20}", 3 => Just("\n".to_owned()), 1 => "[a-z]{20,60}"];
    prop::collection::vec(part, 1..8).prop_map(|parts| parts.concat())
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => text().prop_map(Act::Append),
        2 => Just(Act::Rotate),
        2 => text().prop_map(Act::AppendRotated),
        4 => Just(Act::Pump),
        1 => Just(Act::PassTime),
        2 => (any::<bool>(), prop::collection::vec(any::<Index>(), 8))
            .prop_map(|(orderly, settled)| Act::Restart { orderly, settled }),
        1 => Just(Act::Stop),
    ]
}

/// One file: what was written, and whether the agent looked while it lay at the followed path.
#[derive(Debug, Default, Clone)]
struct File {
    content: String,
    seen: bool,
}

struct World {
    rig: Rig,
    /// The oldest first; the last lies at `app.log`.
    files: Vec<File>,
    /// Whether the agent may have closed the file before the last.
    may_be_closed: bool,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            rig: Rig::new("app.log"),
            files: Vec::new(),
            may_be_closed: true,
        };
        world.create();
        world
    }

    /// Each file begins with a line of its own, as logs do with their times.
    fn create(&mut self) {
        let content = format!("file {}\n", self.files.len());
        self.rig.append("app.log", &content);
        self.files.push(File {
            content,
            seen: false,
        });
    }

    fn look(&mut self) {
        self.files.last_mut().unwrap().seen = true;
    }

    fn act(&mut self, act: &Act) {
        let count = self.files.len();
        match act {
            Act::Append(text) => {
                self.rig.append("app.log", text);
                self.files[count - 1].content.push_str(text);
            }
            Act::Rotate => {
                for n in (1..count).rev() {
                    self.rig
                        .rename(&format!("app.log.{n}"), &format!("app.log.{}", n + 1));
                }
                self.rig.rename("app.log", "app.log.1");
                self.create();
                self.may_be_closed = false;
            }
            Act::AppendRotated(text) if !self.may_be_closed => {
                self.rig.append("app.log.1", text);
                self.files[count - 2].content.push_str(text);
            }
            Act::Pump if self.rig.is_running() => {
                self.look();
                self.rig.pump();
            }
            Act::PassTime if self.rig.is_running() => {
                self.look();
                self.may_be_closed = true;
                self.rig.pass_time();
            }
            Act::Restart { orderly, settled } => {
                if *orderly {
                    self.rig.stop();
                } else {
                    self.rig.crash();
                }
                self.settle(settled);
                self.look();
                self.rig.start();
            }
            Act::Stop => self.rig.crash(),
            Act::AppendRotated(_) | Act::Pump | Act::PassTime => {}
        }
    }

    /// Settles some first records of each generation that is open.
    fn settle(&mut self, choices: &[Index]) {
        for (open, choice) in self.rig.memory.open().into_iter().zip(choices) {
            let given: Vec<_> = (self.rig.records.iter())
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
                Verdict::Overlap => prop_assert!(false, "{record:?} overlaps"),
            }
        }
        prop_assert_eq!(ledger.unexplained_gaps(), 0);
        Ok(contents.into_values().collect())
    }

    /// What should have arrived: every whole line, and every last line of a rotated file.
    fn expected(&self) -> Vec<String> {
        let last = self.files.len() - 1;
        // What came and went unseen is read too, from the first that was seen on.
        let from = self.files.iter().position(|file| file.seen);
        let seen = self.files.iter().enumerate().skip(from.unwrap_or(last));
        seen.map(|(n, file)| {
            let mut content = file.content.clone();
            if n == last {
                content.truncate(content.rfind('\n').map_or(0, |at| at + 1));
            } else if !content.ends_with('\n') {
                content.push('\n');
            }
            content
        })
        .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_nothing_comes_twice(acts in prop::collection::vec(act(), 1..40)) {
        let mut world = World::new();
        for act in &acts {
            world.act(act);
        }
        if !world.rig.is_running() {
            world.rig.start();
        }
        world.look();
        world.rig.pass_time();
        world.rig.pass_time();

        // A piece that was given of a last line under way is not a line yet.
        let whole_lines = |content: String| match content.rfind('\n') {
            Some(at) => content[..=at].to_owned(),
            None => content,
        };
        let mut arrived: Vec<_> = world.arrived()?.into_iter().map(whole_lines).collect();
        let mut expected = world.expected();
        arrived.sort();
        expected.sort();
        prop_assert_eq!(arrived, expected);
    }
}
