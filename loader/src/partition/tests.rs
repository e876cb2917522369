//! The heart under faults, from a seed: workers that crash, hang and come back as zombies, commits
//! that are refused, time out or come through unanswered, uploads that half succeed. The workers
//! run the real `Partition`; group and store are the plainest models of the real ones.

mod books;
mod items;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use headwater_record::{Generation, Kind, Span};

use super::*;
use crate::fetched::Identity;
use crate::name::{ObjectName, snapshot_end};
use crate::pipeline::tests::pipeline;
use crate::state::{Rank, Snapshot};

const TOPIC: &str = "logs";
/// 2026-11-28, 8 o'clock.
const EIGHT_MS: u64 = 1_795_852_800_000;

/// A small generator of its own (SplitMix64), so that a seed means the same on every machine.
struct Seed(u64);

impl Seed {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// What is simulated beside records, windows, items and accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Case {
    #[default]
    Plain,
    /// Ledgers have room for two of the three streams alone.
    Bounded,
    /// Hopping windows, of every function.
    Hopping,
    /// The group loses its offset now and then, between two batches. Without accounts, whose pages two states of one
    /// offset may turn.
    Forgetful,
}

/// Consumer group and object store.
#[derive(Default)]
struct World {
    case: Case,
    log: Fetched,
    /// Highest epoch that was handed out: only its holder may commit.
    epoch: u64,
    committed: Option<(u64, String)>,
    objects: BTreeMap<String, Bytes>,
    snapshots: BTreeMap<String, Bytes>,
    tables: items::Tables,
    books: books::Written,
    /// How often the group lost its offset, and the last name was not the one to go on from.
    misled: usize,
}

struct Worker {
    partition: Partition,
    epoch: u64,
    position: usize,
    under_way: Option<Action>,
    zombie: bool,
}

impl World {
    /// Records of three streams, with re-sends, filtered ones, foreign ones and holes in the offsets.
    fn new(seed: &mut Seed) -> Self {
        let mut world = Self::default();
        let mut sent = [0_u64; 3];
        let mut offset = seed.next() % 5;
        for i in 0..60 + seed.below(60) {
            let stream = seed.below(3);
            let kept = if seed.chance(20) { "no" } else { "yes" };
            if seed.chance(8) {
                sent[stream] = sent[stream].saturating_sub(seed.next() % 4);
            }
            let span = Span::new(10 * sent[stream], 10 * sent[stream] + 10).unwrap();
            let id = format!("{stream}:{}", sent[stream]);
            let identity = if seed.chance(10) {
                Identity::Foreign
            } else {
                sent[stream] += 1;
                Identity::Tagged {
                    stream: format!("d{stream}/s/{stream}").into(),
                    generation: Generation(1),
                    span,
                    kind: Kind::Data,
                }
            };
            let id = if identity == Identity::Foreign {
                format!("foreign:{i}")
            } else {
                id
            };
            let kept = if id.ends_with('7') { kept } else { "yes" };
            let second = seed.below(60);
            // And now and then one comes minutes late.
            let behind = if seed.chance(10) { seed.below(9) } else { 0 };
            let minute = (i / 2_usize).saturating_sub(behind);
            let time = format!("2026-11-28T08:{minute:02}:{second:02}Z");
            let time_ms = EIGHT_MS + (60 * (i / 2) + second) as u64 * 1000 + seed.next() % 99_999;
            let more = windows::fields(i, &time, seed.next());
            let value = format!(
                r#"{{"id":"{id}","stream":"{stream}","kept":"{kept}","time":"{time}",{more}}}"#
            );
            world
                .log
                .push(offset, time_ms, Some(value.as_bytes()), identity);
            offset += 1 + u64::from(seed.chance(5));
        }
        world
    }

    /// What a fault-free loader stores: every id once, but for those that the filter drops where
    /// they first come; those of streams without account as often as they come and are not dropped.
    fn expected(&self, unaccounted: &BTreeSet<String>) -> BTreeMap<String, usize> {
        let mut seen = BTreeSet::new();
        let mut expected = BTreeMap::new();
        for entry in &self.log.entries {
            let row: serde_json::Value =
                serde_json::from_slice(self.log.value(entry).unwrap()).unwrap();
            let id = row["id"].as_str().unwrap().to_owned();
            let stream = id.split(':').next().unwrap();
            if (seen.insert(id.clone()) || unaccounted.contains(stream)) && row["kept"] == "yes" {
                *expected.entry(id).or_default() += 1;
            }
        }
        expected
    }

