//! What gives way where there is no room.

use super::*;

/// Rows `from` to `through`, and whatever must give way to them.
fn squeezed(rig: &mut Rig, ids: std::ops::RangeInclusive<u64>, evict: Evict) -> Depth {
    rig.commit(Transaction {
        rows: large(ids),
        evict: Some(evict),
        ..Transaction::default()
    })
}

fn evict(bytes_max: u64, after: u64, kept: &[u64]) -> Evict {
    Evict {
        bytes_max,
        lanes: vec![(Lane::Normal, BatchId(after))],
        kept: kept.iter().copied().map(BatchId).collect(),
    }
}

/// What the spool holds, a word for each record.
fn content(rig: &mut Rig, through: u64) -> Vec<String> {
    let (rows, _, lost) = rig.load(0, through, u64::MAX);
    assert_eq!(lost, 0);
    let records = rows.iter().flat_map(|(id, batch)| {
        batch.records().map(move |record| {
            let what = match Notice::parse(record.value) {
                Some(Notice::Loss { reason, records }) => {
                    format!("{reason} {}", records.unwrap_or(0))
                }
                Some(Notice::Close { reason, .. }) => reason,
                Some(Notice::Filtered) => "filtered".to_owned(),
                None => "data".to_owned(),
            };
            format!("{id}: {} {what}", record.span)
        })
    });
    records.collect()
}

#[test]
fn the_oldest_give_way_and_one_notice_names_them_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let full = rig.commit(Transaction {
        rows: large(1..=9),
        ..Transaction::default()
    });
    let row = full.bytes / 9;
    // A notice takes room, too: what is freed is not what enters.
    let most = full.bytes + 2 * row;
    let depth = squeezed(&mut rig, 10..=14, evict(most, 1, &[4]));
    assert!(depth.bytes <= most, "{} of {most}", depth.bytes);
    let first = content(&mut rig, 14);
    assert_eq!(first[0], "1: [10, 20) data", "it may be at hand");
    assert!(
        first[1].starts_with("2: [20, 40) spool-full 2"),
        "{first:?}"
    );
    assert_eq!(first[2], "4: [40, 50) data", "it is kept");
    assert!(first[3].starts_with("5: [50, "), "{first:?}");
    assert_eq!(first.last().unwrap(), "14: [140, 150) data");
    let notices = |content: &[String]| content.iter().filter(|line| line.contains("full")).count();
    assert_eq!(notices(&first), 2);
    // More of it, after a restart too: then a new one begins behind the old.
    for (from, to) in [(15, 20), (21, 26)] {
        let depth = squeezed(&mut rig, from..=to, evict(most, 1, &[4]));
        assert!(depth.bytes <= most, "{} of {most}", depth.bytes);
        assert_eq!(notices(&content(&mut rig, to)), 2, "joined");
    }
    let evicted: u64 = content(&mut rig, 26)
        .iter()
        .filter_map(|line| line.rsplit_once("full ")?.1.parse::<u64>().ok())
        .sum();
    let depth = rig.commit(Transaction::default());
    assert_eq!(
        (depth.evicted.rows, depth.evicted.records),
        (evicted, evicted)
    );
    rig.store.close();
    let mut rig = Rig::start(dir.path());
    let depth = squeezed(&mut rig, 27..=30, evict(most, 1, &[4]));
    assert!(depth.bytes <= most + row, "{} of {most}", depth.bytes);
    let last = content(&mut rig, 30);
    assert_eq!(notices(&last), 3, "{last:?}");
    // Nothing is missing, and nothing is there twice.
    let mut end = 10;
    for line in last {
        let (start, rest) = line.split_once('[').unwrap().1.split_once(", ").unwrap();
        assert_eq!(start.parse::<u64>().unwrap(), end);
        end = rest.split_once(')').unwrap().0.parse().unwrap();
    }
    assert_eq!(end, 310);
    rig.store.close();
}

