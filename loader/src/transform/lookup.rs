//! A table that rows are enriched from: a CSV with a header line, held in memory.

use std::collections::HashMap;

use serde_json::Value;
use thiserror::Error;

/// Largest table that is read, in bytes: it is held in memory.
pub const TABLE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A table that cannot be used.
#[derive(Debug, Error)]
pub enum TableError {
    /// Not CSV, or rows of differing length.
    #[error("the table is no CSV with a header line: {0}")]
    Malformed(#[from] csv::Error),
    /// A column that the configuration names is not there.
    #[error("the table has no column {0:?}")]
    NoColumn(String),
    /// Two rows with one key: which of them is meant?
    #[error("the table has the key {0:?} twice")]
    Twice(String),
}

/// Rows of a table by the text of their key column.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<String>,
    rows: HashMap<String, Vec<String>>,
}

impl Table {
    /// Reads a table. `key`: the column that is looked up in. `add`: the columns that a hit brings;
    /// all but the key by default.
    ///
    /// # Errors
    /// See [`TableError`].
    pub fn read(bytes: &[u8], key: &str, add: Option<&[String]>) -> Result<Self, TableError> {
        let mut reader = csv::Reader::from_reader(bytes);
        let header = reader.headers()?.clone();
        let position = |name: &str| {
            header
                .iter()
                .position(|column| column == name)
                .ok_or_else(|| TableError::NoColumn(name.to_owned()))
        };
        let key_at = position(key)?;
        let added: Vec<usize> = match add {
            Some(names) => names
                .iter()
                .map(|name| position(name))
                .collect::<Result<_, _>>()?,
            None => (0..header.len()).filter(|at| *at != key_at).collect(),
        };
        let mut rows = HashMap::new();
        for record in reader.records() {
            let record = record?;
            let field = |at: usize| record.get(at).unwrap_or_default().to_owned();
            let values = added.iter().map(|at| field(*at)).collect();
            if rows.insert(field(key_at), values).is_some() {
                return Err(TableError::Twice(field(key_at)));
            }
        }
        let columns = added
            .iter()
            .filter_map(|at| header.get(*at))
            .map(str::to_owned)
            .collect();
        Ok(Self { columns, rows })
    }

    /// The added columns of the row with this key; numbers and booleans are looked up by their text.
    pub fn find(&self, key: &Value) -> Option<impl Iterator<Item = (&str, &str)>> {
        let row = match key {
            Value::String(text) => self.rows.get(text),
            Value::Number(_) | Value::Bool(_) => self.rows.get(&key.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }?;
        Some(
            self.columns
                .iter()
                .map(String::as_str)
                .zip(row.iter().map(String::as_str)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_text_and_unique() {
        let table = Table::read(b"k,v\n1,one\ntrue,yes\n", "k", None).unwrap();
        let find = |key: Value| {
            table
                .find(&key)
                .map(|row| row.map(|(_, v)| v.to_owned()).collect::<String>())
        };
        assert_eq!(find(Value::from(1)).as_deref(), Some("one"));
        assert_eq!(find(Value::from(true)).as_deref(), Some("yes"));
        assert_eq!(find(Value::from("1")).as_deref(), Some("one"));
        assert_eq!(find(Value::Null), None);
        assert!(matches!(
            Table::read(b"k,v\n1,a\n1,b\n", "k", None),
            Err(TableError::Twice(_))
        ));
        assert!(matches!(
            Table::read(b"k,v\n1\n", "k", None),
            Err(TableError::Malformed(_))
        ));
    }
}
