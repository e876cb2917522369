//! Rows of the database from and into our own types: the statements in `sql/`, one function each.

use headwater_record::notice::{Tail, reason};
use headwater_record::value::ValueWriter;
use headwater_record::{Generation, Kind, Notice, StreamId};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, params};

use super::batch::{Kinds, Row, Unreadable};
use super::sealing::{KeyId, Keys};
use super::{BatchId, Depth, Lane, Reply, Trouble};
use crate::batch::{Batch, Entry};

/// What a row counts against `spool.max_bytes`.
pub(super) fn stored_bytes(row: &Row) -> i64 {
    i64::try_from(row.blob.len() + row.stream.len()).unwrap_or(i64::MAX)
}

/// Enters a batch and returns what it takes of `spool.max_bytes`; nothing where its id is there
/// already (a commit that failed after it had taken effect, done again: see [`is_there`]).
pub(super) fn insert(
    open: &Connection,
    row: &Row,
    plain_bytes: u64,
    committed_ms: u64,
) -> rusqlite::Result<Option<i64>> {
    let stored = stored_bytes(row);
    let new = open
        .prepare_cached(include_str!("sql/insert_batch.sql"))?
        .execute(params![
            row.id.0.cast_signed(),
            row.generation.0.cast_signed(),
            row.stream,
            row.start.cast_signed(),
            row.end.cast_signed(),
            row.kinds.0,
            row.records,
            row.sealed,
            stored,
            plain_bytes.cast_signed(),
            committed_ms.cast_signed(),
            i64::from(row.checksum),
            row.blob,
        ])?;
    Ok((new == 1).then_some(stored))
}

/// Whether the row of this id is of the same range.
pub(super) fn is_there(open: &Connection, row: &Row) -> rusqlite::Result<bool> {
    let same = "SELECT EXISTS (SELECT 1 FROM batch WHERE id = ?1 AND generation = ?2 AND start = ?3 AND \"end\" = ?4)";
    let range = [row.id.0, row.generation.0, row.start, row.end].map(u64::cast_signed);
    open.prepare_cached(same)?
        .query_row(range, |row| row.get(0))
}

/// How the sums of a lane change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Change {
    rows: i64,
    bytes: i64,
    data_bytes: i64,
}

impl Change {
    /// A row of so many bytes was entered, if it was; returns what it takes.
    pub(super) fn put(&mut self, stored: Option<i64>, has_data: bool) -> i64 {
        let Some(bytes) = stored else {
            return 0;
        };
        self.rows += 1;
        self.bytes += bytes;
        self.data_bytes += if has_data { bytes } else { 0 };
        bytes
    }

    /// A row was taken out, if it was; returns what it took.
    pub(super) fn take(&mut self, deleted: Option<Deleted>) -> i64 {
        let Some(deleted) = deleted else {
            return 0;
        };
        self.rows -= 1;
        self.bytes -= deleted.stored;
        self.data_bytes -= if deleted.has_data { deleted.stored } else { 0 };
        deleted.stored
    }
}

/// Of which stream a row is; nothing where it is not there.
pub(super) fn stream_of(open: &Connection, id: BatchId) -> rusqlite::Result<Option<StreamId>> {
    let text: Option<String> = open
        .prepare_cached("SELECT stream FROM batch WHERE id = ?1")?
        .query_row([id.0.cast_signed()], |row| row.get(0))
        .optional()?;
    Ok(text.and_then(|text| StreamId::parse(&text).ok()))
}

/// A row that was taken out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deleted {
    /// What it took of `spool.max_bytes`.
    pub(super) stored: i64,
    has_data: bool,
    pub(super) generation: Generation,
    /// It closed its generation.
    pub(super) closes: bool,
}

/// Takes a batch out; nothing where it is not there.
pub(super) fn delete(open: &Connection, id: BatchId) -> rusqlite::Result<Option<Deleted>> {
    open.prepare_cached(include_str!("sql/delete_batch.sql"))?
        .query_row([id.0.cast_signed()], |row| {
            let kinds = Kinds(row.get(1)?);
            Ok(Deleted {
                stored: row.get(0)?,
                has_data: kinds.has(Kinds::DATA),
                generation: Generation(row.get::<_, i64>(2)?.cast_unsigned()),
                closes: kinds.has(Kinds::CLOSE),
            })
        })
        .optional()
}

