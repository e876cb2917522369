//! Rows of the database from and into our own types: the statements in `sql/`, one function each.

use headwater_record::notice::{Tail, reason};
use headwater_record::value::ValueWriter;
use headwater_record::{Generation, Kind, Notice, StreamId};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, params};

use super::batch::Row;
use super::registry::Change;
use super::{BatchId, Depth, Reply};
use crate::batch::{Batch, Entry};
use crate::checkpoint::{FileIdentity, Marker, OpenGeneration, Origin};

/// Enters a batch and returns what it takes of `spool.max_bytes`; nothing where it is there
/// already (a commit that failed after it had taken effect, done again).
pub(super) fn insert(
    open: &Connection,
    id: BatchId,
    row: &Row,
    plain_bytes: usize,
    now_ms: u64,
) -> rusqlite::Result<Option<i64>> {
    let stored = i64::try_from(row.blob.len() + row.stream.len()).unwrap_or(i64::MAX);
    let new = open
        .prepare_cached(include_str!("sql/insert_batch.sql"))?
        .execute(params![
            id.0.cast_signed(),
            row.generation.0.cast_signed(),
            row.stream,
            row.start.cast_signed(),
            row.end.cast_signed(),
            row.closes,
            stored,
            i64::try_from(plain_bytes).unwrap_or(i64::MAX),
            now_ms.cast_signed(),
            i64::from(row.checksum),
            row.blob,
        ])?;
    Ok((new == 1).then_some(stored))
}

/// Takes a batch out and returns what it took of `spool.max_bytes`; nothing where it is not there.
pub(super) fn delete(open: &Connection, id: BatchId) -> rusqlite::Result<Option<i64>> {
    open.prepare_cached(include_str!("sql/delete_batch.sql"))?
        .query_row([id.0.cast_signed()], |row| row.get(0))
        .optional()
}

/// What the spool holds.
pub(super) fn depth(connection: &Connection) -> rusqlite::Result<Depth> {
    connection
        .prepare_cached(include_str!("sql/depth.sql"))?
        .query_row([], |row| {
            Ok(Depth {
                rows: row.get::<_, i64>(0)?.cast_unsigned(),
                bytes: row.get::<_, i64>(1)?.cast_unsigned(),
                oldest_ms: row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned),
            })
        })
}

/// Rows in order, at least one; those that cannot be read as notices of their loss, dated `now_ms`.
pub(super) fn load(
    connection: &Connection,
    after: BatchId,
    through: BatchId,
    bytes_max: u64,
    now_ms: u64,
) -> rusqlite::Result<Reply> {
    let mut statement = connection.prepare_cached(include_str!("sql/load_batches.sql"))?;
    let mut found = statement.query([after.0.cast_signed(), through.0.cast_signed()])?;
    let (mut batches, mut bytes, mut lost, mut reached) = (Vec::new(), 0_u64, 0, after);
    while let Some(row) = found.next()? {
        bytes = bytes.saturating_add(row.get::<_, i64>(6)?.cast_unsigned());
        if !batches.is_empty() && bytes > bytes_max {
            return Ok(Reply::Loaded {
                rows: batches,
                through: reached,
                lost,
            });
        }
        reached = BatchId(row.get::<_, i64>(0)?.cast_unsigned());
        let stored = stored_row(row)?;
        match stored.unpack() {
            Ok(batch) => batches.push((reached, batch)),
            Err(error) => {
                lost += 1;
                tracing::error!(
                    stream = stored.stream, generation = %stored.generation, start = stored.start, end = stored.end,
                    "a batch in the spool is unreadable: {error}; a loss notice goes in its place"
                );
                batches.extend(loss(&stored, now_ms).map(|notice| (reached, notice)));
            }
        }
    }
    Ok(Reply::Loaded {
        rows: batches,
        through,
        lost,
    })
}

fn stored_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let number = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
    // Not `get::<String>`: text that is damaged is the checksum's to refuse, row by row.
    let stream = match row.get_ref(2)? {
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    };
    Ok(Row {
        generation: Generation(number(1)?),
        stream,
        start: number(3)?,
        end: number(4)?,
        closes: row.get(5)?,
        checksum: u32::try_from(number(7)?).unwrap_or_default(),
        blob: row.get(8)?,
    })
}

