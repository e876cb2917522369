//! What delivery does in the cases that design.md names, one after the other. The simulation looks
//! for the others.

mod budgets;
mod committing;
mod disk;
mod draining;
mod outages;
mod refused;
mod room;
mod sessions;
mod stopping;

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_record::{Generation, Kind, StreamId};

use super::allowance::Budgets;
use super::uplink::{Session, UplinkSettings};
use super::*;
use crate::batch::{Batch, Entry};
use crate::budget::{Budget, Shares};
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
            permit: self.budget.try_take(Lane::Normal, bytes),
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

/// The clock is set, or not; what it says does not matter.
fn clock(set: bool) -> Event {
    let wall_ms = if set { WALL } else { 0 };
    Event::Clock { set, wall_ms }
}

/// 2026-11-25T05:10:00Z
const WALL: u64 = 1_795_583_400_000;
