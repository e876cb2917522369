//! Rows into the bytes of an object, as they come, in bounded memory.
//!
//! Lines gather in a tail; at [`frame_bytes`] the tail becomes one compressed frame (zstd) or member
//! (gzip) behind the others, and both formats read as their concatenation. So an open object holds
//! one small tail and what is already compressed, a few compression contexts serve every open object
//! of all partitions ([`contexts`]), and the bytes depend on the rows alone, not on how they arrived.
//! Parquet's packed rows gather in the same way, and become a file when the batch closes ([`parquet`]).

mod contexts;
mod making;
pub mod parquet;

pub use making::Making;

use std::io::Write;
use std::sync::Arc;

use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::contexts::Context;

/// Most uncompressed bytes that become one frame. Measured on log lines, zstd -3: frames of 256 KiB
/// are within a few per cent of one whole frame.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;
/// Fewest: below it compression loses too much.
const FRAME_BYTES_MIN: usize = 16 * 1024;
/// zstd's own default: twice the speed of the levels above, within a few per cent of their size.
const ZSTD_LEVEL: i32 = 3;
/// Memory of what is encoded is taken in multiples of this.
const PAGE: usize = 4096;
/// Uncompressed tails of one batch, all together.
const TAILS_BYTES: usize = 8 * 1024 * 1024;

/// How many uncompressed bytes become one frame, in a batch of so many objects: many open objects
/// have short tails, so that they do not fill the memory.
pub fn frame_bytes(objects: usize) -> usize {
    (TAILS_BYTES / objects.max(1)).clamp(FRAME_BYTES_MIN, FRAME_BYTES_MAX)
}

/// How an object's bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// zstd at level 3.
    #[default]
    Zstd,
    /// gzip at level 6.
    Gzip,
    /// As they are.
    None,
}

impl Compression {
    /// What it adds to a file name's extension.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
            Self::None => "",
        }
    }
}

/// What the objects of a pipeline (or its dead letters) are made as.
#[derive(Debug, Clone)]
pub struct Target {
    /// How they are compressed.
    pub compression: Compression,
    /// What stands at the head of each.
    pub header: Vec<u8>,
    /// Packed rows of this table, instead of lines.
    pub table: Option<parquet::Table>,
    /// File name extension, without its dot.
    pub extension: String,
}

impl Target {
    /// Lines.
    pub fn lines(compression: Compression, header: Vec<u8>, extension: &str) -> Self {
        Self {
            compression,
            header,
            table: None,
            extension: format!("{extension}{}", compression.suffix()),
        }
    }

    /// Parquet files.
    pub fn table(compression: Compression, table: parquet::Table) -> Self {
        Self {
            compression,
            header: Vec::new(),
            table: Some(table),
            extension: "parquet".to_owned(),
        }
    }
}

/// Compression failed. Only for want of memory; the batch is dropped and made again.
#[derive(Debug, Error)]
#[error("cannot compress: {0}")]
pub struct EncodeError(#[from] std::io::Error);

/// Compresses the frames of every open object of a partition. Holds nothing of its own: by default it makes objects
/// as no plan says, alone.
#[derive(Debug, Clone, Default)]
pub struct Compressor {
    making: Arc<Making>,
}

impl Compressor {
    /// One that makes objects together with all others that have this `making`.
    pub fn by(making: Arc<Making>) -> Self {
        Self { making }
    }

    /// Appends a frame of `tail` to what is encoded.
    fn append(
        &self,
        target: &Target,
        tail: &[u8],
        encoded: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        // Packed rows are compressed only to wait in memory; not where the file will not be, so that it takes no more
        // than they do.
        let (compression, level) = match (&target.table, target.compression) {
            (Some(_), Compression::Zstd | Compression::Gzip) => (Compression::Zstd, 1),
            (_, compression) => (compression, ZSTD_LEVEL),
        };
        if compression == Compression::None {
            append(encoded, tail);
            return Ok(());
        }
        self.making.contexts.with(|Context { zstd, frame }| {
            frame.clear();
            if compression == Compression::Zstd {
                zstd.set_compression_level(level)?;
                frame.reserve(zstd::zstd_safe::compress_bound(tail.len()));
                zstd.compress_to_buffer(tail, frame)?;
            } else {
                let level = flate2::Compression::new(6);
                let mut member = GzEncoder::new(&mut *frame, level);
                member.write_all(tail)?;
                member.finish()?;
            }
            append(encoded, frame);
            Ok(())
        })
    }
}

/// Appends a frame. Memory is taken in whole pages and an eighth ahead, not doubled: of a thousand
/// objects' memory nearly half would be empty, and their odd sizes would leave gaps that nothing fits in.
fn append(encoded: &mut Vec<u8>, frame: &[u8]) {
    if encoded.capacity() - encoded.len() < frame.len() {
        let more = frame.len().max(encoded.len() / 8);
        let whole = (encoded.len() + more).next_multiple_of(PAGE);
        encoded.reserve_exact(whole - encoded.len());
    }
    encoded.extend_from_slice(frame);
}

/// One open object.
#[derive(Debug, Clone, Default)]
pub struct Encoder {
    encoded: Vec<u8>,
    tail: Vec<u8>,
    content: Content,
    /// Bytes of each frame, compressed and before, of packed rows.
    frames: Vec<(usize, usize)>,
}

/// What an object holds, before compression: the same rows make the same content, whichever version
/// of a compressor wrote them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Content {
    /// Lines.
    pub rows: u64,
    /// Uncompressed bytes.
    pub bytes: u64,
    /// CRC-32C of the uncompressed bytes.
    pub crc: u32,
}

