//! A look at a few fields of a record's JSON object, without building the rest of it.
//!
//! Most records go through as they are: all that has to be known is that the value is one JSON
//! object, and the fields that its path is made of. To build the whole row for that costs several
//! times as much as all the rest of the way.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;

use crate::transform::{Row, Shown};

/// Most fields that are looked for: a path needs two or three.
pub const FIELDS_MAX: usize = 16;

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Field<'a> {
    /// A string, borrowed where it holds no escapes.
    Text(Cow<'a, str>),
    /// Anything else.
    Other(Value),
}

/// What was found, in the order of the names that were asked for.
pub type Fields<'a> = [Option<Field<'a>>; FIELDS_MAX];

impl Field<'_> {
    /// Its text where it is a string.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Other(_) => None,
        }
    }

    /// How it stands in a path or a template: a string as it is, null as nothing, the rest as JSON.
    pub fn shown(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Other(value) => Cow::Owned(Shown(Some(value)).to_string()),
        }
    }
}

/// Reads `names` (at most [`FIELDS_MAX`]) of a JSON object's own fields. Where a name stands twice
/// the last one counts, as in a row.
///
/// # Errors
/// The text is not one JSON object.
pub fn peek<'a>(text: &'a str, names: &[String]) -> Result<Fields<'a>, serde_json::Error> {
    let mut fields = Fields::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.deserialize_map(Object {
        names,
        fields: &mut fields,
    })?;
    reader.end()?;
    Ok(fields)
}

/// The text of a JSON object's own field, as far as it can be read: what stands behind it is not looked at.
/// Where a name stands twice the first one counts. None where it is no text, or not there.
pub fn first_text<'a>(text: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut found = None;
    let mut reader = serde_json::Deserializer::from_str(text);
    // It ends early with an error: what counts is what was found until then.
    let _ended = reader.deserialize_map(First {
        name,
        found: &mut found,
    });
    match found {
        Some(Field::Text(text)) => Some(text),
        Some(Field::Other(_)) | None => None,
    }
}

struct First<'n, 'f, 'a> {
    name: &'n str,
    found: &'f mut Option<Field<'a>>,
}

impl<'a> Visitor<'a> for First<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let names = [self.name];
        while let Some(at) = map.next_key_seed(Name(&names))? {
            if at.is_some() {
                *self.found = Some(map.next_value::<Field<'a>>()?);
                return Err(A::Error::custom("it is found"));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// The same fields of a row.
pub fn pick<'a>(row: &'a Row, names: &[String]) -> Fields<'a> {
    let mut fields = Fields::default();
    for (field, name) in fields.iter_mut().zip(names) {
        *field = row.get(name).map(|value| match value {
            Value::String(text) => Field::Text(Cow::Borrowed(text)),
            other => Field::Other(other.clone()),
        });
    }
    fields
}

struct Object<'n, 'f, 'a> {
    names: &'n [String],
    fields: &'f mut Fields<'a>,
}

impl<'a> Visitor<'a> for Object<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(at) = map.next_key_seed(Name(self.names))? {
            match at.and_then(|at| self.fields.get_mut(at)) {
                Some(field) => *field = Some(map.next_value::<Field<'a>>()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// A key, as its place among the names.
struct Name<'n, T>(&'n [T]);

impl<'a, T: AsRef<str>> DeserializeSeed<'a> for Name<'_, T> {
    type Value = Option<usize>;
    fn deserialize<D: Deserializer<'a>>(self, reader: D) -> Result<Option<usize>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<T: AsRef<str>> Visitor<'_> for Name<'_, T> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|wanted| wanted.as_ref() == name))
    }
}

impl<'a> Deserialize<'a> for Field<'a> {
    fn deserialize<D: Deserializer<'a>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(AnyField)
    }
}

struct AnyField;

impl<'a> Visitor<'a> for AnyField {
    type Value = Field<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'a str) -> Result<Field<'a>, E> {
        Ok(Field::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Field<'a>, E> {
        Ok(Field::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E: Error>(self) -> Result<Field<'a>, E> {
        Ok(Field::Other(Value::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Field<'a>, E> {
        Ok(Field::Other(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Field<'a>, E> {
        Ok(Field::Other(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Field<'a>, E> {
        Ok(Field::Other(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Field<'a>, E> {
        Ok(Field::Other(value.into()))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, seq: A) -> Result<Field<'a>, A::Error> {
        Value::deserialize(SeqAccessDeserializer::new(seq)).map(Field::Other)
    }

    fn visit_map<A: MapAccess<'a>>(self, map: A) -> Result<Field<'a>, A::Error> {
        Value::deserialize(MapAccessDeserializer::new(map)).map(Field::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    /// Looked at without the stack: as deep as a device likes.
    #[test]
    fn depth_costs_nothing() {
        let levels = 200_000;
        let deep = |close: usize| {
            format!(
                "{{\"x\":{}{},\"f\":\"v\"}}",
                "[".repeat(levels),
                "]".repeat(close)
            )
        };
        let (text, wanted) = (deep(levels), names(&["f"]));
        let looked = peek(&text, &wanted).unwrap();
        assert_eq!(
            looked
                .first()
                .and_then(Option::as_ref)
                .and_then(Field::text),
            Some("v")
        );
        assert!(peek(&deep(levels - 1), &[]).is_err());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in [
            "",
            "1",
            "[]",
            "\"a\"",
            "null",
            "{\"a\":1",
            "{\"a\":1}x",
            "{\"a\":NaN}",
            "{a:1}",
            "{\"a\":01}",
        ] {
            assert!(peek(bad, &[]).is_err(), "{bad}");
            assert!(peek(bad, &names(&["a"])).is_err(), "{bad}");
        }
        assert!(peek(" {\"a\" : [1,{\"b\":2}]}\r\n", &[]).is_ok());
    }

    #[test]
    fn the_first_text_is_found_and_the_rest_not_read() {
        for (text, found) in [
            (r#"{"a":1,"time":"x","b":2}"#, Some("x")),
            (r#"{"a":{"time":"no"},"time":"\u0079"}"#, Some("y")),
            (r#"{"time":"x","time":"z"} and no more JSON"#, Some("x")),
            (r#"{"time":"x", broken"#, Some("x")),
            (r#"{"time":7}"#, None),
            (r#"{"a":1}"#, None),
            (r#"["time"]"#, None),
            ("", None),
        ] {
            assert_eq!(first_text(text, "time").as_deref(), found, "{text}");
        }
    }

    proptest! {
        /// What is found is what a whole parse finds, duplicate names and escapes included.
        #[test]
        fn peeking_is_picking(
            keys in prop::collection::vec("[abc]|\\PC{1,3}", 0..6),
            values in prop::collection::vec(prop_oneof![
                "\\PC{0,5}".prop_map(Value::from), any::<i64>().prop_map(Value::from),
                any::<bool>().prop_map(Value::from), Just(Value::Null),
                Just(serde_json::json!({"a":[1,{"b":null}]})),
            ], 6),
        ) {
            let text = keys.iter().zip(&values)
                .map(|(key, value)| format!("{}:{value}", Value::from(key.as_str())))
                .collect::<Vec<_>>().join(",");
            let text = format!("{{{text}}}");
            let names = names(&["a", "b", "é"]);
            let row: Row = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(peek(&text, &names).unwrap(), pick(&row, &names));
        }
    }
}