    /// Streams that the ledger had no room for, and how many records of them the log has.
    fn unaccounted(&self, ledger: &Ledger) -> (BTreeSet<String>, u64) {
        let known: BTreeSet<&str> = ledger.streams().map(|(name, _)| name).collect();
        let tagged = self
            .log
            .entries
            .iter()
            .filter_map(|entry| match &entry.identity {
                Identity::Tagged { stream, .. } if !known.contains(&**stream) => {
                    Some(stream.rsplit('/').next().unwrap().to_owned())
                }
                _ => None,
            });
        let all: Vec<String> = tagged.collect();
        (all.iter().cloned().collect(), all.len() as u64)
    }

    fn join(&mut self, seed: &mut Seed) -> Worker {
        // Each start may bring another configuration: here, another path and another hash.
        let current = make_pipeline(seed.below(2), self.case);
        let limits = Limits {
            bytes: 200 + seed.below(2000),
            records: 1 + seed.next() % 30,
            age_ms: 50,
            idle_ms: seed.chance(30).then_some(20),
            every_ms: seed.chance(30).then_some(1 + seed.next() % 100_000),
            objects: 1 + seed.below(6),
        };
        self.take_up(limits, current)
    }

    fn take_up(&mut self, limits: Limits, current: Arc<Pipeline>) -> Worker {
        self.epoch += 1;
        let pipelines = [0, 1].map(|version| make_pipeline(version, self.case));
        let committed = match &self.committed {
            Some((offset, metadata)) => Committed::parse(*offset, metadata).unwrap(),
            None => {
                let first = self.log.entries[0].offset;
                Committed::at(first)
            }
        };
        let state = match &committed.snapshot {
            Some(name) => Snapshot::decode(&self.snapshots[name]).unwrap().into(),
            None => Carried::default(),
        };
        let replay = committed.intent.clone().map(|intent| Replay {
            pipeline: Arc::clone(
                pipelines
                    .iter()
                    .find(|p| p.hash() == intent.pipeline)
                    .unwrap(),
            ),
            intent,
        });
        let mut partition =
            Partition::recover((TOPIC, 0), limits, current, committed, state, replay).unwrap();
        partition.close_when_quiet(true);
        Worker {
            partition,
            epoch: self.epoch,
            position: 0,
            under_way: None,
            zombie: false,
        }
    }

    /// The group loses what it has, where no batch is begun, and the next one goes on from what the snapshots say.
    fn forget(&mut self) {
        let held = self.committed.as_ref();
        let held = held.map(|(offset, metadata)| Committed::parse(*offset, metadata).unwrap());
        if held.is_none_or(|held| held.intent.is_some()) {
            return;
        }
        let ranked = self.snapshots.iter();
        let ranked = ranked.map(|(name, bytes)| (Rank::read(&**bytes).unwrap(), name));
        let Some((_, name)) = ranked.max() else {
            return;
        };
        self.misled += usize::from(self.snapshots.keys().last() != Some(name));
        let found = Committed {
            snapshot: Some(name.clone()),
            ..Committed::at(snapshot_end(name).unwrap())
        };
        self.committed = Some((found.offset, found.metadata()));
        self.epoch += 1;
    }

    /// Performs an action. `Err`: it failed, or nobody knows.
    fn perform(
        &mut self,
        action: &Action,
        epoch: u64,
        seed: &mut Seed,
        faults: bool,
    ) -> Result<(), ()> {
        let fails_before = faults && seed.chance(5);
        let fails_after = faults && seed.chance(5);
        if fails_before {
            return Err(());
        }
        match action {
            Action::Commit(committed) => {
                if epoch != self.epoch {
                    return Err(());
                }
                self.committed = Some((committed.offset, committed.metadata()));
            }
            Action::Upload(objects) => {
                for object in objects.iter() {
                    if faults && seed.chance(5) {
                        return Err(());
                    }
                    let stored = self
                        .objects
                        .entry(object.key.clone())
                        .or_insert_with(|| object.bytes.clone());
                    assert_eq!(
                        *stored, object.bytes,
                        "one name, two contents: {}",
                        object.key
                    );
                }
            }
            Action::WriteItems(items) => {
                for (table, row) in items::each(items) {
                    if faults && seed.chance(5) {
                        return Err(());
                    }
                    self.tables.put(table, row);
                }
            }
            Action::Publish(objects) => {
                let committed = self.committed.as_ref().map_or(0, |(offset, _)| *offset);
                self.books.publish(objects, committed, seed, faults)?;
            }
            Action::StoreSnapshot { name, bytes } => {
                self.snapshots.insert(name.clone(), bytes.clone());
            }
            Action::RemoveSnapshot(name) => {
                self.snapshots.remove(name);
            }
        }
        if fails_after { Err(()) } else { Ok(()) }
    }
}

