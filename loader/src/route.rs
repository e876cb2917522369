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

mod part;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use self::part::confine;
use self::part::{TimePiece, minute, time_pieces, write_time};
use crate::name::{KEY_BYTES_MAX, PART_BYTES_MAX, PREFIX_BYTES_MAX, file_bytes_max};
use crate::peek::{FIELDS_MAX, Field, Fields};
use crate::transform::{Part, parse_template};

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

impl PathTemplate {
    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

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

#[cfg(test)]
mod tests;
