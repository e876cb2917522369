//! `parse`: a text becomes fields.
//!
//! ```toml
//! { step = "parse", format = "json" }                 # an object; numbers are 64 bits or doubles
//! { step = "parse", format = "logfmt" }               # level=info msg="it works"
//! { step = "parse", format = "key_value", separator = ";", assign = ":" }
//! { step = "parse", format = "regex", pattern = '^(?<method>\w+) (?<path>\S+)' }
//! { step = "parse", format = "syslog" }               # RFC 5424 where it says so, else RFC 3164
//! { step = "parse", format = "cri" }                  # containerd, CRI-O: time, stream, F or P
//! { step = "parse", format = "docker" }               # Docker's json-file, named as cri's fields
//! { step = "parse", format = "csv", columns = ["time", "level", "text"] }
//! ```
//!
//! The fields take the place of the field that was parsed (`message`), or go into one object
//! (`into`). A text that is not of the format stays as it is, and `parse_error` says what is wrong
//! with it, unless `on_error` has it otherwise (`ignore`, `drop`; the loader's `dead_letter`). What is no
//! text, or not there, is not parsed.

pub mod cri;
mod csv;
mod docker;
mod key_value;
mod logfmt;
mod syslog;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Engine, Pattern, RESERVED, Row, StepError};

/// Most fields that a text may become, JSON apart: a line of separators must not take a device's
/// memory.
pub const FIELDS_MAX: usize = 1000;
/// The field that says what a text was not.
pub const PARSE_ERROR: &str = "parse_error";

/// What a text is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object.
    Json,
    /// `key=value key="a value" flag`
    Logfmt,
    /// `key=value`, with separators as configured.
    KeyValue,
    /// The named groups of a pattern.
    Regex,
    /// RFC 5424 where it begins like that, else RFC 3164.
    Syslog,
    /// The older syslog, as programs and files have it.
    #[serde(rename = "syslog_3164")]
    Syslog3164,
    /// The newer syslog.
    #[serde(rename = "syslog_5424")]
    Syslog5424,
    /// The log of a Kubernetes container runtime.
    Cri,
    /// Docker's json-file.
    Docker,
    /// One row of comma-separated values (RFC 4180).
    Csv,
}

/// What becomes of a row whose text is not of the format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It stays as it is, and `parse_error` says why.
    #[default]
    Mark,
    /// It stays as it is.
    Ignore,
    /// It is dropped.
    Drop,
    /// It is no row any more: it goes where such records are kept. Only where there is such a place.
    DeadLetter,
}

/// `parse`, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParseFile {
    /// What the text is taken for.
    pub format: Format,
    /// The field that is parsed; `message` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Whether it stays beside what is made of it; no by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_field: Option<bool>,
    /// The object that the fields go into; the row itself by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into: Option<String>,
    /// What becomes of a text that is not of the format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// Fields whose texts become numbers where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbers: Option<Vec<String>>,
    /// `regex`: the pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// `csv`: the names of the columns, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// `csv` (one ASCII character, `,` by default), `key_value` (a blank by default): what stands
    /// between two values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    /// `key_value`: what stands between key and value; `=` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assign: Option<String>,
}

/// `parse`, ready to run.
#[derive(Debug, Clone)]
pub struct Parse {
    field: String,
    keep_field: bool,
    into: Option<String>,
    on_error: OnError,
    numbers: Vec<String>,
    parser: Parser,
}

#[derive(Debug, Clone)]
enum Parser {
    Json,
    Logfmt,
    KeyValue { separator: String, assign: String },
    Regex(Pattern),
    Syslog(syslog::Which),
    Cri,
    Docker,
    Csv { columns: Vec<String>, separator: u8 },
}

/// What came of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    /// Fields, or there was none.
    Done,
    /// It is not of the format.
    Failed,
    /// It is not of the format, and the row goes for it.
    Drop,
    /// It is not of the format, and the row is refused for it: why.
    Refused(&'static str),
}

impl Parse {
    /// Makes it ready.
    ///
    /// # Errors
    /// A setting is missing, is none, or means nothing with this format.
    pub fn new(file: &ParseFile, engine: Engine) -> Result<Self, StepError> {
        let field = file.field.clone().unwrap_or_else(|| "message".to_owned());
        for (name, value) in [("field", Some(&field)), ("into", file.into.as_ref())] {
            if value.is_some_and(String::is_empty) {
                return Err(StepError::Empty(name));
            }
        }
        Ok(Self {
            field,
            keep_field: file.keep_field.unwrap_or(false),
            into: file.into.clone(),
            on_error: file.on_error.unwrap_or_default(),
            numbers: file.numbers.clone().unwrap_or_default(),
            parser: Parser::new(file, engine)?,
        })
    }

