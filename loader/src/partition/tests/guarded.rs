//! Batches that the guard against too many paths closes are told from others.

use super::*;

#[test]
fn what_the_guard_closes_is_counted() {
    let two = Limits {
        objects: 2,
        ..Limits::NONE
    };
    let one_record = Limits { records: 1, ..two };
    let guarded = |limits: Limits, layout: &str| {
        let (pipeline, state) = (Arc::new(pipeline(layout, "of={d}")), <_>::default());
        let committed = Committed::at(0);
        let mut partition =
            Partition::recover((TOPIC, 0), limits, pipeline, committed, state, None).unwrap();
        let now = Now {
            mono_ms: 0,
            wall_ms: EIGHT_MS,
        };
        let mut log = Fetched::default();
        for offset in 0..5 {
            let value = format!(r#"{{"d":"{offset}"}}"#);
            log.push(offset, 0, Some(value.as_bytes()), Identity::Foreign);
        }
        let mut at = 0;
        while at < log.entries.len() {
            at += partition.take(&log, at, now).unwrap();
            perform(&mut partition, now);
        }
        (partition.take_guarded(), partition.take_guarded())
    };
    assert_eq!(guarded(two, ""), (2, 0), "told once");
    assert_eq!(guarded(one_record, "").0, 0, "its records closed them");
    // With an object for each record that is how batches close.
    assert_eq!(guarded(two, "layout='record'\n").0, 0);
}
