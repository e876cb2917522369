//! JSON as DynamoDB's attributes, and what they weigh there.
//!
//! | JSON | attribute |
//! |---|---|
//! | string | `S` |
//! | number of up to 38 digits, within 1e-130 and 9.9e125 | `N`, every digit as it was written |
//! | another number | `S`, as it was written |
//! | true, false | `BOOL` |
//! | null | `NULL` |
//! | array, object | `L`, `M` |
//!
//! Of a name that stands twice in an object the last counts, as in a row.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::value::RawValue;

/// DynamoDB's bound of an item, names included, bytes.
pub const ITEM_BYTES_MAX: usize = 400 * 1024;
/// DynamoDB's bound of an attribute's name, bytes.
const NAME_BYTES_MAX: usize = 65_535;
/// DynamoDB's bound of lists and maps in one another.
const DEPTH_MAX: usize = 32;
/// DynamoDB's bound of a number's digits.
const DIGITS_MAX: usize = 38;
/// Powers of ten of a number's first digit that DynamoDB knows.
const POWERS: std::ops::RangeInclusive<i64> = -130..=125;

/// One value, looked at no deeper than it has to be.
enum Look<'a> {
    Text(String),
    Number(&'a str),
    Bool(bool),
    Null,
    List(Vec<&'a RawValue>),
    Map(BTreeMap<String, &'a RawValue>),
}

fn look(json: &str) -> Result<Look<'_>, serde_json::Error> {
    let json = json.trim();
    Ok(match json.as_bytes().first() {
        Some(b'"') => Look::Text(serde_json::from_str(json)?),
        Some(b'[') => Look::List(serde_json::from_str(json)?),
        Some(b'{') => Look::Map(serde_json::from_str(json)?),
        Some(b't' | b'f') => Look::Bool(serde_json::from_str(json)?),
        Some(b'n') => Look::Null,
        _ => Look::Number(json),
    })
}

/// Bytes of an attribute as DynamoDB counts them, at the most.
///
/// # Errors
/// An empty name or one that is too long, lists and maps too deep in one another, or no JSON.
pub fn measure(name: &str, json: &str) -> Result<usize, String> {
    Ok(named(name)? + weigh(json, 0)?)
}

/// Bytes of an item, given as a JSON object, as DynamoDB counts them, at the most.
///
/// # Errors
/// It is none, or one that DynamoDB would not take: see [`measure`].
pub fn measure_item(text: &[u8]) -> Result<usize, String> {
    let fields: BTreeMap<String, &RawValue> =
        serde_json::from_slice(text).map_err(|error| error.to_string())?;
    fields.iter().try_fold(
        0,
        |sum, (name, value)| Ok(sum + measure(name, value.get())?),
    )
}

/// Bytes of a name.
fn named(name: &str) -> Result<usize, String> {
    match name.len() {
        0 => Err("a field has an empty name".to_owned()),
        bytes if bytes > NAME_BYTES_MAX => Err(format!(
            "a field's name has {bytes} bytes, and {NAME_BYTES_MAX} are the most"
        )),
        bytes => Ok(bytes),
    }
}

fn weigh(json: &str, depth: usize) -> Result<usize, String> {
    if depth > DEPTH_MAX {
        return Err(format!("it is more than {DEPTH_MAX} lists and maps deep"));
    }
    match look(json).map_err(|error| error.to_string())? {
        Look::Text(text) => Ok(text.len()),
        // Two digits a byte and one more; this is never less.
        Look::Number(number) => Ok(number.len() + 1),
        Look::Bool(_) | Look::Null => Ok(1),
        Look::List(list) => list
            .iter()
            .try_fold(3, |sum, value| Ok(sum + 1 + weigh(value.get(), depth + 1)?)),
        Look::Map(map) => map.iter().try_fold(3, |sum, (name, value)| {
            Ok(sum + 1 + named(name)? + weigh(value.get(), depth + 1)?)
        }),
    }
}

/// The attributes of an item's JSON object.
///
/// # Errors
/// It is none.
pub fn attributes(text: &[u8]) -> Result<HashMap<String, AttributeValue>, serde_json::Error> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(text)?;
    fields
        .into_iter()
        .map(|(name, value)| Ok((name, attribute(value.get())?)))
        .collect()
}

