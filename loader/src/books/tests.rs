use headwater_record::{Generation, HeaderError, Kind, Span};
use serde_json::{Value, json};

use super::*;
use crate::fetched::{Entry, Identity};

/// 2026-11-28T13:20:00Z.
const NOW: u64 = 1_795_872_000_000;

const BOTH: AccountsFile = AccountsFile {
    hourly_markers: true,
    daily: Some(Daily::Device),
    devices: 2,
};

fn open(books: &mut Books, asked: AccountsFile, clock_ms: u64, at: u64, ledger: &Ledger) -> bool {
    books.open(Opening {
        who: ("logs", 3),
        asked,
        clock_ms,
        at,
        ledger,
    })
}

fn due(books: &Books) -> Vec<(String, Value)> {
    let read = |object: Object| {
        let value = serde_json::from_slice(&object.bytes);
        (object.key, value.unwrap_or_default())
    };
    books.due().into_iter().map(read).collect()
}

#[test]
fn an_hour_that_is_over_is_said_to_be_complete_once() {
    let (mut books, ledger) = (Books::default(), Ledger::default());
    assert!(books.would_turn(BOTH, NOW), "they are to be begun");
    assert!(!open(&mut books, BOTH, NOW, 5, &ledger));
    assert_eq!(books.complete_ms(), None);
    let counts = Counts {
        records: 7,
        rows: 6,
        ..Counts::default()
    };
    books.close(&counts, Some((10, 20)));
    assert!(!books.would_turn(BOTH, NOW + HOUR_MS / 2));
    assert!(!open(&mut books, BOTH, NOW + HOUR_MS / 2, 12, &ledger));
    books.close(&counts, Some((30, 25)));
    assert!(books.would_turn(BOTH, NOW + HOUR_MS));
    assert!(open(&mut books, BOTH, NOW + HOUR_MS, 19, &ledger));
    let [(key, marker)] = &due(&books)[..] else {
        panic!("one marker")
    };
    assert_eq!(key, "_headwater/complete/logs/2026-11-28T13Z/3.json");
    let expected = json!({
        "v": 1, "topic": "logs", "partition": 3, "hour": "2026-11-28T13:00:00Z", "previous": null,
        "from": 5, "to": 19, "records": 14, "bytes": 0, "rows": 12, "window_rows": 0, "dead_letters": 0,
        "filtered": 0, "aggregated": 0, "duplicates": 0, "overlaps": 0, "notices": 0, "refused_headers": 0, "unaccounted": 0,
        "first": "1970-01-01T00:00:00.01Z", "last": "1970-01-01T00:00:00.025Z",
    });
    assert_eq!(marker, &expected);
    assert_eq!(books.complete_ms(), Some(NOW - NOW % HOUR_MS + HOUR_MS));
    assert!(!open(&mut books, BOTH, NOW + HOUR_MS + 1, 19, &ledger));
    assert_eq!(due(&books), [], "what was due was written");
}

#[test]
fn of_a_long_rest_the_last_week_is_marked() {
    let (mut books, ledger) = (Books::default(), Ledger::default());
    let asked = AccountsFile {
        daily: None,
        ..BOTH
    };
    open(&mut books, asked, NOW, 5, &ledger);
    open(&mut books, asked, NOW + 1000 * HOUR_MS, 5, &ledger);
    let due = due(&books);
    assert_eq!(due.len(), 169);
    assert_eq!(due[0].1["hour"], "2026-11-28T13:00:00Z");
    assert_eq!(due[1].1["previous"], due[0].1["hour"]);
    assert_eq!(due[1].1["hour"], "2027-01-02T05:00:00Z");
    assert_eq!(due[168].1["hour"], "2027-01-09T04:00:00Z");
    assert!(due.iter().all(|(_, marker)| marker["to"] == 5));
}

