//! From a damaged database to a whole one: what can be read is kept, and what cannot is accounted
//! for.
//!
//! ```text
//!   spool.db, -wal ──► every page, on its own ──► rows whose checksum holds ──► spool.new
//!                                                 generations, as far as known ─┤
//!                      what is settled and neither there nor known as delivered ─┴► loss notices
//! ```
//!
//! - SQLite's tree is not used: pages are ([`super::pages`]), so a lost root loses one page.
//! - A row is kept where its own checksum holds. A stale one (acknowledged, its page not used
//!   again) is sent a second time, and the loader's ledger drops it.
//! - A batch sealed with a key that is neither at hand nor listed in the database was delivered before
//!   that key was forgotten, and is left.
//! - Notices go behind every row: the ledger takes a range for lost that has not come by then, and
//!   nothing else. So a notice may name more than was lost, never less.
//! - The new database takes the old one's place by one rename; cut off before, the salvage is done
//!   again from the old one.
//! - Where the disk has no room for all rows above what is to be kept free of it, those that fit are
//!   kept, and the rest is accounted for like what was unreadable.

mod files;
mod found;
mod progress;
mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use headwater_record::{DeviceId, Generation, StreamId};
use rusqlite::{Connection, ErrorCode};
use thiserror::Error;

use self::files::{Files, listed_keys};
pub(super) use self::files::{is_cut_short, set_foreign_log_aside};
use self::found::{Found, depth_of, known_of, row_of};
pub use self::progress::{Progress, Salvaging};
use self::room::Room;
use super::batch::{Kinds, Packer, Row};
use super::disk::Floors;
use super::folder::{Folder, with_suffix};
use super::generations::{self, Known};
use super::pages::{Image, Value, rows_of_page};
use super::rows::{self, Lost};
use super::sealing::{KeyId, Keys, id_of};
use super::{BatchId, Healing, Lane, hardware, schema, usage};
use crate::batch::Batch;

/// Rows of one transaction of the new database.
const GROUP: u64 = 500;
/// Separate ranges that are remembered over all generations, so that memory has a bound: beyond it,
/// what is there may be told as lost besides.
const SPANS_MAX: usize = 100_000;
/// Source and path of the device's own notice: paths of sources are absolute, so it is nobody else's.
const DEVICE_STREAM: (&str, &[u8]) = ("headwater", b"spool");

/// Why there is no new database.
#[derive(Debug, Error)]
pub enum SalvageError {
    /// A file of the state directory.
    #[error("{0}")]
    Files(#[from] io::Error),
    /// The new database.
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    /// It was told to.
    #[error("it was told to stop")]
    Stopped,
}

/// What came of a salvage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Batches kept.
    pub rows: u64,
    /// Generations kept.
    pub generations: u64,
    /// Ranges that loss notices name.
    pub losses: u64,
    /// As many batches were found as the database counted.
    pub complete: bool,
}

/// Every batch of a damaged database whose checksum holds, page by page, until `take` returns false; those
/// of the log beside it, if that is whole, before its own. In the order of the pages; one whose page was
/// left may come again, or though it was delivered.
///
/// # Errors
/// There is no such file, or it cannot be read.
pub fn each_row(database: &Path, mut take: impl FnMut(&Row) -> bool) -> io::Result<()> {
    // It is not there: not a database without pages.
    std::fs::metadata(database)?;
    let mut image = Files::open_at(database, &with_suffix(database, "-wal"), true)?;
    let mut goes_on = true;
    for number in 1..=image.pages {
        rows_of_page(&mut image, number, &mut |id, values| {
            let row = row_of(id, values).filter(|_| goes_on && values.len() == 13);
            if let Some((row, ..)) = row.filter(|(row, ..)| row.is_whole()) {
                goes_on = take(&row);
            }
        });
        if !goes_on {
            break;
        }
    }
    Ok(())
}

/// A salvage under way.
struct Salvage {
    database: Connection,
    generations: BTreeMap<Generation, Found>,
    spans: usize,
    last: [u64; Lane::COUNT],
    depth: [rows::Change; Lane::COUNT],
    /// What the database counted.
    counted: Option<i64>,
    in_transaction: u64,
    room: Room,
    /// With which keys batches may be sealed that are kept.
    keys: BTreeSet<KeyId>,
    /// And whether those that the database listed are among them.
    keys_known: bool,
    full: bool,
    failed: Option<rusqlite::Error>,
    salvaged: Salvaged,
}

