//! What is kept of files, and of budgets.

use super::*;

#[test]
fn every_field_of_a_generation_survives() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let registry = rig.store.registry(Stop::new(), 1);
    let old = generation(u64::MAX, Origin::File(file(b"/a\xff")));
    let sensor = generation(1, Origin::Sensor);
    let gone = generation(2, Origin::Sensor);
    registry
        .register(&[old.clone(), sensor.clone(), gone])
        .unwrap();
    registry.register(std::slice::from_ref(&old)).unwrap();
    registry.identify(&[(old.generation, file(b"/b"))]).unwrap();
    for cut in [u64::MAX - 3, 77, 78, 78] {
        registry.cut(old.generation, cut).unwrap();
    }
    let marker = Marker {
        end: u64::MAX,
        len: 64,
        sum: u32::MAX,
    };
    registry.mark(old.generation, marker, 1 << 63);
    let boot = Marker {
        end: 1 << 63,
        len: 7,
        sum: u32::MAX - 1,
    };
    registry.mark_entry(sensor.generation, marker, boot);
    let at = |n, settled, closed| Checkpoint {
        generation: Generation(n),
        settled,
        closed,
    };
    let checkpoints = vec![at(u64::MAX, 77, false), at(1, 5, false), at(2, 9, true)];
    rig.commit(Transaction {
        checkpoints,
        ..Transaction::default()
    });
    rig.commit(Transaction {
        checkpoints: vec![at(1, 4, false)],
        ..Transaction::default()
    });
    rig.store.close();
    assert!(
        registry.cut(Generation(1), 1).is_err(),
        "the store has stopped"
    );

    let rig = Rig::start(dir.path());
    let mut known = rig.found.known.open;
    known.sort_by_key(|known| known.generation);
    let sensor = OpenGeneration {
        settled: 5,
        marker: Some(marker),
        earlier: vec![boot],
        goes_on: None,
        ..sensor
    };
    let old = OpenGeneration {
        settled: 77,
        cuts: vec![78, u64::MAX - 3],
        marker: Some(marker),
        origin: Origin::File(FileIdentity {
            since_ms: 1 << 63,
            ..file(b"/b")
        }),
        ..old
    };
    assert_eq!(known, [sensor, old]);
    rig.store.close();
}

#[test]
fn markers_of_earlier_checkpoints_are_kept_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let registry = rig.store.registry(Stop::new(), 1);
    let file = generation(3, Origin::File(file(b"/a")));
    registry.register(std::slice::from_ref(&file)).unwrap();
    for settled in [10, 20, 20, 35] {
        registry.mark(file.generation, marker(settled), 7);
        rig.commit(Transaction {
            checkpoints: vec![Checkpoint {
                generation: file.generation,
                settled,
                closed: false,
            }],
            ..Transaction::default()
        });
    }
    rig.store.close();

    let rig = Rig::start(dir.path());
    let open = &rig.found.known.open[0];
    assert_eq!(open.marker, Some(marker(35)));
    assert_eq!(open.earlier, [marker(10), marker(20)]);
    rig.store.close();
}

#[test]
fn when_a_file_was_changed_last_goes_with_its_marker_but_for_one_that_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path());
    let registry = rig.store.registry(Stop::new(), 1);
    let as_of = |since_ms, fingerprint_len| FileIdentity {
        fingerprint_len,
        since_ms,
        ..file(b"/a")
    };
    let empty = generation(3, Origin::File(as_of(5, 0)));
    registry.register(std::slice::from_ref(&empty)).unwrap();
    for identity in [as_of(6, 0), as_of(7, 1)] {
        registry.identify(&[(empty.generation, identity)]).unwrap();
    }
    rig.store.close();

    let rig = Rig::start(dir.path());
    let begun = OpenGeneration {
        origin: Origin::File(as_of(6, 1)),
        ..empty
    };
    assert_eq!(rig.found.known.open, [begun]);
    rig.store.close();
}

/// What lies before this offset of a file.
fn marker(end: u64) -> Marker {
    Marker {
        end,
        len: 64,
        sum: 7,
    }
}

fn closed(n: u64) -> Checkpoint {
    Checkpoint {
        generation: Generation(n),
        settled: 5,
        closed: true,
    }
}

fn close_of(n: u64) -> Arc<Batch> {
    let mut close = batch(5, &[Kind::Close]);
    Arc::get_mut(&mut close).unwrap().generation = Generation(n);
    close
}

/// When closed files were changed last, how far they were read, and whether that is to their end.
fn seen(known: &Knowledge) -> Vec<(u64, Option<Marker>, bool)> {
    let mut seen: Vec<_> = (known.closed.iter())
        .map(|closed| (closed.file.since_ms, closed.marker, closed.is_whole))
        .collect();
    seen.sort_by_key(|(since_ms, ..)| *since_ms);
    seen
}