/// Two pipelines: a change of the configuration, or of a table.
fn make_pipeline(version: usize, case: Case) -> Arc<Pipeline> {
    type Two = [Arc<Pipeline>; 2];
    static PLAIN: LazyLock<Two> =
        LazyLock::new(|| [0, 1].map(|version| compiled(version, "", books::ACCOUNTS[version])));
    static BOUNDED: LazyLock<Two> = LazyLock::new(|| {
        [0, 1].map(|version| compiled(version, "ledger='1200B'\n", books::ACCOUNTS[version]))
    });
    static HOPPING: LazyLock<Two> = LazyLock::new(|| {
        [0, 1].map(|version| {
            let more = [windows::step(version), books::ACCOUNTS[version].to_owned()];
            compiled(version, "", &more.concat())
        })
    });
    static FORGETFUL: LazyLock<Two> =
        LazyLock::new(|| [0, 1].map(|version| compiled(version, "", "")));
    let two = match case {
        Case::Plain => &PLAIN,
        Case::Bounded => &BOUNDED,
        Case::Hopping => &HOPPING,
        Case::Forgetful => &FORGETFUL,
    };
    Arc::clone(&two[version])
}

fn compiled(version: usize, bound: &str, more: &str) -> Arc<Pipeline> {
    // Windows of another length are another step's: the change closes those that are open. And what a
    // program makes of the batch clock and the record's place is made again exactly.
    let window = ["20s", "5m"][version];
    let steps = format!(
        "[[transform]]\nstep='filter'\nfield='kept'\nin=['yes']\n\
         [[transform]]\nstep='vrl'\nsource='''\n.made = now()\n.at = %hw.offset\n.v = {version}\n'''\n\
         [[transform]]\nstep='aggregate'\nwindow='{window}'\nlateness='30s'\nkeep_records=true\n\
         by=['stream']\npath='w{version}/{{stream}}'\ncompute=[{{function='count'}}]\n{more}"
    );
    // And one of them makes an object for each record.
    let layout = ["batch", "record"][version];
    let steps = format!("{bound}layout='{layout}'\n{steps}");
    let path = ["v0/s={stream}/at={ingest:%M}", "v1/{stream}"][version];
    Arc::new(pipeline(&format!("{steps}{}", items::TABLES), path))
}

impl Worker {
    /// One step. `false`: it is gone, and somebody has to take over.
    fn step(&mut self, world: &mut World, seed: &mut Seed, now: Now, faults: bool) -> bool {
        if self.under_way.is_none() {
            self.under_way = self.partition.next_action();
        }
        if let Some(action) = &self.under_way
            && (!faults || seed.chance(60))
        {
            let done = world.perform(action, self.epoch, seed, faults);
            let waits = action.is_awaited();
            self.under_way = None;
            return match done {
                Ok(()) if waits => self.partition.apply(Event::ActionDone, now).is_ok(),
                Ok(()) => true,
                Err(()) => !waits,
            };
        }
        if world.case != Case::Hopping && seed.chance(10) {
            // A table was read again.
            let version = seed.below(2);
            self.partition
                .use_pipeline(&make_pipeline(version, world.case));
        }
        if seed.chance(10) {
            // For now there is no record.
            return self.partition.apply(Event::Tick, now).is_ok();
        }
        let upto = (self.position + 1 + seed.below(9)).min(world.log.entries.len());
        let chunk = Fetched {
            bytes: world.log.bytes.clone(),
            entries: world.log.entries[self.position..upto].to_vec(),
            names: 0,
        };
        self.position += self.partition.take(&chunk, 0, now).unwrap();
        let event = match seed.below(100) {
            0..5 => Event::Pressure,
            5..10 => Event::Flush,
            _ => Event::Tick,
        };
        self.partition.apply(event, now).is_ok()
    }
}

