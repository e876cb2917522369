//! An object read from its beginning on, a piece at a time: whoever reads it holds a few pieces,
//! however large it is.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use aws_sdk_s3::primitives::ByteStream;
use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::mpsc::{self, Receiver};

use crate::store::StoreError;

/// A piece of a file, bytes. S3's pieces are what comes from the network at a time, about as much.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for whoever takes them.
const PIECES_MAX: usize = 4;

/// An object being read.
#[derive(Debug)]
pub enum Reading {
    /// Of a bucket: its key, and what is still to come.
    S3(String, ByteStream),
    /// A file.
    Folder(PathBuf, File),
}

impl Reading {
    /// The next piece; none behind the last.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::S3(key, body) => body
                .next()
                .await
                .transpose()
                .map_err(|error| StoreError::Later(format!("cannot read {key}: {error}"))),
            Self::Folder(path, file) => {
                let mut piece = BytesMut::zeroed(PIECE_BYTES);
                let n = file.read(&mut piece).map_err(|error| {
                    StoreError::Later(format!("cannot read {}: {error}", path.display()))
                })?;
                piece.truncate(n);
                Ok((n > 0).then(|| piece.freeze()))
            }
        }
    }

    /// Gives the object to `work`, as a reader on a thread of its own. Where the object cannot be read
    /// to its end, `work` sees an end that comes too early, and what it made of that is dropped.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn through<T: Send + 'static>(
        mut self,
        work: impl FnOnce(Pieces) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = mpsc::channel(PIECES_MAX);
        let work = tokio::task::spawn_blocking(move || {
            work(Pieces {
                receiver,
                piece: Bytes::new(),
            })
        });
        let read = loop {
            match self.next().await {
                Ok(Some(piece)) => {
                    if sender.send(piece).await.is_err() {
                        // It has seen enough.
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        drop(sender);
        let done = work.await;
        read?;
        done.map_err(|error| StoreError::Later(format!("its reader ended early: {error}")))
    }
}

/// The reader that [`Reading::through`] gives. Outside of a runtime's own threads only: it waits.
#[derive(Debug)]
pub struct Pieces {
    receiver: Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let n = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..n]);
        Ok(n)
    }
}
