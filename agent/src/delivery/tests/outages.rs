//! When the broker counts as away.

use super::*;

#[test]
fn an_outage_is_noticed_where_everything_is_committed_before_it_is_sent() {
    let mut rig = Rig::new(Settings {
        spool_after: Duration::ZERO,
        ..settings()
    });
    rig.queue();
    assert_eq!(rig.committed(1), ["send 1"]);
    assert_eq!(rig.wait(9999), [""; 0]);
    assert!(rig.delivery.is_online());
    assert_eq!(rig.wait(1), ["say Offline"]);
    assert!(!rig.delivery.is_online());
    assert_eq!(rig.wait(600_000), [""; 0], "it is said once");
    assert_eq!(rig.report(1, Outcome::Delivered), ["say Online"]);
    // Where something comes now and then, it is slow, not silent; and without anything, idle.
    rig.wait(500);
    rig.committed(0);
    for id in 2..5 {
        rig.queue();
        rig.committed(1);
        rig.queue();
        rig.committed(2);
        rig.wait(6000);
        assert_eq!(rig.report(2 * id - 2, Outcome::Delivered), [""; 0]);
        let deletes = rig.wait(6000);
        assert!(!deletes.contains(&"say Offline".to_owned()), "{deletes:?}");
        rig.committed(1);
        rig.report(2 * id - 1, Outcome::Delivered);
        rig.wait(500);
        rig.committed(0);
    }
    rig.wait(600_000);
    assert!(rig.delivery.is_online());
}

#[test]
fn a_slow_link_is_offline_once_and_then_known_to_be_slow() {
    let mut rig = Rig::new(settings());
    let mut said = Vec::new();
    let mut say = |done: Vec<String>| {
        said.extend(done.into_iter().filter(|done| done.contains("line")));
    };
    for id in 1..=20 {
        say(rig.queue());
        // One batch takes 32 s, as 64 KiB do at 2 kB/s.
        for _ in 0..16 {
            say(rig.wait(2000));
            say(rig.committed(1));
        }
        say(rig.report(id, Outcome::Delivered));
    }
    // A link that is away is seen, a little later than a fast one is.
    say(rig.queue());
    say(rig.wait(2000));
    say(rig.committed(1));
    say(rig.wait(61_999));
    assert_eq!(said, ["say Offline", "say Online"]);
    assert_eq!(rig.wait(1), ["say Offline"]);
    // That is an outage, and no pace.
    rig.wait(60_000);
    assert_eq!(rig.report(21, Outcome::Delivered)[0], "say Online");
    // What is long ago counts no more.
    rig.wait(600_000);
    rig.committed(0);
    rig.queue();
    rig.wait(100);
    rig.report(22, Outcome::Delivered);
    rig.queue();
    assert_eq!(rig.wait(2000)[0], "say Offline");
}

#[test]
fn an_outage_is_noticed_in_a_session_and_lasts_until_one_is_answered() {
    let mut rig = Rig::new(Settings {
        uplink: UplinkSettings {
            session: Session::Cycle,
            every: Duration::from_secs(600),
            ..UplinkSettings::default()
        },
        ..settings()
    });
    rig.now = Monotonic(6_000_000);
    rig.queue();
    rig.wait(2000);
    rig.committed(1);
    let session = |rig: &mut Rig| {
        assert!(rig.wait(598_000).contains(&"recreate".to_owned()));
        let rows = vec![(BatchId(1), rig.batch(100, Kind::Data))];
        rig.apply(Event::Store(Reply::Loaded {
            rows,
            through: BatchId(1),
            lost: 0,
        }))
    };
    assert_eq!(session(&mut rig), ["send 1"]);
    assert_eq!(rig.wait(10_000), ["say Offline"]);
    assert_eq!(rig.wait(110_000), ["disconnect"]);
    assert!(!rig.delivery.is_online());
    rig.now = Monotonic(rig.now.0 - 118_000);
    assert_eq!(session(&mut rig), ["send 1"]);
    assert!(!rig.delivery.is_online());
    assert_eq!(rig.report(1, Outcome::Delivered)[0], "say Online");
}
