//! What comes back unsent, and clients that are lost.

use super::*;
use crate::delivery::held::HELD_MAX;

#[test]
fn what_comes_back_is_sent_again_in_its_place_after_a_wait() {
    let mut rig = Rig::new(settings());
    rig.queue();
    rig.queue();
    rig.queue();
    assert_eq!(rig.report(2, Outcome::Retry), ["say Refused"]);
    assert_eq!(rig.report(1, Outcome::Retry), [""; 0], "one wait for both");
    assert_eq!(rig.queue(), [""; 0]);
    assert_eq!(rig.wait(1000), ["send 1", "send 2", "send 4"]);
}

#[test]
fn what_is_refused_again_and_again_is_sent_ever_more_slowly_and_holds_nothing_up() {
    let mut rig = Rig::new(Settings {
        spool_after: Duration::from_secs(1 << 32),
        ..settings()
    });
    let (mut refused, mut most_in_ram) = (0, 0);
    for _ in 0..3600 {
        let mut todo = rig.queue();
        todo.extend(rig.wait(1000));
        most_in_ram = most_in_ram.max(rig.budget.used());
        while let Some(done) = todo.pop() {
            let Some(id) = done.strip_prefix("send ") else {
                continue;
            };
            refused += u64::from(id == "1");
            todo.extend(match id {
                "1" => rig.report(1, Outcome::Retry),
                _ => rig.report(id.parse().unwrap(), Outcome::Delivered),
            });
        }
    }
    assert!((8..40).contains(&refused), "{refused} times in an hour");
    assert!(most_in_ram <= 400, "{most_in_ram} bytes waited with it");
    // Once it is taken, it is as any other.
    assert_eq!(rig.delivery.refused_batches(), 1);
    rig.wait(3_600_000);
    rig.report(1, Outcome::Delivered);
    assert_eq!(rig.delivery.refused_batches(), 0);
    assert_eq!(rig.budget.used(), 0);
}

#[test]
fn what_comes_beside_a_batch_that_is_never_taken_is_sent_at_once() {
    let mut rig = Rig::new(Settings {
        spool_after: Duration::from_secs(1 << 32),
        ..settings()
    });
    assert_eq!(rig.queue(), ["send 1"]);
    for _ in 0..12 {
        rig.report(1, Outcome::Retry);
        while !rig.wait(1000).contains(&"send 1".to_owned()) {}
    }
    rig.report(1, Outcome::Retry);
    assert_eq!(rig.queue(), ["send 2"]);
}

/// Queues a batch for a source, and answers all that is sent: what is of the source "bad" is refused.
fn queue_for(rig: &mut Rig, source: &str, sent: &mut BTreeMap<u64, u64>) {
    let mut batch = rig.batch(1, Kind::Data);
    batch.stream = StreamId::parse(&format!("d/{source}/p")).unwrap();
    batch.permit = None;
    let mut todo = rig.apply(Event::Queued(batch));
    loop {
        let ids: Vec<u64> = todo
            .iter()
            .filter_map(|done| done.strip_prefix("send ")?.parse().ok())
            .collect();
        todo.clear();
        if ids.is_empty() {
            return;
        }
        for id in ids {
            *sent.entry(id).or_insert(0) += 1;
            let is_bad = rig.delivery.window.of(BatchId(id).lane()).items[&BatchId(id)]
                .batch
                .as_ref()
                .is_some_and(|batch| batch.stream.source() == "bad");
            todo.extend(rig.report(
                id,
                match is_bad {
                    true => Outcome::Retry,
                    false => Outcome::Delivered,
                },
            ));
        }
    }
}

fn with_lanes() -> Rig {
    let mut rig = Rig::new(Settings {
        spool_after: Duration::from_secs(1 << 32),
        window_bytes: 1 << 20,
        ..settings()
    });
    let lanes = [("bad", Lane::Normal), ("alarms", Lane::High)];
    let lanes = lanes.map(|(source, lane)| (source.parse().unwrap(), lane));
    rig.delivery.set_lanes(lanes.into());
    rig
}

