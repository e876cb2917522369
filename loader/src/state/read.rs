//! Snapshots read as they come from the store: neither their compressed bytes nor their JSON is ever
//! held whole. What is held is the state itself, or with [`scan`] one generation of one stream.
//!
//! `v` is written first. A version that is not known ends the reading there, before anything of it can
//! be misread; it is looked at wherever it stands.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

use headwater_record::ledger::scan::{Part, Scan};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::{Named, Snapshot, SnapshotError, VERSION, WITH_BOOKS, WITH_WINDOWS};

/// Largest snapshot that is read, in bytes before compression.
pub const SNAPSHOT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Largest generation of a stream that [`scan`] reads, with its name, in bytes of JSON: 1024 gaps and a
/// name of the longest path take a twentieth of it.
const PART_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Largest window of the compression, a power of two: what RFC 8878 asks of every reader, 8 MiB. The
/// loader writes with a quarter of it.
const WINDOW_LOG_MAX: u32 = 23;
/// What is said of one that contradicts itself there.
pub(super) const NOT_NAMED: &str = "its names end before they begin, or behind it";
/// A piece that is decompressed at a time, bytes.
const PIECE_BYTES: usize = 64 * 1024;

impl Snapshot {
    /// Reads a snapshot. What is held is what it holds.
    ///
    /// # Errors
    /// See [`SnapshotError`]. A failure of `reader` itself is one, too.
    pub fn read(reader: impl Read) -> Result<Self, SnapshotError> {
        let mut parts = Parts::default();
        read_fields(reader, &Room::default(), &mut parts)?;
        let missing = |field| SnapshotError::Damaged(format!("missing field `{field}`"));
        let snapshot = Self {
            topic: parts.topic.ok_or_else(|| missing("topic"))?,
            partition: parts.partition.ok_or_else(|| missing("partition"))?,
            end: parts.end.ok_or_else(|| missing("end"))?,
            clock_ms: parts.clock_ms.ok_or_else(|| missing("clock_ms"))?,
            rows_ms: parts.rows_ms.or(parts.clock_ms).unwrap_or_default(),
            named: parts.named,
            ledger: parts.ledger.ok_or_else(|| missing("ledger"))?,
            windows: parts.windows.unwrap_or_default(),
            books: parts.books.unwrap_or_default(),
        };
        if !are_named(snapshot.named, snapshot.end) {
            return Err(SnapshotError::Damaged(NOT_NAMED.into()));
        }
        if !snapshot.windows.are_sound() {
            return Err(SnapshotError::Damaged("its windows are of no step".into()));
        }
        if !snapshot.books.are_sound() {
            return Err(SnapshotError::Damaged("its accounts lie elsewhere".into()));
        }
        Ok(snapshot)
    }

    /// Reads a snapshot from its bytes.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        Self::read(bytes)
    }
}

/// Hands over what a snapshot's ledger says, a generation at a time; the rest of the state is passed
/// over. An error of `each` ends it.
///
/// # Errors
/// See [`SnapshotError`]. A failure of `reader` itself is one, too.
pub fn scan(
    reader: impl Read,
    each: impl FnMut(Part<'_>) -> Result<(), String>,
) -> Result<(), SnapshotError> {
    let room = Room::default();
    let mut ledger = LedgerAlone {
        room: room.clone(),
        each,
        seen: false,
    };
    read_fields(reader, &room, &mut ledger)?;
    match ledger.seen {
        true => Ok(()),
        false => Err(SnapshotError::Damaged("missing field `ledger`".into())),
    }
}

/// Takes the fields of a snapshot as they come, but for its version.
pub(super) trait Fields {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;

    /// Whether nothing more of it is wanted: what follows is not read, then.
    fn is_enough(&self) -> bool {
        false
    }
}

/// The fields of a whole snapshot.
#[derive(Default)]
struct Parts {
    topic: Option<String>,
    partition: Option<i32>,
    end: Option<u64>,
    clock_ms: Option<u64>,
    rows_ms: Option<u64>,
    named: Option<Named>,
    ledger: Option<headwater_record::Ledger>,
    windows: Option<crate::aggregate::Windows>,
    books: Option<crate::books::Books>,
}

impl Fields for Parts {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "topic" => self.topic = Some(map.next_value()?),
            "partition" => self.partition = Some(map.next_value()?),
            "end" => self.end = Some(map.next_value()?),
            "clock_ms" => self.clock_ms = Some(map.next_value()?),
            "rows_ms" => self.rows_ms = Some(map.next_value()?),
            "named" => self.named = Some(map.next_value()?),
            "ledger" => self.ledger = Some(map.next_value()?),
            "windows" => self.windows = Some(map.next_value()?),
            "books" => self.books = Some(map.next_value()?),
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// The ledger, a part at a time, each no larger than [`PART_BYTES_MAX`].
struct LedgerAlone<F> {
    room: Room,
    each: F,
    seen: bool,
}

impl<F: FnMut(Part<'_>) -> Result<(), String>> Fields for LedgerAlone<F> {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        if name != "ledger" {
            return map.next_value::<IgnoredAny>().map(|_| ());
        }
        self.seen = true;
        self.room.set(PART_BYTES_MAX);
        map.next_value_seed(Scan(|part: Part<'_>| {
            self.room.set(PART_BYTES_MAX);
            (self.each)(part)
        }))?;
        // What follows is passed over without being held.
        self.room.set(u64::MAX);
        Ok(())
    }
}

