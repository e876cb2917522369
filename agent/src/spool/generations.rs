//! Generations in the database: registered, settled, closed, forgotten. Of those that are closed the files are
//! kept in mind for a while, as [`ClosedFile`] says: their rows stay, some of each stream.
//!
//! Each row carries a CRC-32C over what a wrong value of would lose records without a word: SQLite
//! keeps no checksums, and cards do flip bits. Paths and fingerprints are left out, since they are
//! compared with the file itself.

use std::collections::{HashMap, HashSet};

use headwater_record::{Generation, StreamId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Checkpoint;
use super::registry::{Change, Marked};
use crate::checkpoint::{
    CLOSED_MAX, CLOSED_OF_STREAM_MAX, ClosedFile, FileIdentity, GoesOn, Knowledge, Marker,
    OpenGeneration, Origin, keep_earlier,
};

/// What of a generation is checked as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) generation: Generation,
    /// Of the database that it was written into.
    pub(super) identity: u64,
    pub(super) stream: String,
    pub(super) settled: u64,
    /// All below has been acknowledged.
    pub(super) delivered: u64,
    pub(super) closed: bool,
    /// Closed, and its file was read to its end. As the next one, no part of the checksum: earlier agents knew of neither.
    pub(super) is_whole: bool,
    /// Closed, and all of it acknowledged: its file is kept in mind.
    pub(super) is_over: bool,
    pub(super) skip_to: Option<u64>,
    /// Rising, and above `settled`.
    pub(super) cuts: Vec<u64>,
}

impl Known {
    pub(super) fn checksum(&self) -> u32 {
        let mut sum = crc32c::crc32c(self.stream.as_bytes());
        let maybe = |n: Option<u64>| [u64::from(n.is_some()), n.unwrap_or_default()];
        for number in [
            self.generation.0,
            self.identity,
            self.settled,
            self.delivered,
            u64::from(self.closed),
        ]
        .into_iter()
        .chain(maybe(self.skip_to))
        .chain([self.cuts.len() as u64])
        .chain(self.cuts.iter().copied())
        {
            sum = crc32c::crc32c_append(sum, &number.to_le_bytes());
        }
        sum
    }

    /// What stands in its column: not 0 where it is closed.
    pub(super) fn flags(&self) -> i64 {
        i64::from(self.closed) | i64::from(self.is_whole) << 1 | i64::from(self.is_over) << 2
    }

    /// From the first nine columns, and the checksum that stands among them.
    fn read(row: &Row<'_>) -> rusqlite::Result<(Self, i64)> {
        let number = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
        let maybe = |column: usize| {
            row.get::<_, Option<i64>>(column)
                .map(|n| n.map(i64::cast_unsigned))
        };
        Ok((
            Self {
                generation: Generation(number(0)?),
                identity: number(1)?,
                stream: row.get(2)?,
                settled: number(3)?,
                delivered: number(4)?,
                closed: number(5)? != 0,
                is_whole: number(5)? & 2 != 0,
                is_over: number(5)? & 4 != 0,
                skip_to: maybe(7)?,
                cuts: cuts_of(row.get::<_, Option<Vec<u8>>>(8)?.as_deref()),
            },
            row.get(6)?,
        ))
    }

    fn write(&self, open: &Connection) -> rusqlite::Result<()> {
        open.prepare_cached(include_str!("sql/settle.sql"))?
            .execute(params![
                self.generation.0.cast_signed(),
                self.settled.cast_signed(),
                self.delivered.cast_signed(),
                self.flags(),
                cuts_blob(&self.cuts),
                i64::from(self.checksum()),
            ])
            .map(drop)
    }
}

/// Boundaries as they stand in a column; what is no whole number at the end fails the checksum.
pub(super) fn cuts_of(blob: Option<&[u8]>) -> Vec<u64> {
    let (whole, _) = blob.unwrap_or_default().as_chunks();
    whole
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes))
        .collect()
}

fn cuts_blob(cuts: &[u64]) -> Option<Vec<u8>> {
    (!cuts.is_empty()).then(|| cuts.iter().flat_map(|cut| cut.to_le_bytes()).collect())
}

/// Markers as they stand in a column, 16 bytes each; what is no whole one at the end is none.
pub(super) fn earlier_of(blob: Option<&[u8]>) -> Vec<Marker> {
    let (whole, _) = blob.unwrap_or_default().as_chunks::<16>();
    whole
        .iter()
        .map(|[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]| Marker {
            end: u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
            len: u32::from_le_bytes([*i, *j, *k, *l]),
            sum: u32::from_le_bytes([*m, *n, *o, *p]),
        })
        .collect()
}

