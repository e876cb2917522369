//! Rows as items of DynamoDB tables, beside the objects and under the same boundary: a batch is done
//! when its objects *and* its items are there.
//!
//! ```text
//! row ─ when? ─► item: the row's fields, the key's attributes, hw_order, ttl ─► the batch's items
//!                                                      latest: one for each key, the last by its order
//! ```
//!
//! An item is a function of (row, where its record lies, table, record's time), so a batch that is made
//! again writes the same items:
//!
//! - **append**: the sort key ends in topic, partition and offset. To put it twice is to put it once.
//! - **latest**: one item for each key. `hw_order` (event time, then topic, partition, offset, at fixed
//!   widths) says which record is the later one, and an item is replaced only by a later one: a replay,
//!   a zombie and a record that comes late change nothing.
//!
//! What DynamoDB would refuse (an empty or too long key, more than 400 KB, too deep) is found out here,
//! when the batch is made, so that it is a dead letter once, and never half a batch. What is written is
//! JSON until the moment that it is sent: see [`attributes`].

pub mod attributes;
pub mod batch;
pub mod write;

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_msk::Period;
use headwater_record::steps::{Condition, ConditionFile, Engine, Shown, get};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::fetched::Identity;
use crate::items::attributes::{ITEM_BYTES_MAX, measure};
use crate::pipeline::Record;
use crate::transform::{Part, Row, parse_template};

/// Attribute of `latest` items: which record they are of, such that later ones compare greater.
pub const ORDER: &str = "hw_order";
/// DynamoDB's bound of a partition key's value, bytes.
const PARTITION_KEY_MAX: usize = 2048;
/// DynamoDB's bound of a sort key's value, bytes.
const SORT_KEY_MAX: usize = 1024;
/// The template's name of the record's stream, from its headers.
const STREAM: &str = "hw-stream";
/// First second of the year 0: before it years have a sign, and do not compare as text.
const YEAR_ZERO: i64 = -62_167_219_200;

/// One `[[output.dynamodb.table]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableFile {
    /// The table.
    pub name: String,
    /// `latest` or `append`.
    pub mode: Mode,
    /// Its partition key (HASH), a string.
    pub partition_key: KeyFile,
    /// Its sort key (RANGE), a string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort_key: Option<KeyFile>,
    /// What `latest` goes by.
    #[serde(default)]
    pub order: Order,
    /// The row's field with its event time, RFC 3339.
    #[serde(default = "time")]
    pub time: String,
    /// Which rows; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<ConditionFile>,
    /// When DynamoDB may delete an item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<TtlFile>,
}

/// What is kept in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One item for each key: the latest.
    Latest,
    /// An item for each row.
    Append,
}

/// An attribute of the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// Its name.
    pub name: String,
    /// Its value: text with `{field}`, `{/pointer/into/it}` or `{hw-stream}`.
    #[serde(default)]
    pub value: String,
}

/// What the latest record of a key is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The one with the latest event time; of those with the same, the last in its partition.
    #[default]
    Time,
    /// The last in its partition.
    Offset,
}

/// `ttl`, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TtlFile {
    /// The attribute that the table's time-to-live is set to.
    pub name: String,
    /// How long after its event time.
    pub after: Period,
}

fn time() -> String {
    "time".to_owned()
}

/// A table that cannot be written as configured.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("output.dynamodb.table {table:?}: {problem}")]
pub struct TableError {
    table: String,
    problem: String,
}

/// A table, ready to make items for.
#[derive(Debug)]
pub struct Table {
    file: TableFile,
    partition: Vec<Part>,
    sort: Option<Vec<Part>>,
    when: Option<Condition>,
}

/// One item, not yet written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Which table of the pipeline.
    pub table: usize,
    /// Its key's values, each behind its length.
    pub key: String,
    /// Which record it is of, where only the latest is kept.
    pub order: Option<String>,
    /// All its attributes: one JSON object.
    pub text: Bytes,
}

/// What an item is of, beside its row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// The record; of a window's row, the last of its batch.
    pub record: Record<'a>,
    /// Which window's row of the batch; none for a record's.
    pub window: Option<u64>,
    /// The clock of a batch without a record: its windows lie behind those of the last one that had any.
    pub quiet_ms: Option<u64>,
}

