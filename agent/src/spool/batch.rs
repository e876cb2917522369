//! A batch into the blob of a row, and back. Pure.
//!
//! ```text
//! blob = zstd( varint records
//!              records × ( varint span length, varint value length × 4 + kind )
//!              values, one behind the other )
//! ```
//!
//! Where there is a key, the blob is sealed with it ([`super::sealing`]).
//!
//! Kinds: 0 data, 1 loss, 2 close, 3 filtered. Whether the values of data are lines' own bytes stands among
//! the row's kinds: nothing is made of such a value on its way. Id, stream, generation and start stand in columns beside it, and
//! one CRC-32C covers them and the blob: a row is right as a whole or not at all. What is read is
//! hostile: lengths are checked before they are believed, and memory grows with what the blob
//! really holds, never with what it claims.

use std::borrow::Cow;
use std::io::Read;
use std::sync::Arc;

use headwater_record::{Generation, Kind, StreamId};
use thiserror::Error;

use super::BatchId;
use super::sealing::{KeyId, Keys, Sealed};
use crate::batch::{Batch, Entry};

/// zstd's own default: 5 to 1 on logs, at a speed that a small ARM core shrugs off.
const LEVEL: i32 = 3;

/// Largest batch, unpacked, in bytes. A batch fits the RAM window, and that is far below.
pub const UNPACKED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Largest window, as a power of two, that a blob may ask memory for: 8 MiB. [`LEVEL`] writes 2 MiB
/// at most.
const WINDOW_LOG_MAX: u32 = 23;

/// The shortest an entry can be written.
const ENTRY_BYTES_MIN: usize = 2;

/// Why a row is no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unreadable {
    /// The bytes are not those that were written.
    #[error("its checksum does not match")]
    Checksum,
    /// Not zstd, or longer than any batch.
    #[error("it cannot be unpacked")]
    Packing,
    /// Unpacked, but not of the form above.
    #[error("it has another form than a batch")]
    Form,
    /// It was sealed with this key, which is not here: nothing is wrong with it.
    #[error("it is sealed with the key {0}, which is neither spool.key nor one of spool.old_keys")]
    Key(KeyId),
    /// Its key is here, and it is not what was sealed with it.
    #[error("it is not what was sealed")]
    Seal,
}

/// What a batch holds, as bits: so that a row says it without being unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds(pub u8);

impl Kinds {
    /// Data records.
    pub const DATA: Self = Self(1);
    /// Loss notices.
    pub const LOSS: Self = Self(2);
    /// A close, as its last record.
    pub const CLOSE: Self = Self(4);
    /// Notices of ranges that configuration dropped.
    pub const FILTERED: Self = Self(8);
    /// The data are lines' own bytes.
    pub const RAW: Self = Self(16);

    /// Of a batch.
    pub fn of(batch: &Batch) -> Self {
        let bit = |entry: &Entry| match entry.kind {
            Kind::Data => Self::DATA.0,
            Kind::Loss => Self::LOSS.0,
            Kind::Close => Self::CLOSE.0,
            Kind::Filtered => Self::FILTERED.0,
        };
        let form = if batch.raw { Self::RAW.0 } else { 0 };
        Self(
            batch
                .entries
                .iter()
                .fold(form, |bits, entry| bits | bit(entry)),
        )
    }

    /// Whether it holds data, and nothing else.
    pub fn is_data_alone(self) -> bool {
        self.0 & !Self::RAW.0 == Self::DATA.0
    }

    /// Whether all of `other` is among them.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a row holds: its columns, and the blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place in the order.
    pub id: BatchId,
    /// Whose.
    pub stream: String,
    /// Which file, or which start.
    pub generation: Generation,
    /// Offset at which the batch starts.
    pub start: u64,
    /// Offset behind it.
    pub end: u64,
    /// What its records are.
    pub kinds: Kinds,
    /// How many records.
    pub records: u32,
    /// Whether the blob is sealed.
    pub sealed: bool,
    /// Its entries and values, packed.
    pub blob: Vec<u8>,
    /// CRC-32C over all of the above.
    pub checksum: u32,
}

