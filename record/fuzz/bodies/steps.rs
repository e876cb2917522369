//! A line through every parser, and through a redaction behind it. What must hold for any line:
//! nothing panics; a text that is not of a format stays as it is; headwater's own fields are never
//! taken; what a pattern finds is not left. And any bytes come back from the text that raw values are searched as.

use std::sync::LazyLock;

use headwater_record::escape;
use headwater_record::steps::{Engine, Pattern, RESERVED, Row, StepFile, Steps};

const PARSERS: [&str; 11] = [
    r#"{"step":"parse","format":"json"}"#,
    r#"{"step":"parse","format":"logfmt","numbers":["a"]}"#,
    r#"{"step":"parse","format":"key_value"}"#,
    r#"{"step":"parse","format":"key_value","separator":";","assign":":"}"#,
    r#"{"step":"parse","format":"regex","pattern":"(?<a>\\w+)(?<b>.*)"}"#,
    r#"{"step":"parse","format":"syslog"}"#,
    r#"{"step":"parse","format":"syslog_3164"}"#,
    r#"{"step":"parse","format":"syslog_5424"}"#,
    r#"{"step":"parse","format":"cri"}"#,
    r#"{"step":"parse","format":"docker"}"#,
    r#"{"step":"parse","format":"csv","columns":["a","b","c"]}"#,
];

static SECRET: LazyLock<Pattern> =
    LazyLock::new(|| Pattern::new("[0-9]{3}", Engine::Small).expect("it is one"));

/// Each parser, with a redaction behind it.
static STEPS: LazyLock<[Steps; PARSERS.len()]> = LazyLock::new(|| {
    let redact = r#"{"step":"redact","pattern":"[0-9]{3}","replace":"x"}"#;
    PARSERS.map(|parser| {
        let steps =
            [parser, redact].map(|step| serde_json::from_str::<StepFile>(step).expect("it is one"));
        Steps::new(steps.to_vec()).expect("they can run")
    })
});

pub(crate) fn run(bytes: &[u8]) {
    assert_eq!(*escape::bytes(&escape::text(bytes)), *bytes);
    let text = String::from_utf8_lossy(bytes);
    for steps in STEPS.iter() {
        let mut row = Row::new();
        row.insert("message".into(), (&*text).into());
        let ran = steps.run(&mut row, 0);
        assert!(!ran.dropped);
        if ran.unparsed {
            assert!(row.contains_key("parse_error") && row.contains_key("message"));
        }
        assert!(RESERVED.iter().all(|name| !row.contains_key(name)));
        for value in row
            .iter()
            .map(|(_, value)| value)
            .filter_map(|value| value.as_str())
        {
            assert!(!SECRET.is_in(value), "{value:?} of {text:?}");
        }
    }
}
