//! With `revise`, a row takes the place of those of its window before it.

use super::*;

const REVISED: &str = "window='1m'\nby=['device']\nlateness='10s'\nidle='5m'\nrevise='1m'\n\
    compute=[{function='count'},{function='sum',field='v'},{function='quantile',q=0.5,field='v',as='mid'},\
    {function='last',field='v'},{function='distinct',field='v'}]";

/// As [`short`], with the revision.
fn closed(rig: &mut Rig) -> Vec<String> {
    let rows = rig.close_some(usize::MAX).0;
    rig.close();
    let said = |row: &WindowRow| match row.row.get("revision") {
        Some(revision) => format!("{} revision={revision}", short(&row.row)),
        None => short(&row.row),
    };
    rows.iter().map(said).collect()
}

#[test]
fn what_comes_late_makes_the_whole_row_once_more() {
    let mut rig = Rig::new(REVISED);
    for (seconds, v) in [(5, 1), (6, 2), (70, 4)] {
        rig.add("a", seconds, v);
    }
    assert_eq!(closed(&mut rig), ["08:00 a count=2 sum=3"]);
    assert_eq!(rig.windows.len(), 1, "what is kept is not open");
    assert_eq!(closed(&mut rig), [""; 0], "nor said again");
    rig.add("a", 7, 8);
    assert_eq!(closed(&mut rig), ["08:00 a count=3 sum=11 revision=1"]);
    rig.add("a", 8, 16);
    rig.add("a", 9, 16);
    let rows = rig.close_some(usize::MAX).0;
    let row = &rows[0].row;
    assert_eq!(row["revision"], json!(2));
    assert_eq!(
        (&row["count"], &row["last_v"], &row["distinct_v"]),
        (&json!(5), &json!(16), &json!(4))
    );
    // Of 1, 2, 8, 16, 16.
    let median = row["mid"].as_f64().unwrap();
    assert!((median / 8.0 - 1.0).abs() < 0.016, "{median}");
}

#[test]
fn what_is_kept_goes_with_its_time() {
    let mut rig = Rig::new(REVISED);
    rig.add("a", 5, 1);
    rig.add("a", 129, 2);
    assert_eq!(closed(&mut rig), ["08:00 a count=1 sum=1"]);
    rig.add("a", 6, 4);
    assert_eq!(closed(&mut rig), ["08:00 a count=2 sum=5 revision=1"]);
    let before = rig.windows.held();
    // Ten seconds and a minute past its end.
    rig.add("a", 130, 8);
    assert_eq!(closed(&mut rig), [""; 0]);
    assert!(rig.windows.held() < before);
    rig.add("a", 7, 16);
    assert_eq!(closed(&mut rig), ["08:00 a count=1 sum=16 late"]);
    rig.add("a", 7, 32);
    assert_eq!(
        closed(&mut rig),
        ["08:00 a count=1 sum=32 late"],
        "nothing is kept of a part"
    );
}

#[test]
fn the_first_row_of_a_window_is_no_part_of_one() {
    let mut rig = Rig::new(REVISED);
    rig.add("a", 80, 1);
    rig.add("a", 5, 2);
    assert_eq!(closed(&mut rig), ["08:00 a count=1 sum=2"]);
}

#[test]
fn a_group_that_was_quiet_says_its_window_anew() {
    let mut rig = Rig::new(REVISED);
    rig.add("a", 5, 1);
    rig.clock_ms += 300_000;
    assert_eq!(closed(&mut rig), ["08:00 a count=1 sum=1"]);
    rig.add("a", 6, 2);
    assert_eq!(closed(&mut rig), [""; 0], "it is open again");
    rig.clock_ms += 300_000;
    assert_eq!(closed(&mut rig), ["08:00 a count=2 sum=3 revision=1"]);
    rig.clock_ms += 59_999;
    assert_eq!(closed(&mut rig), [""; 0]);
    assert!(!rig.windows.is_empty());
    rig.clock_ms += 1;
    assert_eq!(closed(&mut rig), [""; 0]);
    assert!(rig.windows.is_empty(), "a minute longer than quiet");
    assert_eq!(rig.windows.held(), 0);
}

