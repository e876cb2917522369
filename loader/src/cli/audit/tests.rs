use headwater_record::{Generation, Ledger, Span};

use super::*;
use crate::aggregate::Windows;
use crate::books::Books;
use crate::state::Snapshot;

fn span(start: u64, end: u64) -> Span {
    Span::new(start, end).unwrap()
}

/// What is printed of these ledgers, each a partition's, and what they come to.
fn printed(ledgers: &[Ledger], choice: &Choice, is_stretch: bool) -> (String, collect::Totals) {
    let mut collected = Collected {
        choice: choice.clone(),
        is_stretch,
        ..Collected::default()
    };
    for (partition, ledger) in (0..).zip(ledgers) {
        let snapshot = Snapshot {
            topic: "logs".into(),
            partition,
            end: 9,
            clock_ms: 1,
            rows_ms: 1,
            named: None,
            ledger: ledger.clone(),
            windows: Windows::default(),
            books: Books::default(),
        };
        let (_, bytes) = snapshot.encode().unwrap();
        let added = collected.add(partition, |each| scan(&*bytes, each));
        added.unwrap().unwrap();
    }
    let (totals, mut out) = (collected.totals.clone(), Vec::new());
    let (spool, runs) = (&collected.spool, &collected.runs);
    match choice.by {
        By::Stream => {
            let lines = Merged::<Line>::new(spool, runs).unwrap();
            print("logs", &totals, lines, choice.json, &mut out).unwrap();
        }
        By::Device => {
            let lines = Joined::new(Merged::new(spool, runs).unwrap()).unwrap();
            print("logs", &totals, lines, choice.json, &mut out).unwrap();
        }
    }
    (String::from_utf8(out).unwrap(), totals)
}

fn fleet() -> [Ledger; 2] {
    let mut ledgers = [Ledger::default(), Ledger::default()];
    for (partition, stream, generation, start, end) in [
        (0, "pi-7/app/log", 2, 0, 10),
        (0, "pi-7/app/log", 1, 0, 4),
        (0, "pi-7-b/app/log", 1, 5, 9),
        (1, "pi-7/app/log", 1, 4, 9),
        (1, "pi-7/app/other", 1, 0, 9),
    ] {
        let span = span(start, end);
        ledgers[partition].accept(stream, Generation(generation), span, 1_764_000_000_000);
    }
    ledgers
}

#[test]
fn what_lies_before_a_stretch_is_no_gap_of_it() {
    let mut ledger = Ledger::default();
    ledger.accept("pi-7/syslog//x", Generation(1), span(70, 80), 1);
    let ledgers = [ledger];
    let choice = Choice::default();
    assert_eq!(printed(&ledgers, &choice, false).1.unexplained_gaps, 1);
    let (text, totals) = printed(&ledgers, &choice, true);
    assert_eq!(totals.unexplained_gaps, 0);
    assert!(text.contains("; [0, 70) is not of this stretch"), "{text}");
    let by = Choice {
        by: By::Device,
        ..choice
    };
    assert_eq!(printed(&ledgers, &by, true).1.unexplained_gaps, 0);
}

#[test]
fn a_gap_is_named_and_counted() {
    let mut ledger = Ledger::default();
    let stream = "pi-7/syslog//var/log/syslog";
    ledger.accept(stream, Generation(1), span(0, 10), 1);
    ledger.accept(stream, Generation(1), span(20, 30), 1);
    let ledgers = [ledger];
    let choice = Choice::default();
    let stretch = printed(&ledgers, &choice, true).1;
    assert_eq!(stretch.unexplained_gaps, 1, "it is in the middle");
    let (text, _) = printed(&ledgers, &choice, false);
    assert!(
        text.contains("unexplained gap [10, 20): 10 offsets"),
        "{text}"
    );
    assert!(text.ends_with("unexplained gaps: 1\n"), "{text}");
}

