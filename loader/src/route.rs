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
//!
//! A path that would make a name which an output cannot hold is refused, and its row is a dead letter:
//! longer in all, or in one of its parts, than [`crate::name`] has it. The same for every output, since
//! what becomes of a record does not depend on where it goes.

use std::borrow::Cow;
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::name::{KEY_BYTES_MAX, PART_BYTES_MAX, PREFIX_BYTES_MAX, file_bytes_max};
use crate::peek::{FIELDS_MAX, Field, Fields};
use crate::transform::{Part, parse_template};

/// What Hive and Athena read as "no value".
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";
/// Longest value in a path, in bytes.
const VALUE_BYTES_MAX: usize = 128;
/// Longest path, in bytes; less with a long topic: see [`path_bytes_max`].
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
    /// More than are looked for.
    #[error("output.path {0:?}: it names more than 16 fields")]
    Fields(String),
    /// What stands in it alone is too long.
    #[error("output.path {0:?}: without any value {1}")]
    TooLong(String, TooLong),
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
    fields: Vec<String>,
    uses: Vec<Use>,
}

/// What a field of the row is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Only for its time.
    Time,
    /// As a value.
    Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(usize),
    Time(usize, Vec<TimePiece>),
    Ingest(Vec<TimePiece>),
}

/// One folder of a Hive-style path: `name={…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The partition column.
    pub name: String,
    /// What its values are.
    pub holds: Holds,
}

/// What a folder's values are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holds {
    /// A field's values.
    Value,
    /// Times in this format.
    Time(String),
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
        let mut template = Self {
            text,
            pieces: Vec::new(),
            fields: Vec::new(),
            uses: Vec::new(),
        };
        for part in parts {
            let piece = template.piece(part)?;
            template.pieces.push(piece);
        }
        if template.fields.len() > FIELDS_MAX {
            return Err(PathError::Fields(template.text));
        }
        Ok(template)
    }
}

impl From<PathTemplate> for String {
    fn from(template: PathTemplate) -> String {
        template.text
    }
}

impl PathTemplate {
    fn piece(&mut self, part: Part) -> Result<Piece, PathError> {
        Ok(match part {
            Part::Text(text) => Piece::Text(text),
            Part::Field(name) => match name.split_once(':') {
                Some(("time", format)) => {
                    let format = time_pieces(format)?;
                    Piece::Time(self.field("time", Use::Time), format)
                }
                Some(("ingest", format)) => Piece::Ingest(time_pieces(format)?),
                _ => Piece::Field(self.field(&name, Use::Value)),
            },
        })
    }

    fn field(&mut self, name: &str, used: Use) -> usize {
        let at = match self.fields.iter().position(|held| held == name) {
            Some(at) => at,
            None => {
                self.fields.push(name.to_owned());
                self.uses.push(used);
                self.fields.len() - 1
            }
        };
        if used == Use::Value {
            self.uses[at] = Use::Value;
        }
        at
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
    /// The fields of a row that the path is made of.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// The folders of a Hive-style path.
    ///
    /// # Errors
    /// A part that is not `name=` and one `{…}` behind it.
    pub fn folders(&self) -> Result<Vec<Folder>, String> {
        let mut folders = Vec::new();
        for part in self.text.split('/').filter(|part| !part.is_empty()) {
            let folder = part.split_once('=').and_then(|(name, value)| {
                let inner = value.strip_prefix('{')?.strip_suffix('}')?;
                let plain = !name.is_empty() && !name.contains(['{', '}']);
                let holds = match inner.split_once(':') {
                    Some(("time" | "ingest", format)) => Holds::Time(format.to_owned()),
                    _ => Holds::Value,
                };
                (plain && !inner.contains(['{', '}'])).then(|| Folder {
                    name: name.to_owned(),
                    holds,
                })
            });
            folders.push(folder.ok_or_else(|| {
                format!("output.path: a table wants each part as name=value with one {{…}}, and {part:?} is not")
            })?);
        }
        Ok(folders)
    }

    /// Whether what stands in it alone, without a value or a time, fits.
    ///
    /// # Errors
    /// No row could have a path: see [`TooLong`].
    pub fn fits(&self, topic: &str) -> Result<(), PathError> {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Field(_) | Piece::Time(..) | Piece::Ingest(_) => String::new(),
        };
        let fixed: String = self.pieces.iter().map(text).collect();
        fits(&fixed, topic).map_err(|error| PathError::TooLong(self.text.clone(), error))
    }

