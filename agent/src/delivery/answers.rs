//! What the broker and the disk answered, and what follows for what is in RAM.

use std::time::Duration;

use headwater_record::SourceId;

use super::Delivery;
use super::backoff::Backoff;
use super::event::{Action, News};
use crate::batch::Batch;
use crate::clock::Monotonic;
use crate::produce::outcome::Outcome;
use crate::spool::{BatchId, Trouble};

/// How often the log is told at most that batches came back.
const COMPLAINT_EVERY: Duration = Duration::from_secs(60);

/// How long a broker that has something may take, at least, before it counts as silent: one batch on
/// a slow uplink takes its time.
const SILENCE: Duration = Duration::from_secs(10);

/// A broker that takes longer for an answer is away, and not slow: longer than librdkafka waits for one
/// (`socket.timeout.ms`).
const SLOW_MAX: Duration = Duration::from_secs(60);
/// For how long it is remembered how slow it was.
const SLOW_FOR: Duration = Duration::from_secs(600);

/// How slowly answers come: on a link of some kB/s one batch takes half a minute, and the next one will,
/// too.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The longest wait of late, and when it ended.
    longest: Duration,
    at: Monotonic,
}

impl Pace {
    fn answered(&mut self, waited: Duration, now: Monotonic) {
        let is_old = now.since(self.at) >= SLOW_FOR;
        if waited <= SLOW_MAX && (waited >= self.longest || is_old) {
            (self.longest, self.at) = (waited, now);
        }
    }

    /// How long the next answer may take.
    fn patience(&self) -> Duration {
        self.longest * 2
    }
}

/// How it stands with the broker.
#[derive(Debug, Default)]
pub(super) struct Broker {
    pub(super) backoff: Backoff,
    /// Nothing is sent before.
    pub(super) not_before: Monotonic,
    /// The client must be made anew first.
    pub(super) lost: bool,
    /// When it acknowledged last,
    pub(super) acknowledged: Option<Monotonic>,
    /// and when a batch that the session began for.
    pub(super) session_moved: Option<Monotonic>,
    /// The wall clock is unset: no certificate is valid and no signature, so nothing is sent, and the
    /// spool holds what is read.
    pub(super) clock_unset: bool,
    /// A batch was late, and none was acknowledged since it was queued; or what it has is overdue.
    pub(super) silent: bool,
    /// Since when it has had something to acknowledge.
    pub(super) owes_since: Option<Monotonic>,
    pub(super) pace: Pace,
    /// When the log was last told that batches came back.
    pub(super) complained: Option<Monotonic>,
}

impl Broker {
    /// Since when it has owed an answer.
    fn waits_since(&self) -> Option<Monotonic> {
        let owes_since = self.owes_since?;
        Some(owes_since.max(self.acknowledged.unwrap_or_default()))
    }

    /// Whether an answer is not there, but would hardly be by now.
    pub(super) fn is_slow(&self, now: Monotonic) -> bool {
        let waits_since = self.waits_since();
        waits_since.is_some_and(|since| now < since.plus(self.pace.patience()))
    }
}

impl Delivery {
    pub(super) fn clock(&mut self, set: bool) {
        if std::mem::replace(&mut self.broker.clock_unset, !set) == set {
            self.say(if set {
                News::ClockSet
            } else {
                News::ClockUnset
            });
        }
    }

    pub(super) fn queued(&mut self, batch: Batch, now: Monotonic) {
        self.counters.batches += 1;
        self.counters.records += batch.entries.len() as u64;
        self.counters.bytes += batch.values.len() as u64;
        let source: Option<SourceId> = batch.stream.source().parse().ok();
        let lane = source.and_then(|source| self.lane_of.get(&source).copied());
        let window = self.window.of_mut(lane.unwrap_or_default());
        let stretch = window.queue(batch, now);
        self.settling.expect(stretch);
    }

    pub(super) fn reported(&mut self, id: BatchId, outcome: Outcome, now: Monotonic) {
        // What was in flight could not be given up.
        self.writing
            .room
            .try_dropping_again(&self.settings.when_full);
        match outcome {
            Outcome::Delivered => {
                let Some(acknowledged) = self.window.acknowledge(id) else {
                    return;
                };
                self.counters.delivered += 1;
                self.broker.backoff.reset();
                if let Some(since) = self.broker.waits_since() {
                    self.broker.pace.answered(now.since(since), now);
                }
                self.broker.acknowledged = Some(now);
                if id <= self.session_through[id.lane().index()] {
                    self.broker.session_moved = Some(now);
                }
                if std::mem::take(&mut self.broker.silent) {
                    self.say(News::Online);
                }
                if acknowledged.settles {
                    let moved = self.settling.settle(acknowledged.stretch);
                    self.writing.settled(moved, acknowledged.bytes, now);
                }
                self.writing.note_gone(self.window.gone(), now);
            }
            Outcome::Retry => {
                let is_first = self.window.refused(id, &mut self.jitter, now);
                self.counters.retries += 1;
                // Batches come back together: one wait for all of them. What is refused again waits by
                // itself, and nothing else does.
                if is_first && self.broker.not_before <= now && !self.broker.lost {
                    let wait_ms = self.hold_back(now);
                    let quiet = |at: Monotonic| now.since(at) < COMPLAINT_EVERY;
                    if !self.broker.complained.is_some_and(quiet) {
                        self.broker.complained = Some(now);
                        self.say(News::Refused { wait_ms });
                    }
                }
            }
            Outcome::Recreate => self.producer_lost(now),
        }
    }

    /// When the broker is silent, if it acknowledges nothing before: what goes to the disk before it is
    /// sent is never late in RAM, and a backlog neither.
    pub(super) fn silent_at(&self) -> Option<Monotonic> {
        let waits_since = self.broker.waits_since().filter(|_| !self.broker.silent)?;
        let patience = self.settings.spool_after.max(SILENCE);
        Some(waits_since.plus(patience.max(self.broker.pace.patience())))
    }

    pub(super) fn note_silence(&mut self, now: Monotonic) {
        if self.window.in_flight().batches == 0 || !self.uplink.may_send() || !self.is_sending() {
            self.broker.owes_since = None;
            return;
        }
        self.broker.owes_since.get_or_insert(now);
        if self.silent_at().is_some_and(|at| at <= now) {
            self.is_silent();
        }
    }

    /// Says so, where it is news.
    pub(super) fn is_silent(&mut self) {
        if !std::mem::replace(&mut self.broker.silent, true) {
            self.say(News::Offline);
        }
    }

    pub(super) fn producer_lost(&mut self, now: Monotonic) {
        if !self.uplink.is_connected() || std::mem::replace(&mut self.broker.lost, true) {
            return;
        }
        self.counters.retries += self.window.in_flight().batches as u64;
        self.window.unsend_all();
        self.allowance.uncounted();
        self.actions
            .retain(|action| !matches!(action, Action::Send { .. }));
        let wait_ms = self.hold_back(now);
        self.say(News::ProducerLost { wait_ms });
    }

    fn hold_back(&mut self, now: Monotonic) -> u64 {
        let wait_ms = self.broker.backoff.next_ms(&mut self.jitter);
        self.broker.not_before = now.plus(Duration::from_millis(wait_ms));
        wait_ms
    }

    pub(super) fn disk_failed(&mut self, trouble: Trouble, now: Monotonic) {
        self.counters.refused += 1;
        self.writing.damaged |= trouble == Trouble::Damaged;
        if self.writing.disk.failed(trouble, &mut self.jitter, now) {
            self.say(News::DiskTrouble(trouble));
        }
    }
}
