//! Hours, cycles, and the clock that they go by.

use super::*;

#[test]
fn hours_are_those_of_the_clock_that_was_set_not_of_the_one_before() {
    const HOUR_MS: u64 = 3_600_000;
    let mut rig = Rig::new(Settings {
        uplink: UplinkSettings {
            hours: Some("00:00-01:00".parse().unwrap()),
            ..UplinkSettings::default()
        },
        ..settings()
    });
    // Ten minutes past midnight, in 1970.
    let wall_ms = 600_000;
    rig.apply(Event::Clock {
        set: false,
        wall_ms,
    });
    rig.queue();
    rig.wait(2000);
    rig.committed(1);
    assert_eq!(
        rig.apply(clock(true)),
        ["say ClockSet"],
        "it is ten past five"
    );
    assert_eq!(rig.wait(HOUR_MS), [""; 0]);
    // And a step into them counts at once.
    let midnight = WALL - WALL % (24 * HOUR_MS);
    assert_eq!(rig.apply(Event::Wall(midnight)), ["recreate", "load 0..1"]);
}

#[test]
fn while_the_clock_is_unset_nothing_is_sent_and_the_spool_holds() {
    let mut rig = Rig::new(settings());
    rig.delivery.without_producer();
    assert_eq!(rig.apply(clock(false)), ["say ClockUnset"]);
    assert_eq!(rig.queue(), [""; 0]);
    // The broker is not blamed.
    assert_eq!(rig.wait(2000), ["commit +[ 1 ] -[ ] @[ 10 ]"]);
    assert_eq!(rig.committed(1), [""; 0]);
    assert_eq!(rig.apply(clock(false)), [""; 0]);
    assert_eq!(rig.wait(3_600_000), [""; 0]);
    // Set: a producer, and what waited.
    assert_eq!(
        rig.apply(clock(true)),
        ["say ClockSet", "recreate", "load 0..1"]
    );
}

#[test]
fn a_cycle_connects_for_what_there_is_and_spools_meanwhile() {
    let mut rig = Rig::new(Settings {
        uplink: UplinkSettings {
            session: Session::Cycle,
            every: Duration::from_secs(60),
            place: 0,
            hours: None,
            budgets: Budgets::default(),
        },
        ..settings()
    });
    rig.now = Monotonic(6_000_000);
    assert_eq!(rig.queue(), [""; 0], "not now");
    assert_eq!(
        rig.wait(2000),
        ["commit +[ 1 ] -[ ] @[ 10 ]"],
        "no news: nobody is offline"
    );
    assert_eq!(rig.committed(1), [""; 0]);
    assert_eq!(rig.wait(58_000), ["recreate", "load 0..1"]);
    let batch = rig.batch(100, Kind::Data);
    rig.apply(Event::Store(Reply::Loaded {
        rows: vec![(BatchId(1), batch)],
        through: BatchId(1),
        lost: 0,
    }));
    rig.report(1, Outcome::Delivered);
    rig.wait(500);
    rig.committed(0);
    assert_eq!(rig.wait(2000), ["disconnect"]);
    assert_eq!(rig.delivery.counters().sessions, 1);
}

#[test]
fn a_session_ends_though_one_batch_is_refused_for_ever_and_more_comes_in_all_the_time() {
    let mut rig = Rig::new(Settings {
        spool_after: Duration::from_secs(1 << 32),
        uplink: UplinkSettings {
            session: Session::Cycle,
            every: Duration::from_secs(3600),
            ..UplinkSettings::default()
        },
        ..settings()
    });
    rig.now = Monotonic(3_500_000);
    rig.queue();
    let mut todo = rig.wait(100_000);
    for second in 0.. {
        assert!(second < 200, "it is still connected");
        todo.extend(rig.queue());
        todo.extend(rig.wait(1000));
        if todo.contains(&"disconnect".to_owned()) {
            assert!(
                second >= 100,
                "after {second} s: an answer may take a minute"
            );
            break;
        }
        while let Some(done) = todo.pop() {
            let Some(id) = done.strip_prefix("send ") else {
                continue;
            };
            todo.extend(match id {
                "1" => rig.report(1, Outcome::Retry),
                _ => rig.report(id.parse().unwrap(), Outcome::Delivered),
            });
        }
    }
    assert!(rig.delivery.counters().delivered > 100);
}

#[test]
fn a_session_whose_place_was_slept_through_begins_at_waking_in_its_hours_alone() {
    const HOUR: Duration = Duration::from_secs(3600);
    let cycle = |hours: Option<&str>| {
        let mut rig = Rig::new(Settings {
            uplink: UplinkSettings {
                session: Session::Cycle,
                every: 4 * HOUR,
                hours: hours.map(|hours| hours.parse().unwrap()),
                ..UplinkSettings::default()
            },
            ..settings()
        });
        rig.apply(Event::Wall(WALL));
        rig.queue();
        rig.wait(2000);
        rig.committed(1);
        rig
    };
    let slept = |hours: u32, until: u32| Event::Slept {
        period: hours * HOUR,
        wall_ms: WALL + u64::from(until) * 3_600_000,
    };
    let mut rig = cycle(None);
    assert_eq!(rig.apply(slept(3, 3)), [""; 0]);
    assert_eq!(rig.apply(slept(1, 4)), ["recreate", "load 0..1"]);
    // It is ten past five; at eleven nothing may be sent, whatever was allowed before.
    let mut rig = cycle(Some("05:00-09:00"));
    assert_eq!(rig.apply(slept(6, 6)), [""; 0]);
    assert_eq!(rig.apply(slept(19, 25)), ["recreate", "load 0..1"]);
    // The clock was looked at behind the sleep, before that was noticed: it does not count twice.
    let mut rig = cycle(Some("15:00-16:00"));
    assert_eq!(rig.apply(Event::Wall(WALL + 5 * 3_600_000)), [""; 0]);
    assert_eq!(rig.apply(slept(5, 5)), [""; 0]);
}
