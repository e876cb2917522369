//! `flatten`: what lies in structures comes beside them, under joined names, so that tables have
//! columns for it. Lists stay as they are.
//!
//! ```toml
//! step = "flatten"
//! field = "payload"          # only this one; every structure by default
//! separator = "_"            # "." by default
//! ```

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::transform::Row;

/// Most fields that a row may become.
const FIELDS_MAX: usize = 1000;
/// Most bytes that their names may have together: a long name stands before each of its leaves.
const NAME_BYTES_MAX: usize = 1024 * 1024;
/// Structures deeper than this stay as they are.
const DEPTH_MAX: usize = 16;

/// `flatten`, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlattenFile {
    /// The field whose structure is flattened; every one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What stands between two names.
    #[serde(default = "separator")]
    pub separator: String,
}

fn separator() -> String {
    ".".to_owned()
}

/// Flattens a row.
///
/// # Errors
/// Two fields would have one name, or there are too many, or too long ones: nothing is dropped for that.
pub fn run(file: &FlattenFile, row: &mut Row) -> Result<(), String> {
    let mut flat = Flat::default();
    for (name, value) in std::mem::take(row) {
        match value {
            Value::Object(inner) if file.field.as_ref().is_none_or(|field| *field == name) => {
                lift(&name, inner, &file.separator, 1, &mut flat)?;
            }
            value => flat.put(name, value)?,
        }
    }
    *row = flat.row;
    Ok(())
}

/// The row so far.
#[derive(Default)]
struct Flat {
    row: Row,
    name_bytes: usize,
}

fn lift(
    prefix: &str,
    inner: Map<String, Value>,
    separator: &str,
    depth: usize,
    flat: &mut Flat,
) -> Result<(), String> {
    if inner.is_empty() || depth > DEPTH_MAX {
        return flat.put(prefix.to_owned(), Value::Object(inner));
    }
    for (name, value) in inner {
        let name = format!("{prefix}{separator}{name}");
        match value {
            Value::Object(inner) => lift(&name, inner, separator, depth + 1, flat)?,
            value => flat.put(name, value)?,
        }
    }
    Ok(())
}

impl Flat {
    fn put(&mut self, name: String, value: Value) -> Result<(), String> {
        if self.row.len() >= FIELDS_MAX {
            return Err(format!("it would have more than {FIELDS_MAX} fields"));
        }
        self.name_bytes += name.len();
        if self.name_bytes > NAME_BYTES_MAX {
            return Err("the names of its fields would have more than 1MiB together".to_owned());
        }
        if self.row.contains_key(&name) {
            return Err(format!("two of its fields would have the name {name}"));
        }
        self.row.insert(name, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(file: &str, row: &str) -> Result<String, String> {
        let mut row: Row = serde_json::from_str(row).unwrap();
        run(&toml::from_str(file).unwrap(), &mut row)?;
        Ok(serde_json::to_string(&row).unwrap())
    }

    #[test]
    fn structures_become_fields_and_nothing_is_dropped() {
        let row = r#"{"a":{"b":{"c":1},"d":[{"e":2}],"f":{}},"g":{"h":3}}"#;
        assert_eq!(
            flat("", row).unwrap(),
            r#"{"a.b.c":1,"a.d":[{"e":2}],"a.f":{},"g.h":3}"#
        );
        assert_eq!(
            flat("field='g'\nseparator='_'", row).unwrap(),
            r#"{"a":{"b":{"c":1},"d":[{"e":2}],"f":{}},"g_h":3}"#
        );
        assert!(flat("", r#"{"a":{"b":1},"a.b":2}"#).is_err());
        let deep = format!("{}1{}", r#"{"a":"#.repeat(60), "}".repeat(60));
        assert!(flat("", &deep).unwrap().starts_with(r#"{"a.a.a.a"#));
        let wide: Vec<String> = (0..1001).map(|n| format!("\"{n}\":{n}")).collect();
        assert!(flat("", &format!("{{\"x\":{{{}}}}}", wide.join(","))).is_err());
        // A megabyte that would become a gigabyte.
        let long = format!(
            "{{\"{}\":{{{}}}}}",
            "n".repeat(1 << 20),
            wide[..999].join(",")
        );
        assert!(flat("", &long).unwrap_err().contains("1MiB"));
    }
}
