use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Runs one step, or a list of them, on a row; `None` where it is dropped.
fn run(steps: &Value, row: &Value) -> Option<Value> {
    let steps = Steps::new(files(steps)).unwrap();
    let mut row = Row::from(row.as_object().unwrap().clone());
    let ran = steps.run(&mut row, 7);
    (!ran.dropped).then(|| row.into())
}

fn files(steps: &Value) -> Vec<StepFile> {
    let list = match steps {
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    let file = |step| serde_json::from_value(step).unwrap();
    list.into_iter().map(file).collect()
}

/// What parsing a line makes of it, as it is written to the wire: the order counts.
fn parsed(step: &Value, line: &str) -> String {
    let mut step = step.clone();
    step["step"] = "parse".into();
    run(&step, &json!({"message": line})).unwrap().to_string()
}

#[test]
fn conditions_keep_and_drop() {
    let row =
        json!({"level": "warn", "status": 404, "took": "12.5", "http": {"path": "/a"}, "n": null});
    for (condition, holds) in [
        (json!({"field": "level", "in": ["warn", "error"]}), true),
        (json!({"field": "level", "in": ["info"]}), false),
        (json!({"field": "gone", "in": ["info"]}), false),
        (json!({"field": "status", "in": [404]}), true),
        (json!({"field": "status", "in": ["404"]}), false),
        (json!({"field": "level", "not_in": ["warn"]}), false),
        (json!({"field": "gone", "not_in": ["warn"]}), true),
        (json!({"field": "n", "exists": true}), true),
        (json!({"field": "gone", "exists": true}), false),
        (json!({"field": "gone", "exists": false}), true),
        (json!({"field": "/http/path", "matches": "^/a$"}), true),
        (json!({"field": "status", "matches": "^4"}), true),
        (json!({"field": "gone", "matches": ""}), false),
        (json!({"field": "level", "not_matches": "warn"}), false),
        (json!({"field": "gone", "not_matches": "warn"}), true),
        (json!({"field": "status", "at_least": 404}), true),
        (
            json!({"field": "status", "at_least": 400, "at_most": 403}),
            false,
        ),
        (json!({"field": "took", "at_most": 12.5}), true),
        (json!({"field": "level", "at_least": 0}), false),
        (json!({"field": "n", "at_most": 1}), false),
    ] {
        for (step, kept) in [("keep", holds), ("drop", !holds)] {
            let mut step_file = condition.clone();
            step_file["step"] = step.into();
            assert_eq!(run(&step_file, &row).is_some(), kept, "{step_file}");
        }
    }
}

#[test]
fn fields_are_named_added_and_taken_away() {
    let row = json!({"a": 1, "b": "x", "c": true});
    for (step, made) in [
        (
            json!({"step": "rename", "from": "a", "to": "z"}),
            json!({"b": "x", "c": true, "z": 1}),
        ),
        (
            json!({"step": "rename", "from": "a", "to": "b"}),
            json!({"b": 1, "c": true}),
        ),
        (
            json!({"step": "rename", "from": "a", "to": "a"}),
            row.clone(),
        ),
        (
            json!({"step": "rename", "from": "gone", "to": "a"}),
            row.clone(),
        ),
        (
            json!({"step": "remove", "fields": ["a", "c", "gone"]}),
            json!({"b": "x"}),
        ),
        (
            json!({"step": "add", "field": "d", "value": "{b}{a}"}),
            json!({"a": 1, "b": "x", "c": true, "d": "x1"}),
        ),
        (
            json!({"step": "add", "field": "a", "value": [2]}),
            json!({"a": [2], "b": "x", "c": true}),
        ),
        (
            json!({"step": "redact", "fields": ["b"]}),
            json!({"a": 1, "b": "[redacted]", "c": true}),
        ),
        (json!({"step": "sample", "rate": 1}), row.clone()),
    ] {
        let made_of_it = run(&step, &row).unwrap();
        assert_eq!(made_of_it.to_string(), made.to_string(), "{step}");
    }
}

#[test]
fn steps_go_in_order_and_a_dropped_row_goes_no_further() {
    let steps = json!([
        {"step": "parse", "format": "cri"},
        {"step": "parse", "format": "json", "on_error": "drop"},
        {"step": "drop", "field": "level", "in": ["debug"]},
        {"step": "remove", "fields": ["timestamp"]},
        {"step": "redact", "pattern": "secret"},
    ]);
    let line = |text: &str| json!({"message": format!("2026-11-24T08:15:00Z stdout F {text}")});
    assert_eq!(
        run(
            &steps,
            &line(r#"{"level":"info","device":"evil","m":"a secret"}"#)
        ),
        Some(json!({"stream": "stdout", "level": "info", "device_": "evil", "m": "a [redacted]"}))
    );
    assert_eq!(run(&steps, &line(r#"{"level":"debug"}"#)), None);
    assert_eq!(run(&steps, &line("plain")), None);
    assert!(Steps::new(files(&steps)).unwrap().redacts());
}

#[test]
fn json_lines() {
    let json = json!({"format": "json"});
    for (line, made) in [
        (
            // zerolog, pino, and what headwater itself writes.
            r#"{"level":"info","time":"2026-11-24T08:15:00Z","message":"started"}"#,
            r#"{"level":"info","time_":"2026-11-24T08:15:00Z","message":"started"}"#,
        ),
        (
            r#"{"level":30,"pid":77,"hostname":"pi-7","msg":"hi","a":{"b":[1.10,-0.1,18446744073709551615]}}"#,
            r#"{"level":30,"pid":77,"hostname":"pi-7","msg":"hi","a":{"b":[1.1,-0.1,18446744073709551615]}}"#,
        ),
        (
            "[1]",
            r#"{"message":"[1]","parse_error":"not a JSON object"}"#,
        ),
        (
            r#"{"a":1} x"#,
            r#"{"message":"{\"a\":1} x","parse_error":"not a JSON object"}"#,
        ),
        ("", r#"{"message":"","parse_error":"not a JSON object"}"#),
    ] {
        assert_eq!(parsed(&json, line), made);
    }
    let deep = "{\"a\":".repeat(200) + "1" + &"}".repeat(200);
    assert!(parsed(&json, &deep).ends_with(r#""parse_error":"not a JSON object"}"#));
}

#[test]
fn logfmt_and_other_keys_and_values() {
    let logfmt = json!({"format": "logfmt", "numbers": ["took"]});
    for (line, made) in [
        (
            // Grafana, Prometheus.
            r#"ts=2026-11-24T08:15:00.123Z caller=head.go:713 level=info component=tsdb msg="Head GC completed" took=1.25"#,
            r#"{"ts":"2026-11-24T08:15:00.123Z","caller":"head.go:713","level":"info","component":"tsdb","msg":"Head GC completed","took":1.25}"#,
        ),
        (
            r#"a= b="q\"\\\n\u00fc" c  took=fast"#,
            r#"{"a":"","b":"q\"\\\nü","c":true,"took":"fast"}"#,
        ),
        (
            "just some prose",
            r#"{"message":"just some prose","parse_error":"not logfmt: no key=value in it"}"#,
        ),
        (
            "=1",
            r#"{"message":"=1","parse_error":"not logfmt: a value without a key"}"#,
        ),
        (
            r#"a="b"#,
            r#"{"message":"a=\"b","parse_error":"not logfmt: a quote is open"}"#,
        ),
        (
            r#"a="b"c"#,
            r#"{"message":"a=\"b\"c","parse_error":"not logfmt: no blank behind a value"}"#,
        ),
    ] {
        assert_eq!(parsed(&logfmt, line), made);
    }
    let wide = (0..1001).map(|n| format!("k{n}= ")).collect::<String>();
    assert!(parsed(&logfmt, &wide).ends_with(r#""parse_error":"more than 1000 fields"}"#));

    let blanks = json!({"format": "key_value"});
    assert_eq!(
        parsed(&blanks, r#"IN=eth0  OUT= MAC="a b" LEN=60"#),
        r#"{"IN":"eth0","OUT":"","MAC":"a b","LEN":"60"}"#
    );
    let meter =
        json!({"format": "key_value", "separator": ";", "assign": ":", "numbers": ["TEMP"]});
    for (line, made) in [
        (
            " TEMP: 21.5 ; HUM :40;; note: \"a;b\" ;",
            r#"{"TEMP":21.5,"HUM":"40","note":"a;b"}"#,
        ),
        (
            "TEMP;HUM:1",
            r#"{"message":"TEMP;HUM:1","parse_error":"a key without a value"}"#,
        ),
        (
            "TEMP:\"1",
            r#"{"message":"TEMP:\"1","parse_error":"a quote is open"}"#,
        ),
        (
            ":1",
            r#"{"message":":1","parse_error":"a value without a key"}"#,
        ),
        (
            " ",
            r#"{"message":" ","parse_error":"no key and value in it"}"#,
        ),
    ] {
        assert_eq!(parsed(&meter, line), made);
    }
}

#[test]
fn patterns_with_names() {
    let access = json!({"format": "regex", "numbers": ["status", "bytes"], "pattern":
        r#"^(?<client>\S+) \S+ (?<user>\S+) \[(?<at>[^\]]+)\] "(?<request>[^"]*)" (?<status>\d{3}) (?<bytes>\d+|-)(?<rest> .*)?$"#});
    assert_eq!(
        parsed(
            &access,
            r#"10.0.0.7 - eve [24/Nov/2026:08:15:00 +0000] "GET / HTTP/1.1" 200 612"#
        ),
        r#"{"client":"10.0.0.7","user":"eve","at":"24/Nov/2026:08:15:00 +0000","request":"GET / HTTP/1.1","status":200,"bytes":612}"#
    );
    assert_eq!(
        parsed(&access, "else"),
        r#"{"message":"else","parse_error":"the pattern is not in it"}"#
    );
}

/// Texts that some programs print for numbers, and JSON has no number for, stay texts.
#[test]
fn what_is_no_number_of_json_stays_a_text() {
    let csv = json!({"format": "csv", "columns": ["t"], "numbers": ["t"]});
    let regex = json!({"format": "regex", "pattern": "^t=(?<t>.*)$", "numbers": ["t"]});
    let logfmt = json!({"format": "logfmt", "numbers": ["t"]});
    for text in [
        "NaN",
        "nan",
        "-nan",
        "inf",
        "-Inf",
        "Infinity",
        "+infinity",
        "1e400",
        "-1e400",
    ] {
        let made = format!(r#"{{"t":"{text}"}}"#);
        assert_eq!(parsed(&csv, text), made);
        assert_eq!(parsed(&regex, &format!("t={text}")), made);
        assert_eq!(parsed(&logfmt, &format!("t={text}")), made);
    }
    for (text, number) in [("1e308", "1e+308"), ("-0.0", "-0.0"), ("1e-400", "0.0")] {
        assert_eq!(parsed(&csv, text), format!(r#"{{"t":{number}}}"#));
    }
    let json = json!({"format": "json"});
    for line in [
        r#"{"t":NaN}"#,
        r#"{"t":-Infinity}"#,
        r#"{"t":1e400}"#,
        r#"{"t":01}"#,
    ] {
        assert!(
            parsed(&json, line).ends_with(r#""parse_error":"not a JSON object"}"#),
            "{line}"
        );
    }
}

#[test]
fn syslog_lines() {
    let syslog = json!({"format": "syslog"});
    for (line, made) in [
        (
            "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
            r#"{"facility":"auth","severity":"crit","timestamp":"Oct 11 22:14:15","host":"mymachine","app":"su","message":"'su root' failed for lonvick on /dev/pts/8"}"#,
        ),
        (
            "Nov  4 08:15:00 pi-7 sshd[612]: Accepted publickey for pi",
            r#"{"timestamp":"Nov  4 08:15:00","host":"pi-7","app":"sshd","pid":"612","message":"Accepted publickey for pi"}"#,
        ),
        (
            // rsyslog on Debian 12.
            "2026-11-24T08:15:00.123456+01:00 pi-7 kernel: [    0.000000] Booting Linux",
            r#"{"timestamp":"2026-11-24T08:15:00.123456+01:00","host":"pi-7","app":"kernel","message":"[    0.000000] Booting Linux"}"#,
        ),
        (
            "Nov 24 08:15:00 pi-7 last message repeated 2 times",
            r#"{"timestamp":"Nov 24 08:15:00","host":"pi-7","message":"last message repeated 2 times"}"#,
        ),
        (
            // RFC 5424, section 6.5, examples 1, 3 and 4.
            "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed",
            r#"{"facility":"auth","severity":"crit","timestamp":"2003-10-11T22:14:15.003Z","host":"mymachine.example.com","app":"su","msgid":"ID47","message":"'su root' failed"}"#,
        ),
        (
            r#"<165>1 2003-10-11T22:14:15.003Z pi-7 evntslog - ID47 [exampleSDID@32473 iut="3" eventSource="App\]li\"c\n"] An event"#,
            r#"{"facility":"local4","severity":"notice","timestamp":"2003-10-11T22:14:15.003Z","host":"pi-7","app":"evntslog","msgid":"ID47","structured_data":{"exampleSDID@32473":{"iut":"3","eventSource":"App]li\"c\\n"}},"message":"An event"}"#,
        ),
        (
            r#"<165>1 - - - - - [a@1 x="1"][b]"#,
            r#"{"facility":"local4","severity":"notice","structured_data":{"a@1":{"x":"1"},"b":{}}}"#,
        ),
    ] {
        assert_eq!(parsed(&syslog, line), made);
    }
    for bad in [
        "",
        "no syslog",
        "<34>",
        "<999>Oct 11 22:14:15 h su: x",
        "Oct 11 22:14 h su: x",
        "Oct 11 22:14:15",
        "<34>1 - - - - -",
        "<34>1 - - - - - x",
        "<34>1 - - - - - [",
        "<34>1 - - - - - [a b]",
        "<34>1 - - - - - [a b=\"]",
        "<34>1 - - - - - [a]x",
        "Oct ü1 22:14:15 h m",
    ] {
        let made: Value = serde_json::from_str(&parsed(&syslog, bad)).unwrap();
        assert_eq!(made["message"], bad);
        assert!(
            made["parse_error"].as_str().unwrap().starts_with("not "),
            "{made}"
        );
    }
    let newer_only = json!({"format": "syslog_5424"});
    assert!(parsed(&newer_only, "Nov 24 08:15:00 pi-7 su: x").contains("parse_error"));
    let older_only = json!({"format": "syslog_3164"});
    assert!(parsed(&older_only, "<34>1 - - - - - -").contains("parse_error"));
}

#[test]
fn container_lines_and_comma_separated_ones() {
    let cri = json!({"format": "cri"});
    for (line, made) in [
        (
            "2016-10-06T00:17:09.669794202Z stdout F the whole of it",
            r#"{"timestamp":"2016-10-06T00:17:09.669794202Z","stream":"stdout","message":"the whole of it"}"#,
        ),
        (
            "2016-10-06T00:17:09.669794203+01:00 stderr P:x a part ",
            r#"{"timestamp":"2016-10-06T00:17:09.669794203+01:00","stream":"stderr","partial":true,"message":"a part "}"#,
        ),
        (
            "2016-10-06T00:17:09Z stdout F",
            r#"{"timestamp":"2016-10-06T00:17:09Z","stream":"stdout","message":""}"#,
        ),
    ] {
        assert_eq!(parsed(&cri, line), made);
    }
    assert!(parsed(&cri, "2016-10-06T00:17:09Z stdin F x").contains("parse_error"));
    assert!(parsed(&cri, "2016-10-06T00:17:09Z stdout X x").contains("parse_error"));

    let docker = json!({"format": "docker"});
    for (line, made) in [
        (
            r#"{"log":"the \"whole\" of it\n","stream":"stdout","time":"2016-10-06T00:17:09.6Z"}"#,
            r#"{"timestamp":"2016-10-06T00:17:09.6Z","stream":"stdout","message":"the \"whole\" of it"}"#,
        ),
        (
            r#"{"log":"a part ","stream":"stderr","attrs":{"tag":"x"},"time":"t"}"#,
            r#"{"timestamp":"t","stream":"stderr","partial":true,"message":"a part ","attrs":{"tag":"x"}}"#,
        ),
        (
            r#"{"log":"\r\n\n","message":1,"device":"evil"}"#,
            r#"{"message":"\r\n","message_":1,"device_":"evil"}"#,
        ),
    ] {
        assert_eq!(parsed(&docker, line), made);
    }
    for bad in [
        "",
        "[]",
        r#"{"log":1}"#,
        r#"{"message":"x"}"#,
        r#"{"log":"a"} x"#,
    ] {
        assert!(parsed(&docker, bad).contains("parse_error"), "{bad}");
    }

    let csv = json!({"format": "csv", "columns": ["at", "t", "text"], "separator": ";", "numbers": ["t"]});
    for (line, made) in [
        (
            "8:15;21.5;\"a;\"\"b\"\"\"",
            r#"{"at":"8:15","t":21.5,"text":"a;\"b\""}"#,
        ),
        (";;ü", r#"{"at":"","t":"","text":"ü"}"#),
        ("1;2;3\r", r#"{"at":"1","t":2,"text":"3"}"#),
    ] {
        assert_eq!(parsed(&csv, line), made);
    }
    for bad in ["", "1;2", "1;2;3;4", "1;2;3\n4;5;6"] {
        assert!(parsed(&csv, bad).contains("parse_error"), "{bad}");
    }
}

#[test]
fn where_fields_go_and_what_a_failure_does() {
    let row = json!({"message": "a=1", "b": 2});
    let parse = |more: Value, row: &Value| {
        let mut step = json!({"step": "parse", "format": "logfmt"});
        step.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        run(&step, row).map(|row| row.to_string())
    };
    for (more, made) in [
        (
            json!({"keep_field": true}),
            r#"{"message":"a=1","b":2,"a":"1"}"#,
        ),
        (json!({"into": "kv"}), r#"{"b":2,"kv":{"a":"1"}}"#),
        (json!({"field": "b"}), r#"{"message":"a=1","b":2}"#),
        (json!({"field": "gone"}), r#"{"message":"a=1","b":2}"#),
    ] {
        assert_eq!(parse(more, &row).as_deref(), Some(made));
    }
    let bad = json!({"message": "prose"});
    assert_eq!(
        parse(json!({"on_error": "ignore"}), &bad).unwrap(),
        bad.to_string()
    );
    assert_eq!(parse(json!({"on_error": "drop"}), &bad), None);
    let mut row = Row::from(bad.as_object().unwrap().clone());
    let steps = Steps::new(files(
        &json!({"step": "parse", "format": "cri", "on_error": "ignore"}),
    ));
    let ran = steps.unwrap().run(&mut row, 0);
    assert_eq!(
        ran,
        Ran {
            unparsed: true,
            ..Ran::default()
        }
    );
}

#[test]
fn a_text_that_is_to_be_kept_elsewhere_is_refused_as_it_was() {
    let written = files(&json!([
        {"step": "add", "field": "a", "value": 1},
        {"step": "parse", "format": "json", "on_error": "dead_letter"},
        {"step": "add", "field": "b", "value": 2},
    ]));
    let steps = Steps::with_dead_letters(written.clone(), Engine::Small).unwrap();
    let ran = |row: Value| {
        let mut row = Row::from(row.as_object().unwrap().clone());
        (steps.run(&mut row, 0), Value::from(row))
    };
    let (prose, row) = ran(json!({"message": "prose"}));
    assert_eq!((prose.dropped, prose.unparsed), (false, true));
    assert_eq!(prose.refused, Some("not a JSON object"));
    assert_eq!(row, json!({"message": "prose", "a": 1}));
    let (parsed, row) = ran(json!({"message": "{\"x\":1}"}));
    assert_eq!(parsed, Ran::default());
    assert_eq!(row, json!({"a": 1, "x": 1, "b": 2}));
    // Where nobody keeps it, it cannot be asked for.
    let problems = Steps::new(written).unwrap_err();
    assert_eq!(problems[0].index, 1);
    assert_eq!(problems[0].error, StepError::NoDeadLetters);
}

#[test]
fn what_cannot_run_is_refused_all_of_it_at_once() {
    let steps = json!([
        {"step": "keep", "field": "a"},
        {"step": "drop", "field": "a", "in": [1], "exists": true},
        {"step": "keep", "field": "", "exists": true},
        {"step": "keep", "field": "a", "matches": "("},
        {"step": "rename", "from": "", "to": "b"},
        {"step": "remove", "fields": []},
        {"step": "add", "field": "a", "value": "{"},
        {"step": "redact"},
        {"step": "sample", "rate": 0},
        {"step": "parse", "format": "regex"},
        {"step": "parse", "format": "regex", "pattern": "(a)"},
        {"step": "parse", "format": "csv"},
        {"step": "parse", "format": "csv", "columns": ["a"], "separator": "ü"},
        {"step": "parse", "format": "json", "pattern": "a"},
        {"step": "parse", "format": "key_value", "assign": ""},
        {"step": "parse", "format": "json", "field": ""},
    ]);
    let problems = Steps::new(files(&steps)).unwrap_err();
    let indices: Vec<_> = problems.iter().map(|problem| problem.index).collect();
    assert_eq!(indices, (0..16).collect::<Vec<_>>());
    for unknown in [
        json!({"step": "keepp", "field": "a"}),
        json!({"step": "keep", "field": "a", "is": 1}),
        json!({"step": "parse", "format": "xml"}),
        json!({"step": "parse", "format": "json", "extra": 1}),
    ] {
        assert!(
            serde_json::from_value::<StepFile>(unknown.clone()).is_err(),
            "{unknown}"
        );
    }
}

/// One of each parser, over the text that a property gives.
fn parsers() -> Vec<Steps> {
    let parser = |step: Value| {
        let mut step = step;
        step["step"] = "parse".into();
        Steps::new(files(&step)).unwrap()
    };
    vec![
        parser(json!({"format": "json"})),
        parser(json!({"format": "logfmt"})),
        parser(json!({"format": "key_value"})),
        parser(json!({"format": "key_value", "separator": "ü;", "assign": "=="})),
        parser(json!({"format": "regex", "pattern": "(?<a>.)(?<b>[^a]*)"})),
        parser(json!({"format": "syslog"})),
        parser(json!({"format": "syslog_3164"})),
        parser(json!({"format": "syslog_5424"})),
        parser(json!({"format": "cri"})),
        parser(json!({"format": "docker"})),
        parser(json!({"format": "csv", "columns": ["a", "b"]})),
    ]
}

/// Texts that come near to what the parsers look for.
fn near_texts() -> impl Strategy<Value = String> {
    let pieces = vec![
        "<34>",
        "1 ",
        "Nov 24 08:15:00 ",
        "2026-11-24T08:15:00Z ",
        "pi-7 ",
        "su[1]: ",
        "- ",
        "[a ",
        "b=\"c\"",
        "\\",
        "\"",
        "]",
        "=",
        "==",
        ";",
        "ü",
        ",",
        "\n",
        "stdout F ",
        "{\"a\":",
        "}",
        "\\u00",
        " ",
        "\u{feff}",
    ];
    prop::collection::vec(
        prop_oneof![
            prop::sample::select(pieces).prop_map(String::from),
            ".{0,3}"
        ],
        0..12,
    )
    .prop_map(|pieces| pieces.concat())
}

fn keys() -> impl Strategy<Value = String> {
    "[a-z_][a-z0-9_.@]{0,6}".prop_filter("headwater's own", |key| !RESERVED.contains(&key.as_str()))
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_stays(text in near_texts()) {
        for steps in parsers() {
            let mut row = Row::new();
            row.insert("message".into(), text.clone().into());
            let ran = steps.run(&mut row, 0);
            prop_assert!(!ran.dropped);
            if ran.unparsed {
                prop_assert_eq!(row.get("message").unwrap(), &text);
                prop_assert!(row.contains_key("parse_error"));
            }
            prop_assert!(RESERVED.iter().all(|name| !row.contains_key(name)));
        }
    }

    #[test]
    fn what_was_written_is_read(pairs in prop::collection::btree_map(keys(), ".{0,8}", 1..6)) {
        let quoted = |value: &str| {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            format!("\"{escaped}\"")
        };
        let expected: Row = pairs.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        let logfmt: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
        prop_assert_eq!(parsed(&json!({"format": "logfmt"}), &logfmt.join(" ")), Value::from(expected.clone()).to_string());
        prop_assert_eq!(parsed(&json!({"format": "json"}), &Value::from(expected.clone()).to_string()), Value::from(expected.clone()).to_string());
        let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
        let element: String = pairs.iter().map(|(key, value)| format!(" {key}=\"{}\"", escaped(value))).collect();
        let line = format!("<0>1 - - - - - [id{element}] x");
        let made: Value = serde_json::from_str(&parsed(&json!({"format": "syslog"}), &line)).unwrap();
        prop_assert_eq!(&made["structured_data"]["id"], &Value::from(expected.clone()));
        let names: Vec<_> = pairs.keys().collect();
        let cells: Vec<_> = pairs.values().map(|value| format!("\"{}\"", value.replace('"', "\"\""))).collect();
        prop_assert_eq!(parsed(&json!({"format": "csv", "columns": names}), &cells.join(",")), Value::from(expected).to_string());
    }

    #[test]
    fn nothing_that_a_pattern_finds_is_left(text in "[a-c0-9 ü]{0,40}", key in "[a-z]{1,3}") {
        let row = json!({"m": text, "o": {(key): [text]}});
        let made = run(&json!({"step": "redact", "pattern": "[0-9]{2,}", "replace": "x"}), &row).unwrap();
        let pattern = Pattern::new("[0-9]{2,}", Engine::Small).unwrap();
        prop_assert!(!pattern.is_in(&made.to_string()));
        prop_assert_eq!(made.to_string().matches('ü').count(), row.to_string().matches('ü').count());
    }
}
