//! Names that rotation gives: which files belong to one log, and which of them is older. Pure.
//!
//! ```text
//!   app.log            app.log.1            app.log.2.gz           numbered: 1 is the newest
//!   app.log            app.log-20261123     app.log-20261124.zst   dated: the last is the newest
//!   app.log            app.1.log            app-2026-11-24.log.gz  the same before the extension
//!   app.log            app.log.old
//! ```
//!
//! Some programs count the other way round (the highest number is the newest): where most numbered
//! files of a log say so by when they were changed, it is believed. Two files alone do not say so: a
//! program that was slow to reopen its log has written to the older one last.

use std::cmp::Ordering;

/// Endings that a compressor adds to a name; whether its form can be read is another question.
const PACKED: [&[u8]; 8] = [
    b".gz", b".zst", b".zstd", b".xz", b".bz2", b".lz4", b".Z", b".zip",
];
/// Numbers of so many digits or more are dates: no log keeps 100,000 rotated files.
const DATE_DIGITS: usize = 6;

/// What rotation added to a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    /// Nothing: the log itself.
    None,
    Number(u64),
    Date(Vec<u8>),
}

/// A file of one log, beside the log itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated<T> {
    age: Age,
    /// When it was changed last, Unix milliseconds.
    modified_ms: u64,
    is_packed: bool,
    /// What the caller knows it by.
    pub file: T,
}

impl<T> Rotated<T> {
    /// When it was changed last, Unix milliseconds.
    pub fn modified_ms(&self) -> u64 {
        self.modified_ms
    }

    /// Whether this is the compressed form of `other`: it is there twice while a compressor works.
    pub fn is_packed_twin_of(&self, other: &Self) -> bool {
        self.age == other.age && self.is_packed && !other.is_packed
    }
}

/// The log that a name belongs to: the name without what rotation and compression add to it.
pub fn family(name: &[u8]) -> Vec<u8> {
    split(name).0
}

/// Takes a file up, if `name` is of the family and no log itself.
pub fn rotated<T>(family: &[u8], name: &[u8], modified_ms: u64, file: T) -> Option<Rotated<T>> {
    let (of, age) = split(name);
    let is_rotated = age != Age::None || is_packed(name);
    (of == family && is_rotated).then_some(Rotated {
        age,
        modified_ms,
        is_packed: is_packed(name),
        file,
    })
}

/// Whether rotation, or a compressor, may have made the name `to` out of `from`: names of one log, and a
/// name only gets older. A number rises, a date stays, and nothing becomes the log itself. So a program
/// that begins a file a day, or one for each of its workers, does not seem to rotate them.
pub fn may_become(from: &[u8], to: &[u8]) -> bool {
    let ((log, was), (other, is)) = (split(from), split(to));
    log == other
        && from != to
        && match (was, is) {
            (_, Age::None) => is_packed(to),
            (Age::None, _) | (Age::Number(_), Age::Date(_)) => true,
            (Age::Number(was), Age::Number(is)) => was <= is,
            (Age::Date(was), Age::Date(is)) => was == is,
            (Age::Date(_), Age::Number(_)) => false,
        }
}

/// Whether a name is a log's with a date in it: what `dateext` makes of it, also with `extension`. A log that
/// has a date or a number itself (one a day, one for each worker) is another's.
pub fn is_dated_of(log: &[u8], name: &[u8]) -> bool {
    let (of, age) = split(name);
    of == log && matches!(age, Age::Date(_)) && split(log) == (of, Age::None)
}

/// Whether a name ends as compressed files do.
pub fn is_packed(name: &[u8]) -> bool {
    PACKED.iter().any(|ending| name.ends_with(ending))
}