#[test]
fn files_of_closed_generations_are_kept_in_mind_some_of_each_stream() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let registry = rig.store.registry(Stop::new(), 1);
    let named = |n: u64| FileIdentity {
        since_ms: n,
        ..file(format!("/a.{n}").as_bytes())
    };
    let most = CLOSED_OF_STREAM_MAX as u64;
    let files: Vec<_> = (1..=most + 3)
        .map(|n| generation(n, Origin::File(named(n))))
        .collect();
    registry.register(&files).unwrap();
    registry
        .register(&[generation(99, Origin::Sensor)])
        .unwrap();
    // The first two are closed while the spool holds a batch, the first of them read to its end.
    registry.mark(Generation(1), marker(4), 8);
    registry.read_whole(Generation(1), &named(20), marker(5));
    registry.mark(Generation(2), marker(6), 21);
    rig.commit(Transaction {
        rows: [1, 2].map(|n| (BatchId(n), close_of(n))).to_vec(),
        checkpoints: vec![closed(1), closed(2)],
        ..Transaction::default()
    });
    let closing = |rig: &Rig| rig.store.known().unwrap().blocking_recv().unwrap().unwrap();
    registry.read_whole(Generation(3), &named(30), marker(5));
    let known = closing(&rig);
    assert_eq!(known.open.len(), files.len() - 2 + 1);
    let first = [
        (20, Some(marker(5)), true),
        (21, Some(marker(6)), false),
        (30, Some(marker(5)), true),
    ];
    assert_eq!(seen(&known), first);
    rig.store.close();

    // What was about to be closed is open.
    let mut rig = Rig::start(dir.path());
    assert_eq!(seen(&rig.found.known), first[..2]);
    let depth = rig.commit(Transaction {
        deletes: vec![BatchId(1)],
        ..Transaction::default()
    });
    assert_eq!(depth.rows, 1);
    rig.commit(Transaction {
        deletes: vec![BatchId(2)],
        ..Transaction::default()
    });
    assert_eq!(seen(&closing(&rig)), first[..2]);
    // A sensor's leaves nothing, and of a stream's files those go that were changed first.
    let checkpoints = (3..=most + 3).chain([99]).map(closed).collect();
    rig.commit(Transaction {
        checkpoints,
        ..Transaction::default()
    });
    rig.store.close();
    let rig = Rig::start(dir.path());
    assert_eq!(rig.found.known.open, []);
    let since: Vec<_> = (seen(&rig.found.known).iter())
        .map(|(since_ms, ..)| *since_ms)
        .collect();
    assert_eq!(since, (6..=most + 3).chain([20, 21]).collect::<Vec<_>>());
    rig.store.close();
}

#[test]
fn a_registry_stops_waiting_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path());
    let stop = Stop::new();
    let registry = rig.store.registry(stop.clone(), 1);
    let other = Connection::open(dir.path().join("spool.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let waiter = std::thread::spawn(move || registry.register(&[generation(1, Origin::Sensor)]));
    std::thread::sleep(Duration::from_millis(10));
    stop.set();
    assert!(waiter.join().unwrap().is_err());
    drop(other);
    rig.store.close();
}

#[test]
fn what_was_used_of_budgets_survives_a_restart_and_a_salvage() {
    let dir = tempfile::tempdir().unwrap();
    let used = |budget, bytes| Used {
        budget,
        at_ms: u64::MAX - 1,
        bytes,
    };
    let mut rig = Rig::start(dir.path());
    assert_eq!(rig.found.usage, []);
    for bytes in [1, -7] {
        rig.commit(Transaction {
            usage: vec![used(0, 5), used(3, bytes)],
            rows: spooled(u64::from(bytes == 1)..=1),
            ..Transaction::default()
        });
    }
    rig.store.close();
    let mut rig = Rig::start(dir.path());
    assert_eq!(rig.found.usage, [used(0, 5), used(3, -7)]);
    rig.store.heal(Healing::default()).unwrap();
    assert!(matches!(
        rig.replies.blocking_recv(),
        Some(Reply::Healed { .. })
    ));
    rig.store.close();
    let database = Connection::open(dir.path().join("spool.db")).unwrap();
    database
        .execute("UPDATE usage SET bytes = 6 WHERE budget = 0", [])
        .unwrap();
    drop(database);
    let rig = Rig::start(dir.path());
    assert_eq!(
        rig.found.usage,
        [used(3, -7)],
        "one that is not whole is none"
    );
    rig.store.close();
}
