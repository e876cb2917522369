//! Free pages: how many there are, and how they go back to the file system.

use rusqlite::Connection;

use crate::spool::rows;

/// Pages given back to the file system at a time, once the spool is empty: 8 MiB. Then the next
/// request has its turn.
pub(super) const VACUUM_PAGES: u32 = 8192;
/// Free pages that are kept, 1 MiB: the next outage needs them.
pub(super) const FREE_PAGES_KEPT: i64 = 1024;

/// Bytes of free pages that the database holds.
pub(super) fn reusable_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok((number("freelist_count")? * number("page_size")?).cast_unsigned())
}

/// Gives free pages back, some at a time, without a copy of the database; returns whether there are
/// more. Failing costs nothing but the space: the next time that the spool is emptied tries again.
pub(super) fn shrink(connection: &Connection) -> bool {
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
