//! What a file holds, by offset, whether it lies there plainly or compressed; and the reads that
//! tailing is made of.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::packed::{Packed, Packing};
use crate::discover::identity::MARKER_BYTES;
use crate::discover::{Looks, looked};

/// Opening must not wait, should somebody put a FIFO where a file was a moment ago; reading a file
/// is not changed by it. The same number on x86, ARM and RISC-V: Linux, asm-generic/fcntl.h.
const O_NONBLOCK: i32 = 0o4000;
/// Bytes of one file that are read in one turn, but for a longer record.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// An open file.
#[derive(Debug)]
pub enum Content {
    /// Its bytes are the content.
    Plain(File),
    /// As [`Content::Plain`], but not held open for now.
    Parked(Parked),
    /// Its bytes are the content, compressed.
    Packed(Box<Packed>),
}

/// NULs that are passed over in one step, and most steps of a turn.
const NUL_STEP_BYTES: usize = 64 * 1024;
const NUL_STEPS_MAX: usize = 64;

/// What lies behind NULs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NulsOver {
    /// Something else.
    Content,
    /// The end of the file.
    End,
    /// NULs, as far as was looked.
    NotYet,
}

/// Where a file lies that is not held open, and which it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    path: PathBuf,
    place: (u64, u64),
}

impl Parked {
    /// What lies there, if it is still that file.
    fn metadata(&self) -> io::Result<Metadata> {
        let metadata = fs::metadata(&self.path)?;
        match (metadata.dev(), metadata.ino()) == self.place && metadata.is_file() {
            true => Ok(metadata),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// What is seen of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Length of the content, bytes; `u64::MAX` where only reading to its end can tell.
    pub(super) size: u64,
    /// What else the system says of it.
    pub(super) looks: Looks,
}

impl Content {
    /// An open file whose first bytes are `head`.
    pub(super) fn new(file: File, head: &[u8]) -> Self {
        match Packing::of(head) {
            Some(packing) => Self::Packed(Box::new(Packed::new(file, packing))),
            None => Self::Plain(file),
        }
    }

    /// Lets the file go, until it is read again: it lies at `path`. What is compressed is held.
    pub(super) fn park(&mut self, path: &Path, place: (u64, u64)) {
        if matches!(self, Self::Plain(_)) {
            *self = Self::Parked(Parked {
                path: path.to_owned(),
                place,
            });
        }
    }

    /// Takes note of where a file lies that is not held open.
    pub(super) fn lies_at(&mut self, path: &Path) {
        if let Self::Parked(parked) = self {
            path.clone_into(&mut parked.path);
        }
    }

    /// Whether it is not held open.
    pub(super) fn is_parked(&self) -> bool {
        matches!(self, Self::Parked(_))
    }

    /// Whether it is held open, and need not be.
    pub(super) fn can_park(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// How many names lead to it; none where that cannot be told: it is not held open.
    pub(super) fn links(&self) -> Option<u64> {
        let file = match self {
            Self::Plain(file) => file,
            Self::Packed(packed) => packed.file(),
            Self::Parked(_) => return None,
        };
        file.metadata().ok().map(|metadata| metadata.nlink())
    }

    /// The open file, where no name leads to it any more.
    pub(super) fn nameless(&self) -> Option<File> {
        let file = match self {
            Self::Plain(file) => file,
            Self::Packed(packed) => packed.file(),
            Self::Parked(_) => return None,
        };
        (self.links() == Some(0)).then(|| file.try_clone().ok())?
    }

    /// Opens a file that is parked; `NotFound` where it lies there no longer.
    fn wake(&mut self) -> io::Result<()> {
        if let Self::Parked(parked) = self {
            let file = open(&parked.path)?;
            let metadata = file.metadata()?;
            if (metadata.dev(), metadata.ino()) != parked.place {
                return Err(io::ErrorKind::NotFound.into());
            }
            *self = Self::Plain(file);
        }
        Ok(())
    }

    /// Whether it is compressed.
    pub fn is_packed(&self) -> bool {
        matches!(self, Self::Packed(_))
    }

    /// Whether the end of what is compressed cannot be decoded.
    pub(super) fn is_torn(&self) -> bool {
        matches!(self, Self::Packed(packed) if packed.is_torn())
    }

    pub(super) fn look(&mut self) -> io::Result<Look> {
        looked();
        let (metadata, packed) = match self {
            Self::Plain(file) => (file.metadata()?, None),
            Self::Parked(parked) => (parked.metadata()?, None),
            Self::Packed(packed) => (packed.file().metadata()?, Some(packed)),
        };
        Ok(Look {
            size: packed.map_or(metadata.len(), |packed| packed.size(metadata.len())),
            looks: Looks::of(&metadata),
        })
    }

    /// Fills `buffer` from `offset` on, or as far as the content goes.
    ///
    /// # Errors
    /// The system's; `WouldBlock` on a long way into something compressed: ask again.
    pub(super) fn read(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.wake()?;
        match self {
            Self::Plain(file) => read_full(file, buffer, offset),
            Self::Parked(_) => Err(io::ErrorKind::NotFound.into()),
            Self::Packed(packed) => packed.read(buffer, offset),
        }
    }

    /// As [`Content::read`], however long the way is.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn read_all(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.read(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    /// Passes over NULs from `offset` on: how far, and what lies there. In steps, so that a large
    /// hole does not hold up other files.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn skip_nuls(&mut self, offset: u64) -> io::Result<(u64, NulsOver)> {
        let mut step = vec![0; NUL_STEP_BYTES];
        let mut at = offset;
        for _ in 0..NUL_STEPS_MAX {
            let len = self.read_all(&mut step, at)?;
            if let Some(content) = step[..len].iter().position(|byte| *byte != 0) {
                return Ok((at + content as u64, NulsOver::Content));
            }
            at += len as u64;
            if len < step.len() {
                return Ok((at, NulsOver::End));
            }
        }
        Ok((at, NulsOver::NotYet))
    }

    /// Whether it has the memory that decoding takes.
    pub(super) fn is_decoding(&self) -> bool {
        matches!(self, Self::Packed(packed) if packed.is_decoding())
    }

    /// Whether it has not that memory, and would need it to be read on.
    pub(super) fn would_decode(&self) -> bool {
        matches!(self, Self::Packed(packed) if packed.would_decode())
    }

    /// Lets go of that memory: whoever reads on decodes it from its beginning.
    pub(super) fn stop_decoding(&mut self) {
        if let Self::Packed(packed) = self {
            packed.stop_decoding();
        }
    }

    /// Lets go of what only reading needs.
    pub(super) fn rest(&mut self) {
        if let Self::Packed(packed) = self {
            packed.rest();
        }
    }
}

/// Opens a file for reading; a FIFO that took its name meanwhile holds nobody up.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    looked();
    OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
}

/// When a file's inode was made, Unix milliseconds; none where its file system does not tell.
pub(super) fn born_ms(metadata: &Metadata) -> Option<u64> {
    #[cfg(test)]
    if let Some(born_ms) = born::said(metadata) {
        return Some(born_ms);
    }
    let born = metadata.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(born.as_millis()).ok()
}

/// No test can set when a file was made; it says so here.
#[cfg(test)]
pub(super) mod born {
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::fs::Metadata;
    use std::os::unix::fs::MetadataExt;

