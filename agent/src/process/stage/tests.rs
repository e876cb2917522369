use std::time::Duration;

use headwater_record::steps::Steps;
use headwater_record::{DeviceId, Span};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::process::{Form, RateLimit};

fn plan(steps: &Value, repeats_s: Option<u64>, limit: Option<(u32, u64)>) -> ProcessPlan {
    let files = serde_json::from_value(steps.clone()).unwrap();
    ProcessPlan {
        steps: Steps::new(files).unwrap(),
        repeats: repeats_s.map(Duration::from_secs),
        rate_limit: limit.map(|(records, per_s)| RateLimit {
            records,
            per: Duration::from_secs(per_s),
        }),
        ..ProcessPlan::default()
    }
}

fn raw(steps: &Value, limit: Option<(u32, u64)>) -> ProcessPlan {
    ProcessPlan {
        form: Form::Raw,
        ..plan(steps, None, limit)
    }
}

fn writer() -> ValueWriter {
    let device: DeviceId = "pi-7".parse().unwrap();
    ValueWriter::new(&device, &"app".parse().unwrap())
}

/// A stream whose lines the test gives, one batch at a time.
struct Stream {
    plan: ProcessPlan,
    state: State,
    /// Offset behind the last line.
    read: u64,
    /// Offset behind the last record.
    given: u64,
    tally: Tally,
}

/// A record: kind, span, value.
type Told = (Kind, Span, Value);

impl Stream {
    fn new(plan: ProcessPlan) -> Self {
        let (state, tally) = (State::default(), Tally::default());
        Self {
            plan,
            state,
            read: 0,
            given: 0,
            tally,
        }
    }

    /// Lines that are read at a second of their own; what the batch holds then.
    fn lines(&mut self, second: u64, lines: &[&str]) -> Vec<Told> {
        let lines = lines.iter().map(|line| (line.as_bytes(), Piece::default()));
        self.take(second, lines, false)
    }

    fn take<'a>(
        &mut self,
        second: u64,
        lines: impl Iterator<Item = (&'a [u8], Piece)>,
        last: bool,
    ) -> Vec<Told> {
        let (mut draft, writer) = (Draft::new(self.given), writer());
        let moment = (second * 1000, Monotonic(second * 1000));
        let mut stage = Stage::new(&self.plan, &writer, Generation(7), &mut self.state, moment);
        for (bytes, piece) in lines {
            let end = self.read + bytes.len() as u64 + 1;
            assert!(
                stage.line(
                    &mut draft,
                    &Line {
                        end,
                        bytes,
                        exact: bytes,
                        raw: None,
                        piece
                    }
                ),
                "there is room"
            );
            self.read = end;
        }
        if last {
            assert!(stage.tell(&mut draft));
        }
        stage.tell_filtered(&mut draft, self.read);
        for (sum, more) in [
            (&mut self.tally.filtered, stage.tally.filtered),
            (&mut self.tally.unparsed, stage.tally.unparsed),
            (&mut self.tally.repeated, stage.tally.repeated),
            (&mut self.tally.limited, stage.tally.limited),
            (&mut self.tally.too_large, stage.tally.too_large),
        ] {
            *sum += more;
        }
        let start = std::mem::replace(&mut self.given, draft.end());
        told(draft, start)
    }

    fn end(&mut self, second: u64) -> Vec<Told> {
        self.take(second, std::iter::empty(), true)
    }
}

fn told(draft: Draft, start: u64) -> Vec<Told> {
    let stream = headwater_record::StreamId::parse("pi-7/app//a").unwrap();
    let Some(batch) = draft.finish(&stream, Generation(7), None) else {
        return Vec::new();
    };
    assert_eq!(batch.start, start);
    let value = |bytes| serde_json::from_slice(bytes).unwrap();
    batch
        .records()
        .map(|record| (record.kind, record.span, value(record.value)))
        .collect()
}

