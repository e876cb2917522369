//! Opening the database: the pragmas (set, and read back), the version, and the checks that a start
//! has time for. What fails them is salvaged ([`super::salvage`]), so that the agent always starts;
//! only a database of a later headwater, and a directory that is not ours to write, stop it.

use std::path::{Path, PathBuf};

use headwater_record::DeviceId;
use rusqlite::ffi::{SQLITE_IOERR_SHMOPEN, SQLITE_IOERR_SHMSIZE};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use thiserror::Error;

use super::disk::Floors;
use super::folder::Folder;
use super::salvage::{self, SalvageError, Salvaged, Salvaging};
use super::sealing::{KeyId, Keys};
use super::store::classify as trouble_of;
use super::{Healing, Lane, Trouble, generations, hardware, usage};
use crate::clock;

/// "hwsp": so that `file` and we know whose database it is.
const APPLICATION_ID: i64 = 0x6877_7370;
/// Of `sql/schema.sql`.
const VERSION: i64 = 2;
const SCHEMA: &str = include_str!("sql/schema.sql");
/// Tables that came later, made where they are missing: an earlier agent passes them over.
const LATER: [&str; 3] = [
    usage::SCHEMA,
    include_str!("sql/sealing.sql"),
    hardware::SCHEMA,
];
/// Columns of `generation` that came later: an earlier agent passes them over.
const LATER_COLUMNS: [(&str, &str); 2] = [("earlier", "earlier BLOB"), ("goes_on", "goes_on BLOB")];
/// Bytes of a page. A batch is a chain of pages of its own, so small ones leave little of the last one
/// empty, and a checkpoint changes one: with 4096, an outage wrote a quarter more to the flash, and a
/// quiet device half as much again (docs/benchmarks.md).
pub(super) const PAGE_BYTES: usize = 1024;

/// The same in databases that were made before; they keep it.
pub(super) const PAGE_BYTES_BEFORE: usize = 4096;

/// Bytes of log at which its pages are written back. Long enough that pages written again and again (the
/// depth, the ends of the trees) reach the database once; short enough for a small disk and a quick
/// recovery.
pub(super) const LOG_BYTES: i64 = 2 << 20;

/// Each pragma, and what it must read as afterwards. The order matters: `auto_vacuum` only takes in an
/// empty file, before the journal's mode writes to it.
const PRAGMAS: &[(&str, &str, &str)] = &[
    // Gives space back, when the spool has drained, without rewriting the file.
    ("auto_vacuum", "INCREMENTAL", "2"),
    ("journal_mode", "WAL", "wal"),
    // A commit that returned survives a power cut. In WAL mode, NORMAL does not promise that.
    ("synchronous", "FULL", "2"),
    // KiB. Pages are written once and read once: a cache holds the upper levels of two trees.
    ("cache_size", "-1024", "-1024"),
    // Bytes: what a long reader made of the log is cut back to this.
    ("journal_size_limit", "4194304", "4194304"),
    // Milliseconds. Somebody may be looking with the sqlite3 tool.
    ("busy_timeout", "5000", "5000"),
    // No temporary files beside a spool that may be full.
    ("temp_store", "MEMORY", "2"),
    // Zeroes what is deleted where its page is written anyway; what that leaves, vacuum.rs wipes.
    ("secure_delete", "FAST", "2"),
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
    /// A database of a later headwater.
    #[error(
        "the spool {path} is of version {version}, and this agent knows {VERSION}: use the version that wrote it, or move the database aside (records that are only in it are not sent then)"
    )]
    Version {
        /// The database.
        path: PathBuf,
        /// Its version.
        version: i64,
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
    /// Batches are sealed with a key that is not here.
    #[error(
        "the spool {path} holds batches that are sealed with the key {key}, which is neither spool.key nor one of spool.old_keys: name its file there; nothing of the spool is touched until then"
    )]
    Key {
        /// The database.
        path: PathBuf,
        /// The key's id.
        key: KeyId,
    },
    /// It would have to be salvaged to the end first.
    #[error("the spool's salvage is given up, since the agent stops; the next start does it")]
    Stopped,
    /// Not now: what is in the way may go away.
    #[error("cannot open the spool {path}: {source}: {}", trouble.advice())]
    Refused {
        /// The database.
        path: PathBuf,
        /// What is in the way.
        trouble: Trouble,
        /// What SQLite or the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl OpenError {
    /// Whether the same may work a moment later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Stopped => true,
            Self::Directory { source, .. } => {
                matches!(
                    source.kind(),
                    std::io::ErrorKind::StorageFull
                        | std::io::ErrorKind::ReadOnlyFilesystem
                        | std::io::ErrorKind::QuotaExceeded
                ) || source.raw_os_error() == Some(EIO)
            }
            Self::Locked { .. } | Self::Version { .. } | Self::Pragma { .. } | Self::Key { .. } => {
                false
            }
        }
    }
}

