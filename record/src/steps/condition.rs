//! What `keep` and `drop` ask of a row.
//!
//! ```toml
//! in = ["warn", "error"]     # or not_in: the field is missing, or none of these
//! exists = true              # or false
//! matches = "^GET "          # or not_matches: the field is missing, or looks otherwise
//! at_least = 500             # and, with or without it, at_most; a text that is a number counts
//! ```

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::field::{Shown, get};
use super::{Engine, Pattern, Row, StepError};

/// A condition, as written: a field, and exactly one thing that is asked of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionFile {
    /// The field that is looked at; with a slash before it, a JSON pointer.
    pub field: String,
    /// Its value is one of these.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<Value>>,
    /// Its value is none of these, or it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_in: Option<Vec<Value>>,
    /// The field is there (true), or is not (false).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
    /// The pattern is found in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// The pattern is not found in it, or it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_matches: Option<String>,
    /// It is a number, and not below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// It is a number, and not above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
}

/// A condition, ready to ask.
#[derive(Debug, Clone)]
pub struct Condition {
    field: String,
    asked: Asked,
}

#[derive(Debug, Clone)]
enum Asked {
    OneOf(Vec<Value>),
    NotIn(Vec<Value>),
    Exists(bool),
    Matches(Pattern),
    NotMatches(Pattern),
    Between(f64, f64),
}

impl Condition {
    /// Makes a condition ready.
    ///
    /// # Errors
    /// Not exactly one thing is asked, or a pattern cannot be used.
    pub fn new(file: &ConditionFile, engine: Engine) -> Result<Self, StepError> {
        let compile = |pattern: &str| Pattern::new(pattern, engine);
        let asked = [
            file.one_of.clone().map(|values| Ok(Asked::OneOf(values))),
            file.not_in.clone().map(|values| Ok(Asked::NotIn(values))),
            file.exists.map(|there| Ok(Asked::Exists(there))),
            (file.matches.as_deref()).map(|pattern| compile(pattern).map(Asked::Matches)),
            (file.not_matches.as_deref()).map(|pattern| compile(pattern).map(Asked::NotMatches)),
            (file.at_least.is_some() || file.at_most.is_some()).then(|| {
                let least = file.at_least.unwrap_or(f64::NEG_INFINITY);
                Ok(Asked::Between(least, file.at_most.unwrap_or(f64::INFINITY)))
            }),
        ];
        let mut asked = asked.into_iter().flatten();
        let (Some(only), None) = (asked.next(), asked.next()) else {
            return Err(StepError::Conditions);
        };
        if file.field.is_empty() {
            return Err(StepError::Empty("field"));
        }
        Ok(Self {
            field: file.field.clone(),
            asked: only?,
        })
    }

    /// Whether it holds of a row.
    pub fn holds(&self, row: &Row) -> bool {
        let value = get(row, &self.field);
        match &self.asked {
            Asked::OneOf(values) => value.is_some_and(|value| values.contains(value)),
            Asked::NotIn(values) => !value.is_some_and(|value| values.contains(value)),
            Asked::Exists(there) => value.is_some() == *there,
            Asked::Matches(pattern) => value.is_some_and(|value| found(pattern, value)),
            Asked::NotMatches(pattern) => !value.is_some_and(|value| found(pattern, value)),
            Asked::Between(least, most) => value
                .and_then(number)
                .is_some_and(|number| (*least..=*most).contains(&number)),
        }
    }
}

fn found(pattern: &Pattern, value: &Value) -> bool {
    match value {
        Value::String(text) => pattern.is_in(text),
        other => pattern.is_in(&Shown(Some(other)).to_string()),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}
