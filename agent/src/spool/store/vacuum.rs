//! Free pages: how many there are, and how they go back to the file system. And what deleted rows leave
//! on them and elsewhere, where records are not to be readable on the disk.

use rusqlite::{Connection, TransactionBehavior};

use crate::spool::rows;

/// Pages given back to the file system at a time, once the spool is empty: 8 MiB. Then the next
/// request has its turn.
pub(super) const VACUUM_PAGES: u32 = 8192;
/// Free pages that are kept, 1 MiB: the next outage needs them.
pub(super) const FREE_PAGES_KEPT: i64 = 1024;

/// What is to become of free pages.
#[derive(Debug)]
pub(super) struct Vacuum {
    /// The spool is empty, and its file not yet small.
    due: bool,
    /// Once it is empty, nothing is to be left of what it held: batches of earlier runs may have been
    /// in the clear.
    wipes: bool,
}

impl Vacuum {
    /// At a start, on a spool that is empty or not; `sealed`: there is a key.
    pub(super) fn new(is_empty: bool, sealed: bool) -> Self {
        Self {
            due: is_empty,
            wipes: sealed,
        }
    }

    /// A transaction left so many rows, and deleted some or none.
    pub(super) fn committed(&mut self, rows: u64, deletes: bool) {
        self.due = rows == 0 && (self.due || deletes);
    }

    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    /// Does some of what is due. What fails is tried again when the spool is emptied next, or at the next
    /// start.
    pub(super) fn step(&mut self, connection: &mut Connection) {
        let kept = if self.wipes { 0 } else { FREE_PAGES_KEPT };
        self.due = shrink(connection, kept);
        if self.wipes && !self.due {
            match wipe(connection) {
                Ok(wiped) => self.wipes = !wiped,
                Err(error) => tracing::debug!(%error, "cannot wipe what the spool held now"),
            }
        }
    }

    /// The store ends: there may have been no time for what is to be wiped.
    pub(super) fn end(&mut self, connection: &mut Connection) {
        if self.due && self.wipes {
            self.step(connection);
        }
    }
}

/// Bytes of free pages that the database holds.
pub(super) fn reusable_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok((number("freelist_count")? * number("page_size")?).cast_unsigned())
}

/// Wipes what an empty spool held; false where it is not empty, has free pages, or a reader keeps the
/// log. One page is written.
fn wipe(connection: &mut Connection) -> rusqlite::Result<bool> {
    let open = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let is_clear =
        "SELECT NOT EXISTS (SELECT 1 FROM batch) AND freelist_count = 0 FROM pragma_freelist_count";
    if !open.query_row(is_clear, [], |row| row.get::<_, bool>(0))? {
        return Ok(false);
    }
    // There is no row: this has SQLite zero the one page that the table has left (`secure_delete` is set).
    open.execute("DELETE FROM batch", [])?;
    open.commit()?;
    let busy: i64 =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(busy == 0)
}

/// Gives free pages back, some at a time, but for so many, without a copy of the database; returns
/// whether there are more.
pub(super) fn shrink(connection: &Connection, kept: i64) -> bool {
    let shrunk = (|| {
        let free = || connection.pragma_query_value(None, "freelist_count", |row| row.get(0));
        let before: i64 = free()?;
        if before <= kept {
            return Ok(false);
        }
        // A page is freed at each step: the statement must be run to its end.
        let mut vacuum =
            connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
        drop(steps);
        let after: i64 = free()?;
        let more = after > kept && after < before;
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
