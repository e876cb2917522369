//! Where reading begins, from what the database knows. Pure.

use headwater_record::{Generation, StreamId};

use super::entry::{Cursor, is_sequence};
use crate::checkpoint::{Marker, OpenGeneration, Origin};

/// What a stream's path begins with, before the sequence's name.
pub(super) const PATH: &str = "journal/";

/// Whether an open generation is of a journal: it has no file, as a sensor's has none, but the name of
/// a sequence. It stays open while no source of the configuration reads it, and whoever names that
/// source again goes on behind it.
pub(crate) fn is_journal(open: &OpenGeneration) -> bool {
    let sequence = open.stream.path().strip_prefix(PATH);
    open.origin == Origin::Sensor && sequence.is_some_and(is_sequence)
}

/// A generation of a sequence, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) stream: StreamId,
    pub(super) generation: Generation,
    /// Settled: the next record's span starts here.
    pub(super) given: u64,
    /// Reading goes on behind this entry.
    pub(super) read: Cursor,
    /// Its first entry is behind this number.
    pub(super) behind: u64,
    /// The last entry that was read when that was written down last; it may be above `read`.
    pub(super) marked: Cursor,
}

impl Place {
    /// Of an open generation; nothing where it is no journal's.
    pub(super) fn of(open: &OpenGeneration) -> Option<Self> {
        let id = open.stream.path().strip_prefix(PATH)?;
        let marker = open.marker?;
        let behind = open.skip_to.unwrap_or(0);
        let marked = Cursor {
            id: id.to_owned(),
            number: marker.end,
            time_us: time_of(marker),
            boot: open.earlier.first().map_or(0, boot_in),
        };
        Some(Self {
            stream: open.stream.clone(),
            generation: open.generation,
            given: open.settled,
            read: Cursor {
                number: open.settled.max(behind),
                ..marked.clone()
            },
            behind,
            marked,
        })
    }
}

/// Takes the one that was read first: journalctl goes on to the others from there.
pub(super) fn first(places: &mut Vec<Place>) -> Option<Place> {
    let first = places.iter().min_by_key(|place| place.read.time_us)?;
    let id = first.read.id.clone();
    first_of(places, &id)
}

/// Takes the first generation of a sequence.
pub(super) fn first_of(places: &mut Vec<Place>, id: &str) -> Option<Place> {
    let of_sequence = (places.iter().enumerate()).filter(|(_, place)| place.read.id == id);
    let (index, _) = of_sequence.min_by_key(|(_, place)| (place.behind, place.read.time_us))?;
    Some(places.swap_remove(index))
}

/// The time of an entry, as the database keeps it beside its number. It may be of a later entry than
/// the settled one, and serves to find the place in files of other sequences, which lie wholly
/// before or behind; and to tell whether that later entry is still there.
pub(super) fn marker_of(cursor: &Cursor) -> Marker {
    let [a, b, c, d, e, f, g, h] = cursor.time_us.to_be_bytes();
    Marker {
        end: cursor.number,
        len: u32::from_be_bytes([a, b, c, d]),
        sum: u32::from_be_bytes([e, f, g, h]),
    }
}

fn time_of(marker: Marker) -> u64 {
    (u64::from(marker.len) << 32) | u64::from(marker.sum)
}

/// The boot of an entry, as the database keeps it beside that.
pub(super) fn boot_of(cursor: &Cursor) -> Marker {
    let number = |from: u32| u32::try_from(cursor.boot >> from & u128::from(u32::MAX));
    let [high, low, len, sum] = [96, 64, 32, 0].map(|from| number(from).unwrap_or_default());
    Marker {
        end: u64::from(high) << 32 | u64::from(low),
        len,
        sum,
    }
}

fn boot_in(kept: &Marker) -> u128 {
    u128::from(kept.end) << 64 | u128::from(kept.len) << 32 | u128::from(kept.sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: u128 = 0x6c7c_6013_a263_43b2_9e96_4691_ff25_d04c;

    fn open(path: &str, settled: u64, skip_to: Option<u64>, time_us: u64) -> OpenGeneration {
        let cursor = Cursor {
            id: String::new(),
            number: settled + 3,
            time_us,
            boot: BOOT,
        };
        OpenGeneration {
            generation: Generation(settled),
            stream: StreamId::parse(&format!("pi-7/j/{path}")).unwrap(),
            origin: Origin::Sensor,
            settled,
            skip_to,
            cuts: Vec::new(),
            marker: Some(marker_of(&cursor)),
            earlier: vec![boot_of(&cursor)],
            goes_on: None,
        }
    }

    #[test]
    fn a_settled_number_is_a_cursor() {
        let late = Place::of(&open("journal/b", 70, Some(50), u64::MAX)).unwrap();
        let early = Place::of(&open("journal/a", 0, Some(50), 0x1_0000_0002)).unwrap();
        assert_eq!(
            (late.given, late.read.number, late.read.time_us),
            (70, 70, u64::MAX)
        );
        assert_eq!((early.given, early.read.number), (0, 50));
        assert_eq!((late.marked.number, late.marked.boot), (73, BOOT));
        assert_eq!(early.read.argument(), "s=a;i=32;t=100000002");
        assert_eq!(Place::of(&open("/sys/temp", 1, None, 1)), None);
        let sequence = "journal/00000000000000000000000000000abc";
        for (path, is) in [
            (sequence, true),
            ("journal/a", false),
            ("/sys/temp", false),
            ("command", false),
        ] {
            assert_eq!(is_journal(&open(path, 1, None, 1)), is, "{path}");
        }
        let mut places = vec![late.clone(), early.clone()];
        assert_eq!(first(&mut places), Some(early));
        assert_eq!(first(&mut places), Some(late));
        assert_eq!(first(&mut places), None);
        // What came later in a sequence goes later, though the clock was set back.
        let before = Place::of(&open("journal/a", 90, Some(50), 7)).unwrap();
        let after = Place::of(&open("journal/a", 60, Some(60), 5)).unwrap();
        let mut places = vec![after.clone(), before.clone()];
        assert_eq!(first(&mut places), Some(before));
        assert_eq!(first(&mut places), Some(after));
    }
}
