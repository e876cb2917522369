//! logfmt, as Heroku's and Go's libraries write it: `level=info msg="it works" ready`.
//!
//! A key without a value is `true`. Values are texts. A text without a single `=` is none: prose
//! would become flags.

use serde_json::Value;

use super::super::Row;
use super::put;

pub(super) fn parse(text: &str) -> Result<Row, &'static str> {
    let mut row = Row::new();
    let mut is_logfmt = false;
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let key_len = rest
            .find(|c: char| c.is_whitespace() || c == '=' || c == '"')
            .unwrap_or(rest.len());
        let (key, after) = rest.split_at(key_len);
        if key.is_empty() || after.starts_with('"') {
            return Err("not logfmt: a value without a key");
        }
        let (value, after) = match after.strip_prefix('=') {
            None => (Value::Bool(true), after),
            Some(after) => {
                is_logfmt = true;
                let (value, after) = value(after)?;
                (Value::String(value), after)
            }
        };
        put(&mut row, key, value)?;
        if !after.is_empty() && !after.starts_with(char::is_whitespace) {
            return Err("not logfmt: no blank behind a value");
        }
        rest = after.trim_start();
    }
    if is_logfmt {
        Ok(row)
    } else {
        Err("not logfmt: no key=value in it")
    }
}

/// A value, and what stands behind it.
fn value(text: &str) -> Result<(String, &str), &'static str> {
    let Some(quoted) = text.strip_prefix('"') else {
        let len = text.find(char::is_whitespace).unwrap_or(text.len());
        let (value, after) = text.split_at(len);
        return Ok((value.to_owned(), after));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &quoted[at + 1..])),
            '\\' => match chars.next().ok_or(OPEN)?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                'u' => {
                    let hex: Option<String> =
                        (0..4).map(|_| chars.next().map(|(_, c)| c)).collect();
                    let code = hex.and_then(|hex| u32::from_str_radix(&hex, 16).ok());
                    // Half of a surrogate pair is no character.
                    let c = code.map(|code| char::from_u32(code).unwrap_or('\u{fffd}'));
                    value.push(c.ok_or("not logfmt: \\u without four hex digits")?);
                }
                c => value.push(c),
            },
            c => value.push(c),
        }
    }
    Err(OPEN)
}

const OPEN: &str = "not logfmt: a quote is open";
