//! The items of a batch: coalesced while it fills, in one piece once it closes.

use std::collections::HashMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Item, Mode, Table};

/// What an item costs in memory beside its text and its key, about.
const OVERHEAD: usize = 160;

/// Items of a batch that is being filled.
#[derive(Debug, Default)]
pub struct OpenItems {
    tables: Vec<OpenTable>,
    held: usize,
}

#[derive(Debug, Default)]
struct OpenTable {
    rows: Vec<Bytes>,
    /// Where the latest of each key stands among the rows, and what it is the latest by.
    latest: HashMap<String, (usize, String)>,
}

impl OpenItems {
    /// Bytes of memory that they hold, about.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes an item in; of those that are kept by their order, the latest of each key.
    pub fn put(&mut self, item: Item) {
        while self.tables.len() <= item.table {
            self.tables.push(OpenTable::default());
        }
        let Some(table) = self.tables.get_mut(item.table) else {
            return;
        };
        let bytes = item.text.len();
        let Some(order) = item.order else {
            table.rows.push(item.text);
            self.held += bytes + OVERHEAD;
            return;
        };
        if let Some((at, before)) = table.latest.get_mut(&item.key) {
            if *before < order
                && let Some(row) = table.rows.get_mut(*at)
            {
                self.held = self.held + bytes - row.len();
                *row = item.text;
                *before = order;
            }
            return;
        }
        self.held += bytes + item.key.len() + order.len() + OVERHEAD;
        table.latest.insert(item.key, (table.rows.len(), order));
        table.rows.push(item.text);
    }

    /// What the batch writes. `tables`: the pipeline's.
    pub fn finish(self, tables: &[Table]) -> Items {
        let rows = self
            .tables
            .into_iter()
            .zip(tables)
            .map(|(open, table)| Rows {
                table: table.file().name.clone(),
                mode: table.file().mode,
                rows: open.rows,
            });
        Items {
            tables: rows.filter(|rows| !rows.rows.is_empty()).collect(),
        }
    }
}

/// The items of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Items {
    /// By table.
    pub tables: Vec<Rows>,
}

/// Items of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// The table's name.
    pub table: String,
    /// How they are written.
    pub mode: Mode,
    /// Each a JSON object.
    pub rows: Vec<Bytes>,
}

/// A table's rows, as a line before them.
#[derive(Serialize, Deserialize)]
struct RowsFile {
    table: String,
    mode: Mode,
    rows: usize,
}

impl Items {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Bytes of memory that they hold, about.
    pub fn held(&self) -> usize {
        let rows = self.tables.iter().flat_map(|table| &table.rows);
        rows.map(|row| row.len() + OVERHEAD).sum()
    }

    /// The first `n` of them, and the rest.
    pub fn split(&self, n: usize) -> (Self, Self) {
        let (mut first, mut rest, mut left) = (Self::default(), Self::default(), n);
        for Rows { table, mode, rows } in &self.tables {
            let (now, then) = rows.split_at(rows.len().min(left));
            left -= now.len();
            for (part, rows) in [(&mut first, now), (&mut rest, then)] {
                if !rows.is_empty() {
                    let (table, mode, rows) = (table.clone(), *mode, rows.to_vec());
                    part.tables.push(Rows { table, mode, rows });
                }
            }
        }
        (first, rest)
    }

    /// As lines: for each table one that names it, and its items.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for Rows { table, mode, rows } in &self.tables {
            let head = RowsFile {
                table: table.clone(),
                mode: *mode,
                rows: rows.len(),
            };
            bytes.extend(serde_json::to_vec(&head).unwrap_or_default());
            bytes.push(b'\n');
            for row in rows {
                bytes.extend_from_slice(row);
                bytes.push(b'\n');
            }
        }
        bytes
    }

    /// Reads them back; `None` where they were not written so.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        let mut line = || {
            let end = memchr::memchr(b'\n', &bytes)?;
            let line = bytes.split_to(end + 1);
            Some(line.slice(..end))
        };
        let mut tables = Vec::new();
        while let Some(head) = line() {
            let head: RowsFile = serde_json::from_slice(&head).ok()?;
            let rows = (0..head.rows).map(|_| line()).collect::<Option<_>>()?;
            let (table, mode) = (head.table, head.mode);
            tables.push(Rows { table, mode, rows });
        }
        bytes.is_empty().then_some(Self { tables })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_and_the_rest_are_all() {
        let rows = |table: &str, n: std::ops::Range<u8>| Rows {
            table: table.into(),
            mode: Mode::Append,
            rows: n.map(|n| vec![n].into()).collect(),
        };
        let items = |tables: &[Rows]| Items {
            tables: tables.to_vec(),
        };
        let all = items(&[rows("a", 0..3), rows("b", 3..7)]);
        for (n, first, rest) in [
            (0, items(&[]), all.clone()),
            (
                2,
                items(&[rows("a", 0..2)]),
                items(&[rows("a", 2..3), rows("b", 3..7)]),
            ),
            (3, items(&[rows("a", 0..3)]), items(&[rows("b", 3..7)])),
            (
                5,
                items(&[rows("a", 0..3), rows("b", 3..5)]),
                items(&[rows("b", 5..7)]),
            ),
            (9, all.clone(), items(&[])),
        ] {
            assert_eq!(all.split(n), (first, rest), "{n}");
        }
    }
}
