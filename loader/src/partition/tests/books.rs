//! The markers and accounts of the simulation, and what they must say in the end, reckoned from the log alone.

use serde_json::Value;

use super::*;
use crate::name::OWN_FOLDER;

/// Of every pipeline of the simulation: one has more devices than accounts.
pub(super) const ACCOUNTS: [&str; 2] = [
    "[accounts]\nhourly_markers=true\ndaily='device'\ndevices=2\n",
    "[accounts]\nhourly_markers=true\ndaily='partition'\n",
];

const HOUR_MS: i64 = 3_600_000;

/// What was written, by key.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Written(BTreeMap<String, Bytes>);

impl Written {
    pub(super) fn publish(
        &mut self,
        objects: &[Object],
        committed: u64,
        seed: &mut Seed,
        faults: bool,
    ) -> Result<(), ()> {
        for object in objects {
            if faults && seed.chance(5) {
                return Err(());
            }
            let (key, bytes) = (&object.key, &object.bytes);
            let stored = self.0.entry(key.clone()).or_insert_with(|| bytes.clone());
            assert_eq!(stored, bytes, "one name, two contents: {key}");
            if key.contains("/complete/") {
                let marker: Value = serde_json::from_slice(bytes).unwrap();
                let to = marker["to"].as_u64().unwrap();
                assert!(committed >= to, "said before it was committed: {key}");
            }
        }
        Ok(())
    }

    fn lines(&self, folder: &str) -> Vec<Value> {
        let folder = format!("{OWN_FOLDER}{folder}/{TOPIC}/");
        let of = self.0.iter().filter(|(key, _)| key.starts_with(&folder));
        of.flat_map(|(_, bytes)| bytes.split(|b| *b == b'\n'))
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }
}

fn ms(time: &Value) -> i64 {
    let time: jiff::Timestamp = time.as_str().unwrap().parse().unwrap();
    time.as_millisecond()
}

/// Sums of some numbers of accounts.
#[derive(Default, Debug, PartialEq, Eq)]
struct Sums {
    records: u64,
    bytes: u64,
    duplicates: u64,
    offsets: u64,
    delays: u64,
}

/// What the log alone says.
fn expected(log: &Fetched) -> (Sums, u64) {
    let mut sums = Sums::default();
    let mut nameless = 0;
    let mut seen = BTreeSet::new();
    for entry in &log.entries {
        sums.bytes += log.value(entry).unwrap().len() as u64;
        match &entry.identity {
            Identity::Tagged { stream, span, .. } if seen.insert((stream, span.start())) => {
                sums.records += 1;
                sums.offsets += span.len();
            }
            Identity::Tagged { .. } => sums.duplicates += 1,
            Identity::Foreign | Identity::Refused(_) => nameless += 1,
        }
    }
    sums.records += nameless;
    sums.delays = sums.records;
    (sums, nameless)
}

/// Whatever happened: hours tile, each record is in one hour and one account, and no row lies in an hour that
/// was said to be complete without it.
pub(super) fn check(world: &World, books: &Books, seed: u64) {
    let state = serde_json::to_value(books).unwrap();
    check_hours(world, &state, seed);
    let (wanted, nameless) = expected(&world.log);
    let mut sums = Sums::default();
    let mut of_nobody = 0;
    let number = |account: &Value, name: &str| account[name].as_u64().unwrap_or(0);
    let mut add = |account: &Value, delays: u64| {
        let made = ["written", "dead_letters", "filtered", "aggregated"];
        let made: u64 = made.iter().map(|name| number(account, name)).sum();
        assert_eq!(made, number(account, "records"), "seed {seed}");
        sums.records += number(account, "records");
        sums.bytes += number(account, "bytes");
        sums.duplicates += number(account, "duplicates");
        sums.offsets += number(account, "offsets");
        sums.delays += delays + number(account, "ahead") + number(account, "untimed");
    };
    for account in world.books.lines("account") {
        add(&account, number(&account["to_kafka"], "records"));
        if account["of"] == "nameless" {
            of_nobody += number(&account, "records");
        }
    }
    let day = &state["day"];
    let devices = day["devices"].as_object().into_iter().flatten();
    let open = devices.map(|(_, account)| account);
    for account in open.chain([&day["nameless"], &day["others"]]) {
        let classes = account["to_kafka"]["classes"].as_array();
        let delays = classes.into_iter().flatten();
        add(
            account,
            delays.map(|class| class[1].as_u64().unwrap()).sum(),
        );
    }
    of_nobody += number(&day["nameless"], "records");
    assert_eq!(sums, wanted, "seed {seed}");
    assert_eq!(of_nobody, nameless, "seed {seed}");
}