/// Packs batches. Holds the compressor's memory (about 1 MiB), so that each batch does not ask for
/// it anew.
pub struct Packer {
    compressor: zstd::bulk::Compressor<'static>,
    plain: Vec<u8>,
    packed: Vec<u8>,
    keys: Arc<Keys>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

impl Packer {
    /// A packer, which seals where there is a key for it.
    ///
    /// # Errors
    /// No memory for the compressor.
    pub fn new(keys: Arc<Keys>) -> std::io::Result<Self> {
        Ok(Self {
            compressor: zstd::bulk::Compressor::new(LEVEL)?,
            plain: Vec::new(),
            packed: Vec::new(),
            keys,
        })
    }

    /// What it seals with.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The batch as a row.
    ///
    /// # Errors
    /// The compressor's: no memory. Or the system gives no random numbers.
    pub fn pack(&mut self, id: BatchId, batch: &Batch) -> std::io::Result<Row> {
        self.plain.clear();
        put_varint(&mut self.plain, batch.entries.len() as u64);
        let (mut start, mut from) = (batch.start, 0);
        for entry in &batch.entries {
            put_varint(&mut self.plain, entry.end - start);
            put_varint(
                &mut self.plain,
                u64::from(entry.value_end - from) << 2 | kind_code(entry.kind),
            );
            (start, from) = (entry.end, entry.value_end);
        }
        self.plain.extend_from_slice(&batch.values);
        // The compressor wants room for bytes that do not compress; the row keeps what it takes.
        self.packed.clear();
        let most = zstd::zstd_safe::compress_bound(self.plain.len());
        self.packed.reserve(most);
        self.compressor
            .compress_to_buffer(&self.plain, &mut self.packed)?;
        let blob = self.packed.as_slice().to_vec();
        self.plain.shrink_to(1024 * 1024);
        self.packed.shrink_to(1024 * 1024);
        let mut row = Row {
            id,
            stream: batch.stream.as_str().to_owned(),
            generation: batch.generation,
            start: batch.start,
            end: batch.end(),
            kinds: Kinds::of(batch),
            records: u32::try_from(batch.entries.len()).unwrap_or(u32::MAX),
            sealed: false,
            blob,
            checksum: 0,
        };
        if let Some(sealed) = self.keys.seal(&row.columns(), &row.blob)? {
            (row.sealed, row.blob) = (true, sealed);
        }
        row.checksum = row.checksum_now();
        Ok(row)
    }
}

impl Row {
    fn numbers(&self) -> [u64; 6] {
        [
            self.id.0,
            self.generation.0,
            self.start,
            self.end,
            u64::from(self.kinds.0),
            u64::from(self.records),
        ]
    }

    /// What stands beside the blob, as it is sealed with it.
    fn columns(&self) -> Vec<u8> {
        let mut columns = self.stream.as_bytes().to_vec();
        for number in self.numbers() {
            columns.extend_from_slice(&number.to_le_bytes());
        }
        columns
    }

    fn checksum_now(&self) -> u32 {
        let mut sum = crc32c::crc32c(self.stream.as_bytes());
        for number in self.numbers() {
            sum = crc32c::crc32c_append(sum, &number.to_le_bytes());
        }
        if self.sealed {
            sum = crc32c::crc32c_append(sum, &[1]);
        }
        crc32c::crc32c_append(sum, &self.blob)
    }

    /// The same with the checksum that belongs to it.
    #[must_use]
    pub fn with_checksum(mut self) -> Self {
        self.checksum = self.checksum_now();
        self
    }

    /// Whether it is as it was written.
    pub fn is_whole(&self) -> bool {
        self.checksum == self.checksum_now()
    }