impl std::fmt::Display for Content {
    /// As it stands in an object's metadata: `<rows>-<bytes>-<crc, hex>`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{:08x}", self.rows, self.bytes, self.crc)
    }
}

impl Encoder {
    /// Appends one row; a line holds no newline. `frame_bytes`: see the function of that name.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn push(
        &mut self,
        line: &[u8],
        target: &Target,
        frame_bytes: usize,
        compressor: &Compressor,
    ) -> Result<(), EncodeError> {
        if self.content.rows == 0 {
            self.tail.extend_from_slice(&target.header);
        }
        self.tail.extend_from_slice(line);
        if target.table.is_none() {
            self.tail.push(b'\n');
        }
        self.content.rows += 1;
        if self.tail.len() >= frame_bytes {
            self.close_frame(target, compressor)?;
            // Many objects are open, or one line was huge: none keeps memory that it does not need now.
            if frame_bytes < FRAME_BYTES_MAX || self.tail.capacity() > 2 * FRAME_BYTES_MAX {
                self.tail = Vec::new();
            }
        }
        Ok(())
    }

    fn close_frame(&mut self, target: &Target, compressor: &Compressor) -> Result<(), EncodeError> {
        let before = self.encoded.len();
        compressor.append(target, &self.tail, &mut self.encoded)?;
        if target.table.is_some() {
            self.frames
                .push((self.encoded.len() - before, self.tail.len()));
        }
        self.content.bytes += self.tail.len() as u64;
        self.content.crc = crc32c::crc32c_append(self.content.crc, &self.tail);
        self.tail.clear();
        Ok(())
    }

    /// Bytes of memory that it holds, about.
    pub fn held(&self) -> usize {
        self.encoded.capacity() + self.tail.capacity()
    }

    /// The object's bytes, and what they hold.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn finish(
        mut self,
        target: &Target,
        compressor: &Compressor,
    ) -> Result<(Vec<u8>, Content), EncodeError> {
        if !self.tail.is_empty() {
            self.close_frame(target, compressor)?;
        }
        let Some(table) = &target.table else {
            // From here on only its length counts.
            self.encoded.shrink_to_fit();
            return Ok((self.encoded, self.content));
        };
        let mut decompressor = zstd::bulk::Decompressor::new()?;
        let mut rest = self.encoded.as_slice();
        let pieces = self.frames.iter().map(|(compressed, plain)| {
            let (frame, behind) = rest.split_at(*compressed);
            rest = behind;
            match target.compression {
                Compression::None => Ok(frame.to_vec()),
                Compression::Zstd | Compression::Gzip => {
                    Ok(decompressor.decompress(frame, *plain)?)
                }
            }
        });
        Ok((table.file(&compressor.making, pieces)?, self.content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn any_compression_reads_back_by_a_plain_reader() {
        let lines: Vec<String> = (0..9000)
            .map(|i| format!("{{\"n\":{i},\"pad\":\"{:0>90}\"}}", i * i))
            .collect();
        let plain: String = lines.iter().map(|line| format!("{line}\n")).collect();
        for compression in [Compression::Zstd, Compression::Gzip, Compression::None] {
            let compressor = Compressor::default();
            let mut encoder = Encoder::default();
            let target = Target::lines(compression, Vec::new(), "ndjson");
            for line in &lines {
                encoder
                    .push(line.as_bytes(), &target, frame_bytes(1), &compressor)
                    .unwrap();
                assert!(encoder.tail.len() < FRAME_BYTES_MAX);
            }
            let (bytes, content) = encoder.finish(&target, &compressor).unwrap();
            let mut back = String::new();
            match compression {
                Compression::Zstd => {
                    zstd::Decoder::new(&*bytes)
                        .unwrap()
                        .read_to_string(&mut back)
                        .unwrap();
                }
                Compression::Gzip => {
                    flate2::read::MultiGzDecoder::new(&*bytes)
                        .read_to_string(&mut back)
                        .unwrap();
                }
                Compression::None => back = String::from_utf8(bytes).unwrap(),
            }
            assert!(back == plain, "{compression:?}");
            assert_eq!((content.rows, content.bytes), (9000, plain.len() as u64));
            assert_eq!(content.crc, crc32c::crc32c(plain.as_bytes()));
        }
    }
}