/// Salvages the database of `folder` and puts the new one in its place. Notices take ids behind
/// every row, and from `healing.first_free` of their lane. `floors`: what rows leave free. `keys`: those
/// at hand. `salvaging` sees it, and can stop it.
///
/// # Errors
/// See [`SalvageError`]; the damaged database is where it was then, and what was begun takes no space.
pub(super) fn salvage(
    folder: &Folder,
    to: (&DeviceId, Floors, &Keys, &Salvaging),
    healing: &Healing,
    now_ms: u64,
) -> Result<Salvaged, SalvageError> {
    let salvaged = salvage_into(folder, to, healing, now_ms);
    if salvaged.is_err()
        && let Err(error) = folder.drop_salvage()
    {
        tracing::debug!(%error, "the begun salvage stays; the next one removes it");
    }
    salvaged
}

fn salvage_into(
    folder: &Folder,
    (device, floors, keys, salvaging): (&DeviceId, Floors, &Keys, &Salvaging),
    healing: &Healing,
    now_ms: u64,
) -> Result<Salvaged, SalvageError> {
    let path = folder.make_salvage()?;
    let mut image = Files::open(folder, true)?;
    let page_bytes = image.page_size() as u64;
    let mut under_way = salvaging.begin(u64::from(image.pages) * page_bytes);
    let database = schema::create_salvage(&path)?;
    let listed = listed_keys(&mut image);
    let mut salvage = Salvage {
        database,
        generations: BTreeMap::new(),
        spans: 0,
        last: healing.first_free.map(|id| id.before().0),
        depth: [rows::Change::default(); Lane::COUNT],
        counted: None,
        in_transaction: 0,
        room: Room::of(folder, floors),
        keys_known: listed.is_some(),
        keys: (listed.into_iter().flatten()).chain(keys.ids()).collect(),
        full: false,
        failed: None,
        salvaged: Salvaged::default(),
    };
    salvage.database.execute_batch("BEGIN")?;
    for number in 1..=image.pages {
        if salvaging.is_stopped() {
            return Err(SalvageError::Stopped);
        }
        rows_of_page(&mut image, number, &mut |id, values| {
            salvage.take(id, values)
        });
        under_way.moved_to(u64::from(number) * page_bytes);
        if let Some(error) = salvage.failed.take() {
            return Err(error.into());
        }
    }
    for (generation, start, end) in &healing.beyond {
        let found = salvage.generations.entry(*generation).or_default();
        found.beyond.add(*start, *end);
    }
    salvage.finish(device, now_ms)?;
    let salvaged = salvage.salvaged;
    salvage.database.close().map_err(|(_, error)| error)?;
    folder.complete_salvage()?;
    folder.replace()?;
    Ok(salvaged)
}