/// What a batch does with each record.
fn take(books: &mut Books, ledger: &mut Ledger, entry: &Entry, value: &str, most: u32) {
    let mut outcome = Some(Outcome::Written);
    let came = match &entry.identity {
        Identity::Tagged {
            stream,
            generation,
            span,
            kind: Kind::Data,
        } => {
            let (verdict, covered) = ledger.take(stream, *generation, *span, NOW);
            if covered.fresh == 0 {
                outcome = None;
            }
            Came::Data(verdict, covered)
        }
        Identity::Tagged {
            stream,
            generation,
            span,
            kind,
        } => {
            outcome = None;
            Came::Notice {
                lost: Some(value.to_owned()),
                covered: ledger
                    .explain(stream, *generation, *span, *kind, None, NOW)
                    .unwrap_or_default(),
            }
        }
        _ => Came::Nameless,
    };
    let day = books.day().unwrap();
    day.note((entry, Some(value.as_bytes())), (&came, outcome), NOW, most);
}

fn entry(stream: &str, span: (u64, u64), kind: Kind) -> Entry {
    Entry {
        identity: Identity::Tagged {
            stream: stream.into(),
            generation: Generation(1),
            span: Span::new(span.0, span.1).unwrap(),
            kind,
        },
        ..Entry::foreign(0, NOW - 5000)
    }
}

#[test]
fn a_device_has_an_account_of_its_day() {
    let (mut books, mut ledger) = (Books::default(), Ledger::default());
    let asked = AccountsFile {
        hourly_markers: false,
        ..BOTH
    };
    open(&mut books, asked, NOW, 0, &ledger);
    let timed = r#"{"time":"2026-11-28T13:19:50Z"}"#;
    let ahead = r#"{"time":"2026-11-28T13:20:01Z"}"#;
    for (stream, span, kind, value) in [
        ("pi-7/a/x", (0, 10), Kind::Data, timed),
        ("pi-7/a/x", (0, 10), Kind::Data, timed),
        ("pi-7/a/x", (30, 40), Kind::Data, ahead),
        ("pi-7/a/x", (35, 50), Kind::Data, "no JSON"),
        ("pi-7/a/x", (10, 22), Kind::Loss, "spool-full"),
        ("pi-70/a/x", (5, 6), Kind::Data, timed),
        ("one-too-many/a/x", (5, 6), Kind::Data, timed),
    ] {
        take(
            &mut books,
            &mut ledger,
            &entry(stream, span, kind),
            value,
            2,
        );
    }
    let refused = Entry {
        identity: Identity::Refused(HeaderError::Span),
        ..Entry::foreign(0, 7)
    };
    take(&mut books, &mut ledger, &refused, timed, 2);
    assert_eq!(books.devices(), 2);
    assert!(open(&mut books, asked, NOW + DAY_MS, 9, &ledger));
    let due = due(&books);
    let keys: Vec<&str> = due.iter().map(|(key, _)| key.as_str()).collect();
    let day = "_headwater/account/logs/2026-11-28";
    assert_eq!(
        keys,
        ["device=pi-7", "device=pi-70", "nameless", "others"]
            .map(|of| format!("{day}/{of}/3.json"))
    );
    let expected = json!({
        "v": 1, "topic": "logs", "partition": 3, "day": "2026-11-28", "since": "2026-11-28T13:20:00Z",
        "of": "device", "device": "pi-7", "records": 3, "bytes": 110, "written": 3, "dead_letters": 0,
        "filtered": 0, "aggregated": 0, "duplicates": 1, "overlaps": 1, "repeated_offsets": 5, "unaccounted": 0, "notices": 1,
        "offsets": 42,
        "gaps": {
            "opened": 1, "opened_offsets": 20, "closed_offsets": 12, "lost": {"spool-full": 12},
            "unexplained": 1, "unexplained_offsets": 8,
        },
        "first": "2026-11-28T13:19:55Z", "last": "2026-11-28T13:19:55Z",
        "to_kafka": {"records": 1, "p50_ms": 4864, "p90_ms": 4864, "p99_ms": 4864, "max_ms": 5000},
        "to_batch": {"records": 1, "p50_ms": 9728, "p90_ms": 9728, "p99_ms": 9728, "max_ms": 10000},
        "untimed": 1, "ahead": 1,
    });
    assert_eq!(due[0].1, expected);
    assert_eq!(due[3].1["records"], 1);
    assert_eq!(due[2].1["device"], Value::Null);
}