impl Source<'_> {
    /// Where it lies, such that what lies behind compares greater.
    fn place(&self) -> String {
        let Record {
            topic,
            partition,
            entry,
            ..
        } = self.record;
        let quiet = self.quiet_ms.map(|clock_ms| format!("+x{clock_ms:014}"));
        let window = self.window.map(|number| format!("+w{number:06}"));
        format!(
            "{topic}+{partition:010}+{:020}{}{}",
            entry.offset,
            quiet.unwrap_or_default(),
            window.unwrap_or_default()
        )
    }
}

impl Table {
    /// Makes a table ready.
    ///
    /// # Errors
    /// See [`TableError`].
    pub fn new(file: &TableFile) -> Result<Self, TableError> {
        let wrong = |problem: &str| TableError {
            table: file.name.clone(),
            problem: problem.to_owned(),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if !(3..=255).contains(&file.name.len()) || !file.name.chars().all(plain) {
            return Err(wrong(
                "name: DynamoDB's tables have 3 to 255 letters, digits, '_', '-' and '.'",
            ));
        }
        let sort_name = file.sort_key.as_ref().map(|key| key.name.as_str());
        let ttl_name = file.ttl.as_ref().map(|ttl| ttl.name.as_str());
        let names = [Some(file.partition_key.name.as_str()), sort_name, ttl_name];
        let names: Vec<&str> = names.into_iter().flatten().collect();
        let alone = |at: usize| !names[at + 1..].contains(&names[at]);
        if !(0..names.len()).all(|at| (1..=255).contains(&names[at].len()) && alone(at)) {
            return Err(wrong(
                "the names of key and ttl have 1 to 255 bytes, and are different",
            ));
        }
        if names.contains(&ORDER) {
            return Err(wrong("hw_order is the loader's own attribute"));
        }
        let parts = |key: &KeyFile| {
            parse_template(&key.value)
                .ok_or_else(|| wrong("a key's value has {field} between single braces"))
        };
        let (partition, sort) = (
            parts(&file.partition_key)?,
            file.sort_key.as_ref().map(parts).transpose()?,
        );
        if partition.is_empty() {
            return Err(wrong("partition_key.value says what the key is made of"));
        }
        match (file.mode, &sort) {
            (Mode::Append, None) => {
                return Err(wrong(
                    "mode \"append\" needs a sort_key: it ends in where the record lies, so that each has an item",
                ));
            }
            (Mode::Latest, Some(sort)) if sort.is_empty() => {
                return Err(wrong("sort_key.value says what the key is made of"));
            }
            _ => {}
        }
        let when = (file.when.as_ref())
            .map(|file| Condition::new(file, Engine::Fast))
            .transpose();
        Ok(Self {
            partition,
            sort,
            when: when.map_err(|error| wrong(&format!("when: {error}")))?,
            file: file.clone(),
        })
    }

    /// As it is written.
    pub fn file(&self) -> &TableFile {
        &self.file
    }

    /// The item of a row, or none where the table does not want it. `row` and `text` are the same.
    ///
    /// # Errors
    /// Why DynamoDB would not take it.
    pub(crate) fn item(
        &self,
        table: usize,
        (row, text): (&Row, &str),
        source: Source<'_>,
    ) -> Result<Option<Item>, String> {
        if self.when.as_ref().is_some_and(|when| !when.holds(row)) {
            return Ok(None);
        }
        self.made(table, (row, text), source)
            .map(Some)
            .map_err(|reason| format!("no item for {}: {reason}", self.file.name))
    }

    fn made(
        &self,
        table: usize,
        (row, text): (&Row, &str),
        source: Source<'_>,
    ) -> Result<Item, String> {
        let place = source.place();
        // A window's time is bounded by the batch clock already, and the batch's last record is no
        // measure of it.
        let bound_ms = match source.window {
            Some(_) => None,
            None => Some(source.record.entry.time_ms).filter(|ms| *ms > 0),
        };
        let at = self.time(row, bound_ms, source.record.entry.time_ms);
        let mut own: Vec<(&str, serde_json::Value)> = Vec::with_capacity(4);
        let partition = key_text(&self.partition, row, source.record)?;
        within(&self.file.partition_key.name, &partition, PARTITION_KEY_MAX)?;
        let mut key = format!("{}+{partition}", partition.len());
        own.push((&self.file.partition_key.name, partition.into()));
        if let (Some(parts), Some(file)) = (&self.sort, &self.file.sort_key) {
            let mut sort = key_text(parts, row, source.record)?;
            if self.file.mode == Mode::Append {
                let between = if sort.is_empty() { "" } else { "+" };
                sort = format!("{sort}{between}{place}");
            }
            within(&file.name, &sort, SORT_KEY_MAX)?;
            key.push_str(&sort);
            own.push((&file.name, sort.into()));
        }
        let order = match (self.file.mode, self.file.order) {
            (Mode::Append, _) => None,
            (Mode::Latest, Order::Offset) => Some(place),
            (Mode::Latest, Order::Time) => Some(format!("{at:.9} {place}")),
        };
        if let Some(order) = &order {
            own.push((ORDER, order.as_str().into()));
        }
        if let Some(ttl) = &self.file.ttl {
            let after = i64::try_from(ttl.after.as_millis() / 1000).unwrap_or(i64::MAX);
            own.push((&ttl.name, at.as_second().saturating_add(after).into()));
        }
        Ok(Item {
            table,
            key,
            order,
            text: with_own(text, &own)?,
        })
    }

    /// The row's event time, or where it has none the record's own. A clock that is ahead of `bound_ms`
    /// counts as that, which the broker bounds: else one such record would be the latest for years.
    fn time(&self, row: &Row, bound_ms: Option<u64>, record_ms: u64) -> jiff::Timestamp {
        let event = get(row, &self.file.time).and_then(|value| value.as_str()?.parse().ok());
        let from_ms = |ms: u64| {
            let ms = i64::try_from(ms).unwrap_or(i64::MAX);
            jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX)
        };
        let at: jiff::Timestamp = match (event, bound_ms) {
            (Some(event), None) => event,
            (Some(event), Some(bound)) => from_ms(bound).min(event),
            (None, _) => from_ms(record_ms),
        };
        let first = jiff::Timestamp::from_second(YEAR_ZERO).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        at.max(first)
    }
}

