use super::*;
use crate::fetched::Identity;
use crate::transform::lookup::TableFormat;
use headwater_record::{Generation, Kind, Span};

fn file(source: &str) -> VrlFile {
    VrlFile {
        source: Some(source.into()),
        ..VrlFile::default()
    }
}

fn sites() -> BTreeMap<String, Table> {
    let table = b"{\"id\":\"pi-7\",\"site\":\"Ulm\",\"floor\":3}\n{\"id\":8,\"site\":\"Bonn\"}\n";
    let table = Table::read(table, TableFormat::Ndjson, "id", None).unwrap();
    BTreeMap::from([("sites".to_owned(), table)])
}

fn program(source: &str) -> Result<Program, String> {
    Program::new(&file(source), sites()).map_err(|error| error.to_string())
}

fn entry() -> Entry {
    Entry {
        identity: Identity::Tagged {
            stream: "pi-7/app/var/log/a.log".into(),
            generation: Generation(0xab),
            span: Span::new(100, 150).unwrap(),
            kind: Kind::Data,
        },
        ..Entry::foreign(77, 1_700_000_000_000)
    }
}

fn run_with(program: &Program, row: &str) -> (Ended, String) {
    let mut row: Row = serde_json::from_str(row).unwrap();
    let entry = entry();
    let around = Around {
        topic: "logs",
        partition: 3,
        entry: &entry,
        clock_ms: 1_764_000_000_123,
    };
    let ended = program.run(around, &mut row);
    (ended, serde_json::to_string(&row).unwrap())
}

fn run(source: &str, row: &str) -> (Ended, String) {
    run_with(&program(source).unwrap(), row)
}

/// Every function of the library was looked at: a new version's new one is in no list, and fails here.
#[test]
fn every_function_of_the_library_is_in_one_list() {
    use crate::transform::vrl::lists::{ALLOWED, GUARDED, REFUSED};
    let mut known: Vec<&str> = ALLOWED.to_vec();
    known.extend(GUARDED.iter().map(|guard| guard.function));
    known.extend(REFUSED.iter().map(|(name, _)| *name));
    known.push("now");
    known.sort_unstable();
    let mut once = known.clone();
    once.dedup();
    assert_eq!(known, once, "a function is in two lists");
    let there: Vec<&str> = vrl::stdlib::all().iter().map(|f| f.identifier()).collect();
    for name in &there {
        assert!(
            known.contains(name),
            "{name} is new: read it, and put it in a list"
        );
    }
    for name in ALLOWED
        .iter()
        .chain(GUARDED.iter().map(|guard| &guard.function))
    {
        assert!(there.contains(name), "{name} is no longer there");
    }
    // The library says of some itself that they are impure.
    for function in vrl::stdlib::all().iter().filter(|f| !f.pure()) {
        let name = function.identifier();
        // They change the event, or end the program.
        let harmless = ["del", "assert", "assert_eq"];
        assert!(
            harmless.contains(&name) || !ALLOWED.contains(&name),
            "{name} is not pure"
        );
    }
    let lock = include_str!("../../../../Cargo.lock");
    let locked = lock
        .split("\n\n")
        .find(|text| text.contains("name = \"vrl\"\n"));
    assert!(
        locked.is_some_and(|text| text.contains(&format!("version = \"{VERSION}\""))),
        "VERSION is what programs are stored with"
    );
}

