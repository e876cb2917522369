mod revisions;

use std::collections::BTreeMap;

use headwater_record::steps::Row;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// 2026-11-28T08:00:00Z
const EIGHT: i64 = 1_795_852_800_000;

fn aggregate(text: &str) -> Result<Aggregate, String> {
    let file: AggregateFile = toml::from_str(text).map_err(|error| error.to_string())?;
    Aggregate::new(file).map_err(|error| error.to_string())
}

const BY_DEVICE: &str = "window='1m'\nby=['device']\nlateness='10s'\nidle='5m'\n\
    compute=[{function='count'},{function='sum',field='v'},{function='quantile',q=0.5,field='v',as='mid'}]";

/// Windows of one aggregate, and the batch clock.
struct Rig {
    aggregate: Aggregate,
    windows: Windows,
    clock_ms: u64,
}

impl Rig {
    fn new(text: &str) -> Self {
        let aggregate = aggregate(text).unwrap();
        let mut windows = Windows::default();
        windows.align([&aggregate].into_iter());
        Self {
            aggregate,
            windows,
            clock_ms: u64::try_from(EIGHT).unwrap() + 3_600_000,
        }
    }

    /// A row of a device, so many seconds past eight.
    fn add(&mut self, device: &str, seconds: i64, v: i64) {
        let at = jiff::Timestamp::from_millisecond(EIGHT + seconds * 1000).unwrap();
        let row = json!({"device": device, "time": at.to_string(), "v": v});
        let row = serde_json::from_value(row).unwrap();
        self.windows
            .add(&self.aggregate, &row, self.clock_ms)
            .unwrap();
    }

    /// Closes so many at most; whether one that is over was left.
    fn close_some(&mut self, most: usize) -> (Vec<WindowRow>, bool) {
        let mut rows = Vec::new();
        let aggregates = [&self.aggregate].into_iter();
        self.windows
            .close(aggregates, Some(self.clock_ms), most, |row| {
                rows.push(row);
                rows.len() < most
            });
        (rows, self.windows.are_left())
    }

    /// The end of a batch: what is closed, as text; the state goes through a snapshot.
    fn close(&mut self) -> Vec<String> {
        let rows = self.close_some(usize::MAX).0;
        let text = serde_json::to_string(&self.windows).unwrap();
        let read: Windows = serde_json::from_str(&text).unwrap();
        assert_eq!(read, self.windows);
        self.windows = read;
        self.windows.align([&self.aggregate].into_iter());
        rows.into_iter().map(|row| short(&row.row)).collect()
    }
}

/// "08:01 pi-1 count=2 sum=3": a row in short.
fn short(row: &Row) -> String {
    let time = row["time"].as_str().unwrap();
    let device = row.get("device").and_then(Value::as_str).unwrap_or("-");
    let late = if row.contains_key("late") {
        " late"
    } else {
        ""
    };
    format!(
        "{} {device} count={} sum={}{late}",
        &time[11..16],
        row["count"],
        row["sum_v"]
    )
}

/// One batch had a clock far ahead. Its groups are quiet by the clocks that come behind it: one that goes on, and one
/// that says nothing more.
#[test]
fn a_clock_that_was_ahead_keeps_no_group_open_for_ever() {
    let mut rig = Rig::new(BY_DEVICE);
    let (now_ms, idle_ms) = (rig.clock_ms, 300_000);
    rig.clock_ms = 4_070_908_800_000;
    rig.add("a", 5, 1);
    rig.add("b", 5, 1);
    assert_eq!(rig.close(), [""; 0]);
    rig.clock_ms = now_ms;
    rig.add("a", 6, 1);
    assert_eq!(rig.close(), [""; 0], "their time begins here");
    assert_eq!(rig.windows.quiet_from(), Some(now_ms + idle_ms));
    rig.clock_ms = now_ms + idle_ms - 1;
    assert_eq!(rig.close(), [""; 0]);
    rig.clock_ms = now_ms + idle_ms;
    assert_eq!(
        rig.close(),
        ["08:00 a count=2 sum=2", "08:00 b count=1 sum=1"]
    );
}

