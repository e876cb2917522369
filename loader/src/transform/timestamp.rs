//! `timestamp`: a time as a program wrote it becomes RFC 3339 in UTC, which paths and columns read.
//!
//! ```toml
//! step = "timestamp"
//! field = "ts"
//! formats = ["rfc3339", "unix_ms", "%d/%b/%Y:%H:%M:%S %z"]   # tried in turn
//! to = "time"                # by default
//! zone = "+02:00"            # of formats without one; UTC by default
//! on_error = "ignore"        # leave it as it is; dead_letter by default
//! ```
//!
//! `unix`, `unix_ms`, `unix_us` and `unix_ns` take numbers, and texts that are numbers. The rest are
//! `strftime` formats. A row without the field goes on as it is.

use jiff::fmt::strtime;
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::transform::Row;

/// `timestamp`, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimestampFile {
    /// Where the time stands.
    pub field: String,
    /// How it may be written.
    pub formats: Vec<String>,
    /// Where it goes.
    #[serde(default = "to")]
    pub to: String,
    /// Offset from UTC of formats that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What becomes of a row whose time cannot be read.
    #[serde(default)]
    pub on_error: OnError,
}

fn to() -> String {
    "time".to_owned()
}

/// What becomes of a row whose time cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It goes to the dead letters.
    #[default]
    DeadLetter,
    /// It goes on as it is.
    Ignore,
}

/// A step that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TimestampError {
    /// No format.
    #[error("`formats` is empty")]
    NoFormat,
    /// Neither a name that is known nor a strftime format.
    #[error(
        "format {0:?} is neither rfc3339, unix, unix_ms, unix_us, unix_ns nor made of % letters"
    )]
    Format(String),
    /// No offset.
    #[error("zone {0:?} is no offset: UTC, or one like +02:00")]
    Zone(String),
}

#[derive(Debug, Clone)]
enum Format {
    Rfc3339,
    /// So many to a second.
    Unix(i128),
    Strftime(String),
}

/// `timestamp`, ready to run.
#[derive(Debug, Clone)]
pub struct Timestamp {
    field: String,
    formats: Vec<Format>,
    to: String,
    zone: Offset,
    on_error: OnError,
}

impl Timestamp {
    /// Makes it ready.
    ///
    /// # Errors
    /// See [`TimestampError`].
    pub fn new(file: &TimestampFile) -> Result<Self, TimestampError> {
        if file.formats.is_empty() {
            return Err(TimestampError::NoFormat);
        }
        let format = |text: &String| match text.as_str() {
            "rfc3339" => Ok(Format::Rfc3339),
            "unix" => Ok(Format::Unix(1)),
            "unix_ms" => Ok(Format::Unix(1000)),
            "unix_us" => Ok(Format::Unix(1_000_000)),
            "unix_ns" => Ok(Format::Unix(1_000_000_000)),
            text if text.contains('%') => Ok(Format::Strftime(text.to_owned())),
            text => Err(TimestampError::Format(text.to_owned())),
        };
        let zone = file.zone.as_deref().unwrap_or("UTC");
        Ok(Self {
            field: file.field.clone(),
            formats: file.formats.iter().map(format).collect::<Result<_, _>>()?,
            to: file.to.clone(),
            zone: offset(zone).ok_or_else(|| TimestampError::Zone(zone.to_owned()))?,
            on_error: file.on_error,
        })
    }

    /// Reads the row's time.
    ///
    /// # Errors
    /// It cannot be read, and that is not to be ignored.
    pub fn run(&self, row: &mut Row) -> Result<(), String> {
        let Some(value) = row.get(&self.field).filter(|value| !value.is_null()) else {
            return Ok(());
        };
        let read = self
            .formats
            .iter()
            .find_map(|format| self.read(format, value));
        match read {
            Some(at) => {
                row.insert(self.to.clone(), at.to_string().into());
                Ok(())
            }
            None if self.on_error == OnError::Ignore => Ok(()),
            None => Err(format!(
                "its {} is no time in any of the formats",
                self.field
            )),
        }
    }

    fn read(&self, format: &Format, value: &Value) -> Option<jiff::Timestamp> {
        match format {
            Format::Rfc3339 => value.as_str()?.parse().ok(),
            Format::Unix(to_second) => unix(value, *to_second),
            Format::Strftime(format) => {
                let broken = strtime::parse(format, value.as_str()?).ok()?;
                if broken.offset().is_some() {
                    return broken.to_timestamp().ok();
                }
                self.zone.to_timestamp(broken.to_datetime().ok()?).ok()
            }
        }
    }
}

