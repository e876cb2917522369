//! The heart under faults, from a seed: workers that crash, hang and come back as zombies, commits
//! that are refused, time out or come through unanswered, uploads that half succeed. The workers
//! run the real `Partition`; group and store are the plainest models of the real ones.

use super::*;

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
    let ends = ranges.into_keys().map(|name| (name.0, name.1));
    let named = assert_tile(&ends.collect::<Vec<_>>(), seed);
    let (_, metadata) = world.committed.clone().unwrap();
    let committed = Committed::parse(u64::MAX, &metadata).unwrap();
    let mut state = Snapshot::decode(&world.snapshots[&committed.snapshot.unwrap()]).unwrap();
    assert_eq!(state.named, named, "seed {seed}");
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

/// Ranges of names follow one another. Returns what they cover.
fn assert_tile(ends: &[(u64, u64)], seed: u64) -> Option<Named> {
    for pair in ends.windows(2) {
        let tile = pair[0].1 == pair[1].0;
        assert!(tile, "seed {seed}: ranges do not tile: {pair:?}");
    }
    let (first, last) = ends.first().zip(ends.last())?;
    Some(Named {
        from: first.0,
        to: last.1,
    })
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