/// Whether what names cover can be true of a state at `end`.
pub(super) fn are_named(named: Option<Named>, end: u64) -> bool {
    named.is_none_or(|named| named.from <= named.to && named.to <= end)
}

pub(super) fn read_fields(
    reader: impl Read,
    room: &Room,
    fields: &mut impl Fields,
) -> Result<(), SnapshotError> {
    let damaged = |error: &dyn fmt::Display| SnapshotError::Damaged(error.to_string());
    let mut json = zstd::Decoder::new(reader).map_err(|error| damaged(&error))?;
    json.window_log_max(WINDOW_LOG_MAX)
        .map_err(|error| damaged(&error))?;
    let bounded = Bounded {
        of: json,
        left: SNAPSHOT_BYTES_MAX,
        room: room.clone(),
    };
    let buffered = BufReader::with_capacity(PIECE_BYTES, bounded);
    let mut json = serde_json::Deserializer::from_reader(buffered);
    let mut version = None;
    let outer = Outer {
        version: &mut version,
        fields: &mut *fields,
    };
    let read = outer.deserialize(&mut json).and_then(|()| json.end());
    match version {
        Some(version) if !is_known(version) => Err(SnapshotError::Version(version)),
        Some(_) if fields.is_enough() => Ok(()),
        Some(_) => read.map_err(|error| damaged(&error)),
        None => Err(read
            .err()
            .map_or_else(|| damaged(&"missing field `v`"), |error| damaged(&error))),
    }
}

fn is_known(version: u32) -> bool {
    matches!(version, VERSION | WITH_WINDOWS | WITH_BOOKS)
}

/// The object itself.
struct Outer<'a, F> {
    version: &'a mut Option<u32>,
    fields: &'a mut F,
}

impl<'de, F: Fields> DeserializeSeed<'de> for Outer<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: Fields> Visitor<'de> for Outer<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a snapshot")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name == "v" {
                let version = map.next_value()?;
                *self.version = Some(version);
                if !is_known(version) {
                    return Err(A::Error::custom("another version"));
                }
            } else {
                self.fields.take(&name, &mut map)?;
            }
            if self.version.is_some() && self.fields.is_enough() {
                return Err(A::Error::custom("enough"));
            }
        }
        Ok(())
    }
}

/// How many bytes may still come until the next part is whole; any number, unless it was set.
#[derive(Clone)]
pub(super) struct Room(Rc<Cell<u64>>);

impl Default for Room {
    fn default() -> Self {
        Self(Rc::new(Cell::new(u64::MAX)))
    }
}

impl Room {
    fn set(&self, bytes: u64) {
        self.0.set(bytes);
    }
}

