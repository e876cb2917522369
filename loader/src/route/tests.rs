use super::part::VALUE_BYTES_MAX;
use super::*;
use crate::peek::peek;
use proptest::prelude::*;

const CLOCK: u64 = 1_764_000_000_123;

fn path(template: &str, row: &str) -> Option<String> {
    let template = PathTemplate::try_from(template.to_owned()).unwrap();
    let fields = peek(row, template.fields()).unwrap();
    let mut memo = PathMemo::default();
    let made = template.path(&fields, ("logs", CLOCK), &mut memo);
    made.ok().map(|_| memo.path)
}

/// What a path of two fields, each of so many bytes, comes to.
fn long(template: &str, topic: &str, bytes: [usize; 2]) -> Result<usize, TooLong> {
    let template = PathTemplate::try_from(template.to_owned()).unwrap();
    let [a, b] = bytes.map(|n| "x".repeat(n));
    let row = serde_json::json!({ "a": a, "b": b }).to_string();
    let fields = peek(&row, template.fields()).unwrap();
    let mut memo = PathMemo::default();
    let made = template.path(&fields, (topic, CLOCK), &mut memo);
    // And what was refused is not what the next one finds.
    assert_eq!(
        template.path(&fields, (topic, CLOCK), &mut memo).is_ok(),
        made.is_ok()
    );
    made.map(|_| memo.path.len())
}

/// A disk has no name above 255 bytes: a row with one would be tried for ever.
#[test]
fn a_part_of_a_path_fits_a_folders_name() {
    assert_eq!(long("x/{a}{b}", "t", [127, 128]), Ok(257));
    assert_eq!(long("x/{a}{b}", "t", [128, 128]), Err(TooLong::Part));
    assert_eq!(long("{a}/{b}", "t", [128, 128]), Ok(257));
    let text = |bytes| PathTemplate::try_from("y".repeat(bytes) + "{a}/z").unwrap();
    assert_eq!(text(255).fits("t"), Ok(()));
    let said = text(256).fits("t").unwrap_err().to_string();
    assert!(
        said.contains("a part of its path is longer than 255"),
        "{said}"
    );
}

#[test]
fn a_path_leaves_a_key_room_for_a_long_topic() {
    let six = "{a}/{a}/{a}/{a}/{b}/x";
    let at_most = |topic: &str| {
        let made: Vec<_> = (1..=128).map(|n| long(six, topic, [128, n])).collect();
        made.iter().filter_map(|made| made.ok()).max().unwrap_or(0)
    };
    assert_eq!(at_most("logs"), PATH_BYTES_MAX);
    let topic = "t".repeat(200);
    let most = KEY_BYTES_MAX - PREFIX_BYTES_MAX - 2 - file_bytes_max(&topic);
    assert_eq!(at_most(&topic), most);
    assert_eq!(long(six, &topic, [128, 128]), Err(TooLong::Path(most)));
    assert_eq!(path_bytes_max(&"t".repeat(2000)), 0);
}

#[test]
fn paths_by_time_and_field() {
    let row = r#"{"time":"2024-02-29T23:30:00+02:00","source":"sys log","n":7}"#;
    for (template, expected) in [
        (
            "s={source}/d={time:%Y-%m-%d}/h={time:%H}",
            "s=sys%20log/d=2024-02-29/h=21",
        ),
        ("{ingest:%Y%m%d}/{n}", "20251124/7"),
        ("day={time:%j}", "day=060"),
        ("x={gone}", "x=__HIVE_DEFAULT_PARTITION__"),
        ("", ""),
    ] {
        assert_eq!(path(template, row).as_deref(), Some(expected), "{template}");
    }
    assert_eq!(
        path("d={time:%Y}", r#"{"time":"yesterday"}"#).as_deref(),
        Some("d=2025")
    );
}

/// What lies beyond all times goes by the batch clock, as what is no time does.
#[test]
fn times_at_their_ends() {
    for (time, expected) in [
        ("0001-01-01T00:00:00Z", "0001-01-01/001"),
        ("0001-01-01T00:00:00+02:00", "0000-12-31/366"),
        ("9999-12-30T21:59:59.999Z", "9999-12-30/364"),
        ("-009999-01-02T02:00:00Z", "-9999-01-02/002"),
        ("9999-12-31T23:59:59Z", "2025-11-24/328"),
        ("+010000-01-01T00:00:00Z", "2025-11-24/328"),
        ("0001-02-30T00:00:00Z", "2025-11-24/328"),
    ] {
        let row = serde_json::json!({ "time": time }).to_string();
        assert_eq!(
            path("{time:%Y-%m-%d}/{time:%j}", &row).as_deref(),
            Some(expected),
            "{time}"
        );
    }
}

#[test]
fn what_is_refused() {
    for bad in [
        "/abs",
        "a//b",
        "a/../b",
        "_headwater/x",
        "{time:%Q}",
        "{",
        "a\nb",
        "{time:%Y/%m}",
    ] {
        assert!(PathTemplate::try_from(bad.to_owned()).is_err(), "{bad:?}");
    }
    let long = format!(r#"{{"a":"{0}","b":"{0}"}}"#, "x".repeat(2000));
    assert_eq!(path("{a}", &long).unwrap().len(), VALUE_BYTES_MAX);
    assert_eq!(path("{a}{b}{a}{b}{a}{b}", &long), None);
    let sly = r#"{"a":"_headwater","b":"state"}"#;
    assert_eq!(path("{a}/{b}", sly).as_deref(), Some("%5Fheadwater/state"));
}

proptest! {
    #[test]
    fn no_value_leaves_its_place(value in "\\PC{0,40}|\\.{0,4}|[./\\\\]{0,9}") {
        let row = serde_json::json!({ "a": value }).to_string();
        let path = path("x/{a}/y", &row).unwrap();
        let parts: Vec<&str> = path.split('/').collect();
        prop_assert_eq!(parts.len(), 3);
        prop_assert!(!parts[1].is_empty() && parts[1] != "." && parts[1] != "..");
        prop_assert!(path.bytes().all(|b| b.is_ascii_graphic()));
    }

    /// A path from the memo is the path that would have been made.
    #[test]
    fn the_memo_changes_nothing(
        rows in prop::collection::vec((
            "[ab]?", "2024-0[12]-(29|30|31)T1[01]:(09|10|60):(00|59|60)(\\.[0-9]{0,10})?(Z|z|\\+01:00)|x?",
        ), 1..12),
        clock in 0_u64..2,
    ) {
        for text in ["{s}/{time:%Y-%m-%d}/{time:%H.%M}", "{s}/{time:%M}/{time}"] {
            let template = PathTemplate::try_from(text.to_owned()).unwrap();
            let mut memo = PathMemo::default();
            let mut before = None;
            for (source, time) in &rows {
                let row = serde_json::json!({ "s": source, "time": time }).to_string();
                let fields = peek(&row, template.fields()).unwrap();
                let same = template.path(&fields, ("logs", clock * 60_000), &mut memo).unwrap();
                let mut plain = String::new();
                template.write(&fields, clock * 60_000, &mut plain);
                prop_assert_eq!(&memo.path, &plain);
                prop_assert!(same == Same::No || before == Some(plain.clone()));
                before = Some(plain);
            }
        }
    }
}
