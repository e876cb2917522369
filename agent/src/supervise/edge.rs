//! Performs what delivery decides, on the store and on librdkafka, and tells it what came of it. No
//! decision is made here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headwater_msk::Cluster;
use headwater_record::DeviceId;
use tokio::sync::Notify;

use crate::clock::{self, Monotonic};
use crate::crash;
use crate::delivery::{Action, Counters, Delivery, Event, News};
use crate::produce::key::Key;
use crate::produce::outcome::Outcome;
use crate::produce::producer::{Producer, ProducerError, Report, Undated};
use crate::spool::store::Store;
use crate::spool::{BatchId, Reply};

/// How soon librdkafka is offered again what it had no room for. With what delivery allows in
/// flight it hardly ever has none.
const RESUME: Duration = Duration::from_millis(20);

/// A difference that is a step of the clock, milliseconds.
const STEP_MS: u64 = 1000;

/// Delivery, and the two that it acts upon.
#[derive(Debug)]
pub(super) struct Edge<'a> {
    pub(super) delivery: Delivery,
    pub(super) store: Store,
    /// Whether the broker does not acknowledge, for who reads sensors.
    pub(super) offline: Arc<AtomicBool>,
    producer: Option<Producer>,
    news: Arc<Notify>,
    pub(super) cluster: Arc<Cluster>,
    device: &'a DeviceId,
    key: &'a Key,
    undated: Undated,
    /// How long the device had been suspended when that was looked at last, and whether that is news.
    suspended: Duration,
    was_suspended: bool,
    done: bool,
}

/// Batches that may be under way from the sources to delivery: its channel, and one of each thread,
/// generously.
const UNDER_WAY: u64 = 64;

impl<'a> Edge<'a> {
    pub(super) fn new(
        delivery: Delivery,
        store: Store,
        news: Arc<Notify>,
        (cluster, device, key): (Arc<Cluster>, &'a DeviceId, &'a Key),
        undated: Undated,
    ) -> Self {
        Self {
            delivery,
            store,
            offline: Arc::default(),
            producer: None,
            news,
            cluster,
            device,
            key,
            undated,
            suspended: clock::suspended(),
            was_suspended: false,
            done: false,
        }
    }

    /// Makes the first producer, so that what is wrong with its settings stops the start. While the
    /// clock is unset there is none: delivery asks for it when it is set.
    pub(super) fn start(&mut self) -> Result<(), ProducerError> {
        if !self.delivery.connects_at_start() {
            // In a session, or in its hours: delivery asks for it then.
            if !clock::is_set() {
                self.apply_clock(false);
            }
        } else if clock::is_set() {
            self.producer = Some(self.make_producer()?);
        } else {
            self.delivery.without_producer();
            self.apply_clock(false);
        }
        Ok(())
    }

    /// Tells delivery where the clock was set, or lost, or has stepped, and where the device was
    /// suspended; returns whether the clock is set.
    pub(super) fn look_at_clock(&mut self) -> bool {
        if let Some(slept) = slept(&mut self.suspended, clock::suspended()) {
            self.was_suspended = true;
            self.apply(Event::Slept {
                period: slept,
                wall_ms: clock::wall_ms(),
            });
        }
        let set = clock::is_set();
        if set == self.delivery.clock_unset() {
            if set {
                let last = self.delivery.last_queued();
                self.undated.through = last.map(|last| BatchId(last.0.saturating_add(UNDER_WAY)));
                if let Some(producer) = &mut self.producer {
                    producer.set_undated(self.undated);
                }
            }
            self.apply_clock(set);
        }
        let (wall_ms, now) = (clock::wall_ms(), clock::monotonic());
        if has_stepped(self.delivery.wall_ms(now), wall_ms) {
            self.apply(Event::Wall(wall_ms));
        }
        set
    }

    /// Whether the device was suspended since this was asked last.
    pub(super) fn take_suspended(&mut self) -> bool {
        std::mem::take(&mut self.was_suspended)
    }