#[test]
fn a_window_closes_when_its_groups_time_is_past_it() {
    let mut rig = Rig::new(BY_DEVICE);
    rig.add("a", 5, 1);
    rig.add("a", 59, 2);
    rig.add("b", 3, 10);
    rig.add("a", 60, 4);
    assert_eq!(rig.close(), [""; 0], "within the lateness");
    rig.add("a", 69, 8);
    assert_eq!(rig.close(), [""; 0]);
    rig.add("a", 58, 16);
    rig.add("a", 70, 32);
    assert_eq!(
        rig.close(),
        ["08:00 a count=3 sum=19"],
        "and b's stays open"
    );
    assert_eq!(rig.windows.len(), 2);
}

#[test]
fn a_late_record_makes_a_row_of_its_own() {
    let mut rig = Rig::new(BY_DEVICE);
    rig.add("a", 5, 1);
    rig.add("a", 200, 2);
    rig.add("a", 7, 4);
    assert_eq!(
        rig.close(),
        ["08:00 a count=2 sum=5"],
        "not closed yet: it is in time"
    );
    rig.add("a", 8, 8);
    rig.add("a", 9, 16);
    assert_eq!(rig.close(), ["08:00 a count=2 sum=24 late"]);
}

#[test]
fn a_quiet_groups_windows_close_and_it_is_forgotten() {
    let mut rig = Rig::new(BY_DEVICE);
    rig.add("a", 5, 1);
    rig.clock_ms += 299_999;
    assert_eq!(rig.close(), [""; 0]);
    rig.clock_ms += 1;
    assert_eq!(rig.close(), ["08:00 a count=1 sum=1"]);
    assert!(rig.windows.is_empty());
    assert_eq!(rig.windows.held(), 0);
}

#[test]
fn a_device_ahead_of_its_time_closes_nobodys_windows() {
    let all = BY_DEVICE.replace("'device'", "");
    let mut rig = Rig::new(&all);
    rig.add("ahead", 86_400 * 365, 1);
    rig.add("a", 3599, 2);
    assert_eq!(rig.close(), [""; 0]);
    rig.add("a", 3598, 4);
    rig.clock_ms += 300_000;
    assert_eq!(
        rig.close(),
        ["08:59 - count=2 sum=6", "08:00 - count=1 sum=1"]
    );
}

#[test]
fn hopping_windows_hold_a_record_several_times() {
    let mut rig = Rig::new(&BY_DEVICE.replace("'1m'", "'1m'\nevery='20s'"));
    rig.add("a", 61, 1);
    rig.clock_ms += 300_000;
    let starts = [
        "08:00 a count=1 sum=1",
        "08:00 a count=1 sum=1",
        "08:01 a count=1 sum=1",
    ];
    assert_eq!(rig.close(), starts);
}

#[test]
fn windows_above_their_memory_all_close() {
    let mut rig = Rig::new(&BY_DEVICE.replace("by=", "memory='64KiB'\nby="));
    let mut devices = 0;
    while !rig.windows.are_full() {
        rig.add(&format!("device-{devices}"), devices, 1);
        devices += 1;
    }
    assert!((60..200).contains(&devices), "{devices}");
    assert_eq!(i64::try_from(rig.close().len()), Ok(devices));
    assert!(rig.windows.is_empty());
}

/// What has no room stays as it is, the memory of its step too, and is closed by the next ends of batches.
#[test]
fn windows_that_are_due_and_have_no_room_close_later() {
    let mut rig = Rig::new(BY_DEVICE);
    for device in ["a", "b", "c", "d", "e"] {
        rig.add(device, 5, 1);
        rig.add(device, 75, 2);
    }
    let mut closed = Vec::new();
    for expected in [(2, true), (2, true), (1, false), (0, false)] {
        let (rows, left) = rig.close_some(2);
        assert_eq!((rows.len(), left), expected);
        closed.extend(rows.iter().map(|row| short(&row.row)));
    }
    let all = ["a", "b", "c", "d", "e"].map(|device| format!("08:00 {device} count=1 sum=1"));
    assert_eq!(closed, all);
    assert_eq!(rig.windows.len(), 5, "of those that are not due none was");
    // Nor is anything forgotten where all have to close for memory.
    let mut rig = Rig::new(&BY_DEVICE.replace("by=", "memory='64KiB'\nby="));
    let mut devices = 0;
    while !rig.windows.are_full() {
        rig.add(&format!("device-{devices}"), 5, 1);
        devices += 1;
    }
    let (rows, left) = rig.close_some(50);
    assert_eq!((rows.len(), left), (50, false), "memory alone closes them");
    assert_eq!(rig.windows.len(), devices - 50);
}

