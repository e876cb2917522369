//! The thread that owns the database. Requests come through one bounded queue and are answered in
//! their order; a transaction is committed as a whole, or nothing of it is.
//!
//! Packing, unpacking and checksums are done here, off delivery's thread. Nothing here decides what
//! to write or when: that is [`crate::delivery`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;

use headwater_record::DeviceId;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::batch::{Kinds, Packer};
use super::disk::{self, Floors};
use super::evict::{self, Evicting};
use super::folder::Folder;
use super::registry::{Change, Markers};
use super::schema::{OpenError, Opened, open};
use super::sealing::{KeyId, Keys};
use super::{
    BatchId, Depth, Healing, Lane, Reply, Transaction, Trouble, Used, generations, rows, usage,
};
use crate::checkpoint::OpenGeneration;
use crate::{clock, crash};

/// One transaction and one load of delivery's, one change of each source thread, and some air.
const QUEUE: usize = 16;

/// Answers that are under way: delivery has one transaction and one load open at a time.
pub const REPLIES: usize = 4;

/// Pages given back to the file system at a time, once the spool is empty: 8 MiB. Then the next
/// request has its turn.
const VACUUM_PAGES: u32 = 2048;
/// Free pages that are kept: the next outage needs them.
const FREE_PAGES_KEPT: i64 = 256;

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
    Known(oneshot::Sender<Result<Vec<OpenGeneration>, Trouble>>),
    Heal(Healing),
    Close,
}

/// What the database held at start.
#[derive(Debug)]
pub struct Found {
    /// Generations that are open.
    pub known: Vec<OpenGeneration>,
    /// The backlog.
    pub depth: Depth,
    /// The last row of each lane, by [`Lane::index`]; the one before its first where there is none.
    pub last: [BatchId; Lane::COUNT],
    /// What earlier runs used of the budgets.
    pub usage: Vec<Used>,
}

/// Where the thread says what it found, or why it ends.
pub type Opening = oneshot::Receiver<Result<Found, OpenError>>;

/// Delivery's handle on the thread.
#[derive(Debug)]
pub struct Store {
    pub(super) requests: SyncSender<Request>,
    pub(super) markers: Markers,
    thread: JoinHandle<()>,
}

impl Store {
    /// Starts the thread, which opens the spool of `state_dir` (salvaging it where it is damaged,
    /// in the name of `device`), says what it found, and then answers to `replies` (of [`REPLIES`]
    /// places). A salvage of gigabytes takes minutes.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(
        state_dir: &Path,
        (device, floors, keys): (&DeviceId, Floors, Keys),
        replies: mpsc::Sender<Reply>,
    ) -> io::Result<(Self, Opening)> {
        let (requests, queue) = sync_channel(QUEUE);
        let (tell, opening) = oneshot::channel();
        let (state_dir, device) = (state_dir.to_owned(), device.clone());
        let markers = Markers::default();
        let held = markers.clone();
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                let (told, owner) = match Owner::open(&state_dir, (device, floors, keys), held) {
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
            thread,
        };
        Ok((store, opening))
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

    /// Asks for every generation that is open, as of what was asked before.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn known(
        &self,
    ) -> Result<oneshot::Receiver<Result<Vec<OpenGeneration>, Trouble>>, Trouble> {
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

    /// Does what was asked before, writes the log back into the database, and ends the thread.
    pub fn close(self) {
        if self.requests.send(Request::Close).is_err() || self.thread.join().is_err() {
            tracing::error!(
                "the store's thread ended before it was told to; the database recovers at the next start"
            );
        }
    }
}

fn found(opened: &Opened) -> rusqlite::Result<Found> {
    let connection = &opened.connection;
    Ok(Found {
        known: generations::all(connection, opened.identity)?,
        depth: rows::depth(connection)?,
        last: rows::last(connection)?,
        usage: usage::all(connection)?,
    })
}

