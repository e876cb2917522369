//! What an item is made of, and which rows have none.

use super::*;
use crate::fetched::Entry;
use headwater_record::{Generation, Kind, Span};

pub(crate) fn table(text: &str) -> Table {
    Table::new(&toml::from_str(text).unwrap()).unwrap()
}

/// The item of a row at offset 7 of partition 2, as JSON; or why there is none.
fn item(table: &Table, text: &str, time_ms: u64) -> Result<Option<Row>, String> {
    let mut entry = Entry::foreign(7, time_ms);
    entry.identity = Identity::Tagged {
        stream: "pi-1/app/log".into(),
        generation: Generation(1),
        span: Span::new(0, 9).unwrap(),
        kind: Kind::Data,
    };
    let record = Record {
        topic: "logs",
        partition: 2,
        entry: &entry,
        value: None,
    };
    let source = Source {
        record,
        window: None,
        quiet_ms: None,
    };
    let row: Row = serde_json::from_str(text).unwrap();
    let made = table.item(0, (&row, text), source)?;
    Ok(made.map(|item| serde_json::from_slice(&item.text).unwrap()))
}

const LATEST: &str =
    "name='devices'\nmode='latest'\npartition_key={name='device',value='{device}'}\n";

#[test]
fn latest_is_ordered_by_time_and_place() {
    let table = table(&format!("{LATEST}ttl={{name='gone',after='1h'}}\n"));
    let row = r#"{"device":"pi","time":"2026-11-28T09:00:00.5+01:00","gone":"x","n":1.50}"#;
    let made = item(&table, row, 0).unwrap().unwrap();
    assert_eq!(
        made["hw_order"],
        "2026-11-28T08:00:00.500000000Z logs+0000000002+00000000000000000007"
    );
    assert_eq!(made["gone"], 1_795_852_800_i64 + 3600);
    assert_eq!(made.len(), 5);
    // Ahead of its own record: its clock is wrong.
    let made = item(&table, row, 1_000).unwrap().unwrap();
    assert!(
        made["hw_order"]
            .as_str()
            .unwrap()
            .starts_with("1970-01-01T00:00:01.000000000Z ")
    );
    // No time of its own.
    let made = item(&table, r#"{"device":"pi","time":"soon"}"#, 2_000)
        .unwrap()
        .unwrap();
    assert!(
        made["hw_order"]
            .as_str()
            .unwrap()
            .starts_with("1970-01-01T00:00:02.000000000Z ")
    );
    let made = item(
        &table,
        r#"{"device":"pi","time":"-000001-01-01T00:00:00Z"}"#,
        0,
    );
    assert!(
        made.unwrap().unwrap()["hw_order"]
            .as_str()
            .unwrap()
            .starts_with("0000-01-01T")
    );
}

#[test]
fn append_ends_in_where_the_record_lies() {
    let text = |value| {
        format!(
            "name='all'\nmode='append'\npartition_key={{name='pk',value='{{hw-stream}}/{{/a/b}}'}}\nsort_key={{name='sk'{value}}}\n"
        )
    };
    let row = r#"{"a":{"b":4},"pk":"mine"}"#;
    let made = item(&table(&text("")), row, 0).unwrap().unwrap();
    assert_eq!(made["pk"], "pi-1/app/log/4");
    assert_eq!(made["sk"], "logs+0000000002+00000000000000000007");
    let made = item(&table(&text(",value='at'")), row, 0).unwrap().unwrap();
    assert_eq!(made["sk"], "at+logs+0000000002+00000000000000000007");
    assert!(!made.contains_key("hw_order"));
}

#[test]
fn what_dynamodb_would_refuse_has_no_item() {
    let table = table(&format!(
        "{LATEST}sort_key={{name='s',value='{{s}}'}}\nwhen={{field='skip',exists=false}}\n"
    ));
    let long = |n: usize| "x".repeat(n);
    assert_eq!(item(&table, r#"{"skip":1}"#, 0), Ok(None));
    assert!(
        item(
            &table,
            &format!(r#"{{"device":"{}","s":"{}"}}"#, long(2048), long(1024)),
            0
        )
        .is_ok()
    );
    for (row, word) in [
        (r#"{"s":"x"}"#.to_owned(), "device, which is missing"),
        (r#"{"device":"","s":"x"}"#.to_owned(), "missing or empty"),
        (r#"{"device":"d","s":null}"#.to_owned(), "missing or empty"),
        (
            format!(r#"{{"device":"{}","s":"x"}}"#, long(2049)),
            "2049 bytes",
        ),
        (
            format!(r#"{{"device":"d","s":"{}"}}"#, long(1025)),
            "1025 bytes",
        ),
        (
            format!(r#"{{"device":"d","s":"x","l":"{}"}}"#, long(409_600)),
            "409600 are the most",
        ),
        (r#"{"device":"d","s":"x","":1}"#.to_owned(), "empty name"),
    ] {
        let error = item(&table, &row, 0).unwrap_err();
        assert!(error.contains(word) && error.contains("devices"), "{error}");
    }
}

#[test]
fn a_table_that_cannot_be_is_refused() {
    for (text, word) in [
        (LATEST.replace("devices", "x"), "3 to 255"),
        (LATEST.replace("{device}", "{device"), "braces"),
        (LATEST.replace("{device}", ""), "made of"),
        (LATEST.replace("latest", "append"), "needs a sort_key"),
        (
            format!("{LATEST}sort_key={{name='device',value='x'}}"),
            "different",
        ),
        (
            format!("{LATEST}sort_key={{name='hw_order',value='x'}}"),
            "own attribute",
        ),
        (format!("{LATEST}sort_key={{name='s'}}"), "made of"),
        (format!("{LATEST}when={{field='s'}}"), "when"),
    ] {
        let error = Table::new(&toml::from_str(&text).unwrap()).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_batch_keeps_the_latest_of_a_key() {
    use crate::items::batch::OpenItems;
    let latest = table(LATEST);
    let mut open = OpenItems::default();
    let put = |open: &mut OpenItems, key: &str, order: &str, text: &str| {
        open.put(Item {
            table: 0,
            key: key.into(),
            order: Some(order.into()),
            text: text.to_owned().into(),
        });
    };
    put(&mut open, "a", "2", "{\"n\":2}");
    put(&mut open, "b", "1", "{\"n\":1}");
    let held = open.held();
    put(&mut open, "a", "1", "{\"n\":1}");
    assert_eq!(open.held(), held);
    put(&mut open, "a", "3", "{\"n\":300}");
    assert_eq!(open.held(), held + 2);
    let items = open.finish(&[latest]);
    assert_eq!(items.tables[0].rows, [&b"{\"n\":300}"[..], b"{\"n\":1}"]);
    assert_eq!(batch::Items::decode(items.encode().into()), Some(items));
}
