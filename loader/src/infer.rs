//! Columns for rows that nobody has declared any for: what a sample of them holds. Pure.
//!
//! A schema that is found anew in each batch gives two objects of one table two types. So it is found
//! once, by a person's wish, and then stands in the configuration (`[[output.column]]`), where it is
//! a part of the pipeline; what later rows bring beside it goes to the overflow column.
//!
//! A column gets the narrowest type that holds *every* value of the sample exactly; `null` fits all.
//! Texts stay texts, also where they are numbers (a code "007" is none), but for times. Where no type
//! holds all, it is `json`, which keeps each value as it was.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Number, Value};

use crate::format::{COLUMNS_MAX, Column, ColumnType};
use crate::transform::Row;

/// Most fields whose values are looked at. Rows that name their fields by data have no end of them.
const FIELDS_MAX: usize = 10_000;
/// Longest name of a column, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Whole numbers up to here are exact as floating point (2^53).
const EXACT: u64 = 1 << 53;

/// What the rows so far held.
#[derive(Debug, Default)]
pub struct Sample {
    rows: u64,
    fields: BTreeMap<String, Field>,
    /// Fields beyond [`FIELDS_MAX`] were there.
    too_many: bool,
}

/// What the values of one field were.
#[derive(Debug, Default)]
struct Field {
    /// Rows that have it, with a value.
    rows: u64,
    nulls: u64,
    kinds: BTreeSet<Held>,
    /// Some time among them is finer than a millisecond.
    is_fine: bool,
}

/// What a value is, as far as a column's type goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    Bool,
    /// A whole number that is exact as floating point, too.
    Small,
    /// A whole number of 64 bits.
    Int,
    /// Another number, as floating point.
    Float,
    /// A number that neither holds.
    Large,
    Time,
    Text,
    Structure,
}

/// A column that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Its declaration.
    #[serde(flatten)]
    pub column: Column,
    /// Rows of the sample that have a value for it.
    pub rows: u64,
    /// What whoever keeps it should know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remark: Option<&'static str>,
}

/// A field without a column, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Its name.
    pub name: String,
    /// Rows of the sample that have a value for it.
    pub rows: u64,
    /// Why.
    pub why: &'static str,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Columns {
    /// Rows that were looked at.
    pub rows: u64,
    /// In the order of their names, `time` first: files are read by it.
    pub columns: Vec<Found>,
    /// Fields that only the overflow column takes.
    pub left: Vec<Left>,
    /// There were more fields than are looked at.
    pub too_many: bool,
}

impl Sample {
    /// Looks at one more row.
    pub fn add(&mut self, row: &Row) {
        self.rows += 1;
        for (name, value) in row.iter() {
            if !self.fields.contains_key(name) {
                if self.fields.len() == FIELDS_MAX {
                    self.too_many = true;
                    continue;
                }
                self.fields.insert(name.clone(), Field::default());
            }
            if let Some(field) = self.fields.get_mut(name) {
                field.add(value);
            }
        }
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The columns of what it saw. `overflow`: the overflow column's name. `least`: a field needs a
    /// value in so many rows to get a column.
    pub fn columns(&self, overflow: Option<&str>, least: u64) -> Columns {
        let (mut columns, mut left) = (Vec::new(), Vec::new());
        // Athena and others fold case.
        let mut taken: BTreeSet<String> = overflow.iter().map(|name| name.to_lowercase()).collect();
        let mut by_name: Vec<_> = self.fields.iter().collect();
        by_name.sort_by_key(|(name, _)| name.as_str() != "time");
        for (name, field) in by_name {
            let why = match field.kind() {
                _ if name.is_empty() || name.len() > NAME_BYTES_MAX => {
                    Err("its name is empty, or above 255 bytes")
                }
                None => Err("it is null in every row"),
                Some(_) if field.rows < least => Err("too few rows have it"),
                Some(_) if columns.len() == COLUMNS_MAX => Err("1000 columns are the most"),
                Some(_) if !taken.insert(name.to_lowercase()) => {
                    Err("its name is taken, but for case")
                }
                Some(kind) => Ok(kind),
            };
            let (name, rows) = (name.clone(), field.rows);
            match why {
                Ok(kind) => columns.push(Found {
                    remark: field.remark(kind),
                    column: Column { name, kind },
                    rows,
                }),
                Err(why) => left.push(Left { name, rows, why }),
            }
        }
        Columns {
            rows: self.rows,
            columns,
            left,
            too_many: self.too_many,
        }
    }
}

impl Field {
    fn add(&mut self, value: &Value) {
        let held = match value {
            Value::Null => {
                self.nulls += 1;
                return;
            }
            Value::Bool(_) => Held::Bool,
            Value::Number(n) => number(n),
            Value::String(text) => match text.parse::<jiff::Timestamp>() {
                Ok(at) => {
                    self.is_fine |= at.as_nanosecond() % 1_000_000 != 0;
                    Held::Time
                }
                Err(_) => Held::Text,
            },
            Value::Array(_) | Value::Object(_) => Held::Structure,
        };
        self.rows += 1;
        self.kinds.insert(held);
    }

