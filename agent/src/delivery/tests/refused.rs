//! What comes back unsent, and clients that are lost.

use super::*;

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
    assert!((60..200).contains(&refused), "{refused} times in an hour");
    assert!(most_in_ram <= 400, "{most_in_ram} bytes waited with it");
    // Once it is taken, it is as any other.
    rig.wait(60_000);
    rig.report(1, Outcome::Delivered);
    assert_eq!(rig.delivery.window.held(), 0);
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
