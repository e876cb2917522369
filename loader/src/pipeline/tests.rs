use serde_json::Value;

use super::*;
use crate::aggregate::Windows;
use crate::transform::Row;

pub(crate) fn pipeline(transform: &str, path: &str) -> Pipeline {
    pipeline_over(transform, path, &BTreeMap::new())
}

/// The same, with tables.
pub(crate) fn pipeline_over(
    transform: &str,
    path: &str,
    tables: &BTreeMap<String, Vec<u8>>,
) -> Pipeline {
    #[derive(Deserialize)]
    struct Steps {
        #[serde(default)]
        layout: Layout,
        #[serde(default)]
        ledger: Option<Bytes>,
        #[serde(default)]
        transform: Vec<StepFile>,
        #[serde(default)]
        items: Vec<TableFile>,
        #[serde(default)]
        accounts: AccountsFile,
    }
    let steps: Steps = toml::from_str(transform).unwrap();
    let spec = PipelineSpec {
        transform: steps.transform,
        tables: tables
            .iter()
            .map(|(path, bytes)| (path.clone(), content_hash(bytes)))
            .collect(),
        path: path.to_owned().try_into().unwrap(),
        compression: Compression::None,
        format: Format::default(),
        ledger_retention: Period::secs(86_400),
        ledger: steps.ledger,
        items: steps.items,
        layout: steps.layout,
        accounts: steps.accounts,
    };
    Pipeline::new(spec, |path| tables.get(path).map(Vec::as_slice)).unwrap()
}

/// Where it went, or that it was filtered, and its line.
fn make(pipeline: &Pipeline, value: Option<&[u8]>) -> (String, String) {
    let entry = Entry::foreign(5, 0);
    let record = Record {
        topic: "logs",
        partition: 2,
        entry: &entry,
        value,
    };
    let mut scratch = Scratch {
        line: b"old".to_vec(),
        ..Scratch::default()
    };
    match pipeline.make(record, 0, &mut Windows::default(), &mut scratch) {
        Made::Filtered | Made::Aggregated => ("filtered".into(), String::new()),
        Made::Row { line, to } => {
            let to = match to {
                To::Path(path) => path,
                To::PathAsBefore => "as before",
                To::DeadLetters(_) => "dead letters",
            };
            (to.to_owned(), String::from_utf8(line.to_vec()).unwrap())
        }
    }
}

#[test]
fn untouched_rows_keep_their_bytes() {
    let plain = pipeline("", "s={source}");
    let value = br#"{"source":"a",  "n":1.00}"#;
    let (to, line) = make(&plain, Some(value));
    assert_eq!((to.as_str(), line.as_bytes()), ("s=a", &value[..]));
}

/// A line is one line; nothing else of the value is another.
#[test]
fn a_row_over_several_lines_keeps_all_but_their_breaks() {
    let plain = pipeline("", "s={source}");
    let value =
        "{\"source\":\r\n\"a\",\n\"n\":12345678901234567890123,\r\"n\":1e400,\"t\":\"\\n\"}\n";
    let (to, line) = make(&plain, Some(value.as_bytes()));
    assert_eq!(to, "s=a");
    assert_eq!(line, value.replace(['\n', '\r'], " "));
}

#[test]
fn what_is_no_row_is_a_dead_letter_with_its_bytes() {
    let steps = "[[transform]]\nstep='set'\nfield='a'\nvalue=1\n";
    for pipeline in [pipeline("", "x"), pipeline(steps, "x")] {
        for value in [
            Some(&b"\xff\x00"[..]),
            Some(b"{\"a\":\"\xff\"}"),
            Some(b"[1]"),
            Some(b""),
            None,
        ] {
            let (to, line) = make(&pipeline, value);
            assert_eq!(to, "dead letters");
            let row: Row = serde_json::from_str(&line).unwrap();
            assert_eq!(row["offset"], 5);
            assert_eq!(row["value_base64"].is_null(), value.is_none());
        }
    }
}