/// Sorts the rotated files of one log: the oldest first.
pub fn sort_oldest_first<T>(files: &mut [Rotated<T>]) {
    let numbers_fall = numbers_fall_with_time(files);
    files.sort_by(|a, b| match (&a.age, &b.age) {
        (Age::Number(x), Age::Number(y)) if numbers_fall => y.cmp(x),
        (Age::Number(x), Age::Number(y)) => x.cmp(y),
        (Age::Date(x), Age::Date(y)) => x.cmp(y),
        // Two ways of naming in one place: only the times are left to go by.
        _ => a.modified_ms.cmp(&b.modified_ms),
    });
}

/// Whether the lower number is the newer file, as it is unless the times say otherwise.
fn numbers_fall_with_time<T>(files: &[Rotated<T>]) -> bool {
    let mut numbered: Vec<_> = (files.iter())
        .filter_map(|file| match file.age {
            Age::Number(number) => Some((number, file.modified_ms)),
            _ => None,
        })
        .collect();
    numbered.sort_unstable();
    let votes: i64 = (numbered.windows(2))
        .map(|pair| match pair[0].1.cmp(&pair[1].1) {
            Ordering::Greater => 1,
            Ordering::Equal => 0,
            Ordering::Less => -1,
        })
        .sum();
    votes > -2
}

fn split(name: &[u8]) -> (Vec<u8>, Age) {
    let plain = (PACKED.iter())
        .find_map(|ending| name.strip_suffix(*ending))
        .unwrap_or(name);
    for word in [&b".old"[..], b".bak", b"~"] {
        if let Some(log) = plain.strip_suffix(word).filter(|log| !log.is_empty()) {
            return (log.to_vec(), Age::Number(1));
        }
    }
    if let Some((log, age)) = split_end(plain) {
        return (log.to_vec(), age);
    }
    // Before the extension: `app.1.log`, `app-20261124.log`.
    let dot = plain.iter().rposition(|byte| *byte == b'.');
    if let Some((stem, extension)) = dot.map(|dot| plain.split_at(dot))
        && let Some((log, age)) = split_end(stem)
    {
        return ([log, extension].concat(), age);
    }
    (plain.to_vec(), Age::None)
}

