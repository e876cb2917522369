//! Which path a row's object lies under: a template over the row's fields, its time, and the batch.
//!
//! ```text
//! source={source}/date={time:%Y-%m-%d}/hour={time:%H}
//! ```
//!
//! `{time:…}` is the event's time (the row's `time` field, RFC 3339), always in UTC; `{ingest:…}`
//! the batch clock, which a replay repeats. A row without a readable time goes by the batch clock.
//! Values come from devices: everything but letters, digits, `.`, `_`, `:`, `@` and `-` is written
//! `%XX`, dots alone too, so that no value can leave its place in the path; a missing or empty one
//! is `__HIVE_DEFAULT_PARTITION__`; one above 128 bytes is cut and ends in a hash of the whole.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::transform::{Part, Row, Shown, parse_template};

/// What Hive and Athena read as "no value".
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";
/// Longest value in a path, in bytes.
const VALUE_BYTES_MAX: usize = 128;
/// Longest path, in bytes: S3 allows keys of 1024, and prefix and file name need their part.
pub const PATH_BYTES_MAX: usize = 640;

/// Path of rows that could not be made: a record that is no JSON object, or whose path is too long.
pub const DEAD_LETTERS: &str = "_dead_letters";

/// A path template that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PathError {
    /// Braces that do not match, or an empty name.
    #[error("output.path {0:?}: `{{field}}` and `{{time:%Y-%m-%d}}` stand between single braces")]
    Braces(String),
    /// A `%` letter that is not known.
    #[error("output.path: {0:?} is no time format: %Y, %m, %d, %H, %M and %j are known")]
    Time(String),
    /// An absolute path, `..`, an empty part, or our own folder.
    #[error(
        "output.path {0:?}: its parts are plain names, and the first is not one of headwater's own (\"_…\")"
    )]
    Unconfined(String),
}

/// A path template, ready to use.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String", into = "String")]
pub struct PathTemplate {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(String),
    Time(Vec<TimePiece>),
    Ingest(Vec<TimePiece>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TimePiece {
    Text(String),
    Unit(char),
}

impl TryFrom<String> for PathTemplate {
    type Error = PathError;
    fn try_from(text: String) -> Result<Self, PathError> {
        let confined = text.is_empty()
            || (!text.starts_with('_')
                && text
                    .split('/')
                    .all(|part| !part.is_empty() && part != "." && part != ".."));
        if !confined || text.chars().any(|c| c.is_control() || c == '\\') {
            return Err(PathError::Unconfined(text));
        }
        let parts = parse_template(&text).ok_or_else(|| PathError::Braces(text.clone()))?;
        let pieces = parts
            .into_iter()
            .map(Piece::new)
            .collect::<Result<_, _>>()?;
        Ok(Self { text, pieces })
    }
}

impl From<PathTemplate> for String {
    fn from(template: PathTemplate) -> String {
        template.text
    }
}

impl Piece {
    fn new(part: Part) -> Result<Self, PathError> {
        Ok(match part {
            Part::Text(text) => Self::Text(text),
            Part::Field(name) => match name.split_once(':') {
                Some(("time", format)) => Self::Time(time_pieces(format)?),
                Some(("ingest", format)) => Self::Ingest(time_pieces(format)?),
                _ => Self::Field(name),
            },
        })
    }
}

fn time_pieces(format: &str) -> Result<Vec<TimePiece>, PathError> {
    let mut pieces = Vec::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '%' => match chars.next() {
                Some(unit @ ('Y' | 'm' | 'd' | 'H' | 'M' | 'j')) => TimePiece::Unit(unit),
                _ => return Err(PathError::Time(format.to_owned())),
            },
            '/' => return Err(PathError::Time(format.to_owned())),
            c => TimePiece::Text(c.to_string()),
        });
    }
    Ok(pieces)
}

impl PathTemplate {
    /// The path of a row. `None` where it is longer than [`PATH_BYTES_MAX`].
    pub fn path(&self, row: &Row, clock_ms: u64) -> Option<String> {
        let mut path = String::with_capacity(64);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => path.push_str(text),
                Piece::Field(name) => confine(&Shown(row.get(name)).to_string(), &mut path),
                Piece::Time(format) => write_time(event_time(row), clock_ms, format, &mut path),
                Piece::Ingest(format) => write_time(None, clock_ms, format, &mut path),
            }
        }
        // Only a value can put one of our own names in front: the template's text cannot.
        if path.starts_with("_headwater") || path.starts_with(DEAD_LETTERS) {
            path.replace_range(..1, "%5F");
        }
        (path.len() <= PATH_BYTES_MAX).then_some(path)
    }
}