/// Message, start and end of each; for a notice, its reason and how many records it speaks of.
fn short(records: &[Told]) -> Vec<(String, u64, u64)> {
    let shown = |value: &Value| {
        let number = |name: &str| {
            value[name]
                .as_u64()
                .map_or(String::new(), |n| format!("*{n}"))
        };
        let text = value["message"]
            .as_str()
            .or(value["reason"].as_str())
            .or(value["notice"].as_str());
        format!(
            "{}{}{}",
            text.unwrap_or("?"),
            number("repeated"),
            number("records")
        )
    };
    records
        .iter()
        .map(|(_, span, value)| (shown(value), span.start(), span.end()))
        .collect()
}

fn at(text: &str, start: u64, end: u64) -> (String, u64, u64) {
    (text.to_owned(), start, end)
}

#[test]
fn what_is_dropped_lies_in_the_next_records_span() {
    let drop = json!([{"step": "drop", "field": "message", "matches": "^d"}]);
    let mut stream = Stream::new(plan(&drop, None, None));
    assert_eq!(
        short(&stream.lines(0, &["a", "d1", "d2", "b", "d3"])),
        [at("a", 0, 2), at("b", 2, 10)]
    );
    assert_eq!(short(&stream.lines(1, &["d4"])), []);
    assert_eq!((stream.given, stream.read), (10, 16));
    assert_eq!(short(&stream.lines(2, &["c"])), [at("c", 10, 18)]);
    assert_eq!(stream.tally.filtered, 4);
}

#[test]
fn much_of_nothing_but_dropped_lines_is_said() {
    let drop = json!([{"step": "drop", "field": "message", "matches": "^d"}]);
    let mut stream = Stream::new(plan(&drop, None, None));
    let long = format!("d{}", "x".repeat(1 << 20));
    for second in 0..3 {
        assert_eq!(stream.lines(second, &[&long]), []);
    }
    let told = stream.lines(3, &[&long]);
    assert_eq!(short(&told), [at("filtered", 0, stream.read)]);
    assert_eq!(told[0].0, Kind::Filtered);
    let start = stream.read;
    assert_eq!(short(&stream.lines(4, &["a"])), [at("a", start, start + 2)]);
}

#[test]
fn redaction_leaves_nothing_beside_the_row() {
    let redact = json!([{"step": "redact", "pattern": "key=\\S+"}]);
    let mut stream = Stream::new(plan(&redact, None, None));
    let part = Piece {
        continued: false,
        continues: true,
    };
    let lines: [(&[u8], Piece); 3] = [
        (b"a key=1 b", Piece::default()),
        (b"\xff key=1", Piece::default()),
        (b"a key=", part),
    ];
    let told = stream.take(0, lines.into_iter(), false);
    let values: Vec<_> = told.iter().map(|(_, _, value)| &value["message"]).collect();
    assert_eq!(values, ["a [redacted] b", "\u{fffd} [redacted]", PIECE]);
    assert!(
        told.iter()
            .all(|(_, _, value)| value.get("message_base64").is_none())
    );
    assert_eq!(told[2].2["continues"], true);

    let add = json!([{"step": "add", "field": "site", "value": "ulm"}]);
    let mut stream = Stream::new(plan(&add, None, None));
    let told = stream.take(0, lines.into_iter(), false);
    assert_eq!(told[1].2["message_base64"], "/yBrZXk9MQ==");
    assert_eq!(told[2].2["message"], "a key=");
}

#[test]
fn repeats_are_counted_and_told_as_one() {
    let mut stream = Stream::new(plan(&json!([]), Some(30), None));
    assert_eq!(
        short(&stream.lines(0, &["a", "a", "a", "b"])),
        [at("a", 0, 2), at("a*2", 2, 6), at("b", 6, 8)]
    );
    assert_eq!(short(&stream.lines(1, &["b"])), []);
    assert!(stream.state.holds());
    assert_eq!(stream.state.due_at(&stream.plan), Some(Monotonic(31_000)));
    let told = stream.lines(31, &["b", "b"]);
    assert_eq!(short(&told), [at("b*1", 8, 10)]);
    assert_eq!(
        told[0].2["time"], "boot+00000000000001.000s",
        "when the repeat was read"
    );
    assert_eq!(short(&stream.end(32)), [at("b*2", 10, 14)]);
    assert_eq!(stream.tally.repeated, 5);
}

