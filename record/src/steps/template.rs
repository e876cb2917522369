//! What `add` puts: a constant, or a text made of fields.

use std::fmt::Write;

use serde_json::Value;

use super::field::{Shown, get};
use super::{Row, StepError, TEXT_BYTES_MAX};

/// What an `add` puts.
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

impl Setting {
    /// Reads what is written: texts are templates, everything else a constant.
    ///
    /// # Errors
    /// [`StepError::Template`].
    pub fn new(value: &Value) -> Result<Self, StepError> {
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

    /// The value for a row. A text ends at [`TEXT_BYTES_MAX`].
    pub fn value(&self, row: &Row) -> Value {
        let parts = match self {
            Self::Constant(value) => return value.clone(),
            Self::Template(parts) => parts,
        };
        let mut text = Bounded(String::new());
        for part in parts {
            // It ends with an error where the bound is reached.
            let written = match part {
                Part::Text(literal) => text.write_str(literal),
                Part::Field(name) => write!(text, "{}", Shown(get(row, name))),
            };
            if written.is_err() {
                break;
            }
        }
        Value::String(text.0)
    }
}

struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> std::fmt::Result {
        let room = TEXT_BYTES_MAX - self.0.len();
        let fits = more.floor_char_boundary(room);
        self.0.push_str(&more[..fits]);
        if fits == more.len() {
            Ok(())
        } else {
            Err(std::fmt::Error)
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
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_made_of_fields() {
        let row: Row = serde_json::from_str(r#"{"a":"x","n":1.5,"o":{"p":[true]}}"#).unwrap();
        for (written, made) in [
            (json!("{a}-{n}{gone}{{}}"), json!("x-1.5{}")),
            (json!("{/o/p/0}{o}"), json!(r#"true{"p":[true]}"#)),
            (json!(""), json!("")),
            (json!(["{a}"]), json!(["{a}"])),
        ] {
            assert_eq!(Setting::new(&written).unwrap().value(&row), made);
        }
        for bad in ["{a", "a}", "{}", "{a{b}}"] {
            assert_eq!(parse_template(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_text_grows_without_bound() {
        let mut row = Row::new();
        row.insert("a".into(), "ü".repeat(1000).into());
        let twice = Setting::new(&json!("{a}{a}")).unwrap();
        for _ in 0..30 {
            let value = twice.value(&row);
            row.insert("a".into(), value);
        }
        let len = row.get("a").unwrap().as_str().unwrap().len();
        assert!((TEXT_BYTES_MAX - 1..=TEXT_BYTES_MAX).contains(&len));
    }
}
