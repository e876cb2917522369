//! The hopping windows of the simulation, of every function, and what they must say in the end: each entry of the
//! log has a bit of its own, so the sum of the bits of a row says which records it has, and what every function
//! says of just these is reckoned from the log.

use serde_json::Value;

use super::*;
use crate::books::Opening;

/// Entries of the log, one behind the other, that have bits of their own: a window has less.
const BITS: usize = 60;
/// Windows of every pipeline of the simulation. The second version says them anew.
pub(super) const HOPPING: [&str; 2] = ["window='2m'\nevery='40s'\nlateness='20s'\n", {
    "window='3m'\nevery='1m'\nlateness='20s'\nrevise='5m'\n"
}];
const COMPUTE: &str = "by=['stream']\nkeep_records=true\ncompute=[{function='count',as='records'},\
    {function='sum',field='bit'},{function='sum',field='n'},{function='min',field='n'},{function='max',field='n'},\
    {function='mean',field='n'},{function='first',field='place'},{function='last',field='place'},\
    {function='distinct',field='kind'},{function='quantile',q=0.5,field='n',as='median'},\
    {function='quantile',q=0.9,field='n',as='p90'}]\n";

/// The step of a version; what it writes lies in a folder of its own.
pub(super) fn step(version: usize) -> String {
    let lengths = HOPPING[version];
    format!("[[transform]]\nstep='aggregate'\npath='h{version}/{{stream}}'\n{lengths}{COMPUTE}")
}

