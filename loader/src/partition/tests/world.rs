//! The surroundings of the simulated workers: a generator of seeds, and group and store as the plainest models of the
//! real ones.

use super::*;

/// A small generator of its own (SplitMix64), so that a seed means the same on every machine.
pub(super) struct Seed(pub(super) u64);

impl Seed {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// What is simulated beside records, windows, items and accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Case {
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
pub(super) struct World {
    pub(super) case: Case,
    pub(super) log: Fetched,
    /// Highest epoch that was handed out: only its holder may commit.
    pub(super) epoch: u64,
    pub(super) committed: Option<(u64, String)>,
    pub(super) objects: BTreeMap<String, Bytes>,
    /// The ranges that they are named for, and how many of each are still to come.
    pub(super) ranges: BTreeMap<(u64, u64), usize>,
    pub(super) snapshots: BTreeMap<String, Bytes>,
    pub(super) tables: items::Tables,
    pub(super) books: books::Written,
    /// How often the group lost its offset, and the last name was not the one to go on from.
    pub(super) misled: usize,
}

impl World {
    /// Records of three streams, with re-sends, filtered ones, foreign ones and holes in the offsets.
    pub(super) fn new(seed: &mut Seed) -> Self {
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
    pub(super) fn expected(&self, unaccounted: &BTreeSet<String>) -> BTreeMap<String, usize> {
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
    pub(super) fn unaccounted(&self, ledger: &Ledger) -> (BTreeSet<String>, u64) {
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

    pub(super) fn join(&mut self, seed: &mut Seed) -> Worker {
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

    pub(super) fn take_up(&mut self, limits: Limits, current: Arc<Pipeline>) -> Worker {
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
    pub(super) fn forget(&mut self) {
        let held = self.committed.as_ref();
        let held = held.map(|(offset, metadata)| Committed::parse(*offset, metadata).unwrap());
        if held.is_none_or(|held| held.intent.is_some()) {
            return;
        }
        let ranked = self.snapshots.iter();
        let ranked = ranked.map(|(name, bytes)| (Brief::read(&**bytes).unwrap().rank(), name));
        let Some((_, name)) = ranked.max() else {
            return;
        };
        self.misled += usize::from(self.snapshots.keys().last() != Some(name));
        let mut found = Committed {
            snapshot: Some(name.clone()),
            ..Committed::at(snapshot_end(name).unwrap())
        };
        let state = Snapshot::decode(&self.snapshots[name]).unwrap();
        go_on_with_names(&mut found, &state.into());
        self.committed = Some((found.offset, found.metadata()));
        self.epoch += 1;
    }

    /// What a state says of names holds when it is stored, whoever stores it.
    fn assert_named(&self, state: &[u8]) {
        let Named { from, to } = Brief::read(state).unwrap().named.unwrap();
        assert_eq!(from, self.log.entries[0].offset);
        let spoken = self.ranges.iter().filter(|((_, end), _)| *end <= to);
        let reached = spoken.fold(from, |at, ((start, end), left)| {
            assert_eq!((at, *left), (*start, 0), "{:?}", self.ranges);
            *end
        });
        assert_eq!(reached, to);
    }

    /// Takes note of a new object.
    fn note(&mut self, key: &str) {
        let name = ObjectName::parse(key).unwrap();
        if name.start < name.end {
            let range = (name.start, name.end);
            *self.ranges.entry(range).or_insert(name.n) -= 1;
        }
    }

    /// Performs an action. `Err`: it failed, or nobody knows.
    pub(super) fn perform(
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
                    if !self.objects.contains_key(&object.key) {
                        self.note(&object.key);
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
                self.assert_named(bytes);
                self.snapshots.insert(name.clone(), bytes.clone());
            }
            Action::RemoveSnapshot(name) => {
                self.snapshots.remove(name);
            }
        }
        if fails_after { Err(()) } else { Ok(()) }
    }
}
