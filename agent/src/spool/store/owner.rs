//! The thread's own side: it holds the database, and performs one request after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use headwater_record::{DeviceId, Generation};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::mpsc;

use super::failure::{Failure, classify};
use super::transaction::{Tools, write};
use super::vacuum::{Vacuum, reusable_bytes};
use super::{Found, Present, Request};
use crate::checkpoint::Knowledge;
use crate::discover::sizes::Sizes;
use crate::hardware::{Kind, Marks};
use crate::spool::anew::{self, Moved};
use crate::spool::batch::Packer;
use crate::spool::disk::{self, Floors, Free, Seen};
use crate::spool::evict::Evicting;
use crate::spool::folder::Folder;
use crate::spool::registry::{Change, Markers, Refusing};
use crate::spool::salvage::Salvaging;
use crate::spool::schema::{OpenError, Opened, open};
use crate::spool::sealing::{KeyId, Keys};
use crate::spool::split::split;
use crate::spool::{
    BatchId, Depth, Healing, Lane, Reply, Transaction, Trouble, generations, rows, usage,
};
use crate::{clock, crash};

/// How often it is looked what the disk has free, though nobody asks for anything.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What the thread owns.
pub(super) struct Owner {
    folder: Folder,
    device: DeviceId,
    /// None where a salvage has failed: it is to be tried again.
    pub(super) opened: Option<Opened>,
    packer: Packer,
    markers: Markers,
    pub(super) floors: Floors,
    seen: Seen,
    salvaging: Salvaging,
    refusing: Refusing,
    evicting: Evicting,
    vacuum: Vacuum,
}

impl Owner {
    /// Opens the spool, salvages it where it is damaged, and says what it holds.
    pub(super) fn open(
        state_dir: &Path,
        (device, floors, keys, present): (DeviceId, Floors, Keys, Present),
        (markers, seen, salvaging, refusing): (Markers, Seen, Salvaging, Refusing),
    ) -> Result<(Self, Found), OpenError> {
        let packer = Packer::new(Arc::new(keys)).map_err(|source| OpenError::Directory {
            path: PathBuf::from(state_dir),
            source,
        })?;
        let folder = Folder::lock(state_dir)?;
        let to = (&device, floors, packer.keys(), &salvaging);
        let mut opened = open(&folder, to, &Healing::default(), false)?;
        let refused = |source: rusqlite::Error| OpenError::Refused {
            path: folder.database(),
            trouble: classify(&source),
            source: source.into(),
        };
        let has_moved = look_at_hardware(&mut opened, &present.hardware).map_err(refused)?;
        let not_split = match present.cut_off {
            // All of them are others already.
            Some(sizes) if !has_moved => !split_files(&mut opened, &sizes).map_err(refused)?,
            _ => false,
        };
        let mut found = Found {
            not_split,
            ..found(&opened).map_err(refused)?
        };
        let missing = note_keys(&opened.connection, packer.keys(), found.depth.rows);
        if let Some(key) = missing.map_err(refused)? {
            let path = folder.database();
            return Err(OpenError::Key { path, key });
        }
        let reusable = reusable_bytes(&opened.connection).unwrap_or(0);
        let free = Free::at(folder.path());
        seen.set(free);
        found.depth.room = free.map(|free| floors.room_in(free, reusable));
        let opened = Some(opened);
        // Old ones, too: they are listed while a key is being done without.
        let vacuum = Vacuum::new(found.depth.rows == 0, packer.keys().ids().next().is_some());
        let owner = Self {
            folder,
            device,
            opened,
            packer,
            markers,
            floors,
            seen,
            salvaging,
            refusing,
            evicting: Evicting::default(),
            vacuum,
        };
        Ok((owner, found))
    }