/// Adds to the sums.
pub(super) fn add_depth(
    open: &Connection,
    changes: &[Change; Lane::COUNT],
) -> rusqlite::Result<()> {
    for (lane, change) in changes.iter().enumerate() {
        if *change != Change::default() {
            open.prepare_cached(include_str!("sql/add_depth.sql"))?
                .execute([
                    i64::try_from(lane).unwrap_or(0),
                    change.rows,
                    change.bytes,
                    change.data_bytes,
                ])?;
        }
    }
    Ok(())
}

/// What the spool holds.
pub(super) fn depth(connection: &Connection) -> rusqlite::Result<Depth> {
    let mut depth = Depth::default();
    let mut statement = connection.prepare_cached(include_str!("sql/depth.sql"))?;
    let mut lanes = statement.query([])?;
    while let Some(row) = lanes.next()? {
        let number = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
        depth.rows += number(1)?;
        depth.bytes += number(2)?;
        let lane = usize::try_from(number(0)?).unwrap_or(usize::MAX);
        if let Some(data_bytes) = depth.data_bytes.get_mut(lane) {
            *data_bytes = number(3)?;
        }
        depth.oldest_ms = row.get::<_, Option<i64>>(4)?.map(i64::cast_unsigned);
    }
    Ok(depth)
}

/// Rows in order, at least one; those that are whole and cannot be read as notices of their loss, dated
/// `now_ms`. What is damaged is damage of the database.
pub(super) fn load(
    connection: &Connection,
    after: BatchId,
    through: BatchId,
    bytes_max: u64,
    (keys, now_ms): (&Keys, u64),
) -> rusqlite::Result<Reply> {
    let mut statement = connection.prepare_cached(include_str!("sql/load_batches.sql"))?;
    let mut found = statement.query([after.0.cast_signed(), through.0.cast_signed()])?;
    let (mut batches, mut bytes, mut lost, mut reached) = (Vec::new(), 0_u64, 0, after);
    while let Some(row) = found.next()? {
        bytes = bytes.saturating_add(row.get::<_, i64>(8)?.cast_unsigned());
        if !batches.is_empty() && bytes > bytes_max {
            return Ok(Reply::Loaded {
                rows: batches,
                through: reached,
                lost,
            });
        }
        reached = BatchId(row.get::<_, i64>(0)?.cast_unsigned());
        let stored = stored_row(row)?;
        match stored.unpack(keys) {
            Ok(batch) => batches.push((reached, batch)),
            Err(Unreadable::Key(key)) => {
                // Not lost: it waits for its key, and so does what stands behind it.
                tracing::debug!(%key, row = %reached, "a batch is sealed with another key");
                return Ok(match batches.is_empty() {
                    true => Reply::LoadFailed(Trouble::Key),
                    false => Reply::Loaded {
                        rows: batches,
                        through: reached.before(),
                        lost,
                    },
                });
            }
            Err(error @ Unreadable::Checksum) => {
                // What it says of its range may be wrong as well, and a notice that names more than was
                // lost would have the loader pass over what comes: a salvage knows what is missing.
                tracing::error!(row = %reached, "a batch in the spool is damaged: {error}; the spool is salvaged");
                return Ok(match batches.is_empty() {
                    true => Reply::LoadFailed(Trouble::Damaged),
                    false => Reply::Loaded {
                        rows: batches,
                        through: reached.before(),
                        lost,
                    },
                });
            }
            Err(error) => {
                lost += 1;
                tracing::error!(
                    stream = stored.stream, generation = %stored.generation, start = stored.start, end = stored.end,
                    "a batch in the spool is unreadable: {error}; a loss notice goes in its place"
                );
                batches.extend(lost_row(&stored, now_ms).map(|notice| (reached, notice)));
            }
        }
    }
    Ok(Reply::Loaded {
        rows: batches,
        through,
        lost,
    })
}

/// Whether a row is as it was written; true where it is not there.
pub(super) fn is_whole(open: &Connection, id: BatchId) -> rusqlite::Result<bool> {
    let id = [id.before(), id].map(|id| id.0.cast_signed());
    open.prepare_cached(include_str!("sql/load_batches.sql"))?
        .query_row(id, |row| Ok(stored_row(row)?.is_whole()))
        .optional()
        .map(|whole| whole.unwrap_or(true))
}

