//! Lanes that drop, and lanes that wait, where there is no room.

use super::*;

/// Nothing is sent: what is in flight could not be given up.
fn dropping(spool_bytes_max: u64) -> Rig {
    let mut rig = Rig::new(Settings {
        when_full: [WhenFull::DropOldest; Lane::COUNT],
        spool_bytes_max,
        ..settings()
    });
    rig.apply(clock(false));
    rig
}

fn failed(rig: &mut Rig, trouble: Trouble) -> Vec<String> {
    rig.apply(Event::Store(Reply::CommitFailed(trouble)))
}

fn holding(bytes: u64) -> Event {
    Event::Store(Reply::Committed(Depth {
        rows: 1,
        bytes,
        ..Depth::default()
    }))
}

#[test]
fn below_the_floor_a_lane_that_drops_waits_with_what_it_has() {
    let mut rig = dropping(1 << 30);
    rig.queue();
    assert_eq!(rig.wait(2000), ["commit +[ 1 ] -[ ] @[ 10 ]"]);
    assert_eq!(failed(&mut rig, Trouble::Floor), ["say SpoolFull(Normal)"]);
    let mut queued = 1;
    while rig.budget.used() < 4000 {
        let done = rig.queue();
        assert!(!done.iter().any(|done| done.contains("commit")), "{done:?}");
        queued += 1;
    }
    assert_eq!(queued, 40, "and then the sources wait");
    assert_eq!(rig.wait(29_999), [""; 0]);
    assert!(rig.wait(1)[0].starts_with("commit +[ 1 2"));
    assert_eq!(failed(&mut rig, Trouble::Floor), [""; 0], "it was said");
    assert!(rig.delivery.next_deadline() >= Some(rig.now.plus(Duration::from_secs(30))));
    let counters = rig.delivery.counters();
    assert_eq!(
        (counters.dropped, counters.full_waits, counters.refused),
        (0, 1, 0)
    );
    assert_eq!(rig.budget.used(), 4000, "nothing is given up");
    assert!(rig.delivery.spool_full());
    // Somebody frees some.
    rig.wait(30_000);
    assert_eq!(rig.committed(40), ["say SpoolRoom"]);
    assert_eq!((rig.budget.used(), rig.delivery.spool_full()), (0, false));
}

#[test]
fn a_notice_takes_no_room_that_is_not_there() {
    let mut rig = dropping(150);
    rig.queue();
    rig.wait(2000);
    rig.apply(holding(140));
    rig.queue();
    assert_eq!(rig.wait(2000), ["say SpoolFull(Normal)"]);
    assert_eq!(rig.wait(600_000), [""; 0]);
    assert_eq!(
        (rig.delivery.counters().dropped, rig.budget.used()),
        (0, 100)
    );
}

#[test]
fn what_is_given_up_is_gone_with_its_commit_and_not_before() {
    let mut rig = dropping(500);
    rig.queue();
    rig.wait(2000);
    rig.apply(holding(250));
    let large = rig.batch(300, Kind::Data);
    rig.apply(Event::Queued(large));
    assert_eq!(
        rig.wait(2000),
        ["say Dropping(Normal)", "commit +[ 2 ] -[ ] @[ 20 ]"]
    );
    assert_eq!(rig.budget.used(), 300);
    failed(&mut rig, Trouble::Io);
    assert_eq!(
        (rig.delivery.counters().dropped, rig.budget.used()),
        (0, 300)
    );
    assert_eq!(rig.wait(60_000), ["commit +[ 2 ] -[ ] @[ 20 ]"]);
    rig.committed(2);
    let counters = rig.delivery.counters();
    assert_eq!((counters.dropped, counters.dropped_records), (1, 1));
    assert_eq!(rig.budget.used(), 0);
}

#[test]
fn what_cannot_give_way_at_the_moment_is_not_asked_for_again_and_again() {
    let mut rig = dropping(1 << 30);
    rig.queue();
    rig.wait(2000);
    // All of it is at hand, as far as the store is concerned.
    let depth = Depth {
        rows: 1,
        bytes: 100,
        data_bytes: [100, 0, 0],
        room: Some(0),
        ..Depth::default()
    };
    rig.apply(Event::Store(Reply::Committed(depth)));
    rig.queue();
    assert!(rig.wait(2000)[1].starts_with("commit +[ 2 ]"));
    assert_eq!(failed(&mut rig, Trouble::Floor), ["say SpoolFull(Normal)"]);
    assert_eq!(rig.wait(29_999), [""; 0]);
    // What it was in flight with is reported: it may give way now.
    assert!(rig.report(9, Outcome::Delivered)[0].starts_with("commit +[ 2 ]"));
    failed(&mut rig, Trouble::Floor);
    assert!(rig.wait(30_000)[0].starts_with("commit +[ 2 ]"));
}

