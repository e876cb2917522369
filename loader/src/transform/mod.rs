//! The declarative steps: what configuration does to a row. Pure: a row and the tables in, the row
//! or nothing out.
//!
//! ```toml
//! [[transform]]
//! step = "filter"            # keep the row only where the condition holds
//! field = "level"
//! in = ["warn", "error"]     # or: not_in = [...], exists = true | false
//!
//! [[transform]]
//! step = "set"               # a constant, or a text made of fields
//! field = "origin"
//! value = "{device}/{source}"
//!
//! [[transform]]
//! step = "rename"
//! from = "message"
//! to = "line"
//!
//! [[transform]]
//! step = "lookup"            # columns of a CSV table, by the value of a field
//! table = "/etc/headwater/sites.csv"
//! field = "device"           # of the row
//! column = "device"          # of the table; the same name as the field by default
//! add = ["site", "customer"] # all other columns by default
//! ```

pub mod lookup;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::transform::lookup::{Table, TableError};

/// A row on its way from a record to an object.
pub type Row = Map<String, Value>;

/// One `[[transform]]`, as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "lowercase", deny_unknown_fields)]
pub enum StepFile {
    /// Keeps the row only where the one condition that is given holds.
    Filter {
        /// The field that is looked at.
        field: String,
        /// Its value is one of these.
        #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
        one_of: Option<Vec<Value>>,
        /// Its value is none of these; a missing field is kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_in: Option<Vec<Value>>,
        /// The field is there (true), or is not (false).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exists: Option<bool>,
    },
    /// Puts a value into a field.
    Set {
        /// The field.
        field: String,
        /// A constant; in a text, `{name}` stands for a field of the row and `{{` for a brace.
        value: Value,
    },
    /// Gives a field another name; nothing where it is missing.
    Rename {
        /// The name it has.
        from: String,
        /// The name it gets; a field of that name is replaced.
        to: String,
    },
    /// Adds columns of a CSV table.
    Lookup {
        /// Path of the table, with a header line.
        table: PathBuf,
        /// The row's field that is looked up.
        field: String,
        /// The table's column that it is looked up in; the field's name by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        column: Option<String>,
        /// The columns to add; all others by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        add: Option<Vec<String>>,
    },
}

/// One step, ready to run.
#[derive(Debug, Clone)]
pub enum Step {
    /// Keeps the row where the condition holds.
    Filter {
        /// The field that is looked at.
        field: String,
        /// What must hold.
        condition: Condition,
    },
    /// Puts a value into a field.
    Set {
        /// The field.
        field: String,
        /// The value.
        value: Setting,
    },
    /// Gives a field another name.
    Rename {
        /// The name it has.
        from: String,
        /// The name it gets.
        to: String,
    },
    /// Adds columns of a table.
    Lookup {
        /// The row's field that is looked up.
        field: String,
        /// The table, with only the columns that are added.
        table: Table,
    },
}

/// What a filter asks.
#[derive(Debug, Clone)]
pub enum Condition {
    /// The value is one of these.
    OneOf(Vec<Value>),
    /// The value is none of these.
    NotIn(Vec<Value>),
    /// The field is there.
    Exists,
    /// The field is not there.
    Missing,
}

/// What a `set` puts.
#[derive(Debug, Clone)]
pub enum Setting {
    /// Always this.
    Constant(Value),
    /// Text and fields, in turn.
    Template(Vec<Part>),
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Literal text.
    Text(String),
    /// What stands between braces.
    Field(String),
}

/// A transform that cannot run as it is written.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// None, or more than one.
    #[error("a filter has exactly one of `in`, `not_in` and `exists`")]
    Conditions,
    /// Unbalanced braces.
    #[error("{0:?}: `{{name}}` stands for a field, `{{{{` and `}}}}` for braces")]
    Template(String),
    /// The table does not fit.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl Step {
    /// Makes a step ready. `table`: the content of the table that a lookup names.
    ///
    /// # Errors
    /// See [`StepError`].
    pub fn new(file: &StepFile, table: Option<&[u8]>) -> Result<Self, StepError> {
        Ok(match file {
            StepFile::Filter {
                field,
                one_of,
                not_in,
                exists,
            } => {
                let condition = match (one_of, not_in, exists) {
                    (Some(values), None, None) => Condition::OneOf(values.clone()),
                    (None, Some(values), None) => Condition::NotIn(values.clone()),
                    (None, None, Some(true)) => Condition::Exists,
                    (None, None, Some(false)) => Condition::Missing,
                    _ => return Err(StepError::Conditions),
                };
                Self::Filter {
                    field: field.clone(),
                    condition,
                }
            }
            StepFile::Set { field, value } => Self::Set {
                field: field.clone(),
                value: Setting::new(value)?,
            },
            StepFile::Rename { from, to } => Self::Rename {
                from: from.clone(),
                to: to.clone(),
            },
            StepFile::Lookup {
                table: _,
                field,
                column,
                add,
            } => Self::Lookup {
                field: field.clone(),
                table: Table::read(
                    table.unwrap_or_default(),
                    column.as_deref().unwrap_or(field),
                    add.as_deref(),
                )?,
            },
        })
    }

    /// Does the step. `false`: the row is filtered out.
    pub fn run(&self, row: &mut Row) -> bool {
        match self {
            Self::Filter { field, condition } => return condition.holds(row.get(field)),
            Self::Set { field, value } => {
                let value = value.value(row);
                row.insert(field.clone(), value);
            }
            Self::Rename { from, to } => {
                if from != to
                    && let Some(value) = row.shift_remove(from)
                {
                    row.insert(to.clone(), value);
                }
            }
            Self::Lookup { field, table } => {
                let hit = row.get(field).and_then(|value| table.find(value));
                let columns: Vec<(String, Value)> = hit
                    .into_iter()
                    .flatten()
                    .map(|(name, value)| (name.to_owned(), value.into()))
                    .collect();
                row.extend(columns);
            }
        }
        true
    }
}