#[test]
fn what_was_at_hand_and_is_left_again_gives_way_before_what_is_younger() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let full = rig.commit(Transaction {
        rows: large(1..=9),
        ..Transaction::default()
    });
    let data = |content: &[String]| -> Vec<u64> {
        let lines = content.iter().filter(|line| line.ends_with("data"));
        lines
            .filter_map(|line| line.split_once(':')?.0.parse().ok())
            .collect()
    };
    // 1 to 3 were read, and 5 is on its way since before it was spooled.
    squeezed(&mut rig, 10..=11, evict(full.bytes, 3, &[5]));
    let left = data(&content(&mut rig, 11));
    assert_eq!(left[..4], [1, 2, 3, 5], "{left:?}");
    // None of them arrived.
    squeezed(&mut rig, 12..=12, evict(full.bytes, 0, &[]));
    let next = data(&content(&mut rig, 12));
    assert!(!next.contains(&1), "{next:?}");
    let younger = |ids: &[u64]| ids.iter().filter(|id| (6..=11).contains(*id)).count();
    assert_eq!(younger(&next), younger(&left), "{next:?}");
    squeezed(&mut rig, 13..=15, evict(full.bytes, 0, &[]));
    let last = data(&content(&mut rig, 15));
    assert!(
        !last.contains(&5) || younger(&last) == younger(&left),
        "{last:?}"
    );
    rig.store.close();
}

#[test]
fn batches_smaller_than_a_notice_make_room_where_a_file_has_more_than_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = owner(dir.path());
    let before = owner.commit(&Transaction {
        rows: spooled(1..=20),
        ..Transaction::default()
    });
    let before = before.unwrap();
    assert!(before.bytes / 20 < 100, "{before:?}");
    owner.floors.bytes = u64::MAX;
    let mut depth = before;
    for id in 21..=40 {
        let room = depth.room.unwrap_or(0);
        let bytes_max = depth.bytes + if id == 21 { 0 } else { room };
        depth = (owner.commit(&Transaction {
            rows: spooled(id..=id),
            evict: Some(evict(bytes_max, 0, &[])),
            ..Transaction::default()
        }))
        .unwrap();
    }
    assert!(depth.evicted.rows > 5, "{depth:?}");
    assert!(depth.bytes <= before.bytes + 500, "{depth:?}");
}

#[test]
fn a_notice_is_never_given_up_and_a_close_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let kinds = [Kind::Data, Kind::Data, Kind::Loss, Kind::Data, Kind::Close];
    rig.commit(Transaction {
        rows: vec![
            (BatchId(1), batch(10, &kinds)),
            (BatchId(2), batch(60, &[Kind::Loss])),
        ],
        ..Transaction::default()
    });
    squeezed(&mut rig, 7..=7, evict(0, 0, &[]));
    assert_eq!(
        content(&mut rig, 7),
        [
            "1: [10, 30) spool-full 2",
            "1: [30, 40) data", // The loss of the sample, which is no notice that can be read.
            "1: [40, 50) spool-full 1",
            "1: [50, 60) data",
            "2: [60, 70) data",
            "7: [70, 80) data",
        ]
    );
    rig.store.close();
}

#[test]
fn lanes_are_apart_and_the_lowest_gives_way_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let low = Lane::Low.first();
    let (mut low_row, normal_row) = (large(2..=2), large(1..=1));
    low_row[0].0 = low;
    let depth = rig.commit(Transaction {
        rows: low_row.into_iter().chain(normal_row).collect(),
        ..Transaction::default()
    });
    assert!(depth.data_bytes[Lane::Low.index()] > 0 && depth.data_bytes[Lane::High.index()] == 0);
    let lanes = vec![(Lane::Low, low.before()), (Lane::Normal, BatchId(0))];
    let depth = rig.commit(Transaction {
        rows: large(3..=3),
        evict: Some(Evict {
            bytes_max: depth.bytes + 1000,
            lanes,
            ..evict(0, 0, &[])
        }),
        ..Transaction::default()
    });
    assert_eq!(depth.data_bytes[Lane::Low.index()], 0);
    assert!(depth.data_bytes[Lane::Normal.index()] > 0);
    rig.store.close();
    let rig = Rig::start(dir.path());
    assert_eq!(rig.found.last, [BatchId(3), BatchId(1 << 60), low]);
    rig.store.close();
}

