//! The spool and the checkpoints: one SQLite database, owned by one thread.
//!
//! ```text
//!  delivery ── Commit, Load ──►┐                     ┌──► generation: settled, cut, identity
//!                              ├─ store (one thread) ┤
//!  sources ─── register, cut ─►┘        │            └──► batch: rows, oldest first
//!                                       └── Reply ──► delivery
//! ```
//!
//! - [`store`]: the thread, its transactions and its replies.
//! - [`registry`]: the sources' way in: they wait until their change is committed.
//! - `rows`, `generations`: the statements, one function each.
//! - [`schema`]: opening a database: pragmas, version, checks, and what to do where it fails.
//! - `evict`: rows that give way; `disk`: how much the file system still takes.
//! - `folder`: the state directory, its lock and its files.
//! - [`salvage`]: from a damaged database to a whole one, over `pages` and `wal`, which read
//!   SQLite's formats.
//! - [`boot`]: which rows are of the present boot; `usage`: what was used of the budgets.
//! - [`run`]: whether the last run ended in order, and `split`: what follows for files where it did not; `anew`:
//!   the same on other hardware.
//! - [`read`]: from beside the agent; [`peek`]: generations alone.
//! - [`sealing`]: batches encrypted, where there is a key.
//! - [`batch`]: pure: a batch into a row, and any bytes back into a batch or an error.
//!
//! This file holds what passes the border to [`crate::delivery`]: plain data.

mod anew;
pub mod batch;
pub mod boot;
pub mod disk;
mod evict;
mod folder;
mod generations;
mod hardware;
mod pages;
pub mod peek;
pub mod read;
pub mod registry;
mod rows;
pub mod run;
pub mod salvage;
pub mod schema;
pub mod sealing;
pub(crate) mod split;
pub mod store;
#[cfg(test)]
#[expect(
    unsafe_code,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "SQLite's interface to files is C, and its numbers are; for tests only"
)]
mod test_disk;
mod usage;
mod wal;

#[cfg(test)]
pub(crate) use self::generations::chained;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use headwater_record::Generation;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;

/// A batch's place in the one order of everything: rising in the order of queueing, and the row's
/// id where it is spooled. Never given twice while a row of that id exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

impl BatchId {
    /// The one behind.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The one before; the first is its own.
    #[must_use]
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which batches go first: lanes drain in the order of their names here, and are evicted in the
/// reverse.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Alarms: before everything else.
    High,
    /// What is not said to be anything else.
    #[default]
    Normal,
    /// What can wait, and is given up first.
    Low,
}

impl Lane {
    /// How many there are.
    pub const COUNT: usize = 3;
    /// In the order of sending.
    pub const ALL: [Self; Self::COUNT] = [Self::High, Self::Normal, Self::Low];
    /// A lane's ids are the ones with its number above this bit: each lane is one range of rows, in
    /// one table, without an index.
    const SHIFT: u32 = 60;

    /// Its number: stable, since it stands in the database.
    pub fn index(self) -> usize {
        match self {
            Self::Normal => 0,
            Self::High => 1,
            Self::Low => 2,
        }
    }

    /// The first id of each, by [`Lane::index`].
    pub(crate) const ALL_FIRST: [BatchId; Self::COUNT] = [
        BatchId(1),
        BatchId((1 << Self::SHIFT) + 1),
        BatchId((2 << Self::SHIFT) + 1),
    ];

    /// The first id that a batch of it may have.
    pub fn first(self) -> BatchId {
        BatchId(((self.index() as u64) << Self::SHIFT) + 1)
    }

    /// The id behind the last that a batch of it may have.
    pub fn end(self) -> BatchId {
        BatchId((self.index() as u64 + 1) << Self::SHIFT)
    }
}

impl BatchId {
    /// Of which lane a batch of this id is.
    #[must_use]
    pub fn lane(self) -> Lane {
        match self.0 >> Lane::SHIFT {
            1 => Lane::High,
            2 => Lane::Low,
            _ => Lane::Normal,
        }
    }
}

/// How far a generation is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose.
    pub generation: Generation,
    /// Everything below is acknowledged by the broker, or in the spool once this is committed.
    pub settled: u64,
    /// Its close lies below `settled`: the generation is forgotten.
    pub closed: bool,
}

/// What is committed at once, or not at all.
#[derive(Debug, Default)]
pub struct Transaction {
    /// Batches that enter the spool, oldest first.
    pub rows: Vec<(BatchId, Arc<Batch>)>,
    /// Rows that the broker acknowledged.
    pub deletes: Vec<BatchId>,
    /// What is settled once this is committed, for each generation in which something moved.
    pub checkpoints: Vec<Checkpoint>,
    /// Room that is made for `rows` before they enter.
    pub evict: Option<Evict>,
    /// What was used of the budgets, where there are any.
    pub usage: Vec<Used>,
}

