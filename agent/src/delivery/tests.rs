//! What delivery does in the cases that design.md names, one after the other. The simulation looks
//! for the others.

mod room;

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_record::{Generation, Kind, StreamId};

use super::allowance::Budgets;
use super::uplink::{Session, UplinkSettings};
use super::*;
use crate::batch::{Batch, Entry};
use crate::budget::Budget;
use crate::produce::outcome::Outcome;
use crate::spool::WhenFull;

const G: Generation = Generation(1);

fn settings() -> Settings {
    Settings {
        spool_after: Duration::from_secs(2),
        spool_bytes_max: 1 << 30,
        uplink: UplinkSettings::default(),
        flash_bytes_per_day: None,
        when_full: [WhenFull::Pause; Lane::COUNT],
        checkpoint_every: Duration::from_secs(60),
        checkpoint_bytes: 1 << 20,
        window_bytes: 4000,
        in_flight_bytes_max: 1 << 20,
        flush: Duration::from_secs(2),
    }
}

/// Delivery, its time, and what it did since it was last asked.
struct Rig {
    delivery: Delivery,
    now: Monotonic,
    budget: Budget,
    end: u64,
}

impl Rig {
    fn new(settings: Settings) -> Self {
        Self::over(settings, 0)
    }

    fn over(settings: Settings, rows: u64) -> Self {
        let depth = Depth {
            rows,
            bytes: rows * 100,
            ..Depth::default()
        };
        Self {
            delivery: Delivery::new(
                settings,
                1,
                depth,
                [BatchId(rows), BatchId(1 << 60), BatchId(2 << 60)],
            ),
            now: Monotonic(1_000_000),
            budget: Budget::new(settings.window_bytes),
            end: 0,
        }
    }

    fn batch(&mut self, bytes: usize, kind: Kind) -> Batch {
        let start = self.end;
        self.end += 10;
        Batch {
            stream: StreamId::parse("d/s/p").unwrap(),
            generation: G,
            start,
            entries: vec![Entry {
                end: self.end,
                value_end: bytes as u32,
                kind,
            }],
            values: vec![b'x'; bytes],
            raw: false,
            permit: self.budget.try_take(bytes),
        }
    }

    fn queue(&mut self) -> Vec<String> {
        let batch = self.batch(100, Kind::Data);
        self.apply(Event::Queued(batch))
    }

    fn report(&mut self, id: u64, outcome: Outcome) -> Vec<String> {
        self.apply(Event::Reported {
            id: BatchId(id),
            outcome,
        })
    }

    fn committed(&mut self, rows: u64) -> Vec<String> {
        let depth = Depth {
            rows,
            bytes: rows * 100,
            ..Depth::default()
        };
        self.apply(Event::Store(Reply::Committed(depth)))
    }

    fn wait(&mut self, ms: u64) -> Vec<String> {
        self.now = Monotonic(self.now.0 + ms);
        self.apply(Event::Tick)
    }

    /// Applies an event, and shows what was done, a word each.
    fn apply(&mut self, event: Event) -> Vec<String> {
        self.delivery.apply(event, self.now);
        let mut done = Vec::new();
        while let Some(action) = self.delivery.next_action() {
            done.push(match action {
                Action::Send { id, .. } => format!("send {id}"),
                Action::Load { after, through, .. } => format!("load {after}..{through}"),
                Action::Heal(healing) => format!("heal from {}", healing.first_free[0]),
                Action::Recreate => "recreate".into(),
                Action::Disconnect => "disconnect".into(),
                Action::Say(News::Refused { .. }) => "say Refused".into(),
                Action::Say(News::ProducerLost { .. }) => "say ProducerLost".into(),
                Action::Say(news) => format!("say {news:?}"),
                Action::Done => "done".into(),
                Action::Commit(transaction) => {
                    let ids = |ids: Vec<BatchId>| {
                        ids.iter().map(|id| format!(" {id}")).collect::<String>()
                    };
                    let rows = ids(transaction.rows.iter().map(|(id, _)| *id).collect());
                    let deletes = ids(transaction.deletes.clone());
                    let settled: String = (transaction.checkpoints.iter())
                        .map(|at| {
                            format!(" {}{}", at.settled, if at.closed { " closed" } else { "" })
                        })
                        .collect();
                    format!("commit +[{rows} ] -[{deletes} ] @[{settled} ]")
                }
            });
        }
        done
    }
}

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
fn a_failed_load_is_tried_again() {
    let mut rig = Rig::over(settings(), 3);
    rig.apply(Event::Tick);
    let failed = rig.apply(Event::Store(Reply::LoadFailed(Trouble::Io)));
    assert_eq!(failed, ["say DiskTrouble(Io)"]);
    assert_eq!(rig.wait(1000), ["load 0..3"]);
}

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

/// The clock is set, or not; what it says does not matter.
fn clock(set: bool) -> Event {
    let wall_ms = if set { WALL } else { 0 };
    Event::Clock { set, wall_ms }
}

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
fn a_stop_while_the_clock_is_unset_does_not_wait_for_the_broker() {
    let mut rig = Rig::new(settings());
    rig.apply(clock(false));
    rig.queue();
    assert_eq!(rig.apply(Event::Stop), ["commit +[ 1 ] -[ ] @[ 10 ]"]);
    assert_eq!(rig.committed(1), ["done"]);
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
    let mut rig = cycle(None);
    assert_eq!(rig.apply(Event::Slept(3 * HOUR)), [""; 0]);
    assert_eq!(rig.apply(Event::Slept(HOUR)), ["recreate", "load 0..1"]);
    // It is ten past five; at eleven nothing may be sent, whatever was allowed before.
    let mut rig = cycle(Some("05:00-09:00"));
    assert_eq!(rig.apply(Event::Slept(6 * HOUR)), [""; 0]);
    assert_eq!(rig.apply(Event::Wall(WALL + 6 * 3_600_000)), [""; 0]);
    assert_eq!(
        rig.apply(Event::Slept(19 * HOUR)),
        ["recreate", "load 0..1"]
    );
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

/// 2026-11-25T05:10:00Z
const WALL: u64 = 1_795_583_400_000;

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