#[test]
fn where_the_disk_has_less_than_was_known_more_gives_way_at_once() {
    let mut rig = dropping(1 << 30);
    rig.queue();
    rig.wait(2000);
    let depth = Depth {
        rows: 9,
        bytes: 900,
        data_bytes: [900, 0, 0],
        room: Some(50),
        ..Depth::default()
    };
    rig.apply(Event::Store(Reply::Committed(depth)));
    rig.queue();
    let commit = "commit +[ 2 ] -[ ] @[ 20 ]";
    assert_eq!(rig.wait(2000), ["say Dropping(Normal)", commit]);
    // Others took the 50 bytes meanwhile: now all of them are to come from the database.
    assert_eq!(failed(&mut rig, Trouble::Floor), [commit]);
    // And where that is not enough, nothing is.
    assert_eq!(failed(&mut rig, Trouble::Floor), ["say SpoolFull(Normal)"]);
    assert_eq!(rig.wait(29_999), [""; 0]);
}

#[test]
fn a_stop_waits_for_rows_that_are_being_read_and_may_have_to_give_way() {
    let settings = Settings {
        when_full: [WhenFull::DropOldest; Lane::COUNT],
        spool_bytes_max: 450,
        ..settings()
    };
    let mut rig = Rig::over(settings, 3);
    assert_eq!(rig.apply(Event::Tick), ["load 0..3"]);
    rig.queue();
    assert_eq!(rig.apply(Event::Stop), [""; 0]);
    let rows = vec![(BatchId(3), rig.batch(100, Kind::Data))];
    let reply = Reply::Loaded {
        rows,
        through: BatchId(3),
        lost: 0,
    };
    assert_eq!(
        rig.apply(Event::Store(reply)),
        ["commit +[ 4 ] -[ ] @[ 10 ]"]
    );
    assert_eq!(rig.committed(4), ["done"]);
    // A disk that hangs holds it up no longer than the last commit may take.
    let mut rig = Rig::over(settings, 3);
    rig.apply(Event::Tick);
    rig.queue();
    rig.apply(Event::Stop);
    assert_eq!(
        rig.wait(5000),
        ["say LeftBehind { batches: 1 }".to_owned(), "done".into()]
    );
}

#[test]
fn a_disk_that_was_short_is_looked_at_again_though_nothing_else_is_written() {
    let mut rig = Rig::new(settings());
    rig.queue();
    rig.wait(2000);
    let depth = Depth {
        rows: 1,
        bytes: 100,
        room: Some(50),
        ..Depth::default()
    };
    rig.apply(Event::Store(Reply::Committed(depth)));
    rig.queue();
    assert_eq!(rig.wait(2000), ["say SpoolFull(Normal)"]);
    assert_eq!(rig.wait(30_000), ["commit +[ 2 ] -[ ] @[ 20 ]"]);
}

/// A lane's part of a budget is used up, the spool has no room, and the window is as full of the lane as may be.
#[test]
fn a_lane_that_waits_holds_up_no_higher_one() {
    let mut rig = Rig::new(Settings {
        spool_bytes_max: 150,
        uplink: UplinkSettings {
            budgets: Budgets {
                hour: Some(1000),
                ..Budgets::default()
            },
            ..UplinkSettings::default()
        },
        ..settings()
    });
    let lanes = [("s", Lane::Normal), ("alarms", Lane::High)];
    let lanes = lanes.map(|(source, lane)| (source.parse().unwrap(), lane));
    rig.delivery.set_lanes(lanes.into());
    let waiting = [true, true, false];
    rig.budget = Budget::with_shares(
        4000,
        Shares {
            waiting,
            ..Shares::default()
        },
    );
    rig.apply(Event::Wall(WALL));
    assert_eq!(rig.queue(), ["recreate", "send 1"]);
    rig.report(1, Outcome::Delivered);
    rig.apply(Event::Wire(950));
    let mut queued = 0;
    while let Some(permit) = rig.budget.take(Lane::Normal, 100, Duration::ZERO) {
        let mut batch = rig.batch(100, Kind::Data);
        batch.permit = Some(permit);
        let done = rig.apply(Event::Queued(batch));
        queued += 1;
        assert!(
            !done.iter().any(|done| done.starts_with("send")),
            "{done:?}"
        );
        if done.iter().any(|done| done.starts_with("commit")) {
            rig.committed(1);
        }
    }
    rig.wait(60_000);
    assert!(rig.delivery.spool_full());
    assert_eq!(
        (queued, rig.budget.used()),
        (36, 3500),
        "one is in the spool"
    );
    for n in 0..10 {
        let mut alarm = rig.batch(100, Kind::Data);
        rig.end -= 10;
        (alarm.stream, alarm.generation) = (StreamId::parse("d/alarms/p").unwrap(), Generation(2));
        (alarm.start, alarm.entries[0].end) = (n * 10, n * 10 + 10);
        alarm.permit = rig.budget.take(Lane::High, 100, Duration::ZERO);
        assert!(alarm.permit.is_some(), "there is no room for it");
        let id = Lane::High.first().0 + n;
        assert_eq!(rig.apply(Event::Queued(alarm)), [format!("send {id}")]);
        rig.report(id, Outcome::Delivered);
        // A second later it is counted.
        rig.apply(Event::Wire(1));
    }
    assert_eq!(rig.budget.used(), 3500);
}
