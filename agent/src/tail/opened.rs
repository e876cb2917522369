//! A regular file as it is opened, and the reads that tailing is made of.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::checkpoint::FileIdentity;
use crate::discover::identity::{self, FINGERPRINT_BYTES, Head, Match, match_identity};
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
            file,
            head,
        })
    }

    /// Whether it is the file that `known` describes.
    pub fn is(&self, known: &FileIdentity) -> bool {
        let head = Head {
            device: self.device,
            inode: self.inode,
            bytes: &self.head,
        };
        match_identity(known, &head) != Match::Different
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
        }
    }
}

/// Reads into `chunk` from offset `start` on: a chunk, or more where it holds no line end and a
/// line may be longer. Returns how many bytes, and whether the file ended there.
pub(super) fn read_chunk(
    file: &File,
    chunk: &mut Vec<u8>,
    start: u64,
    max_line: usize,
) -> io::Result<(usize, bool)> {
    let longest = max_line + LOOK_AHEAD;
    if chunk.len() < CHUNK_BYTES {
        chunk.resize(CHUNK_BYTES, 0);
    }
    let len = read_full(file, &mut chunk[..CHUNK_BYTES], start)?;
    if len < CHUNK_BYTES {
        return Ok((len, true));
    }
    if longest <= len || memchr::memchr(b'\n', &chunk[..len]).is_some() {
        return Ok((len, false));
    }
    if chunk.len() < longest {
        chunk.resize(longest, 0);
    }
    let more = read_full(file, &mut chunk[len..longest], start + len as u64)?;
    Ok((len + more, len + more < longest))
}

/// Whether `offset` lies inside a line: the byte before it is there, and is not LF.
pub(super) fn is_inside(file: &File, offset: u64) -> io::Result<bool> {
    let Some(before) = offset.checked_sub(1) else {
        return Ok(false);
    };
    let mut byte = [0];
    let len = read_full(file, &mut byte, before)?;
    Ok(len == 1 && byte != [b'\n'])
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