#[test]
fn what_cannot_give_way_makes_no_room_below_the_floor() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = owner(dir.path());
    let before = owner.commit(&Transaction {
        rows: large(1..=8),
        ..Transaction::default()
    });
    let before = before.unwrap();
    owner.floors.bytes = u64::MAX;
    let replacing = |kept: &[u64]| Transaction {
        rows: large(9..=9),
        evict: Some(evict(before.bytes, 0, kept)),
        ..Transaction::default()
    };
    let all: Vec<u64> = (1..=8).collect();
    assert_eq!(owner.commit(&replacing(&all)), Err(Trouble::Floor));
    assert_eq!(
        owner.commit(&replacing(&all[1..])),
        Err(Trouble::Floor),
        "one is too little"
    );
    let after = owner.commit(&replacing(&[])).unwrap();
    assert!(after.bytes <= before.bytes, "{after:?}");
    assert!((2..8).contains(&after.evicted.rows), "{after:?}");
}

#[test]
fn a_row_that_holds_a_notice_ends_the_one_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    rig.commit(Transaction {
        rows: vec![
            (BatchId(1), batch(10, &[Kind::Data])),
            (BatchId(2), batch(20, &[Kind::Data])),
            (BatchId(3), batch(30, &[Kind::Loss, Kind::Data])),
        ],
        ..Transaction::default()
    });
    let depth = squeezed(&mut rig, 5..=5, evict(0, 0, &[]));
    assert_eq!(
        content(&mut rig, 5),
        [
            "1: [10, 30) spool-full 2",
            "3: [30, 40) data", // The loss, as above.
            "3: [40, 50) spool-full 1",
            "5: [50, 60) data",
        ]
    );
    assert_eq!((depth.evicted.rows, depth.evicted.records), (3, 3));
    rig.store.close();
}

#[test]
fn nothing_gives_way_into_a_notice_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let full = rig.commit(Transaction {
        rows: large(1..=9),
        ..Transaction::default()
    });
    squeezed(&mut rig, 10..=11, evict(full.bytes, 0, &[]));
    let left = content(&mut rig, 11);
    // Of somebody else's doing.
    let database = Connection::open(dir.path().join("spool.db")).unwrap();
    let gone = database.execute("DELETE FROM batch WHERE id = 1", []);
    assert_eq!(gone, Ok(1));
    let transaction = Transaction {
        rows: large(12..=12),
        evict: Some(evict(0, 0, &[])),
        ..Transaction::default()
    };
    rig.store.commit(transaction).unwrap();
    let refused = rig.replies.blocking_recv();
    assert!(
        matches!(refused, Some(Reply::CommitFailed(Trouble::Damaged))),
        "{refused:?}"
    );
    assert_eq!(content(&mut rig, 11), left[1..]);
    rig.store.close();
}

#[test]
fn nothing_joins_a_notice_that_was_delivered_and_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let mut rows = large(1..=9);
    Arc::get_mut(&mut rows[0].1).unwrap().generation = Generation(1);
    let full = rig.commit(Transaction {
        rows,
        ..Transaction::default()
    });
    // The first was read, and is on its way.
    squeezed(&mut rig, 10..=11, evict(full.bytes, 0, &[1]));
    let before = content(&mut rig, 11);
    let (_, delivered) = before[1].split_once("2: [20, ").unwrap();
    let (delivered, _) = delivered.split_once(") spool-full").unwrap();
    // The notice, too; it arrived, and the first comes back.
    rig.commit(Transaction {
        deletes: vec![BatchId(2)],
        ..Transaction::default()
    });
    squeezed(&mut rig, 12..=12, evict(0, 0, &[]));
    let after = content(&mut rig, 12);
    let expected = format!(
        "[{delivered}, 120) spool-full {}",
        12 - delivered.parse::<u64>().unwrap() / 10
    );
    assert_eq!(after.len(), 3, "{after:?}");
    assert_eq!(after[0], "1: [10, 20) spool-full 1");
    assert!(after[1].ends_with(&expected), "{after:?}, not {expected}");
    assert_eq!(after[2], "12: [120, 130) data");
    rig.store.close();
}
