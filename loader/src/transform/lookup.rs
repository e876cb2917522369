//! A table that rows are enriched from, held in memory: a CSV with a header line, or an object a line
//! (NDJSON), whose values keep their types.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::transform::Row;

/// Largest table that is read, in bytes: it is held in memory.
pub const TABLE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A table of a `vrl` step, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableFile {
    /// Where it lies: a path, or `s3://bucket/key`.
    pub table: PathBuf,
    /// The column that it is looked up in.
    pub column: String,
    /// The columns that a hit brings; all others by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<Vec<String>>,
    /// What it is; by its name where that is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<TableFormat>,
}

/// What a table is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableFormat {
    /// With a header line.
    Csv,
    /// An object a line.
    Ndjson,
}

impl TableFormat {
    /// What a table of this name is: NDJSON where it says so, CSV otherwise.
    pub fn of(path: &Path) -> Self {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension {
            Some("ndjson" | "jsonl" | "json") => Self::Ndjson,
            _ => Self::Csv,
        }
    }
}

/// A table that cannot be used.
#[derive(Debug, Error)]
pub enum TableError {
    /// Not CSV, or rows of differing length.
    #[error("the table is no CSV with a header line: {0}")]
    Malformed(#[from] csv::Error),
    /// A line that is no object.
    #[error("the table's line {line} is no JSON object: {source}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// A line without a key, or with one that is no text, number or boolean.
    #[error("the table's line {line} has no text, number or boolean in {key:?}")]
    NoKey {
        /// Which, from 1.
        line: usize,
        /// The key column.
        key: String,
    },
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
    /// A value for each column; none where an NDJSON row does not have it.
    rows: HashMap<String, Vec<Option<Value>>>,
}

impl Table {
    /// Reads a table. `key`: the column that is looked up in. `add`: the columns that a hit brings;
    /// all but the key by default.
    ///
    /// # Errors
    /// See [`TableError`].
    pub fn read(
        bytes: &[u8],
        format: TableFormat,
        key: &str,
        add: Option<&[String]>,
    ) -> Result<Self, TableError> {
        match format {
            TableFormat::Csv => Self::read_csv(bytes, key, add),
            TableFormat::Ndjson => Self::read_ndjson(bytes, key, add),
        }
    }

    fn read_csv(bytes: &[u8], key: &str, add: Option<&[String]>) -> Result<Self, TableError> {
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
        let columns = added
            .iter()
            .filter_map(|at| header.get(*at))
            .map(str::to_owned)
            .collect();
        let mut table = Self {
            columns,
            rows: HashMap::new(),
        };
        for record in reader.records() {
            let record = record?;
            let field = |at: usize| record.get(at).unwrap_or_default().to_owned();
            let values = added.iter().map(|at| Some(field(*at).into())).collect();
            table.insert(field(key_at), values)?;
        }
        Ok(table)
    }

    fn read_ndjson(bytes: &[u8], key: &str, add: Option<&[String]>) -> Result<Self, TableError> {
        let lines = bytes.split(|byte| *byte == b'\n').enumerate();
        let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
        let mut rows = Vec::new();
        // In the order in which they first come, so that rows come out the same.
        let mut columns = add.map_or_else(Vec::new, <[String]>::to_vec);
        let mut seen = HashSet::new();
        for (at, line) in lines {
            let wrong = |source| TableError::Line {
                line: at + 1,
                source,
            };
            let mut row: Row = serde_json::from_slice(line).map_err(wrong)?;
            let found = row.shift_remove(key);
            let found = found
                .as_ref()
                .and_then(key_text)
                .ok_or_else(|| TableError::NoKey {
                    line: at + 1,
                    key: key.to_owned(),
                })?
                .into_owned();
            for name in row.keys() {
                if seen.insert(name.clone()) && add.is_none() {
                    columns.push(name.clone());
                }
            }
            rows.push((found, row));
        }
        if let Some(missing) = columns.iter().find(|name| !seen.contains(*name)) {
            return Err(TableError::NoColumn(missing.clone()));
        }
        let mut table = Self {
            columns,
            rows: HashMap::with_capacity(rows.len()),
        };
        for (key, mut row) in rows {
            let values = (table.columns.iter())
                .map(|name| row.get_mut(name).map(Value::take))
                .collect();
            table.insert(key, values)?;
        }
        Ok(table)
    }

    /// Bytes of memory that it takes, about: an entry of the map and a slot for each column of each row,
    /// and what is in them.
    pub fn held(&self) -> usize {
        let entry = size_of::<(String, Vec<Option<Value>>)>() + 1;
        let rows = self.rows.iter().map(|(key, values)| {
            let slots = block(values.capacity() * size_of::<Option<Value>>());
            let inside = values.iter().flatten().map(inside);
            block(key.capacity()) + slots + inside.sum::<usize>()
        });
        self.rows.capacity() * 8 / 7 * entry + rows.sum::<usize>()
    }

    fn insert(&mut self, key: String, values: Vec<Option<Value>>) -> Result<(), TableError> {
        if self.rows.contains_key(&key) {
            return Err(TableError::Twice(key));
        }
        self.rows.insert(key, values);
        Ok(())
    }

