//! A row: the fields of a record, in the order in which they stand.
//!
//! A record has a handful of fields, and what is done to it looks most of them up by their names.
//! Comparing a few short names costs less than hashing one, and a list in one piece less than a table
//! beside it (figures: `docs/benchmarks.md`, "Rows"). But rows come from devices and are hostile: beyond
//! [`FEW`] fields a row becomes a hash map, so that a field is never found in time that grows with
//! their number.
//!
//! Promises: fields keep the order in which their names first came; a name stands once, and the value
//! that came last is its value. The same as `serde_json`'s map with `preserve_order`, which a property
//! below holds it to.

use std::fmt;
use std::ops::Index;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Most fields that are looked for one after another.
const FEW: usize = 24;

/// The fields of a record, in order.
#[derive(Clone, Default)]
pub struct Row(Fields);

#[derive(Clone)]
enum Fields {
    /// At most [`FEW`].
    Few(Vec<(String, Value)>),
    /// There were more than [`FEW`] at some time.
    Many(Map<String, Value>),
}

impl Default for Fields {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Row {
    /// A row without a field.
    pub fn new() -> Self {
        Self::default()
    }

    /// A row with room for so many fields; it takes more, too.
    pub fn with_capacity(fields: usize) -> Self {
        Self(if fields <= FEW {
            Fields::Few(Vec::with_capacity(fields))
        } else {
            Fields::Many(Map::with_capacity(fields))
        })
    }

    /// How many fields it has.
    pub fn len(&self) -> usize {
        match &self.0 {
            Fields::Few(fields) => fields.len(),
            Fields::Many(fields) => fields.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match &self.0 {
            Fields::Few(fields) => {
                (fields.iter()).find_map(|(field, value)| (field == name).then_some(value))
            }
            Fields::Many(fields) => fields.get(name),
        }
    }

    /// The value of a field, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        match &mut self.0 {
            Fields::Few(fields) => {
                (fields.iter_mut()).find_map(|(field, value)| (field == name).then_some(value))
            }
            Fields::Many(fields) => fields.get_mut(name),
        }
    }

    /// Whether there is a field of that name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Puts a field behind the others; one of that name keeps its place and gets the value, and what it
    /// held is returned.
    pub fn insert(&mut self, name: String, value: Value) -> Option<Value> {
        if let Fields::Few(fields) = &mut self.0 {
            if let Some((_, held)) = fields.iter_mut().find(|(field, _)| *field == name) {
                return Some(std::mem::replace(held, value));
            }
            if fields.len() < FEW {
                fields.push((name, value));
                return None;
            }
            self.0 = Fields::Many(std::mem::take(fields).into_iter().collect());
        }
        match &mut self.0 {
            Fields::Many(fields) => fields.insert(name, value),
            Fields::Few(_) => None,
        }
    }

    /// Takes a field away; the others keep their order.
    pub fn shift_remove(&mut self, name: &str) -> Option<Value> {
        match &mut self.0 {
            Fields::Few(fields) => {
                let at = fields.iter().position(|(field, _)| field == name)?;
                Some(fields.remove(at).1)
            }
            Fields::Many(fields) => fields.shift_remove(name),
        }
    }

    /// Takes away all fields of which `keep` says no.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Value) -> bool) {
        match &mut self.0 {
            Fields::Few(fields) => fields.retain_mut(|(name, value)| keep(name, value)),
            Fields::Many(fields) => fields.retain(|name, value| keep(name, value)),
        }
    }

    /// Fields and their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        let (few, many) = match &self.0 {
            Fields::Few(fields) => (Some(fields), None),
            Fields::Many(fields) => (None, Some(fields)),
        };
        let few = (few.into_iter().flatten()).map(|(name, value)| (name, value));
        few.chain(many.into_iter().flatten())
    }

    /// The names, in order.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.iter().map(|(name, _)| name)
    }

    /// The values, in order, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        let (few, many) = match &mut self.0 {
            Fields::Few(fields) => (Some(fields), None),
            Fields::Many(fields) => (None, Some(fields)),
        };
        let few = (few.into_iter().flatten()).map(|(_, value)| value);
        few.chain(many.into_iter().flat_map(Map::values_mut))
    }
}

/// The fields in order, each once.
#[derive(Debug)]
pub enum IntoIter {
    /// Of a short row.
    Few(std::vec::IntoIter<(String, Value)>),
    /// Of a long one.
    Many(serde_json::map::IntoIter),
}

impl Iterator for IntoIter {
    type Item = (String, Value);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Few(fields) => fields.next(),
            Self::Many(fields) => fields.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Few(fields) => fields.size_hint(),
            Self::Many(fields) => fields.size_hint(),
        }
    }
}

impl IntoIterator for Row {
    type Item = (String, Value);
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        match self.0 {
            Fields::Few(fields) => IntoIter::Few(fields.into_iter()),
            Fields::Many(fields) => IntoIter::Many(fields.into_iter()),
        }
    }
}

impl FromIterator<(String, Value)> for Row {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(fields: I) -> Self {
        let fields = fields.into_iter();
        let mut row = Self::with_capacity(fields.size_hint().0.min(FEW));
        row.extend(fields);
        row
    }
}

