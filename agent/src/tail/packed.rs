//! A compressed file, read by offsets of what it holds: those of the file before it was compressed.
//!
//! It is decoded forwards only, in steps; going back begins anew. What is kept in memory is what the
//! last read asked for. gzip takes 64 KiB more, zstd a window of [`WINDOW_LOG_MAX`] at most, and
//! both are let go once the end is reached. Whoever holds several sees to it that few of them have that
//! at a time ([`DECODING_MAX`]).

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};

use crate::discover::identity::MARKER_BYTES;

/// Largest zstd window that is granted, as a power of two: 8 MiB, what `zstd -19` asks for. A file
/// that asks for more (`--long`, `--ultra`) is refused, and that is said.
const WINDOW_LOG_MAX: u32 = 23;
/// As many of the followed files are decoded at a time: a folder of compressed logs would take 8 MiB for
/// each of them. One more may be, that is looked at to tell which file it is.
pub const DECODING_MAX: usize = 1;
/// What decoding one of them takes at most, bytes: a window, three blocks of 128 KiB, and what lies
/// between.
pub const DECODER_BYTES_MAX: usize = (1 << WINDOW_LOG_MAX) + 1024 * 1024;
/// Decoded at a time.
const STEP_BYTES: usize = 32 * 1024;
/// Most bytes that one read passes over on its way to its offset; it is asked again then, and other
/// files have their turn.
const SKIP_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Packing {
    /// By a file's first bytes: no text begins like that.
    pub fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, 0x08, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// By a file's first bytes: what compressed it, where that is not read. No text begins like that.
pub fn foreign(head: &[u8]) -> Option<&'static str> {
    match head {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [
            b'B',
            b'Z',
            b'h',
            b'1'..=b'9',
            0x31,
            0x41,
            0x59,
            0x26,
            0x53,
            0x59,
            ..,
        ] => Some("bzip2"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4"),
        [0x1f, 0x9d, ..] => Some("compress"),
        [b'P', b'K', 0x03, 0x04, ..] => Some("zip"),
        _ => None,
    }
}

/// Where the content ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Unknown,
    /// There.
    Whole(u64),
    /// What lies behind cannot be decoded, as long as the file is of this length.
    Torn {
        at: u64,
        packed_len: u64,
    },
}