#[test]
fn hundreds_that_are_refused_hold_nothing_up_and_are_sent_ever_more_slowly() {
    let (mut rig, mut sent) = (with_lanes(), BTreeMap::new());
    for _ in 0..600 {
        queue_for(&mut rig, "bad", &mut sent);
        rig.now = Monotonic(rig.now.0 + 2000);
        queue_for(&mut rig, "good", &mut sent);
    }
    assert_eq!(rig.delivery.refused_batches(), 600);
    rig.now = Monotonic(rig.now.0 + 60_000);
    queue_for(&mut rig, "good", &mut sent);
    let arrived = rig.delivery.counters().delivered;
    assert_eq!(arrived, 601, "each of the others went");
    let before: u64 = sent.values().sum();
    for _ in 0..7200 {
        rig.now = Monotonic(rig.now.0 + 1000);
        queue_for(&mut rig, "good", &mut sent);
    }
    let again = sent.values().sum::<u64>() - before - 7200;
    assert!(
        (600..600 * 12).contains(&again),
        "{again} times in two hours"
    );
    assert_eq!(rig.delivery.counters().delivered, arrived + 7200);
}

#[test]
fn a_lane_with_too_many_that_are_refused_waits_alone() {
    let (mut rig, mut sent) = (with_lanes(), BTreeMap::new());
    for _ in 0..5000 {
        queue_for(&mut rig, "bad", &mut sent);
        rig.now = Monotonic(rig.now.0 + 1000);
    }
    let held = rig.delivery.window.of(Lane::Normal).held();
    let most = HELD_MAX + IN_FLIGHT_BATCHES_MAX;
    assert!((HELD_MAX - 300..=most).contains(&held), "{held}");
    let refused = rig.delivery.refused_batches();
    assert!(refused <= most as u64, "{refused}");
    queue_for(&mut rig, "alarms", &mut sent);
    assert_eq!(
        rig.delivery.counters().delivered,
        1,
        "the higher lane goes on"
    );
}

#[test]
fn a_refused_row_waits_in_the_spool() {
    let mut rig = Rig::over(settings(), 1);
    assert_eq!(rig.apply(Event::Tick), ["load 0..1"]);
    let rows = vec![(BatchId(1), rig.batch(100, Kind::Data))];
    let reply = Reply::Loaded {
        rows,
        through: BatchId(1),
        lost: 0,
    };
    assert_eq!(rig.apply(Event::Store(reply)), ["send 1"]);
    assert_eq!(rig.report(1, Outcome::Retry), ["say Refused"]);
    assert_eq!(rig.wait(1000), ["load 0..1"]);
}

#[test]
fn a_refused_row_that_gave_way_is_forgotten() {
    let mut rig = Rig::over(settings(), 3);
    rig.apply(Event::Tick);
    let load = |rig: &mut Rig, ids: &[u64]| {
        let rows = ids
            .iter()
            .map(|id| (BatchId(*id), rig.batch(100, Kind::Data)));
        let rows = rows.collect();
        rig.apply(Event::Store(Reply::Loaded {
            rows,
            through: BatchId(3),
            lost: 0,
        }))
    };
    assert_eq!(load(&mut rig, &[1, 2, 3]), ["send 1", "send 2", "send 3"]);
    for id in 1..=3 {
        rig.report(id, Outcome::Retry);
    }
    let refused = |rig: &Rig| rig.delivery.window.of(Lane::Normal).held.refusals.len();
    assert_eq!(refused(&rig), 3);
    // They go back to the spool, and one notice takes the place of all.
    assert!(rig.wait(1000).contains(&"load 0..3".to_owned()));
    assert_eq!(load(&mut rig, &[1]), ["send 1"]);
    assert_eq!(refused(&rig), 1);
    rig.report(1, Outcome::Delivered);
    assert_eq!(refused(&rig), 0);
}

#[test]
fn a_lost_client_is_made_anew_and_gets_everything_again() {
    let mut rig = Rig::new(settings());
    rig.queue();
    rig.queue();
    assert_eq!(rig.report(1, Outcome::Recreate), ["say ProducerLost"]);
    assert_eq!(rig.report(2, Outcome::Recreate), [""; 0]);
    assert_eq!(rig.wait(1000), ["recreate", "send 1", "send 2"]);
}
