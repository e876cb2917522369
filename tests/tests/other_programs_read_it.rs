//! NDJSON, raw lines, CSV and Parquet, read back by DuckDB and pyarrow: every value as it went in, and once more when
//! `compact` has put the objects together.

use std::path::Path;
use std::time::Duration;

use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::Loading;
use headwater_tests::oracle::wait_until;
use headwater_tests::process::Loader;
use headwater_tests::python::READERS;
use headwater_tests::s3::S3;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
/// 2026-11-24T08:00:00Z
const MORNING: i64 = 1_795_507_200_000;

/// Rows of every type, with what makes readers stumble; each with what a table has to show.
fn rows() -> Vec<(Value, Value)> {
    let texts = [
        "plain",
        "",
        "a,b;\"c\"",
        "two\nlines\r\n",
        " spaced ",
        "é 漢 🙂",
        "null",
        "\u{1}\t\\",
    ];
    (0..400_i64)
        .zip(texts.iter().cycle())
        .map(|(n, text)| {
            let text = *text;
            let ms = MORNING + n * 60_001;
            let seconds = ms / 1000;
            let time = format!(
                "2026-11-24T{:02}:{:02}:{:02}.{:03}Z",
                seconds / 3600 % 24,
                seconds / 60 % 60,
                seconds % 60,
                ms % 1000
            );
            let mut row = json!({"time": time, "t": time, "n": n - 200, "f": n as f64 / 8.0, "ok": n % 3 == 0, "s": text});
            let mut seen = json!({"t": ms, "n": n - 200, "f": n as f64 / 8.0, "ok": n % 3 == 0, "s": text, "_rest": {"time": time}});
            if n % 5 == 0 {
                row["n"] = Value::Null;
                seen["n"] = Value::Null;
            }
            if n % 7 == 0 {
                row["new"] = json!({"deep": [n]});
                seen["_rest"]["new"] = json!({"deep": [n]});
            }
            (row, seen)
        })
        .collect()
}

/// The first and the last time that a column holds, and one behind it that programs write for "never"; as [`rows`].
fn edges() -> Vec<(Value, Value)> {
    let times = [
        ("0001-01-01T00:00:00Z", Some(-62_135_596_800_000_i64)),
        ("9999-12-30T22:00:00.999Z", Some(253_402_207_200_999)),
        ("9999-12-31T23:59:59Z", None),
    ];
    let row = |(t, ms): (&str, Option<i64>)| {
        let time = "2026-11-24T07:00:00Z";
        let row = json!({"time": time, "t": t});
        let mut seen =
            json!({"t": ms, "n": null, "f": null, "ok": null, "s": null, "_rest": {"time": time}});
        if ms.is_none() {
            seen["_rest"]["t"] = t.into();
        }
        (row, seen)
    };
    times.map(row).into()
}

fn declared() -> String {
    let columns = [
        ("n", "int"),
        ("f", "float"),
        ("ok", "bool"),
        ("t", "timestamp"),
        ("s", "string"),
    ];
    columns
        .map(|(name, kind)| format!("[[output.column]]\nname = \"{name}\"\ntype = \"{kind}\"\n"))
        .concat()
}

fn config(
    loading: &Loading,
    (format, compression): (&str, &str),
    columns: &str,
    out: &Path,
) -> String {
    let text = format!(
        r#"
        [kafka]
        brokers = ["{}"]
        topic = "{}"
        [kafka.security]
        allow_plaintext = true
        [group]
        id = "{}-{format}"
        session_timeout = "2s"
        [output]
        url = "file://{}"
        path = "day={{time:%Y-%m-%d}}"
        format = "{format}"
        compression = "{compression}"
        "#,
        loading.kafka.bootstrap(),
        loading.topic,
        loading.topic,
        out.display(),
    );
    let columns = match format {
        "ndjson" => "",
        // The record's value, byte for byte: rows here are JSON, too.
        "raw" => "raw_field = \"\"\n",
        _ => columns,
    };
    text + columns + "[flush]\nage = \"300ms\"\nrecords = 60\n"
}

/// Whether an object is lines of JSON.
fn is_lines(format: &str) -> bool {
    matches!(format, "ndjson" | "raw")
}

/// Rows as they are compared: by their time, the overflow column read as the JSON that it is.
fn sorted(mut rows: Vec<Value>) -> Vec<Value> {
    rows.sort_by_key(|row| row["t"].as_i64());
    rows
}

