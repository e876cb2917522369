//! A run that was cut off with the system.

use super::*;
use crate::discover::sizes::Sizes;

const PLACE: (u64, u64) = (u64::MAX, 1 << 63);

fn cut_off(dir: &Path, sizes: &[u64]) -> Rig {
    let mut noted = Sizes::default();
    for size in sizes {
        noted.insert(PLACE, *size);
    }
    let present = Present {
        cut_off: Some(noted),
        ..Present::default()
    };
    let rig = Rig::on(dir, present);
    assert!(!rig.found.not_split);
    rig
}

/// A file of which 77 bytes are settled, and 80 were read.
fn file_read() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let registry = rig.store.registry(Stop::new(), 1);
    let file = OpenGeneration {
        skip_to: None,
        ..generation(1, Origin::File(file(b"/a")))
    };
    let sensor = OpenGeneration {
        skip_to: None,
        ..generation(3, Origin::Sensor)
    };
    registry.register(&[file, sensor]).unwrap();
    registry.cut(Generation(1), 79).unwrap();
    let marker = Marker {
        end: 80,
        len: 64,
        sum: 9,
    };
    registry.mark(Generation(1), marker, 1 << 40);
    settle(&mut rig, Generation(1), 77, false);
    rig.store.close();
    dir
}

fn settle(rig: &mut Rig, generation: Generation, settled: u64, closed: bool) {
    rig.commit(Transaction {
        checkpoints: vec![Checkpoint {
            generation,
            settled,
            closed,
        }],
        ..Transaction::default()
    });
}

/// The generations of the file, and where each ends.
fn chain(open: &[OpenGeneration]) -> Vec<(u64, u64, Option<u64>)> {
    let files = open.iter().filter(|open| open.origin != Origin::Sensor);
    files
        .flat_map(OpenGeneration::chain)
        .map(|open| {
            let end = open.goes_on.as_ref().map(|on| on.at);
            (open.settled, open.read_from(), end)
        })
        .collect()
}

fn open_of(rig: Rig) -> Vec<OpenGeneration> {
    let open = rig.found.known.open;
    rig.store.close();
    open
}

#[test]
fn a_file_goes_on_under_another_generation_and_a_sensor_does_not() {
    for (sizes, at) in [(&[][..], 80), (&[500], 500)] {
        let dir = file_read();
        let open = open_of(cut_off(dir.path(), sizes));
        assert_eq!(chain(&open), [(77, 77, Some(at)), (0, at, None)]);
        assert_eq!(open.len(), 2, "and the sensor");
        let file = open.iter().find(|open| open.goes_on.is_some()).unwrap();
        let next = file.chain().last().unwrap();
        assert_eq!(file.cuts, [79]);
        assert_eq!((next.cuts.len(), next.marker), (0, file.marker));
        assert_eq!((&next.origin, &next.stream), (&file.origin, &file.stream));
        // So it is at the next start of the same boot.
        assert_eq!(open_of(Rig::start(dir.path())), open);
    }
    let dir = file_read();
    let open = open_of(cut_off(dir.path(), &[79]));
    assert_eq!(chain(&open), [(77, 77, None)], "it is looked for");
}

#[test]
fn a_generation_that_went_on_is_over_once_it_is_closed_and_its_file_is_the_others() {
    let dir = file_read();
    let mut rig = cut_off(dir.path(), &[500]);
    let next = rig.found.known.open.iter().flat_map(OpenGeneration::chain);
    let next = next.map(|open| open.generation).max().unwrap();
    settle(&mut rig, Generation(1), 500, true);
    rig.store.close();
    let rig = Rig::start(dir.path());
    assert_eq!(chain(&rig.found.known.open), [(0, 500, None)]);
    let names = rig.found.known.open.iter().map(|open| open.generation);
    assert!(names.into_iter().any(|name| name == next));
    assert_eq!(rig.found.known.closed, []);
    rig.store.close();
}

#[test]
fn each_cut_ends_the_last_of_them_alone() {
    let dir = file_read();
    drop(open_of(cut_off(dir.path(), &[500])));
    let open = open_of(cut_off(dir.path(), &[600]));
    let expected = [(77, 77, Some(500)), (0, 500, Some(600)), (0, 600, None)];
    assert_eq!(chain(&open), expected);
    // On other hardware all of them have other names, and end where they ended.
    let moved = Present {
        hardware: crate::hardware::Mark::new(crate::hardware::Kind::Board, b"1")
            .into_iter()
            .collect(),
        cut_off: None,
    };
    assert_eq!(
        chain(&open_of(Rig::on(dir.path(), moved.clone()))),
        expected
    );
    let other = Present {
        hardware: crate::hardware::Mark::new(crate::hardware::Kind::Board, b"2")
            .into_iter()
            .collect(),
        cut_off: Some(Sizes::default()),
    };
    let moved = open_of(Rig::on(dir.path(), other));
    let expected = [(0, 77, Some(500)), (0, 500, Some(600)), (0, 600, None)];
    assert_eq!(chain(&moved), expected, "and are not split besides");
}

#[test]
fn where_a_row_was_lost_its_file_ends_where_it_ends() {
    let dir = file_read();
    let open = open_of(cut_off(dir.path(), &[500]));
    let next = open.iter().flat_map(OpenGeneration::chain);
    let next = next.map(|open| open.generation.0).max().unwrap();
    let database = Connection::open(dir.path().join("spool.db")).unwrap();
    database
        .execute("DELETE FROM generation WHERE id = ?1", [next.cast_signed()])
        .unwrap();
    drop(database);
    let open = open_of(Rig::start(dir.path()));
    assert_eq!(chain(&open), [(77, 77, Some(500))]);
    // What says so is checked.
    let database = Connection::open(dir.path().join("spool.db")).unwrap();
    let other = "UPDATE generation SET goes_on = zeroblob(20) WHERE id = 1";
    database.execute_batch(other).unwrap();
    drop(database);
    let open = open_of(Rig::start(dir.path()));
    assert_eq!(chain(&open), [(77, 77, None)], "salvaged without");
}
