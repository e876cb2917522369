//! What a snapshot says in a few numbers. They stand before the ledger, and what follows is not read.

use std::io::Read;

use serde::de::{IgnoredAny, MapAccess};

use super::read::{Fields, NOT_NAMED, Room, are_named, read_fields};
use super::{Named, SnapshotError};

/// A snapshot without ledger, windows and accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brief {
    /// Everything below this offset is in it.
    pub end: u64,
    /// Clock of the batch that ended there, Unix milliseconds.
    pub clock_ms: u64,
    /// As [`super::Carried::rows_ms`].
    pub rows_ms: u64,
    /// What names cover; none where an older loader wrote it.
    pub named: Option<Named>,
}

/// Which of several states of one partition to go on from, where nothing names one of them: the greatest. Each batch
/// with a row has a later `rows_ms`, and only one of its states is ever written, so what has the latest knows of all
/// rows. The others differ in what has none, which may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    rows_ms: u64,
    end: u64,
    clock_ms: u64,
}

impl Brief {
    /// Reads that of a snapshot.
    ///
    /// # Errors
    /// See [`SnapshotError`]. A failure of `reader` itself is one, too.
    pub fn read(reader: impl Read) -> Result<Self, SnapshotError> {
        let mut numbers = Numbers::default();
        read_fields(reader, &Room::default(), &mut numbers)?;
        let Numbers {
            end: Some(end),
            clock_ms: Some(clock_ms),
            rows_ms,
            named,
        } = numbers
        else {
            return Err(SnapshotError::Damaged("it says no end, or no clock".into()));
        };
        if !are_named(named, end) {
            return Err(SnapshotError::Damaged(NOT_NAMED.into()));
        }
        Ok(Self {
            end,
            clock_ms,
            // An older loader wrote it.
            rows_ms: rows_ms.unwrap_or(clock_ms),
            named,
        })
    }

    /// Its place among others.
    pub fn rank(&self) -> Rank {
        let Self {
            rows_ms,
            end,
            clock_ms,
            ..
        } = *self;
        Rank {
            rows_ms,
            end,
            clock_ms,
        }
    }
}

#[derive(Default)]
struct Numbers {
    end: Option<u64>,
    clock_ms: Option<u64>,
    rows_ms: Option<u64>,
    named: Option<Named>,
}

impl Fields for Numbers {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "end" => self.end = Some(map.next_value()?),
            "clock_ms" => self.clock_ms = Some(map.next_value()?),
            "rows_ms" => self.rows_ms = Some(map.next_value()?),
            "named" => self.named = Some(map.next_value()?),
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn is_enough(&self) -> bool {
        let numbers = [self.end, self.clock_ms, self.rows_ms];
        self.named.is_some() && numbers.iter().all(Option::is_some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Snapshot;

    fn compressed(json: &str) -> Vec<u8> {
        zstd::bulk::compress(json.as_bytes(), 1).unwrap()
    }

    /// The later rows, then the later end, then the later clock; what an older loader wrote has its clock.
    #[test]
    fn the_state_that_knows_of_all_rows_is_the_greatest() {
        let rank = |end: u64, clocks: &str| {
            let json = format!(r#"{{"v":1,"end":{end},"clock_ms":{clocks},"ledger":[]}}"#);
            Brief::read(&*compressed(&json)).unwrap().rank()
        };
        let ranks = [
            rank(9, r#"9,"rows_ms":1"#),
            rank(9, "2"),
            rank(9, r#"7,"rows_ms":3"#),
            rank(9, r#"8,"rows_ms":3"#),
            rank(10, r#"1,"rows_ms":3"#),
            rank(8, r#"1,"rows_ms":4"#),
        ];
        assert!(ranks.is_sorted() && ranks[0] < ranks[5], "{ranks:?}");
        for damaged in [r#"{"v":1,"end":9}"#, r#"{"v":1,"clock_ms":9}"#] {
            assert!(Brief::read(&*compressed(damaged)).is_err());
        }
    }

    /// What an older loader wrote says less, and is read; what contradicts itself is not.
    #[test]
    fn what_names_cover_is_read_where_it_is_said() {
        let text = |named: &str| {
            let json = format!(
                r#"{{"v":1,"topic":"t","partition":1,"end":9,"clock_ms":2,{named}"ledger":{{"streams":{{}}}}}}"#
            );
            compressed(&json)
        };
        let older = text("");
        let snapshot = Snapshot::decode(&older).unwrap();
        assert_eq!((snapshot.rows_ms, snapshot.named), (2, None));
        assert_eq!(Brief::read(&*older).unwrap().named, None);
        let newer = text(r#""named":{"from":3,"to":8,"later":1},"#);
        let named = Some(Named { from: 3, to: 8 });
        let snapshot = Snapshot::decode(&newer).unwrap();
        assert_eq!(snapshot.named, named);
        assert_eq!(Brief::read(&*newer).unwrap().named, named);
        // As it is written: nothing behind the numbers is read.
        let numbers = r#""end":9,"clock_ms":2,"rows_ms":1,"named":{"from":3,"to":8}"#;
        let cut = compressed(&format!(r#"{{"v":1,{numbers},"ledger":{{"str"#));
        assert_eq!(Brief::read(&*cut).unwrap().named, named);
        assert!(Snapshot::decode(&cut).is_err());
        for unread in [format!(r#"{{"v":9,{numbers}}}"#), format!("{{{numbers}}}")] {
            assert!(Brief::read(&*compressed(&unread)).is_err(), "{unread}");
        }
        for absurd in [r#"{"from":5,"to":4}"#, r#"{"from":5,"to":10}"#] {
            let absurd = text(&format!(r#""named":{absurd},"#));
            assert!(Brief::read(&*absurd).is_err() && Snapshot::decode(&absurd).is_err());
        }
    }
}