    /// The batch that was packed.
    ///
    /// # Errors
    /// See [`Unreadable`].
    pub fn unpack(&self, keys: &Keys) -> Result<Batch, Unreadable> {
        if !self.is_whole() {
            return Err(Unreadable::Checksum);
        }
        let stream = StreamId::parse(&self.stream).map_err(|_| Unreadable::Form)?;
        let blob = if self.sealed {
            let opened = keys.open(&self.columns(), &self.blob);
            Cow::Owned(opened.map_err(|sealed| match sealed {
                Sealed::OtherKey(id) => Unreadable::Key(id),
                Sealed::Broken => Unreadable::Seal,
            })?)
        } else {
            Cow::Borrowed(&self.blob)
        };
        let mut plain = Vec::new();
        let unpacked = zstd::Decoder::with_buffer(blob.as_slice()).and_then(|mut packed| {
            packed.window_log_max(WINDOW_LOG_MAX)?;
            packed.take(UNPACKED_BYTES_MAX + 1).read_to_end(&mut plain)
        });
        if unpacked.is_err() || plain.len() as u64 > UNPACKED_BYTES_MAX {
            return Err(Unreadable::Packing);
        }
        let (entries, values_at) = read_entries(&plain, self.start).ok_or(Unreadable::Form)?;
        plain.drain(..values_at);
        let batch = Batch {
            stream,
            generation: self.generation,
            start: self.start,
            entries,
            values: plain,
            raw: self.kinds.has(Kinds::RAW),
            permit: None,
        };
        if batch.end() != self.end || Kinds::of(&batch) != self.kinds {
            return Err(Unreadable::Form);
        }
        Ok(batch)
    }
}

/// The entries, and where the values begin; the values' lengths make up exactly the rest.
fn read_entries(plain: &[u8], start: u64) -> Option<(Vec<Entry>, usize)> {
    let mut rest = plain;
    let count = usize::try_from(take_varint(&mut rest)?).ok()?;
    if count == 0 || count > rest.len() / ENTRY_BYTES_MIN {
        return None;
    }
    let mut entries = Vec::with_capacity(count);
    let (mut end, mut value_end) = (start, 0_u32);
    for _ in 0..count {
        end = end.checked_add(take_varint(&mut rest)?)?;
        let length_and_kind = take_varint(&mut rest)?;
        value_end = value_end.checked_add(u32::try_from(length_and_kind >> 2).ok()?)?;
        entries.push(Entry {
            end,
            value_end,
            kind: kind_of(length_and_kind & 3)?,
        });
    }
    (rest.len() == value_end as usize).then(|| (entries, plain.len() - rest.len()))
}

fn kind_code(kind: Kind) -> u64 {
    match kind {
        Kind::Data => 0,
        Kind::Loss => 1,
        Kind::Close => 2,
        Kind::Filtered => 3,
    }
}

fn kind_of(code: u64) -> Option<Kind> {
    match code {
        0 => Some(Kind::Data),
        1 => Some(Kind::Loss),
        2 => Some(Kind::Close),
        3 => Some(Kind::Filtered),
        _ => None,
    }
}

/// LEB128: seven bits a byte, the lowest first.
fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = Kind> {
        prop::sample::select(vec![Kind::Data, Kind::Loss, Kind::Close, Kind::Filtered])
    }

    fn batches() -> impl Strategy<Value = Batch> {
        let records = prop::collection::vec(
            (
                0_u64..1 << 40,
                kinds(),
                prop::collection::vec(any::<u8>(), 0..50),
            ),
            1..40,
        );
        let columns = (any::<u64>(), 0_u64..1 << 50, any::<bool>());
        (columns, records).prop_map(|((generation, start, raw), records)| {
            let mut batch = Batch {
                stream: StreamId::parse("d/s//p").unwrap(),
                generation: Generation(generation),
                start,
                entries: Vec::new(),
                values: Vec::new(),
                raw,
                permit: None,
            };
            for (length, kind, value) in records {
                batch.values.extend_from_slice(&value);
                batch.entries.push(Entry {
                    end: batch.end() + length,
                    value_end: batch.values.len() as u32,
                    kind,
                });
            }
            batch
        })
    }

    /// A row around `plain`, right in every column and in its checksum.
    fn row_of(plain: &[u8], start: u64, end: u64) -> Row {
        let mut row = Row {
            id: BatchId(1),
            stream: "d/s//p".into(),
            generation: Generation(1),
            start,
            end,
            kinds: Kinds::DATA,
            records: 1,
            sealed: false,
            blob: zstd::bulk::compress(plain, LEVEL).unwrap(),
            checksum: 0,
        };
        row.checksum = row.checksum_now();
        row
    }