/// Takes note of the key that seals from now on, and returns one that rows are sealed with and that is
/// not here. Without rows there is none, and the others are forgotten.
fn note_keys(connection: &Connection, keys: &Keys, rows: u64) -> rusqlite::Result<Option<KeyId>> {
    let noted = rows::keys(connection)?;
    let missing = noted.iter().find(|key| !keys.ids().any(|id| id == **key));
    if rows > 0 && missing.is_some() {
        return Ok(missing.copied());
    }
    if missing.is_some() {
        connection.execute_batch("DELETE FROM sealing")?;
    }
    match keys.current() {
        Some(key) if !noted.contains(&key) || missing.is_some() => rows::note_key(connection, key)?,
        _ => {}
    }
    Ok(None)
}

struct Owner {
    folder: Folder,
    device: DeviceId,
    /// None where a salvage has failed: it is to be tried again.
    opened: Option<Opened>,
    packer: Packer,
    markers: Markers,
    floors: Floors,
    evicting: Evicting,
    /// The spool is empty, and its file not yet small.
    shrinking: bool,
}

impl Owner {
    fn open(
        state_dir: &Path,
        (device, floors, keys): (DeviceId, Floors, Keys),
        markers: Markers,
    ) -> Result<(Self, Found), OpenError> {
        let packer = Packer::new(Arc::new(keys)).map_err(|source| OpenError::Directory {
            path: PathBuf::from(state_dir),
            source,
        })?;
        let folder = Folder::lock(state_dir)?;
        let opened = open(&folder, &device, &Healing::default(), false)?;
        let refused = |source: rusqlite::Error| OpenError::Refused {
            path: folder.database(),
            trouble: classify(source.sqlite_error_code()),
            source: source.into(),
        };
        let mut found = found(&opened).map_err(refused)?;
        let missing = note_keys(&opened.connection, packer.keys(), found.depth.rows);
        if let Some(key) = missing.map_err(refused)? {
            let path = folder.database();
            return Err(OpenError::Key { path, key });
        }
        let reusable = reusable_bytes(&opened.connection).unwrap_or(0);
        found.depth.room = floors.room_at(folder.path(), reusable);
        let opened = Some(opened);
        let owner = Self {
            folder,
            device,
            opened,
            packer,
            markers,
            floors,
            evicting: Evicting::default(),
            shrinking: found.depth.rows == 0,
        };
        Ok((owner, found))
    }

    fn run(&mut self, queue: &Receiver<Request>, replies: &mpsc::Sender<Reply>) {
        while let Some(request) = self.next_request(queue) {
            let reply = match request {
                Request::Commit(transaction) => match self.commit(&transaction) {
                    Ok(depth) => Reply::Committed(depth),
                    Err(trouble) => Reply::CommitFailed(trouble),
                },
                Request::Load {
                    after,
                    through,
                    bytes_max,
                } => self.load(after, through, bytes_max),
                Request::Change(change, answer) => {
                    if answer.send(self.change(&change)).is_err() {
                        tracing::debug!(
                            "a source did not wait for its change; it holds all the same"
                        );
                    }
                    continue;
                }
                Request::Known(answer) => {
                    if answer.send(self.known()).is_err() {
                        tracing::debug!("nobody waits for what is known any more");
                    }
                    continue;
                }
                Request::Heal(healing) => match self.heal(&healing) {
                    Ok((depth, last)) => Reply::Healed { depth, last },
                    Err(trouble) => Reply::HealFailed(trouble),
                },
                Request::Close => break,
            };
            if replies.blocking_send(reply).is_err() {
                break;
            }
        }
        if let Some(opened) = &self.opened
            && let Err(error) = rows::write_back(&opened.connection)
        {
            tracing::warn!(%error, "cannot write the spool's log back into it; the next start does");
        }
    }