fn event_time(row: &Row) -> Option<jiff::Timestamp> {
    row.get("time").and_then(Value::as_str)?.parse().ok()
}

fn write_time(
    event: Option<jiff::Timestamp>,
    clock_ms: u64,
    format: &[TimePiece],
    path: &mut String,
) {
    let clock = || {
        let ms = i64::try_from(clock_ms).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX)
    };
    let at = event
        .unwrap_or_else(clock)
        .to_zoned_datetime(jiff::tz::TimeZone::UTC);
    for piece in format {
        let written = match piece {
            TimePiece::Text(text) => {
                confine(text, path);
                Ok(())
            }
            TimePiece::Unit('Y') => write!(path, "{:04}", at.year()),
            TimePiece::Unit('m') => write!(path, "{:02}", at.month()),
            TimePiece::Unit('d') => write!(path, "{:02}", at.day()),
            TimePiece::Unit('H') => write!(path, "{:02}", at.hour()),
            TimePiece::Unit('M') => write!(path, "{:02}", at.minute()),
            TimePiece::Unit(_) => write!(path, "{:03}", at.day_of_year()),
        };
        debug_assert!(written.is_ok(), "a String takes every byte");
    }
}

fn confine(value: &str, path: &mut String) {
    if value.is_empty() {
        path.push_str(NO_VALUE);
        return;
    }
    let only_dots = value.bytes().all(|b| b == b'.');
    let from = path.len();
    for byte in value.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte);
        if plain && !only_dots {
            path.push(char::from(byte));
        } else {
            let written = write!(path, "%{byte:02X}");
            debug_assert!(written.is_ok(), "a String takes every byte");
        }
    }
    if path.len() - from > VALUE_BYTES_MAX {
        path.truncate(from + VALUE_BYTES_MAX - 9);
        let written = write!(path, "~{:08x}", crc32c::crc32c(value.as_bytes()));
        debug_assert!(written.is_ok(), "a String takes every byte");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLOCK: u64 = 1_764_000_000_123;

    fn path(template: &str, row: &str) -> Option<String> {
        let template = PathTemplate::try_from(template.to_owned()).unwrap();
        template.path(&serde_json::from_str(row).unwrap(), CLOCK)
    }

    #[test]
    fn paths_by_time_and_field() {
        let row = r#"{"time":"2024-02-29T23:30:00+02:00","source":"sys log","n":7}"#;
        for (template, expected) in [
            (
                "s={source}/d={time:%Y-%m-%d}/h={time:%H}",
                "s=sys%20log/d=2024-02-29/h=21",
            ),
            ("{ingest:%Y%m%d}/{n}", "20251124/7"),
            ("day={time:%j}", "day=060"),
            ("x={gone}", "x=__HIVE_DEFAULT_PARTITION__"),
            ("", ""),
        ] {
            assert_eq!(path(template, row).as_deref(), Some(expected), "{template}");
        }
        assert_eq!(
            path("d={time:%Y}", r#"{"time":"yesterday"}"#).as_deref(),
            Some("d=2025")
        );
    }

    #[test]
    fn what_is_refused() {
        for bad in [
            "/abs",
            "a//b",
            "a/../b",
            "_headwater/x",
            "{time:%Q}",
            "{",
            "a\nb",
            "{time:%Y/%m}",
        ] {
            assert!(PathTemplate::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        let long = format!(r#"{{"a":"{0}","b":"{0}"}}"#, "x".repeat(2000));
        assert_eq!(path("{a}", &long).unwrap().len(), VALUE_BYTES_MAX);
        assert_eq!(path("{a}{b}{a}{b}{a}{b}", &long), None);
        let sly = r#"{"a":"_headwater","b":"state"}"#;
        assert_eq!(path("{a}/{b}", sly).as_deref(), Some("%5Fheadwater/state"));
    }

    proptest! {
        #[test]
        fn no_value_leaves_its_place(value in "\\PC{0,40}|\\.{0,4}|[./\\\\]{0,9}") {
            let row = serde_json::json!({ "a": value });
            let template = PathTemplate::try_from("x/{a}/y".to_owned()).unwrap();
            let path = template.path(row.as_object().unwrap(), 0).unwrap();
            let parts: Vec<&str> = path.split('/').collect();
            prop_assert_eq!(parts.len(), 3);
            prop_assert!(!parts[1].is_empty() && parts[1] != "." && parts[1] != "..");
            prop_assert!(path.bytes().all(|b| b.is_ascii_graphic()));
        }
    }
}
