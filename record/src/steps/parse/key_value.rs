//! Keys and values with separators as configured: `a=1, b="x, y"`, `TEMP:21;HUM:40`.
//!
//! Blanks around keys and values do not count. A value in quotes goes to the next quote, separators
//! and all. Nothing between two separators is nothing. Values are texts.

use super::super::Row;
use super::put;

pub(super) fn parse(text: &str, separator: &str, assign: &str) -> Result<Row, &'static str> {
    let mut row = Row::new();
    let mut rest = text;
    loop {
        // Where blanks separate, a run of them does.
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(separator) {
            rest = after;
            continue;
        }
        if rest.is_empty() {
            break;
        }
        let (key, after) = rest.split_once(assign).ok_or("a key without a value")?;
        if key.contains(separator) {
            return Err("a key without a value");
        }
        let key = key.trim();
        if key.is_empty() {
            return Err("a value without a key");
        }
        let after = match separator.trim().is_empty() {
            // `a= b=1`: nothing is a's value.
            true => after,
            false => after.trim_start(),
        };
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, after) = quoted.split_once('"').ok_or("a quote is open")?;
                let after = match separator.trim().is_empty() {
                    true => after,
                    false => after.trim_start(),
                };
                if !after.is_empty() && !after.starts_with(separator) {
                    return Err("no separator behind a quote");
                }
                (value, after)
            }
            None => {
                let (value, after) = after.split_at(after.find(separator).unwrap_or(after.len()));
                (value.trim_end(), after)
            }
        };
        put(&mut row, key, value.into())?;
        rest = after;
    }
    if row.is_empty() {
        Err("no key and value in it")
    } else {
        Ok(row)
    }
}
