//! Rows of any kinds that give way in any number of steps: what is left accounts for all that was there.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::spool::batch::Packer;
use crate::spool::evict::Evicting;
use crate::spool::store::transaction::{Tools, write};

/// What happens.
#[derive(Debug, Clone)]
enum Step {
    /// A row of a generation enters.
    Spool(u64, Vec<Kind>),
    /// The same, and others give way until so many eighths of what is held are left. `fails`: unless
    /// that is not enough.
    Evict {
        row: (u64, Vec<Kind>),
        eighths: u64,
        fails: bool,
    },
    /// So many more are read, and at hand from then on.
    Load(usize),
    /// One at hand is left to the spool: what lies behind it is to be read again.
    Leave(Index),
    /// One at hand was acknowledged, and its row is deleted.
    Deliver(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(vec![Kind::Data, Kind::Data, Kind::Data, Kind::Loss]);
    let row = (0_u64..3, prop::collection::vec(kind, 1..3));
    let evict = (row.clone(), 0_u64..9, prop::bool::weighted(0.2));
    prop_oneof![
        2 => row.prop_map(|(generation, kinds)| Step::Spool(generation, kinds)),
        2 => evict.prop_map(|(row, eighths, fails)| Step::Evict {
            row,
            eighths,
            fails
        }),
        1 => (1_usize..4).prop_map(Step::Load),
        1 => any::<Index>().prop_map(Step::Leave),
        1 => any::<Index>().prop_map(Step::Deliver),
    ]
}

/// A database in memory, and what delivery knows of it.
struct World {
    database: Connection,
    packer: Packer,
    markers: Markers,
    evicting: Evicting,
    last: BatchId,
    /// Of each generation.
    ends: BTreeMap<u64, u64>,
    /// Records of data that were spooled.
    records: u64,
    /// As they were read; and up to where that was.
    at_hand: BTreeMap<BatchId, Batch>,
    load_after: BatchId,
    delivered: Vec<Batch>,
}

impl World {
    fn new() -> Self {
        let database = schema::create_salvage(Path::new(":memory:")).unwrap();
        database.execute_batch(&schema::empty_depth(1)).unwrap();
        Self {
            database,
            packer: Packer::new(Arc::default()).unwrap(),
            markers: Markers::default(),
            evicting: Evicting::default(),
            last: BatchId(0),
            ends: BTreeMap::new(),
            records: 0,
            at_hand: BTreeMap::new(),
            load_after: BatchId(0),
            delivered: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Spool(generation, kinds) => self.spool((generation, &kinds), None, None),
            Step::Evict {
                row: (generation, kinds),
                eighths,
                fails,
            } => {
                let evict = Evict {
                    bytes_max: rows::depth(&self.database).unwrap().bytes * eighths / 8,
                    lanes: vec![(Lane::Normal, self.load_after)],
                    kept: self.at_hand.keys().copied().collect(),
                };
                self.spool((generation, &kinds), Some(evict), fails.then_some(0));
            }
            Step::Load(rows) => {
                let after = self.load_after;
                let behind = self.held().into_iter().filter(|(id, _)| *id > after);
                for (id, batch) in behind.take(rows) {
                    self.load_after = id;
                    self.at_hand.entry(id).or_insert(batch);
                }
            }
            Step::Leave(index) => {
                if let Some((id, _)) = self.take(index) {
                    self.load_after = self.load_after.min(id.before());
                }
            }
            Step::Deliver(index) => {
                if let Some((id, batch)) = self.take(index) {
                    self.delivered.push(batch);
                    let deletes = vec![id];
                    let deletion = Transaction {
                        deletes,
                        ..Transaction::default()
                    };
                    assert!(self.write(&deletion, None));
                }
            }
        }
    }

    /// One that is at hand, which it is not any more.
    fn take(&mut self, index: Index) -> Option<(BatchId, Batch)> {
        let len = self.at_hand.len();
        let id = *self.at_hand.keys().nth(index.index(len.max(1)))?;
        self.at_hand.remove_entry(&id)
    }

    /// One transaction. `room`: how much more the disk takes.
    fn spool(&mut self, row: (u64, &[Kind]), evict: Option<Evict>, room: Option<u64>) {
        let (generation, kinds) = row;
        let end = self.ends.get(&generation).copied().unwrap_or(0);
        let mut new = batch(end, kinds);
        let named = Arc::get_mut(&mut new).unwrap();
        named.generation = Generation(generation);
        let (id, end) = (self.last.next(), named.end());
        let rows = vec![(id, new)];
        let written = self.write(
            &Transaction {
                rows,
                evict,
                ..Transaction::default()
            },
            room,
        );
        if written {
            self.last = id;
            self.ends.insert(generation, end);
            let data = kinds.iter().filter(|kind| **kind == Kind::Data);
            self.records += data.count() as u64;
        }
    }

    /// Whether it took effect; as the thread does it.
    fn write(&mut self, transaction: &Transaction, room: Option<u64>) -> bool {
        let tools = Tools {
            packer: &mut self.packer,
            markers: &self.markers,
            evicting: &mut self.evicting,
            room,
        };
        match write(&mut self.database, tools, transaction, 0) {
            Ok(_) => true,
            Err(Failure::Floor) => {
                self.evicting.forget();
                false
            }
            Err(failure) => panic!("{:?}", failure.trouble("commit")),
        }
    }

    fn held(&self) -> Vec<(BatchId, Batch)> {
        let all = (&Keys::default(), 0);
        match rows::load(&self.database, BatchId(0), self.last, u64::MAX, all).unwrap() {
            Reply::Loaded { rows, lost: 0, .. } => rows,
            other => panic!("{other:?}"),
        }
    }

    /// All of every generation was delivered or is there, once, and so is each record, as data or counted in a notice.
    fn check(&self) {
        let held = self.held();
        let mut spans = BTreeMap::<u64, Vec<(u64, u64)>>::new();
        let mut records = 0;
        for batch in self
            .delivered
            .iter()
            .chain(held.iter().map(|(_, batch)| batch))
        {
            let of_generation = spans.entry(batch.generation.0).or_default();
            of_generation.push((batch.start, batch.end()));
            records += accounted(batch);
        }
        for (generation, end) in &self.ends {
            let spans = spans.get_mut(generation).expect("none of it is there");
            spans.sort_unstable();
            let mut reached = 0;
            for (start, end) in &*spans {
                assert_eq!(*start, reached, "of {generation} there are {spans:?}");
                reached = *end;
            }
            assert_eq!(reached, *end, "of {generation} there are {spans:?}");
        }
        assert_eq!(records, self.records);
    }
}

/// Records of data that a batch holds, or says to be given up.
fn accounted(batch: &Batch) -> u64 {
    let of_record = batch.records().map(|record| match record.kind {
        Kind::Data => 1,
        _ => match Notice::parse(record.value) {
            Some(Notice::Loss { records, .. }) => records.unwrap_or(0),
            _ => 0,
        },
    });
    of_record.sum()
}

proptest! {
    #[test]
    fn what_is_left_accounts_for_all_that_was_there(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            world.check();
        }
    }
}