    fn apply_clock(&mut self, set: bool) {
        let wall_ms = clock::wall_ms();
        self.apply(Event::Clock { set, wall_ms });
    }

    fn make_producer(&self) -> Result<Producer, ProducerError> {
        Producer::new(
            &self.cluster,
            (self.device, self.key),
            (self.undated, self.delivery.uplink_bytes().is_some()),
            Arc::clone(&self.news),
        )
    }

    /// Tells delivery, and does what it wants.
    pub(super) fn apply(&mut self, event: Event) {
        self.delivery.apply(event, clock::monotonic());
        while let Some(action) = self.delivery.next_action() {
            self.perform(action);
        }
    }

    /// Takes librdkafka's reports, and offers it again what it had no room for.
    pub(super) fn take_reports(&mut self) {
        let Some(producer) = &mut self.producer else {
            return;
        };
        producer.resume();
        for report in producer.take_reports() {
            if matches!(
                report,
                Report::Batch {
                    outcome: Outcome::Delivered,
                    ..
                }
            ) {
                crash::point("delivered-before-settle");
            }
            self.apply(match report {
                Report::Batch { id, outcome } => Event::Reported { id, outcome },
                Report::Lost => Event::ProducerLost,
                Report::Wire(bytes) => Event::Wire(bytes),
            });
        }
    }