fn earlier_blob(earlier: &[Marker]) -> Option<Vec<u8>> {
    let bytes = earlier.iter().flat_map(|marker| {
        let sums = [marker.len, marker.sum].map(u32::to_le_bytes);
        marker
            .end
            .to_le_bytes()
            .into_iter()
            .chain(sums.into_iter().flatten())
    });
    (!earlier.is_empty()).then(|| bytes.collect())
}

/// What of a generation its checksum leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aside {
    pub(super) origin: Origin,
    pub(super) marker: Option<Marker>,
    pub(super) earlier: Vec<Marker>,
    /// Where its file goes on, and under which generation.
    pub(super) goes_on: Option<(u64, Generation)>,
}

/// What stands in its column: none where it is not as it was written.
pub(super) fn goes_on_of(of: Generation, blob: &[u8]) -> Option<(u64, Generation)> {
    let (numbers, []) = blob.as_chunks::<4>() else {
        return None;
    };
    let [a, b, c, d, _] = *numbers else {
        return None;
    };
    let number = |low: [u8; 4], high: [u8; 4]| {
        u64::from(u32::from_le_bytes(low)) | u64::from(u32::from_le_bytes(high)) << 32
    };
    let read = (number(a, b), Generation(number(c, d)));
    (goes_on_blob(of, read) == blob).then_some(read)
}

fn goes_on_blob(of: Generation, (at, under): (u64, Generation)) -> [u8; 20] {
    let mut blob = [0; 20];
    blob[..8].copy_from_slice(&at.to_le_bytes());
    blob[8..16].copy_from_slice(&under.0.to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&of.0.to_le_bytes()), &blob[..16]);
    blob[16..].copy_from_slice(&sum.to_le_bytes());
    blob
}

/// Ends a generation: its file goes on at an offset, under another.
pub(super) fn end_at(
    open: &Connection,
    generation: Generation,
    goes_on: (u64, Generation),
) -> rusqlite::Result<()> {
    open.prepare_cached("UPDATE generation SET goes_on = ?2 WHERE id = ?1")?
        .execute(params![
            generation.0.cast_signed(),
            goes_on_blob(generation, goes_on)
        ])
        .map(drop)
}

/// Does what a source asked for.
pub(super) fn change(open: &Connection, identity: u64, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Register(new) => new.iter().try_for_each(|new| register(open, identity, new)),
        Change::Identify(files) => {
            (files.iter()).try_for_each(|(generation, file)| identify(open, *generation, file))
        }
        Change::Cut(generation, offset) => update(open, *generation, |known| {
            if let Err(place) = known.cuts.binary_search(offset) {
                known.cuts.insert(place, *offset);
            }
        }),
    }
}

fn identify(
    open: &Connection,
    generation: Generation,
    file: &FileIdentity,
) -> rusqlite::Result<()> {
    open.prepare_cached(include_str!("sql/identify.sql"))?
        .execute(params![
            generation.0.cast_signed(),
            file.path,
            file.device.cast_signed(),
            file.inode.cast_signed(),
            file.fingerprint_len,
            file.fingerprint,
            file.since_ms.cast_signed(),
        ])
        .map(drop)
}

/// Enters a generation; nothing where it is there already.
pub(super) fn register(
    open: &Connection,
    identity: u64,
    new: &OpenGeneration,
) -> rusqlite::Result<()> {
    let known = Known {
        generation: new.generation,
        identity,
        stream: new.stream.as_str().to_owned(),
        settled: new.settled,
        delivered: new.settled,
        closed: false,
        is_whole: false,
        is_over: false,
        skip_to: new.skip_to,
        cuts: new.cuts.clone(),
    };
    let goes_on = new.goes_on.as_ref();
    let aside = Aside {
        origin: new.origin.clone(),
        marker: new.marker,
        earlier: new.earlier.clone(),
        goes_on: goes_on.and_then(|on| Some((on.at, on.under.as_ref()?.generation))),
    };
    insert(open, &known, &aside)
}

/// Enters a generation as it is; nothing where it is there already.
pub(super) fn insert(open: &Connection, known: &Known, aside: &Aside) -> rusqlite::Result<()> {
    let marker = aside.marker;
    let file = match &aside.origin {
        Origin::File(file) => Some(file),
        Origin::Sensor => None,
    };
    open.prepare_cached(include_str!("sql/register.sql"))?
        .execute(params![
            known.generation.0.cast_signed(),
            known.identity.cast_signed(),
            known.stream,
            known.settled.cast_signed(),
            known.delivered.cast_signed(),
            known.flags(),
            i64::from(known.checksum()),
            known.skip_to.map(u64::cast_signed),
            cuts_blob(&known.cuts),
            file.map(|file| &file.path),
            file.map(|file| file.device.cast_signed()),
            file.map(|file| file.inode.cast_signed()),
            file.map(|file| file.fingerprint_len),
            file.map(|file| file.fingerprint),
            file.map(|file| file.since_ms.cast_signed()),
            marker.map(|marker| marker.end.cast_signed()),
            marker.map(|marker| marker.len),
            marker.map(|marker| marker.sum),
            earlier_blob(&aside.earlier),
            aside
                .goes_on
                .map(|goes_on| goes_on_blob(known.generation, goes_on)),
        ])
        .map(drop)
}

