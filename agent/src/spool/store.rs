//! The thread that owns the database. Requests come through one bounded queue and are answered in
//! their order; a transaction is committed as a whole, or nothing of it is.
//!
//! Packing, unpacking and checksums are done here, off delivery's thread. Nothing here decides what
//! to write or when: that is [`crate::delivery`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};
use tokio::sync::mpsc;

use super::batch::Packer;
use super::registry::{Change, Markers};
use super::schema::{OpenError, Opened, open};
use super::{BatchId, Checkpoint, Depth, Reply, Transaction, Trouble, rows};
use crate::checkpoint::OpenGeneration;
use crate::{clock, crash};

/// One transaction and one load of delivery's, one change of each source thread, and some air.
const QUEUE: usize = 16;

/// Answers that are under way: delivery has one transaction and one load open at a time.
pub const REPLIES: usize = 4;

/// Pages given back to the file system at a time, once the spool is empty: 8 MiB. Free pages at the
/// end are cut off without a copy, so this is a short wait of the thread.
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
    Close,
}

/// What the database held at start.
#[derive(Debug)]
pub struct Found {
    /// Generations that are open.
    pub known: Vec<OpenGeneration>,
    /// The backlog.
    pub depth: Depth,
    /// Its last row; 0 where there is none.
    pub last: BatchId,
}

/// Delivery's handle on the thread.
#[derive(Debug)]
pub struct Store {
    pub(super) requests: SyncSender<Request>,
    pub(super) markers: Markers,
    thread: JoinHandle<()>,
}

impl Store {
    /// Opens the spool of `state_dir` and starts its thread, which answers to `replies` (of
    /// [`REPLIES`] places).
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn start(
        state_dir: &Path,
        replies: mpsc::Sender<Reply>,
    ) -> Result<(Self, Found), OpenError> {
        let opened = open(state_dir)?;
        let path = opened.path.clone();
        let database = |source| OpenError::Database {
            path: path.clone(),
            source,
        };
        let found = found(&opened.connection).map_err(database)?;
        let packer = Packer::new().map_err(|source| directory(&path, source))?;
        let (requests, queue) = sync_channel(QUEUE);
        let markers = Markers::default();
        let mut owner = Owner {
            opened,
            packer,
            markers: markers.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || owner.run(&queue, &replies))
            .map_err(|source| directory(&path, source))?;
        let store = Self {
            requests,
            markers,
            thread,
        };
        Ok((store, found))
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

fn directory(path: &Path, source: io::Error) -> OpenError {
    let path: PathBuf = path.to_owned();
    OpenError::Directory { path, source }
}

fn found(connection: &Connection) -> rusqlite::Result<Found> {
    let last: Option<i64> =
        connection.query_row("SELECT max(id) FROM batch", [], |row| row.get(0))?;
    Ok(Found {
        known: rows::generations(connection)?,
        depth: rows::depth(connection)?,
        last: BatchId(last.unwrap_or(0).cast_unsigned()),
    })
}

struct Owner {
    opened: Opened,
    packer: Packer,
    markers: Markers,
}

impl Owner {
    fn run(&mut self, queue: &Receiver<Request>, replies: &mpsc::Sender<Reply>) {
        while let Ok(request) = queue.recv() {
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
                Request::Close => break,
            };
            if replies.blocking_send(reply).is_err() {
                break;
            }
        }
        if let Err(error) = rows::write_back(&self.opened.connection) {
            tracing::warn!(%error, "cannot write the spool's log back into it; the next start does");
        }
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<Depth, Trouble> {
        let now_ms = clock::wall_ms();
        let connection = &mut self.opened.connection;
        let committed = (|| {
            let open = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let (mut count, mut bytes) = (0_i64, 0_i64);
            for (id, batch) in &transaction.rows {
                let row = self.packer.pack(batch).map_err(Failure::Packing)?;
                let stored = rows::insert(&open, *id, &row, batch.values.len(), now_ms)?;
                count += i64::from(stored.is_some());
                bytes += stored.unwrap_or(0);
            }
            for id in &transaction.deletes {
                if let Some(stored) = rows::delete(&open, *id)? {
                    count -= 1;
                    bytes -= stored;
                }
            }
            if (count, bytes) != (0, 0) {
                open.prepare_cached(include_str!("sql/add_depth.sql"))?
                    .execute(params![count, bytes])?;
            }
            for checkpoint in &transaction.checkpoints {
                settle(&open, *checkpoint, &self.markers)?;
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
            Ok(())
        })();
        committed.map_err(|failure: Failure| failure.trouble("commit to the spool"))?;
        let connection = &self.opened.connection;
        let depth = rows::depth(connection)
            .map_err(|error| Failure::from(error).trouble("read the spool's depth"))?;
        if depth.rows == 0 && !transaction.deletes.is_empty() {
            shrink(connection);
        }
        Ok(depth)
    }

    fn load(&self, after: BatchId, through: BatchId, bytes_max: u64) -> Reply {
        match rows::load(
            &self.opened.connection,
            after,
            through,
            bytes_max,
            clock::wall_ms(),
        ) {
            Ok(reply) => reply,
            Err(error) => Reply::LoadFailed(Failure::from(error).trouble("read the spool")),
        }
    }

    fn change(&mut self, change: &Change) -> Result<(), Trouble> {
        let connection = &mut self.opened.connection;
        let changed = (|| {
            let open = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            rows::change(&open, change)?;
            open.commit()
        })();
        changed.map_err(|error| Failure::from(error).trouble("register a generation"))?;
        if matches!(change, Change::Register(_)) {
            crash::point("register-after-commit");
        }
        Ok(())
    }
}

fn settle(open: &Connection, checkpoint: Checkpoint, markers: &Markers) -> rusqlite::Result<()> {
    let id = checkpoint.generation.0.cast_signed();
    if checkpoint.closed {
        open.prepare_cached(include_str!("sql/close_generation.sql"))?
            .execute([id])?;
        markers.forget(checkpoint.generation);
    } else {
        open.prepare_cached(include_str!("sql/checkpoint.sql"))?
            .execute(params![id, checkpoint.settled.cast_signed()])?;
        if let Some(marker) = markers.get(checkpoint.generation) {
            rows::mark(open, checkpoint.generation, marker)?;
        }
    }
    Ok(())
}

/// Gives free pages back, some at a time. Failing costs nothing but the space.
fn shrink(connection: &Connection) {
    let shrunk = (|| {
        let free: i64 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        if free <= FREE_PAGES_KEPT {
            return Ok(());
        }
        // A page is freed at each step: the statement must be run to its end.
        let mut vacuum =
            connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
        Ok::<_, rusqlite::Error>(())
    })();
    if let Err(error) = shrunk {
        tracing::debug!(%error, "cannot give the spool's free pages back now");
    }
}

/// Why a request failed, before it is a choice of the caller.
enum Failure {
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
fn classify(code: Option<ErrorCode>) -> Trouble {
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
mod tests;
