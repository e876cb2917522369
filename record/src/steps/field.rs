//! A field of a row, by its name or by a JSON pointer, and what it looks like in a text.

use std::fmt;

use serde_json::Value;

use super::Row;

/// The value of a field: of the row itself by its name, deeper by a JSON pointer (RFC 6901), which
/// begins with a slash: `/http/status`.
pub fn get<'a>(row: &'a Row, field: &str) -> Option<&'a Value> {
    let Some(path) = field.strip_prefix('/') else {
        return row.get(field);
    };
    let (first, rest) = split(path);
    row.get(&unescaped(first))?.pointer(rest)
}

/// As [`get`], to change it.
pub(super) fn get_mut<'a>(row: &'a mut Row, field: &str) -> Option<&'a mut Value> {
    let Some(path) = field.strip_prefix('/') else {
        return row.get_mut(field);
    };
    let (first, rest) = split(path);
    row.get_mut(&unescaped(first))?.pointer_mut(rest)
}

fn split(path: &str) -> (&str, &str) {
    path.split_at(path.find('/').unwrap_or(path.len()))
}

fn unescaped(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_a_pointer() {
        let row: Row =
            serde_json::from_str(r#"{"a":1,"b":{"c":[2,{"d/e":3}]},"/x":4,"f~g":5}"#).unwrap();
        for (field, value) in [
            ("a", Some(1)),
            ("/a", Some(1)),
            ("/b/c/0", Some(2)),
            ("/b/c/1/d~1e", Some(3)),
            ("/f~0g", Some(5)),
            ("/~1x", Some(4)),
            ("b/c", None),
            ("/b/c/9", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(get(&row, field), value.map(Value::from).as_ref(), "{field}");
            assert_eq!(
                get_mut(&mut row.clone(), field),
                value.map(Value::from).as_mut()
            );
        }
    }
}