    /// Answers until it is told to end.
    pub(super) fn run(&mut self, queue: &Receiver<Request>, replies: &mpsc::Sender<Reply>) {
        while let Some(request) = self.next_request(queue) {
            let reply = match request {
                Request::Commit(transaction) => match self.commit(&transaction) {
                    Ok(depth) => {
                        self.refusing.answered(Ok(()));
                        Reply::Committed(depth)
                    }
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
        if let Some(opened) = &mut self.opened {
            self.vacuum.end(&mut opened.connection);
            if let Err(error) = rows::write_back(&opened.connection) {
                tracing::warn!(%error, "cannot write the spool's log back into it; the next start does");
            }
        }
    }

    /// The next request; while there is none, free pages go back to the file system.
    fn next_request(&mut self, queue: &Receiver<Request>) -> Option<Request> {
        while self.vacuum.is_due() {
            match queue.try_recv() {
                Ok(request) => return Some(request),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            match &mut self.opened {
                Some(opened) => self.vacuum.step(&mut opened.connection),
                None => break,
            }
        }
        loop {
            match queue.recv_timeout(LOOK_EVERY) {
                Ok(request) => return Some(request),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.seen.set(Free::at(self.folder.path())),
            }
        }
    }

    /// Writes a transaction, where the disk has room for it, and says what the spool holds then.
    pub(super) fn commit(&mut self, transaction: &Transaction) -> Result<Depth, Trouble> {
        let now_ms = clock::stamp_ms();
        let opened = self.opened.as_mut().ok_or(Trouble::Damaged)?;
        let room = |connection: &Connection| {
            let reusable = reusable_bytes(connection).unwrap_or(0);
            let free = Free::at(self.folder.path());
            self.seen.set(free);
            free.map(|free| self.floors.room_in(free, reusable))
        };
        let rows = transaction.rows.iter();
        let bytes: u64 = rows.map(|(_, batch)| batch.values.len() as u64).sum();
        let room_now = (bytes > 0).then(|| room(&opened.connection)).flatten();
        if transaction.evict.is_none() && room_now.is_some_and(|room| room < bytes) {
            return Err(Trouble::Floor);
        }
        let evicted = self.evicting.evicted;
        let tools = Tools {
            packer: &mut self.packer,
            markers: &self.markers,
            evicting: &mut self.evicting,
            room: room_now,
        };
        let mut depth = match write(&mut opened.connection, tools, transaction, now_ms) {
            Ok(depth) => depth,
            Err(failure) => {
                self.evicting.evicted = evicted;
                self.evicting.forget();
                return Err(failure.trouble("commit to the spool"));
            }
        };
        self.vacuum
            .committed(depth.rows, !transaction.deletes.is_empty());
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

    fn known(&self) -> Result<Knowledge, Trouble> {
        let opened = self.opened.as_ref().ok_or(Trouble::Damaged)?;
        let mut known = generations::all(&opened.connection, opened.identity)
            .map_err(|error| Failure::from(error).trouble("read what is open"))?;
        self.markers.add_closing(&mut known);
        Ok(known)
    }

    /// Closes the database, salvages it, and opens what came of it.
    fn heal(&mut self, healing: &Healing) -> Result<(Depth, [BatchId; Lane::COUNT]), Trouble> {
        drop(self.opened.take());
        self.evicting.forget();
        let to = (
            &self.device,
            self.floors,
            self.packer.keys(),
            &self.salvaging,
        );
        let opened = open(&self.folder, to, healing, true).map_err(|error| {
            match error {
                OpenError::Stopped => tracing::warn!("{error}"),
                _ => tracing::error!("cannot salvage the spool: {error}; it is tried again"),
            }
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

/// Draws generations anew where the spool was made on other hardware, and says so.
/// Returns whether it is other hardware.
fn look_at_hardware(opened: &mut Opened, present: &Marks) -> rusqlite::Result<bool> {
    let draw = || getrandom::u64().map(Generation);
    let moved = anew::look(&mut opened.connection, opened.identity, present, draw)?;
    let has_moved = moved.is_some();
    if let Some(Moved { kinds, generations }) = moved {
        let kinds: Vec<_> = kinds.into_iter().map(Kind::name).collect();
        tracing::warn!(
            generations,
            "the state directory was last used on other hardware ({} differs): its files go on under new generations, \
             from where they were settled; where several devices are made from one image, let each have its own \
             device name, and make the image without a state directory",
            kinds.join(", ")
        );
    }
    Ok(has_moved)
}

/// Returns whether the files go on under other generations. A disk that refuses is no reason to stand still: the next
/// start does it.
fn split_files(opened: &mut Opened, sizes: &Sizes) -> rusqlite::Result<bool> {
    let draw = || getrandom::u64().map(Generation);
    match split(&mut opened.connection, opened.identity, sizes, draw) {
        Ok(files) => {
            if files > 0 {
                tracing::info!(
                    files,
                    noted = sizes.len(),
                    "the system was started anew, and the agent had not ended in order: what programs wrote last may be \
                     gone, so files go on under other generations"
                );
            }
            Ok(true)
        }
        Err(error) => match classify(&error) {
            Trouble::Full | Trouble::ReadOnly | Trouble::Io | Trouble::Busy => {
                tracing::error!(
                    "the system was started anew, and the agent had not ended in order, but files cannot go on under \
                     other generations: {error}; where a power cut took back lines that were sent, as many new ones may be \
                     taken for them until the agent starts once more with room on the disk"
                );
                Ok(false)
            }
            _ => Err(error),
        },
    }
}

fn found(opened: &Opened) -> rusqlite::Result<Found> {
    let connection = &opened.connection;
    Ok(Found {
        known: generations::all(connection, opened.identity)?,
        depth: rows::depth(connection)?,
        last: rows::last(connection)?,
        usage: usage::all(connection)?,
        not_split: false,
    })
}

/// Takes note of the key that seals from now on, and returns one that rows are sealed with and that is
/// not here. Without rows there is none, and all others are forgotten.
fn note_keys(connection: &Connection, keys: &Keys, rows: u64) -> rusqlite::Result<Option<KeyId>> {
    let noted = rows::keys(connection)?;
    let missing = noted.iter().find(|key| !keys.ids().any(|id| id == **key));
    if rows > 0 && missing.is_some() {
        return Ok(missing.copied());
    }
    let current = keys.current();
    let forgets = rows == 0 && noted.iter().any(|key| Some(*key) != current);
    if forgets {
        connection.execute_batch("DELETE FROM sealing")?;
    }
    match current {
        Some(key) if forgets || !noted.contains(&key) => rows::note_key(connection, key)?,
        _ => {}
    }
    Ok(None)
}
