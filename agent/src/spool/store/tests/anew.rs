//! A state directory on other hardware.

use std::collections::BTreeSet;

use rusqlite::TransactionBehavior;

use super::*;
use crate::hardware::{Kind as Names, Mark, Marks};
use crate::spool::anew::{self, Moved};
use crate::spool::{generations, hardware};

fn marks(serial: &str) -> Marks {
    Mark::new(Names::Board, serial.as_bytes())
        .into_iter()
        .collect()
}

fn board(serial: &str) -> Present {
    Present {
        hardware: marks(serial),
        cut_off: None,
    }
}

/// As if the directory were copied from an image: its database was closed, so that is one file.
fn copied(from: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(from.join("spool.db"), dir.path().join("spool.db")).unwrap();
    dir
}

fn open_of(rig: Rig) -> Vec<OpenGeneration> {
    let mut open = rig.found.known.open;
    open.sort_by_key(|open| (open.settled, open.skip_to));
    rig.store.close();
    open
}

fn names(open: &[OpenGeneration]) -> BTreeSet<Generation> {
    open.iter().map(|open| open.generation).collect()
}

/// A file of which 77 bytes are settled, one in the spool as well, one of which nothing is, and a sensor; made on
/// the board "1". `spooled`: whether the spool holds a batch.
fn image(spooled: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::on(dir.path(), board("1"));
    let registry = rig.store.registry(Stop::new(), 1);
    let of = |n, path: &[u8]| OpenGeneration {
        skip_to: None,
        ..generation(n, Origin::File(file(path)))
    };
    let journal = OpenGeneration {
        stream: StreamId::parse("d/j/journal/739ad463348b4ceca5a9e69c95a3c93f").unwrap(),
        marker: Some(Marker {
            end: 5,
            len: 1,
            sum: 2,
        }),
        skip_to: Some(5),
        ..generation(4, Origin::Sensor)
    };
    let sensor = OpenGeneration {
        skip_to: None,
        ..generation(3, Origin::Sensor)
    };
    registry
        .register(&[of(1, b"/a"), of(2, b"/b"), sensor, journal])
        .unwrap();
    registry.cut(Generation(1), 90).unwrap();
    let marker = Marker {
        end: 80,
        len: 64,
        sum: 9,
    };
    registry.mark(Generation(1), marker, 1 << 40);
    let mut batch = batch(67, &[Kind::Data]);
    Arc::get_mut(&mut batch).unwrap().generation = Generation(1);
    rig.commit(Transaction {
        rows: spooled.then_some((BatchId(1), batch)).into_iter().collect(),
        checkpoints: vec![
            Checkpoint {
                generation: Generation(1),
                settled: 77,
                closed: false,
            },
            Checkpoint {
                generation: Generation(3),
                settled: 12,
                closed: false,
            },
        ],
        ..Transaction::default()
    });
    rig.store.close();
    dir
}

#[test]
fn other_hardware_goes_on_under_new_names_and_the_same_does_not() {
    let image = image(false);
    let before = open_of(Rig::on(image.path(), board("1")));
    assert_eq!(names(&before), [1, 2, 3, 4].map(Generation).into());
    // Marks that are not there are no difference.
    assert_eq!(open_of(Rig::start(image.path())), before);

    let (first, second) = (copied(image.path()), copied(image.path()));
    let one = open_of(Rig::on(first.path(), board("2")));
    let two = open_of(Rig::on(second.path(), board("3")));
    for clone in [&one, &two] {
        let expect = before.iter().map(|old| {
            let new = clone.iter().find(|new| match &old.origin {
                Origin::File(_) => new.origin == old.origin,
                Origin::Sensor => new.stream == old.stream && new.origin == Origin::Sensor,
            });
            let new = new.unwrap_or_else(|| panic!("{old:?} is gone"));
            if old.generation == Generation(3) {
                // A run that ended: its tail is told under its own name.
                return old.clone();
            }
            assert!(new.generation.0 > 4, "{new:?}");
            let (settled, skip_to) = match old.generation.0 {
                1 => (0, Some(77)),
                2 => (0, None),
                _ => (0, Some(5)),
            };
            OpenGeneration {
                generation: new.generation,
                settled,
                skip_to,
                ..old.clone()
            }
        });
        let mut expect: Vec<_> = expect.collect();
        expect.sort_by_key(|open| (open.settled, open.skip_to));
        assert_eq!(*clone, expect);
    }
    let both: BTreeSet<_> = names(&one).intersection(&names(&two)).copied().collect();
    assert_eq!(both, [Generation(3)].into(), "two clones share a name");
    // At the next start it is the same hardware.
    assert_eq!(open_of(Rig::on(first.path(), board("2"))), one);
    // And the card may go back.
    let back = open_of(Rig::on(first.path(), board("1")));
    assert!(names(&back).is_disjoint(&(&names(&one) - &[Generation(3)].into())));
}

