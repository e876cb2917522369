//! Batches come back as they were, or as a notice.

use super::*;

#[test]
fn rows_come_back_as_they_were_in_order_and_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    assert_eq!(
        (rig.found.depth, rig.found.last),
        (Depth::default(), [0, 1 << 60, 2 << 60].map(BatchId))
    );
    let depth = rig.commit(Transaction {
        rows: spooled(1..=5),
        ..Transaction::default()
    });
    assert_eq!(depth.rows, 5);
    assert!(depth.bytes > 0 && depth.oldest_ms.is_some());
    rig.store.close();

    let mut rig = Rig::start(dir.path());
    assert_eq!((rig.found.depth, rig.found.last[0]), (depth, BatchId(5)));
    let (loaded, through, lost) = rig.load(0, 5, 25);
    let ids: Vec<_> = loaded.iter().map(|(id, _)| id.0).collect();
    assert_eq!(
        (ids.as_slice(), through, lost),
        (&[1, 2][..], 2, 0),
        "as many as fit"
    );
    let (loaded, through, _) = rig.load(2, 4, 1);
    assert_eq!(
        (loaded[0].0, loaded.len(), through),
        (BatchId(3), 1, 3),
        "one at least"
    );
    let (loaded, through, _) = rig.load(3, 4, 1000);
    assert_eq!((loaded.len(), through), (1, 4));
    let (stored, fresh) = (&loaded[0].1, batch(40, &[Kind::Data]));
    assert_eq!(
        (&stored.stream, stored.generation, stored.start),
        (&fresh.stream, fresh.generation, fresh.start)
    );
    assert_eq!(
        (&stored.entries, &stored.values),
        (&fresh.entries, &fresh.values)
    );

    let deletes = (1..=5).map(BatchId).collect();
    let depth = rig.commit(Transaction {
        deletes,
        ..Transaction::default()
    });
    assert_eq!(depth, Depth::default(), "the sums follow");
    assert_eq!(
        rig.load(0, 5, 1000).1,
        5,
        "an empty range was looked at, too"
    );
    rig.store.close();
}

#[test]
fn a_row_committed_twice_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let first = rig.commit(Transaction {
        rows: spooled(1..=2),
        ..Transaction::default()
    });
    let again = rig.commit(Transaction {
        rows: spooled(1..=2),
        deletes: vec![BatchId(9)],
        ..Transaction::default()
    });
    assert_eq!(first, again);
    rig.store.close();
}

/// In an earlier run: a salvage brings back what was delivered, and ids begin anew where the spool was empty.
#[test]
fn a_row_gives_way_to_another_batch_of_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let before = rig.commit(Transaction {
        rows: vec![(BatchId(1), batch(10, &[Kind::Data; 9]))],
        ..Transaction::default()
    });
    let after = rig.commit(Transaction {
        rows: vec![(BatchId(1), batch(200, &[Kind::Loss]))],
        ..Transaction::default()
    });
    let (loaded, ..) = rig.load(0, 1, 1000);
    let starts: Vec<_> = loaded.iter().map(|(_, batch)| batch.start).collect();
    assert_eq!(starts, [200]);
    assert_eq!((after.rows, after.data_bytes[0]), (1, 0));
    assert!(after.bytes < before.bytes, "{after:?}");
    rig.store.close();
}

#[test]
fn a_row_that_is_whole_and_unreadable_becomes_a_notice_of_its_range() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let mut all = spooled(1..=2);
    all.push((BatchId(3), batch(30, &[Kind::Data, Kind::Close])));
    rig.commit(Transaction {
        rows: all,
        ..Transaction::default()
    });
    rig.store.close();
    // As a mistake of ours would leave them: with a checksum that holds.
    let database = Connection::open(dir.path().join("spool.db")).unwrap();
    for id in [1, 3] {
        let row = database
            .query_row(
                include_str!("../../sql/load_batches.sql"),
                [id - 1, id],
                rows::stored_row,
            )
            .unwrap();
        let row = Row {
            blob: vec![0; 9],
            ..row
        };
        let checksum = row.with_checksum().checksum;
        database
            .execute(
                "UPDATE batch SET blob = zeroblob(9), checksum = ?1 WHERE id = ?2",
                [i64::from(checksum), id],
            )
            .unwrap();
    }
    drop(database);

    let mut rig = Rig::start(dir.path());
    let (loaded, _, lost) = rig.load(0, 3, 10_000);
    assert_eq!((loaded.len(), lost), (3, 2));
    let seen = |at: usize| {
        let records = loaded[at].1.records();
        records
            .map(|record| {
                (
                    record.span.to_string(),
                    record.kind,
                    Notice::parse(record.value),
                )
            })
            .collect::<Vec<_>>()
    };
    let reason = || reason::SPOOL_CORRUPT.to_owned();
    let of = |records| Notice::Loss {
        reason: reason(),
        records: Some(records),
    };
    let close = Notice::Close {
        reason: reason(),
        tail: Tail::Unknown,
    };
    assert_eq!(seen(0), [("[10, 20)".to_owned(), Kind::Loss, Some(of(1)))]);
    assert_eq!(seen(1)[0].1, Kind::Data, "its neighbour is whole");
    assert_eq!(
        seen(2),
        [
            ("[30, 50)".to_owned(), Kind::Loss, Some(of(2))),
            ("[50, 50)".to_owned(), Kind::Close, Some(close)),
        ]
    );
    rig.store.close();
}