    pub(super) fn run(&self, row: &mut Row) -> Parsed {
        let Some(Value::String(text)) = row.get(&self.field) else {
            return Parsed::Done;
        };
        let mut fields = match self.parser.parse(text) {
            Ok(fields) => fields,
            Err(why) => {
                if self.on_error == OnError::Mark {
                    row.insert(PARSE_ERROR.into(), why.into());
                }
                return match self.on_error {
                    OnError::Drop => Parsed::Drop,
                    OnError::Mark | OnError::Ignore => Parsed::Failed,
                    OnError::DeadLetter => Parsed::Refused(why),
                };
            }
        };
        for name in &self.numbers {
            if let Some(value) = fields.get_mut(name)
                && let Some(number) = value.as_str().and_then(number)
            {
                *value = number;
            }
        }
        if !self.keep_field {
            row.shift_remove(&self.field);
        }
        match &self.into {
            Some(into) => {
                row.insert(into.clone(), fields.into());
            }
            None => {
                for (mut name, value) in fields {
                    if RESERVED.contains(&name.as_str()) {
                        name.push('_');
                    }
                    row.insert(name, value);
                }
            }
        }
        Parsed::Done
    }
}

impl Parser {
    fn new(file: &ParseFile, engine: Engine) -> Result<Self, StepError> {
        let format = file.format;
        let is = |formats: &[Format]| formats.contains(&format);
        for (name, given, belongs) in [
            ("pattern", file.pattern.is_some(), is(&[Format::Regex])),
            ("columns", file.columns.is_some(), is(&[Format::Csv])),
            (
                "separator",
                file.separator.is_some(),
                is(&[Format::Csv, Format::KeyValue]),
            ),
            ("assign", file.assign.is_some(), is(&[Format::KeyValue])),
        ] {
            if given && !belongs {
                return Err(StepError::Useless(name));
            }
        }
        Ok(match format {
            Format::Json => Self::Json,
            Format::Logfmt => Self::Logfmt,
            Format::KeyValue => {
                let text = |name, given: &Option<String>, default: &str| match given.as_deref() {
                    Some("") => Err(StepError::Empty(name)),
                    given => Ok(given.unwrap_or(default).to_owned()),
                };
                Self::KeyValue {
                    separator: text("separator", &file.separator, " ")?,
                    assign: text("assign", &file.assign, "=")?,
                }
            }
            Format::Regex => Self::Regex(named_groups(file, engine)?),
            Format::Syslog => Self::Syslog(syslog::Which::Either),
            Format::Syslog3164 => Self::Syslog(syslog::Which::Rfc3164),
            Format::Syslog5424 => Self::Syslog(syslog::Which::Rfc5424),
            Format::Cri => Self::Cri,
            Format::Docker => Self::Docker,
            Format::Csv => Self::Csv {
                columns: columns(file)?,
                separator: match file.separator.as_deref().unwrap_or(",").as_bytes() {
                    [byte] if byte.is_ascii() && !b"\"\r\n".contains(byte) => *byte,
                    _ => {
                        return Err(StepError::Needs {
                            format: "csv",
                            setting: "separator",
                            what: "one ASCII character, no quote and no line end",
                        });
                    }
                },
            },
        })
    }

    /// The fields of a text, or what is wrong with it.
    fn parse(&self, text: &str) -> Result<Row, &'static str> {
        match self {
            Self::Json => serde_json::from_str(text).map_err(|_| "not a JSON object"),
            Self::Logfmt => logfmt::parse(text),
            Self::KeyValue { separator, assign } => key_value::parse(text, separator, assign),
            Self::Regex(pattern) => {
                let groups = pattern.groups(text).ok_or("the pattern is not in it")?;
                let named = groups
                    .into_iter()
                    .map(|(name, text)| (name.to_owned(), text.into()));
                Ok(named.collect())
            }
            Self::Syslog(which) => syslog::parse(text, *which),
            Self::Cri => cri::parse(text),
            Self::Docker => docker::parse(text),
            Self::Csv { columns, separator } => csv::parse(text, columns, *separator),
        }
    }
}

fn named_groups(file: &ParseFile, engine: Engine) -> Result<Pattern, StepError> {
    let needs = StepError::Needs {
        format: "regex",
        setting: "pattern",
        what: "a pattern with a named group, `(?<name>…)`, for each field",
    };
    let pattern = Pattern::new(file.pattern.as_ref().ok_or_else(|| needs.clone())?, engine)?;
    if pattern.has_names() {
        Ok(pattern)
    } else {
        Err(needs)
    }
}

fn columns(file: &ParseFile) -> Result<Vec<String>, StepError> {
    let columns = file.columns.clone().unwrap_or_default();
    if columns.is_empty() || columns.len() > FIELDS_MAX || columns.iter().any(String::is_empty) {
        return Err(StepError::Needs {
            format: "csv",
            setting: "columns",
            what: "the name of each column, 1000 at most",
        });
    }
    Ok(columns)
}

/// The number that a text is: whole, or a finite double.
fn number(text: &str) -> Option<Value> {
    let whole = || text.parse::<i64>().ok().map(Value::from);
    let large = || text.parse::<u64>().ok().map(Value::from);
    let double = || serde_json::Number::from_f64(text.parse().ok()?).map(Value::Number);
    whole().or_else(large).or_else(double)
}

/// Puts a field in, up to the bound.
fn put(row: &mut Row, name: &str, value: Value) -> Result<(), &'static str> {
    if row.len() >= FIELDS_MAX {
        return Err("more than 1000 fields");
    }
    row.insert(name.to_owned(), value);
    Ok(())
}