#[test]
fn rows_keep_their_generation_and_its_own_goes_with_the_last_of_them() {
    let image = image(true);
    let mut rig = Rig::on(image.path(), board("2"));
    let new = names(&rig.found.known.open);
    assert!(!new.contains(&Generation(1)));
    let (rows, ..) = rig.load(0, 1, 1 << 20);
    assert_eq!(rows[0].1.generation, Generation(1));
    let stored = |dir: &Path| {
        let database = Connection::open(dir.join("spool.db")).unwrap();
        let count = "SELECT count(*) FROM generation WHERE id = 1 AND closed = 1 AND path IS NULL";
        database
            .query_row(count, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!(stored(image.path()), 1, "a salvage would not know of it");
    rig.commit(Transaction {
        deletes: vec![BatchId(1)],
        ..Transaction::default()
    });
    assert_eq!(stored(image.path()), 0);
    assert_eq!(names(&open_of(rig)), new);
}

#[test]
fn an_older_database_takes_the_marks_of_where_it_is() {
    let image = image(false);
    let old = Connection::open(image.path().join("spool.db")).unwrap();
    old.execute_batch("DROP TABLE hardware").unwrap();
    drop(old);
    let before = open_of(Rig::on(image.path(), board("2")));
    assert!(names(&before).contains(&Generation(1)));
    let after = open_of(Rig::on(image.path(), board("3")));
    assert!(!names(&after).contains(&Generation(1)));
}

#[test]
fn it_is_all_or_nothing_and_done_again_where_it_was_cut_short() {
    let image = image(true);
    let mut owner = owner(image.path());
    let identity = owner.opened.as_ref().unwrap().identity;
    let connection = &mut owner.opened.as_mut().unwrap().connection;
    let before = generations::all(connection, identity).unwrap();
    let mut drawn = 0..2;
    let fails = || match drawn.next() {
        Some(n) => Ok(Generation(100 + n)),
        None => Err(getrandom::Error::UNSUPPORTED),
    };
    anew::look(connection, identity, &marks("2"), fails).unwrap_err();
    assert_eq!(generations::all(connection, identity).unwrap(), before);
    assert_eq!(hardware::all(connection).unwrap(), marks("1"));

    let mut drawn = 100..;
    let draw = || Ok(Generation(drawn.next().unwrap()));
    let moved = anew::look(connection, identity, &marks("2"), draw).unwrap();
    let expect = Moved {
        kinds: vec![Names::Board],
        generations: 3,
    };
    assert_eq!(moved, Some(expect));
    let nothing = || panic!("it is the same hardware now");
    assert_eq!(
        anew::look(connection, identity, &marks("2"), nothing).unwrap(),
        None
    );
}

#[test]
fn other_hardware_that_cannot_be_written_down_is_an_error_and_the_same_is_none() {
    let image = image(false);
    let mut owner = owner(image.path());
    let identity = owner.opened.as_ref().unwrap().identity;
    let connection = &mut owner.opened.as_mut().unwrap().connection;
    connection.pragma_update(None, "query_only", "ON").unwrap();
    let draw = || Ok(Generation(100));
    let known = &(marks("1").iter())
        .chain(Mark::new(Names::Product, b"u"))
        .collect();
    assert_eq!(anew::look(connection, identity, known, draw).unwrap(), None);
    anew::look(connection, identity, &marks("2"), draw).unwrap_err();
}

#[test]
fn a_salvage_keeps_the_marks() {
    let image = image(true);
    let mut rig = Rig::on(image.path(), board("1"));
    rig.store.heal(Healing::default()).unwrap();
    let healed = rig.replies.blocking_recv();
    assert!(matches!(healed, Some(Reply::Healed { .. })), "{healed:?}");
    rig.store.close();
    let moved = open_of(Rig::on(image.path(), board("2")));
    assert!(!names(&moved).contains(&Generation(1)), "{moved:?}");
}

#[test]
fn a_mark_that_is_damaged_or_of_a_later_version_counts_for_none() {
    let image = image(false);
    let mut database = Connection::open(image.path().join("spool.db")).unwrap();
    let open = database
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .unwrap();
    open.execute_batch(
        "UPDATE hardware SET checksum = checksum + 1; INSERT INTO hardware VALUES (5, 200, 1)",
    )
    .unwrap();
    open.commit().unwrap();
    assert_eq!(hardware::all(&database).unwrap(), Marks::default());
}
