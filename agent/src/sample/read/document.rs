//! A number in a JSON document, or in the last row of a CSV file that somebody appends to.

use std::path::Path;

use serde_json::Value;

use super::number::of_word;
use super::{Kind, ReadError, Reader, both_ends};

/// Reads a document.
///
/// # Errors
/// See [`ReadError`].
pub fn read(path: &Path, reader: &Reader) -> Result<f64, ReadError> {
    let (head, tail) = both_ends(path).map_err(ReadError::Unreadable)?;
    match reader.kind {
        Kind::Csv => csv(&head, &tail, &reader.column, reader.separator),
        _ => json(&head, &reader.pointer),
    }
}

/// The number at a pointer: a number, a text that is one, or true (1) and false (0).
///
/// # Errors
/// There is none.
pub fn json(bytes: &[u8], pointer: &str) -> Result<f64, ReadError> {
    let document: Value = serde_json::from_slice(bytes)
        .map_err(|error| ReadError::NotThere(format!("it is no JSON, or above 64 KiB: {error}")))?;
    let number = match document.pointer(pointer) {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => of_word(text.as_bytes()),
        Some(Value::Bool(is_on)) => Some(f64::from(u8::from(*is_on))),
        _ => None,
    };
    number.ok_or_else(|| ReadError::NotThere(format!("there is no number at {pointer:?}")))
}

/// The number in a column of the last whole row. `head`: from the first line on, which names the
/// columns unless `column` is a number from 1; `tail`: up to the end.
///
/// # Errors
/// There is none.
pub fn csv(head: &[u8], tail: &[u8], column: &str, separator: u8) -> Result<f64, ReadError> {
    let not_there = |what: &str| ReadError::NotThere(what.to_owned());
    let text = String::from_utf8_lossy(tail);
    // The last line may be half written; it counts only with its end mark, unless it is the only one.
    let whole = text.rfind('\n').map_or(&*text, |end| &text[..end]);
    let row = whole.lines().rev().find(|line| !line.trim().is_empty());
    let row = cells(row.ok_or_else(|| not_there("it has no row"))?, separator);
    let index = match column.parse::<usize>() {
        Ok(number) => number.checked_sub(1),
        Err(_) => {
            let head = String::from_utf8_lossy(head);
            let names = cells(head.lines().next().unwrap_or_default(), separator);
            names.iter().position(|name| name == column)
        }
    };
    let cell = index.and_then(|index| row.get(index));
    let cell = cell.ok_or_else(|| ReadError::NotThere(format!("there is no column {column:?}")))?;
    of_word(cell.as_bytes()).ok_or_else(|| ReadError::no_number(cell.as_bytes()))
}

/// The cells of a row; quotes around one are taken away, and a separator within them is none.
fn cells(row: &str, separator: u8) -> Vec<String> {
    let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    for c in row.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c == char::from(separator) && !quoted => cells.push(std::mem::take(&mut cell)),
            c => cell.push(c),
        }
    }
    cells.push(cell);
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}