/// A compressed file that is open.
pub struct Packed {
    file: File,
    packing: Packing,
    decoder: Option<Box<dyn Read + Send>>,
    kept: Vec<u8>,
    /// Offset of the first byte of `kept`.
    kept_from: u64,
    end: End,
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed")
            .field("packing", &self.packing)
            .field("kept_from", &self.kept_from)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Packed {
    /// Nothing is read yet.
    pub fn new(file: File, packing: Packing) -> Self {
        Self {
            file,
            packing,
            decoder: None,
            kept: Vec::new(),
            kept_from: 0,
            end: End::Unknown,
        }
    }

    /// The file as it lies on the disk.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Length of the content, as far as it is known: `u64::MAX` before its end was seen.
    /// `packed_len`: of the file now; where it grew, a torn end may not be one any more.
    pub fn size(&mut self, packed_len: u64) -> u64 {
        match self.end {
            End::Torn {
                packed_len: seen, ..
            } if seen != packed_len => {
                self.end = End::Unknown;
                u64::MAX
            }
            End::Whole(at) | End::Torn { at, .. } => at,
            End::Unknown => u64::MAX,
        }
    }

    /// Whether its end cannot be decoded: it is still being written, or it is damaged.
    pub fn is_torn(&self) -> bool {
        matches!(self.end, End::Torn { .. })
    }

    /// Fills `buffer` from `offset` on, or as far as the content goes.
    ///
    /// # Errors
    /// The system's; `WouldBlock` where the way there is long: ask again.
    pub fn read(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset < self.kept_from {
            self.decoder = None;
            self.kept.clear();
            self.kept_from = 0;
        }
        let until = offset.saturating_add(buffer.len() as u64);
        let mut passed = 0;
        while self.kept_until() < until && !self.is_at_end() {
            if passed > SKIP_BYTES_MAX {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.drop_before(offset.saturating_sub(MARKER_BYTES as u64));
            passed += self.decode()?;
        }
        let from = usize::try_from(offset - self.kept_from).unwrap_or(usize::MAX);
        let there = self.kept.get(from..).unwrap_or_default();
        let len = there.len().min(buffer.len());
        buffer[..len].copy_from_slice(&there[..len]);
        Ok(len)
    }

    fn kept_until(&self) -> u64 {
        self.kept_from + self.kept.len() as u64
    }

    fn is_at_end(&self) -> bool {
        match self.end {
            End::Unknown => false,
            End::Whole(at) | End::Torn { at, .. } => self.kept_until() >= at,
        }
    }

    /// Lets go of what lies before `offset`, in steps: moving the rest at each read would be quadratic.
    fn drop_before(&mut self, offset: u64) {
        let surplus = offset.min(self.kept_until()).saturating_sub(self.kept_from);
        if surplus >= STEP_BYTES as u64 {
            let len = usize::try_from(surplus).unwrap_or(self.kept.len());
            self.kept.drain(..len);
            self.kept_from += surplus;
        }
    }

    /// Decodes a step, and returns how many bytes it brought.
    fn decode(&mut self) -> io::Result<u64> {
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            None => {
                debug_assert!(self.kept_from == 0 && self.kept.is_empty());
                self.kept.clear();
                self.kept_from = 0;
                let fresh = begin(&self.file, self.packing)?;
                self.decoder.insert(fresh)
            }
        };
        let before = self.kept.len();
        self.kept.resize(before + STEP_BYTES, 0);
        let read = loop {
            match decoder.read(&mut self.kept[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.kept
            .truncate(before + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => self.end = End::Whole(self.kept_until()),
            Ok(len) => return Ok(len as u64),
            Err(error) => {
                tracing::debug!(%error, "a compressed file cannot be decoded to its end");
                self.end = End::Torn {
                    at: self.kept_until(),
                    packed_len: self.file.metadata()?.len(),
                };
            }
        }
        Ok(0)
    }

    /// Lets go of the memory, once everything was read.
    pub fn rest(&mut self) {
        if self.decoder.is_some() && self.is_at_end() {
            self.stop_decoding();
        }
    }

    /// Whether it has the memory that decoding takes.
    pub fn is_decoding(&self) -> bool {
        self.decoder.is_some()
    }

    /// Whether it has not that memory, and would need it to be read on.
    pub fn would_decode(&self) -> bool {
        self.decoder.is_none() && !self.is_at_end()
    }

    /// Lets go of the memory; whoever reads on begins anew.
    pub fn stop_decoding(&mut self) {
        let is_at_end = self.is_at_end();
        self.decoder = None;
        self.kept = Vec::new();
        self.kept_from = if is_at_end { u64::MAX } else { 0 };
    }
}

fn begin(file: &File, packing: Packing) -> io::Result<Box<dyn Read + Send>> {
    // The same open file: one reader at a time, and it begins at the beginning.
    let mut file = file.try_clone()?;
    file.rewind()?;
    Ok(match packing {
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(
            BufReader::with_capacity(STEP_BYTES, file),
        )),
        Packing::Zstd => {
            let mut decoder = zstd::Decoder::new(file)?;
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn packed(content: &[u8], packing: Packing, members: usize) -> Packed {
        let mut file = tempfile::tempfile().unwrap();
        for part in content.chunks(content.len().div_ceil(members).max(1)) {
            let bytes = match packing {
                Packing::Zstd => zstd::encode_all(part, 1).unwrap(),
                Packing::Gzip => {
                    let mut gzip =
                        flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                    gzip.write_all(part).unwrap();
                    gzip.finish().unwrap()
                }
            };
            file.write_all(&bytes).unwrap();
        }
        Packed::new(file, packing)
    }

    fn read(packed: &mut Packed, offset: u64, len: usize) -> Vec<u8> {
        let mut buffer = vec![0; len];
        loop {
            match packed.read(&mut buffer, offset) {
                Ok(read) => {
                    buffer.truncate(read);
                    return buffer;
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    #[test]
    fn a_long_way_is_gone_in_steps_and_in_bounded_memory() {
        let content: Vec<u8> = (0..4_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut packed = packed(&content, Packing::Gzip, 1);
        let mut buffer = [0; 4];
        let far = packed.read(&mut buffer, 12_000_000);
        assert_eq!(far.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(
            read(&mut packed, 12_000_000, 4),
            3_000_000_u32.to_le_bytes()
        );
        assert!(
            packed.kept.capacity() < 8 * STEP_BYTES,
            "{}",
            packed.kept.capacity()
        );
        assert_eq!(packed.size(0), u64::MAX);
        assert_eq!(read(&mut packed, content.len() as u64 - 1, 9).len(), 1);
        assert_eq!(packed.size(0), content.len() as u64);
        packed.rest();
        assert!(packed.decoder.is_none());
        assert_eq!(read(&mut packed, 4, 4), 1_u32.to_le_bytes());
    }

    #[test]
    fn a_torn_end_is_tried_again_when_the_file_grew() {
        let content = b"a line that is written\n".repeat(9000);
        let whole = {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
            gzip.write_all(&content).unwrap();
            gzip.finish().unwrap()
        };
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&whole[..100_000]).unwrap();
        let mut packed = Packed::new(file.try_clone().unwrap(), Packing::Gzip);
        let first = read(&mut packed, 0, content.len());
        assert!(!first.is_empty() && content.starts_with(&first));
        assert!(packed.is_torn());
        assert_eq!(packed.size(100_000), first.len() as u64);
        Seek::seek(&mut file, io::SeekFrom::End(0)).unwrap();
        file.write_all(&whole[100_000..]).unwrap();
        assert_eq!(packed.size(whole.len() as u64), u64::MAX);
        packed.kept_from = u64::MAX;
        assert_eq!(read(&mut packed, 0, content.len()), content);
        assert!(!packed.is_torn());
    }

    #[test]
    fn a_window_beyond_the_bound_is_refused() {
        let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&content).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&encoder.finish().unwrap()).unwrap();
        let mut packed = Packed::new(file, Packing::Zstd);
        assert_eq!(read(&mut packed, 0, 10), b"");
        assert!(packed.is_torn());
    }

    proptest! {
        #[test]
        fn any_read_gives_what_was_compressed(
            content in prop::collection::vec(any::<u8>(), 0..5000),
            gzip in any::<bool>(),
            members in 1_usize..4,
            reads in prop::collection::vec((0_u64..6000, 0_usize..3000), 1..12),
        ) {
            let packing = if gzip { Packing::Gzip } else { Packing::Zstd };
            // Nothing at all is no compressed file.
            prop_assume!(!content.is_empty());
            let mut packed = packed(&content, packing, members);
            for (offset, len) in reads {
                let from = content.len().min(offset as usize);
                let until = content.len().min(from + len);
                let expected = if offset as usize > content.len() { &[][..] } else { &content[from..until] };
                prop_assert_eq!(read(&mut packed, offset, len), expected);
            }
        }
    }
}