    thread_local! {
        static SAID: RefCell<HashMap<(u64, u64), u64>> = RefCell::default();
    }

    /// From now on, for this thread.
    pub(in crate::tail) fn say(metadata: &Metadata, born_ms: u64) {
        let place = (metadata.dev(), metadata.ino());
        SAID.with_borrow_mut(|said| said.insert(place, born_ms));
    }

    /// Inodes are used again.
    pub(in crate::tail) fn forget() {
        SAID.take();
    }

    pub(super) fn said(metadata: &Metadata) -> Option<u64> {
        SAID.with_borrow(|said| said.get(&(metadata.dev(), metadata.ino())).copied())
    }
}

/// What one read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read {
    /// Bytes in the buffer that lie before the offset that was asked for: [`MARKER_BYTES`], or as
    /// many as there are.
    pub(super) before: usize,
    /// Bytes behind them.
    pub(super) len: usize,
    /// Whether the file ended there.
    pub(super) at_end: bool,
}

/// Reads into `chunk` what lies right before offset `start`, and from there `len` bytes.
pub(super) fn read_chunk(
    content: &mut Content,
    chunk: &mut Vec<u8>,
    start: u64,
    len: usize,
) -> io::Result<Read> {
    let from = start.saturating_sub(MARKER_BYTES as u64);
    let before = usize::try_from(start - from).unwrap_or(MARKER_BYTES);
    if chunk.len() < before + len {
        chunk.resize(MARKER_BYTES + len, 0);
    }
    let filled = content.read(&mut chunk[..before + len], from)?;
    Ok(Read {
        before: before.min(filled),
        len: filled.saturating_sub(before),
        at_end: filled < before + len,
    })
}

/// What lies right before `offset`: [`MARKER_BYTES`], or fewer where the file does not hold them.
pub(super) fn read_before(content: &mut Content, offset: u64) -> io::Result<Vec<u8>> {
    if offset == 0 {
        return Ok(Vec::new());
    }
    let from = offset.saturating_sub(MARKER_BYTES as u64);
    let mut before = vec![0; usize::try_from(offset - from).unwrap_or(MARKER_BYTES)];
    let len = content.read_all(&mut before, from)?;
    before.truncate(len);
    Ok(before)
}

/// Fills `buffer` from `offset` on, or as far as the file goes.
fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