/// Returns how many rows of windows took another one's place, how many were late, and how many batches had no record.
/// Where the group forgets, the first is how often the last name would have misled.
fn check(world: &World, seed: u64) -> [usize; 3] {
    let mut stored: BTreeMap<String, usize> = BTreeMap::new();
    let (mut in_windows, mut hopping) = (0, BTreeMap::new());
    let mut ranges: BTreeMap<(u64, u64, Option<u64>), BTreeSet<usize>> = BTreeMap::new();
    for (key, bytes) in &world.objects {
        let name = ObjectName::parse(key).unwrap();
        let numbers = ranges
            .entry((name.start, name.end, name.quiet_ms))
            .or_insert_with(|| (1..=name.n).collect());
        assert!(numbers.remove(&name.k), "seed {seed}: {key} twice");
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let row: serde_json::Value = serde_json::from_slice(line).unwrap();
            match (row["id"].as_str(), name.path.strip_prefix('h')) {
                (Some(id), _) => *stored.entry(id.to_owned()).or_default() += 1,
                (None, Some(hops)) => windows::note(&mut hopping, &hops[..1], row),
                (None, None) => in_windows += row["count"].as_u64().unwrap(),
            }
        }
    }
    assert!(
        ranges.values().all(BTreeSet::is_empty),
        "seed {seed}: an object of a batch is missing"
    );
    let quiet = ranges.keys().filter(|name| name.2.is_some()).count();
    let ends: Vec<(u64, u64)> = ranges.into_keys().map(|name| (name.0, name.1)).collect();
    for pair in ends.windows(2) {
        let tile = match world.case {
            // Names go on from what the state is of, though rows may have ended before it.
            Case::Forgetful => pair[0].1 <= pair[1].0,
            _ => pair[0].1 == pair[1].0,
        };
        assert!(tile, "seed {seed}: ranges do not tile: {pair:?}");
    }
    let (_, metadata) = world.committed.clone().unwrap();
    let committed = Committed::parse(u64::MAX, &metadata).unwrap();
    let mut state = Snapshot::decode(&world.snapshots[&committed.snapshot.unwrap()]).unwrap();
    assert_eq!(state.ledger.unexplained_gaps(), 0, "seed {seed}");
    let (unaccounted, records) = world.unaccounted(&state.ledger);
    assert_eq!(
        unaccounted.is_empty(),
        world.case != Case::Bounded,
        "seed {seed}"
    );
    assert_eq!(state.ledger.unaccounted(), records, "seed {seed}");
    assert_eq!(stored, world.expected(&unaccounted), "seed {seed}");
    let open = state.windows.close_all(std::iter::empty());
    let (hops, open): (Vec<_>, Vec<_>) = open.into_iter().partition(|window| {
        let path = window.path.as_deref();
        path.is_some_and(|path| path.starts_with('h'))
    });
    for window in hops {
        let version = window.path.unwrap_or_default()[1..2].to_owned();
        windows::note(&mut hopping, &version, window.row.into());
    }
    let open: u64 = open
        .iter()
        .map(|window| window.row["count"].as_u64().unwrap())
        .sum();
    assert_eq!(
        in_windows + open,
        stored.values().sum::<usize>() as u64,
        "seed {seed}: a record counts in one window"
    );
    if world.case == Case::Bounded {
        books::check_hours(world, &serde_json::to_value(&state.books).unwrap(), seed);
        return [0; 3];
    }
    items::check(&world.log, &world.tables, in_windows, seed);
    if world.case != Case::Forgetful {
        books::check(world, &state.books, seed);
    }
    let (anew, late) = match world.case {
        Case::Hopping => windows::check(&world.log, &hopping, seed),
        _ => (world.misled, 0),
    };
    [anew, late, quiet]
}