/// What the windows read of an entry, as fields of its value.
pub(super) fn fields(at: usize, time: &str, n: u64) -> String {
    let bit = 1_u64 << (at % BITS);
    let n = i64::try_from(n % 2001).unwrap() - 1000;
    let kind = n.rem_euclid(4);
    format!(r#""bit":{bit},"n":{n},"kind":"k{kind}","place":"{time} {at:03}""#)
}

/// A record that is counted.
struct Counted {
    bit: u64,
    at_ms: i64,
    n: i64,
    kind: String,
    place: String,
}

/// By stream.
fn counted(log: &Fetched) -> BTreeMap<String, Vec<Counted>> {
    let mut seen = BTreeSet::new();
    let mut counted: BTreeMap<String, Vec<Counted>> = BTreeMap::new();
    for entry in &log.entries {
        let row: Value = serde_json::from_slice(log.value(entry).unwrap()).unwrap();
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        if seen.insert(text("id")) && text("kept") == "yes" {
            let at: jiff::Timestamp = text("time").parse().unwrap();
            counted.entry(text("stream")).or_default().push(Counted {
                bit: row["bit"].as_u64().unwrap(),
                at_ms: at.as_millisecond(),
                n: row["n"].as_i64().unwrap(),
                kind: text("kind"),
                place: text("place"),
            });
        }
    }
    counted
}

/// Rows of one window: version, stream and start.
type Rows = BTreeMap<(String, String, String), Vec<Value>>;

/// Puts a row among those of its window.
pub(super) fn note(rows: &mut Rows, version: &str, row: Value) {
    let text = |name: &str| row[name].as_str().unwrap().to_owned();
    let window = (version.to_owned(), text("stream"), text("time"));
    rows.entry(window).or_default().push(row);
}

/// Every function of a row is right of its records.
fn check_row(row: &Value, of: &[&Counted], what: &str) {
    let mut numbers: Vec<i64> = of.iter().map(|record| record.n).collect();
    numbers.sort_unstable();
    let sum: i64 = numbers.iter().sum();
    let kinds: BTreeSet<&str> = of.iter().map(|record| &*record.kind).collect();
    let first = of.iter().map(|record| (record.at_ms, &record.place)).min();
    let last = of.iter().map(|record| (record.at_ms, &record.place)).max();
    assert_eq!(row["records"], of.len() as u64, "{what}");
    assert_eq!(row["sum_n"], sum, "{what}");
    assert_eq!(row["min_n"], numbers[0], "{what}");
    assert_eq!(row["max_n"], numbers[numbers.len() - 1], "{what}");
    assert_eq!(row["first_place"], first.unwrap().1.as_str(), "{what}");
    assert_eq!(row["last_place"], last.unwrap().1.as_str(), "{what}");
    assert_eq!(row["distinct_kind"], kinds.len(), "{what}");
    let near = |name: &str, expected: f64, within: f64| {
        let said = row[name].as_f64().unwrap();
        assert!(
            (said - expected).abs() <= within,
            "{what}: {name} {said}, not {expected}"
        );
    };
    near("mean_n", sum as f64 / of.len() as f64, 1e-9);
    for (name, percent) in [("median", 50), ("p90", 90)] {
        let rank = ((numbers.len() - 1) * percent + 50) / 100;
        let expected = numbers[rank] as f64;
        near(name, expected, expected.abs() * 0.016);
    }
}

/// Each record is in each window that it lies in once, in whatever rows of it, and every row is right. Returns how
/// many rows said a window anew, and how many were late.
pub(super) fn check(log: &Fetched, rows: &Rows, seed: u64) -> (usize, usize) {
    let counted = counted(log);
    let (mut anew, mut late) = (0, 0);
    let mut lies_in: BTreeMap<(&str, u64), [u64; 2]> = BTreeMap::new();
    for ((version, stream, start), rows) in rows {
        let what = format!("seed {seed}: h{version} {stream} {start}");
        let start: jiff::Timestamp = start.parse().unwrap();
        let end: jiff::Timestamp = rows[0]["window_end"].as_str().unwrap().parse().unwrap();
        let range = start.as_millisecond()..end.as_millisecond();
        // By revision: those that are said anew have all that they take the place of.
        let mut standing: Vec<(u64, u64)> = Vec::new();
        let mut rows: Vec<&Value> = rows.iter().collect();
        let revision = |row: &Value| {
            row.get("revision")
                .map_or(0, |number| number.as_u64().unwrap())
        };
        rows.sort_by_key(|row| revision(row));
        for row in rows {
            let bits = row["sum_bit"].as_u64().unwrap();
            let records = counted[stream].iter();
            let of: Vec<&Counted> = records
                .filter(|record| range.contains(&record.at_ms) && record.bit & bits != 0)
                .collect();
            assert_eq!(
                of.iter().map(|record| record.bit).sum::<u64>(),
                bits,
                "{what}: {row}"
            );
            check_row(row, &of, &what);
            late += usize::from(row.get("late").is_some());
            if let Some(before) = revision(row).checked_sub(1) {
                anew += 1;
                let at = standing
                    .iter()
                    .position(|(number, held)| *number == before && held & !bits == 0);
                standing.swap_remove(at.unwrap_or_else(|| panic!("{what}: {row} of nothing")));
            }
            for (_, held) in &standing {
                assert_eq!(held & bits, 0, "{what}: a record is in two rows");
            }
            standing.push((revision(row), bits));
        }
        for bits in standing.iter().map(|(_, bits)| bits) {
            let version = usize::from(version == "1");
            let of = counted[stream]
                .iter()
                .filter(|record| range.contains(&record.at_ms) && record.bit & bits != 0);
            of.for_each(|record| {
                lies_in
                    .entry((stream, record.at_ms.cast_unsigned() ^ record.bit))
                    .or_default()[version] += 1
            });
        }
    }
    for (stream, records) in &counted {
        for record in records {
            let in_windows =
                lies_in.get(&(stream.as_str(), record.at_ms.cast_unsigned() ^ record.bit));
            // Three windows, either way: it was counted by one version.
            let [zero, one] = in_windows.copied().unwrap_or_default();
            assert_eq!(
                zero + one,
                3,
                "seed {seed}: {stream} {} is in {zero} and {one} windows",
                record.place
            );
        }
    }
    (anew, late)
}

/// A partition whose last records, one of each of these groups, opened windows, with the batch clock at eight.
fn with_open_windows(groups: &[&str]) -> (Partition, Arc<Pipeline>, Now) {
    let pipeline = Arc::new(pipeline(QUIET, "all"));
    let (start, state) = (Committed::at(0), Carried::default());
    let limits = Limits {
        objects: 1,
        ..Limits::NONE
    };
    let current = Arc::clone(&pipeline);
    let mut partition =
        Partition::recover((TOPIC, 0), limits, current, start, state, None).unwrap();
    partition.close_when_quiet(true);
    let now = Now {
        mono_ms: 0,
        wall_ms: EIGHT_MS,
    };
    let mut log = Fetched::default();
    for (offset, group) in groups.iter().enumerate() {
        let value = format!(r#"{{"g":"{group}","time":"2026-11-28T08:00:00Z"}}"#);
        log.push(offset as u64, 0, Some(value.as_bytes()), Identity::Foreign);
        partition.take(&log, offset, now).unwrap();
        perform(&mut partition, now);
    }
    assert_eq!(partition.committed_offset(), groups.len() as u64);
    (partition, pipeline, now)
}

const QUIET: &str = "[[transform]]\nstep='aggregate'\nwindow='1m'\nlateness='0s'\nidle='5m'\nby=['g']\n\
                     path='w/{g}'\nkeep_records=true\ncompute=[{function='count'}]\n";

/// No record comes any more: the last windows close all the same, once their group was quiet, in a batch that
/// covers no offset.
#[test]
fn the_last_windows_of_a_partition_close_without_a_record() {
    let (mut partition, _, mut now) = with_open_windows(&["a"]);
    now.wall_ms += 299_999;
    partition.apply(Event::Tick, now).unwrap();
    assert_eq!(perform(&mut partition, now), (vec![], vec![]));
    now.wall_ms += 1;
    partition.apply(Event::Tick, now).unwrap();
    let (paths, begun) = perform(&mut partition, now);
    assert_eq!(paths, [["w/a"]]);
    assert_eq!((begun[0].end, begun[0].clock_ms), (1, now.wall_ms));
    now.wall_ms += 86_400_000;
    partition.apply(Event::Tick, now).unwrap();
    assert_eq!(
        perform(&mut partition, now),
        (vec![], vec![]),
        "there is nothing left"
    );
    assert_eq!(partition.standing().windows, 0);
}

/// The clock of a batch without a record is what tells it from others at the same offset.
#[test]
fn a_clock_that_was_set_back_closes_nothing() {
    let (mut partition, _, mut now) = with_open_windows(&["a", "b"]);
    now.wall_ms += 300_000;
    // There is room for one, and the other one is due.
    let steps = [
        (0, Some("w/a")),
        (0, None),
        (-1, None),
        (2, Some("w/b")),
        (1, None),
    ];
    for (step, closes) in steps {
        now.wall_ms = now.wall_ms.saturating_add_signed(step);
        partition.apply(Event::Tick, now).unwrap();
        let closed = perform(&mut partition, now).0.concat();
        assert_eq!(closed, Vec::from_iter(closes), "{step}");
    }
}

/// The topic's retention passed the offset of such a batch: it needs no record. What is gone is in no name behind it.
#[test]
fn a_batch_without_a_record_is_made_again_though_its_offset_is_gone() {
    let (mut partition, pipeline, mut now) = with_open_windows(&["a"]);
    now.wall_ms += 300_000;
    partition.apply(Event::Tick, now).unwrap();
    let Some(Action::Commit(begun)) = partition.next_action() else {
        panic!("a boundary comes first")
    };
    for books in [Books::default(), with_a_page_due()] {
        made_again_behind_a_gap(
            taken_up_with(begun.clone(), Arc::clone(&pipeline), books),
            now,
        );
    }
}

/// Books of a state that turned a page: what is due is said before anything is made again.
fn with_a_page_due() -> Books {
    let spec = pipeline(books::ACCOUNTS[0], "all");
    let mut books = Books::default();
    for clock_ms in [EIGHT_MS - 3_600_000, EIGHT_MS] {
        books.open(Opening {
            who: (TOPIC, 0),
            asked: spec.spec().accounts,
            clock_ms,
            at: 0,
            ledger: &Ledger::default(),
        });
    }
    assert!(!books.due().is_empty());
    books
}

/// What was committed, and the names of what was stored.
#[derive(Default)]
struct Performed {
    committed: Vec<(u64, u64, bool)>,
    stored: Vec<(String, u64, u64)>,
}

impl Performed {
    fn by(&mut self, partition: &mut Partition, now: Now) {
        while let Some(action) = partition.next_action() {
            let is_awaited = action.is_awaited();
            match action {
                Action::Commit(at) => {
                    let at = (at.offset, at.names_from, at.intent.is_some());
                    self.committed.push(at);
                }
                Action::Upload(objects) => {
                    let names = objects
                        .iter()
                        .map(|object| ObjectName::parse(&object.key).unwrap());
                    (self.stored).extend(names.map(|name| (name.path, name.start, name.end)));
                }
                _ => {}
            }
            if is_awaited {
                partition.apply(Event::ActionDone, now).unwrap();
            }
        }
    }
}

fn made_again_behind_a_gap(mut again: Partition, now: Now) {
    again.pass_over(40);
    again.apply(Event::Tick, now).unwrap();
    let mut performed = Performed::default();
    performed.by(&mut again, now);
    let mut log = Fetched::default();
    log.push(
        41,
        0,
        Some(br#"{"g":"b","time":"2026-11-28T08:00:00Z"}"#),
        Identity::Foreign,
    );
    assert_eq!(again.take(&log, 0, now).unwrap(), 1);
    again.apply(Event::Flush, now).unwrap();
    performed.by(&mut again, now);
    let Performed { committed, stored } = performed;
    assert_eq!(
        stored,
        [("w/a".into(), 1, 1), ("elsewhere".to_owned(), 40, 42)]
    );
    assert_eq!(
        committed,
        [(40, 40, false), (40, 40, true), (42, 42, false)]
    );
}

/// Whoever takes such a batch up makes it again before it takes a record, at the clock and by the pipeline that it
/// was begun with.
#[test]
fn a_batch_without_a_record_is_made_again() {
    let (mut partition, pipeline, mut now) = with_open_windows(&["a"]);
    now.wall_ms += 300_000;
    partition.apply(Event::Tick, now).unwrap();
    let Some(Action::Commit(begun)) = partition.next_action() else {
        panic!("a boundary comes first")
    };
    partition.apply(Event::ActionDone, now).unwrap();
    let Some(Action::Upload(objects)) = partition.next_action() else {
        panic!("then its objects")
    };
    let (before, metadata) = (begun.clone(), begun.metadata());
    let begun = Committed::parse(begun.offset, &metadata).unwrap();
    assert_eq!(begun, before);
    let mut again = taken_up(begun, pipeline);
    let mut log = Fetched::default();
    log.push(1, 0, Some(b"{}"), Identity::Foreign);
    now.wall_ms += 1000;
    assert_eq!(again.take(&log, 0, now).unwrap(), 1);
    assert_eq!(again.next_action(), Some(Action::Upload(objects)));
    again.apply(Event::ActionDone, now).unwrap();
    perform(&mut again, now);
    assert!(!again.has_begun() && again.committed_offset() == 1);
}

/// Whoever takes up what was begun from the state of [`with_open_windows`] for one group, with another pipeline.
fn taken_up(begun: Committed, pipeline: Arc<Pipeline>) -> Partition {
    taken_up_with(begun, pipeline, Books::default())
}

fn taken_up_with(begun: Committed, pipeline: Arc<Pipeline>, books: Books) -> Partition {
    let intent = begun.intent.clone().unwrap();
    let mut windows = with_open_windows(&["a"]).0.windows;
    windows.align(std::iter::empty());
    let state = Carried {
        clock_ms: EIGHT_MS,
        windows,
        books,
        ..Carried::default()
    };
    let replay = Replay { intent, pipeline };
    let other = Arc::new(super::pipeline("", "elsewhere"));
    Partition::recover((TOPIC, 0), Limits::NONE, other, begun, state, Some(replay)).unwrap()
}
