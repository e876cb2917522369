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
}

impl Place {
    /// Of an open generation; nothing where it is no journal's.
    pub(super) fn of(open: &OpenGeneration) -> Option<Self> {
        let id = open.stream.path().strip_prefix(PATH)?;
        let marker = open.marker?;
        Some(Self {
            stream: open.stream.clone(),
            generation: open.generation,
            given: open.settled,
            read: Cursor {
                id: id.to_owned(),
                number: open.settled.max(open.skip_to.unwrap_or(0)),
                time_us: time_of(marker),
            },
        })
    }
}

/// Takes the one that was read first: journalctl goes on to the others from there.
pub(super) fn first(places: &mut Vec<Place>) -> Option<Place> {
    let (index, _) = (places.iter().enumerate()).min_by_key(|(_, place)| place.read.time_us)?;
    Some(places.swap_remove(index))
}

/// The time of an entry, as the database keeps it beside its number. It may be of a later entry than
/// the settled one, and serves only to find the place in files of other sequences, which lie wholly
/// before or behind.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &str, settled: u64, skip_to: Option<u64>, time_us: u64) -> OpenGeneration {
        let cursor = Cursor {
            id: String::new(),
            number: settled,
            time_us,
        };
        OpenGeneration {
            generation: Generation(settled),
            stream: StreamId::parse(&format!("pi-7/j/{path}")).unwrap(),
            origin: Origin::Sensor,
            settled,
            skip_to,
            cuts: Vec::new(),
            marker: Some(marker_of(&cursor)),
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
    }
}