impl Condition {
    fn holds(&self, value: Option<&Value>) -> bool {
        match self {
            Self::OneOf(values) => value.is_some_and(|value| values.contains(value)),
            Self::NotIn(values) => !value.is_some_and(|value| values.contains(value)),
            Self::Exists => value.is_some(),
            Self::Missing => value.is_none(),
        }
    }
}

impl Setting {
    fn new(value: &Value) -> Result<Self, StepError> {
        let Value::String(text) = value else {
            return Ok(Self::Constant(value.clone()));
        };
        let parts = parse_template(text).ok_or_else(|| StepError::Template(text.clone()))?;
        Ok(match parts.as_slice() {
            [] => Self::Constant(Value::String(String::new())),
            [Part::Text(constant)] => Self::Constant(Value::String(constant.clone())),
            _ => Self::Template(parts),
        })
    }

    fn value(&self, row: &Row) -> Value {
        match self {
            Self::Constant(value) => value.clone(),
            Self::Template(parts) => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Part::Text(literal) => text.push_str(literal),
                        Part::Field(name) => text.push_str(&Shown(row.get(name)).to_string()),
                    }
                }
                Value::String(text)
            }
        }
    }
}

/// A field's value in a text: strings as they are, a missing field as nothing, the rest as JSON.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub Option<&'a Value>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(text)) => f.write_str(text),
            Some(other) => write!(f, "{other}"),
        }
    }
}

/// Splits `text{field}text`. `None` where braces do not match or a field has no name.
pub fn parse_template(text: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '{' | '}' if rest.peek() == Some(&c) => {
                rest.next();
                literal.push(c);
            }
            '{' => {
                let mut name = String::new();
                loop {
                    match rest.next()? {
                        '}' => break,
                        '{' => return None,
                        c => name.push(c),
                    }
                }
                if name.is_empty() {
                    return None;
                }
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(Part::Field(name));
            }
            '}' => return None,
            c => literal.push(c),
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str, table: Option<&[u8]>) -> Result<Step, String> {
        let file: StepFile = toml::from_str(text).map_err(|error| error.to_string())?;
        Step::new(&file, table).map_err(|error| error.to_string())
    }

    fn run(text: &str, row: &str) -> Option<String> {
        let mut row: Row = serde_json::from_str(row).unwrap();
        let kept = step(text, Some(b"id,site,floor\npi-7,Ulm,3\npi-8,Bonn,\n"))
            .unwrap()
            .run(&mut row);
        kept.then(|| serde_json::to_string(&row).unwrap())
    }

    #[test]
    fn each_step() {
        let row = r#"{"device":"pi-7","n":1,"level":"info"}"#;
        for (step, expected) in [
            (
                "step='filter'\nfield='level'\nin=['info','warn']",
                Some(row),
            ),
            ("step='filter'\nfield='level'\nin=['warn']", None),
            ("step='filter'\nfield='gone'\nin=['warn']", None),
            ("step='filter'\nfield='gone'\nnot_in=['warn']", Some(row)),
            ("step='filter'\nfield='n'\nnot_in=[1]", None),
            ("step='filter'\nfield='n'\nexists=true", Some(row)),
            ("step='filter'\nfield='n'\nexists=false", None),
            (
                "step='set'\nfield='n'\nvalue=2.5",
                Some(r#"{"device":"pi-7","n":2.5,"level":"info"}"#),
            ),
            (
                "step='set'\nfield='at'\nvalue='{device}/{n}{gone}/{{x}}'",
                Some(r#"{"device":"pi-7","n":1,"level":"info","at":"pi-7/1/{x}"}"#),
            ),
            (
                "step='rename'\nfrom='n'\nto='m'",
                Some(r#"{"device":"pi-7","level":"info","m":1}"#),
            ),
            ("step='rename'\nfrom='gone'\nto='n'", Some(row)),
            (
                "step='rename'\nfrom='n'\nto='level'",
                Some(r#"{"device":"pi-7","level":1}"#),
            ),
            (
                "step='lookup'\ntable='t'\nfield='device'\ncolumn='id'",
                Some(r#"{"device":"pi-7","n":1,"level":"info","site":"Ulm","floor":"3"}"#),
            ),
            (
                "step='lookup'\ntable='t'\nfield='device'\ncolumn='id'\nadd=['floor']",
                Some(r#"{"device":"pi-7","n":1,"level":"info","floor":"3"}"#),
            ),
            (
                "step='lookup'\ntable='t'\nfield='level'\ncolumn='id'",
                Some(row),
            ),
        ] {
            assert_eq!(run(step, row).as_deref(), expected, "{step}");
        }
    }

    #[test]
    fn what_is_refused() {
        for bad in [
            "step='filter'\nfield='a'",
            "step='filter'\nfield='a'\nin=[1]\nexists=true",
            "step='set'\nfield='a'\nvalue='{b'",
            "step='set'\nfield='a'\nvalue='{}'",
            "step='lookup'\ntable='t'\nfield='device'",
            "step='lookup'\ntable='t'\nfield='device'\ncolumn='id'\nadd=['nope']",
            "step='filtr'\nfield='a'",
            "step='rename'\nfrom='a'\nto='b'\nextra=1",
        ] {
            assert!(step(bad, Some(b"id,site\n")).is_err(), "{bad}");
        }
    }
}
