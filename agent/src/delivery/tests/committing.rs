//! When the disk is written to, and what goes with a commit.

use super::*;

#[test]
fn online_the_disk_sees_a_checkpoint_every_five_minutes_while_little_moved_and_none_without() {
    let mut rig = Rig::new(settings());
    assert_eq!(rig.queue(), ["send 1"]);
    assert_eq!(rig.queue(), ["send 2"]);
    assert_eq!(rig.report(2, Outcome::Delivered), [""; 0]);
    assert_eq!(rig.budget.used(), 100);
    assert_eq!(rig.wait(1500), [""; 0]);
    assert_eq!(rig.report(1, Outcome::Delivered), [""; 0]);
    assert_eq!(rig.budget.used(), 0);
    assert_eq!(rig.wait(299_999), [""; 0]);
    assert_eq!(rig.wait(1), ["commit +[ ] -[ ] @[ 20 ]"]);
    assert_eq!(rig.committed(0), [""; 0]);
    assert_eq!(rig.delivery.next_deadline(), None, "an idle agent sleeps");
}

#[test]
fn a_mebibyte_brings_the_checkpoint_within_a_minute() {
    let mut rig = Rig::new(Settings {
        checkpoint_bytes: 1 << 30,
        window_bytes: 4 << 20,
        ..settings()
    });
    rig.queue();
    assert_eq!(rig.report(1, Outcome::Delivered), [""; 0]);
    assert_eq!(rig.wait(59_000), [""; 0]);
    let much = rig.batch((1 << 20) - 100, Kind::Data);
    rig.apply(Event::Queued(much));
    assert_eq!(rig.report(2, Outcome::Delivered), [""; 0]);
    assert_eq!(rig.wait(999), [""; 0]);
    assert_eq!(rig.wait(1), ["commit +[ ] -[ ] @[ 20 ]"]);
}

#[test]
fn many_bytes_or_a_close_bring_the_checkpoint_forward() {
    let mut rig = Rig::new(Settings {
        checkpoint_bytes: 150,
        ..settings()
    });
    rig.queue();
    rig.queue();
    assert_eq!(rig.report(1, Outcome::Delivered), [""; 0]);
    assert_eq!(
        rig.report(2, Outcome::Delivered),
        ["commit +[ ] -[ ] @[ 20 ]"]
    );
    rig.committed(0);
    let close = rig.batch(10, Kind::Close);
    rig.apply(Event::Queued(close));
    assert_eq!(
        rig.report(3, Outcome::Delivered),
        [""; 0],
        "others may close, too"
    );
    assert_eq!(rig.wait(1000), ["commit +[ ] -[ ] @[ 30 closed ]"]);
}

#[test]
fn what_is_late_is_committed_with_its_checkpoint_and_not_sent_again_while_in_flight() {
    let mut rig = Rig::new(settings());
    rig.queue();
    rig.wait(1000);
    rig.queue();
    assert_eq!(
        rig.delivery.next_deadline(),
        Some(rig.now.plus(Duration::from_secs(1)))
    );
    assert_eq!(
        rig.wait(1000),
        ["say Offline", "commit +[ 1 2 ] -[ ] @[ 20 ]"]
    );
    assert_eq!(rig.committed(2), [""; 0]);
    assert_eq!(rig.budget.used(), 0, "the RAM copies are gone");
    assert_eq!(
        rig.queue(),
        ["send 3"],
        "nothing is before it that is not in flight"
    );
    assert_eq!(rig.report(1, Outcome::Delivered), ["say Online"]);
    assert_eq!(rig.report(2, Outcome::Delivered), [""; 0]);
    assert_eq!(rig.report(3, Outcome::Delivered), [""; 0]);
    assert_eq!(rig.wait(500), ["commit +[ ] -[ 1 2 ] @[ 30 ]"]);
}

#[test]
fn a_report_during_the_commit_deletes_the_row_afterwards() {
    let mut rig = Rig::new(settings());
    rig.queue();
    rig.wait(2000);
    assert_eq!(rig.report(1, Outcome::Delivered), ["say Online"]);
    assert_eq!(rig.committed(1), [""; 0]);
    assert_eq!(rig.wait(500), ["commit +[ ] -[ 1 ] @[ ]"]);
}

#[test]
fn with_no_delay_everything_is_committed_before_it_is_sent() {
    let mut rig = Rig::new(Settings {
        spool_after: Duration::ZERO,
        ..settings()
    });
    assert_eq!(rig.queue(), ["commit +[ 1 ] -[ ] @[ 10 ]"]);
    assert_eq!(rig.queue(), [""; 0]);
    assert_eq!(rig.committed(1), ["commit +[ 2 ] -[ ] @[ 20 ]", "send 1"]);
    let refused = rig.apply(Event::Store(Reply::CommitFailed(Trouble::ReadOnly)));
    assert_eq!(
        refused,
        ["say DiskTrouble(ReadOnly)", "send 2"],
        "better sent than kept back"
    );
}

#[test]
fn while_nobody_acknowledges_half_a_window_is_enough_to_commit() {
    let mut rig = Rig::new(settings());
    rig.queue();
    rig.wait(2000);
    rig.committed(1);
    for _ in 0..19 {
        assert!(!rig.queue().iter().any(|done| done.starts_with("commit")));
    }
    let rows: String = (2..=21).map(|id| format!(" {id}")).collect();
    assert_eq!(
        rig.queue(),
        [
            format!("commit +[{rows} ] -[ ] @[ 210 ]"),
            "send 21".to_owned()
        ]
    );
}
