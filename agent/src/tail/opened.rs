//! A regular file as it is opened, and the reads that tailing is made of.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::checkpoint::{FileIdentity, Marker};
use crate::discover::identity::{
    self, FINGERPRINT_BYTES, Head, MARKER_BYTES, Match, match_identity,
};
use crate::frame::lines::LOOK_AHEAD;

/// Bytes of one file that are read in one turn, but for a longer line.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Opening must not wait, should somebody put a FIFO where a file was a moment ago; reading a file
/// is not changed by it. The same number on x86, ARM and RISC-V: Linux, asm-generic/fcntl.h.
const O_NONBLOCK: i32 = 0o4000;

/// A file that was opened, and what it looked like.
#[derive(Debug)]
pub struct Opened {
    pub(super) file: File,
    /// The path with all links resolved: beside it, rotated ones are searched.
    pub path: PathBuf,
    /// Device number of its file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Its length, bytes.
    pub size: u64,
    /// When it was changed last, Unix milliseconds; 0 before 1970.
    pub modified_ms: u64,
    head: Vec<u8>,
}

impl Opened {
    /// Opens a regular file.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` where it is not, or no longer, a regular file.
    pub fn new(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(O_NONBLOCK)
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a regular file",
            ));
        }
        let mut head = vec![0; FINGERPRINT_BYTES];
        let len = read_full(&file, &mut head, 0)?;
        head.truncate(len);
        Ok(Self {
            path: fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified_ms: modified_ms(&metadata),
            file,
            head,
        })
    }

    /// Whether it is the file that `known` and `marker` describe.
    pub fn is(&self, known: &FileIdentity, marker: Option<&Marker>) -> bool {
        let head = Head {
            device: self.device,
            inode: self.inode,
            bytes: &self.head,
        };
        match_identity(known, &head) != Match::Different
            && marker.is_none_or(|marker| self.has(marker))
    }

    /// Whether it was cut short below what a marker was made of, and is the same otherwise.
    pub fn is_shorter(&self, marker: Option<&Marker>) -> bool {
        marker.is_some_and(|marker| self.size < marker.end)
    }

    fn has(&self, marker: &Marker) -> bool {
        self.size >= marker.end
            && read_before(&self.file, marker.end)
                .is_ok_and(|before| identity::is_at(marker, &before))
    }

    /// The marker of an offset in it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn marker(&self, end: u64) -> io::Result<Marker> {
        Ok(identity::marker(end, &read_before(&self.file, end)?))
    }

    /// What it will be known by.
    pub fn identity(&self) -> FileIdentity {
        let (fingerprint_len, fingerprint) = identity::fingerprint(&self.head);
        FileIdentity {
            path: self.path.as_os_str().as_bytes().to_vec(),
            device: self.device,
            inode: self.inode,
            fingerprint_len,
            fingerprint,
            since_ms: self.modified_ms,
        }
    }
}

/// When a file was changed last, Unix milliseconds; 0 before 1970.
pub(super) fn modified_ms(metadata: &Metadata) -> u64 {
    let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
    let ms = seconds
        .saturating_mul(1000)
        .saturating_add(nanos / 1_000_000);
    u64::try_from(ms).unwrap_or_default()
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

/// Reads into `chunk` what lies right before offset `start`, and from there a chunk, or more where
/// it holds no line end and a line may be longer.
pub(super) fn read_chunk(
    file: &File,
    chunk: &mut Vec<u8>,
    start: u64,
    max_line: usize,
) -> io::Result<Read> {
    let from = start.saturating_sub(MARKER_BYTES as u64);
    let before = usize::try_from(start - from).unwrap_or(MARKER_BYTES);
    let (usual, longest) = (before + CHUNK_BYTES, before + max_line + LOOK_AHEAD);
    if chunk.len() < usual {
        chunk.resize(MARKER_BYTES + CHUNK_BYTES, 0);
    }
    let read = |filled: usize, at_end| Read {
        before: before.min(filled),
        len: filled.saturating_sub(before),
        at_end,
    };
    let filled = read_full(file, &mut chunk[..usual], from)?;
    if filled < usual {
        return Ok(read(filled, true));
    }
    if longest <= usual || memchr::memchr(b'\n', &chunk[before..filled]).is_some() {
        return Ok(read(filled, false));
    }
    if chunk.len() < longest {
        chunk.resize(MARKER_BYTES + max_line + LOOK_AHEAD, 0);
    }
    let more = read_full(file, &mut chunk[filled..longest], from + filled as u64)?;
    Ok(read(filled + more, filled + more < longest))
}

/// What lies right before `offset`: [`MARKER_BYTES`], or fewer where the file does not hold them.
pub(super) fn read_before(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    let from = offset.saturating_sub(MARKER_BYTES as u64);
    let mut before = vec![0; usize::try_from(offset - from).unwrap_or(MARKER_BYTES)];
    let len = read_full(file, &mut before, from)?;
    before.truncate(len);
    Ok(before)
}

/// Fills `buffer` from `offset` on, or as far as the file goes.
pub(super) fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
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