    fn kind(&self) -> Option<ColumnType> {
        use Held::{Bool, Float, Int, Small, Text, Time};
        let all = |of: &[Held]| self.kinds.iter().all(|kind| of.contains(kind));
        let is = |held: Held| self.kinds.contains(&held);
        match () {
            () if self.kinds.is_empty() => None,
            () if all(&[Bool]) => Some(ColumnType::Bool),
            () if all(&[Small, Int]) => Some(ColumnType::Int),
            () if all(&[Small, Float]) && is(Float) => Some(ColumnType::Float),
            () if all(&[Time]) => Some(ColumnType::Timestamp),
            () if all(&[Time, Text]) => Some(ColumnType::String),
            () => Some(ColumnType::Json),
        }
    }

    fn remark(&self, kind: ColumnType) -> Option<&'static str> {
        match kind {
            ColumnType::Timestamp if self.is_fine => {
                Some("some are finer than the millisecond that is kept; string keeps all")
            }
            ColumnType::Json if !self.kinds.contains(&Held::Structure) => {
                Some("no other type holds all of its values")
            }
            _ => None,
        }
    }
}

fn number(n: &Number) -> Held {
    match (n.as_i64(), n.as_f64()) {
        (Some(n), _) if n.unsigned_abs() <= EXACT => Held::Small,
        (Some(_), _) => Held::Int,
        (None, Some(_)) if n.is_f64() => Held::Float,
        _ => Held::Large,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn sample(rows: &[Value]) -> Sample {
        let mut sample = Sample::default();
        for row in rows {
            sample.add(&row.as_object().unwrap().clone().into());
        }
        sample
    }

    fn kind(values: &[Value]) -> Option<ColumnType> {
        let rows: Vec<_> = values.iter().map(|value| json!({ "f": value })).collect();
        let found = sample(&rows).columns(None, 0);
        found.columns.first().map(|found| found.column.kind)
    }

    #[test]
    fn the_narrowest_type_that_holds_all() {
        use ColumnType::{Bool, Float, Int, Json, String, Timestamp};
        let large = json!(u64::MAX);
        for (values, expected) in [
            (vec![json!(true), json!(null)], Some(Bool)),
            (vec![json!(1), json!(-7), json!(i64::MIN)], Some(Int)),
            (vec![json!(1), json!(1.5)], Some(Float)),
            // 2^60 + 1 is no floating point number.
            (vec![json!((1_i64 << 60) + 1), json!(1.5)], Some(Json)),
            (vec![large], Some(Json)),
            (vec![json!("007"), json!("8")], Some(String)),
            (vec![json!("7"), json!(7)], Some(Json)),
            (vec![json!("2026-11-29T00:00:00Z")], Some(Timestamp)),
            (
                vec![json!("2026-11-29T00:00:00Z"), json!("soon")],
                Some(String),
            ),
            (vec![json!({"a": 1}), json!([1])], Some(Json)),
            (vec![json!(null)], None),
        ] {
            assert_eq!(kind(&values), expected, "{values:?}");
        }
    }

    #[test]
    fn what_gets_no_column_is_named() {
        let rows = [
            json!({"time": "2026-11-29T00:00:00.123456Z", "a": 1, "A": 2, "n": null, "_REST": 1, "": 1}),
            json!({"time": "2026-11-29T00:00:01Z", "a": 1, "once": true, "A": 1, "x": "1", "aa": 1}),
            json!({"aa": "1", "x": "y"}),
        ];
        let found = sample(&rows).columns(Some("_rest"), 2);
        let names: Vec<_> = found
            .columns
            .iter()
            .map(|found| &*found.column.name)
            .collect();
        assert_eq!(names, ["time", "A", "aa", "x"]);
        assert!(found.columns[0].remark.unwrap().contains("millisecond"));
        assert!(found.columns[2].remark.unwrap().contains("no other type"));
        let left: Vec<_> = found.left.iter().map(|left| &*left.name).collect();
        assert_eq!(left, ["", "_REST", "a", "n", "once"]);
    }

    #[test]
    fn fields_without_end_are_bounded() {
        let mut sample = Sample::default();
        for n in 0..FIELDS_MAX + 5 {
            sample.add(&Row::from_iter([(n.to_string(), n.into())]));
        }
        let found = sample.columns(None, 0);
        assert!(found.too_many);
        assert_eq!(found.columns.len(), COLUMNS_MAX);
        assert_eq!(found.columns.len() + found.left.len(), FIELDS_MAX);
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-5..5_i64).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[0-9a-z]{0,4}".prop_map(Value::from),
            Just(json!("2026-11-29T00:00:00Z")),
            Just(json!([1])),
        ]
    }

    proptest! {
        /// Whatever the sample: its own rows fit, and numbers come back as they were.
        #[test]
        fn every_value_of_the_sample_fits_exactly(values in prop::collection::vec(value(), 1..5)) {
            let Some(kind) = kind(&values) else {
                return Ok(());
            };
            for value in values.iter().filter(|value| !value.is_null()) {
                let cell = kind.cell(value);
                prop_assert!(cell.is_some(), "{kind:?} {value}");
                match (cell, value) {
                    (Some(crate::format::Cell::Int(n)), value) => {
                        prop_assert_eq!(value.as_i64(), Some(n));
                    }
                    (Some(crate::format::Cell::Float(n)), Value::Number(v)) => {
                        prop_assert_eq!(v.to_string().parse::<f64>().unwrap(), n);
                        // A whole number among them is written as it was.
                        if v.is_i64() {
                            prop_assert_eq!(format!("{n:.0}"), v.to_string());
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