/// Groups that are due again at every batch keep no other from its turn; and it stays known in a snapshot that some
/// wait for theirs.
#[test]
fn the_oldest_windows_close_first_whichever_group_they_are_of() {
    let mut rig = Rig::new(BY_DEVICE);
    for minute in 0..4 {
        for device in ["a", "b", "c", "d"] {
            rig.add(device, minute * 60, 1);
        }
    }
    let (rows, left) = rig.close_some(2);
    let mut closed: Vec<String> = rows.iter().map(|row| short(&row.row)).collect();
    assert!(left);
    // They go on meanwhile, and each of them has a window that is over once more.
    rig.add("a", 250, 1);
    rig.add("b", 250, 1);
    let text = serde_json::to_string(&rig.windows).unwrap();
    rig.windows = serde_json::from_str(&text).unwrap();
    rig.windows.align([&rig.aggregate].into_iter());
    assert!(rig.windows.are_left());
    for _ in 0..3 {
        let (rows, _) = rig.close_some(2);
        closed.extend(rows.iter().map(|row| short(&row.row)));
    }
    let expected = [
        ["08:00 a", "08:00 b"],
        ["08:00 c", "08:00 d"],
        ["08:01 a", "08:01 b"],
        ["08:01 c", "08:01 d"],
    ];
    let expected: Vec<String> = expected
        .iter()
        .flatten()
        .map(|row| format!("{row} count=1 sum=1"))
        .collect();
    assert_eq!(closed, expected);
}

/// What is over goes before what only memory closes, however young it is.
#[test]
fn memory_splits_no_window_while_others_are_over() {
    let mut rig = Rig::new(&BY_DEVICE.replace("by=", "memory='64KiB'\nby="));
    let mut devices = 0;
    while !rig.windows.are_full() {
        rig.add(&format!("a-{devices}"), 5, 1);
        devices += 1;
    }
    for device in ["y", "z"] {
        rig.add(device, 600, 1);
        rig.add(device, 700, 1);
    }
    let (rows, _) = rig.close_some(2);
    let closed: Vec<String> = rows.iter().map(|row| short(&row.row)).collect();
    assert_eq!(closed, ["08:10 y count=1 sum=1", "08:10 z count=1 sum=1"]);
    let (rows, left) = rig.close_some(3);
    let closed: Vec<String> = rows.iter().map(|row| short(&row.row)).collect();
    assert_eq!(
        closed,
        ["a-0", "a-1", "a-10"].map(|device| format!("08:00 {device} count=1 sum=1"))
    );
    assert!(!left);
}

#[test]
fn windows_of_a_step_that_is_gone_close_under_its_path() {
    let mut rig = Rig::new(&format!("path='old'\n{BY_DEVICE}"));
    rig.add("a", 5, 1);
    let new = aggregate(&BY_DEVICE.replace("1m", "2m")).unwrap();
    rig.windows.align([&new].into_iter());
    let mut rows = Vec::new();
    rig.windows
        .close([&new].into_iter(), Some(rig.clock_ms), usize::MAX, |row| {
            rows.push(row);
            true
        });
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((row.slot, row.path.as_deref()), (None, Some("old")));
    assert_eq!(short(&row.row), "08:00 a count=1 sum=1");
    assert!(rig.windows.is_empty());
}

#[test]
fn a_row_without_a_time_is_refused() {
    let mut rig = Rig::new(BY_DEVICE);
    for row in [json!({}), json!({"time": 5}), json!({"time": "noon"})] {
        let row = serde_json::from_value(row).unwrap();
        assert!(rig.windows.add(&rig.aggregate, &row, 0).is_err());
    }
    assert!(rig.windows.is_empty());
}

