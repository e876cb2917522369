//! What others are told from time to time: systemd's status and watchdog, and the log.
//!
//! The agent's log may be followed by the agent itself, or by another one on the device. So nothing that
//! it says by default is said because something was read, sent or committed: such a line would be a
//! record, which moves the counters, which is a line.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::{self, Monotonic};
use crate::delivery::{Counters, Delivery};
use crate::sample;
use crate::spool::Depth;
use crate::spool::salvage::Progress as Salvage;
use crate::systemd;

/// How often systemd's status is renewed.
const STATUS_EVERY: Duration = Duration::from_secs(30);
/// How often the log says how it goes, where something moved and somebody asked for it (`--log debug`).
const LOG_EVERY: Duration = Duration::from_secs(60);
/// A store that owes an answer for so long hangs in its disk: the watchdog is no longer fed.
const STORE_PATIENCE: Duration = Duration::from_secs(60);

/// A salvage that has not come further for so long hangs, too. Long: at its end it waits until all that it
/// wrote is on the card.
const SALVAGE_PATIENCE: Duration = Duration::from_secs(600);

/// A source that neither waits nor looks around for so long hangs in what it reads: as long as a search
/// of large compressed files may take.
const SOURCE_PATIENCE: Duration = Duration::from_secs(120);

/// When to tell whom next.
#[derive(Debug)]
pub(super) struct Progress {
    status_at: Monotonic,
    log_at: Monotonic,
    logged: Counters,
    /// How often the watchdog wants to be fed, and when next.
    watchdog: Option<(Duration, Monotonic)>,
}

impl Progress {
    pub(super) fn new(now: Monotonic) -> Self {
        Self {
            status_at: now,
            log_at: now.plus(LOG_EVERY),
            logged: Counters::default(),
            watchdog: systemd::watchdog_period().map(|period| (period, now)),
        }
    }

    pub(super) fn next_deadline(&self) -> Monotonic {
        let watchdog = self.watchdog.map_or(Monotonic(u64::MAX), |(_, at)| at);
        self.status_at.min(self.log_at).min(watchdog)
    }

    /// Tells what is due. The watchdog is fed by this very loop, and only while the store answers.
    /// Returns whether the half minute was over: other things that are done so often can be, then.
    pub(super) fn tell(
        &mut self,
        (delivery, salvage): (&Delivery, Option<Salvage>),
        window_bytes: usize,
        now: Monotonic,
    ) -> bool {
        let is_time = self.status_at <= now;
        if is_time {
            self.status_at = now.plus(STATUS_EVERY);
            systemd::status(&match salvage {
                Some(salvage) => salvaging(salvage),
                None => status(delivery.counters(), delivery.depth()),
            });
        }
        if self.log_at <= now {
            self.log_at = now.plus(LOG_EVERY);
            self.log(delivery, window_bytes);
        }
        if let Some((period, at)) = &mut self.watchdog
            && *at <= now
        {
            *at = now.plus(*period);
            if stuck_store(delivery, salvage, now).is_none() {
                systemd::alive();
            }
        }
        is_time
    }

    fn log(&mut self, delivery: &Delivery, window_bytes: usize) {
        let (counters, depth) = (delivery.counters(), delivery.depth());
        if counters == self.logged {
            return;
        }
        self.logged = counters;
        tracing::debug!(
            records = counters.records,
            batches = counters.batches,
            delivered = counters.delivered,
            spool_rows = depth.rows,
            spool_bytes = depth.bytes,
            spool_oldest_s = age_s(depth),
            window_bytes,
            "progress"
        );
    }
}

/// Why the pipeline does not move though it should; none where it moves or knows why not: a broker
/// that is away is a reason, a disk that hangs is none. `silent`: the thread of a source that was heard
/// of least recently.
pub(super) fn stuck(
    (delivery, salvage): (&Delivery, Option<Salvage>),
    silent: Option<(String, Duration)>,
    now: Monotonic,
) -> Option<String> {
    stuck_store(delivery, salvage, now).or_else(|| {
        let (thread, silent) = silent.filter(|(_, silent)| *silent >= SOURCE_PATIENCE)?;
        let seconds = silent.as_secs();
        Some(format!(
            "the thread {thread:?} is held in a read for {seconds} s: a dead network file system, or a sensor's driver"
        ))
    })
}

/// The same of the store alone. It is what the watchdog goes by: a new process waits for the same file
/// system or driver as this one, and the other sources would begin anew each time.
fn stuck_store(delivery: &Delivery, salvage: Option<Salvage>, now: Monotonic) -> Option<String> {
    let waits = |since: Monotonic, patience| {
        let waited = now.since(since);
        (waited >= patience).then_some(waited.as_secs())
    };
    if let Some(salvage) = salvage {
        let seconds = waits(salvage.moved, SALVAGE_PATIENCE)?;
        return Some(format!(
            "the salvage of the database has come no further for {seconds} s: the disk hangs"
        ));
    }
    let seconds = waits(delivery.store_owes_since()?, STORE_PATIENCE)?;
    Some(format!(
        "the database has not answered for {seconds} s: the disk hangs"
    ))
}

/// The sums of a whole run.
pub(super) fn log_end(counters: Counters, depth: Depth, samples: &sample::Counters) {
    tracing::info!(
        records = counters.records,
        bytes = counters.bytes,
        batches = counters.batches,
        sent = counters.sent,
        delivered = counters.delivered,
        spooled = counters.spooled,
        checkpoints = counters.checkpoints,
        retries = counters.retries,
        recreated = counters.recreated,
        refused = counters.refused,
        lost_rows = counters.lost,
        dropped_batches = counters.dropped,
        dropped_records = counters.dropped_records,
        full_waits = counters.full_waits,
        healed = counters.healed,
        sessions = counters.sessions,
        flash_waits = counters.flash_waits,
        flash_bytes = depth.written,
        samples = samples.taken.load(Ordering::Relaxed),
        lost_samples = samples.lost.load(Ordering::Relaxed),
        spool_rows = depth.rows,
        spool_bytes = depth.bytes,
        "stopped"
    );
}

fn status(counters: Counters, depth: Depth) -> String {
    format!(
        "{} records read; {} of {} batches delivered; spool: {} batches, {} bytes, oldest {} s",
        counters.records,
        counters.delivered,
        counters.batches,
        depth.rows,
        depth.bytes,
        age_s(depth)
    )
}

/// How far a salvage has come.
pub(super) fn salvaging(salvage: Salvage) -> String {
    format!(
        "the spool is damaged, and is being salvaged: {} of {} bytes looked at",
        salvage.bytes, salvage.bytes_all
    )
}

fn age_s(depth: Depth) -> u64 {
    depth
        .oldest_ms
        .map_or(0, |oldest| clock::age_ms(oldest) / 1000)
}

#[cfg(test)]
mod tests;