#[test]
fn lines_are_by_stream_generation_and_partition() {
    let (text, _) = printed(&fleet(), &Choice::default(), false);
    assert_eq!(
        text,
        "\
STREAM          GENERATION           RECORDS     SETTLED END  GAPS  STATE
pi-7-b/app/log  0000000000000001           1               9     1  open
    unexplained gap [0, 5): 5 offsets
pi-7/app/log    0000000000000001           1               4     0  open
pi-7/app/log    0000000000000001           1               9     1  open
    unexplained gap [0, 4): 4 offsets
pi-7/app/log    0000000000000002           1              10     0  open
pi-7/app/other  0000000000000001           1               9     0  open

2 partitions, 5 generations (0 more complete and forgotten), 5 records, 0 re-sent records skipped
unexplained gaps: 2
"
    );
}

#[test]
fn a_device_is_one_line_over_all_partitions() {
    let by = Choice {
        by: By::Device,
        ..Choice::default()
    };
    let (text, _) = printed(&fleet(), &by, false);
    assert_eq!(
        text,
        "\
DEVICE   STREAMS       RECORDS    GAPS       MISSING     EXPLAINED  LAST SEEN
pi-7-b         1             1       1             5             0  2025-11-24T16:00:00Z
pi-7           3             4       1             4             0  2025-11-24T16:00:00Z

2 partitions, 5 generations (0 more complete and forgotten), 5 records, 0 re-sent records skipped
unexplained gaps: 2
"
    );
    let json = Choice { json: true, ..by };
    let report: serde_json::Value =
        serde_json::from_str(&printed(&fleet(), &json, false).0).unwrap();
    assert_eq!(report["devices"][1]["device"], "pi-7");
    assert_eq!(report["devices"][1]["missing"], 4);
    assert_eq!(report["unexplained_gaps"], 2);
}

#[test]
fn a_part_can_be_chosen() {
    let chosen = |device: &str, gaps: bool| {
        let choice = Choice {
            device: Some(device.parse().unwrap()),
            gaps,
            ..Choice::default()
        };
        let (text, totals) = printed(&fleet(), &choice, false);
        let lines = text.lines().filter(|line| line.starts_with("pi-"));
        (lines.count(), totals.generations, totals.unexplained_gaps)
    };
    assert_eq!(chosen("pi-7", false), (4, 4, 1));
    assert_eq!(chosen("pi-7-*", false), (1, 1, 1));
    assert_eq!(chosen("pi-*", false), (5, 5, 2));
    assert_eq!(chosen("pi-7", true), (1, 4, 1), "counted is all");
    assert_eq!(chosen("pi", false), (0, 0, 0));
    assert!("a/b".parse::<Named>().is_err() && "".parse::<Named>().is_err());
}

/// Byte for byte what it was before it was written a line at a time.
#[test]
fn json_is_as_it_was() {
    let mut ledger = Ledger::default();
    ledger.accept("pi-7/app/log", Generation(7), span(0, 3), 1);
    ledger.accept("pi-7/app/log", Generation(7), span(5, 9), 1);
    let json = Choice {
        json: true,
        ..Choice::default()
    };
    let (text, _) = printed(&[ledger], &json, false);
    assert_eq!(
        text,
        r#"{
  "topic": "logs",
  "partitions": 1,
  "rows": [
    {
      "stream": "pi-7/app/log",
      "generation": "0000000000000007",
      "partition": 0,
      "records": 2,
      "settled": 9,
      "state": "open",
      "closed": null,
      "gaps": [
        [
          3,
          5
        ]
      ],
      "duplicates": 0,
      "repeated": 0,
      "lost": {}
    }
  ],
  "retired_generations": 0,
  "retired_records": 0,
  "unaccounted": 0,
  "unexplained_gaps": 1
}
"#
    );
    let none = printed(&[Ledger::default()], &json, false).0;
    assert!(none.contains("\"rows\": [],"), "{none}");
}