fn simulate(seed_number: u64, case: Case) -> [usize; 3] {
    let mut seed = Seed(seed_number);
    let mut world = World::new(&mut seed);
    world.case = case;
    let mut workers: Vec<Worker> = Vec::new();
    let mut now = Now {
        mono_ms: 0,
        // Behind the clock records lie in the future, and close no window.
        wall_ms: match case {
            Case::Hopping => EIGHT_MS + 7_200_000,
            Case::Plain | Case::Bounded | Case::Forgetful => 1_764_000_000_000,
        },
    };
    for _ in 0..400 {
        now.mono_ms += 1 + seed.next() % 10;
        // Wall clocks step, backwards too.
        now.wall_ms = now.wall_ms + 40_000 - seed.next() % 60_000;
        // And now and then hours, a day, rarely a week is over.
        now.wall_ms += match seed.below(800) {
            0..8 => seed.next() % (9 * 3_600_000),
            8..10 => seed.next() % (30 * 3_600_000),
            10 if seed.chance(10) => 9 * 86_400_000,
            _ => 0,
        };
        let forgets = world.case == Case::Forgetful && seed.chance(3);
        if forgets {
            world.forget();
        }
        if forgets || workers.iter().all(|worker| worker.zombie) || seed.chance(3) {
            // A rebalance: the owner hangs on as a zombie, or is gone.
            workers.retain_mut(|worker| {
                worker.zombie = true;
                seed.chance(70)
            });
            workers.truncate(3);
            let worker = world.join(&mut seed);
            workers.push(worker);
        }
        let at = seed.below(workers.len());
        if seed.chance(2) || !workers[at].step(&mut world, &mut seed, now, true) {
            workers.swap_remove(at);
        }
    }
    let mut last = world.join(&mut seed);
    for round in 0.. {
        assert!(
            round < 10_000,
            "seed {seed_number}: it does not come to an end"
        );
        now.mono_ms += 1;
        assert!(last.step(&mut world, &mut seed, now, false));
        if last.position == world.log.entries.len() {
            last.partition.apply(Event::Stop, now).unwrap();
            if last.partition.is_finished() && last.under_way.is_none() {
                break;
            }
        }
    }
    check(&world, seed_number)
}

#[test]
fn faults_lose_nothing_and_repeat_nothing() {
    let quiet: usize = (0..3000).map(|seed| simulate(seed, Case::Plain)[2]).sum();
    assert!(quiet > 1000, "{quiet} batches had no record");
}

#[test]
fn windows_of_every_function_have_each_record_once() {
    let mut all = [0; 3];
    for seed in 0..400 {
        let of = simulate(seed, Case::Hopping);
        all.iter_mut().zip(of).for_each(|(all, of)| *all += of);
    }
    assert!(
        all.iter().all(|met| *met > 100),
        "rows said anew, late, and batches without a record: {all:?}"
    );
}

/// Streams that the ledger has no room for: nothing of them is lost, which they are is the same in every
/// life, all others are stored once, and what was not accounted is counted.
#[test]
fn a_full_ledger_loses_nothing_and_is_the_same_again() {
    for seed in 0..300 {
        simulate(seed, Case::Bounded);
    }
}

/// Where the group has lost its offset, the snapshots say where to go on: of several, left by crashes, zombies and
/// batches without a record, that which knows of all rows.
#[test]
fn a_group_that_forgets_loses_nothing_and_repeats_nothing() {
    let misled: usize = (0..2000)
        .map(|seed| simulate(seed, Case::Forgetful)[0])
        .sum();
    assert!(misled > 100, "the last name misled {misled} times");
}

/// The simulation itself can fail: without the boundary in the group (a successor that starts from
/// the offset alone, as if there were no intent) it finds repeated rows at once.
#[test]
fn the_simulation_sees_a_missing_boundary() {
    let found = (0..200).any(|seed| {
        std::panic::catch_unwind(|| {
            let mut seed = Seed(seed);
            let mut world = World::new(&mut seed);
            let now = Now {
                mono_ms: 0,
                wall_ms: 1_764_000_000_000,
            };
            for _ in 0..40 {
                let mut worker = world.join(&mut seed);
                for _ in 0..20 {
                    if !worker.step(&mut world, &mut seed, now, true) {
                        break;
                    }
                }
                if let Some((offset, metadata)) = world.committed.take() {
                    let mut committed = Committed::parse(offset, &metadata).unwrap();
                    committed.intent = None;
                    world.committed = Some((offset, committed.metadata()));
                }
            }
            let mut last = world.join(&mut seed);
            for _ in 0..2000 {
                assert!(last.step(&mut world, &mut seed, now, false));
            }
            last.partition.apply(Event::Stop, now).unwrap();
            for _ in 0..20 {
                assert!(last.step(&mut world, &mut seed, now, false));
            }
            check(&world, 0);
        })
        .is_err()
    });
    assert!(found);
}

