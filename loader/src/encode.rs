//! Rows into the bytes of an object, as they come, in bounded memory.
//!
//! Lines gather in a tail; at [`FRAME_BYTES`] the tail becomes one compressed frame (zstd) or member
//! (gzip) behind the others, and both formats read as their concatenation. So an open object holds
//! one small tail and what is already compressed, one compression context serves every open object
//! of a partition, and the bytes depend on the rows alone, not on how they arrived.

use std::io::Write;

use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Uncompressed bytes that become one frame. Measured on log lines, zstd -3: frames of 256 KiB are
/// within a few per cent of one whole frame.
pub const FRAME_BYTES: usize = 256 * 1024;

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

/// Compression failed. Only for want of memory; the batch is dropped and made again.
#[derive(Debug, Error)]
#[error("cannot compress: {0}")]
pub struct EncodeError(#[from] std::io::Error);

/// Compresses the frames of every open object of a partition.
pub struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    /// A compressor with its context, about 1 MiB.
    ///
    /// # Errors
    /// No memory for it.
    pub fn new() -> Result<Self, EncodeError> {
        let mut zstd = zstd::bulk::Compressor::new(3)?;
        zstd.include_checksum(true)?;
        Ok(Self { zstd })
    }

    fn frame(
        &mut self,
        compression: Compression,
        tail: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match compression {
            Compression::Zstd => out.extend_from_slice(&self.zstd.compress(tail)?),
            Compression::Gzip => {
                let mut member = GzEncoder::new(out, flate2::Compression::new(6));
                member.write_all(tail)?;
                member.finish()?;
            }
            Compression::None => out.extend_from_slice(tail),
        }
        Ok(())
    }
}

/// One open object.
#[derive(Debug, Clone, Default)]
pub struct Encoder {
    encoded: Vec<u8>,
    tail: Vec<u8>,
    content: Content,
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
    /// Appends one row; `line` holds no newline.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn push(
        &mut self,
        line: &[u8],
        compression: Compression,
        compressor: &mut Compressor,
    ) -> Result<(), EncodeError> {
        self.tail.extend_from_slice(line);
        self.tail.push(b'\n');
        self.content.rows += 1;
        if self.tail.len() >= FRAME_BYTES {
            self.close_frame(compression, compressor)?;
        }
        Ok(())
    }

    fn close_frame(
        &mut self,
        compression: Compression,
        compressor: &mut Compressor,
    ) -> Result<(), EncodeError> {
        compressor.frame(compression, &self.tail, &mut self.encoded)?;
        self.content.bytes += self.tail.len() as u64;
        self.content.crc = crc32c::crc32c_append(self.content.crc, &self.tail);
        self.tail.clear();
        Ok(())
    }

    /// Bytes of memory that it holds, about.
    pub fn held(&self) -> usize {
        self.encoded.len() + self.tail.len()
    }

    /// The object's bytes, and what they hold.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn finish(
        mut self,
        compression: Compression,
        compressor: &mut Compressor,
    ) -> Result<(Vec<u8>, Content), EncodeError> {
        if !self.tail.is_empty() {
            self.close_frame(compression, compressor)?;
        }
        Ok((self.encoded, self.content))
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
            let mut compressor = Compressor::new().unwrap();
            let mut encoder = Encoder::default();
            for line in &lines {
                encoder
                    .push(line.as_bytes(), compression, &mut compressor)
                    .unwrap();
                assert!(encoder.tail.len() <= FRAME_BYTES + line.len());
            }
            let (bytes, content) = encoder.finish(compression, &mut compressor).unwrap();
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