#[test]
fn programs_change_rows() {
    for (source, row, expected) in [
        (".b = .a + 1 ?? 0", r#"{"a":1}"#, r#"{"a":1,"b":2}"#),
        (
            ". |= object!(parse_json!(string!(.message)))\ndel(.message)",
            r#"{"message":"{\"t\":21.50,\"ok\":true,\"n\":null}","device":"pi-7"}"#,
            r#"{"device":"pi-7","n":null,"ok":true,"t":21.5}"#,
        ),
        (
            ".at = now()\n.read = %hw.time",
            "{}",
            r#"{"at":"2025-11-24T16:00:00.123Z","read":"2023-11-14T22:13:20Z"}"#,
        ),
        (
            ". = {\"d\": %hw.device, \"s\": %hw.source, \"p\": %hw.partition, \"o\": %hw.offset, \"from\": %hw.start}",
            "{}",
            r#"{"d":"pi-7","from":100,"o":77,"p":3,"s":"app"}"#,
        ),
        (
            ".site = lookup(\"sites\", .id).site\n.none = lookup(\"sites\", \"x\")\n.n = lookup(\"sites\", 8).site",
            r#"{"id":"pi-7"}"#,
            r#"{"id":"pi-7","n":"Bonn","none":null,"site":"Ulm"}"#,
        ),
        // The machine's zone is not asked.
        (
            ".t = parse_timestamp!(.t, \"%Y-%m-%d %H:%M\")",
            r#"{"t":"2026-07-01 12:00"}"#,
            r#"{"t":"2026-07-01T12:00:00Z"}"#,
        ),
        (
            "if .a == 1 { return 7 }\n.b = 2",
            r#"{"a":1}"#,
            r#"{"a":1}"#,
        ),
    ] {
        let (ended, row) = run(source, row);
        assert_eq!((ended, row.as_str()), (Ended::On, expected), "{source}");
    }
}

#[test]
fn what_fails_is_a_dead_letter_with_its_reason() {
    for (source, row, reason) in [
        (
            ".b = parse_json!(string!(.a))",
            r#"{"a":"{"}"#,
            "unable to parse json",
        ),
        (".b = to_int!(.a)", r#"{"a":[]}"#, "unable to coerce"),
        (". = \"x\"", "{}", "the program left string"),
        (". = [1]", "{}", "the program left array"),
        (
            "true",
            r#"{"a":18446744073709551615}"#,
            "18446744073709551615",
        ),
        (
            ".a = decode_base16!(\"ff\")",
            "{}",
            "a: it is bytes that are no UTF-8",
        ),
        (
            ".a = to_float!(.a) * 10.0",
            r#"{"a":1e308}"#,
            "JSON has no number",
        ),
        ("assert!(.a == 1, \"no\")", r#"{"a":2}"#, "no"),
        (
            "x = \"0123456789abcdef\"\nfor_each(range!(0, 21, 1)) -> |_i, _v| { x = x + x }\n.x = x",
            "{}",
            "larger than 16MiB",
        ),
        (
            "x = {}\nfor_each(range!(0, 200, 1)) -> |_i, _v| { x = {\"a\": x} }\n.x = x",
            "{}",
            "levels deep",
        ),
        (
            "for_each(range!(0, 100000, 1)) -> |_i, _v| { for_each(range!(0, 100000, 1)) -> |_i, _v| { .n = 1 } }",
            "{}",
            "more than 1000000 expressions",
        ),
    ] {
        let (ended, _) = run(source, row);
        let Ended::Failed(said) = &ended else {
            panic!("{source}: {ended:?}")
        };
        assert!(said.contains(reason), "{source}: {said}");
    }
}

#[test]
fn abort_filters_unless_it_is_to_be_kept() {
    let source = "if .level == \"debug\" { abort \"not wanted\" }";
    let row = r#"{"level":"debug"}"#;
    assert_eq!(run(source, row).0, Ended::Dropped);
    let kept = VrlFile {
        on_abort: OnAbort::DeadLetter,
        ..file(source)
    };
    let program = Program::new(&kept, sites()).unwrap();
    let (ended, _) = run_with(&program, row);
    assert_eq!(ended, Ended::Failed("not wanted".into()));
    assert_eq!(run_with(&program, "{}").0, Ended::On);
}

#[test]
fn what_is_refused_says_why() {
    for (source, why) in [
        (".a = uuid_v4()", "%hw.offset"),
        (".a = random_int!(0, 9)", "must come out the same"),
        (".a = parse_syslog!(string!(.m))", "the year from the clock"),
        (".a = unflatten(.)", "end the process"),
        (".a = flatten(object!(.a))", "the step `flatten` is there"),
        (".a = unnest!(.b)", "one row"),
        ("log(\"x\")", "say it twice"),
        (".a = get_env_var!(\"HOME\")", "undefined function"),
        (
            ".a = format_timestamp!(now(), \"%H\", timezone: \"local\")",
            "name the zone",
        ),
        (
            ".a = format_timestamp!(now(), \"%H\", timezone: string!(.z))",
            "write `timezone` out",
        ),
        (
            ".a = parse_timestamp!(.t, \"%H\", timezone: \"\")",
            "name the zone",
        ),
        (
            ".a = parse_cef!(string!(.m), translate_custom_fields: true)",
            "chance",
        ),
        (". = set!(., [string!(.k)], 1)", "write `path` out"),
        (".a = lookup(\"nope\", 1)", "no table \"nope\""),
        (".a = lookup(.t, 1)", "literal"),
        ("%hw.offset = 1", "read-only"),
        (".a = parse_json(.m)", "unhandled fallible assignment"),
        (".a = ", "syntax error"),
    ] {
        let error = program(source).unwrap_err();
        assert!(error.contains(why), "{source}: {error}");
    }
    assert!(program(".a = format_timestamp!(now(), \"%H\", timezone: \"Europe/Berlin\")").is_ok());
    assert!(program(". = set!(., [\"a\", 1], 1)").is_ok());
    let other = VrlFile {
        version: Some("0.37.0".into()),
        ..file("true")
    };
    let error = Program::new(&other, BTreeMap::new()).unwrap_err();
    assert!(error.to_string().contains("0.37.0"), "{error}");
}

/// What a device can send to the functions that are let in does not end the process.
#[test]
fn deep_and_long_texts_end_in_a_row_or_a_reason() {
    let n = 200_000;
    for (source, text) in [
        (".b = parse_json!(.a)", "[".repeat(n)),
        (".b = parse_json!(.a, max_depth: 100)", "[".repeat(n)),
        (".b = is_json(string!(.a))", "[".repeat(n)),
        (".b = parse_key_value!(.a)", "a=[".repeat(n)),
        (".b = parse_logfmt!(.a)", "a=\"".repeat(n)),
        (".b = parse_query_string!(.a)", "a[b]".repeat(n)),
        (".b = parse_cbor!(.a)", "\u{1}".repeat(n)),
        (".b = parse_influxdb!(.a)", "a,".repeat(n)),
        (".b = parse_url!(.a)", "http://[".repeat(n)),
        (".b = parse_user_agent(string!(.a))", "Mozilla (".repeat(n)),
        (".b = parse_tokens!(.a)", "[\"".repeat(n)),
        (".b = parse_csv!(.a)", "\",".repeat(n)),
        (".b = parse_cef!(.a)", "CEF:|".repeat(n)),
        (
            ".b = parse_grok!(.a, \"%{GREEDYDATA:x} %{NUMBER:y}\")",
            "a ".repeat(n / 100),
        ),
        (".b = decode_punycode!(.a)", "xn--".repeat(n)),
        (".b = decode_mime_q!(.a)", "=?utf-8?q?".repeat(n / 10)),
        (".b = split(string!(.a), \".\")", ".".repeat(n)),
    ] {
        let row = serde_json::json!({ "a": text }).to_string();
        let program = program(source).unwrap_or_else(|error| panic!("{source}: {error}"));
        match run_with(&program, &row) {
            (Ended::On, row) => assert!(row.len() < 64 * 1024 * 1024, "{source}"),
            (Ended::Failed(reason), _) => assert!(reason.len() < 64 * 1024, "{source}"),
            (Ended::Dropped, _) => panic!("{source} aborts nothing"),
        }
    }
}

/// Functions of the library that panic at what a device wrote: the record is a dead letter, and the next
/// one goes on.
#[test]
fn a_panic_is_a_dead_letter() {
    for (source, bad, good) in [
        (".b = format_number!(.a)", r#"{"a":1e30}"#, r#"{"a":1.5}"#),
        (
            ".b = starts_with(decode_base64!(.a), \"Äx\", case_sensitive: false)",
            r#"{"a":"w4Tk"}"#,
            r#"{"a":"w4R4"}"#,
        ),
        (
            ".b = encode_charset!(decode_base16!(.a), \"utf-8\")",
            r#"{"a":"ff"}"#,
            r#"{"a":"61"}"#,
        ),
    ] {
        let program = program(source).unwrap();
        for _ in 0..2 {
            let (ended, _) = run_with(&program, bad);
            let Ended::Failed(reason) = &ended else {
                panic!("{source}: {ended:?}");
            };
            assert!(reason.starts_with("the program panicked: "), "{reason}");
            assert_eq!(run_with(&program, good).0, Ended::On, "{source}");
        }
    }
}

#[test]
fn what_a_panic_says_is_its_reason() {
    assert_eq!(panics::caught(|| 1), Ok(1));
    let panicked = panics::caught(|| panic!("at {}", 7));
    assert_eq!(panicked, Err::<(), _>("at 7".to_owned()));
}