impl Extend<(String, Value)> for Row {
    fn extend<I: IntoIterator<Item = (String, Value)>>(&mut self, fields: I) {
        for (name, value) in fields {
            self.insert(name, value);
        }
    }
}

impl From<Map<String, Value>> for Row {
    fn from(fields: Map<String, Value>) -> Self {
        match fields.len() <= FEW {
            true => Self(Fields::Few(fields.into_iter().collect())),
            false => Self(Fields::Many(fields)),
        }
    }
}

impl From<Row> for Map<String, Value> {
    fn from(row: Row) -> Self {
        match row.0 {
            Fields::Few(fields) => fields.into_iter().collect(),
            Fields::Many(fields) => fields,
        }
    }
}

impl From<Row> for Value {
    fn from(row: Row) -> Self {
        Self::Object(row.into())
    }
}

/// The value of a field, as of a [`Value`]: one that is missing is null.
impl Index<&str> for Row {
    type Output = Value;

    fn index(&self, name: &str) -> &Value {
        self.get(name).unwrap_or(&Value::Null)
    }
}

/// The same fields with the same values, in whatever order: as objects of JSON are equal.
impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && (self.iter()).all(|(name, value)| other.get(name) == Some(value))
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Row, A::Error> {
                let mut row = Row::new();
                while let Some((name, value)) = fields.next_entry()? {
                    row.insert(name, value);
                }
                Ok(row)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is done to a row, by the number of a name.
    #[derive(Debug, Clone)]
    enum Act {
        Insert(u8, u32),
        Remove(u8),
        Retain(u8),
        Change(u8),
        ThroughJson,
        ThroughMap,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        // Names enough to pass FEW, few enough to meet one again.
        let name = 0..40u8;
        let act = prop_oneof![
            12 => (name.clone(), any::<u32>()).prop_map(|(name, n)| Act::Insert(name, n)),
            3 => name.clone().prop_map(Act::Remove),
            1 => (2..9u8).prop_map(Act::Retain),
            2 => name.prop_map(Act::Change),
            1 => Just(Act::ThroughJson),
            1 => Just(Act::ThroughMap),
        ];
        prop::collection::vec(act, 0..120)
    }

    fn name(n: u8) -> String {
        format!("field {n}")
    }

    proptest! {
        #[test]
        fn it_is_a_map_that_keeps_its_order(acts in acts()) {
            let (mut row, mut map) = (Row::new(), Map::new());
            for act in acts {
                match act {
                    Act::Insert(n, value) => {
                        prop_assert_eq!(
                            row.insert(name(n), value.into()),
                            map.insert(name(n), value.into())
                        );
                    }
                    Act::Remove(n) => {
                        prop_assert_eq!(row.shift_remove(&name(n)), map.shift_remove(&name(n)));
                    }
                    Act::Retain(by) => {
                        let mut at = 0;
                        row.retain(|_, _| { at += 1; at % by != 0 });
                        let mut at = 0;
                        map.retain(|_, _| { at += 1; at % by != 0 });
                    }
                    Act::Change(n) => {
                        if let Some(value) = row.get_mut(&name(n)) {
                            *value = Value::Null;
                        }
                        if let Some(value) = map.get_mut(&name(n)) {
                            *value = Value::Null;
                        }
                    }
                    Act::ThroughJson => {
                        let text = serde_json::to_string(&row).unwrap();
                        prop_assert_eq!(&text, &serde_json::to_string(&map).unwrap());
                        row = serde_json::from_str(&text).unwrap();
                    }
                    Act::ThroughMap => row = Row::from(Map::from(row)),
                }
                prop_assert_eq!((row.len(), row.is_empty()), (map.len(), map.is_empty()));
                prop_assert!(row.iter().eq(map.iter()));
                prop_assert!(row.keys().eq(map.keys()));
                prop_assert!((0..40).all(|n| row.get(&name(n)) == map.get(&name(n))));
                prop_assert!((0..40).all(|n| row.contains_key(&name(n)) == map.contains_key(&name(n))));
            }
            prop_assert!(row.values_mut().eq(map.values_mut()));
            prop_assert_eq!(row.clone(), map.clone().into_iter().rev().collect::<Row>());
            prop_assert!(row.into_iter().eq(map));
        }
    }

    #[test]
    fn a_name_that_stands_twice_keeps_its_place_and_takes_the_last_value() {
        let row: Row = serde_json::from_str(r#"{"a":1,"b":2,"a":3}"#).unwrap();
        assert_eq!(serde_json::to_string(&row).unwrap(), r#"{"a":3,"b":2}"#);
        assert!(serde_json::from_str::<Row>("[1]").is_err());
    }

    #[test]
    fn rows_differ_by_a_value_a_name_or_their_number() {
        let row = |text: &str| serde_json::from_str::<Row>(text).unwrap();
        assert_eq!(row(r#"{"a":1,"b":2}"#), row(r#"{"b":2,"a":1}"#));
        for other in [r#"{"a":1}"#, r#"{"a":1,"b":3}"#, r#"{"a":1,"c":2}"#] {
            assert_ne!(row(r#"{"a":1,"b":2}"#), row(other));
            assert_ne!(row(other), row(r#"{"a":1,"b":2}"#));
        }
    }
}
