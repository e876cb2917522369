//! Lines that become no record: dropped, or held back. Their bytes are in a span all the same.

use std::time::Duration;

use headwater_record::notice::{Tail, reason};
use headwater_record::steps::Steps;
use headwater_record::{Kind, Span};

use super::rig::Rig;
use crate::process::ProcessPlan;

fn rig(process: ProcessPlan) -> Rig {
    let mut rig = Rig::new("app.log");
    rig.source.process = process;
    rig
}

/// Drops lines that begin with `d`.
fn dropping() -> ProcessPlan {
    let step = r#"[{"step":"drop","field":"message","matches":"^d"}]"#;
    ProcessPlan {
        steps: Steps::new(serde_json::from_str(step).unwrap()).unwrap(),
        ..ProcessPlan::default()
    }
}

fn spans(rig: &Rig) -> Vec<(Kind, Span)> {
    let of = |record: &super::rig::Given| (record.kind, record.span);
    rig.records.iter().map(of).collect()
}

fn span(start: u64, end: u64) -> Span {
    Span::new(start, end).unwrap()
}

#[test]
fn dropped_lines_are_in_the_next_records_span_also_after_a_crash() {
    let mut rig = rig(dropping());
    rig.append("app.log", "a\nd\nd\n");
    rig.start();
    assert_eq!(rig.lines(), ["a"]);
    // Nothing but the record is settled: what was dropped is read again, and dropped again.
    rig.crash();
    rig.settle_all();
    rig.start();
    assert_eq!(rig.lines(), [""; 0]);
    rig.append("app.log", "d\nb\n");
    assert_eq!(rig.lines(), ["b"]);
    assert_eq!(
        spans(&rig),
        [(Kind::Data, span(0, 2)), (Kind::Data, span(2, 10))]
    );
    assert_eq!(rig.tiled_to(0), 10);
}

#[test]
fn what_is_dropped_last_is_in_the_span_of_the_close() {
    let mut rig = rig(dropping());
    rig.append("app.log", "a\nd\nd");
    rig.start();
    rig.pump();
    rig.rename("app.log", "old");
    rig.pass_time();
    rig.pass_time();
    assert_eq!(
        spans(&rig),
        [(Kind::Data, span(0, 2)), (Kind::Close, span(2, 5))]
    );
    assert_eq!(
        rig.closes(),
        [(5, reason::ROTATED.to_owned(), Tail::Complete)]
    );
}

#[test]
fn repeats_are_told_when_their_time_is_over_and_before_a_close() {
    let within = Duration::from_secs(8);
    let process = ProcessPlan {
        repeats: Some(within),
        ..ProcessPlan::default()
    };
    let mut rig = rig(process);
    rig.append("app.log", "a\na\na\n");
    rig.start();
    assert_eq!(rig.lines(), ["a"]);
    // Ten seconds later, with no further line.
    rig.pass_time();
    assert_eq!(
        spans(&rig),
        [(Kind::Data, span(0, 2)), (Kind::Data, span(2, 6))]
    );
    rig.append("app.log", "a\na\n");
    rig.pump();
    assert_eq!(rig.records.len(), 2);
    rig.rename("app.log", "old");
    rig.pass_time();
    assert_eq!(
        spans(&rig)[2..],
        [(Kind::Data, span(6, 10)), (Kind::Close, span(10, 10))]
    );
}

#[test]
fn what_was_held_at_a_crash_is_read_again() {
    let process = ProcessPlan {
        repeats: Some(Duration::from_secs(60)),
        ..ProcessPlan::default()
    };
    let mut rig = rig(process);
    rig.append("app.log", "a\na\na\n");
    rig.start();
    rig.pump();
    rig.crash();
    rig.settle_all();
    rig.start();
    assert_eq!(rig.lines(), ["a"], "a new run has nothing to compare with");
    rig.append("app.log", "b\n");
    assert_eq!(rig.lines(), ["a", "b"]);
    assert_eq!(rig.tiled_to(0), 8);
}