    /// The added columns of the row with this key; numbers and booleans are looked up by their text.
    pub fn find<'a>(
        &'a self,
        key: &Value,
    ) -> Option<impl Iterator<Item = (&'a str, &'a Value)> + use<'a>> {
        self.find_text(&key_text(key)?)
    }

    /// The same, by the key's text.
    pub fn find_text<'a>(
        &'a self,
        key: &str,
    ) -> Option<impl Iterator<Item = (&'a str, &'a Value)> + use<'a>> {
        let row = self.rows.get(key)?;
        let columns = self.columns.iter().map(String::as_str);
        let held = columns.zip(row);
        Some(held.filter_map(|(name, value)| Some((name, value.as_ref()?))))
    }
}

/// Bytes of a piece of memory, with what the allocator keeps beside it.
fn block(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        bytes => bytes.next_multiple_of(16) + 16,
    }
}

/// Bytes that a value has elsewhere than in its own slot.
fn inside(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => block(text.capacity()),
        Value::Array(values) => {
            block(values.capacity() * size_of::<Value>()) + values.iter().map(inside).sum::<usize>()
        }
        Value::Object(fields) => {
            // Of an indexed map: the entry, its hash, and a place in the index.
            let slot = size_of::<(String, Value)>() + 2 * size_of::<usize>() + 2;
            let fields = fields
                .iter()
                .map(|(name, value)| slot + block(name.capacity()) + inside(value));
            32 + fields.sum::<usize>()
        }
    }
}

fn key_text(key: &Value) -> Option<Cow<'_, str>> {
    match key {
        Value::String(text) => Some(text.as_str().into()),
        Value::Number(_) | Value::Bool(_) => Some(key.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(bytes: &[u8]) -> Result<Table, TableError> {
        Table::read(bytes, TableFormat::Csv, "k", None)
    }

    fn ndjson(bytes: &[u8], add: Option<&[String]>) -> Result<Table, String> {
        Table::read(bytes, TableFormat::Ndjson, "k", add).map_err(|error| error.to_string())
    }

    #[test]
    fn objects_keep_their_types_and_need_not_have_every_column() {
        let bytes = b"{\"k\":\"a\",\"n\":1,\"s\":{\"t\":[true]}}\r\n\n{\"m\":null,\"k\":2}";
        let shown = |table: &Table, key: &str| {
            let key = Value::from(key);
            let row = table
                .find(&key)
                .map(|row| row.map(|(n, v)| format!("{n}={v} ")));
            row.map(Iterator::collect::<String>)
        };
        let table = ndjson(bytes, None).unwrap();
        assert_eq!(shown(&table, "a").as_deref(), Some("n=1 s={\"t\":[true]} "));
        assert_eq!(shown(&table, "2").as_deref(), Some("m=null "));
        assert_eq!(shown(&table, "b"), None);
        let only = ndjson(bytes, Some(&["m".to_owned()])).unwrap();
        assert_eq!(shown(&only, "a").as_deref(), Some(""));
        for (bytes, reason) in [
            (&b"{\"k\":1}\n[1]"[..], "line 2 is no JSON object"),
            (b"{\"n\":1}", "line 1 has no text"),
            (b"{\"k\":{}}", "line 1 has no text"),
            (b"{\"k\":1}\n{\"k\":\"1\"}", "\"1\" twice"),
        ] {
            let error = ndjson(bytes, None).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        assert!(ndjson(bytes, Some(&["x".to_owned()])).is_err());
        assert_eq!(
            TableFormat::of(Path::new("s3://b/a.jsonl")),
            TableFormat::Ndjson
        );
    }

    #[test]
    fn memory_is_a_slot_for_each_column_and_what_is_in_it() {
        let rows = |columns: &str, row: &str| {
            let rows: String = (0..1000).map(|n| format!("{n}{row}\n")).collect();
            csv(format!("k{columns}\n{rows}").as_bytes())
                .unwrap()
                .held()
        };
        let (one, two) = (rows(",v", ",x"), rows(",v,w", ",x,x"));
        let slot = size_of::<Option<Value>>() + 32;
        assert!((two - one).abs_diff(1000 * slot) <= 16_000, "{one} {two}");
        let long = rows(",v", &format!(",{}", "x".repeat(1000)));
        assert!((long - one).abs_diff(1_000_000) < 100_000, "{one} {long}");
        let held = |line: &str| ndjson(line.as_bytes(), None).unwrap().held();
        let flat = held("{\"k\":1,\"a\":1}");
        let deep = held("{\"k\":1,\"a\":{\"b\":[\"text\",{\"c\":null}]}}");
        assert!(deep > flat + 4 * size_of::<Value>(), "{flat} {deep}");
    }

    #[test]
    fn keys_are_text_and_unique() {
        let table = csv(b"k,v\n1,one\ntrue,yes\n").unwrap();
        let find = |key: Value| {
            table
                .find(&key)
                .map(|row| row.filter_map(|(_, v)| v.as_str()).collect::<String>())
        };
        assert_eq!(find(Value::from(1)).as_deref(), Some("one"));
        assert_eq!(find(Value::from(true)).as_deref(), Some("yes"));
        assert_eq!(find(Value::from("1")).as_deref(), Some("one"));
        assert_eq!(find(Value::Null), None);
        assert!(matches!(csv(b"k,v\n1,a\n1,b\n"), Err(TableError::Twice(_))));
        assert!(matches!(csv(b"k,v\n1\n"), Err(TableError::Malformed(_))));
    }
}
