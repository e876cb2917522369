//! What a stop waits for.

use super::*;

#[test]
fn a_stop_waits_for_the_broker_and_then_commits_the_rest() {
    let mut rig = Rig::new(settings());
    rig.queue();
    rig.queue();
    assert_eq!(rig.apply(Event::Stop), [""; 0]);
    assert_eq!(rig.report(1, Outcome::Delivered), [""; 0]);
    assert_eq!(rig.wait(2000), ["commit +[ 2 ] -[ ] @[ 20 ]"]);
    assert_eq!(rig.committed(1), ["done"]);
    assert_eq!(rig.delivery.next_deadline(), None);

    let mut quick = Rig::new(settings());
    quick.queue();
    quick.apply(Event::Stop);
    assert_eq!(
        quick.report(1, Outcome::Delivered),
        ["commit +[ ] -[ ] @[ 10 ]"]
    );
    assert_eq!(quick.committed(0), ["done"]);
    assert_eq!(Rig::new(settings()).apply(Event::Stop), ["done"]);
}

#[test]
fn a_stop_gives_a_refusing_disk_up_and_says_what_is_left() {
    let mut rig = Rig::new(settings());
    rig.queue();
    rig.apply(Event::Stop);
    rig.wait(2000);
    let mut said = Vec::new();
    for _ in 0..60 {
        said.extend(rig.apply(Event::Store(Reply::CommitFailed(Trouble::ReadOnly))));
        said.extend(rig.wait(100));
    }
    assert_eq!(said.iter().filter(|done| *done == "done").count(), 1);
    assert!(
        said.contains(&"say LeftBehind { batches: 1 }".to_owned()),
        "{said:?}"
    );
}

#[test]
fn a_stop_while_the_clock_is_unset_does_not_wait_for_the_broker() {
    let mut rig = Rig::new(settings());
    rig.apply(clock(false));
    rig.queue();
    assert_eq!(rig.apply(Event::Stop), ["commit +[ 1 ] -[ ] @[ 10 ]"]);
    assert_eq!(rig.committed(1), ["done"]);
}