#[test]
fn what_a_device_says_is_bounded() {
    let (mut books, mut ledger) = (Books::default(), Ledger::default());
    open(&mut books, BOTH, NOW, 0, &ledger);
    for n in 0..1000 {
        let stream = format!("pi-{n}/a/x");
        let one = entry(&stream, (0, 1), Kind::Data);
        take(&mut books, &mut ledger, &one, "{}", 2);
        let lost = entry("pi-0/a/x", (5 * n, 5 * n + 3), Kind::Loss);
        take(&mut books, &mut ledger, &lost, &format!("reason {n}"), 2);
    }
    assert_eq!(books.devices(), 2);
    open(&mut books, BOTH, NOW + DAY_MS, 0, &ledger);
    let accounts: Vec<Value> = due(&books)
        .into_iter()
        .filter(|(key, _)| key.contains("/account/"))
        .map(|(_, account)| account)
        .collect();
    assert_eq!(accounts.len(), 3);
    let lost = accounts[0]["gaps"]["lost"].as_object().unwrap();
    assert_eq!(lost.len(), 17);
    let all: u64 = lost.values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(all, 2999, "the first of 3000 had come");
    assert_eq!(accounts[2]["of"], "others");
    assert_eq!(accounts[2]["records"], 998);
}

#[test]
fn a_day_may_be_one_object_of_lines() {
    let (mut books, mut ledger) = (Books::default(), Ledger::default());
    let asked = AccountsFile {
        hourly_markers: false,
        daily: Some(Daily::Partition),
        devices: 9,
    };
    open(&mut books, asked, NOW, 0, &ledger);
    for stream in ["b/a/x", "a/a/x"] {
        let one = entry(stream, (0, 1), Kind::Data);
        take(&mut books, &mut ledger, &one, "{}", 9);
    }
    open(&mut books, asked, NOW + 2 * DAY_MS, 0, &ledger);
    let [object] = &books.due()[..] else {
        panic!("one object")
    };
    assert_eq!(object.key, "_headwater/account/logs/2026-11-28/3.ndjson");
    let lines = std::str::from_utf8(&object.bytes).unwrap().lines();
    let devices: Vec<Value> = lines
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["device"].clone())
        .collect();
    assert_eq!(devices, ["a", "b"]);
    open(&mut books, asked, NOW + 4 * DAY_MS, 0, &ledger);
    assert_eq!(
        books.due(),
        [],
        "a day on which nothing came has no account"
    );
}

#[test]
fn what_is_switched_off_is_forgotten() {
    let (mut books, ledger) = (Books::default(), Ledger::default());
    open(&mut books, BOTH, NOW, 0, &ledger);
    let off = AccountsFile::default();
    assert!(off.is_off());
    assert!(!books.would_turn(off, NOW + DAY_MS));
    assert!(!open(&mut books, off, NOW + DAY_MS, 0, &ledger));
    assert!(books.is_empty());
}

#[test]
fn a_state_cannot_name_a_place_that_is_not_its_own() {
    for (key, sound) in [
        ("_headwater/complete/logs/2026-11-28T13Z/3.json", true),
        ("_headwater/account/logs/2026-11-28/device=x/3.json", true),
        ("_headwater/state/logs/3/head", false),
        ("_headwater/complete/../state/logs/3/head", false),
        ("source=x/logs", false),
    ] {
        let books = Books {
            due: vec![Due {
                key: key.into(),
                text: String::new(),
            }],
            ..Books::default()
        };
        assert_eq!(books.are_sound(), sound, "{key}");
    }
}

#[test]
fn markers_are_written_before_accounts_and_in_the_order_of_their_hours() {
    let (mut books, mut ledger) = (Books::default(), Ledger::default());
    open(&mut books, BOTH, NOW, 5, &ledger);
    let span = Span::new(0, 9).unwrap();
    ledger.accept("pi-7/app//x", Generation(1), span, NOW);
    open(&mut books, BOTH, NOW + 2 * DAY_MS, 9, &ledger);
    let due = books.due();
    let (markers, accounts) = markers_first(&due);
    assert_eq!(markers.len(), 48);
    assert!(markers.is_sorted_by_key(|marker| &marker.key));
    let is_account = |object: &Object| object.key.starts_with("_headwater/account/");
    assert!(accounts.iter().all(is_account));
    assert_eq!(markers.len() + accounts.len(), due.len());
}