/// What was used of a budget, so that a restart does not begin with a new one. Plain numbers: what
/// they mean is for whoever keeps the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Which.
    pub budget: u8,
    /// As of when, or since when; Unix milliseconds.
    pub at_ms: u64,
    /// How many.
    pub bytes: i64,
}

impl Used {
    /// Whether it is a level as of a moment, not a sum since one.
    pub(crate) fn is_level(self) -> bool {
        self.budget == crate::delivery::FLASH_BUDGET
    }
}

/// Which rows give way to new ones: the oldest that hold data, each becoming a notice of its loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evict {
    /// What all rows together may take once the new ones are there.
    pub bytes_max: u64,
    /// The lanes that give way, the first to do so first; in each, only rows behind the id: what lies
    /// before may be at hand.
    pub lanes: Vec<(Lane, BatchId)>,
    /// Rows that stay, wherever they are.
    pub kept: BTreeSet<BatchId>,
}

/// What a salvage is to know besides the damaged database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healing {
    /// Notices take ids from here, in each lane by [`Lane::index`].
    pub first_free: [BatchId; Lane::COUNT],
    /// Ranges that count as settled, though no checkpoint in the database says so yet: their rows
    /// may be among those that are lost.
    pub beyond: Vec<(Generation, u64, u64)>,
}

impl Default for Healing {
    /// At a start: nobody knows more than the database.
    fn default() -> Self {
        Self {
            first_free: Lane::ALL_FIRST,
            beyond: Vec::new(),
        }
    }
}

/// What happens where a lane has no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Its sources wait: files keep what they have, samples are lost with a notice.
    #[default]
    Pause,
    /// Its oldest batches, and those of lower lanes that drop too, become loss notices.
    DropOldest,
}

/// What the spool holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Batches.
    pub rows: u64,
    /// Bytes of their rows, as stored.
    pub bytes: u64,
    /// When the oldest was committed, Unix milliseconds; none where the spool is empty.
    pub oldest_ms: Option<u64>,
    /// Bytes of the rows that hold data, by [`Lane::index`]: what evicting could free.
    pub data_bytes: [u64; Lane::COUNT],
    /// How much more the file system takes before its floors are reached; none where it was not
    /// looked at.
    pub room: Option<u64>,
    /// Bytes that the process has written to storage since its start, as the kernel counts them.
    pub written: Option<u64>,
    /// Sums of what was evicted since the start.
    pub evicted: Evicted,
}

/// What was evicted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Rows whose data was given up.
    pub rows: u64,
    /// Records in them.
    pub records: u64,
}

/// Why the database did not do what it was asked, as choices of the caller: whichever it is, the
/// batches stay in RAM, the sources wait, and it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// Somebody else holds the database, or the store has a full queue.
    Busy,
    /// No room on the file system.
    Full,
    /// There is room, but it is kept free: `spool.free_bytes_min`, `spool.free_inodes_min`.
    Floor,
    /// The file system is read-only.
    ReadOnly,
    /// The disk failed.
    Io,
    /// The database is damaged.
    Damaged,
    /// A batch is sealed with a key that is not here.
    Key,
    /// Anything else: our own mistake.
    Bug,
}

impl Trouble {
    /// What it is and what the reader can do, in a few words.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Busy => "the database is locked: is another program reading it?",
            Self::Floor => {
                "the file system has no more space or inodes than are to be kept free: free some"
            }
            Self::Full => "no space is left on the file system: free some",
            Self::ReadOnly => "the file system is read-only: remount it writable, check the disk",
            Self::Io => "the disk fails: check it",
            Self::Damaged => "the database is damaged: it is salvaged and replaced",
            Self::Key => {
                "a batch in it is sealed with a key that is neither spool.key nor one of spool.old_keys: put the key back"
            }
            Self::Bug => "this should not happen: please report it with the log",
        }
    }
}

/// What the store answers, in the order of the requests.
#[derive(Debug)]
pub enum Reply {
    /// The transaction is committed, and survives a power cut.
    Committed(Depth),
    /// It is not, and nothing of it is.
    CommitFailed(Trouble),
    /// Rows in order: every one behind the place asked for, up to and with `through`.
    Loaded {
        /// The rows that could be read; one that could not is a loss notice of its range.
        rows: Vec<(BatchId, Batch)>,
        /// Last row that was looked at.
        through: BatchId,
        /// How many of `rows` are such notices.
        lost: u64,
    },
    /// Nothing could be read.
    LoadFailed(Trouble),
    /// The database was salvaged and replaced: rows may be gone, and loss notices stand in for them.
    Healed {
        /// What it holds now.
        depth: Depth,
        /// The last row of each lane, by [`Lane::index`].
        last: [BatchId; Lane::COUNT],
    },
    /// It is still damaged.
    HealFailed(Trouble),
}