/// Takes a number or a date off the end, and the sign before it.
fn split_end(name: &[u8]) -> Option<(&[u8], Age)> {
    let is_of_age = |byte: &u8| byte.is_ascii_digit() || b".-_:TZ".contains(byte);
    let from = name
        .iter()
        .rposition(|byte| !is_of_age(byte))
        .map_or(0, |at| at + 1);
    let (log, tail) = name.split_at(from);
    let (sign, age) = tail.split_first()?;
    if log.is_empty() || !b".-_".contains(sign) || !age.iter().any(u8::is_ascii_digit) {
        return None;
    }
    let digits = age.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(age)
        .ok()
        .and_then(|text| text.parse().ok());
    Some(match number {
        Some(number) if digits && age.len() < DATE_DIGITS => (log, Age::Number(number)),
        _ => (log, Age::Date(age.to_vec())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_belongs_to_its_log() {
        let check = |name: &str, log: &str| {
            assert_eq!(
                family(name.as_bytes()).escape_ascii().to_string(),
                log,
                "{name}"
            );
        };
        for name in [
            "app.log",
            "app.log.1",
            "app.log.12",
            "app.log.2.gz",
            "app.log.3.zst",
            "app.log.gz",
            "app.log-20261124",
            "app.log-20261124.gz",
            "app.log.2026-11-24",
            "app.log.2026-11-24_08",
            "app.log-20261124-1732400000.zst",
            "app.log.2026-11-24T08:00:00Z",
            "app.1.log",
            "app-20261124.log",
            "app-2026-11-24.log.gz",
            "app.log.old",
            "app.log.bak",
            "app.log~",
        ] {
            check(name, "app.log");
        }
        check("syslog", "syslog");
        check("syslog.1", "syslog");
        check("b.log", "b.log");
        check("mysql-slow.log.1", "mysql-slow.log");
        // Nothing but a number is a name of its own.
        check("20261124", "20261124");
        check("1", "1");
        check(".1", ".1");
        check("", "");
        check("app.log.", "app.log.");
        // A name is any bytes.
        assert_eq!(family(b"\xff\n.1"), b"\xff\n");
    }

    #[test]
    fn a_name_only_gets_older() {
        let check = |from: &str, to: &[&str], not: &[&str]| {
            for (names, expected) in [(to, true), (not, false)] {
                for name in names {
                    let may = may_become(from.as_bytes(), name.as_bytes());
                    assert_eq!(may, expected, "{from} -> {name}");
                }
            }
        };
        let others = ["app.log", "b.log.1", "app.log2"];
        check(
            "app.log",
            &[
                "app.log.1",
                "app.log.9.gz",
                "app-20261124.log",
                "app.log.gz",
                "app.log.old",
            ],
            &others,
        );
        check(
            "app.log.2",
            &[
                "app.log.2.gz",
                "app.log.3",
                "app.log.4.zst",
                "app.log-20261124.gz",
                "app.log.gz",
            ],
            &["app.log.2", "app.log.1", "app.log", "b.log.3"],
        );
        check(
            "app.log.2.gz",
            &["app.log.2", "app.log.2.zst"],
            &["app.log.1.gz"],
        );
        check(
            "app-20261124.log",
            &["app-20261124.log.gz"],
            &[
                "app-20261125.log",
                "app-20261124.log",
                "app.log",
                "app.log.1",
                "app-20261125.log.gz",
            ],
        );
        check(
            "worker.1.log",
            &["worker.2.log"],
            &["worker.0.log", "worker.log"],
        );
    }

    #[test]
    fn a_date_before_the_extension_is_the_logs_own() {
        for (log, name, expected) in [
            ("app.log", "app-20261124.log", true),
            ("app.log", "app-2026-11-24.log.gz", true),
            ("app.log", "app.log-20261124", true),
            ("app.log", "app.1.log", false),
            ("app.log", "app.log", false),
            ("app.log", "b-20261124.log", false),
            ("app-20261123.log", "app-20261124.log", false),
            ("app.log.1", "app-20261124.log", false),
        ] {
            let is_dated = is_dated_of(log.as_bytes(), name.as_bytes());
            assert_eq!(is_dated, expected, "{log}: {name}");
        }
    }

    fn order(names: &[(&str, u64)]) -> Vec<String> {
        let mut files: Vec<_> = (names.iter())
            .filter_map(|(name, ms)| rotated(b"a.log", name.as_bytes(), *ms, (*name).to_owned()))
            .collect();
        sort_oldest_first(&mut files);
        files.into_iter().map(|file| file.file).collect()
    }

    #[test]
    fn the_oldest_comes_first() {
        let (one, two, ten) = ("a.log.1", "a.log.2.gz", "a.log.10.zst");
        // The log itself and strangers are left out.
        let given = [
            (two, 20),
            ("a.log", 40),
            (ten, 10),
            ("b.log.1", 5),
            (one, 30),
        ];
        assert_eq!(order(&given), [ten, two, one]);
        // Times may say nothing, or be wrong after a start without a clock.
        assert_eq!(order(&[(one, 0), (two, 0), (ten, 0)]), [ten, two, one]);
        assert_eq!(order(&[(one, 5), (two, 30), (ten, 20)]), [ten, two, one]);
        // Counted the other way round.
        assert_eq!(
            order(&[("a.1.log", 1), ("a.2.log", 2), ("a.3.log", 3)]),
            ["a.1.log", "a.2.log", "a.3.log"]
        );
        // Of two, the older was written to last.
        assert_eq!(order(&[(one, 5), (two, 30)]), [two, one]);
        let (old, new) = ("a.log-20261124.gz", "a.log-20261125");
        assert_eq!(order(&[(new, 1), (old, 2)]), [old, new]);
        assert_eq!(order(&[(new, 9), (one, 10), (old, 8)]), [old, new, one]);
    }
}