fn seen_by(reader: &str, printed: &str, lines: bool) -> Vec<Value> {
    let rows = printed.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("the script prints JSON");
        line
    });
    let row = |mut line: Value| {
        let mut row = line["row"].take();
        if lines {
            // What is no time stays the text that it is.
            if let Ok(at) = row["t"]
                .as_str()
                .expect("a text")
                .parse::<jiff::Timestamp>()
            {
                row["t"] = at.as_millisecond().into();
            }
        } else if let Some(rest) = row["_rest"].as_str() {
            row["_rest"] = serde_json::from_str(rest).expect("JSON in _rest");
        }
        row
    };
    sorted(
        rows.filter(|line| line["reader"] == reader)
            .map(row)
            .collect(),
    )
}

fn produce(loading: &Loading, rows: &[(Value, Value)]) {
    let records = rows.iter().map(|(row, _)| Record {
        value: row.to_string().into_bytes(),
        ..Record::default()
    });
    loading.kafka.produce(&loading.topic, records);
}

/// Runs a loader until all rows are committed.
fn load(loading: &Loading, config: &str, group: &str) {
    let loader = Loader::start(config);
    let depth = loading.kafka.depth(&loading.topic);
    wait_until("all is committed", PATIENCE, || {
        let committed = loading.kafka.committed(group, &loading.topic);
        committed.iter().filter_map(|held| held.offset).sum::<i64>() >= depth
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
}

/// What each reader sees in `folder`, of the columns `more` too.
fn read_back(format: &str, folder: &Path, more: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("formats/read.py");
    let folder = folder.display().to_string();
    READERS.run(&script, &[&[format, &folder], more].concat())
}

/// Both readers see these rows in the folder.
fn assert_seen(what: &str, format: &str, folder: &Path, expected: &[Value]) {
    let printed = read_back(format, folder, &[]);
    for reader in ["duckdb", "pyarrow"] {
        let seen = seen_by(reader, &printed, is_lines(format));
        assert_eq!(seen.len(), expected.len(), "{what} {reader}");
        for (seen, expected) in seen.iter().zip(expected) {
            assert_eq!(seen, expected, "{what} {reader}");
        }
    }
}

/// `compact`, killed when the large object is there and the small ones are, too, and run again.
fn put_together(config: &str, what: &str) {
    let apply = ["--apply", "--older-than", "0s"];
    let mut killed = Loader::with(config).crash_at("compact-stored");
    assert_eq!(killed.run("compact", &apply).code, None, "{what}");
    let mut loader = Loader::with(config);
    for (command, more) in [("compact", &apply[..]), ("verify", &[])] {
        let ran = loader.run(command, more);
        assert_eq!(
            ran.code,
            Some(0),
            "{what} {command}: {}{}",
            ran.stdout,
            ran.stderr
        );
    }
}

/// How many objects lie in a folder's one path.
fn objects(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder.join("day=2026-11-24")).expect("rows of one day");
    files.count()
}

#[test]
fn duckdb_and_pyarrow_see_what_went_in() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "formats", 1);
    let rows = [rows(), edges()].concat();
    produce(&loading, &rows);
    // Every format with every codec that it knows.
    for (format, compression) in [
        ("parquet", "zstd"),
        ("parquet", "none"),
        ("csv", "zstd"),
        ("csv", "gzip"),
        ("csv", "none"),
        ("ndjson", "zstd"),
        ("ndjson", "gzip"),
        ("ndjson", "none"),
        ("raw", "zstd"),
        ("raw", "gzip"),
        ("raw", "none"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&loading, (format, compression), &declared(), folder.path());
        let group = format!("{}-{format}", loading.topic);
        let config = config.replace(&group, &format!("{group}-{compression}"));
        load(&loading, &config, &format!("{group}-{compression}"));
        let expected = rows.iter().map(|(_, seen)| {
            let mut seen = seen.clone();
            if is_lines(format) {
                let rest = seen["_rest"].take();
                if let Some(text) = rest.get("t") {
                    seen["t"] = text.clone();
                }
            }
            seen
        });
        let expected = sorted(expected.collect());
        let what = format!("{format} {compression}");
        assert_seen(&what, format, folder.path(), &expected);
        let before = objects(folder.path());
        put_together(&config, &what);
        let after = objects(folder.path());
        assert!(before > 5 && after == 2, "{what}: {before} into {after}");
        assert_seen(&what, format, folder.path(), &expected);
    }
}