/// `EIO` has no kind of its own.
const EIO: i32 = 5;

/// An open database.
#[derive(Debug)]
pub struct Opened {
    /// The one connection.
    pub connection: Connection,
    /// Drawn when the database was made.
    pub identity: u64,
    /// What it cost to open it, where it was damaged.
    pub salvaged: Option<Salvaged>,
}

/// Opens the spool of a locked directory, makes it where there is none, and salvages it where it
/// fails its checks, or `is_damaged` whatever they say. `device` says so then, in notices whose ids
/// are not below `healing.first_free`, and what is to be kept free of the disk is; [`Keys`] are those at
/// hand; [`Salvaging`] sees it.
///
/// # Errors
/// See [`OpenError`].
pub(super) fn open(
    folder: &Folder,
    device: (&DeviceId, Floors, &Keys, &Salvaging),
    healing: &Healing,
    is_damaged: bool,
) -> Result<Opened, OpenError> {
    let path = folder.database();
    let file_error = |source| file_error(&path, source);
    folder.replace().map_err(file_error)?;
    if salvage::set_foreign_log_aside(folder).map_err(file_error)? {
        tracing::error!(
            "the write-ahead log beside the spool was not its own; it lies in spool.foreign-wal, and what it held is not sent"
        );
    }
    let first = if is_damaged {
        Err(Refusal::Damaged("it was found to be damaged".to_owned()))
    } else if salvage::is_cut_short(folder).map_err(file_error)? {
        Err(Refusal::Damaged("its file is cut short".to_owned()))
    } else {
        folder.make_database().map_err(file_error)?;
        open_checked(&path)
    };
    let mut salvaged = None;
    let opened = match first {
        Err(Refusal::Damaged(what)) => {
            tracing::error!("the spool is damaged ({what}); what can be read of it is salvaged");
            let kept = salvage::salvage(folder, device, healing, clock::stamp_ms())
                .map_err(|error| salvage_error(&path, error))?;
            tracing::error!(
                batches = kept.rows,
                generations = kept.generations,
                losses = kept.losses,
                complete = kept.complete,
                "the spool is replaced by what could be salvaged; loss notices account for the rest"
            );
            salvaged = Some(kept);
            open_checked(&path)
        }
        first => first,
    };
    // A new database was switched to WAL mode under a rollback journal, which is deleted then, and
    // the deletion is not synced. If it came back after a power cut, SQLite would roll back to
    // nothing.
    folder.sync().map_err(file_error)?;
    match opened {
        Ok((connection, identity)) => Ok(Opened {
            connection,
            identity,
            salvaged,
        }),
        Err(Refusal::Error(error)) => Err(error),
        Err(Refusal::Damaged(what)) => Err(OpenError::Refused {
            path,
            trouble: Trouble::Io,
            source: format!("what was just written is damaged ({what})").into(),
        }),
    }
}

/// Why a database is not used as it is.
enum Refusal {
    Damaged(String),
    Error(OpenError),
}

fn file_error(path: &Path, source: std::io::Error) -> OpenError {
    OpenError::Directory {
        path: path.to_owned(),
        source,
    }
}

fn salvage_error(path: &Path, error: SalvageError) -> OpenError {
    match error {
        SalvageError::Files(source) => file_error(path, source),
        SalvageError::Database(source) => refused(path, source),
        SalvageError::Stopped => OpenError::Stopped,
    }
}

fn refused(path: &Path, source: rusqlite::Error) -> OpenError {
    OpenError::Refused {
        path: path.to_owned(),
        trouble: trouble_of(&source),
        source: source.into(),
    }
}

