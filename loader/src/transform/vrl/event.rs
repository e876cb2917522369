//! A row as VRL's event, and back. Values are moved, not copied.
//!
//! | JSON | VRL | and back |
//! |---|---|---|
//! | integer below 2^63 | integer | integer |
//! | integer above | refused: VRL has none | |
//! | other number | float | number; infinity is refused |
//! | text | text | text; bytes that are no UTF-8 are refused |
//! | | timestamp | RFC 3339 in UTC |
//! | | regex | its text |
//! | object | object, in the order of its names | object, in that order |
//!
//! What is refused makes a dead letter: a value is never changed in silence.

use std::sync::LazyLock;

use chrono::DateTime;
use serde_json::{Number, Value as Json};
use vrl::compiler::{SecretTarget, Target};
use vrl::path::{OwnedTargetPath, PathPrefix, parse_target_path};
use vrl::prelude::NotNan;
use vrl::value::kind::Collection;
use vrl::value::{KeyString, Kind, ObjectMap, Value};

use crate::fetched::Identity;
use crate::transform::Row;
use crate::transform::vrl::Around;

/// Largest row behind a program, in bytes of its texts and eight for each value.
pub const ROW_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Deepest row behind a program: what JSON's readers take.
pub const DEPTH_MAX: usize = 120;

/// Where `now` finds the batch clock. A program can read it, and write nowhere below `%`.
pub(super) static CLOCK: LazyLock<OwnedTargetPath> = LazyLock::new(|| {
    parse_target_path("%hw.clock").expect("the path above is one that VRL can read")
});

/// What a program knows of `.` before it runs.
pub(super) fn kind() -> Kind {
    Kind::object(Collection::json())
}

/// What a program knows of `%`.
pub(super) fn metadata_kind() -> Kind {
    let text = || Kind::bytes().or_null();
    let number = || Kind::integer().or_null();
    let hw = Collection::empty()
        .with_known("topic", Kind::bytes())
        .with_known("partition", Kind::integer())
        .with_known("offset", Kind::integer())
        .with_known("time", Kind::timestamp())
        .with_known("clock", Kind::timestamp())
        .with_known("device", text())
        .with_known("source", text())
        .with_known("stream", text())
        .with_known("generation", text())
        .with_known("start", number())
        .with_known("length", number());
    Kind::object(Collection::empty().with_known("hw", Kind::object(hw)))
}

/// A row while a program runs on it.
#[derive(Debug)]
pub(super) struct Event {
    value: Value,
    metadata: Value,
    clock: Value,
}

impl Event {
    pub(super) fn new(row: Row, around: Around<'_>, with_metadata: bool) -> Result<Self, String> {
        let value = Value::Object(object(row)?);
        let metadata = match with_metadata {
            true => metadata(around),
            false => Value::Object(ObjectMap::new()),
        };
        Ok(Self {
            value,
            metadata,
            clock: time(around.clock_ms),
        })
    }

    pub(super) fn into_row(self) -> Result<Row, String> {
        let Value::Object(fields) = self.value else {
            return Err(format!(
                "the program left {} where the row should be",
                self.value.kind_str()
            ));
        };
        let mut left = ROW_BYTES_MAX;
        row(fields, 0, &mut left)
    }
}

impl Target for Event {
    fn target_insert(&mut self, path: &OwnedTargetPath, value: Value) -> Result<(), String> {
        match path.prefix {
            PathPrefix::Event => {
                self.value.insert(&path.path, value);
                Ok(())
            }
            PathPrefix::Metadata => Err("metadata can only be read".to_owned()),
        }
    }

    fn target_get(&self, path: &OwnedTargetPath) -> Result<Option<&Value>, String> {
        Ok(match path.prefix {
            PathPrefix::Event => self.value.get(&path.path),
            PathPrefix::Metadata if path == &*CLOCK => Some(&self.clock),
            PathPrefix::Metadata => self.metadata.get(&path.path),
        })
    }

    fn target_get_mut(&mut self, path: &OwnedTargetPath) -> Result<Option<&mut Value>, String> {
        match path.prefix {
            PathPrefix::Event => Ok(self.value.get_mut(&path.path)),
            PathPrefix::Metadata => Err("metadata can only be read".to_owned()),
        }
    }

    fn target_remove(
        &mut self,
        path: &OwnedTargetPath,
        compact: bool,
    ) -> Result<Option<Value>, String> {
        match path.prefix {
            PathPrefix::Event => Ok(self.value.remove(&path.path, compact)),
            PathPrefix::Metadata => Err("metadata can only be read".to_owned()),
        }
    }
}

/// There are no secrets here.
impl SecretTarget for Event {
    fn get_secret(&self, _key: &str) -> Option<&str> {
        None
    }

    fn insert_secret(&mut self, _key: &str, _value: &str) {}

