//! `headwater-loader test`: a configuration's transforms, formats and paths on records from standard
//! input, without Kafka and without an output. What it prints can be kept and compared with: a
//! pipeline's own regression test.
//!
//! ```text
//! headwater-loader test --config loader.toml < records.ndjson > expected.ndjson
//! headwater-loader test --config loader.toml --expect expected.ndjson < records.ndjson
//! ```
//!
//! Each line is one record's value; offsets are counted from 0. For each a line comes out:
//! `{"path":…,"row":…}`, `{"filtered":true}`, `{"aggregated":true}`, or `{"dead_letter":…}`; with the row
//! its `items` for DynamoDB, where there are any (of `latest`, all: what is put is the latest of a batch).
//! Behind the last one come the rows of all windows, as if they were closed then.

use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::aggregate::Windows;
use crate::cli::print;
use crate::config::Plan;
use crate::fetched::Entry;
use crate::format::{Format, Kind, Packed, unpack};
use crate::pipeline::{Made, Record, Scratch, To};

/// Runs the pipeline over `records`, with `clock_ms` for the batch clock. With `expect`: compares,
/// and the exit status is 1 where the output differs.
///
/// # Errors
/// A file or standard input that cannot be read.
pub fn test(
    plan: &Plan,
    records: impl BufRead,
    clock_ms: u64,
    expect: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let made = run(plan, records, clock_ms)?;
    let Some(path) = expect else {
        print(&made)?;
        return Ok(ExitCode::SUCCESS);
    };
    let expected =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut made, mut expected) = (made.lines(), expected.lines());
    for number in 1.. {
        match (made.next(), expected.next()) {
            (None, None) => break,
            (made, expected) if made == expected => {}
            (made, expected) => {
                print(&format!(
                    "line {number} differs\n  expected: {}\n  made:     {}\n",
                    expected.unwrap_or("nothing more"),
                    made.unwrap_or("nothing more")
                ))?;
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run(plan: &Plan, mut records: impl BufRead, clock_ms: u64) -> anyhow::Result<String> {
    let mut out = String::new();
    let mut scratch = Scratch::default();
    let mut path = String::new();
    let mut value = Vec::new();
    let mut windows = Windows::default();
    windows.align(plan.pipeline.aggregates());
    let mut offset = 0;
    loop {
        value.clear();
        let read = records
            .read_until(b'\n', &mut value)
            .context("cannot read standard input")?;
        if read == 0 {
            break;
        }
        let end = value.iter().rposition(|b| !matches!(b, b'\n' | b'\r'));
        value.truncate(end.map_or(0, |end| end + 1));
        let entry = Entry::foreign(offset, clock_ms);
        let record = Record {
            topic: &plan.kafka.topic,
            partition: 0,
            entry: &entry,
            value: Some(&value),
        };
        let made = plan
            .pipeline
            .make(record, clock_ms, &mut windows, &mut scratch);
        let shown = show(plan, &made, &mut path);
        write(plan, shown, &mut scratch, &mut out);
        offset += 1;
    }
    let entry = Entry::foreign(offset.saturating_sub(1), clock_ms);
    let record = Record {
        topic: &plan.kafka.topic,
        partition: 0,
        entry: &entry,
        value: None,
    };
    for row in windows.close_all(plan.pipeline.aggregates()) {
        let made = plan
            .pipeline
            .make_window(&row, record, clock_ms, &mut scratch);
        let shown = show(plan, &made, &mut path);
        write(plan, shown, &mut scratch, &mut out);
    }
    Ok(out)
}

/// What became of a record. `path`: of the last row that had one.
fn show(plan: &Plan, made: &Made<'_>, path: &mut String) -> Value {
    match made {
        Made::Filtered => json!({ "filtered": true }),
        Made::Aggregated => json!({ "aggregated": true }),
        Made::Row {
            line,
            to: To::DeadLetters(_),
        } => json!({ "dead_letter": as_json(line) }),
        Made::Row { line, to } => {
            if let To::Path(new) = to {
                (*new).clone_into(path);
            }
            json!({ "path": path, "row": as_written(&plan.pipeline.spec().format, line) })
        }
    }
}

/// Writes it as a line, with the items that go with the row.
fn write(plan: &Plan, mut shown: Value, scratch: &mut Scratch, out: &mut String) {
    let tables = plan.pipeline.items();
    let items = scratch.take_items().map(|item| {
        let table = tables.get(item.table).map(|table| &table.file().name);
        json!({ "table": table, "item": as_json(&item.text) })
    });
    let items: Vec<Value> = items.collect();
    if !items.is_empty() {
        shown["items"] = Value::Array(items);
    }
    out.push_str(&shown.to_string());
    out.push('\n');
}

fn as_json(line: &[u8]) -> Value {
    serde_json::from_slice(line).unwrap_or_else(|_| String::from_utf8_lossy(line).into())
}

/// A row as its format holds it: lines as text, Parquet as its columns.
fn as_written(format: &Format, line: &[u8]) -> Value {
    match format.kind {
        Kind::Ndjson => as_json(line),
        Kind::Raw | Kind::Csv => String::from_utf8_lossy(line).into(),
        Kind::Parquet => {
            let mut rest = line;
            let names = format.columns.iter().map(|column| &column.name);
            let cell = |name: &String| {
                let value = match unpack(&mut rest)? {
                    Packed::Null => Value::Null,
                    Packed::Text(text) => String::from_utf8_lossy(text).into(),
                    Packed::Int(n) => n.into(),
                    Packed::Float(n) => n.into(),
                    Packed::Bool(b) => b.into(),
                };
                Some((name.clone(), value))
            };
            Value::Object(
                names
                    .chain(&format.overflow)
                    .filter_map(cell)
                    .collect::<Map<_, _>>(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigFile;

    fn made(more: &str, records: &str) -> String {
        let text = format!(
            "[kafka]\nbrokers=['localhost:1']\ntopic='logs'\n[group]\nid='g'\n[output]\nurl='s3://b/p'\npath='d={{time:%Y}}'\n{more}"
        );
        let file: ConfigFile = headwater_msk::config_file::parse(&text).unwrap();
        let plan = Plan::new(&file, crate::config::file::Tables::new(), None).unwrap();
        run(&plan, records.as_bytes(), 0).unwrap()
    }

    /// What was printed once is what is expected from then on; one line that differs fails.
    #[test]
    fn a_golden_file_is_kept_to() {
        let text = "[kafka]\nbrokers=['localhost:1']\ntopic='logs'\n[group]\nid='g'\n[output]\nurl='s3://b/p'\n\
                    path='all'\n[[transform]]\nstep='drop'\nfield='n'\nin=[2]\n";
        let file: ConfigFile = headwater_msk::config_file::parse(text).unwrap();
        let plan = Plan::new(&file, crate::config::file::Tables::new(), None).unwrap();
        let records = "{\"n\":1}\n{\"n\":2}\n";
        let golden = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(golden.path(), run(&plan, records.as_bytes(), 0).unwrap()).unwrap();
        let ended = |records: &str| {
            let ended = test(&plan, records.as_bytes(), 0, Some(golden.path())).unwrap();
            format!("{ended:?}")
        };
        let (same, differs) = (ExitCode::SUCCESS, ExitCode::FAILURE);
        assert_eq!(ended(records), format!("{same:?}"));
        for other in [
            "{\"n\":1}\n",
            "{\"n\":1}\n{\"n\":3}\n",
            "{\"n\":1}\n{\"n\":2}\n{}\n",
        ] {
            assert_eq!(ended(other), format!("{differs:?}"), "{other}");
        }
    }

    #[test]
    fn what_becomes_of_each_line() {
        let step = "[[transform]]\nstep='drop'\nfield='n'\nin=[2]\n";
        assert_eq!(
            made(step, "{\"n\":1}\r\n{\"n\":2}\n{\"n\":3}"),
            "{\"path\":\"d=1970\",\"row\":{\"n\":1}}\n{\"filtered\":true}\n{\"path\":\"d=1970\",\"row\":{\"n\":3}}\n"
        );
        let table = "[[output.dynamodb.table]]\nname='last'\nmode='latest'\norder='offset'\n\
                     partition_key={name='id',value='{n}'}\nwhen={field='n',at_least=2}\n";
        assert_eq!(
            made(table, "{\"n\":1}\n{\"n\":2}\n"),
            "{\"path\":\"d=1970\",\"row\":{\"n\":1}}\n{\"path\":\"d=1970\",\"row\":{\"n\":2},\"items\":[{\"table\":\"last\",\
             \"item\":{\"n\":2,\"id\":\"2\",\"hw_order\":\"logs+0000000000+00000000000000000001\"}}]}\n"
        );
        assert!(
            made("", "oops\n").starts_with("{\"dead_letter\":{\"reason\":\"it is no JSON object")
        );
        let parquet = "format='parquet'\n[[output.column]]\nname='n'\ntype='int'\n";
        assert_eq!(
            made(parquet, "{\"n\":1,\"m\":true}\n"),
            "{\"path\":\"d=1970\",\"row\":{\"n\":1,\"_rest\":\"{\\\"m\\\":true}\"}}\n"
        );
    }
}