fn open_checked(path: &Path) -> Result<(Connection, u64), Refusal> {
    let connection = connect(path, None, Index::File).or_else(|refusal| {
        if !is_without_index(&refusal) {
            return Err(refusal);
        }
        let connection = connect(path, None, Index::Memory)?;
        tracing::warn!(
            "no room for the index of the spool's log beside it: it is kept in memory, and nobody else can look \
             into the spool until the agent starts again"
        );
        Ok(connection)
    })?;
    let identity = check(&connection, path)?;
    Ok((connection, identity))
}

/// Where SQLite keeps the index of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Index {
    /// In a file beside it, which others map, too.
    File,
    /// In memory, and so for this connection alone: 32 KiB that a full disk has not.
    Memory,
}

/// Whether there was no room for the index of the log, or nobody may make its file.
fn is_without_index(refusal: &Refusal) -> bool {
    let Refusal::Error(OpenError::Refused { source, .. }) = refusal else {
        return false;
    };
    let code = source
        .downcast_ref::<rusqlite::Error>()
        .and_then(rusqlite::Error::sqlite_error)
        .map(|error| error.extended_code);
    matches!(code, Some(SQLITE_IOERR_SHMSIZE | SQLITE_IOERR_SHMOPEN))
}

/// Opens a database, new or old, with our pragmas and our tables. `vfs`: SQLite's way to files.
fn connect(path: &Path, vfs: Option<&str>, index: Index) -> Result<Connection, Refusal> {
    let error = |source| refusal(path, source);
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match vfs {
        Some(vfs) => {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
            Connection::open_with_flags_and_vfs(path, flags, vfs)
        }
        None => Connection::open_with_flags(path, flags),
    }
    .map_err(error)?;
    if index == Index::Memory {
        // Before anything is read: what is mapped once stays mapped.
        set_pragma(&connection, path, "locking_mode", "EXCLUSIVE", "exclusive")?;
    }
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) = (
        number("application_id").map_err(error)?,
        number("user_version").map_err(error)?,
    );
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(error)?;
    let is_new = (application, version, tables) == (0, 0, 0);
    if !is_new && application != APPLICATION_ID {
        return Err(Refusal::Damaged("it is another program's".to_owned()));
    }
    if !is_new && version != VERSION {
        return Err(Refusal::Error(OpenError::Version {
            path: path.to_owned(),
            version,
        }));
    }
    if is_new {
        // A first start that was cut short may have left an empty file with pages of its own.
        connection
            .execute_batch(&format!("PRAGMA page_size = {PAGE_BYTES}"))
            .map_err(error)?;
    }
    for (name, value, wanted) in PRAGMAS {
        set_pragma(&connection, path, name, value, wanted)?;
    }
    let page_bytes = number("page_size").map_err(error)?.max(512);
    connection
        .pragma_update(None, "wal_autocheckpoint", LOG_BYTES / page_bytes)
        .map_err(error)?;
    if is_new {
        create(&connection).map_err(error)?;
    }
    for later in LATER {
        connection.execute_batch(later).map_err(error)?;
    }
    for (name, column) in LATER_COLUMNS {
        add_column(&connection, name, column).map_err(error)?;
    }
    Ok(connection)
}

fn add_column(connection: &Connection, name: &str, column: &str) -> rusqlite::Result<()> {
    let is_there: bool = connection.query_row(
        "SELECT count(*) FROM pragma_table_info('generation') WHERE name = ?1",
        [name],
        |row| row.get(0),
    )?;
    match is_there {
        true => Ok(()),
        false => connection.execute_batch(&format!("ALTER TABLE generation ADD COLUMN {column}")),
    }
}

/// A database behind another way to files, checked, and its identity.
#[cfg(test)]
pub(super) fn connect_for_test(path: &Path, vfs: &str) -> (Connection, u64) {
    let checked = connect(path, Some(vfs), Index::File).and_then(|connection| {
        let identity = check(&connection, path)?;
        Ok((connection, identity))
    });
    match checked {
        Ok(checked) => checked,
        Err(Refusal::Damaged(what)) => panic!("damaged: {what}"),
        Err(Refusal::Error(error)) => panic!("{error}"),
    }
}

/// Makes the tables, and has them in the database's own file: with them its identity, by which a log
/// of another database is told.
fn create(connection: &Connection) -> rusqlite::Result<()> {
    let identity = getrandom::u64().unwrap_or_else(|_| clock::wall_ms());
    let depth = empty_depth(identity);
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE;\n{SCHEMA}\n{depth}PRAGMA application_id = {APPLICATION_ID};\n\
         PRAGMA user_version = {VERSION};\nCOMMIT;"
    ))?;
    super::rows::write_back(connection)
}

