//! A look into the database from beside the agent that holds it: nothing is locked, nothing changed.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::generations;
use crate::checkpoint::OpenGeneration;

/// Every generation that is open, as of the last commit.
///
/// # Errors
/// Why it cannot be looked at, for a person.
pub fn generations(state_dir: &Path) -> Result<Vec<OpenGeneration>, String> {
    let path = state_dir.join("spool.db");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    (|| {
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(std::time::Duration::from_secs(1))?;
        let identity: i64 =
            connection.query_row("SELECT min(identity) FROM depth", [], |row| row.get(0))?;
        Ok(generations::all(&connection, identity.cast_unsigned())?.open)
    })()
    .map_err(|error: rusqlite::Error| error.to_string())
}
