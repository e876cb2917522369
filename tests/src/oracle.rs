//! Counts every line: what was written against what is stored.
//!
//! Reads the stored objects as any consumer would: by extension decompressed (`.zst`, `.gz`), one
//! JSON object a line, its `message`. What lies under `_headwater/` is the loader's own, and dead
//! letters are no rows: both are skipped.

use crate::clock;
use crate::s3::S3;
use crate::writer::Writer;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// How many examples of each kind a message shows.
const EXAMPLES: usize = 5;

/// A line as it is stored, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The record's `message`.
    pub message: String,
    /// The object's key.
    pub object: String,
}

/// Written against stored. Lines come in their order, with how often or where.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many lines were written.
    pub expected: usize,
    /// How many lines are stored, repeats included.
    pub stored: usize,
    /// Written and not stored as often.
    pub lost: Vec<String>,
    /// Stored more often than written: the line and the objects it lies in.
    pub duplicated: Vec<(String, Vec<String>)>,
    /// Stored and never written: the line and the objects it lies in.
    pub unexpected: Vec<(String, Vec<String>)>,
}

impl Report {
    /// Compares lines that were written, as often as they were, with what is stored.
    pub fn compare(written: impl IntoIterator<Item = String>, stored: &[Stored]) -> Self {
        let mut counts: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
        let mut report = Self {
            stored: stored.len(),
            ..Self::default()
        };
        for line in written {
            counts.entry(line).or_default().0 += 1;
            report.expected += 1;
        }
        for found in stored {
            let entry = counts.entry(found.message.clone()).or_default();
            entry.1.push(found.object.clone());
        }
        for (line, (wanted, objects)) in counts {
            if objects.len() < wanted {
                report.lost.push(line);
            } else if wanted == 0 {
                report.unexpected.push((line, objects));
            } else if objects.len() > wanted {
                report.duplicated.push((line, objects));
            }
        }
        report
    }

    /// Compares all that the writers wrote with the objects under `prefix`.
    pub fn of<'a>(
        writers: impl IntoIterator<Item = &'a Writer>,
        s3: &S3,
        bucket: &str,
        prefix: &str,
    ) -> Self {
        let written = writers.into_iter().flat_map(Writer::lines);
        Self::compare(written, &stored(s3, bucket, prefix))
    }

    /// True if every line is stored as often as it was written, and nothing else is.
    pub fn is_exact(&self) -> bool {
        self.lost.is_empty() && self.duplicated.is_empty() && self.unexpected.is_empty()
    }

    /// True if nothing is lost; repeats may be there.
    pub fn is_complete(&self) -> bool {
        self.lost.is_empty()
    }

    /// # Panics
    /// With the first few examples, if a line was lost, repeated or invented.
    #[track_caller]
    pub fn assert_exact(&self) {
        assert!(self.is_exact(), "not exactly once: {self}");
    }

    /// # Panics
    /// With the first few examples, if a line was lost or invented.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        assert!(
            self.lost.is_empty() && self.unexpected.is_empty(),
            "not at least once: {self}"
        );
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} written, {} stored: {} lost, {} duplicated, {} unexpected",
            self.expected,
            self.stored,
            self.lost.len(),
            self.duplicated.len(),
            self.unexpected.len()
        )?;
        for line in self.lost.iter().take(EXAMPLES) {
            write!(f, "\n  lost: {}", short(line))?;
        }
        for (kind, lines) in [
            ("duplicated", &self.duplicated),
            ("unexpected", &self.unexpected),
        ] {
            for (line, objects) in lines.iter().take(EXAMPLES) {
                write!(f, "\n  {kind}: {} in {}", short(line), objects.join(", "))?;
            }
        }
        Ok(())
    }
}

fn short(line: &str) -> String {
    let mut short: String = line.chars().take(60).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// Reads the lines of every object under `prefix`, in the order of keys.
///
/// # Panics
/// If an object is not what its name says, or a line has no `message`.
pub fn stored(s3: &S3, bucket: &str, prefix: &str) -> Vec<Stored> {
    let objects = s3.objects(bucket, prefix);
    let ours = objects.iter().filter(|(key, _)| is_ours(key));
    ours.flat_map(|(key, bytes)| read_object(key, bytes))
        .collect()
}

/// Like [`stored`], for a loader that stores into a local folder.
pub fn stored_in_folder(folder: &Path) -> Vec<Stored> {
    let mut lines = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let entries = fs::read_dir(&folder).expect("the folder can be read");
        for entry in entries {
            let path = entry.expect("an entry can be read").path();
            let key = path.to_string_lossy().into_owned();
            if path.is_dir() {
                open.push(path);
            } else if is_ours(&key) {
                let bytes = fs::read(&path).expect("a stored file can be read");
                lines.extend(read_object(&key, &bytes));
            }
        }
    }
    lines.sort_by(|a, b| (&a.object, &a.message).cmp(&(&b.object, &b.message)));
    lines
}