    #[test]
    fn forms_that_are_refused() {
        let good = row_of(&[1, 5, 3 << 2, b'a', b'b', b'c'], 10, 15);
        assert_eq!(
            good.unpack(&Keys::default())
                .unwrap()
                .records()
                .next()
                .unwrap()
                .value,
            b"abc"
        );
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        for (plain, what) in [
            (vec![], "nothing"),
            (vec![0], "no record"),
            (most.to_vec(), "a count beyond its bytes"),
            (
                vec![1, 5, 4 << 2, b'a', b'b', b'c'],
                "a value beyond the end",
            ),
            (
                vec![1, 5, 2 << 2, b'a', b'b', b'c'],
                "bytes behind the last value",
            ),
            (
                vec![1, 5, 3 << 2 | 3, b'a', b'b', b'c'],
                "a kind that is none",
            ),
            (
                [&[1][..], &most, &[0]].concat(),
                "an end beyond every offset",
            ),
            (
                vec![1, 4, 3 << 2, b'a', b'b', b'c'],
                "an end that is not the column's",
            ),
        ] {
            assert_eq!(
                row_of(&plain, 10, 15).unpack(&Keys::default()).unwrap_err(),
                Unreadable::Form,
                "{what}"
            );
        }
        let mut stream = good.clone();
        stream.stream = "no stream".into();
        stream.checksum = stream.checksum_now();
        assert_eq!(
            stream.unpack(&Keys::default()).unwrap_err(),
            Unreadable::Form
        );
        let mut bomb = good;
        bomb.blob = zstd::bulk::compress(&vec![0; UNPACKED_BYTES_MAX as usize + 1], 1).unwrap();
        bomb.checksum = bomb.checksum_now();
        assert_eq!(
            bomb.unpack(&Keys::default()).unwrap_err(),
            Unreadable::Packing
        );
    }

    #[test]
    fn a_sealed_row_in_anothers_place_is_refused_and_a_missing_key_is_no_damage() {
        let keys = Keys::of(Some(1), &[]);
        let batch = row_of(&[1, 5, 3 << 2, b'a', b'b', b'c'], 10, 15);
        let batch = batch.unpack(&keys).unwrap();
        let mut packer = Packer::new(Arc::new(Keys::of(Some(1), &[]))).unwrap();
        let mut row = packer.pack(BatchId(7), &batch).unwrap();
        let id = keys.current().unwrap();
        let none = Keys::default();
        assert_eq!(row.unpack(&none).unwrap_err(), Unreadable::Key(id));
        row.id = BatchId(8);
        row.checksum = row.checksum_now();
        assert_eq!(row.unpack(&keys).unwrap_err(), Unreadable::Seal);
    }

    proptest! {
        #[test]
        fn rows_round_trip_and_notice_every_flipped_bit(batch in batches(), sealed: bool, at: prop::sample::Index, bit in 0_u32..8) {
            let mut row = Packer::new(Arc::new(Keys::of(sealed.then_some(7), &[]))).unwrap().pack(BatchId(7), &batch).unwrap();
            let keys = Keys::of(None, &[7]);
            prop_assert_eq!(row.sealed, sealed);
            let back = row.unpack(&keys).unwrap();
            prop_assert_eq!((&back.stream, back.generation, back.start), (&batch.stream, batch.generation, batch.start));
            prop_assert_eq!((&back.entries, &back.values, back.raw), (&batch.entries, &batch.values, batch.raw));
            let at = at.index(row.blob.len());
            row.blob[at] ^= 1_u8 << bit;
            prop_assert_eq!(row.unpack(&keys).unwrap_err(), Unreadable::Checksum);
        }

        #[test]
        fn any_bytes_unpack_or_are_refused(plain in prop::collection::vec(any::<u8>(), 0..200), start: u64, end: u64) {
            let mut row = row_of(&plain, start, end);
            if let Ok(batch) = row.unpack(&Keys::default()) {
                prop_assert_eq!(batch.end(), end);
                prop_assert_eq!(batch.records().map(|record| record.value.len()).sum::<usize>(), batch.values.len());
            }
            row.blob = plain;
            row.checksum = row.checksum_now();
            prop_assert!(row.unpack(&Keys::default()).is_err());
        }

        #[test]
        fn varints_round_trip(number: u64, junk in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            prop_assert_eq!(take_varint(&mut out.as_slice()), Some(number));
            let _any = take_varint(&mut junk.as_slice());
        }
    }
}
