//! What lies in the spool goes first, and how much is under way.

use super::*;

#[test]
fn the_spool_goes_first_and_is_loaded_as_it_drains() {
    let mut rig = Rig::over(settings(), 3);
    assert_eq!(rig.apply(Event::Tick), ["load 0..3"]);
    assert_eq!(rig.queue(), [""; 0], "it waits for those before it");
    let rows = [1, 2]
        .map(|id| (BatchId(id), rig.batch(100, Kind::Data)))
        .into();
    let reply = Reply::Loaded {
        rows,
        through: BatchId(2),
        lost: 0,
    };
    assert_eq!(
        rig.apply(Event::Store(reply)),
        ["send 1", "send 2", "load 2..3"]
    );
    let rows = vec![(BatchId(3), rig.batch(100, Kind::Data))];
    let reply = Reply::Loaded {
        rows,
        through: BatchId(3),
        lost: 0,
    };
    assert_eq!(rig.apply(Event::Store(reply)), ["send 3", "send 4"]);
}

#[test]
fn what_waits_behind_the_spool_is_spooled_too_and_gives_the_window_back() {
    let mut rig = Rig::over(settings(), 3);
    assert_eq!(rig.apply(Event::Tick), ["load 0..3"]);
    rig.queue();
    assert_eq!(rig.wait(2000)[1..], ["commit +[ 4 ] -[ ] @[ 10 ]"]);
    assert_eq!(rig.committed(4), [""; 0]);
    assert_eq!(rig.budget.used(), 0);
    let reply = Reply::Loaded {
        rows: Vec::new(),
        through: BatchId(3),
        lost: 0,
    };
    assert_eq!(rig.apply(Event::Store(reply)), ["load 3..4"]);
}

#[test]
fn where_no_row_can_be_deleted_only_so_many_are_sent() {
    let all = 2 * sending::GONE_MAX as u64;
    let flash_bytes_per_day = Some(256_000);
    let mut rig = Rig::over(
        Settings {
            flash_bytes_per_day,
            ..settings()
        },
        all,
    );
    rig.apply(Event::Written(0));
    // Nothing may be written for some 400 days.
    let mut todo = rig.apply(Event::Written(100_000_000));
    todo.push("load 0..".into());
    while let Some(done) = todo.pop() {
        if let Some((after, _)) = done
            .strip_prefix("load ")
            .and_then(|ids| ids.split_once(".."))
        {
            let after: u64 = after.parse().unwrap();
            let rows = (after + 1..=after + 100).map(|id| (BatchId(id), rig.batch(1, Kind::Data)));
            let rows = rows.collect();
            let through = BatchId(after + 100);
            let loaded = Reply::Loaded {
                rows,
                through,
                lost: 0,
            };
            todo.extend(rig.apply(Event::Store(loaded)));
        } else if let Some(id) = done.strip_prefix("send ") {
            let id = id.parse().unwrap();
            todo.extend(rig.report(id, Outcome::Delivered));
        }
    }
    let gone = rig.delivery.window.gone();
    assert!((0..200).contains(&(gone - sending::GONE_MAX)), "{gone}");
    // Once they can, it goes on.
    let deletes = rig.wait(500 * 86_400_000);
    assert!(deletes[0].contains("commit +[ ] -[ 1 2 "), "{deletes:?}");
    let next = rig.committed(all);
    assert!(
        next.iter().any(|done| done.starts_with("load ")),
        "{next:?}"
    );
}

#[test]
fn a_failed_load_is_tried_again() {
    let mut rig = Rig::over(settings(), 3);
    rig.apply(Event::Tick);
    let failed = rig.apply(Event::Store(Reply::LoadFailed(Trouble::Io)));
    assert_eq!(failed, ["say DiskTrouble(Io)"]);
    assert_eq!(rig.wait(1000), ["load 0..3"]);
}

#[test]
fn in_flight_is_bounded_and_one_batch_of_any_size_goes() {
    let mut rig = Rig::new(Settings {
        in_flight_bytes_max: 800,
        ..settings()
    });
    assert_eq!(rig.queue(), ["send 1"]);
    assert_eq!(
        rig.queue(),
        ["send 2"],
        "712 bytes, librdkafka's own counted"
    );
    assert_eq!(rig.queue(), [""; 0]);
    assert_eq!(rig.report(1, Outcome::Delivered), ["send 3"]);
    let large = rig.batch(2000, Kind::Data);
    assert_eq!(rig.apply(Event::Queued(large)), [""; 0]);
    rig.report(2, Outcome::Delivered);
    assert_eq!(rig.report(3, Outcome::Delivered), ["send 4"]);
}
