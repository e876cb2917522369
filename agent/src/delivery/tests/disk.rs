//! A disk that refuses, is full, or holds what nobody can read.

use super::*;

#[test]
fn rows_that_cannot_be_read_for_long_are_salvaged_where_the_disk_takes_commits() {
    let mut rig = Rig::over(settings(), 3);
    rig.apply(Event::Tick);
    let fails = |rig: &mut Rig, trouble| {
        let mut done = rig.apply(Event::Store(Reply::LoadFailed(trouble)));
        done.extend(rig.wait(60_000));
        done.iter().any(|done| done.starts_with("heal"))
    };
    // A disk that does nothing at all may come back.
    for _ in 0..20 {
        assert!(!fails(&mut rig, Trouble::Io));
    }
    rig.queue();
    rig.wait(2000);
    rig.committed(4);
    assert!(!fails(&mut rig, Trouble::Busy), "nor is that its fault");
    assert!(fails(&mut rig, Trouble::Io));
    // It was read in between, and that was long ago.
    let mut rig = Rig::over(settings(), 3);
    rig.apply(Event::Tick);
    fails(&mut rig, Trouble::Io);
    let rows = vec![(BatchId(1), rig.batch(100, Kind::Data))];
    rig.apply(Event::Store(Reply::Loaded {
        rows,
        through: BatchId(1),
        lost: 0,
    }));
    rig.wait(600_000);
    rig.queue();
    rig.wait(2000);
    rig.committed(4);
    assert!(!fails(&mut rig, Trouble::Io));
    // It was not tried in between, as between the sessions of a cycle.
    let mut rig = Rig::over(settings(), 3);
    rig.apply(Event::Tick);
    fails(&mut rig, Trouble::Io);
    rig.queue();
    rig.wait(2000);
    rig.committed(4);
    rig.wait(600_000);
    assert!(!fails(&mut rig, Trouble::Io));
}

#[test]
fn a_refusing_disk_keeps_batches_in_ram_and_is_named_once() {
    let mut rig = Rig::new(settings());
    rig.queue();
    rig.wait(2000);
    let failed = |rig: &mut Rig, trouble| rig.apply(Event::Store(Reply::CommitFailed(trouble)));
    assert_eq!(failed(&mut rig, Trouble::Full), ["say DiskTrouble(Full)"]);
    assert_eq!(rig.budget.used(), 100);
    assert_eq!(rig.wait(1000), ["commit +[ 1 ] -[ ] @[ 10 ]"]);
    assert_eq!(failed(&mut rig, Trouble::Full), [""; 0]);
    rig.wait(60_000);
    assert_eq!(failed(&mut rig, Trouble::Io), ["say DiskTrouble(Io)"]);
    rig.wait(60_000);
    assert_eq!(rig.committed(1), ["say DiskWell"]);
    assert_eq!(rig.budget.used(), 0);
}

#[test]
fn a_full_spool_takes_nothing_more_until_rows_are_deleted() {
    let mut rig = Rig::new(Settings {
        spool_bytes_max: 250,
        ..settings()
    });
    rig.queue();
    rig.queue();
    rig.queue();
    let late = rig.wait(2000);
    assert_eq!(late[1..], ["commit +[ 1 2 ] -[ ] @[ 20 ]"]);
    assert_eq!(rig.committed(2), ["say SpoolFull(Normal)"]);
    assert_eq!(rig.wait(60_000), [""; 0]);
    assert_eq!(
        rig.budget.used(),
        100,
        "the third stays: the sources feel it"
    );
    rig.report(1, Outcome::Delivered);
    assert_eq!(rig.wait(500), ["commit +[ ] -[ 1 ] @[ ]"]);
    assert_eq!(
        rig.committed(1),
        ["say SpoolRoom", "commit +[ 3 ] -[ ] @[ 30 ]"]
    );
}

#[test]
fn a_damaged_database_is_salvaged_and_then_gone_on_with() {
    let mut rig = Rig::over(settings(), 3);
    assert_eq!(rig.wait(0), ["load 0..3"]);
    // Nothing else is asked of it, and its notices get ids that nobody has.
    rig.apply(Event::Store(Reply::LoadFailed(Trouble::Damaged)));
    rig.wait(10_000);
    let mut rig = Rig::new(settings());
    rig.queue();
    rig.wait(2000);
    let done = rig.apply(Event::Store(Reply::CommitFailed(Trouble::Damaged)));
    assert_eq!(done, ["say DiskTrouble(Damaged)", "heal from 2"]);
    assert_eq!(rig.wait(60_000), [""; 0], "it is waited for");
    let done = rig.apply(Event::Store(Reply::HealFailed(Trouble::Full)));
    assert_eq!(done, ["say DiskTrouble(Full)"]);
    let done = rig.wait(60_000);
    assert!(done[0].starts_with("heal from "), "{done:?}");
    let depth = Depth {
        rows: 1,
        bytes: 100,
        ..Depth::default()
    };
    let last = [BatchId(99), BatchId(1 << 60), BatchId(2 << 60)];
    let done = rig.apply(Event::Store(Reply::Healed { depth, last }));
    assert_eq!(
        done,
        ["say DiskWell", "commit +[ 1 ] -[ ] @[ 10 ]", "load 0..99"]
    );
}

#[test]
fn ids_go_on_behind_all_that_a_salvage_brings_back() {
    let mut rig = Rig::new(settings());
    rig.queue();
    rig.wait(2000);
    rig.apply(Event::Store(Reply::CommitFailed(Trouble::Damaged)));
    // Of an earlier run that was salvaged, too.
    let last = [BatchId(1 << 30), BatchId(1 << 60), BatchId(2 << 60)];
    let depth = Depth {
        rows: 1,
        bytes: 100,
        ..Depth::default()
    };
    rig.apply(Event::Store(Reply::Healed { depth, last }));
    rig.queue();
    assert_eq!(rig.delivery.last_queued()[0], last[0].next());
}

#[test]
fn a_row_that_a_salvage_brings_back_is_sent_again_and_deleted() {
    let mut rig = Rig::over(settings(), 1);
    rig.apply(Event::Tick);
    let loaded = |rig: &mut Rig| {
        let rows = vec![(BatchId(1), rig.batch(100, Kind::Data))];
        rig.apply(Event::Store(Reply::Loaded {
            rows,
            through: BatchId(1),
            lost: 0,
        }))
    };
    assert_eq!(loaded(&mut rig), ["send 1"]);
    rig.report(1, Outcome::Delivered);
    assert_eq!(rig.wait(500), ["commit +[ ] -[ 1 ] @[ ]"]);
    rig.committed(0);
    rig.queue();
    rig.wait(2000);
    rig.apply(Event::Store(Reply::CommitFailed(Trouble::Damaged)));
    let depth = Depth {
        rows: 1,
        bytes: 100,
        ..Depth::default()
    };
    let last = [BatchId(1), BatchId(1 << 60), BatchId(2 << 60)];
    let done = rig.apply(Event::Store(Reply::Healed { depth, last }));
    assert_eq!(done.last().unwrap(), "load 0..1", "{done:?}");
    assert_eq!(loaded(&mut rig), ["send 1"]);
}
