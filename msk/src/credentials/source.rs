//! What every source of credentials has in common.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use thiserror::Error;

use crate::http::{HttpError, TlsError};

/// A future of a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where credentials are fetched from. Each call asks again; nothing is cached here.
pub trait CredentialSource: fmt::Debug + Send + Sync {
    /// Fetches credentials.
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, SourceError>>;

    /// What it is, for messages.
    fn name(&self) -> &'static str;
}

/// Credentials, and what came with them.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The credentials; they wipe themselves from memory.
    pub credentials: Credentials,
    /// Whose they are, as far as it can be told here: while it stays the same, so does the principal
    /// that MSK sees. Not secret.
    pub identity: String,
    /// What the wall clock said when the server said which time; where it did.
    pub said: Option<(SystemTime, SystemTime)>,
}

/// Why there are no credentials. Never holds any part of them.
#[derive(Debug, Error)]
pub enum SourceError {
    /// Certificate, key, authorities.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The way to the server.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The server said no.
    #[error("refused with status {status}: {reason}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it said, and what to look at.
        reason: String,
    },
    /// The server answered something else.
    #[error("the server gave {0}; is it the right endpoint?")]
    Malformed(&'static str),
    /// The configuration or the environment does not lead to credentials.
    #[error("{0}")]
    Setup(String),
    /// They were over when they came.
    #[error("the credentials that came have ended already; {0}")]
    Ended(&'static str),
    /// No end within the time.
    #[error("no answer within {0} s")]
    Late(u64),
}
