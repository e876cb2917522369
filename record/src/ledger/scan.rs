//! A stored ledger read a generation at a time: what `audit` of a million streams needs, and holding
//! them all does not give.
//!
//! It reads what [`Ledger`](super::Ledger) writes: its fields in any order, streams by name and their
//! generations by number, both rising. Another order is refused, since whoever merges ledgers rests on
//! it.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::{Forgotten, GenerationState};
use crate::names::Generation;

/// A part of a ledger.
#[derive(Debug)]
pub enum Part<'a> {
    /// One generation.
    Generation {
        /// Its stream.
        stream: &'a str,
        /// Which.
        generation: Generation,
        /// What is known of it.
        state: GenerationState,
    },
    /// A stream's end: its generations were handed over.
    Stream {
        /// The stream.
        stream: &'a str,
        /// Closed, complete generations of it that were forgotten: how many.
        retired: u64,
        /// Data records that those had.
        retired_records: u64,
    },
    /// The ledger's end.
    End {
        /// What was forgotten whole.
        forgotten: Forgotten,
        /// Records and notices for which there was no room.
        unaccounted: u64,
    },
}

/// Hands each part of a ledger to a function, in the order of the streams' names. An error of the
/// function ends it.
pub struct Scan<F>(pub F);

impl<F> fmt::Debug for Scan<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scan")
    }
}

impl<'de, F> DeserializeSeed<'de> for Scan<F>
where
    F: FnMut(Part<'_>) -> Result<(), String>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(Map::new("a ledger", InLedger(&mut self.0)))
    }
}

/// An object whose entries are taken one by one.
trait Entries<'de> {
    fn take<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error>;
}

/// The seed and visitor around [`Entries`].
struct Map<'de, E> {
    what: &'static str,
    entries: E,
    of: PhantomData<&'de ()>,
}

impl<E> Map<'_, E> {
    fn new(what: &'static str, entries: E) -> Self {
        Self {
            what,
            entries,
            of: PhantomData,
        }
    }
}

impl<'de, E: Entries<'de>> Visitor<'de> for Map<'de, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.entries.take(map)
    }
}

impl<'de, E: Entries<'de>> DeserializeSeed<'de> for Map<'de, E> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// `{"streams":{…}}`
struct InLedger<'a, F>(&'a mut F);

impl<'de, F> Entries<'de> for InLedger<'_, F>
where
    F: FnMut(Part<'_>) -> Result<(), String>,
{
    fn take<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut forgotten, mut unaccounted) = (Forgotten::default(), 0);
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "streams" => {
                    map.next_value_seed(Map::new("streams by name", InStreams(&mut *self.0)))?;
                }
                "forgotten" => forgotten = map.next_value()?,
                "unaccounted" => unaccounted = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let end = Part::End {
            forgotten,
            unaccounted,
        };
        (self.0)(end).map_err(A::Error::custom)
    }
}

/// `{"pi-7/app/log":{…},…}`
struct InStreams<'a, F>(&'a mut F);

impl<'de, F> Entries<'de> for InStreams<'_, F>
where
    F: FnMut(Part<'_>) -> Result<(), String>,
{
    fn take<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut before: Option<String> = None;
        while let Some(stream) = map.next_key::<String>()? {
            if before.as_ref().is_some_and(|before| *before >= stream) {
                return Err(A::Error::custom(
                    "its streams are not in the order of names",
                ));
            }
            let inside = InStream {
                stream: &stream,
                each: &mut *self.0,
            };
            map.next_value_seed(Map::new("a stream", inside))?;
            before = Some(stream);
        }
        Ok(())
    }
}

/// `{"generations":{…},"retired":…,"retired_records":…}`
struct InStream<'a, F> {
    stream: &'a str,
    each: &'a mut F,
}

impl<'de, F> Entries<'de> for InStream<'_, F>
where
    F: FnMut(Part<'_>) -> Result<(), String>,
{
    fn take<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut retired, mut retired_records) = (0, 0);
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "generations" => {
                    let inside = InGenerations {
                        stream: self.stream,
                        each: &mut *self.each,
                    };
                    map.next_value_seed(Map::new("generations by number", inside))?;
                }
                "retired" => retired = map.next_value()?,
                "retired_records" => retired_records = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let end = Part::Stream {
            stream: self.stream,
            retired,
            retired_records,
        };
        (self.each)(end).map_err(A::Error::custom)
    }
}

/// `{"0000000000000007":{…},…}`
struct InGenerations<'a, F> {
    stream: &'a str,
    each: &'a mut F,
}

impl<'de, F> Entries<'de> for InGenerations<'_, F>
where
    F: FnMut(Part<'_>) -> Result<(), String>,
{
    fn take<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut before = None;
        while let Some((generation, state)) = map.next_entry::<Generation, GenerationState>()? {
            if before.is_some_and(|before| before >= generation) {
                return Err(A::Error::custom(
                    "a stream's generations are not in the order of numbers",
                ));
            }
            before = Some(generation);
            let part = Part::Generation {
                stream: self.stream,
                generation,
                state,
            };
            (self.each)(part).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}