/// The sums of an empty spool.
pub(super) fn empty_depth(identity: u64) -> String {
    let identity = identity.cast_signed();
    (0..Lane::COUNT)
        .map(|lane| format!("INSERT INTO depth VALUES ({lane}, {identity}, 0, 0, 0);"))
        .collect()
}

/// A database for a salvage to fill: written without a journal on disk, since it is thrown away
/// unless it becomes whole.
pub(super) fn create_salvage(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute_batch(&format!(
        "PRAGMA page_size = {PAGE_BYTES};\nPRAGMA auto_vacuum = INCREMENTAL;\n\
         PRAGMA journal_mode = MEMORY;\nPRAGMA synchronous = OFF;\nPRAGMA cache_size = -1024;\n\
         BEGIN;\n{SCHEMA}\n{}\nPRAGMA application_id = {APPLICATION_ID};\n\
         PRAGMA user_version = {VERSION};\nCOMMIT;",
        LATER.concat()
    ))?;
    Ok(connection)
}

/// Looks at what a start has the time for, whatever the backlog: every generation, the sums, what was
/// used of budgets, and the
/// first and the last row of each lane. Returns the identity.
fn check(connection: &Connection, path: &Path) -> Result<u64, Refusal> {
    let error = |source| refusal(path, source);
    let damaged = |what: &str| Refusal::Damaged(what.to_owned());
    let lanes = i64::try_from(Lane::COUNT).unwrap_or(i64::MAX);
    let (count, least, most, sound): (i64, Option<i64>, Option<i64>, Option<bool>) = connection
        .query_row(
            "SELECT count(*), min(identity), max(identity), min(n_rows >= 0 AND stored_bytes >= 0) FROM depth",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .map_err(error)?;
    let (true, Some(identity), true, Some(true)) = (count == lanes, least, least == most, sound)
    else {
        return Err(damaged("its sums are not"));
    };
    let identity = identity.cast_unsigned();
    generations::all(connection, identity).map_err(error)?;
    super::rows::depth(connection).map_err(error)?;
    usage::all(connection).map_err(error)?;
    hardware::all(connection).map_err(error)?;
    super::rows::keys(connection).map_err(error)?;
    for lane in Lane::ALL {
        for direction in ["ASC", "DESC"] {
            connection
                .query_row(
                    &format!("SELECT id, length(blob) FROM batch WHERE id >= ?1 AND id < ?2 ORDER BY id {direction} LIMIT 1"),
                    [lane.first().0.cast_signed(), lane.end().0.cast_signed()],
                    |_| Ok(()),
                )
                .optional()
                .map_err(error)?;
        }
    }
    Ok(identity)
}

fn set_pragma(
    connection: &Connection,
    path: &Path,
    name: &'static str,
    value: &str,
    wanted: &'static str,
) -> Result<(), Refusal> {
    let error = |source| refusal(path, source);
    let read = || {
        let found = connection.pragma_query_value(None, name, |row| row.get(0))?;
        Ok(match found {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => format!("{other:?}"),
        })
    };
    // One that is kept in the file is written anew otherwise, which a full disk refuses.
    if read().map_err(error)? == wanted {
        return Ok(());
    }
    // Some pragmas answer with a row and some do not; `execute_batch` takes both.
    connection
        .execute_batch(&format!("PRAGMA {name} = {value}"))
        .map_err(error)?;
    let found = read().map_err(error)?;
    if found == wanted {
        return Ok(());
    }
    Err(Refusal::Error(OpenError::Pragma {
        path: path.to_owned(),
        name,
        found,
        wanted,
    }))
}

fn refusal(path: &Path, source: rusqlite::Error) -> Refusal {
    match trouble_of(&source) {
        Trouble::Damaged => Refusal::Damaged(source.to_string()),
        Trouble::Bug if is_of_another_form(&source) => Refusal::Damaged(source.to_string()),
        _ => Refusal::Error(refused(path, source)),
    }
}

/// A missing table or column: what a page of another database, or a flipped bit in the schema, leads to.
fn is_of_another_form(source: &rusqlite::Error) -> bool {
    match source {
        rusqlite::Error::SqliteFailure(error, _) => error.code == rusqlite::ErrorCode::Unknown,
        rusqlite::Error::SqlInputError { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