    /// The next request; while there is none, free pages go back to the file system.
    fn next_request(&mut self, queue: &Receiver<Request>) -> Option<Request> {
        while self.shrinking {
            match queue.try_recv() {
                Ok(request) => return Some(request),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            self.shrinking = self
                .opened
                .as_ref()
                .is_some_and(|opened| shrink(&opened.connection));
        }
        queue.recv().ok()
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<Depth, Trouble> {
        let now_ms = clock::wall_ms();
        let opened = self.opened.as_mut().ok_or(Trouble::Damaged)?;
        let path = self.folder.path();
        let room = |connection: &Connection| {
            let reusable = reusable_bytes(connection).unwrap_or(0);
            self.floors.room_at(path, reusable)
        };
        let rows = transaction.rows.iter();
        let bytes: u64 = rows.map(|(_, batch)| batch.values.len() as u64).sum();
        // What gives way leaves its pages to what enters.
        let wants_room = bytes > 0 && transaction.evict.is_none();
        if wants_room && room(&opened.connection).is_some_and(|room| room < bytes) {
            return Err(Trouble::Floor);
        }
        let tools = Tools {
            packer: &mut self.packer,
            markers: &self.markers,
            evicting: &mut self.evicting,
        };
        let mut depth = match write(&mut opened.connection, tools, transaction, now_ms) {
            Ok(depth) => depth,
            Err(failure) => {
                self.evicting.forget();
                return Err(failure.trouble("commit to the spool"));
            }
        };
        self.shrinking = depth.rows == 0 && (self.shrinking || !transaction.deletes.is_empty());
        depth.room = room(&opened.connection);
        depth.written = disk::written();
        depth.evicted = self.evicting.evicted;
        Ok(depth)
    }

    fn load(&self, after: BatchId, through: BatchId, bytes_max: u64) -> Reply {
        let Some(opened) = &self.opened else {
            return Reply::LoadFailed(Trouble::Damaged);
        };
        let now_ms = clock::stamp_ms();
        let with = (self.packer.keys(), now_ms);
        match rows::load(&opened.connection, after, through, bytes_max, with) {
            Ok(reply) => reply,
            Err(error) => Reply::LoadFailed(Failure::from(error).trouble("read the spool")),
        }
    }

    fn change(&mut self, change: &Change) -> Result<(), Trouble> {
        let opened = self.opened.as_mut().ok_or(Trouble::Damaged)?;
        let (connection, identity) = (&mut opened.connection, opened.identity);
        let changed = (|| {
            let open = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            generations::change(&open, identity, change)?;
            open.commit()
        })();
        changed.map_err(|error| Failure::from(error).trouble("register a generation"))?;
        if matches!(change, Change::Register(_)) {
            crash::point("register-after-commit");
        }
        Ok(())
    }

    fn known(&self) -> Result<Vec<OpenGeneration>, Trouble> {
        let opened = self.opened.as_ref().ok_or(Trouble::Damaged)?;
        generations::all(&opened.connection, opened.identity)
            .map_err(|error| Failure::from(error).trouble("read what is open"))
    }

    /// Closes the database, salvages it, and opens what came of it.
    fn heal(&mut self, healing: &Healing) -> Result<(Depth, [BatchId; Lane::COUNT]), Trouble> {
        drop(self.opened.take());
        self.evicting.forget();
        let opened = open(&self.folder, &self.device, healing, true).map_err(|error| {
            tracing::error!("cannot salvage the spool: {error}; it is tried again");
            match error {
                OpenError::Refused { trouble, .. } => trouble,
                _ => Trouble::Io,
            }
        })?;
        let found = note_keys(&opened.connection, self.packer.keys(), 1)
            .and_then(|_| found(&opened))
            .map_err(|error| Failure::from(error).trouble("read the spool"))?;
        self.opened = Some(opened);
        Ok((found.depth, found.last))
    }
}

/// What a transaction is written with.
struct Tools<'a> {
    packer: &'a mut Packer,
    markers: &'a Markers,
    evicting: &'a mut Evicting,
}

/// Bytes of free pages that the database holds.
fn reusable_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok((number("freelist_count")? * number("page_size")?).cast_unsigned())
}