impl Salvage {
    /// Keeps a row, if it is one of ours and whole.
    fn take(&mut self, id: i64, values: &[Value<'_>]) {
        match values.len() {
            3 => {
                if let Some(mark) = hardware::of_page(id, values)
                    && let Err(error) = hardware::add(&self.database, mark)
                {
                    self.failed = Some(error);
                }
            }
            4 => {
                if let Some(used) = usage::of_page(id, values)
                    && let Err(error) = usage::write(&self.database, &[used])
                {
                    self.failed = Some(error);
                }
            }
            5 => {
                if let Some((_, rows)) = depth_of(values) {
                    *self.counted.get_or_insert(0) += rows;
                }
            }
            13 => {
                if let Some((row, plain_bytes, committed_ms)) = row_of(id, values)
                    && row.is_whole()
                    && let Ok(stream) = StreamId::parse(&row.stream)
                {
                    self.keep(&row, stream, plain_bytes, committed_ms);
                }
            }
            18..=20 => {
                if let Some((known, checksum, aside)) = known_of(id, values)
                    && checksum == i64::from(known.checksum())
                    && let Ok(stream) = StreamId::parse(&known.stream)
                {
                    let found = self.generations.entry(known.generation).or_default();
                    found.stream = Some(stream);
                    let newness = |known: &Known| (known.settled, known.flags(), known.delivered);
                    let old = found.known.as_ref().map(|(known, ..)| newness(known));
                    if old < Some(newness(&known)) {
                        found.known = Some((known, aside));
                    }
                }
            }
            _ => {}
        }
    }

    fn keep(&mut self, row: &Row, stream: StreamId, plain_bytes: u64, committed_ms: u64) {
        if self.full || self.failed.is_some() {
            return;
        }
        if self.is_of_another_key(row) {
            if !self.keys_known {
                let found = self.generations.entry(row.generation).or_default();
                found.stream.get_or_insert(stream);
                found.lane = row.id.lane();
                found.beyond.add(row.start, row.end);
            }
            return;
        }
        let has_room = self.room.take(rows::stored_bytes(row).cast_unsigned());
        let inserted = has_room.then(|| self.insert(row, plain_bytes, committed_ms));
        let is_full =
            |error: &rusqlite::Error| error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        match inserted {
            Some(Ok(true)) => {}
            // What is there is an older copy, or what it was before it gave way: this one goes no further,
            // and covers nothing.
            Some(Ok(false)) => return,
            Some(Err(error)) if !is_full(&error) => {
                self.failed = Some(error);
                return;
            }
            Some(Err(_)) | None => {
                tracing::error!(
                    "no space for all of the damaged spool; what does not fit above spool.free_bytes_min is given up, with notices"
                );
                self.full = true;
                return;
            }
        }
        let found = self.generations.entry(row.generation).or_default();
        found.stream.get_or_insert(stream);
        found.lane = row.id.lane();
        found.closes |= row.kinds.has(Kinds::CLOSE);
        let before = found.covered.len();
        if self.spans < SPANS_MAX {
            found.covered.add(row.start, row.end);
        }
        self.spans += found.covered.len().saturating_sub(before);
    }

    /// Whether it is sealed with a key that is neither at hand nor listed. Where the list is lost, nobody
    /// knows whether it was delivered: then its range counts as settled, and as lost.
    fn is_of_another_key(&self, row: &Row) -> bool {
        let key = row.sealed.then(|| id_of(&row.blob)).flatten();
        key.is_some_and(|key| !self.keys.contains(&key))
    }

    /// Whether it was entered: not where another of its id is there.
    fn insert(&mut self, row: &Row, plain_bytes: u64, committed_ms: u64) -> rusqlite::Result<bool> {
        let Some(stored) = rows::insert(&self.database, row, plain_bytes, committed_ms)? else {
            return Ok(false);
        };
        if row.sealed
            && let Some(key) = id_of(&row.blob)
        {
            rows::note_key(&self.database, key)?;
        }
        let lane = row.id.lane().index();
        self.last[lane] = self.last[lane].max(row.id.0);
        self.depth[lane].put(Some(stored), row.kinds.has(Kinds::DATA));
        self.salvaged.rows += 1;
        self.in_transaction += 1;
        if self.in_transaction == GROUP {
            self.in_transaction = 0;
            self.database.execute_batch("COMMIT; BEGIN")?;
        }
        Ok(true)
    }

    fn finish(&mut self, device: &DeviceId, now_ms: u64) -> Result<(), SalvageError> {
        let found = self.salvaged.rows;
        self.salvaged.complete = !self.full && self.counted == i64::try_from(found).ok();
        self.full = false;
        let identity = getrandom::u64().unwrap_or(now_ms);
        // Notices hold nothing that is to be sealed.
        let mut packer = Packer::new(Arc::default())?;
        for (generation, found) in std::mem::take(&mut self.generations) {
            let Some(stream) = &found.stream else {
                continue;
            };
            for lost in found.losses() {
                let batch = rows::loss(stream, generation, lost, now_ms);
                self.notice(&mut packer, found.lane, batch, now_ms)?;
                self.salvaged.losses += u64::from(lost.range.1 > lost.range.0);
            }
            if let Some((known, aside)) = found.known {
                let known = Known { identity, ..known };
                generations::insert(&self.database, &known, &aside)?;
                self.salvaged.generations += 1;
            }
        }
        self.device_notice(&mut packer, device, now_ms)?;
        self.database
            .execute_batch(&schema::empty_depth(identity))?;
        rows::add_depth(&self.database, &self.depth)?;
        self.database.execute_batch("COMMIT")?;
        Ok(())
    }

    /// What no generation tells: that the database was damaged, and whether anything of it may be
    /// missing. A generation of its own, closed at once.
    fn device_notice(
        &mut self,
        packer: &mut Packer,
        device: &DeviceId,
        now_ms: u64,
    ) -> Result<(), SalvageError> {
        let (source, path) = DEVICE_STREAM;
        let source = source.parse().ok();
        let Some(stream) = source.and_then(|source| StreamId::new(device, &source, path).ok())
        else {
            return Ok(());
        };
        let generation = Generation(getrandom::u64().unwrap_or(now_ms));
        let lost = Lost {
            range: (0, 0),
            records: None,
            closes: true,
        };
        let batch = rows::loss(&stream, generation, lost, now_ms);
        self.notice(packer, Lane::Normal, batch, now_ms)
    }

    fn notice(
        &mut self,
        packer: &mut Packer,
        lane: Lane,
        batch: Option<Batch>,
        now_ms: u64,
    ) -> Result<(), SalvageError> {
        let Some(batch) = batch else {
            return Ok(());
        };
        let last = self.last[lane.index()].max(lane.first().before().0);
        let row = packer.pack(BatchId(last + 1), &batch)?;
        let rows = self.salvaged.rows;
        self.insert(&row, batch.values.len() as u64, now_ms)?;
        self.salvaged.rows = rows;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
