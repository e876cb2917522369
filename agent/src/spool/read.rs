//! The spool's batches, read from beside the agent that holds them, or without one, for `spool list`
//! and `spool export`. Nothing is changed, and nothing is held for longer than a few rows take: a
//! reader that stays in SQLite's log keeps it from being written back.

use std::path::Path;
use std::time::Duration;

use headwater_record::Generation;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use thiserror::Error;

use super::batch::Row;
use super::store::classify;
use super::{BatchId, Depth, Lane, Trouble, rows};

/// Rows of which only the columns are read, at a time.
const PAGE: i64 = 500;
/// How long another program may hold the database.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the spool cannot be read.
#[derive(Debug, Error)]
#[error("cannot read the spool in {state_dir}: {source}{}", advice(source))]
pub struct ReadError {
    state_dir: String,
    source: rusqlite::Error,
}

fn advice(source: &rusqlite::Error) -> &'static str {
    match classify(source) {
        Trouble::Damaged => {
            "; it is damaged: the agent salvages it at its next start, and `spool export --damaged FILE` reads it page by page"
        }
        Trouble::Io | Trouble::ReadOnly => {
            "; is it there, and may this user read and write in its folder (SQLite keeps an index there)?"
        }
        _ => "",
    }
}

/// What stands beside a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its place in the order.
    pub id: BatchId,
    /// Whose.
    pub stream: String,
    /// Which file, or which start.
    pub generation: Generation,
    /// Records.
    pub records: u64,
    /// Bytes, as stored.
    pub bytes: u64,
    /// When it was committed, Unix milliseconds.
    pub committed_ms: u64,
}

/// An open database.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    state_dir: String,
}

impl Reader {
    /// Opens the spool of a state directory.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn open(state_dir: &Path) -> Result<Self, ReadError> {
        let path = state_dir.join("spool.db");
        let state_dir = state_dir.display().to_string();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
            connection.busy_timeout(PATIENCE)?;
            Ok(connection)
        });
        match opened {
            Ok(connection) => Ok(Self {
                connection,
                state_dir,
            }),
            Err(source) => Err(ReadError { state_dir, source }),
        }
    }

    fn named(&self, source: rusqlite::Error) -> ReadError {
        let state_dir = self.state_dir.clone();
        ReadError { state_dir, source }
    }

    /// What it holds.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn depth(&self) -> Result<Depth, ReadError> {
        rows::depth(&self.connection).map_err(|source| self.named(source))
    }

    /// Every batch, in the order of sending, without its records.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn summaries(&self, mut take: impl FnMut(Summary)) -> Result<(), ReadError> {
        for lane in Lane::ALL {
            let mut after = lane.first().before();
            loop {
                let page = self
                    .page(after, lane)
                    .map_err(|source| self.named(source))?;
                let Some(last) = page.last() else {
                    break;
                };
                after = last.id;
                page.into_iter().for_each(&mut take);
            }
        }
        Ok(())
    }

    fn page(&self, after: BatchId, lane: Lane) -> rusqlite::Result<Vec<Summary>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, stream, generation, records, stored_bytes, committed_ms FROM batch \
             WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3",
        )?;
        let range = params![after.0.cast_signed(), lane.end().0.cast_signed(), PAGE];
        let page = statement.query_map(range, |row| {
            let number = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
            Ok(Summary {
                id: BatchId(number(0)?),
                stream: row.get(1)?,
                generation: Generation(number(2)?),
                records: number(3)?,
                bytes: number(4)?,
                committed_ms: number(5)?,
            })
        })?;
        page.collect()
    }

    /// Every batch, in the order of sending, one at a time, until `take` returns false.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn rows(&self, mut take: impl FnMut(&Row) -> bool) -> Result<(), ReadError> {
        for lane in Lane::ALL {
            let mut after = lane.first().before();
            while let Some(row) = self.row(after, lane).map_err(|source| self.named(source))? {
                after = row.id;
                if !take(&row) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn row(&self, after: BatchId, lane: Lane) -> rusqlite::Result<Option<Row>> {
        let through = lane.end().before();
        self.connection
            .prepare_cached(include_str!("sql/load_batches.sql"))?
            .query_row(
                [after.0.cast_signed(), through.0.cast_signed()],
                rows::stored_row,
            )
            .optional()
    }
}
