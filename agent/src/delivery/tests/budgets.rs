//! Budgets of flash and of the uplink.

use super::*;

#[test]
fn a_flash_budget_makes_commits_rarer_and_says_so() {
    let mut rig = Rig::new(Settings {
        flash_bytes_per_day: Some(256_000),
        ..settings()
    });
    rig.queue();
    rig.wait(2000);
    let wrote = |written| {
        let depth = Depth {
            rows: 1,
            written: Some(written),
            ..Depth::default()
        };
        Event::Store(Reply::Committed(depth))
    };
    rig.apply(wrote(0));
    rig.queue();
    assert!(rig.wait(2000)[0].starts_with("commit"));
    assert_eq!(
        rig.apply(wrote(150_000)),
        ["say FlashStretched { times: 2 }"]
    );
    rig.queue();
    assert_eq!(rig.wait(2000), [""; 0]);
    assert!(rig.wait(2000)[0].starts_with("commit"));
    rig.apply(wrote(300_000));
    rig.queue();
    assert_eq!(rig.wait(60_000), [""; 0], "nothing is written");
    assert_eq!(rig.delivery.counters().flash_waits, 1);
    assert_eq!(
        rig.wait(600_000),
        [""; 0],
        "44,000 bytes of debt are paid first"
    );
    assert!(rig.wait(15_000_000)[0].starts_with("commit"));
}

#[test]
fn what_is_written_beyond_the_flash_budget_is_said_though_nothing_is_committed() {
    let mut rig = Rig::new(Settings {
        flash_bytes_per_day: Some(80_000),
        ..settings()
    });
    assert_eq!(rig.apply(Event::Written(1_000_000)), [""; 0]);
    let spent = rig.apply(Event::Written(1_080_000));
    assert_eq!(spent, ["say FlashStretched { times: 16 }"]);
    assert_eq!(
        rig.apply(Event::Written(1_090_000)),
        [""; 0],
        "a commit does that"
    );
    let over = rig.apply(Event::Written(1_095_000));
    assert_eq!(over, ["say FlashOverdrawn { bytes: 15000 }"]);
    assert_eq!(
        rig.apply(Event::Written(1_100_000)),
        [""; 0],
        "it is said once"
    );
    assert_eq!(rig.delivery.flash_debt_bytes(), Some(20_000));
    // It is made up for before anything is written again.
    rig.queue();
    assert_eq!(rig.wait(6 * 3_600_000 - 60_000)[0], "say Offline");
    assert!(rig.wait(1_000_000)[0].starts_with("commit"));
    assert_eq!(rig.delivery.flash_debt_bytes(), Some(0));
}

fn with_hourly(bytes: u64) -> Settings {
    Settings {
        uplink: UplinkSettings {
            budgets: Budgets {
                hour: Some(bytes),
                ..Budgets::default()
            },
            ..UplinkSettings::default()
        },
        ..settings()
    }
}

#[test]
fn a_used_up_uplink_budget_spools_until_the_next_hour() {
    let mut rig = Rig::new(with_hourly(1000));
    rig.apply(Event::Wall(WALL));
    assert_eq!(rig.queue(), ["recreate", "send 1"]);
    rig.report(1, Outcome::Delivered);
    let told = rig.apply(Event::Wire(1000));
    assert!(told[0].starts_with("say UplinkBudget(Some("), "{told:?}");
    assert_eq!(told[1..], ["disconnect"], "idle traffic would cost, too");
    assert_eq!(rig.queue(), [""; 0]);
    assert_eq!(
        rig.wait(2000),
        ["commit +[ 2 ] -[ ] @[ 20 ]"],
        "nobody is offline"
    );
    rig.committed(1);
    assert_eq!(rig.delivery.budgets()[0].used_bytes, 1000);
    let at = rig.delivery.next_deadline().unwrap();
    assert!(at.since(rig.now) <= Duration::from_secs(50 * 60), "{at:?}");
    let back = rig.wait(50 * 60_000);
    assert_eq!(
        back,
        ["say UplinkBudget(None)", "recreate", "load 1..2"],
        "the spool first"
    );
}

#[test]
fn what_is_not_counted_yet_holds_back_what_might_not_fit() {
    let mut rig = Rig::new(with_hourly(1000));
    rig.apply(Event::Wall(WALL));
    rig.queue();
    assert_eq!(rig.queue(), ["send 2"]);
    let (cost, _) = rig.delivery.window.look(BatchId(2)).unwrap();
    for id in 3.. {
        if rig.queue().is_empty() {
            assert!(id * cost > 1000, "{id} of {cost}");
            break;
        }
    }
    // They were smaller than they looked.
    let sent = rig.delivery.counters().sent;
    for id in 1..=sent {
        rig.report(id, Outcome::Delivered);
    }
    let next = format!("send {}", sent + 1);
    assert_eq!(rig.apply(Event::Wire(50)), [next]);
}