#[test]
fn pieces_and_long_lines_repeat_nothing() {
    let mut stream = Stream::new(plan(&json!([]), Some(30), None));
    let long = "x".repeat(KEPT_BYTES_MAX);
    assert_eq!(stream.lines(0, &[&long, &long]).len(), 2);
    let piece = Piece {
        continued: false,
        continues: true,
    };
    let pieces = [(&b"a"[..], piece), (&b"a"[..], piece)];
    assert_eq!(stream.take(0, pieces.into_iter(), false).len(), 2);
}

#[test]
fn what_is_above_the_rate_is_cut_and_told_once() {
    let mut stream = Stream::new(plan(&json!([]), None, Some((2, 10))));
    assert_eq!(
        short(&stream.lines(0, &["a", "b", "c", "d"])),
        [at("a", 0, 2), at("b", 2, 4)]
    );
    assert_eq!(short(&stream.lines(9, &["e"])), []);
    assert_eq!(stream.state.due_at(&stream.plan), Some(Monotonic(10_000)));
    let told = stream.lines(10, &["f", "g", "h"]);
    assert_eq!(
        short(&told),
        [
            at("rate-limited*3", 4, 10),
            at("f", 10, 12),
            at("g", 12, 14)
        ]
    );
    assert_eq!(told[0].0, Kind::Loss);
    assert_eq!(short(&stream.end(11)), [at("rate-limited*1", 14, 16)]);
    assert_eq!(stream.tally.limited, 4);
}

#[test]
fn what_steps_make_too_large_is_a_loss() {
    let add =
        json!([{"step": "add", "field": "twice", "value": "{message}{message}{message}{message}"}]);
    let mut stream = Stream::new(plan(&add, None, None));
    let long = "\u{1}".repeat(100_000);
    assert_eq!(
        short(&stream.lines(0, &[&long])),
        [at("too-large", 0, 100_001)]
    );
    assert_eq!(stream.tally.too_large, 1);
    assert_eq!(stream.lines(1, &["a"])[0].2["twice"], "aaaa");
}

/// What a plan makes of lines whose text, and whose bytes in the file, are these.
fn raw_values(plan: &ProcessPlan, lines: &[(&[u8], &[u8], Piece)]) -> Vec<(Kind, bool, Vec<u8>)> {
    let (mut state, mut draft, writer) = (State::default(), Draft::new(0), writer());
    let mut stage = Stage::new(plan, &writer, Generation(7), &mut state, (0, Monotonic(0)));
    let mut end = 0;
    for (bytes, exact, piece) in lines {
        end += exact.len() as u64 + 1;
        let line = Line {
            end,
            bytes,
            exact,
            raw: None,
            piece: *piece,
        };
        assert!(stage.line(&mut draft, &line), "there is room");
    }
    assert!(stage.tell(&mut draft));
    let stream = headwater_record::StreamId::parse("pi-7/app//a").unwrap();
    let batch = draft.finish(&stream, Generation(7), None).unwrap();
    let records = batch.records();
    records
        .map(|record| (record.kind, record.raw, record.value.to_vec()))
        .collect()
}

/// A line that is its own bytes.
fn own(bytes: &[u8]) -> (&[u8], &[u8], Piece) {
    (bytes, bytes, Piece::default())
}

fn data(bytes: &[u8]) -> (Kind, bool, Vec<u8>) {
    (Kind::Data, true, bytes.to_vec())
}