    fn remove_secret(&mut self, _key: &str) {}
}

fn time(ms: u64) -> Value {
    let time = i64::try_from(ms)
        .ok()
        .and_then(DateTime::from_timestamp_millis)
        .unwrap_or(DateTime::UNIX_EPOCH);
    Value::Timestamp(time)
}

fn metadata(around: Around<'_>) -> Value {
    let count = |n: u64| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    let mut hw = ObjectMap::new();
    hw.insert("topic".into(), around.topic.into());
    hw.insert("partition".into(), around.partition.into());
    hw.insert("offset".into(), count(around.entry.offset));
    hw.insert("time".into(), time(around.entry.time_ms));
    hw.insert("clock".into(), time(around.clock_ms));
    if let Identity::Tagged {
        stream,
        generation,
        span,
        ..
    } = &around.entry.identity
    {
        let mut parts = stream.splitn(3, '/');
        hw.insert("device".into(), parts.next().into());
        hw.insert("source".into(), parts.next().into());
        hw.insert("stream".into(), (&**stream).into());
        hw.insert("generation".into(), generation.to_string().into());
        hw.insert("start".into(), count(span.start()));
        hw.insert("length".into(), count(span.len()));
    }
    Value::Object(ObjectMap::from([("hw".into(), Value::Object(hw))]))
}

/// A row's fields, as VRL holds them.
fn object(row: Row) -> Result<ObjectMap, String> {
    row.into_iter()
        .map(|(name, value)| {
            let value = to_vrl(value).map_err(|number| {
                format!(
                    "{name}: VRL has no integers of 64 bits without a sign, and {number} is one"
                )
            })?;
            Ok((KeyString::from(name), value))
        })
        .collect()
}

/// A JSON value, as VRL holds it.
///
/// # Errors
/// The integer in it that VRL cannot hold.
pub(super) fn to_vrl(value: Json) -> Result<Value, Number> {
    Ok(match value {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Boolean(flag),
        Json::String(text) => Value::from(text),
        Json::Number(number) => match (number.as_i64(), number.as_f64().map(NotNan::new)) {
            (Some(n), _) => Value::Integer(n),
            (None, Some(Ok(n))) if !number.is_u64() => Value::Float(n),
            _ => return Err(number),
        },
        Json::Array(values) => {
            Value::Array(values.into_iter().map(to_vrl).collect::<Result<_, _>>()?)
        }
        Json::Object(fields) => {
            let fields = fields
                .into_iter()
                .map(|(name, value)| Ok((KeyString::from(name), to_vrl(value)?)));
            Value::Object(fields.collect::<Result<_, Number>>()?)
        }
    })
}

fn row(fields: ObjectMap, depth: usize, left: &mut usize) -> Result<Row, String> {
    let mut row = Row::with_capacity(fields.len());
    for (name, value) in fields {
        let name = String::from(name);
        take(left, name.len())?;
        let value = match to_json(value, depth + 1, left) {
            Ok(value) => value,
            Err(reason) if depth == 0 => return Err(format!("{name}: {reason}")),
            Err(reason) => return Err(reason),
        };
        row.insert(name, value);
    }
    Ok(row)
}

fn to_json(value: Value, depth: usize, left: &mut usize) -> Result<Json, String> {
    take(left, 8)?;
    if depth > DEPTH_MAX {
        return Err(format!("it is more than {DEPTH_MAX} levels deep"));
    }
    Ok(match value {
        Value::Null => Json::Null,
        Value::Boolean(flag) => Json::Bool(flag),
        Value::Integer(n) => Json::Number(n.into()),
        Value::Float(n) => match Number::from_f64(n.into_inner()) {
            Some(number) => Json::Number(number),
            None => return Err(format!("JSON has no number {n}")),
        },
        Value::String(text) => string(text.into_bytes(), left)?,
        Value::Bytes(bytes) => string(bytes, left)?,
        Value::Timestamp(_) | Value::Regex(_) => {
            string(value.to_string_lossy().into_owned().into(), left)?
        }
        Value::Array(values) => {
            let values = values
                .into_iter()
                .map(|value| to_json(value, depth + 1, left));
            Json::Array(values.collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => row(fields, depth, left)?.into(),
    })
}

fn string(bytes: bytes::Bytes, left: &mut usize) -> Result<Json, String> {
    take(left, bytes.len())?;
    let text = String::from_utf8(bytes.into());
    text.map(Json::String)
        .map_err(|_| "it is bytes that are no UTF-8; encode_base64 makes a text of them".into())
}

fn take(left: &mut usize, bytes: usize) -> Result<(), String> {
    let rest = left.checked_sub(bytes);
    *left = rest.ok_or("the row behind the program is larger than 16MiB")?;
    Ok(())
}