/// A reader that fails where more comes than may.
struct Bounded<R> {
    of: R,
    left: u64,
    room: Room,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.of.read(buffer)?;
        let (left, room) = (
            self.left.checked_sub(n as u64),
            self.room.0.get().checked_sub(n as u64),
        );
        self.left = left.ok_or_else(|| io::Error::other("it is larger than 1GiB"))?;
        let room = room
            .ok_or_else(|| io::Error::other("one generation in it is larger than 4MiB of JSON"))?;
        // Without a bound it stays without one.
        if self.room.0.get() != u64::MAX {
            self.room.set(room);
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn compressed(json: &str) -> Vec<u8> {
        zstd::bulk::compress(json.as_bytes(), 1).unwrap()
    }

    const STREAM: &str =
        r#"{"generations":{"0000000000000007":{"settled":3,"records":1,"seen_ms":1}}}"#;

    fn seen(bytes: impl Read) -> Result<Vec<String>, SnapshotError> {
        let mut seen = Vec::new();
        scan(bytes, |part| {
            if let Part::Generation { stream, state, .. } = part {
                seen.push(format!("{stream} {}", state.settled));
            }
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn fields_come_in_any_order_and_other_versions_are_refused() {
        let ledger = format!(r#""ledger":{{"streams":{{"d/s/p":{STREAM}}}}}"#);
        let rest = r#""topic":"t","partition":1,"end":9,"clock_ms":2"#;
        for json in [
            format!(r#"{{"v":1,{rest},{ledger}}}"#),
            format!(r#"{{{ledger},{rest},"later":{{"a":[1]}},"v":1}}"#),
        ] {
            assert_eq!(seen(&*compressed(&json)).unwrap(), ["d/s/p 3"]);
            let snapshot = Snapshot::decode(&compressed(&json)).unwrap();
            assert_eq!((snapshot.partition, snapshot.end), (1, 9));
            assert_eq!(snapshot.ledger.streams().count(), 1);
        }
        for json in [
            format!(r#"{{"v":9,{rest},{ledger}}}"#),
            format!(r#"{{{rest},{ledger},"v":9}}"#),
            r#"{"v":9,"ledger":[1]}"#.to_owned(),
        ] {
            let bytes = compressed(&json);
            for error in [
                seen(&*bytes).unwrap_err(),
                Snapshot::decode(&bytes).unwrap_err(),
            ] {
                assert!(matches!(error, SnapshotError::Version(9)), "{error}");
            }
        }
        for json in [
            format!(r#"{{{rest},{ledger}}}"#),
            format!(r#"{{"v":1,{rest}}}"#),
            format!(r#"{{"v":1,{rest},{ledger}}} x"#),
        ] {
            let bytes = compressed(&json);
            assert!(seen(&*bytes).is_err() && Snapshot::decode(&bytes).is_err());
        }
        let cut = compressed(&format!(r#"{{"v":1,{rest},{ledger}}}"#));
        assert!(seen(&cut[..cut.len() - 3]).is_err());
    }

    #[test]
    fn a_failure_of_the_reader_is_told() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the line is down"))
            }
        }
        let error = seen(Fails).unwrap_err().to_string();
        assert!(error.contains("the line is down"), "{error}");
    }

    /// What inflates without end is found out by its size, and costs no memory before.
    #[test]
    fn what_inflates_without_end_is_refused() {
        let repeated = |head: &str, piece: &str, bytes: usize| {
            let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
            zstd.write_all(head.as_bytes()).unwrap();
            let piece = piece.repeat(64 * 1024);
            for _ in 0..=bytes / piece.len() {
                zstd.write_all(piece.as_bytes()).unwrap();
            }
            zstd.finish().unwrap()
        };
        let head = r#"{"v":1,"ledger":{"streams":{"d/s/p":{"generations":{"0000000000000007":{"settled":3,"seen_ms":1,"gaps":["#;
        let gaps = repeated(head, "[1,2],", 6 * 1024 * 1024);
        let error = seen(&*gaps).unwrap_err().to_string();
        assert!(error.contains("larger than 4MiB of JSON"), "{error}");
        // Passed over, it may be larger than that.
        let spaces = repeated(r#"{"v":1,"windows":["#, "    ", 9 * 1024 * 1024);
        let error = seen(&*spaces).unwrap_err().to_string();
        assert!(error.contains("EOF"), "{error}");
    }
}
