//! The items of the simulation: a plain model of DynamoDB's tables, and what they must hold in the end,
//! reckoned from the log alone.

use serde_json::Value;

use super::*;
use crate::items::batch::{Items, Rows};
use crate::items::{Mode, ORDER};

/// Tables of every pipeline of the simulation: each record, the last of each stream by its place and by
/// its time, and the rows of windows.
pub(super) const TABLES: &str = "
[[items]]
name = 'all'
mode = 'append'
partition_key = { name = 'pk', value = '{stream}' }
sort_key = { name = 'sk' }
when = { field = 'id', exists = true }
[[items]]
name = 'last'
mode = 'latest'
partition_key = { name = 'pk', value = '{stream}' }
order = 'offset'
when = { field = 'id', exists = true }
[[items]]
name = 'newest'
mode = 'latest'
partition_key = { name = 'pk', value = '{stream}' }
when = { field = 'id', exists = true }
ttl = { name = 'ttl', after = '1h' }
[[items]]
name = 'windows'
mode = 'append'
partition_key = { name = 'pk', value = '{stream}' }
sort_key = { name = 'sk', value = '{time}' }
when = { field = 'count', exists = true }
";

/// Tables of items by their keys.
#[derive(Default)]
pub(super) struct Tables(BTreeMap<String, BTreeMap<(String, String), Value>>);

/// Every item, each with its table.
pub(super) fn each(items: &Items) -> impl Iterator<Item = (&Rows, &Bytes)> {
    let tables = items.tables.iter();
    tables.flat_map(|table| table.rows.iter().map(move |row| (table, row)))
}

impl Tables {
    /// Puts an item as DynamoDB does.
    pub(super) fn put(&mut self, table: &Rows, row: &Bytes) {
        let item: Value = serde_json::from_slice(row).unwrap();
        let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        let there = self.0.entry(table.table.clone()).or_default();
        let there = there.entry((text("pk"), text("sk"))).or_default();
        match table.mode {
            Mode::Append => {
                assert!(
                    there.is_null() || *there == item,
                    "one key, two items: {item}"
                );
                *there = item;
            }
            Mode::Latest => {
                let order = |item: &Value| item[ORDER].as_str().map(str::to_owned);
                assert!(
                    order(there) != order(&item) || *there == item,
                    "one order, two items"
                );
                if order(there) < order(&item) {
                    *there = item;
                }
            }
        }
    }

    fn table(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.0
            .get(name)
            .into_iter()
            .flat_map(|table| table.values())
    }
}

/// What the log alone says about a record that is kept.
struct Kept {
    id: String,
    stream: String,
    time: String,
    offset: u64,
}

fn kept(log: &Fetched) -> Vec<Kept> {
    let mut seen = BTreeSet::new();
    let mut kept = Vec::new();
    for entry in &log.entries {
        let row: Value = serde_json::from_slice(log.value(entry).unwrap()).unwrap();
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        if seen.insert(text("id")) && text("kept") == "yes" {
            kept.push(Kept {
                id: text("id"),
                stream: text("stream"),
                time: text("time"),
                offset: entry.offset,
            });
        }
    }
    kept
}

/// The tables hold what a fault-free loader would have put.
pub(super) fn check(log: &Fetched, tables: &Tables, in_windows: u64, seed: u64) {
    let kept = kept(log);
    let of = |item: &Value, name: &str| item[name].as_str().unwrap().to_owned();
    let all: BTreeSet<(String, String)> = tables
        .table("all")
        .map(|item| (of(item, "id"), of(item, "sk")))
        .collect();
    let expected: BTreeSet<(String, String)> = kept
        .iter()
        .map(|record| {
            let place = format!("{TOPIC}+0000000000+{:020}", record.offset);
            (record.id.clone(), place)
        })
        .collect();
    assert_eq!(all, expected, "seed {seed}");
    let mut last: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut newest: BTreeMap<String, (String, u64, String)> = BTreeMap::new();
    for record in kept {
        let (stream, id) = (record.stream, record.id);
        let by_place = last.entry(stream.clone()).or_default();
        *by_place = by_place.clone().max((record.offset, id.clone()));
        let by_time = newest.entry(stream).or_default();
        *by_time = by_time.clone().max((record.time, record.offset, id));
    }
    let held = |table: &str| -> BTreeMap<String, String> {
        let item = |item: &Value| (of(item, "stream"), of(item, "id"));
        tables.table(table).map(item).collect()
    };
    let last: BTreeMap<String, String> = last.into_iter().map(|(k, v)| (k, v.1)).collect();
    let newest: BTreeMap<String, String> = newest.into_iter().map(|(k, v)| (k, v.2)).collect();
    assert_eq!(held("last"), last, "seed {seed}");
    assert_eq!(held("newest"), newest, "seed {seed}");
    let windows = tables.table("windows");
    let counted: u64 = windows.map(|item| item["count"].as_u64().unwrap()).sum();
    assert_eq!(
        counted, in_windows,
        "seed {seed}: windows are items as they are rows"
    );
}
