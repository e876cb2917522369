//! The thread that owns the database. Requests come through one bounded queue and are answered in
//! their order; a transaction is committed as a whole, or nothing of it is.
//!
//! Packing, unpacking and checksums are done here, off delivery's thread. Nothing here decides what
//! to write or when: that is [`crate::delivery`].

mod failure;
mod owner;
mod transaction;
mod vacuum;

use std::io;
use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use headwater_record::DeviceId;
use tokio::sync::{mpsc, oneshot};

pub(super) use self::failure::{Failure, classify};
use self::owner::Owner;
use super::disk::{Floors, Free, Seen};
use super::registry::{Change, Markers, Refusing};
use super::salvage::{Progress, Salvaging};
use super::schema::OpenError;
use super::sealing::Keys;
use super::{BatchId, Depth, Healing, Lane, Reply, Transaction, Trouble, Used};
use crate::checkpoint::Knowledge;
use crate::discover::sizes::Sizes;
use crate::hardware::Marks;

/// One transaction and one load of delivery's, one change of each source thread, and some air.
const QUEUE: usize = 16;

/// Answers that are under way: delivery has one transaction and one load open at a time.
pub const REPLIES: usize = 4;

/// What the thread is asked.
#[derive(Debug)]
pub(super) enum Request {
    Commit(Transaction),
    Load {
        after: BatchId,
        through: BatchId,
        bytes_max: u64,
    },
    Change(Change, SyncSender<Result<(), Trouble>>),
    Known(oneshot::Sender<Result<Knowledge, Trouble>>),
    Heal(Healing),
    Close,
}

/// What the database held at start.
#[derive(Debug)]
pub struct Found {
    /// Generations that are open, and files of closed ones.
    pub known: Knowledge,
    /// The backlog.
    pub depth: Depth,
    /// The last row of each lane, by [`Lane::index`]; the one before its first where there is none.
    pub last: [BatchId; Lane::COUNT],
    /// What earlier runs used of the budgets.
    pub usage: Vec<Used>,
    /// The last run was cut off, and files could not be had to go on under other generations: the disk refuses.
    pub not_split: bool,
}

/// What the spool is opened on, for comparison with what it was written on.
#[derive(Debug, Clone, Default)]
pub struct Present {
    /// Marks of the hardware.
    pub hardware: Marks,
    /// The last run ended with the system, and not in order ([`super::run`]): files may have lost their ends. Their
    /// lengths early in this boot, as far as somebody looked.
    pub cut_off: Option<Sizes>,
}

/// Where the thread says what it found, or why it ends.
pub type Opening = oneshot::Receiver<Result<Found, OpenError>>;

/// Delivery's handle on the thread.
#[derive(Debug)]
pub struct Store {
    pub(super) requests: SyncSender<Request>,
    pub(super) markers: Markers,
    pub(super) refusing: Refusing,
    seen: Seen,
    salvaging: Salvaging,
    thread: JoinHandle<()>,
}

impl Store {
    /// Starts the thread, which opens the spool of `state_dir` (salvaging it where it is damaged,
    /// in the name of `device`; drawing generations anew where it was made on other hardware than `present` or the last run was cut off),
    /// says what it found, and then answers to `replies` (of [`REPLIES`]
    /// places). A salvage of gigabytes takes minutes.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(
        state_dir: &Path,
        (device, floors, keys, present): (&DeviceId, Floors, Keys, Present),
        replies: mpsc::Sender<Reply>,
    ) -> io::Result<(Self, Opening)> {
        let (requests, queue) = sync_channel(QUEUE);
        let (tell, opening) = oneshot::channel();
        let (state_dir, device) = (state_dir.to_owned(), device.clone());
        let markers = Markers::default();
        let (seen, salvaging) = (Seen::default(), Salvaging::default());
        let refusing = Refusing::default();
        let held = (
            markers.clone(),
            seen.clone(),
            salvaging.clone(),
            refusing.clone(),
        );
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                let to = (device, floors, keys, present);
                let (told, owner) = match Owner::open(&state_dir, to, held) {
                    Ok((owner, found)) => (tell.send(Ok(found)), Some(owner)),
                    Err(error) => (tell.send(Err(error)), None),
                };
                if let (Ok(()), Some(mut owner)) = (told, owner) {
                    owner.run(&queue, &replies);
                }
            })?;
        let store = Self {
            requests,
            markers,
            refusing,
            seen,
            salvaging,
            thread,
        };
        Ok((store, opening))
    }

    /// What the disk has free, as the thread saw it at its last commit, or within half a minute.
    pub fn free(&self) -> Option<Free> {
        self.seen.get()
    }

    /// How far the salvage has come that is under way; none where none is.
    pub fn salvage(&self) -> Option<Progress> {
        self.salvaging.progress()
    }

    /// Asks for a salvage of the database, which was found to be damaged. Notices take ids from
    /// `healing.first_free` of their lane. The answer is [`Reply::Healed`] or [`Reply::HealFailed`].
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn heal(&self, healing: Healing) -> Result<(), Trouble> {
        self.ask(Request::Heal(healing))
    }

    /// Asks for a transaction; the answer is [`Reply::Committed`] or [`Reply::CommitFailed`].
    ///
    /// # Errors
    /// The queue is full, or the thread gone: nothing was asked.
    pub fn commit(&self, transaction: Transaction) -> Result<(), Trouble> {
        self.ask(Request::Commit(transaction))
    }

    /// Asks for the rows behind `after`, up to `through`, oldest first: at least one, and further
    /// ones while all together stay within `bytes_max` unpacked. The answer is [`Reply::Loaded`] or
    /// [`Reply::LoadFailed`].
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn load(&self, after: BatchId, through: BatchId, bytes_max: u64) -> Result<(), Trouble> {
        self.ask(Request::Load {
            after,
            through,
            bytes_max,
        })
    }

    /// Asks for every generation that is open, and files of closed ones, as of what was asked before.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn known(&self) -> Result<oneshot::Receiver<Result<Knowledge, Trouble>>, Trouble> {
        let (answer, known) = oneshot::channel();
        self.ask(Request::Known(answer))?;
        Ok(known)
    }

    fn ask(&self, request: Request) -> Result<(), Trouble> {
        self.requests
            .try_send(request)
            .map_err(|error| match error {
                TrySendError::Full(_) => Trouble::Busy,
                TrySendError::Disconnected(_) => Trouble::Bug,
            })
    }

    /// Does what was asked before (but for a salvage: the next start does it), writes the log back into
    /// the database, and ends the thread.
    pub fn close(self) {
        self.salvaging.stop();
        if self.requests.send(Request::Close).is_err() || self.thread.join().is_err() {
            tracing::error!(
                "the store's thread ended before it was told to; the database recovers at the next start"
            );
        }
    }
}

#[cfg(test)]
mod power_cut;
#[cfg(test)]
mod tests;