fn is_ours(key: &str) -> bool {
    !key.split('/')
        .any(|part| matches!(part, "_headwater" | "_dead_letters"))
}

fn read_object(key: &str, bytes: &[u8]) -> Vec<Stored> {
    let text = String::from_utf8(decompress(key, bytes))
        .unwrap_or_else(|error| panic!("object {key} is not UTF-8: {error}"));
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "object {key} ends within a line"
    );
    let read = |line: &str| Stored {
        message: message(line).unwrap_or_else(|| panic!("no message in {key}: {}", short(line))),
        object: key.to_owned(),
    };
    text.lines().map(read).collect()
}

/// Returns a JSON object's `message`.
pub fn message(line: &str) -> Option<String> {
    let value: Value = serde_json::from_str(line).ok()?;
    Some(value.get("message")?.as_str()?.to_owned())
}

/// Decompresses an object's bytes as its name says.
///
/// # Panics
/// If they are not what the name says.
pub fn decompress(key: &str, bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let extension = Path::new(key).extension().and_then(|text| text.to_str());
    let result = match extension {
        Some("zst") => zstd::stream::copy_decode(bytes, &mut plain),
        Some("gz") => flate2::read::MultiGzDecoder::new(bytes)
            .read_to_end(&mut plain)
            .map(drop),
        _ => return bytes.to_vec(),
    };
    result.unwrap_or_else(|error| panic!("object {key} cannot be decompressed: {error}"));
    plain
}

/// Waits until `done` says so.
///
/// # Panics
/// With the description, if that takes longer than `timeout`.
#[track_caller]
pub fn wait_until(description: &str, timeout: Duration, mut done: impl FnMut() -> bool) {
    wait_for(description, timeout, || {
        done().then_some(()).ok_or_else(String::new)
    });
}

/// Waits until `look` returns a value, and returns it. The text that it returns until then says how
/// far things are.
///
/// # Panics
/// With the description and the last few different texts, if that takes longer than `timeout`.
#[track_caller]
pub fn wait_for<T>(
    description: &str,
    timeout: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let start = clock::now();
    let mut seen: Vec<(Duration, String)> = Vec::new();
    loop {
        let waited = start.elapsed();
        match look() {
            Ok(value) => return value,
            Err(state) => {
                if seen.last().is_none_or(|(_, last)| *last != state) {
                    seen.push((waited, state));
                }
            }
        }
        if waited > timeout {
            let mut text = format!("waited {timeout:?} in vain: {description}");
            for (at, state) in &seen[seen.len().saturating_sub(EXAMPLES)..] {
                if !state.is_empty() {
                    write!(text, "\n  after {at:.1?}: {state}").expect("a string takes all");
                }
            }
            panic!("{text}");
        }
        // Often enough for a test that waits for milliseconds, seldom enough to cost nothing.
        sleep((waited / 20).clamp(Duration::from_millis(5), Duration::from_millis(200)));
    }
}

/// Waits until as many lines are stored as the writers wrote, and then compares them.
///
/// # Panics
/// With the report, if lines are still missing after `timeout`.
#[track_caller]
pub fn wait_until_complete(
    writers: &[&Writer],
    s3: &S3,
    bucket: &str,
    prefix: &str,
    timeout: Duration,
) -> Report {
    wait_for("every written line is stored", timeout, || {
        let report = Report::of(writers.iter().copied(), s3, bucket, prefix);
        if report.is_complete() {
            Ok(report)
        } else {
            Err(report.to_string())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(message: &str, object: &str) -> Stored {
        Stored {
            message: message.to_owned(),
            object: object.to_owned(),
        }
    }

    #[test]
    fn lost_duplicated_and_unexpected_are_told_apart() {
        let written = ["a", "b", "c", "c"].map(str::to_owned);
        let stored = [
            at("b", "1"),
            at("b", "2"),
            at("c", "1"),
            at("c", "1"),
            at("x", "3"),
        ];
        let report = Report::compare(written, &stored);
        assert_eq!(report.lost, ["a"]);
        assert_eq!(report.duplicated.len(), 1);
        assert_eq!(report.duplicated[0].1, ["1", "2"]);
        assert_eq!(report.unexpected[0].0, "x");
        let text = report.to_string();
        assert!(
            text.contains("1 lost, 1 duplicated, 1 unexpected"),
            "{text}"
        );
        assert!(text.contains("duplicated: \"b\" in 1, 2"), "{text}");
    }

    #[test]
    fn objects_are_read_by_their_names() {
        let plain = b"{\"message\":\"m\",\"n\":1}\n";
        let packed = zstd::encode_all(&plain[..], 3).unwrap();
        assert_eq!(
            read_object("p/x.ndjson.zst", &packed),
            [at("m", "p/x.ndjson.zst")]
        );
        assert_eq!(read_object("p/x.ndjson", plain), [at("m", "p/x.ndjson")]);
        assert!(!is_ours("_headwater/state/x") && !is_ours("p/_headwater/x") && is_ours("p/x"));
    }
}
