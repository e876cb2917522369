//! What goes into delivery and what comes out of it: plain data, and the settings it goes by.

use std::sync::Arc;
use std::time::Duration;

use super::allowance::Closed;
use super::uplink::UplinkSettings;
use crate::batch::Batch;
use crate::produce::outcome::Outcome;
use crate::spool::{BatchId, Healing, Lane, Reply, Transaction, Trouble, WhenFull};

/// What delivery goes by; from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// A batch that the broker has not acknowledged within this time is committed to the spool;
    /// zero: every batch is, before it is sent.
    pub spool_after: Duration,
    /// Most that the spool's rows take, bytes.
    pub spool_bytes_max: u64,
    /// What happens where a lane has no room, by [`Lane::index`].
    pub when_full: [WhenFull; Lane::COUNT],
    /// When the agent may be connected.
    pub uplink: UplinkSettings,
    /// Most bytes written to flash in a day; none: no budget.
    pub flash_bytes_per_day: Option<u64>,
    /// A checkpoint is committed this long after something moved, five times as long while that is
    /// less than 1 MiB,
    pub checkpoint_every: Duration,
    /// or once values of this many bytes are settled beyond it.
    pub checkpoint_bytes: u64,
    /// The RAM window, bytes: what the sources may have queued.
    pub window_bytes: usize,
    /// Most that librdkafka holds, bytes: values, and what each record costs besides.
    pub in_flight_bytes_max: usize,
    /// How long a stop waits for the broker before it commits what is left.
    pub flush: Duration,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A source gave a batch.
    Queued(Batch),
    /// librdkafka is done with a batch.
    Reported {
        /// Which.
        id: BatchId,
        /// How it went.
        outcome: Outcome,
    },
    /// librdkafka's client is of no use any more, or could not be made.
    ProducerLost,
    /// The store answered.
    Store(Reply),
    /// The wall clock: set, or not (yet, or again).
    Clock {
        /// It was set.
        set: bool,
        /// What it says, as in [`Event::Wall`]: hours and budgets are never judged by what it said
        /// before.
        wall_ms: u64,
    },
    /// The sources have ended, and all that they gave was queued.
    Stop,
    /// The wall clock says so, Unix milliseconds: at the start, now and then, and when it has stepped.
    Wall(u64),
    /// The device was suspended: no other time here has passed meanwhile.
    Slept {
        /// For so long.
        period: Duration,
        /// What the wall clock says behind it, as in [`Event::Wall`]. It may have been told already: the sleep is
        /// not added to it.
        wall_ms: u64,
    },
    /// The process has written so many bytes to storage since its start: a commit says it too, but names
    /// of new files and boundaries are committed without delivery.
    Written(u64),
    /// So many bytes more have passed between the client and the brokers.
    Wire(u64),
    /// A deadline, or nothing: time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Hand it to librdkafka; [`Event::Reported`] follows.
    Send {
        /// Which.
        id: BatchId,
        /// Its records. Drop it once they are handed over.
        batch: Arc<Batch>,
    },
    /// Commit it; [`Reply::Committed`] or [`Reply::CommitFailed`] follows.
    Commit(Transaction),
    /// Read rows; [`Reply::Loaded`] or [`Reply::LoadFailed`] follows.
    Load {
        /// Behind this one,
        after: BatchId,
        /// and up to this one.
        through: BatchId,
        /// At most this much, unpacked; but one row at least.
        bytes_max: u64,
    },
    /// Salvage the damaged database; [`Reply::Healed`] or [`Reply::HealFailed`] follows.
    Heal(Healing),
    /// Make a new librdkafka client; forget what the old one says.
    Recreate,
    /// End the librdkafka client; [`Action::Recreate`] makes the next one.
    Disconnect,
    /// Tell the reader of the log.
    Say(News),
    /// The stop is complete.
    Done,
}

/// What a person should know. Said when it changes, not when it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The broker does not acknowledge; batches go to the spool.
    Offline,
    /// The broker acknowledges again.
    Online,
    /// The clock is unset: nothing is sent.
    ClockUnset,
    /// The clock is set.
    ClockSet,
    /// Batches came back from librdkafka.
    Refused {
        /// Milliseconds until they are sent again.
        wait_ms: u64,
    },
    /// librdkafka's client is lost.
    ProducerLost {
        /// Milliseconds until a new one is made.
        wait_ms: u64,
    },
    /// The database refuses: batches stay in RAM.
    DiskTrouble(Trouble),
    /// It does what it is asked again.
    DiskWell,
    /// The spool is full, and nothing in it may give way: the sources of this lane wait.
    SpoolFull(Lane),
    /// The spool is full: the oldest batches give way to those of this lane.
    Dropping(Lane),
    /// The flash budget is being used up: commits are so many times rarer than configured.
    FlashStretched {
        /// 1 where they are as configured again.
        times: u32,
    },
    /// So many bytes were written beyond the flash budget, and will be made up for first.
    FlashOverdrawn {
        /// An eighth of a day's at least.
        bytes: u64,
    },
    /// What is left of a budget of the uplink is not for every lane; none: all may send again.
    UplinkBudget(Option<Closed>),
    /// It has room again.
    SpoolRoom,
    /// The stop ends, and so many batches are neither acknowledged nor committed. Files are read
    /// again from the checkpoint; a sensor's generation is closed with an unknown tail.
    LeftBehind {
        /// How many.
        batches: usize,
    },
}