/// Writes down what lies before the last offset that was read of a file.
fn mark(open: &Connection, generation: Generation, marked: &Marked) -> rusqlite::Result<()> {
    let marker = marked.marker;
    let earlier = match marked.boot {
        Some(boot) => vec![boot],
        None => earlier_than(open, generation, marker)?,
    };
    open.prepare_cached(include_str!("sql/mark.sql"))?
        .execute(params![
            generation.0.cast_signed(),
            marker.end.cast_signed(),
            marker.len,
            marker.sum,
            marked.since_ms.cast_signed(),
            earlier_blob(&earlier),
        ])
        .map(drop)
}

/// What is kept of a file's earlier markers once `marker` is the last.
fn earlier_than(
    open: &Connection,
    generation: Generation,
    marker: Marker,
) -> rusqlite::Result<Vec<Marker>> {
    let known = open
        .prepare_cached(include_str!("sql/marker.sql"))?
        .query_row([generation.0.cast_signed()], |row| {
            let earlier = earlier_of(row.get::<_, Option<Vec<u8>>>(3)?.as_deref());
            Ok((marker_of(row, 0)?, earlier))
        })
        .optional()?;
    let (last, mut earlier) = known.unwrap_or_default();
    if let Some(last) = last {
        keep_earlier(&mut earlier, last, marker.end);
    }
    Ok(earlier)
}

/// The marker that stands in three columns, from this one on.
fn marker_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Marker>> {
    let end = row.get::<_, Option<i64>>(column)?;
    let marker = end.map(|end| {
        Ok(Marker {
            end: end.cast_unsigned(),
            len: row.get(column + 1)?,
            sum: row.get(column + 2)?,
        })
    });
    marker.transpose()
}

/// Moves a checkpoint forward. `marked`: what was noted of its file. `empty`: the spool holds nothing, so what is
/// settled is delivered, and what is closed is over: [`trim`] is to follow then. Returns whether it is.
pub(super) fn settle(
    open: &Connection,
    checkpoint: Checkpoint,
    marked: Option<&Marked>,
    empty: bool,
) -> rusqlite::Result<bool> {
    let generation = checkpoint.generation;
    let whole = (marked.and_then(|marked| marked.whole.as_ref())).filter(|_| checkpoint.closed);
    update(open, generation, |known| {
        known.settled = known.settled.max(checkpoint.settled);
        known.closed |= checkpoint.closed;
        known.is_whole |= whole.is_some();
        let settled = known.settled;
        known.cuts.retain(|cut| *cut > settled);
        if empty {
            known.delivered = known.settled;
        }
    })?;
    if let Some(marked) = marked {
        mark(open, generation, marked)?;
    }
    if let Some(file) = whole {
        identify(open, generation, file)?;
    }
    if checkpoint.closed {
        // The file of one that goes on under another is that one's.
        open.prepare_cached(include_str!("sql/nameless.sql"))?
            .execute(params![generation.0.cast_signed(), true])?;
    }
    let is_over = checkpoint.closed && empty;
    if is_over {
        end(open, generation)?;
    }
    Ok(is_over)
}

/// The close of a generation was acknowledged; nothing where it is not settled yet. A file's is kept in mind:
/// [`trim`] is to follow.
pub(super) fn end(open: &Connection, generation: Generation) -> rusqlite::Result<()> {
    open.prepare_cached(include_str!("sql/end_without_file.sql"))?
        .execute([generation.0.cast_signed()])?;
    update(open, generation, |known| {
        if known.closed {
            (known.is_over, known.delivered) = (true, known.settled);
        }
    })
}

/// A generation goes on under another name: nothing is to come under this one any more. Where the spool holds rows
/// its own stays, without its file, until they are delivered.
pub(super) fn leave(
    open: &Connection,
    generation: Generation,
    empty: bool,
) -> rusqlite::Result<()> {
    update(open, generation, |known| known.closed = true)?;
    open.prepare_cached(include_str!("sql/nameless.sql"))?
        .execute(params![generation.0.cast_signed(), false])?;
    if empty { end(open, generation) } else { Ok(()) }
}

/// Lets go of closed files that are too many to be kept in mind: those that were changed last stay, of those that were
/// changed before `now_ms`. Once a transaction: it looks at all of them.
pub(super) fn trim(open: &Connection, now_ms: u64) -> rusqlite::Result<()> {
    let most = |most: usize| i64::try_from(most).unwrap_or(i64::MAX);
    open.prepare_cached(include_str!("sql/trim_closed.sql"))?
        .execute([
            most(CLOSED_OF_STREAM_MAX),
            most(CLOSED_MAX),
            now_ms.cast_signed(),
        ])
        .map(drop)
}