    /// When to call [`Edge::apply`] or [`Edge::take_reports`] though nothing happened.
    pub(super) fn next_deadline(&self, now: Monotonic) -> Option<Monotonic> {
        let waiting = self.producer.as_ref().is_some_and(Producer::is_waiting);
        let resume = waiting.then(|| now.plus(RESUME));
        [self.delivery.next_deadline(), resume]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether the stop is complete.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Ends both threads, the store's last: what is committed is in the database.
    pub(super) fn close(self) -> Counters {
        if let Some(producer) = self.producer {
            producer.close();
        }
        self.store.close();
        self.delivery.counters()
    }

    fn perform(&mut self, action: Action) {
        let now = clock::monotonic();
        match action {
            Action::Send { id, batch } => {
                // Without a client there is an event on its way that takes everything back.
                if let Some(producer) = &mut self.producer {
                    producer.send(id, batch);
                }
            }
            Action::Commit(transaction) => {
                if let Err(trouble) = self.store.commit(transaction) {
                    self.delivery
                        .apply(Event::Store(Reply::CommitFailed(trouble)), now);
                }
            }
            Action::Load {
                after,
                through,
                bytes_max,
            } => {
                if let Err(trouble) = self.store.load(after, through, bytes_max) {
                    self.delivery
                        .apply(Event::Store(Reply::LoadFailed(trouble)), now);
                }
            }
            Action::Heal(healing) => {
                if let Err(trouble) = self.store.heal(healing) {
                    self.delivery
                        .apply(Event::Store(Reply::HealFailed(trouble)), now);
                }
            }
            Action::Recreate => {
                // The old one first: two clients are twice the memory.
                self.producer = None;
                match self.make_producer() {
                    Ok(producer) => self.producer = Some(producer),
                    Err(error) => {
                        tracing::error!(%error, "no Kafka producer; it is tried again");
                        self.delivery.apply(Event::ProducerLost, now);
                    }
                }
            }
            Action::Disconnect => self.producer = None,
            Action::Say(news) => {
                match news {
                    News::Offline => self.offline.store(true, Ordering::Relaxed),
                    News::Online => self.offline.store(false, Ordering::Relaxed),
                    _ => {}
                }
                say(news);
            }
            Action::Done => self.done = true,
        }
    }
}

/// Whether the wall clock is not where the monotonic one would have it: it was set, or the device
/// was suspended. What it drifts between two looks is far less.
fn has_stepped(expected_ms: u64, wall_ms: u64) -> bool {
    expected_ms.abs_diff(wall_ms) >= STEP_MS
}

/// How long the device was suspended since that was told last, where it is long enough to be more than
/// two clocks that were read one after the other.
fn slept(before: &mut Duration, now: Duration) -> Option<Duration> {
    let slept = now.saturating_sub(*before);
    (slept >= Duration::from_millis(STEP_MS)).then(|| {
        *before = now;
        slept
    })
}

fn say(news: News) {
    match news {
        News::Offline => {
            tracing::warn!("the broker does not acknowledge; batches go to the spool until it does")
        }
        News::ClockUnset => tracing::warn!(
            "the clock is not set: nothing is sent until it is; what is read waits in the spool, and gets its time then"
        ),
        News::ClockSet => tracing::info!("the clock is set: sending begins"),
        News::Online => tracing::info!("the broker acknowledges again"),
        News::Refused { wait_ms } => tracing::warn!(
            wait_ms,
            "batches came back unsent; they are kept and sent again, each behind a wait of its own while the others go on (said once a minute at most)"
        ),
        News::ProducerLost { wait_ms } => tracing::warn!(
            wait_ms,
            "the Kafka producer can send no more; a new one is made, and everything unacknowledged is sent again"
        ),
        News::DiskTrouble(trouble) => tracing::error!(
            "the spool cannot be used: {}; batches stay in memory, files wait, and it is tried again",
            trouble.advice()
        ),
        News::DiskWell => tracing::info!("the spool works again"),
        News::SpoolFull(lane) => tracing::warn!(
            ?lane,
            "the spool is full (spool.max_bytes, or what is to be kept free on the disk), and nothing in it may give way: batches stay in memory, and files wait until there is room"
        ),
        News::Dropping(lane) => tracing::warn!(
            ?lane,
            "the spool is full (spool.max_bytes, or what is to be kept free on the disk); the oldest batches of lanes with when_full = \"drop_oldest\" are given up, with loss notices"
        ),
        News::FlashStretched { times: 1 } => {
            tracing::info!("commits are as often as configured again (flash.bytes_per_day)")
        }
        News::FlashStretched { times } => tracing::warn!(
            times,
            "the flash budget (flash.bytes_per_day) is being used up: commits are so many times rarer than configured, and stop where it is gone"
        ),
        News::FlashOverdrawn { bytes } => tracing::warn!(
            bytes,
            "more was written to flash than flash.bytes_per_day allows: ends of lines and events by time-out, names of new files and the last commit of a stop do not wait for it; nothing else is written until that is made up for"
        ),
        News::UplinkBudget(None) => {
            tracing::info!("the uplink's budgets have room again: sending goes on")
        }
        News::UplinkBudget(Some(closed)) => {
            let until = jiff::Timestamp::from_millisecond(closed.until_ms.cast_signed());
            let until = until.map_or_else(|_| "its end".to_owned(), |until| until.to_string());
            let key = closed.period.key();
            if closed.all {
                tracing::warn!(
                    "the uplink's budget ({key}) is used up: what is read waits in the spool until {until}"
                );
            } else {
                tracing::warn!(
                    lane = ?closed.lane,
                    "what is left of the uplink's budget ({key}) is kept for higher lanes: this lane and those below wait in the spool until {until}"
                );
            }
        }
        News::SpoolRoom => tracing::info!("the spool has room again"),
        News::LeftBehind { batches } => tracing::error!(
            batches,
            "the stop ends with batches that neither the broker nor the disk took; files are read again from their checkpoint, the end of what sensors gave is lost and will be noted"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_is_told_once_and_two_clocks_are_never_read_at_once() {
        let mut before = Duration::from_millis(700);
        for (now, told) in [
            (701, None),
            (699, None),
            (61_000, Some(60_300)),
            (61_001, None),
        ] {
            let told = told.map(Duration::from_millis);
            assert_eq!(
                slept(&mut before, Duration::from_millis(now)),
                told,
                "at {now}"
            );
        }
    }

    #[test]
    fn a_step_is_a_difference_either_way() {
        for (expected, wall, stepped) in [
            (5000, 5999, false),
            (5000, 6000, true),
            (6000, 5001, false),
            (6000, 5000, true),
        ] {
            assert_eq!(has_stepped(expected, wall), stepped, "{expected} {wall}");
        }
    }
}
