//! Opening the database: the lock, the pragmas (set, and read back), the version.
//!
//! ```text
//! state_dir/            0700, made where it is missing
//!   lock                held from start to end: one agent, one directory
//!   spool.db            0600; SQLite gives -wal and -shm the same mode
//! ```
//!
//! A database that cannot be used stops the start with an error that names it and says what to do.
//! Nothing is moved aside or made anew here: that would lose what is in it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use thiserror::Error;

/// "hwsp": so that `file` and we know whose database it is.
const APPLICATION_ID: i64 = 0x6877_7370;
/// Of `sql/schema.sql`.
const VERSION: i64 = 1;
const SCHEMA: &str = include_str!("sql/schema.sql");

/// Each pragma, and what it must read as afterwards. The order matters: `auto_vacuum` only takes in
/// an empty file, before the journal's mode writes to it.
const PRAGMAS: &[(&str, &str, &str)] = &[
    // Gives space back, when the spool has drained, without rewriting the file.
    ("auto_vacuum", "INCREMENTAL", "2"),
    ("journal_mode", "WAL", "wal"),
    // A commit that returned survives a power cut. In WAL mode, NORMAL does not promise that.
    ("synchronous", "FULL", "2"),
    // KiB. Pages are written once and read once: a cache holds the upper levels of two trees.
    ("cache_size", "-1024", "-1024"),
    // In pages: 2 MiB. Long enough that pages written again and again (the depth, the ends of the
    // trees) reach the database once; short enough for a small disk and a quick recovery.
    ("wal_autocheckpoint", "512", "512"),
    // Bytes: what a long reader made of the log is cut back to this.
    ("journal_size_limit", "4194304", "4194304"),
    // Milliseconds. Somebody may be looking with the sqlite3 tool.
    ("busy_timeout", "5000", "5000"),
    // No temporary files beside a spool that may be full.
    ("temp_store", "MEMORY", "2"),
    // A damaged page is an error, not a wrong answer.
    ("cell_size_check", "ON", "1"),
    ("trusted_schema", "OFF", "0"),
    ("foreign_keys", "OFF", "0"),
];

/// Why the agent cannot start on this state directory.
#[derive(Debug, Error)]
pub enum OpenError {
    /// No directory, and none can be made; or no file in it.
    #[error(
        "cannot use the state directory {path}: {source}; the agent needs to write there: check that it exists and who owns it"
    )]
    Directory {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another agent holds the lock.
    #[error("another agent runs on {path}: give each its own state_dir, or stop the other")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Not a database, or a damaged one.
    #[error(
        "the spool {path} is damaged ({source}): to start anew, stop the agent and move {path}, {path}-wal and {path}-shm aside; records that were only in it are lost, files are read again from their beginnings"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A database of another program, or of a later headwater.
    #[error(
        "{path} is no spool that this version can use: {found}; use the version that wrote it, or move it aside"
    )]
    Foreign {
        /// The database.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// A pragma did not take: promises rest on it.
    #[error(
        "cannot open the spool {path}: {name} is {found:?} and must be {wanted:?}; does the file system support it (a network file system does not)?"
    )]
    Pragma {
        /// The database.
        path: PathBuf,
        /// The pragma.
        name: &'static str,
        /// What it reads as.
        found: String,
        /// What it must read as.
        wanted: &'static str,
    },
    /// Anything else.
    #[error("cannot open the spool {path}: {source}")]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// An open database, alone in its directory for as long as this lives.
#[derive(Debug)]
pub struct Opened {
    /// The one connection.
    pub connection: Connection,
    /// Where it is.
    pub path: PathBuf,
    _lock: File,
}