#[test]
fn the_use_of_a_budget_is_written_down_where_it_is_worth_a_page() {
    let mut rig = Rig::new(with_hourly(256_000));
    rig.apply(Event::Wall(WALL));
    rig.queue();
    let usage = |rig: &mut Rig, bytes: u64| {
        rig.delivery.apply(Event::Wire(bytes), rig.now);
        rig.delivery.usage(rig.now)
    };
    assert_eq!(usage(&mut rig, 10)[0].bytes, 10);
    assert_eq!(usage(&mut rig, 1000), []);
    assert_eq!(usage(&mut rig, 1)[0].bytes, 1011);
}

/// Hour, day and month that a moment lies in, as the first moment of each.
fn calendar(wall_ms: u64) -> [u64; 3] {
    const DAY_MS: u64 = 86_400_000;
    // 2026-11-01, 2026-12-01, 2027-01-01
    let months = [1_793_491_200_000, 1_796_083_200_000, 1_798_761_600_000];
    let month = months.into_iter().rfind(|begins| *begins <= wall_ms);
    [
        wall_ms - wall_ms % 3_600_000,
        wall_ms - wall_ms % DAY_MS,
        month.unwrap(),
    ]
}

#[test]
fn budgets_of_hour_day_and_month_are_kept_and_used_over_their_boundaries_and_restarts() {
    const WIRE: u64 = 120;
    const STEP_MS: u64 = 5 * 60_000;
    let maxima = [1000, 5000, 20_000];
    let budgets = Budgets {
        hour: Some(maxima[0]),
        day: Some(maxima[1]),
        month: Some(maxima[2]),
    };
    let settings = Settings {
        spool_after: Duration::from_secs(1 << 32),
        checkpoint_every: Duration::from_secs(1 << 32),
        window_bytes: 1 << 20,
        uplink: UplinkSettings {
            budgets,
            ..UplinkSettings::default()
        },
        ..settings()
    };
    let mut rig = Rig::new(settings);
    let (start, mut written) = (rig.now, Vec::new());
    let mut used = [const { BTreeMap::<u64, u64>::new() }; 3];
    let mut last_sent = WALL;
    // Into January: over 38 days, two months, and New Year.
    for step in 0..38 * 24 * 12 {
        let wall = WALL + (rig.now.0 - start.0);
        let mut todo = rig.apply(Event::Wall(wall));
        if rig.budget.used() < 3000 {
            todo.extend(rig.queue());
        }
        while let Some(done) = todo.pop() {
            let Some(id) = done.strip_prefix("send ") else {
                continue;
            };
            todo.extend(rig.report(id.parse().unwrap(), Outcome::Delivered));
            todo.extend(rig.apply(Event::Wire(WIRE)));
            for (used, begins) in used.iter_mut().zip(calendar(wall)) {
                *used.entry(begins).or_default() += WIRE;
            }
            // Not a day too late: where the pause was longer, a budget's period ended just now.
            if wall - last_sent > STEP_MS {
                let is_first = calendar(wall)[0] > wall - STEP_MS;
                assert!(is_first, "at {wall}, after {last_sent}");
            }
            last_sent = wall;
        }
        let usage = rig.delivery.usage(rig.now);
        if !usage.is_empty() {
            written = usage;
        }
        if step % 1000 == 999 {
            let again = Rig::new(settings).delivery;
            rig.delivery = again.with_usage(&written, wall, rig.now);
            rig.budget = Budget::new(settings.window_bytes);
        }
        rig.now = Monotonic(rig.now.0 + STEP_MS);
    }
    for (used, most) in used.iter().zip(maxima) {
        for (begins, used) in used {
            assert!(*used < most + WIRE, "{used} of {most} from {begins}");
        }
    }
    // The source wants more than any of them gives.
    let full = |period: usize| {
        let is_full = |used: &&u64| **used + WIRE > maxima[period];
        used[period].values().filter(is_full).count()
    };
    assert_eq!(used[2].len(), 3);
    assert_eq!(full(2), 2, "November and December; January has just begun");
    assert!(full(1) >= 8 && full(0) >= 40, "{} {}", full(1), full(0));
}