#[test]
fn raw_values_are_the_bytes_of_the_lines() {
    let lines = [own(b"a\0\xff\r"), own(b""), own(b"{\"time\":1}")];
    let utf_16: (&[u8], &[u8], Piece) = (b"ab", b"a\0b\0", Piece::default());
    let plain = raw_values(&raw(&json!([]), None), &[&lines[..], &[utf_16]].concat());
    let expected = [
        data(b"a\0\xff\r"),
        data(b""),
        data(b"{\"time\":1}"),
        data(b"a\0b\0"),
    ];
    assert_eq!(plain, expected);
    // Steps that only decide see the text, and change nothing.
    let keep = json!([{"step": "keep", "field": "message", "matches": "^a"}]);
    let kept = raw_values(&raw(&keep, None), &[&lines[..], &[utf_16]].concat());
    assert_eq!(kept, [data(b"a\0\xff\r"), data(b"a\0b\0")]);
}

#[test]
fn redaction_covers_bytes_and_leaves_the_others() {
    let redact = json!([{"step": "redact", "pattern": "key=\\S+"}]);
    let part = Piece {
        continued: false,
        continues: true,
    };
    let lines = [
        own(b"\xfea key=1\xff2 b\xc3\xa9\xff"),
        own(b"\xff nothing"),
        (&b"a key="[..], &b"a key="[..], part),
    ];
    let told = raw_values(&raw(&redact, None), &lines);
    let expected = [
        data(b"\xfea [redacted] b\xc3\xa9\xff"),
        data(b"\xff nothing"),
        data(PIECE.as_bytes()),
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_is_cut_of_raw_values_is_told_in_json() {
    let lines = [own(b"\xff1"), own(b"\xff2"), own(b"\xff3")];
    let told = raw_values(&raw(&json!([]), Some((1, 60))), &lines);
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], data(b"\xff1"));
    assert_eq!((told[1].0, told[1].1), (Kind::Loss, false));
    assert_eq!(
        Notice::parse(&told[1].2),
        Some(Notice::Loss {
            reason: reason::RATE_LIMITED.to_owned(),
            records: Some(2),
        })
    );
}

/// One batch of a property: seconds that passed, its lines, and whether it is thrown away and read
/// again.
type Turn = (u64, Vec<u8>, bool);

proptest! {
    #[test]
    fn every_line_is_accounted_for_once(
        turns in prop::collection::vec((0_u64..6, prop::collection::vec(0_u8..4, 0..8), any::<bool>()), 1..12),
        repeats in prop::option::of(1_u64..8),
        limit in prop::option::of((1_u32..4, 1_u64..8)),
    ) {
        let turns: Vec<Turn> = turns;
        let drop = json!([{"step": "drop", "field": "message", "in": ["d"]}]);
        let mut stream = Stream::new(plan(&drop, repeats, limit));
        let (mut second, mut n_lines, mut records) = (0, 0, Vec::new());
        for (passed, lines, again) in &turns {
            second += passed;
            let lines: Vec<_> = lines.iter().map(|line| ["a", "b", "c", "d"][usize::from(*line)]).collect();
            n_lines += lines.len() as u64;
            let before = (stream.state.clone(), stream.read, stream.given, stream.tally);
            let told = stream.lines(second, &lines);
            if *again {
                // The window had no room: the batch is gone, and its lines are offered again.
                (stream.state, stream.read, stream.given, stream.tally) = before;
                prop_assert_eq!(&stream.lines(second, &lines), &told);
            }
            records.extend(told);
        }
        records.extend(stream.end(second));
        let mut end = 0;
        for (_, span, _) in &records {
            prop_assert_eq!(span.start(), end, "spans tile");
            prop_assert!(!span.is_empty());
            end = span.end();
        }
        let numbers = |name: &str| records.iter().filter_map(|(_, _, value)| value[name].as_u64()).sum::<u64>();
        let alone = records.iter().filter(|(kind, _, value)| *kind == Kind::Data && value.get("repeated").is_none());
        let said = alone.count() as u64 + numbers("repeated") + numbers("records") + stream.tally.filtered;
        prop_assert_eq!(numbers("records"), stream.tally.limited);
        if repeats.is_none() || limit.is_none() {
            prop_assert_eq!(said, n_lines);
        } else {
            // A summary of repeats that is cut is one record.
            prop_assert!(said <= n_lines);
        }
        prop_assert!(!records.iter().any(|(_, _, value)| value["message"] == "d"));
    }
}