/// What `columns` prints is put into the configuration as it is, and then nothing is left for the
/// overflow column.
#[test]
fn columns_that_were_found_in_the_topic_hold_every_value() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "columns", 2);
    let rows = rows();
    produce(&loading, &rows);
    let folder = tempfile::tempdir().unwrap();
    let parquet = |columns: &str| config(&loading, ("parquet", "zstd"), columns, folder.path());
    let refused = Loader::with(&parquet("")).run("check", &[]);
    assert_ne!(refused.code, Some(0));
    assert!(
        refused.stderr.contains("headwater-loader columns"),
        "{}",
        refused.stderr
    );
    let found = Loader::with(&parquet("")).run("columns", &[]);
    assert_eq!(found.code, Some(0), "{}", found.stderr);
    load(
        &loading,
        &parquet(&found.stdout),
        &format!("{}-parquet", loading.topic),
    );
    let printed = read_back("parquet", folder.path(), &["time", "new"]);
    for reader in ["duckdb", "pyarrow"] {
        let seen = seen_by(reader, &printed, false);
        let expected = sorted(rows.iter().map(|(_, seen)| seen.clone()).collect());
        assert_eq!(seen.len(), expected.len(), "{reader}");
        for (mut seen, mut expected) in seen.into_iter().zip(expected) {
            expected["time"] = expected["t"].clone();
            let rest = expected["_rest"].take();
            expected["new"] = rest.get("new").cloned().unwrap_or_default();
            if let Some(new) = seen["new"].as_str() {
                seen["new"] = serde_json::from_str(new).expect("JSON");
            }
            assert_eq!(seen, expected, "{reader}: {}", found.stdout);
        }
    }
}

/// Row groups are as large as `row_group` says, and each says what it holds: so a reader leaves out what it need not
/// read.
#[test]
fn row_groups_have_the_size_that_is_set_and_say_what_they_hold() {
    const ROWS: i64 = 20_000;
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "groups", 1);
    let text = |n: i64| format!("{n:06} {}", "lorem ipsum ".repeat(25));
    let rows = (0..ROWS).map(|n| {
        let row = json!({"time": "2026-11-24T08:00:00Z", "n": n, "s": text(n), "f": if n < 10 { Value::Null } else { json!(n) }});
        (row, Value::Null)
    });
    produce(&loading, &rows.collect::<Vec<_>>());
    let folder = tempfile::tempdir().unwrap();
    let config = config(&loading, ("parquet", "zstd"), &declared(), folder.path());
    let config = config
        .replace(
            "format = \"parquet\"",
            "format = \"parquet\"\nrow_group = \"1MiB\"",
        )
        .replace(
            "age = \"300ms\"\nrecords = 60",
            &format!("age = \"1h\"\nrecords = {ROWS}"),
        );
    let group = format!("{}-parquet", loading.topic);
    load(&loading, &config, &group);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("formats/groups.py");
    let printed = READERS.run(&script, &[&folder.path().display().to_string()]);
    let columns: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).expect("the script prints JSON"))
        .collect();
    let of = |name: &'static str| {
        columns
            .iter()
            .filter(move |column| column["column"] == name)
    };
    // A row packs into 9 bytes for its number, its text and 9, and some 60 for the rest.
    let least = ROWS * 316 / (1 << 20);
    let groups = i64::try_from(of("n").count()).expect("a small number");
    assert!(
        (least..=2 * least).contains(&groups),
        "{groups} row groups, not {least}"
    );
    let mut next = 0;
    for (n, s) in of("n").zip(of("s")) {
        let (first, last) = (next, next + n["rows"].as_i64().expect("a count") - 1);
        assert_eq!(n["least"], first.to_string());
        assert_eq!(n["most"], last.to_string());
        assert_eq!(n["duckdb"], json!([first.to_string(), last.to_string()]));
        assert_eq!(n["nulls"], 0);
        // Long texts are cut: what is said is at or below the least, at or above the greatest.
        let said = |name: &str| s[name].as_str().expect("a text").to_owned();
        assert!(
            said("least") <= text(first) && said("most") >= text(last),
            "{s}"
        );
        assert!(
            said("least").starts_with(&format!("{first:06} lorem")),
            "{s}"
        );
        next = last + 1;
    }
    assert_eq!(next, ROWS);
    assert!(
        columns.iter().all(|column| column["pages"] == true),
        "{columns:?}"
    );
    let nulls: i64 = of("f").filter_map(|column| column["nulls"].as_i64()).sum();
    assert_eq!(nulls, 10);
}