/// While the output is down one batch closes for hours. An open one that is due waits, and nobody is woken
/// for it in vain.
#[test]
fn what_is_due_waits_for_the_batch_that_closes() {
    let limits = Limits {
        age_ms: 10,
        ..Limits::NONE
    };
    let committed = Committed::at(0);
    let pipeline = Arc::new(pipeline("", "all"));
    let mut partition = Partition::recover(
        (TOPIC, 0),
        limits,
        pipeline,
        committed,
        <_>::default(),
        None,
    )
    .unwrap();
    let mut fetched = Fetched::default();
    fetched.push(0, 0, Some(b"{}"), Identity::Foreign);
    fetched.push(1, 0, Some(b"{}"), Identity::Foreign);
    let at = |mono_ms| Now {
        mono_ms,
        wall_ms: 1_764_000_000_000 + mono_ms,
    };
    let one = Fetched {
        entries: fetched.entries[..1].to_vec(),
        ..fetched.clone()
    };
    assert_eq!(partition.take(&one, 0, at(0)).unwrap(), 1);
    assert_eq!(partition.next_deadline(), Some(10));
    partition.apply(Event::Tick, at(10)).unwrap();
    assert!(matches!(partition.next_action(), Some(Action::Commit(_))));
    assert_eq!(partition.take(&fetched, 1, at(11)).unwrap(), 1);
    partition.apply(Event::Tick, at(5000)).unwrap();
    assert_eq!(partition.next_deadline(), None);
    assert_eq!(partition.next_action(), None);
    // The closing one's four steps; with the last, the next batch begins to close.
    for _ in 0..4 {
        partition.apply(Event::ActionDone, at(6000)).unwrap();
        while partition.next_action().is_some() {}
    }
    assert_eq!(partition.committed_offset(), 1);
    partition.apply(Event::ActionDone, at(6001)).unwrap();
    assert!(matches!(partition.next_action(), Some(Action::Upload(_))));
}

