//! Covers what must not leave the device.
//!
//! ```toml
//! { step = "redact", pattern = '\b\d{16}\b' }              # wherever it stands in the row
//! { step = "redact", fields = ["user", "/auth/token"] }    # these values, whole
//! { step = "redact", fields = ["url"], pattern = 'key=[^&]*', replace = "key=*" }
//! ```
//!
//! With a pattern, texts are searched at any depth, and numbers as the text that JSON writes for
//! them; a number in which it is found becomes a text. Names of fields are not searched.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::field::get_mut;
use super::{Engine, Pattern, Row, StepError, TEXT_BYTES_MAX};

/// What stands where something was covered.
const COVER: &str = "[redacted]";
/// Longest `replace`, bytes: a short match must not make a long text.
const REPLACE_BYTES_MAX: usize = 64;

/// `redact`, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedactFile {
    /// Which fields (with a slash before them, JSON pointers); every one where there is a pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<String>>,
    /// What is covered of them; all of it where there is no pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// What stands there instead, as it is: `[redacted]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<String>,
}

/// `redact`, ready to run.
#[derive(Debug, Clone)]
pub struct Redact {
    fields: Option<Vec<String>>,
    pattern: Option<Pattern>,
    cover: String,
}

impl Redact {
    /// Makes it ready.
    ///
    /// # Errors
    /// Neither a field nor a pattern is named, or the pattern cannot be used.
    pub fn new(file: &RedactFile, engine: Engine) -> Result<Self, StepError> {
        let empty = file
            .fields
            .as_ref()
            .map_or(file.pattern.is_none(), Vec::is_empty);
        if empty {
            return Err(StepError::Empty("fields"));
        }
        let cover = file.replace.as_deref().unwrap_or(COVER);
        if cover.len() > REPLACE_BYTES_MAX {
            return Err(StepError::TooLong("replace"));
        }
        let pattern = (file.pattern.as_deref()).map(|pattern| Pattern::new(pattern, engine));
        Ok(Self {
            fields: file.fields.clone(),
            pattern: pattern.transpose()?,
            cover: cover.to_owned(),
        })
    }

    /// Covers it.
    pub fn run(&self, row: &mut Row) {
        match &self.fields {
            None => row.values_mut().for_each(|value| self.cover(value)),
            Some(fields) => {
                for field in fields {
                    if let Some(value) = get_mut(row, field) {
                        self.cover(value);
                    }
                }
            }
        }
    }

    /// Parsed JSON is 128 levels deep at most: so deep goes this, too.
    fn cover(&self, value: &mut Value) {
        let Some(pattern) = &self.pattern else {
            *value = self.cover.as_str().into();
            return;
        };
        match value {
            Value::String(text) => {
                if let Some(covered) = self.covered(pattern, text) {
                    *text = covered;
                }
            }
            Value::Number(number) => {
                if let Some(covered) = self.covered(pattern, &number.to_string()) {
                    *value = covered.into();
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.cover(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.cover(value)),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// The text with every match covered; `None` where there is none. What matches nothing (`x*`
    /// between two letters) is no match.
    fn covered(&self, pattern: &Pattern, text: &str) -> Option<String> {
        let mut covered = String::new();
        let mut copied = 0;
        for found in pattern.matches(text).filter(|found| !found.is_empty()) {
            covered.push_str(&text[copied..found.start]);
            covered.push_str(&self.cover);
            copied = found.end;
            if covered.len() > TEXT_BYTES_MAX {
                return Some(self.cover.clone());
            }
        }
        if copied == 0 {
            return None;
        }
        covered.push_str(&text[copied..]);
        Some(covered)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn redact(file: &Value, row: &Value) -> Value {
        let file: RedactFile = serde_json::from_value(file.clone()).unwrap();
        let mut row = Row::from(row.as_object().unwrap().clone());
        Redact::new(&file, Engine::Small).unwrap().run(&mut row);
        row.into()
    }

    #[test]
    fn matches_are_covered_wherever_they_stand() {
        let row = json!({"a": "card 4111111111111111, and 4111111111111111", "n": 4_111_111_111_111_111_u64,
                         "o": {"l": ["4111111111111111", null, true, 12]}, "4111111111111111": 1});
        assert_eq!(
            redact(&json!({"pattern": r"\b\d{16}\b"}), &row),
            json!({"a": "card [redacted], and [redacted]", "n": "[redacted]",
                   "o": {"l": ["[redacted]", null, true, 12]}, "4111111111111111": 1})
        );
    }

    #[test]
    fn fields_are_covered_whole_or_where_they_match() {
        let row = json!({"user": "eve", "n": 1, "url": "/a?key=1&b=2", "auth": {"token": ["t"]}});
        assert_eq!(
            redact(
                &json!({"fields": ["user", "n", "/auth/token", "none"], "replace": ""}),
                &row
            ),
            json!({"user": "", "n": "", "url": "/a?key=1&b=2", "auth": {"token": ""}})
        );
        assert_eq!(
            redact(
                &json!({"fields": ["url"], "pattern": "key=[^&]*", "replace": "key=$1"}),
                &row
            ),
            json!({"user": "eve", "n": 1, "url": "/a?key=$1&b=2", "auth": {"token": ["t"]}})
        );
    }

    #[test]
    fn empty_matches_cover_nothing_and_no_text_grows_without_bound() {
        let long = "ab".repeat(100_000);
        let row = json!({"a": long});
        assert_eq!(redact(&json!({"pattern": "x*"}), &row), row);
        let cover = "c".repeat(64);
        assert_eq!(
            redact(&json!({"pattern": "a", "replace": cover}), &row),
            json!({"a": cover})
        );
    }

    #[test]
    fn something_must_be_named() {
        for bad in [
            json!({}),
            json!({"fields": []}),
            json!({"fields": [], "pattern": "a"}),
            json!({"pattern": "("}),
            json!({"pattern": "a", "replace": "x".repeat(65)}),
        ] {
            let file: RedactFile = serde_json::from_value(bad.clone()).unwrap();
            assert!(Redact::new(&file, Engine::Small).is_err(), "{bad}");
        }
    }
}