/// Without a step a row keeps its bytes; what a step cannot read as numbers and structures of 64 bits and 128
/// levels is a dead letter, and of a name that stands twice the last one counts, for the path in either case.
#[test]
fn rows_at_the_ends_of_json() {
    let step = "[[transform]]\nstep='set'\nfield='seen'\nvalue=true\n";
    let (plain, stepped) = (pipeline("", "s={s}"), pipeline(step, "s={s}"));
    let deep = format!(
        r#"{{"s":"a","d":{}{}}}"#,
        "[".repeat(1000),
        "]".repeat(1000)
    );
    for value in [r#"{"s":"a","n":1e400}"#, &deep] {
        let (to, line) = make(&plain, Some(value.as_bytes()));
        assert_eq!((to.as_str(), line.as_str()), ("s=a", value));
        let (to, line) = make(&stepped, Some(value.as_bytes()));
        assert_eq!(to, "dead letters");
        assert!(line.len() > value.len(), "with all of it");
    }
    for value in [
        r#"{"s":"a","n":NaN}"#,
        r#"{"s":"a","n":-Infinity}"#,
        r#"{"s":"a","n":01}"#,
    ] {
        for pipeline in [&plain, &stepped] {
            assert_eq!(
                make(pipeline, Some(value.as_bytes())).0,
                "dead letters",
                "{value}"
            );
        }
    }
    let twice = r#"{"s":"a","n":1,"s":"b"}"#;
    let (to, line) = make(&plain, Some(twice.as_bytes()));
    assert_eq!((to.as_str(), line.as_str()), ("s=b", twice));
    let (to, line) = make(&stepped, Some(twice.as_bytes()));
    assert_eq!(
        (to.as_str(), line.as_str()),
        ("s=b", r#"{"s":"b","n":1,"seen":true}"#)
    );
}

/// Raw lines are the device's own bytes: from `message`, from its exact bytes where it is no text, or the whole
/// value; and the same behind a step.
#[test]
fn raw_lines_are_the_bytes_as_they_came() {
    let step = "[[transform]]\nstep='set'\nfield='seen'\nvalue=true\n";
    for (steps, field, value, line) in [
        (
            "",
            Some("message"),
            r#"{"message":"a\tb","n":1}"#,
            &b"a\tb"[..],
        ),
        (
            step,
            Some("message"),
            r#"{"message":"a\tb","n":1}"#,
            b"a\tb",
        ),
        (
            "",
            Some("message"),
            r#"{"message":"\ufffd","message_base64":"/wA="}"#,
            b"\xff\x00",
        ),
        (
            step,
            Some("message"),
            r#"{"message":"\ufffd","message_base64":"/wA="}"#,
            b"\xff\x00",
        ),
        ("", Some("n"), r#"{"message":"a","n":7}"#, b"7"),
        ("", None, "not even JSON", b"not even JSON"),
        (step, None, r#"{"message":  "a"}"#, br#"{"message":  "a"}"#),
    ] {
        let mut spec = pipeline(steps, "all").spec().clone();
        spec.format.kind = Kind::Raw;
        spec.format.raw_field = field.map(str::to_owned);
        let raw = Pipeline::new(spec, |_| None).unwrap();
        let entry = Entry::foreign(5, 0);
        let record = Record {
            topic: "logs",
            partition: 2,
            entry: &entry,
            value: Some(value.as_bytes()),
        };
        let mut scratch = Scratch::default();
        let made = raw.make(record, 0, &mut Windows::default(), &mut scratch);
        let Made::Row {
            line: written,
            to: To::Path("all"),
        } = made
        else {
            panic!("{value}: {made:?}");
        };
        assert_eq!(written, line, "{value}");
    }
}

/// A row that fails after its path was found leaves nothing there; the next one of that path goes
/// there, not where the last row went.
#[test]
fn a_row_behind_one_that_failed_goes_to_its_own_path() {
    let mut spec = pipeline("", "s={source}").spec().clone();
    spec.format.kind = Kind::Raw;
    spec.format.raw_field = Some("message".to_owned());
    let raw = Pipeline::new(spec, |_| None).unwrap();
    let mut scratch = Scratch::default();
    let mut went = |value: &str| {
        let entry = Entry::foreign(9, 0);
        let record = Record {
            topic: "logs",
            partition: 1,
            entry: &entry,
            value: Some(value.as_bytes()),
        };
        match raw.make(record, 0, &mut Windows::default(), &mut scratch) {
            Made::Row {
                to: To::DeadLetters(_),
                ..
            } => "DeadLetters".to_owned(),
            Made::Row { to, .. } => format!("{to:?}"),
            other => format!("{other:?}"),
        }
    };
    let to = |path: &str| format!("{:?}", To::Path(path));
    assert_eq!(went(r#"{"source":"a","message":"1"}"#), to("s=a"));
    assert_eq!(went(r#"{"source":"b"}"#), "DeadLetters");
    assert_eq!(went(r#"{"source":"b","message":"2"}"#), to("s=b"));
    assert_eq!(went(r#"{"source":"b","message":"3"}"#), "PathAsBefore");
}

#[test]
fn routes_and_failed_steps() {
    let steps = "[[transform]]\nstep='route'\npath='bad/{level}'\nwhen={field='level',in=['error']}\n\
                 [[transform]]\nstep='route'\npath='other'\nwhen={field='level',exists=true}\n\
                 [[transform]]\nstep='timestamp'\nfield='ts'\nformats=['unix']\n";
    let routed = pipeline(steps, "s={s}");
    let mut scratch = Scratch::default();
    let entry = Entry::foreign(9, 0);
    let mut went = |value: &str| {
        let record = Record {
            topic: "logs",
            partition: 1,
            entry: &entry,
            value: Some(value.as_bytes()),
        };
        match routed.make(record, 0, &mut Windows::default(), &mut scratch) {
            Made::Row { to, line } => {
                let row: Row = serde_json::from_slice(line).unwrap();
                let step = row.get("step").cloned().unwrap_or_default();
                let to = match to {
                    To::DeadLetters(_) => "DeadLetters".to_owned(),
                    to => format!("{to:?}"),
                };
                (to, step)
            }
            Made::Filtered | Made::Aggregated => ("filtered".to_owned(), Value::Null),
        }
    };
    let to = |path: &str| (format!("{:?}", To::Path(path)), Value::Null);
    let before = (format!("{:?}", To::PathAsBefore), Value::Null);
    assert_eq!(went(r#"{"level":"error"}"#), to("bad/error"));
    assert_eq!(went(r#"{"level":"error","n":2}"#), before);
    assert_eq!(went(r#"{"level":"warn"}"#), to("other"));
    assert_eq!(went(r#"{"s":"x"}"#), to("s=x"));
    assert_eq!(
        went(r#"{"ts":"soon"}"#),
        ("DeadLetters".to_owned(), "3 (timestamp)".into())
    );
}

#[test]
fn steps_run_in_order_and_the_hash_tells_pipelines_apart() {
    let steps = "[[transform]]\nstep='set'\nfield='a'\nvalue=1\n[[transform]]\nstep='filter'\nfield='a'\nin=[2]\n";
    let filtering = pipeline(steps, "x");
    assert_eq!(make(&filtering, Some(b"{\"a\":2}")).0, "filtered");
    assert_ne!(filtering.hash(), pipeline("", "x").hash());
    assert_eq!(filtering.hash(), pipeline(steps, "x").hash());
}