pub(super) fn stored_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let number = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
    // Not `get::<String>`: text that is damaged is the checksum's to refuse, row by row.
    let stream = match row.get_ref(2)? {
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    };
    Ok(Row {
        id: BatchId(number(0)?),
        generation: Generation(number(1)?),
        stream,
        start: number(3)?,
        end: number(4)?,
        kinds: Kinds(u8::try_from(number(5)?).unwrap_or_default()),
        records: u32::try_from(number(6)?).unwrap_or_default(),
        sealed: number(7)? != 0,
        checksum: u32::try_from(number(9)?).unwrap_or_default(),
        blob: row.get::<_, Option<Vec<u8>>>(10)?.unwrap_or_default(),
    })
}

/// Notices in place of a row whose checksum holds. Nothing where it names no stream: that was never
/// written.
fn lost_row(row: &Row, now_ms: u64) -> Option<Batch> {
    let lost = Lost {
        range: (row.start, row.end),
        records: Some(u64::from(row.records)),
        closes: row.kinds.has(Kinds::CLOSE),
    };
    loss(
        &StreamId::parse(&row.stream).ok()?,
        row.generation,
        lost,
        now_ms,
    )
}

/// What a damaged database has lost of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) range: (u64, u64),
    /// How many records, where that is known.
    pub(super) records: Option<u64>,
    /// The generation ends there, with an unknown tail. An empty range is said by that alone.
    pub(super) closes: bool,
}

/// Says so.
pub(super) fn loss(
    stream: &StreamId,
    generation: Generation,
    lost: Lost,
    now_ms: u64,
) -> Option<Batch> {
    let Lost {
        range: (start, end),
        records,
        closes,
    } = lost;
    let writer = ValueWriter::new(
        &stream.device().parse().ok()?,
        &stream.source().parse().ok()?,
    );
    let reason = reason::SPOOL_CORRUPT.to_owned();
    let mut batch = Batch {
        stream: stream.clone(),
        generation,
        start,
        entries: Vec::new(),
        values: Vec::new(),
        raw: false,
        permit: None,
    };
    let close = Notice::Close {
        reason: reason.clone(),
        tail: Tail::Unknown,
    };
    let notices = (end > start || !closes)
        .then_some((Kind::Loss, Notice::Loss { reason, records }))
        .into_iter()
        .chain(closes.then_some((Kind::Close, close)));
    for (kind, notice) in notices {
        writer.notice(&mut batch.values, now_ms, &notice);
        batch.entries.push(Entry {
            end: end.max(start),
            value_end: u32::try_from(batch.values.len()).ok()?,
            kind,
        });
    }
    Some(batch)
}

/// The last row of each lane; the id before its first where there is none.
pub(super) fn last(connection: &Connection) -> rusqlite::Result<[BatchId; Lane::COUNT]> {
    let mut last = [BatchId(0); Lane::COUNT];
    for lane in Lane::ALL {
        let found: Option<i64> = connection
            .prepare_cached("SELECT max(id) FROM batch WHERE id >= ?1 AND id < ?2")?
            .query_row(
                [lane.first().0.cast_signed(), lane.end().0.cast_signed()],
                |row| row.get(0),
            )?;
        last[lane.index()] = found.map_or(lane.first().before(), |id| BatchId(id.cast_unsigned()));
    }
    Ok(last)
}

/// Takes note that rows are sealed with this key.
pub(super) fn note_key(open: &Connection, key: KeyId) -> rusqlite::Result<()> {
    open.prepare_cached("INSERT OR IGNORE INTO sealing VALUES (?1)")?
        .execute([key.number()])
        .map(drop)
}

/// With which keys rows may be sealed.
pub(super) fn keys(connection: &Connection) -> rusqlite::Result<Vec<KeyId>> {
    let mut statement = connection.prepare("SELECT key FROM sealing")?;
    let keys = statement.query_map([], |row| row.get(0).map(KeyId::of_number))?;
    keys.collect()
}

/// Writes the write-ahead log back into the database and empties it.
pub(super) fn write_back(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