/// Writes a transaction, and returns what the spool holds then.
fn write(
    connection: &mut Connection,
    tools: Tools<'_>,
    transaction: &Transaction,
    now_ms: u64,
) -> Result<Depth, Failure> {
    let open = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut packed = Vec::with_capacity(transaction.rows.len());
    for (id, batch) in &transaction.rows {
        let row = tools.packer.pack(*id, batch).map_err(Failure::Packing)?;
        packed.push((row, batch.values.len() as u64));
    }
    let mut sums = evict::Sums::default();
    if let Some(evict) = &transaction.evict {
        let new: i64 = packed.iter().map(|(row, _)| rows::stored_bytes(row)).sum();
        let held = rows::depth(&open)?.bytes;
        let most = i64::try_from(evict.bytes_max).unwrap_or(i64::MAX);
        let bytes = i64::try_from(held).unwrap_or(i64::MAX).saturating_add(new) - most;
        tools
            .evicting
            .make_room(&open, tools.packer, evict, bytes, (&mut sums, now_ms))?;
    }
    for (row, plain_bytes) in &packed {
        let stored = rows::insert(&open, row, *plain_bytes, now_ms)?;
        sums[row.id.lane().index()].put(stored, row.kinds.has(Kinds::DATA));
    }
    let mut closed = Vec::new();
    for id in &transaction.deletes {
        if let Some(deleted) = rows::delete(&open, *id)? {
            closed.extend(deleted.closed);
            sums[id.lane().index()].take(Some(deleted));
        }
    }
    rows::add_depth(&open, &sums)?;
    usage::write(&open, &transaction.usage)?;
    let depth = rows::depth(&open)?;
    for checkpoint in &transaction.checkpoints {
        generations::settle(&open, *checkpoint, depth.rows == 0)?;
        if checkpoint.closed {
            tools.markers.forget(checkpoint.generation);
        } else if let Some(marker) = tools.markers.get(checkpoint.generation) {
            generations::mark(&open, checkpoint.generation, marker)?;
        }
    }
    if depth.rows == 0 && !transaction.deletes.is_empty() {
        generations::drained(&open)?;
    } else {
        closed
            .into_iter()
            .try_for_each(|generation| generations::close_delivered(&open, generation))?;
    }
    let spools = !transaction.rows.is_empty();
    crash::point(if spools {
        "spool-before-commit"
    } else {
        "checkpoint-before-commit"
    });
    open.commit()?;
    if spools {
        crash::point("spool-after-commit");
    }
    Ok(depth)
}

/// Gives free pages back, some at a time, without a copy of the database; returns whether there are
/// more. Failing costs nothing but the space: the next time that the spool is emptied tries again.
fn shrink(connection: &Connection) -> bool {
    let shrunk = (|| {
        let free = || connection.pragma_query_value(None, "freelist_count", |row| row.get(0));
        let before: i64 = free()?;
        if before <= FREE_PAGES_KEPT {
            return Ok(false);
        }
        // A page is freed at each step: the statement must be run to its end.
        let mut vacuum =
            connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
        drop(steps);
        let after: i64 = free()?;
        let more = after > FREE_PAGES_KEPT && after < before;
        if !more {
            // Only with the log written back does the file itself become smaller.
            rows::write_back(connection)?;
        }
        Ok::<_, rusqlite::Error>(more)
    })();
    shrunk.unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot give the spool's free pages back now");
        false
    })
}

/// Why a request failed, before it is a choice of the caller.
pub(super) enum Failure {
    Database(rusqlite::Error),
    Packing(io::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl Failure {
    /// Delivery says it once; the exact words of each try are for who asks.
    fn trouble(self, what: &str) -> Trouble {
        match self {
            Self::Database(error) => {
                tracing::debug!(%error, "cannot {what}");
                classify(error.sqlite_error_code())
            }
            Self::Packing(error) => {
                tracing::debug!(%error, "cannot pack a batch");
                Trouble::Bug
            }
        }
    }
}

/// Only what SQLite documents for a statement that was right before.
pub(super) fn classify(code: Option<ErrorCode>) -> Trouble {
    match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OutOfMemory) => {
            Trouble::Busy
        }
        Some(ErrorCode::DiskFull) => Trouble::Full,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Trouble::ReadOnly,
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => Trouble::Io,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Trouble::Damaged,
        _ => Trouble::Bug,
    }
}

#[cfg(test)]
mod power_cut;
#[cfg(test)]
mod tests;