pub(super) fn check_hours(world: &World, state: &Value, seed: u64) {
    let mut hours = BTreeMap::new();
    for marker in world.books.lines("complete") {
        hours.insert(ms(&marker["hour"]), marker);
    }
    let mut from = world.log.entries[0].offset;
    let mut previous = None;
    let mut records = 0;
    for (hour, marker) in &hours {
        let of = |name: &str| marker[name].as_u64().unwrap();
        assert_eq!(of("from"), from, "seed {seed}: hours do not tile");
        from = of("to");
        records += of("records");
        let before = (!marker["previous"].is_null()).then(|| ms(&marker["previous"]));
        assert_eq!(before, previous, "seed {seed}");
        if let Some(previous) = previous.replace(*hour) {
            // Of a longer rest the last week is marked.
            let next = *hour == previous + HOUR_MS;
            let week = hours.contains_key(&(hour + 167 * HOUR_MS));
            assert!(next || week, "seed {seed}: an hour is missing");
        }
    }
    let open = &state["hour"];
    assert_eq!(open["from"].as_u64().unwrap(), from, "seed {seed}");
    records += open["counts"]["records"].as_u64().unwrap();
    assert_eq!(records, world.log.entries.len() as u64, "seed {seed}");
    for bytes in world.objects.values() {
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let row: Value = serde_json::from_slice(line).unwrap();
            let Some(at) = row["at"].as_u64() else {
                continue;
            };
            let hour = ms(&row["made"]).div_euclid(HOUR_MS) * HOUR_MS;
            let (from, to) = match hours.get(&hour) {
                Some(marker) => (marker["from"].as_u64(), marker["to"].as_u64().unwrap()),
                None => (open["from"].as_u64(), u64::MAX),
            };
            let hour = from.unwrap()..to;
            assert!(hour.contains(&at), "seed {seed}: {row} is not in {hour:?}");
        }
    }
}

/// A life in which batches end and clocks stand by the records alone. `crashes`: some of the actions are cut
/// off, before or behind what they do.
fn life(world: &mut World, crashes: &mut Option<Seed>) {
    let limits = Limits {
        records: 7,
        ..Limits::NONE
    };
    let mut count = 0;
    'life: loop {
        let mut worker = world.take_up(limits, make_pipeline(1, Case::Plain));
        let start = worker.partition.committed_offset();
        let first = world
            .log
            .entries
            .iter()
            .position(|entry| entry.offset >= start);
        let mut calm = Seed(0);
        let mut perform = |world: &mut World, worker: &mut Worker, now| {
            while let Some(action) = worker.partition.next_action() {
                count += 1;
                let mut cut = || crashes.as_mut().is_some_and(|seed| seed.chance(12));
                if cut() {
                    return false;
                }
                world
                    .perform(&action, worker.epoch, &mut calm, false)
                    .unwrap();
                if cut() {
                    return false;
                }
                if !matches!(action, Action::RemoveSnapshot(_)) {
                    worker.partition.apply(Event::ActionDone, now).unwrap();
                }
            }
            true
        };
        let mut now = Now {
            mono_ms: 0,
            wall_ms: 0,
        };
        let log = world.log.clone();
        for at in first.into_iter().flat_map(|first| first..log.entries.len()) {
            let ms = EIGHT_MS + at as u64 * 1_500_000;
            (now.mono_ms, now.wall_ms) = (ms, ms);
            if !perform(world, &mut worker, now) {
                continue 'life;
            }
            // What is due closes; then the page is turned.
            for _ in 0..2 {
                worker.partition.apply(Event::Tick, now).unwrap();
                if !perform(world, &mut worker, now) {
                    continue 'life;
                }
            }
            let one = Fetched {
                entries: vec![log.entries[at].clone()],
                bytes: log.bytes.clone(),
                names: 0,
            };
            assert_eq!(worker.partition.take(&one, 0, now).unwrap(), 1);
            if !perform(world, &mut worker, now) {
                continue 'life;
            }
        }
        worker.partition.apply(Event::Stop, now).unwrap();
        if perform(world, &mut worker, now) && worker.partition.is_finished() {
            assert!(count > 100, "there was little to cut off");
            return;
        }
    }
}

#[test]
fn what_is_said_is_the_same_bytes_as_without_a_crash() {
    for seed in 0..40 {
        let mut calm = World::new(&mut Seed(seed));
        life(&mut calm, &mut None);
        let mut cut = World::new(&mut Seed(seed));
        life(&mut cut, &mut Some(Seed(seed + 1000)));
        assert!(cut.epoch > 5, "it was not cut off");
        assert!(calm.books.lines("complete").len() > 20);
        assert!(!calm.books.lines("account").is_empty());
        assert!(
            cut.books == calm.books,
            "seed {seed}: something else was said"
        );
        assert!(
            cut.objects == calm.objects,
            "seed {seed}: something else was stored"
        );
        assert_eq!(cut.committed, calm.committed, "seed {seed}");
        check(&calm, &state(&calm), seed);
    }
}