/// What a key's template gives. A field that is not there, null or empty makes no key: all such rows
/// would meet in one item.
fn key_text(parts: &[Part], row: &Row, record: Record<'_>) -> Result<String, String> {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Field(name) => {
                let value = match (&record.entry.identity, name.as_str()) {
                    (Identity::Tagged { stream, .. }, STREAM) => stream.to_string(),
                    _ => Shown(get(row, name)).to_string(),
                };
                if value.is_empty() {
                    return Err(format!("its key needs {name}, which is missing or empty"));
                }
                text.push_str(&value);
            }
        }
    }
    Ok(text)
}

fn within(name: &str, value: &str, max: usize) -> Result<(), String> {
    match value.len() {
        0 => Err(format!("its key {name} is empty")),
        bytes if bytes > max => Err(format!(
            "its key {name} has {bytes} bytes, and {max} are the most"
        )),
        _ => Ok(()),
    }
}

/// The row's fields and the item's own attributes, which take the place of fields of the same name.
fn with_own(text: &str, own: &[(&str, serde_json::Value)]) -> Result<Bytes, String> {
    let wrong = |error: serde_json::Error| error.to_string();
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(wrong)?;
    let mut out = Vec::with_capacity(text.len() + 128);
    let mut size = 0;
    let mut put = |name: &str, value: &str| -> Result<(), String> {
        size += measure(name, value)?;
        out.push(if out.is_empty() { b'{' } else { b',' });
        serde_json::to_writer(&mut out, name).map_err(wrong)?;
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
        Ok(())
    };
    for (name, value) in fields {
        if !own.iter().any(|(own, _)| *own == name) {
            put(&name, value.get())?;
        }
    }
    for (name, value) in own {
        put(name, &value.to_string())?;
    }
    if size > ITEM_BYTES_MAX {
        return Err(format!(
            "it takes {size} bytes, and {ITEM_BYTES_MAX} are the most"
        ));
    }
    out.push(b'}');
    Ok(out.into())
}

#[cfg(test)]
pub(crate) mod tests;