fn unix(value: &Value, to_second: i128) -> Option<jiff::Timestamp> {
    let text;
    let digits = match value {
        Value::String(text) => text.as_str(),
        Value::Number(number) => {
            text = number.to_string();
            text.as_str()
        }
        _ => return None,
    };
    let nanos_each = 1_000_000_000 / to_second;
    let nanos = match digits.parse::<i64>() {
        Ok(whole) => i128::from(whole).checked_mul(nanos_each)?,
        Err(_) => fraction(digits, nanos_each)?,
    };
    jiff::Timestamp::from_nanosecond(nanos).ok()
}

/// `1764000000.123456`, exactly: a double would lose the last digits.
fn fraction(digits: &str, nanos_each: i128) -> Option<i128> {
    let (whole, part) = digits.split_once('.')?;
    let negative = whole.starts_with('-');
    let whole: i128 = whole.parse::<i64>().ok()?.into();
    if part.is_empty() || part.len() > 18 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let scale = 10_i128.pow(u32::try_from(part.len()).ok()?);
    let part = part.parse::<i128>().ok()? * nanos_each / scale;
    let whole = whole.checked_mul(nanos_each)?;
    Some(if negative { whole - part } else { whole + part })
}

fn offset(text: &str) -> Option<Offset> {
    if matches!(text, "UTC" | "Z") {
        return Some(Offset::UTC);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let number = |text: &str, below: i32| {
        let two = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|n: &i32| two && *n < below)
    };
    let seconds = number(hours, 24)? * 3600 + number(minutes, 60)? * 60;
    Offset::from_seconds(sign * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str, value: Value) -> Result<String, String> {
        let file: TimestampFile = toml::from_str(&format!("field='t'\n{file}")).unwrap();
        let mut row = Row::from_iter([("t".to_owned(), value)]);
        Timestamp::new(&file).unwrap().run(&mut row)?;
        Ok(row.get("time").map_or_else(String::new, |time| {
            time.as_str().unwrap_or_default().to_owned()
        }))
    }

    #[test]
    fn times_as_programs_write_them() {
        let all =
            "formats=['rfc3339','unix','%d/%b/%Y:%H:%M:%S %z','%Y-%m-%d %H:%M:%S']\nzone='+02:00'";
        for (value, expected) in [
            (
                Value::from("2024-02-29T23:00:00+02:00"),
                "2024-02-29T21:00:00Z",
            ),
            (1_764_000_000.into(), "2025-11-24T16:00:00Z"),
            ("1764000000.25".into(), "2025-11-24T16:00:00.25Z"),
            ((-1).into(), "1969-12-31T23:59:59Z"),
            ("10/Oct/2000:13:55:36 -0700".into(), "2000-10-10T20:55:36Z"),
            ("2024-07-01 02:00:00".into(), "2024-07-01T00:00:00Z"),
            ("0001-01-02 00:00:00".into(), "0001-01-01T22:00:00Z"),
            (Value::Null, ""),
        ] {
            assert_eq!(read(all, value.clone()).as_deref(), Ok(expected), "{value}");
        }
        assert_eq!(
            read("formats=['unix_ms']", 1_764_000_000_123_i64.into()).unwrap(),
            "2025-11-24T16:00:00.123Z"
        );
        for (unit, digits) in [("unix_us", "123"), ("unix_ns", "123456")] {
            assert_eq!(
                read(
                    &format!("formats=['{unit}']"),
                    format!("1764000000123{digits}").into()
                )
                .unwrap(),
                format!("2025-11-24T16:00:00.123{digits}Z")
            );
        }
        for bad in [
            Value::from("soon"),
            i64::MAX.into(),
            true.into(),
            "99999-01-01 00:00:00".into(),
        ] {
            assert!(read(all, bad.clone()).is_err(), "{bad}");
            assert_eq!(read(&format!("{all}\non_error='ignore'"), bad).unwrap(), "");
        }
    }

    #[test]
    fn zones_are_offsets() {
        for (zone, fits) in [
            ("UTC", true),
            ("-03:30", true),
            ("+2", false),
            ("Europe/Berlin", false),
        ] {
            assert_eq!(offset(zone).is_some(), fits, "{zone}");
        }
    }
}