#[test]
fn the_ends_of_time() {
    let mut rig = Rig::new(&BY_DEVICE.replace("'1m'", "'1m'\nevery='1s'"));
    for time in ["-009999-01-03T00:00:00Z", "9999-12-30T00:00:00Z"] {
        let row = serde_json::from_value(json!({"device": "a", "time": time})).unwrap();
        rig.windows.add(&rig.aggregate, &row, rig.clock_ms).unwrap();
    }
    rig.clock_ms = u64::MAX;
    assert_eq!(rig.close_some(usize::MAX).0.len(), 120);
}

#[test]
fn what_is_refused() {
    for (bad, why) in [
        (BY_DEVICE.replace("1m", "500ms"), "366days"),
        (BY_DEVICE.replace("1m", "400days"), "366days"),
        (BY_DEVICE.replace("by=", "memory='1KiB'\nby="), "64KiB"),
        (BY_DEVICE.replace("by=", "revise='400days'\nby="), "366days"),
        (
            "window='1m'\nrevise='1m'\nby=['revision']\ncompute=[{function='count'}]".into(),
            "revision",
        ),
        (
            BY_DEVICE.replace("'1m'", "'1m'\nevery='7s'"),
            "whole number",
        ),
        (BY_DEVICE.replace("'1m'", "'2m'\nevery='1s'"), "at most 60"),
        ("window='1m'\ncompute=[]".into(), "empty"),
        ("window='1m'\ncompute=[{function='sum'}]".into(), "field"),
        (
            "window='1m'\ncompute=[{function='quantile',field='v'}]".into(),
            "`q`",
        ),
        (
            "window='1m'\ncompute=[{function='count',q=0.5}]".into(),
            "`q`",
        ),
        (
            "window='1m'\ncompute=[{function='quantile',field='v',q=1.5}]".into(),
            "`q`",
        ),
        (
            "window='1m'\ncompute=[{function='count'},{function='count'}]".into(),
            "count",
        ),
        (
            "window='1m'\nby=['time']\ncompute=[{function='count'}]".into(),
            "time",
        ),
        (
            "window='1m'\npath='../x'\ncompute=[{function='count'}]".into(),
            "path",
        ),
        (
            "window='1m'\ncompute=[{function='median',field='v'}]".into(),
            "median",
        ),
        (
            "window='1m'\ncolour=1\ncompute=[{function='count'}]".into(),
            "colour",
        ),
    ] {
        let error = aggregate(&bad).unwrap_err();
        assert!(error.contains(why), "{bad}\n{error}");
    }
}

proptest! {
    /// However records are cut into batches and whatever the order they come in, each counts once in
    /// the rows of its window, all of them together.
    #[test]
    fn each_record_counts_once(
        records in prop::collection::vec((0_usize..3, 0_i64..900, -50_i64..50), 0..60),
        batches in prop::collection::vec(1_usize..9, 1..30),
        idle in 0_u64..400_000,
        most in 1_usize..9,
    ) {
        let mut rig = Rig::new(BY_DEVICE);
        let mut expected: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        let mut got = expected.clone();
        let mut count = |row: &Row| {
            let window = format!("{} {}", row["device"], row["time"]);
            let sums = got.entry(window).or_default();
            sums.0 += row["count"].as_i64().unwrap();
            sums.1 += row["sum_v"].as_i64().unwrap_or(0);
        };
        let mut left = &records[..];
        for batch in batches.iter().cycle().take(80) {
            let (now, rest) = left.split_at((*batch).min(left.len()));
            for (device, seconds, v) in now {
                let device = ["a", "b", "c"][*device];
                rig.add(device, *seconds, *v);
                let start = jiff::Timestamp::from_millisecond(EIGHT + seconds / 60 * 60_000).unwrap();
                let sums = expected.entry(format!("\"{device}\" \"{start}\"")).or_default();
                *sums = (sums.0 + 1, sums.1 + v);
            }
            rig.clock_ms += idle / 20;
            let (rows, _) = rig.close_some(most);
            rows.iter().for_each(|row| count(&row.row));
            left = rest;
        }
        let rows = rig.windows.close_all([&rig.aggregate].into_iter());
        rows.iter().for_each(|row| count(&row.row));
        prop_assert_eq!(got, expected);
    }
}