    /// Writes the path of a row of a topic to `memo.path`, from the fields in the order of
    /// [`PathTemplate::fields`]. Neighbours mostly share their path, and a path is dear to make: so
    /// it is made again only where what it is made of differs.
    ///
    /// # Errors
    /// It is too long for a name.
    pub fn path(
        &self,
        fields: &Fields<'_>,
        (topic, clock_ms): (&str, u64),
        memo: &mut PathMemo,
    ) -> Result<Same, TooLong> {
        memo.key.clear();
        memo.key.extend_from_slice(&clock_ms.to_le_bytes());
        for (field, used) in fields.iter().zip(&self.uses) {
            let text = field.as_ref().map_or(Cow::Borrowed(""), Field::shown);
            let text = match used {
                Use::Time => minute(&text).unwrap_or(&text),
                Use::Value => &text,
            };
            memo.key.extend_from_slice(&text.len().to_le_bytes());
            memo.key.extend_from_slice(text.as_bytes());
        }
        if memo.valid && memo.key == memo.last {
            return Ok(Same::AsBefore);
        }
        memo.path.clear();
        self.write(fields, clock_ms, &mut memo.path);
        std::mem::swap(&mut memo.key, &mut memo.last);
        let fits = fits(&memo.path, topic);
        memo.valid = fits.is_ok();
        fits.map(|()| Same::No)
    }

    fn write(&self, fields: &Fields<'_>, clock_ms: u64, path: &mut String) {
        let field = |at: usize| fields.get(at).and_then(Option::as_ref);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => path.push_str(text),
                Piece::Field(at) => {
                    confine(&field(*at).map_or(Cow::Borrowed(""), Field::shown), path);
                }
                Piece::Time(at, format) => {
                    let event = field(*at)
                        .and_then(Field::text)
                        .and_then(|text| text.parse().ok());
                    write_time(event, clock_ms, format, path);
                }
                Piece::Ingest(format) => write_time(None, clock_ms, format, path),
            }
        }
        // Only a value can put one of our own names in front: the template's text cannot.
        if path.starts_with("_headwater") || path.starts_with(DEAD_LETTERS) {
            path.replace_range(..1, "%5F");
        }
    }
}

/// The last path that was made, and of what.
#[derive(Debug, Clone, Default)]
pub struct PathMemo {
    /// The path.
    pub path: String,
    key: Vec<u8>,
    last: Vec<u8>,
    valid: bool,
}

/// Whether a row's path is the one of the row before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Same {
    /// It is.
    AsBefore,
    /// It may be another.
    No,
}

/// A path that no name can be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TooLong {
    /// As a whole.
    #[error("its path is longer than {0} bytes")]
    Path(usize),
    /// Between two slashes: a folder's name on a disk.
    #[error("a part of its path is longer than {PART_BYTES_MAX} bytes")]
    Part,
}

/// Longest path of rows of a topic, in bytes: what prefix and file name leave of a key.
fn path_bytes_max(topic: &str) -> usize {
    // Of each a slash behind it.
    let beside = PREFIX_BYTES_MAX + 1 + 1 + file_bytes_max(topic);
    KEY_BYTES_MAX.saturating_sub(beside).min(PATH_BYTES_MAX)
}

fn fits(path: &str, topic: &str) -> Result<(), TooLong> {
    let most = path_bytes_max(topic);
    if path.len() > most {
        return Err(TooLong::Path(most));
    }
    match path.split('/').any(|part| part.len() > PART_BYTES_MAX) {
        true => Err(TooLong::Part),
        false => Ok(()),
    }
}