/// Notices in place of a row: its range is lost, and where it closed its generation, that is closed
/// with an unknown tail. Nothing where even the stream cannot be read: the row stays where it is.
fn loss(row: &Row, now_ms: u64) -> Option<Batch> {
    let stream = StreamId::parse(&row.stream).ok()?;
    let writer = ValueWriter::new(
        &stream.device().parse().ok()?,
        &stream.source().parse().ok()?,
    );
    let reason = reason::SPOOL_CORRUPT.to_owned();
    let mut batch = Batch {
        stream,
        generation: row.generation,
        start: row.start,
        entries: Vec::new(),
        values: Vec::new(),
        permit: None,
    };
    let close = Notice::Close {
        reason: reason.clone(),
        tail: Tail::Unknown,
    };
    let notices = [(Kind::Loss, Notice::Loss { reason })]
        .into_iter()
        .chain(row.closes.then_some((Kind::Close, close)));
    for (kind, notice) in notices {
        writer.notice(&mut batch.values, now_ms, &notice);
        batch.entries.push(Entry {
            end: row.end.max(row.start),
            value_end: u32::try_from(batch.values.len()).ok()?,
            kind,
        });
    }
    Some(batch)
}

/// Does what a source asked for.
pub(super) fn change(open: &Connection, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Register(new) => new.iter().try_for_each(|new| register(open, new)),
        Change::Identify(files) => {
            let mut statement = open.prepare_cached(include_str!("sql/identify.sql"))?;
            for (generation, file) in files {
                statement.execute(params![
                    generation.0.cast_signed(),
                    file.path,
                    file.device.cast_signed(),
                    file.inode.cast_signed(),
                    file.fingerprint_len,
                    file.fingerprint,
                ])?;
            }
            Ok(())
        }
        Change::Cut(generation, offset) => open
            .prepare_cached(include_str!("sql/cut.sql"))?
            .execute([generation.0.cast_signed(), offset.cast_signed()])
            .map(drop),
    }
}

fn register(open: &Connection, new: &OpenGeneration) -> rusqlite::Result<()> {
    let file = match &new.origin {
        Origin::File(file) => Some(file),
        Origin::Sensor => None,
    };
    open.prepare_cached(include_str!("sql/register.sql"))?
        .execute(params![
            new.generation.0.cast_signed(),
            new.stream.as_str(),
            new.settled.cast_signed(),
            new.skip_to.map(u64::cast_signed),
            new.cut.map(u64::cast_signed),
            file.map(|file| &file.path),
            file.map(|file| file.device.cast_signed()),
            file.map(|file| file.inode.cast_signed()),
            file.map(|file| file.fingerprint_len),
            file.map(|file| file.fingerprint),
            file.map(|file| file.since_ms.cast_signed()),
            new.marker.map(|marker| marker.end.cast_signed()),
            new.marker.map(|marker| marker.len),
            new.marker.map(|marker| marker.sum),
        ])
        .map(drop)
}

/// Writes down what lies before the last offset that was read of a file.
pub(super) fn mark(
    open: &Connection,
    generation: Generation,
    marker: Marker,
) -> rusqlite::Result<()> {
    open.prepare_cached(include_str!("sql/mark.sql"))?
        .execute(params![
            generation.0.cast_signed(),
            marker.end.cast_signed(),
            marker.len,
            marker.sum,
        ])
        .map(drop)
}

/// Every generation that is open. One whose stream cannot be read is left out, and said: its file
/// is read again under a new name.
pub(super) fn generations(connection: &Connection) -> rusqlite::Result<Vec<OpenGeneration>> {
    let mut statement = connection.prepare(include_str!("sql/generations.sql"))?;
    let mut found = statement.query([])?;
    let mut known = Vec::new();
    while let Some(row) = found.next()? {
        let number = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
        let maybe = |column: usize| {
            row.get::<_, Option<i64>>(column)
                .map(|n| n.map(i64::cast_unsigned))
        };
        let generation = Generation(number(0)?);
        let stream: String = row.get(1)?;
        let Ok(stream) = StreamId::parse(&stream) else {
            tracing::error!(%generation, stream, "a checkpoint in the spool names no stream; it is ignored");
            continue;
        };
        let origin = match row.get::<_, Option<Vec<u8>>>(5)? {
            None => Origin::Sensor,
            Some(path) => Origin::File(FileIdentity {
                path,
                device: number(6)?,
                inode: number(7)?,
                fingerprint_len: row.get(8)?,
                fingerprint: row.get(9)?,
                since_ms: number(10)?,
            }),
        };
        known.push(OpenGeneration {
            generation,
            stream,
            origin,
            settled: number(2)?,
            skip_to: maybe(3)?,
            cut: maybe(4)?,
            marker: match maybe(11)? {
                None => None,
                Some(end) => Some(Marker {
                    end,
                    len: row.get(12)?,
                    sum: row.get(13)?,
                }),
            },
        });
    }
    Ok(known)
}

/// Writes the write-ahead log back into the database and empties it.
pub(super) fn write_back(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