fn attribute(json: &str) -> Result<AttributeValue, serde_json::Error> {
    Ok(match look(json)? {
        Look::Text(text) => AttributeValue::S(text),
        Look::Number(number) if fits(number) => AttributeValue::N(number.to_owned()),
        Look::Number(number) => AttributeValue::S(number.to_owned()),
        Look::Bool(is) => AttributeValue::Bool(is),
        Look::Null => AttributeValue::Null(true),
        Look::List(list) => AttributeValue::L(
            list.iter()
                .map(|value| attribute(value.get()))
                .collect::<Result<_, _>>()?,
        ),
        Look::Map(map) => AttributeValue::M(
            map.into_iter()
                .map(|(name, value)| Ok((name, attribute(value.get())?)))
                .collect::<Result<_, serde_json::Error>>()?,
        ),
    })
}

/// Whether DynamoDB holds a number without a change.
fn fits(number: &str) -> bool {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let Ok(exponent) = exponent.parse::<i64>() else {
        return false;
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.trim_start_matches('-');
    let digits = format!("{whole}{fraction}");
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    if zeros == digits.len() {
        return true;
    }
    let significant = digits.trim_matches('0').len();
    let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    let first = length(whole) - 1 - i64::try_from(zeros).unwrap_or(i64::MAX);
    significant <= DIGITS_MAX && POWERS.contains(&first.saturating_add(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_every_digit_or_are_text() {
        let nines = "9".repeat(38);
        for kept in [
            "0",
            "-0.0",
            "1",
            "-12.50",
            "1e125",
            "9.99e125",
            "1E-130",
            "0.000e999",
            &nines,
            &format!("{nines}000"),
            &format!("0.{nines}"),
            "100000000000000000000000000000000000000000",
        ] {
            assert_eq!(
                attribute(kept).unwrap(),
                AttributeValue::N(kept.into()),
                "{kept}"
            );
        }
        for text in [
            "1e126",
            "1e-131",
            "0.1e-130",
            "1e99999999999999999999",
            &format!("{nines}1"),
            &format!("1{nines}"),
        ] {
            assert_eq!(
                attribute(text).unwrap(),
                AttributeValue::S(text.into()),
                "{text}"
            );
        }
    }

    #[test]
    fn every_type_has_its_attribute() {
        let text = br#"{"s":"a\n\u00fc","n":1.50,"t":true,"z":null,"l":[1,"x",[]],"m":{"a":{"b":1}},"d":1,"d":2}"#;
        let made = attributes(text).unwrap();
        assert_eq!(made["s"], AttributeValue::S("a\nü".into()));
        assert_eq!(made["n"], AttributeValue::N("1.50".into()));
        assert_eq!(made["t"], AttributeValue::Bool(true));
        assert_eq!(made["z"], AttributeValue::Null(true));
        let list = vec![
            AttributeValue::N("1".into()),
            AttributeValue::S("x".into()),
            AttributeValue::L(Vec::new()),
        ];
        assert_eq!(made["l"], AttributeValue::L(list));
        let inner = HashMap::from([("b".to_owned(), AttributeValue::N("1".into()))]);
        let outer = HashMap::from([("a".to_owned(), AttributeValue::M(inner))]);
        assert_eq!(made["m"], AttributeValue::M(outer));
        assert_eq!(made["d"], AttributeValue::N("2".into()));
    }

    #[test]
    fn weights_and_what_is_refused() {
        assert_eq!(measure("ab", r#""xyz""#), Ok(5));
        assert_eq!(measure("a", r#""\u00fc""#), Ok(3));
        assert_eq!(
            measure("a", "[true,{\"b\":null}]"),
            Ok(1 + 3 + 2 + 1 + 3 + 1 + 2)
        );
        assert_eq!(measure_item(br#"{"ab":"xyz","n":12,"ab":"x"}"#), Ok(3 + 4));
        assert!(measure_item(b"[]").is_err());
        assert!(measure("", "1").is_err());
        assert!(measure("a", "{\"\":1}").is_err());
        let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(measure("a", &deep(32)).is_ok());
        assert!(measure("a", &deep(33)).is_err());
    }
}
