//! SQLite's file format, as far as it takes to find rows in a database that SQLite itself refuses.
//! Pure: a page in, its rows out.
//!
//! Every leaf of every table is a page that says so in its first byte, so rows are found without
//! the tree above them: a zeroed root or a missing schema costs nothing but what stood on those
//! pages. What is found may be stale (a page that was freed keeps its content) or damaged; whoever
//! uses it checks. Everything read is hostile: offsets and lengths are checked before they are
//! believed, and a chain of overflow pages ends with the bytes that it was said to hold.
//!
//! Source: "Database File Format", <https://www.sqlite.org/fileformat2.html>, sections 1.3 to 2.1.

/// A leaf page of a table's b-tree.
const TABLE_LEAF: u8 = 0x0d;
/// Of page 1; its own b-tree header stands behind.
pub(super) const FILE_HEADER: usize = 100;
const LEAF_HEADER: usize = 8;
/// Largest row that is put together, bytes: the largest blob, and what stands beside it.
const PAYLOAD_MAX: u64 = super::batch::UNPACKED_BYTES_MAX + 64 * 1024;
/// Most columns that are looked at; no table of ours has more.
const COLUMNS_MAX: usize = 32;

/// Pages by number, the first being 1.
pub(super) trait Image {
    /// Bytes of a page.
    fn page_size(&self) -> usize;
    /// Bytes at the end of each page that SQLite leaves alone.
    fn reserved(&self) -> usize;
    /// Reads a page of [`Image::page_size`] bytes; false where it is not there or cannot be read.
    fn read(&mut self, number: u32, into: &mut [u8]) -> bool;
}

/// One value of a row. Text and blobs are bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Integer(i64),
    /// Our tables have none; it is passed over.
    Float,
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(super) fn integer(self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(number),
            _ => None,
        }
    }

    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A column that may be NULL.
    pub(super) fn maybe_integer(self) -> Option<Option<i64>> {
        match self {
            Self::Null => Some(None),
            value => value.integer().map(Some),
        }
    }
}

/// Gives every row of the leaf page `number` to `found`: its id, and its values, of which the first
/// is NULL where the table's key is an alias of the id. Nothing where it is no such page.
pub(super) fn rows_of_page(
    image: &mut impl Image,
    number: u32,
    found: &mut impl FnMut(i64, &[Value<'_>]),
) {
    let mut page = vec![0; image.page_size()];
    if !image.read(number, &mut page) {
        return;
    }
    let header = if number == 1 { FILE_HEADER } else { 0 };
    if page.get(header) != Some(&TABLE_LEAF) {
        return;
    }
    let Some(count) = be16(&page, header + 3) else {
        return;
    };
    let usable = page.len().saturating_sub(image.reserved());
    for cell in 0..count {
        let Some(at) = be16(&page, header + LEAF_HEADER + 2 * cell) else {
            return;
        };
        if let Some((id, payload)) = payload_at(image, &page, at, usable)
            && let Some(values) = values_of(&payload)
        {
            found(id, &values);
        }
    }
}

/// The id and the payload of the cell at `at`, put together from its overflow pages.
fn payload_at(
    image: &mut impl Image,
    page: &[u8],
    at: usize,
    usable: usize,
) -> Option<(i64, Vec<u8>)> {
    let mut rest = page.get(at..usable)?;
    let length = take_varint(&mut rest)?;
    let id = take_varint(&mut rest)?.cast_signed();
    if length > PAYLOAD_MAX {
        return None;
    }
    let length = usize::try_from(length).ok()?;
    let local = local_bytes(length, usable)?;
    let mut payload = rest.get(..local)?.to_vec();
    if local < length {
        let mut next = be32(rest, local)?;
        let mut overflow = vec![0; page.len()];
        while payload.len() < length {
            if next == 0 || !image.read(next, &mut overflow) {
                return None;
            }
            next = be32(&overflow, 0)?;
            let take = (length - payload.len()).min(usable.checked_sub(4)?);
            payload.extend_from_slice(overflow.get(4..4 + take)?);
        }
    }
    Some((id, payload))
}

/// How much of a payload of `length` stands in the leaf itself.
fn local_bytes(length: usize, usable: usize) -> Option<usize> {
    let most = usable.checked_sub(35)?;
    if length <= most {
        return Some(length);
    }
    let least = (usable.checked_sub(12)? * 32 / 255).checked_sub(23)?;
    let wanted = least + (length - least) % usable.checked_sub(4)?;
    Some(if wanted <= most { wanted } else { least })
}

/// The values of a record; nothing where its header does not add up.
fn values_of(payload: &[u8]) -> Option<Vec<Value<'_>>> {
    let mut header = payload;
    let header_bytes = usize::try_from(take_varint(&mut header)?).ok()?;
    let consumed = payload.len() - header.len();
    let mut types = header.get(..header_bytes.checked_sub(consumed)?)?;
    let mut body = payload.get(header_bytes..)?;
    let mut values = Vec::new();
    while !types.is_empty() {
        if values.len() == COLUMNS_MAX {
            return None;
        }
        values.push(take_value(take_varint(&mut types)?, &mut body)?);
    }
    body.is_empty().then_some(values)
}

fn take_value<'a>(serial_type: u64, body: &mut &'a [u8]) -> Option<Value<'a>> {
    let bytes = match serial_type {
        0 => return Some(Value::Null),
        8 => return Some(Value::Integer(0)),
        9 => return Some(Value::Integer(1)),
        1..=4 => usize::try_from(serial_type).ok()?,
        5 => 6,
        6 | 7 => 8,
        10 | 11 => return None,
        longer => usize::try_from((longer - 12) / 2).ok()?,
    };
    let (value, behind) = body.split_at_checked(bytes)?;
    *body = behind;
    Some(match serial_type {
        7 => Value::Float,
        1..=6 => {
            let negative = value.first().is_some_and(|first| first & 0x80 != 0);
            let start = if negative { -1_i64 } else { 0 };
            Value::Integer(
                value
                    .iter()
                    .fold(start, |number, byte| number << 8 | i64::from(*byte)),
            )
        }
        _ => Value::Bytes(value),
    })
}

