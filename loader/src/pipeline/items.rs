//! The items of a row, made with it: a row whose items cannot be made is a dead letter, and goes
//! nowhere else.

use super::rows::{Gone, Written, write_row};
use super::{MadeItems, Pipeline};
use crate::format::Kind;
use crate::items::Source;
use crate::transform::Row;

impl Pipeline {
    /// Adds a row's items to it; where they cannot be made, says why.
    pub(super) fn beside<'a>(
        &self,
        made: Written<'a>,
        source: Source<'_>,
        beside: &'a mut MadeItems,
    ) -> Written<'a> {
        let (line, same) = made?;
        match self.make_items(line, source, beside) {
            Ok(()) => Ok((line, same)),
            Err(reason) => Err((Gone::from(reason), &mut beside.letter)),
        }
    }

    /// Makes the items of a row that is written as `line`.
    pub(super) fn make_items(
        &self,
        line: &[u8],
        source: Source<'_>,
        beside: &mut MadeItems,
    ) -> Result<(), String> {
        if self.items.is_empty() {
            return Ok(());
        }
        let text = match self.spec.format.kind {
            Kind::Ndjson => line,
            Kind::Raw | Kind::Csv | Kind::Parquet => &beside.json,
        };
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
        let row: Row = serde_json::from_str(text).map_err(|error| error.to_string())?;
        for (at, table) in self.items.iter().enumerate() {
            match table.item(at, (&row, text), source) {
                Ok(item) => beside.items.extend(item),
                Err(reason) => {
                    beside.items.clear();
                    return Err(reason);
                }
            }
        }
        Ok(())
    }

    /// Keeps a row as JSON for its items, where its line is something else.
    pub(super) fn write_json(&self, row: &Row, json: &mut Vec<u8>) {
        if !self.items.is_empty() && self.spec.format.kind != Kind::Ndjson {
            write_row(row, json);
        }
    }
}
