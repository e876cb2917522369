//! Where what is read waits until it is printed: sorted runs, one behind the other, in memory while
//! they are small, then in one temporary file that has no name and so is gone with the process,
//! however that ends. Compressed: a folder for temporary files may be memory, too.

use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufReader, Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is held in memory, bytes; above it a file is made. An audit of ten thousands of streams needs
/// no disk.
const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Window of a run's compression, a power of two: 128 KiB, for as many runs are read at once.
const WINDOW_LOG: u32 = 17;
/// What is read of a run, or of what it inflates to, at a time, bytes.
const PIECE_BYTES: usize = 16 * 1024;

/// What can wait, in an order of its own.
pub(super) trait Sorted: Serialize + DeserializeOwned {
    /// What is printed first.
    fn order(&self, other: &Self) -> Ordering;
}

/// Sorted runs.
#[derive(Debug)]
pub(super) struct Spool {
    held: Held,
    bytes: u64,
}

#[derive(Debug)]
enum Held {
    Memory(Vec<u8>),
    File(File),
}

/// Where a run lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    at: u64,
    end: u64,
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            held: Held::Memory(Vec::new()),
            bytes: 0,
        }
    }
}

impl Spool {
    /// Begins a run behind those that are there.
    pub(super) fn begin(&mut self) -> io::Result<Writing<'_>> {
        let at = self.bytes;
        let mut zstd = zstd::Encoder::new(self, 1)?;
        zstd.window_log(WINDOW_LOG)?;
        let zstd = io::BufWriter::with_capacity(PIECE_BYTES, zstd);
        Ok(Writing { at, zstd })
    }

    /// Reads a run from its beginning on.
    pub(super) fn read<T: Sorted>(&self, run: Run) -> io::Result<Entries<'_, T>> {
        let part = BufReader::with_capacity(PIECE_BYTES, Part { spool: self, run });
        let zstd = zstd::Decoder::with_buffer(part)?;
        Ok(Entries {
            json: BufReader::with_capacity(PIECE_BYTES, zstd),
            line: Vec::new(),
            of: PhantomData,
        })
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Held::Memory(held) = &self.held
            && held.len() + bytes.len() > HELD_BYTES_MAX
        {
            let mut file = temporary()?;
            file.write_all(held)?;
            self.held = Held::File(file);
        }
        match &mut self.held {
            Held::Memory(held) => held.extend_from_slice(bytes),
            Held::File(file) => file.write_all(bytes)?,
        }
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file without a name.
fn temporary() -> io::Result<File> {
    let folder = std::env::temp_dir();
    // The standard library's own random number: the name is not one that somebody else takes.
    let number = RandomState::new().build_hasher().finish();
    let path = folder.join(format!("headwater-audit-{number:016x}"));
    let made = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|file| std::fs::remove_file(&path).map(|()| file));
    made.map_err(|error| {
        let text = format!("cannot make a file in {}: {error}", folder.display());
        io::Error::new(error.kind(), text)
    })
}

/// A run being written.
pub(super) struct Writing<'a> {
    at: u64,
    zstd: io::BufWriter<zstd::Encoder<'static, &'a mut Spool>>,
}

impl Writing<'_> {
    /// Puts an entry behind the others: it is none of those that come before them.
    pub(super) fn put<T: Sorted>(&mut self, entry: &T) -> io::Result<()> {
        serde_json::to_writer(&mut self.zstd, entry)?;
        self.zstd.write_all(b"\n")
    }

    pub(super) fn finish(self) -> io::Result<Run> {
        let zstd = self
            .zstd
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        let spool = zstd.finish()?;
        Ok(Run {
            at: self.at,
            end: spool.bytes,
        })
    }
}

/// The bytes of a run.
struct Part<'a> {
    spool: &'a Spool,
    run: Run,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.run.end - self.run.at).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let n = match &self.spool.held {
            Held::Memory(held) => {
                let at = usize::try_from(self.run.at).unwrap_or(usize::MAX);
                let mut rest = held.get(at..at + wanted).unwrap_or_default();
                rest.read(buffer)?
            }
            Held::File(file) => file.read_at(&mut buffer[..wanted], self.run.at)?,
        };
        self.run.at += n as u64;
        Ok(n)
    }
}

/// A run's entries, one after the other.
pub(super) struct Entries<'a, T> {
    json: BufReader<zstd::Decoder<'static, BufReader<Part<'a>>>>,
    line: Vec<u8>,
    of: PhantomData<T>,
}

impl<T: Sorted> Iterator for Entries<'_, T> {
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<io::Result<T>> {
        use std::io::BufRead;
        self.line.clear();
        match self.json.read_until(b'\n', &mut self.line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_slice(&self.line).map_err(io::Error::from)),
            Err(error) => Some(Err(error)),
        }
    }
}
