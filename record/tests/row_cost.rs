//! What a row costs beside the hash map that it stands for: both are read, looked into, changed and written.

#![expect(
    clippy::unwrap_used,
    reason = "a test's own helpers may panic as the test itself"
)]

use std::fs;

use headwater_record::steps::Row;
use serde_json::{Map, Value};

/// CPU time of this thread, nanoseconds.
fn cpu_ns() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

/// `{"id":…,"field 1":…}`, of so many fields.
fn text(fields: usize) -> String {
    let more = (1..fields).map(|n| format!(r#","field {n}":"value {n}""#));
    format!(r#"{{"id":7{}}}"#, more.collect::<String>())
}

/// Nanoseconds a row, the least of some runs.
fn cost(mut once: impl FnMut() -> usize) -> u64 {
    const TIMES: u64 = 20_000;
    let run = |once: &mut dyn FnMut() -> usize| {
        let start = cpu_ns();
        for _ in 0..TIMES {
            assert!(std::hint::black_box(once()) > 0);
        }
        (cpu_ns() - start) / TIMES
    };
    (0..7).map(|_| run(&mut once)).min().unwrap()
}

/// `cargo test --release -p headwater-record --test row_cost -- --ignored --nocapture`
#[test]
#[ignore = "it measures, and says what it saw"]
fn what_a_row_costs() {
    println!("fields  row, ns  hash map, ns");
    for fields in [4, 12, 24, 25, 100] {
        let text = text(fields);
        let last = format!("field {}", fields - 1);
        let row = cost(|| {
            let mut row: Row = serde_json::from_str(&text).unwrap();
            let value = row.get(&last).cloned().unwrap();
            row.insert("id".into(), value);
            row.insert("new".into(), Value::from(1));
            serde_json::to_string(&row).unwrap().len()
        });
        let map = cost(|| {
            let mut map: Map<String, Value> = serde_json::from_str(&text).unwrap();
            let value = map.get(&last).cloned().unwrap();
            map.insert("id".into(), value);
            map.insert("new".into(), Value::from(1));
            serde_json::to_string(&map).unwrap().len()
        });
        println!("{fields:>6}  {row:>7}  {map:>12}");
    }
}