fn state(world: &World) -> Books {
    let (offset, metadata) = world.committed.clone().unwrap();
    let committed = Committed::parse(offset, &metadata).unwrap();
    let snapshot = &world.snapshots[&committed.snapshot.unwrap()];
    Snapshot::decode(snapshot).unwrap().books
}

/// Applies ticks at these times and performs what comes of them; tells what was said.
fn ticks(
    world: &mut World,
    worker: &mut Worker,
    minutes: impl Iterator<Item = u64>,
) -> Vec<String> {
    let mut said = Vec::new();
    for minute in minutes {
        let ms = EIGHT_MS + minute * 60_000;
        let now = Now {
            mono_ms: ms,
            wall_ms: ms,
        };
        worker.partition.apply(Event::Tick, now).unwrap();
        while let Some(action) = worker.partition.next_action() {
            if let Action::Publish(objects) = &action {
                let name = |object: &Object| object.key.rsplit('/').nth(1).unwrap().to_owned();
                said.extend(objects.iter().map(name));
            }
            world
                .perform(&action, worker.epoch, &mut Seed(0), false)
                .unwrap();
            if !matches!(action, Action::RemoveSnapshot(_)) {
                worker.partition.apply(Event::ActionDone, now).unwrap();
            }
        }
    }
    said
}

#[test]
fn a_partition_without_records_says_so_and_through_a_restart() {
    let mut world = World::new(&mut Seed(1));
    let mut worker = world.take_up(Limits::NONE, make_pipeline(1, Case::Plain));
    let said = ticks(&mut world, &mut worker, 0..100);
    assert_eq!(said, ["2026-11-28T08Z"]);
    assert_eq!(world.snapshots.len(), 1, "one state at a time");
    assert_eq!(
        worker.partition.standing().complete_ms,
        Some(EIGHT_MS + 3_600_000)
    );
    // What was due when it ended may not have been written: it is said again.
    let mut worker = world.take_up(Limits::NONE, make_pipeline(1, Case::Plain));
    assert_eq!(worker.partition.standing().complete_ms, None);
    let said = ticks(&mut world, &mut worker, 110..250);
    assert_eq!(
        said,
        [
            "2026-11-28T08Z",
            "2026-11-28T09Z",
            "2026-11-28T10Z",
            "2026-11-28T11Z"
        ]
    );
    assert!(world.objects.is_empty());
    let (offset, _) = world.committed.clone().unwrap();
    assert_eq!(offset, world.log.entries[0].offset);
    worker
        .partition
        .apply(
            Event::Stop,
            Now {
                mono_ms: 0,
                wall_ms: EIGHT_MS * 2,
            },
        )
        .unwrap();
    assert!(worker.partition.is_finished(), "a stop turns no page");
}

#[test]
fn what_is_open_closes_with_the_hour_and_the_next_one_soon() {
    let mut world = World::new(&mut Seed(1));
    let mut worker = world.take_up(Limits::NONE, make_pipeline(1, Case::Plain));
    ticks(&mut world, &mut worker, 0..50);
    let at = |minute: u64| Now {
        mono_ms: EIGHT_MS + minute * 60_000,
        wall_ms: EIGHT_MS + minute * 60_000,
    };
    let one = |at: usize| Fetched {
        entries: vec![world.log.entries[at].clone()],
        bytes: world.log.bytes.clone(),
        names: 0,
    };
    let (first, second) = (one(0), one(1));
    assert_eq!(worker.partition.take(&first, 0, at(50)).unwrap(), 1);
    assert_eq!(worker.partition.next_deadline(), Some(at(60).mono_ms));
    assert_eq!(ticks(&mut world, &mut worker, 51..60), [""; 0]);
    // It was due with the hour; its own hour is said to be complete by the next batch.
    assert_eq!(worker.partition.take(&second, 0, at(61)).unwrap(), 1);
    assert_eq!(ticks(&mut world, &mut worker, 61..62), [""; 0]);
    assert_eq!(worker.partition.next_deadline(), Some(at(62).mono_ms));
    assert_eq!(ticks(&mut world, &mut worker, 62..63), ["2026-11-28T08Z"]);
    let marker = &world.books.lines("complete")[0];
    assert_eq!(
        (&marker["records"], &marker["to"]),
        (&1.into(), &second.entries[0].offset.into())
    );
}