/// A batch without rows has no boundary, and one that is done waits for nobody.
#[test]
fn only_what_the_group_may_hold_is_begun() {
    let limits = Limits {
        records: 1,
        ..Limits::NONE
    };
    let now = Now {
        mono_ms: 0,
        wall_ms: EIGHT_MS,
    };
    let steps = "[[transform]]\nstep='keep'\nfield='kept'\nin=['yes']\n";
    for (value, begins) in [(r#"{"kept":"yes"}"#, true), (r#"{"kept":"no"}"#, false)] {
        let (pipeline, state) = (Arc::new(pipeline(steps, "all")), <_>::default());
        let committed = Committed::at(0);
        let mut partition =
            Partition::recover((TOPIC, 0), limits, pipeline, committed, state, None).unwrap();
        let mut fetched = Fetched::default();
        fetched.push(0, 0, Some(value.as_bytes()), Identity::Foreign);
        assert!(!partition.has_begun());
        assert_eq!(partition.take(&fetched, 0, now).unwrap(), 1);
        assert_eq!(partition.has_begun(), begins, "{value}");
        while let Some(action) = partition.next_action() {
            if action.is_awaited() {
                partition.apply(Event::ActionDone, now).unwrap();
            }
        }
        assert_eq!(
            (partition.committed_offset(), partition.has_begun()),
            (1, false)
        );
    }
}

/// What is open when it is told to flush closes, behind one that closes already, and nothing that came later.
#[test]
fn a_flush_closes_what_is_open_and_no_more() {
    let limits = Limits::NONE;
    let committed = Committed::at(0);
    let pipeline = Arc::new(pipeline("", "all"));
    let state = <_>::default();
    let mut partition =
        Partition::recover((TOPIC, 0), limits, pipeline, committed, state, None).unwrap();
    let now = Now {
        mono_ms: 0,
        wall_ms: EIGHT_MS,
    };
    let mut log = Fetched::default();
    (0..4).for_each(|offset| log.push(offset, 0, Some(b"{}"), Identity::Foreign));
    // There is nothing, and nothing is remembered of it.
    partition.apply(Event::Flush, now).unwrap();
    let take = |partition: &mut Partition, upto: usize| {
        let fetched = Fetched {
            entries: log.entries[..upto].to_vec(),
            ..log.clone()
        };
        partition.take(&fetched, 0, now).unwrap();
        partition.next_action()
    };
    let ends = |action: Option<Action>| match action {
        Some(Action::Commit(begun)) => begun.intent.map(|intent| intent.end),
        _ => None,
    };
    assert_eq!(ends(take(&mut partition, 1)), None);
    partition.apply(Event::Flush, now).unwrap();
    assert_eq!(ends(partition.next_action()), Some(1));
    // While that closes.
    assert_eq!(take(&mut partition, 3), None);
    partition.apply(Event::Flush, now).unwrap();
    assert_eq!(partition.next_action(), None);
    let done = |partition: &mut Partition| {
        (0..4).for_each(|_| partition.apply(Event::ActionDone, now).unwrap());
        std::iter::from_fn(|| partition.next_action()).find_map(|action| ends(Some(action)))
    };
    assert_eq!(done(&mut partition), Some(3));
    assert_eq!(take(&mut partition, 4), None);
    assert_eq!(done(&mut partition), None, "what came later stays open");
    partition.apply(Event::Tick, now).unwrap();
    assert_eq!(partition.next_action(), None);
}

/// Takes one record at each of these times and tells when a batch of how many records was closed.
fn closed_at(limits: Limits, wall_ms: u64, records_at: &[u64]) -> Vec<(u64, u64)> {
    let committed = Committed::at(0);
    let pipeline = Arc::new(pipeline("", "all"));
    let state = <_>::default();
    let mut partition =
        Partition::recover((TOPIC, 0), limits, pipeline, committed, state, None).unwrap();
    let mut closed = Vec::new();
    let mut fetched = Fetched::default();
    for mono_ms in 0..1000 {
        let now = Now {
            mono_ms,
            wall_ms: wall_ms + mono_ms,
        };
        if records_at.contains(&mono_ms) {
            let offset = fetched.entries.len() as u64;
            let identity = Identity::Foreign;
            fetched.push(offset, 0, Some(b"{}"), identity);
            let at = fetched.entries.len() - 1;
            assert_eq!(partition.take(&fetched, at, now).unwrap(), 1);
        } else {
            partition.apply(Event::Tick, now).unwrap();
        }
        let Some(Action::Commit(begun)) = partition.next_action() else {
            continue;
        };
        closed.push((mono_ms, begun.intent.unwrap().end));
        for _ in 0..4 {
            partition.apply(Event::ActionDone, now).unwrap();
            while partition.next_action().is_some() {}
        }
    }
    closed
}

#[test]
fn batches_are_closed_by_the_clock() {
    let never = Limits::NONE;
    let aged = Limits {
        age_ms: 300,
        ..never
    };
    let idle = Limits {
        idle_ms: Some(50),
        ..aged
    };
    let every = Limits {
        every_ms: Some(100),
        ..never
    };
    for (name, limits, records_at, expected) in [
        ("nothing is due", never, &[5, 10][..], &[][..]),
        ("age counts from the first", aged, &[5, 250], &[(305, 2)]),
        (
            "idle counts from the last",
            idle,
            &[5, 40, 80, 500],
            &[(130, 3), (550, 4)],
        ),
        (
            "age bounds what never is idle",
            idle,
            &[0, 40, 80, 120, 160, 200, 240, 280, 320],
            &[(300, 8), (370, 9)],
        ),
        // The wall clock stands at 30 of 100 when the monotonic one is at 0.
        ("the next mark", every, &[5, 20], &[(70, 2)]),
        (
            "a record on the mark is the next one's",
            every,
            &[5, 70, 71],
            &[(70, 1), (170, 3)],
        ),
        (
            "no records, no batch",
            every,
            &[5, 400],
            &[(70, 1), (470, 2)],
        ),
    ] {
        assert_eq!(
            closed_at(limits, 1_764_000_000_030, records_at),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_batch_closes_at_its_bytes() {
    let mut fetched = Fetched::default();
    let value = format!("{{\"a\":\"{}\"}}", "x".repeat(1000));
    for offset in 0..4000 {
        fetched.push(offset, 0, Some(value.as_bytes()), Identity::Foreign);
    }
    let now = Now {
        mono_ms: 0,
        wall_ms: EIGHT_MS,
    };
    let taken = |bytes: usize| {
        let limits = Limits {
            bytes,
            ..Limits::NONE
        };
        let (pipeline, state) = (Arc::new(pipeline("", "all")), <_>::default());
        let committed = Committed::at(0);
        let mut partition =
            Partition::recover((TOPIC, 0), limits, pipeline, committed, state, None).unwrap();
        let taken = partition.take(&fetched, 0, now).unwrap();
        let action = partition.next_action();
        (taken, matches!(action, Some(Action::Commit(_))))
    };
    let ((some, closes), (more, closes_later)) = (taken(64 << 10), taken(256 << 10));
    assert!(closes && closes_later);
    assert!(
        (32..=256).contains(&some) && (256..=1024).contains(&more),
        "{some} and {more} records of 1 kB"
    );
    assert_eq!(taken(usize::MAX), (4000, false));
}

/// Performs what a partition asks for: the paths of what each batch uploads, and the boundary of each.
fn perform(partition: &mut Partition, now: Now) -> (Vec<Vec<String>>, Vec<Intent>) {
    let (mut uploaded, mut boundaries) = (Vec::new(), Vec::new());
    while let Some(action) = partition.next_action() {
        let is_awaited = action.is_awaited();
        match action {
            Action::Commit(begun) => boundaries.extend(begun.intent),
            Action::Upload(objects) => {
                let path = |object: &Object| ObjectName::parse(&object.key).unwrap().path;
                uploaded.push(objects.iter().map(path).collect());
            }
            _ => {}
        }
        if is_awaited {
            partition.apply(Event::ActionDone, now).unwrap();
        }
    }
    (uploaded, boundaries)
}

/// A record of each of five groups, and one of each two minutes later; then more of one.
fn minutes_of_groups() -> Fetched {
    let mut log = Fetched::default();
    let mut push = |group: &str, minute: u64| {
        let value = format!(r#"{{"g":"{group}","time":"2026-11-28T08:{minute:02}:00Z"}}"#);
        let offset = log.entries.len() as u64;
        log.push(offset, 0, Some(value.as_bytes()), Identity::Foreign);
    };
    for group in ["a", "b", "c", "d", "e"] {
        push(group, 0);
    }
    for group in ["a", "b", "c", "d", "e", "a", "a", "a"] {
        push(group, 2);
    }
    log
}

/// A path for each group: windows that close with one batch make no more objects than a batch may have, those
/// that are left close with the next ones, at their first records, and whoever makes a batch again, with other
/// limits, makes the same.
#[test]
fn windows_beyond_the_bound_of_objects_close_with_the_next_batch() {
    let limits = |objects: usize| Limits {
        records: 1,
        objects,
        ..Limits::NONE
    };
    let steps = "[[transform]]\nstep='aggregate'\nwindow='1m'\nlateness='0s'\nby=['g']\npath='w/{g}'\n\
                 compute=[{function='count'}]\n";
    let pipeline = Arc::new(pipeline(steps, "all"));
    let now = Now {
        mono_ms: 0,
        wall_ms: EIGHT_MS + 86_400_000,
    };
    let log = minutes_of_groups();
    let start = Committed::at(0);
    let one_batch = Limits {
        records: 10,
        ..limits(2)
    };
    let who = (TOPIC, 0);
    let state = Carried::default();
    let current = Arc::clone(&pipeline);
    let mut partition =
        Partition::recover(who, one_batch, current, start.clone(), state, None).unwrap();
    let (mut uploaded, mut boundaries, mut at) = (Vec::new(), Vec::new(), 0);
    for _ in 0..4 {
        at += partition.take(&log, at, now).unwrap();
        let (paths, begun) = perform(&mut partition, now);
        uploaded.extend(paths);
        boundaries.extend(begun);
    }
    assert_eq!(at, log.entries.len());
    let expected: [&[&str]; 3] = [&["w/a", "w/b"], &["w/c", "w/d"], &["w/e"]];
    assert_eq!(uploaded, expected);
    let closed: Vec<_> = boundaries
        .iter()
        .map(|begun| (begun.end, begun.windows))
        .collect();
    assert_eq!(closed, [(10, Some(2)), (11, Some(2)), (12, None)]);
    // Made again by one that has room for all.
    let begun = Committed {
        intent: Some(boundaries[0].clone()),
        ..start
    };
    let replay = Replay {
        intent: boundaries[0].clone(),
        pipeline: Arc::clone(&pipeline),
    };
    let state = Carried::default();
    let mut again =
        Partition::recover(who, limits(1000), pipeline, begun, state, Some(replay)).unwrap();
    again.take(&log, 0, now).unwrap();
    let Some(Action::Upload(objects)) = again.next_action() else {
        panic!("it makes the batch again")
    };
    assert_eq!(objects.len(), 2);
}