/// The bound of memory is that of what is kept, too, and gives it back.
#[test]
fn what_is_kept_is_within_the_memory() {
    let mut rig = Rig::new(&REVISED.replace("by=", "memory='64KiB'\nby="));
    let mut devices = 0;
    while !rig.windows.are_full() {
        for (at, v) in [(5, 1), (75, 2)] {
            rig.add(&format!("d-{devices}"), at, v);
        }
        if devices % 8 == 7 && !rig.windows.are_full() {
            assert_eq!(closed(&mut rig).len(), 8);
        }
        devices += 1;
        assert!(devices < 200, "what is kept takes no memory");
    }
    rig.add("d-0", 6, 4);
    let rows = closed(&mut rig);
    assert!(rows.contains(&"08:00 d-0 count=2 sum=5 revision=1".to_owned()));
    assert!(rig.windows.is_empty());
    rig.add("d-0", 7, 8);
    rig.add("d-0", 75, 8);
    assert_eq!(closed(&mut rig), ["08:00 d-0 count=1 sum=8"]);
}

#[test]
fn what_is_kept_of_no_step_or_by_halves_is_not_sound() {
    let mut rig = Rig::new(REVISED);
    rig.add("a", 5, 1);
    rig.add("a", 75, 1);
    closed(&mut rig);
    assert!(rig.windows.are_sound());
    let text = serde_json::to_string(&rig.windows).unwrap();
    let damaged = text.replace(
        r#""said":{"revision":0,"cells":[{"count":1},"#,
        r#""said":{"revision":0,"cells":["#,
    );
    assert_ne!(damaged, text);
    let damaged: Windows = serde_json::from_str(&damaged).unwrap();
    assert!(!damaged.are_sound());
}

proptest! {
    /// Whatever the batches: of each window the row with the highest revision, and those that say that they are
    /// parts, have each record once.
    #[test]
    fn the_newest_rows_have_each_record_once(
        records in prop::collection::vec((0_usize..2, 0_i64..400, -50_i64..50), 0..60),
        batches in prop::collection::vec(1_usize..9, 1..30),
        most in 1_usize..9,
    ) {
        let mut rig = Rig::new(REVISED);
        let mut expected: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        let mut whole = expected.clone();
        let mut parts = expected.clone();
        let mut revisions: BTreeMap<String, u64> = BTreeMap::new();
        let mut take = |row: &Row| {
            let window = format!("{} {}", row["device"], row["time"]);
            let sums = (row["count"].as_i64().unwrap(), row["sum_v"].as_i64().unwrap());
            if row.contains_key("late") {
                let part = parts.entry(window).or_default();
                *part = (part.0 + sums.0, part.1 + sums.1);
                return;
            }
            let revision = row.get("revision").map_or(0, |number| number.as_u64().unwrap());
            let next = revisions.entry(window.clone()).or_default();
            assert_eq!(revision, *next, "{window}");
            *next += 1;
            whole.insert(window, sums);
        };
        let mut left = &records[..];
        for batch in batches.iter().cycle().take(80) {
            let (now, rest) = left.split_at((*batch).min(left.len()));
            for (device, seconds, v) in now {
                let device = ["a", "b"][*device];
                rig.add(device, *seconds, *v);
                let start = jiff::Timestamp::from_millisecond(EIGHT + seconds / 60 * 60_000).unwrap();
                let sums = expected.entry(format!("\"{device}\" \"{start}\"")).or_default();
                *sums = (sums.0 + 1, sums.1 + v);
            }
            let (rows, _) = rig.close_some(most);
            rows.iter().for_each(|row| take(&row.row));
            left = rest;
        }
        let rows = rig.windows.close_all([&rig.aggregate].into_iter());
        rows.iter().for_each(|row| take(&row.row));
        for (window, (count, sum)) in parts {
            let all = whole.entry(window).or_default();
            *all = (all.0 + count, all.1 + sum);
        }
        prop_assert_eq!(whole, expected);
    }
}