/// The spool was emptied: everything that is settled is delivered.
pub(super) fn drained(open: &Connection) -> rusqlite::Result<()> {
    let closed: Vec<i64> = open
        .prepare_cached("SELECT id FROM generation WHERE closed <> 0 AND closed & 4 = 0")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    (closed.iter()).try_for_each(|id| end(open, Generation(id.cast_unsigned())))?;
    let behind: Vec<i64> = open
        .prepare_cached("SELECT id FROM generation WHERE delivered <> settled")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    behind.into_iter().try_for_each(|id| {
        update(open, Generation(id.cast_unsigned()), |known| {
            known.delivered = known.settled;
        })
    })
}

fn update(
    open: &Connection,
    generation: Generation,
    change: impl FnOnce(&mut Known),
) -> rusqlite::Result<()> {
    let known = open
        .prepare_cached(include_str!("sql/generation.sql"))?
        .query_row([generation.0.cast_signed()], Known::read)
        .optional()?;
    let Some((mut known, checksum)) = known else {
        return Ok(());
    };
    if checksum != i64::from(known.checksum()) {
        return Err(damaged());
    }
    let before = known.clone();
    change(&mut known);
    if known == before {
        return Ok(());
    }
    known.write(open)
}

/// What SQLite would say if it kept checksums.
fn damaged() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
        Some("a checkpoint's checksum does not match".to_owned()),
    )
}

/// Every generation that is open, and the files of those that are closed.
///
/// # Errors
/// Also where one is damaged, or of another database than `identity`.
pub(super) fn all(connection: &Connection, identity: u64) -> rusqlite::Result<Knowledge> {
    let mut statement = connection.prepare(include_str!("sql/generations.sql"))?;
    let mut found = statement.query([])?;
    let (mut all, mut goes_on) = (Knowledge::default(), HashMap::new());
    while let Some(row) = found.next()? {
        let (known, checksum) = Known::read(row)?;
        let stream = StreamId::parse(&known.stream);
        let (Ok(stream), true, true) = (
            stream,
            checksum == i64::from(known.checksum()),
            known.identity == identity,
        ) else {
            return Err(damaged());
        };
        let number = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
        let origin = match row.get::<_, Option<Vec<u8>>>(9)? {
            None => Origin::Sensor,
            Some(path) => Origin::File(FileIdentity {
                path,
                device: number(10)?,
                inode: number(11)?,
                fingerprint_len: row.get(12)?,
                fingerprint: row.get(13)?,
                since_ms: number(14)?,
            }),
        };
        let marker = marker_of(row, 15)?;
        if known.closed {
            if let Origin::File(file) = origin {
                let is_whole = known.is_whole;
                all.closed.push(ClosedFile {
                    stream,
                    file,
                    marker,
                    is_whole,
                });
            }
            continue;
        }
        if let Some(blob) = row.get::<_, Option<Vec<u8>>>(19)? {
            let on = goes_on_of(known.generation, &blob).ok_or_else(damaged)?;
            goes_on.insert(known.generation, on);
        }
        all.open.push(OpenGeneration {
            generation: known.generation,
            stream,
            origin,
            settled: known.settled,
            skip_to: known.skip_to,
            cuts: known.cuts,
            marker,
            earlier: earlier_of(row.get::<_, Option<Vec<u8>>>(18)?.as_deref()),
            goes_on: None,
        });
    }
    if !goes_on.is_empty() {
        all.open = chained(all.open, &goes_on);
    }
    Ok(all)
}

/// Puts each generation under which a file goes on into the one before it.
pub(crate) fn chained(
    open: Vec<OpenGeneration>,
    goes_on: &HashMap<Generation, (u64, Generation)>,
) -> Vec<OpenGeneration> {
    let later: HashSet<_> = goes_on.values().map(|(_, under)| *under).collect();
    let is_first = |open: &OpenGeneration| !later.contains(&open.generation);
    let (mut all, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(is_first);
    let mut rest: HashMap<_, _> = (rest.into_iter())
        .map(|open| (open.generation, open))
        .collect();
    for first in &mut all {
        let mut last = first;
        while let Some((at, under)) = goes_on.get(&last.generation) {
            // Each is taken once: a chain ends, whatever a damaged one says.
            let under = rest.remove(under).map(Box::new);
            let goes_on = last.goes_on.insert(GoesOn { at: *at, under });
            let Some(next) = &mut goes_on.under else {
                break;
            };
            last = next;
        }
    }
    // In no chain that begins anywhere: each for itself.
    all.extend(rest.into_values());
    all
}