/// SQLite's varint: seven bits a byte, the highest first; a ninth byte brings eight.
fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for nth in 1..=9 {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        if nth == 9 {
            return Some(number << 8 | u64::from(byte));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn be16(bytes: &[u8], at: usize) -> Option<usize> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(usize::from(two[0]) << 8 | usize::from(two[1]))
}

pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let four: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(u32::from_be_bytes(four))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rusqlite::{Connection, params};

    /// A whole database in memory.
    struct Bytes(Vec<u8>, usize);

    impl Image for Bytes {
        fn page_size(&self) -> usize {
            self.1
        }
        fn reserved(&self) -> usize {
            0
        }
        fn read(&mut self, number: u32, into: &mut [u8]) -> bool {
            let from = (number as usize).wrapping_sub(1).saturating_mul(self.1);
            match self.0.get(from..from.saturating_add(self.1)) {
                Some(page) => {
                    into.copy_from_slice(page);
                    true
                }
                None => false,
            }
        }
    }

    fn all(image: &mut Bytes) -> Vec<(i64, Vec<u8>)> {
        let mut rows = Vec::new();
        let pages = (image.0.len() / image.1) as u32;
        for number in 1..=pages {
            rows_of_page(image, number, &mut |id, values| {
                if let [Value::Null, Value::Bytes(text), Value::Integer(n), blob] = values {
                    let mut line = text.to_vec();
                    line.extend_from_slice(&n.to_le_bytes());
                    line.extend_from_slice(blob.bytes().unwrap_or(b"null"));
                    rows.push((id, line));
                }
            });
        }
        rows.sort();
        rows
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// SQLite writes, and it is read the same: any page size, any length of row.
        #[test]
        fn what_sqlite_wrote_is_found(
            page_size in prop::sample::select(vec![512_usize, 1024, 4096, 65536]),
            rows in prop::collection::vec((any::<i64>(), ".{0,40}", any::<i64>(), prop::option::of(0_usize..20_000)), 0..30),
            damage in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("db");
            let database = Connection::open(&path).unwrap();
            database.execute_batch(&format!(
                "PRAGMA page_size={page_size}; CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c BLOB)"
            )).unwrap();
            let mut expected = std::collections::BTreeMap::new();
            for (id, text, number, blob) in &rows {
                let blob = blob.map(|length| vec![length as u8; length]);
                database.execute("INSERT OR REPLACE INTO t VALUES (?1, ?2, ?3, ?4)", params![id, text, number, blob]).unwrap();
                let mut line = text.clone().into_bytes();
                line.extend_from_slice(&number.to_le_bytes());
                line.extend_from_slice(blob.as_deref().unwrap_or(b"null"));
                expected.insert(*id, line);
            }
            drop(database);
            let mut image = Bytes(std::fs::read(&path).unwrap(), page_size);
            let expected: Vec<_> = expected.into_iter().collect();
            prop_assert_eq!(&all(&mut image), &expected);
            // Without its first page, too; and any flipped byte gives other rows, or none, and no panic.
            if image.0.len() > page_size {
                image.0[..page_size].fill(0);
                prop_assert_eq!(&all(&mut image), &expected);
            }
            for at in damage {
                let at = at.index(image.0.len());
                image.0[at] ^= 0xff;
            }
            let _any = all(&mut image);
        }

        #[test]
        fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 512 * 3)) {
            let mut image = Bytes(bytes, 512);
            for at in [0, 512, 1024] {
                image.0[at] = TABLE_LEAF;
                image.0[at + 3] = 0;
            }
            image.0[FILE_HEADER] = TABLE_LEAF;
            let _any = all(&mut image);
        }
    }
}
