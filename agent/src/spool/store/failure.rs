//! What went wrong with the database, as far as it makes a difference to delivery.

use std::io;

use rusqlite::ErrorCode;
use rusqlite::ffi::{SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_SHORT_READ};

use crate::spool::Trouble;

/// Why a request failed, before it is a choice of the caller.
pub(in crate::spool) enum Failure {
    Database(rusqlite::Error),
    Packing(io::Error),
    /// A row is not as it was written.
    Damaged,
    /// Too little could give way, and what is to be kept free would be touched.
    Floor,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl Failure {
    /// Delivery says it once; the exact words of each try are for who asks.
    pub(super) fn trouble(self, what: &str) -> Trouble {
        match self {
            Self::Database(error) => {
                tracing::debug!(%error, "cannot {what}");
                classify(&error)
            }
            Self::Damaged => Trouble::Damaged,
            Self::Floor => Trouble::Floor,
            Self::Packing(error) => {
                tracing::debug!(%error, "cannot pack a batch");
                Trouble::Bug
            }
        }
    }
}

/// What SQLite documents for a statement that was right before, and values of other types than were written.
pub(in crate::spool) fn classify(error: &rusqlite::Error) -> Trouble {
    let extended = error.sqlite_error().map(|error| error.extended_code);
    match error.sqlite_error_code() {
        // The file ends before one of its pages: no disk that fails, and no better the next time.
        _ if extended == Some(SQLITE_IOERR_SHORT_READ) => Trouble::Damaged,
        // The index of the log, which is made longer and not filled: there is no room for it.
        _ if extended == Some(SQLITE_IOERR_SHMSIZE) => Trouble::Full,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OutOfMemory) => {
            Trouble::Busy
        }
        Some(ErrorCode::DiskFull) => Trouble::Full,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Trouble::ReadOnly,
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => Trouble::Io,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Trouble::Damaged,
        _ if is_of_another_type(error) => Trouble::Damaged,
        _ => Trouble::Bug,
    }
}

/// A value that is not of its column's type: a bit flipped before a row's values, which SQLite does not see. No
/// page is any better the next time.
fn is_of_another_type(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
    )
}