/// Opens the spool of `state_dir`, and makes it where there is none.
///
/// # Errors
/// See [`OpenError`].
pub fn open(state_dir: &Path) -> Result<Opened, OpenError> {
    let lock = lock(state_dir)?;
    let path = state_dir.join("spool.db");
    // SQLite would make it readable by all; made by us first, it and its log are ours alone.
    private_file(&path)?;
    let error = |source| classify(&path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags).map_err(error)?;
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let found = (
        number("application_id").map_err(error)?,
        number("user_version").map_err(error)?,
    );
    let tables = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| {
            row.get::<_, i64>(0)
        })
        .map_err(error)?;
    let is_new = found == (0, 0) && tables == 0;
    if !is_new && found != (APPLICATION_ID, VERSION) {
        return Err(OpenError::Foreign {
            found: format!("application id {:#x}, version {}", found.0, found.1),
            path,
        });
    }
    for (name, value, wanted) in PRAGMAS {
        set_pragma(&connection, &path, name, value, wanted)?;
    }
    if is_new {
        let schema = format!(
            "BEGIN IMMEDIATE;\n{SCHEMA}\nPRAGMA application_id = {APPLICATION_ID};\n\
             PRAGMA user_version = {VERSION};\nCOMMIT;"
        );
        connection.execute_batch(&schema).map_err(error)?;
    }
    Ok(Opened {
        connection,
        path,
        _lock: lock,
    })
}

fn lock(state_dir: &Path) -> Result<File, OpenError> {
    let unusable = |path: &Path, source| OpenError::Directory {
        path: path.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir)
        .map_err(|source| unusable(state_dir, source))?;
    let path = state_dir.join("lock");
    let file = private_file(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
            path: state_dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(unusable(&path, source)),
    }
}

fn private_file(path: &Path) -> Result<File, OpenError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| OpenError::Directory {
            path: path.to_owned(),
            source,
        })
}

fn set_pragma(
    connection: &Connection,
    path: &Path,
    name: &'static str,
    value: &str,
    wanted: &'static str,
) -> Result<(), OpenError> {
    let error = |source| classify(path, source);
    // Some pragmas answer with a row and some do not; `execute_batch` takes both.
    connection
        .execute_batch(&format!("PRAGMA {name} = {value}"))
        .map_err(error)?;
    let found: rusqlite::types::Value = connection
        .pragma_query_value(None, name, |row| row.get(0))
        .map_err(error)?;
    let found = match found {
        rusqlite::types::Value::Integer(number) => number.to_string(),
        rusqlite::types::Value::Text(text) => text,
        other => format!("{other:?}"),
    };
    if found == wanted {
        return Ok(());
    }
    Err(OpenError::Pragma {
        path: path.to_owned(),
        name,
        found,
        wanted,
    })
}

fn classify(path: &Path, source: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            OpenError::Damaged { path, source }
        }
        _ => OpenError::Database { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn it_is_ours_alone_and_opens_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        for _ in 0..2 {
            let opened = open(&state).unwrap();
            opened
                .connection
                .execute("UPDATE depth SET n_rows = n_rows", [])
                .unwrap();
            assert_eq!(mode(&state), 0o700);
            for name in ["spool.db", "spool.db-wal", "spool.db-shm", "lock"] {
                assert_eq!(mode(&state.join(name)), 0o600, "{name}");
            }
            let error = open(&state).unwrap_err().to_string();
            assert!(error.contains("another agent runs on"), "{error}");
        }
    }

    #[test]
    fn a_spool_that_cannot_be_used_says_what_to_do() {
        let refuse = |content: &[u8], word: &str| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("spool.db"), content).unwrap();
            let error = open(dir.path()).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("move"), "{error}");
            assert_eq!(
                std::fs::read(dir.path().join("spool.db")).unwrap(),
                content,
                "it was changed"
            );
        };
        refuse(&[b'x'; 8192], "damaged");

        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        let path = dir.path().join("spool.db");
        let good = std::fs::read(&path).unwrap();
        let mut zeroed = good.clone();
        zeroed[..16].fill(0);
        refuse(&zeroed, "damaged");
        let newer = Connection::open(&path).unwrap();
        newer.pragma_update(None, "user_version", 2).unwrap();
        drop(newer);
        refuse(&std::fs::read(&path).unwrap(), "version 2");
    }

    #[test]
    fn an_empty_file_is_a_first_start_cut_short() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("spool.db"), b"").unwrap();
        assert!(open(dir.path()).is_ok());
    }
}
