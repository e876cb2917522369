//! An object read from its beginning on, a piece at a time: whoever reads it holds a few pieces,
//! however large it is.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use aws_sdk_s3::primitives::ByteStream;
use bytes::{Buf, Bytes};
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinHandle;

use crate::store::StoreError;

/// What a file is read in, bytes. S3's pieces are what comes from the network at a time, about as much.
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
    /// Gives the object to `work`, as a reader on a thread of its own. Where the object cannot be read
    /// to its end, `work` sees an end that comes too early, and what it made of that is dropped.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn through<T: Send + 'static>(
        self,
        work: impl FnOnce(Pieces) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (read, done) = match self {
            Self::S3(key, mut body) => {
                let (sender, receiver) = mpsc::channel(PIECES_MAX);
                let work = on_thread(work, Source::Network(receiver, Bytes::new()));
                let read = loop {
                    match body.next().await.transpose() {
                        // Where it has seen enough, nobody takes the next one.
                        Ok(Some(piece)) => {
                            if sender.send(piece).await.is_err() {
                                break Ok(());
                            }
                        }
                        Ok(None) => break Ok(()),
                        Err(error) => break Err(format!("cannot read {key}: {error}")),
                    }
                };
                drop(sender);
                (read, work.await)
            }
            // On that thread itself: one that waited for another could wait for ever where all are taken.
            Self::Folder(path, file) => {
                let failed = Arc::new(OnceLock::new());
                let file = BufReader::with_capacity(PIECE_BYTES, file);
                let done = on_thread(work, Source::Disk(file, Arc::clone(&failed))).await;
                let read = match failed.get() {
                    None => Ok(()),
                    Some(error) => Err(format!("cannot read {}: {error}", path.display())),
                };
                (read, done)
            }
        };
        read.map_err(StoreError::Later)?;
        done.map_err(|error| StoreError::Later(format!("its reader ended early: {error}")))
    }
}

fn on_thread<T: Send + 'static>(
    work: impl FnOnce(Pieces) -> T + Send + 'static,
    source: Source,
) -> JoinHandle<T> {
    tokio::task::spawn_blocking(move || work(Pieces(source)))
}

/// The reader that [`Reading::through`] gives. Outside of a runtime's own threads only: it waits.
#[derive(Debug)]
pub struct Pieces(Source);

#[derive(Debug)]
enum Source {
    /// The pieces that come, and what is left of the last one.
    Network(Receiver<Bytes>, Bytes),
    /// A file, and why it cannot be read on.
    Disk(BufReader<File>, Arc<OnceLock<io::Error>>),
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Source::Network(pieces, piece) => {
                while piece.is_empty() {
                    match pieces.blocking_recv() {
                        Some(next) => *piece = next,
                        None => return Ok(0),
                    }
                }
                let n = piece.len().min(buffer.len());
                piece.copy_to_slice(&mut buffer[..n]);
                Ok(n)
            }
            Source::Disk(file, failed) => match file.read(buffer) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    failed.get_or_init(|| error);
                    Ok(0)
                }
                read => read,
            },
        }
    }
}