/// The part of a plain UTC time, `YYYY-MM-DDThh:mm:ss[.fraction]Z`, that a path can depend on: up to
/// the minute. `None` where it is written otherwise. Whether there is such a day does not matter
/// here: what the first of its kind was read as holds for all.
fn minute(text: &str) -> Option<&str> {
    let layout = b"0000-00-00T00:00:";
    let (head, tail) = text.as_bytes().split_at_checked(layout.len())?;
    let fits = |(have, want): (&u8, &u8)| match want {
        b'0' => have.is_ascii_digit(),
        want => have == want,
    };
    let fraction_fits = match tail {
        [b'0'..=b'5', b'0'..=b'9', b'Z'] => true,
        [b'0'..=b'5', b'0'..=b'9', b'.', digits @ .., b'Z'] => {
            (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    let plain = fraction_fits && head.iter().zip(layout).all(fits);
    text.get(..16).filter(|_| plain)
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

/// Writes a value as a part of a path: see the module's head.
pub(crate) fn confine(value: &str, path: &mut String) {
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
    use crate::peek::peek;
    use proptest::prelude::*;

    const CLOCK: u64 = 1_764_000_000_123;

    fn path(template: &str, row: &str) -> Option<String> {
        let template = PathTemplate::try_from(template.to_owned()).unwrap();
        let fields = peek(row, template.fields()).unwrap();
        let mut memo = PathMemo::default();
        let made = template.path(&fields, ("logs", CLOCK), &mut memo);
        made.ok().map(|_| memo.path)
    }

    /// What a path of two fields, each of so many bytes, comes to.
    fn long(template: &str, topic: &str, bytes: [usize; 2]) -> Result<usize, TooLong> {
        let template = PathTemplate::try_from(template.to_owned()).unwrap();
        let [a, b] = bytes.map(|n| "x".repeat(n));
        let row = serde_json::json!({ "a": a, "b": b }).to_string();
        let fields = peek(&row, template.fields()).unwrap();
        let mut memo = PathMemo::default();
        let made = template.path(&fields, (topic, CLOCK), &mut memo);
        // And what was refused is not what the next one finds.
        assert_eq!(
            template.path(&fields, (topic, CLOCK), &mut memo).is_ok(),
            made.is_ok()
        );
        made.map(|_| memo.path.len())
    }

    /// A disk has no name above 255 bytes: a row with one would be tried for ever.
    #[test]
    fn a_part_of_a_path_fits_a_folders_name() {
        assert_eq!(long("x/{a}{b}", "t", [127, 128]), Ok(257));
        assert_eq!(long("x/{a}{b}", "t", [128, 128]), Err(TooLong::Part));
        assert_eq!(long("{a}/{b}", "t", [128, 128]), Ok(257));
        let text = |bytes| PathTemplate::try_from("y".repeat(bytes) + "{a}/z").unwrap();
        assert_eq!(text(255).fits("t"), Ok(()));
        let said = text(256).fits("t").unwrap_err().to_string();
        assert!(
            said.contains("a part of its path is longer than 255"),
            "{said}"
        );
    }

    #[test]
    fn a_path_leaves_a_key_room_for_a_long_topic() {
        let six = "{a}/{a}/{a}/{a}/{b}/x";
        let at_most = |topic: &str| {
            let made: Vec<_> = (1..=128).map(|n| long(six, topic, [128, n])).collect();
            made.iter().filter_map(|made| made.ok()).max().unwrap_or(0)
        };
        assert_eq!(at_most("logs"), PATH_BYTES_MAX);
        let topic = "t".repeat(200);
        let most = KEY_BYTES_MAX - PREFIX_BYTES_MAX - 2 - file_bytes_max(&topic);
        assert_eq!(at_most(&topic), most);
        assert_eq!(long(six, &topic, [128, 128]), Err(TooLong::Path(most)));
        assert_eq!(path_bytes_max(&"t".repeat(2000)), 0);
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
            let row = serde_json::json!({ "a": value }).to_string();
            let path = path("x/{a}/y", &row).unwrap();
            let parts: Vec<&str> = path.split('/').collect();
            prop_assert_eq!(parts.len(), 3);
            prop_assert!(!parts[1].is_empty() && parts[1] != "." && parts[1] != "..");
            prop_assert!(path.bytes().all(|b| b.is_ascii_graphic()));
        }

        /// A path from the memo is the path that would have been made.
        #[test]
        fn the_memo_changes_nothing(
            rows in prop::collection::vec((
                "[ab]?", "2024-0[12]-(29|30|31)T1[01]:(09|10|60):(00|59|60)(\\.[0-9]{0,10})?(Z|z|\\+01:00)|x?",
            ), 1..12),
            clock in 0_u64..2,
        ) {
            for text in ["{s}/{time:%Y-%m-%d}/{time:%H.%M}", "{s}/{time:%M}/{time}"] {
                let template = PathTemplate::try_from(text.to_owned()).unwrap();
                let mut memo = PathMemo::default();
                let mut before = None;
                for (source, time) in &rows {
                    let row = serde_json::json!({ "s": source, "time": time }).to_string();
                    let fields = peek(&row, template.fields()).unwrap();
                    let same = template.path(&fields, ("logs", clock * 60_000), &mut memo).unwrap();
                    let mut plain = String::new();
                    template.write(&fields, clock * 60_000, &mut plain);
                    prop_assert_eq!(&memo.path, &plain);
                    prop_assert!(same == Same::No || before == Some(plain.clone()));
                    before = Some(plain);
                }
            }
        }
    }
}
