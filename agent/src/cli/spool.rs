//! `headwater-agent spool list` and `spool export`: what waits in the spool, and its records.
//!
//! Both read the database itself, whether an agent runs on it or not: with one that runs, batches may
//! be delivered and go while they are read.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::load_plan;
use crate::admin::status::{period, size};
use crate::admin::tap::render;
use crate::clock;
use crate::spool::batch::Row;
use crate::spool::read::{Reader, Summary};
use crate::spool::sealing::Keys;
use crate::spool::{Lane, salvage};

/// Progress is shown again after so many batches.
const SHOWN_EVERY: u64 = 64;

/// What waits of one stream.
#[derive(Debug, Serialize)]
struct Waiting {
    lane: Lane,
    stream: String,
    batches: u64,
    records: u64,
    bytes: u64,
    oldest_ms: u64,
    newest_ms: u64,
}

/// What waits in all.
#[derive(Debug, Default, Serialize)]
struct List {
    batches: u64,
    records: u64,
    bytes: u64,
    streams: Vec<Waiting>,
}

impl List {
    fn read(reader: &Reader) -> anyhow::Result<Self> {
        let mut streams: BTreeMap<(Lane, String), Waiting> = BTreeMap::new();
        reader.summaries(|summary| {
            let lane = summary.id.lane();
            let key = (lane, summary.stream.clone());
            let waiting = streams
                .entry(key)
                .or_insert_with(|| Waiting::new(lane, &summary));
            waiting.batches += 1;
            waiting.records += summary.records;
            waiting.bytes += summary.bytes;
            waiting.oldest_ms = waiting.oldest_ms.min(summary.committed_ms);
            waiting.newest_ms = waiting.newest_ms.max(summary.committed_ms);
        })?;
        let mut list = Self::default();
        for (_, waiting) in streams {
            list.batches += waiting.batches;
            list.records += waiting.records;
            list.bytes += waiting.bytes;
            list.streams.push(waiting);
        }
        Ok(list)
    }

    /// `age_ms`: of a commit, by when it was.
    fn write(&self, out: &mut impl Write, age_ms: impl Fn(u64) -> u64) -> io::Result<()> {
        let age = |ms: u64| period(age_ms(ms));
        let (batches, records, bytes) = (self.batches, self.records, size(self.bytes));
        writeln!(out, "{batches} batches, {records} records, {bytes}")?;
        if self.streams.is_empty() {
            return Ok(());
        }
        let head = ("LANE", "BATCHES", "RECORDS", "BYTES", "OLDEST", "NEWEST");
        line(out, head, "STREAM")?;
        for waiting in &self.streams {
            let lane = match waiting.lane {
                Lane::High => "high",
                Lane::Normal => "normal",
                Lane::Low => "low",
            };
            let columns = (
                lane,
                &*waiting.batches.to_string(),
                &*waiting.records.to_string(),
                &*size(waiting.bytes),
                &*age(waiting.oldest_ms),
                &*age(waiting.newest_ms),
            );
            line(out, columns, &waiting.stream)?;
        }
        Ok(())
    }
}

impl Waiting {
    fn new(lane: Lane, first: &Summary) -> Self {
        Self {
            lane,
            stream: first.stream.clone(),
            batches: 0,
            records: 0,
            bytes: 0,
            oldest_ms: first.committed_ms,
            newest_ms: first.committed_ms,
        }
    }
}

fn line(
    out: &mut impl Write,
    (lane, batches, records, bytes, oldest, newest): (&str, &str, &str, &str, &str, &str),
    stream: &str,
) -> io::Result<()> {
    // Names of files may hold anything.
    let stream = stream.escape_default();
    writeln!(
        out,
        "{lane:<6}  {batches:>8}  {records:>10}  {bytes:>10}  {oldest:>14}  {newest:>14}  {stream}"
    )
}

/// Prints what waits in the spool of the configuration at `config`, by lane and stream: as a table, or
/// as JSON.
///
/// # Errors
/// The configuration is refused, the spool cannot be read, or the output cannot be written.
pub fn list(config: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let plan = load_plan(config)?;
    let list = List::read(&Reader::open(&plan.state_dir)?)?;
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &list)?;
        writeln!(out)?;
    } else {
        list.write(&mut out, clock::age_ms)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints every record that waits, in the order of sending, as `tap` shows records: a line of JSON
/// each. `source`: only of this one. `damaged`: of this database, read page by page. Exit status 1
/// where a batch could not be read; the log says which.
///
/// # Errors
/// The configuration is refused, a key or the spool cannot be read, or the output cannot be written.
pub fn export(
    config: &Path,
    source: Option<&str>,
    damaged: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let plan = load_plan(config)?;
    let keys = Keys::load(&plan.spool_keys)?;
    let mut export = Export {
        keys: &keys,
        source,
        out: io::stdout().lock(),
        progress: io::stderr().is_terminal(),
        total: None,
        batches: 0,
        unreadable: 0,
        failed: None,
        lines: Vec::new(),
    };
    match damaged {
        Some(path) => salvage::each_row(path, |row| export.take(row))?,
        None => {
            let reader = Reader::open(&plan.state_dir)?;
            export.total = Some(reader.depth()?.rows);
            reader.rows(|row| export.take(row))?;
        }
    }
    export.end()
}

struct Export<'a, W> {
    keys: &'a Keys,
    source: Option<&'a str>,
    out: W,
    progress: bool,
    total: Option<u64>,
    batches: u64,
    unreadable: u64,
    failed: Option<io::Error>,
    lines: Vec<u8>,
}

impl<W: Write> Export<'_, W> {
    /// One batch; returns whether another is wanted.
    fn take(&mut self, row: &Row) -> bool {
        self.batches += 1;
        if self.batches.is_multiple_of(SHOWN_EVERY) {
            self.show();
        }
        let batch = match row.unpack(self.keys) {
            Ok(batch) => batch,
            Err(error) => {
                self.unreadable += 1;
                tracing::warn!(
                    stream = row.stream.escape_default().to_string(), generation = %row.generation,
                    start = row.start, end = row.end, records = row.records,
                    "a batch cannot be read: {error}"
                );
                return true;
            }
        };
        if self
            .source
            .is_some_and(|source| batch.stream.source() != source)
        {
            return true;
        }
        self.lines.clear();
        render(&batch, &mut self.lines);
        self.failed = self.out.write_all(&self.lines).err();
        self.failed.is_none()
    }

    fn show(&self) {
        if !self.progress {
            return;
        }
        let total = self
            .total
            .map_or(String::new(), |total| format!(" of {total}"));
        // Nobody's loss where it cannot be shown.
        drop(write!(io::stderr(), "\r{}{total} batches", self.batches));
    }

    fn end(mut self) -> anyhow::Result<ExitCode> {
        self.show();
        if self.progress {
            drop(writeln!(io::stderr()));
        }
        let failed = self.failed.take().or_else(|| self.out.flush().err());
        match failed {
            // Whoever read has seen enough.
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
        if self.unreadable > 0 {
            tracing::error!(
                batches = self.batches,
                unreadable = self.unreadable,
                "not every batch could be read"
            );
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use headwater_record::{Generation, Kind, StreamId};
    use tokio::sync::mpsc;

    use super::*;
    use crate::batch::{Batch, Entry};
    use crate::spool::disk::Floors;
    use crate::spool::store::{Present, REPLIES, Store};
    use crate::spool::{BatchId, Transaction};

    fn batch(source: &str, n: u64) -> Arc<Batch> {
        let values = format!("{{\"n\":{n}}}").into_bytes();
        Arc::new(Batch {
            stream: StreamId::parse(&format!("d/{source}//log")).unwrap(),
            generation: Generation(1),
            start: n * 10,
            entries: vec![Entry {
                end: n * 10 + 10,
                value_end: values.len() as u32,
                kind: Kind::Data,
            }],
            values,
            raw: false,
            permit: None,
        })
    }

    /// A spool with 1200 batches of one source and one, of a higher lane, of another.
    fn spool(dir: &Path, keys: Keys) -> (Store, mpsc::Receiver<crate::spool::Reply>) {
        let (sender, mut replies) = mpsc::channel(REPLIES);
        let to = (
            &"d".parse().unwrap(),
            Floors::default(),
            keys,
            Present::default(),
        );
        let (store, opening) = Store::start(dir, to, sender).unwrap();
        opening.blocking_recv().unwrap().unwrap();
        let mut rows: Vec<_> = (1..=1200).map(|n| (BatchId(n), batch("app", n))).collect();
        rows.push((Lane::High.first(), batch("alarm", 7)));
        store
            .commit(Transaction {
                rows,
                ..Transaction::default()
            })
            .unwrap();
        replies.blocking_recv().unwrap();
        (store, replies)
    }

    fn exported(
        keys: &Keys,
        source: Option<&str>,
        read: impl FnOnce(&mut Export<'_, &mut Vec<u8>>),
    ) -> (Vec<String>, u64) {
        let mut out = Vec::new();
        let mut export = Export {
            keys,
            source,
            out: &mut out,
            progress: false,
            total: None,
            batches: 0,
            unreadable: 0,
            failed: None,
            lines: Vec::new(),
        };
        read(&mut export);
        let unreadable = export.unreadable;
        let text = String::from_utf8(out).unwrap();
        (text.lines().map(str::to_owned).collect(), unreadable)
    }

    #[test]
    fn a_spool_is_listed_and_exported_beside_its_agent() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _replies) = spool(dir.path(), Keys::of(Some(1), &[]));
        let reader = Reader::open(dir.path()).unwrap();
        let list = List::read(&reader).unwrap();
        assert_eq!((list.batches, list.records), (1201, 1201));
        let streams: Vec<_> = (list.streams.iter())
            .map(|waiting| (waiting.lane, waiting.stream.as_str(), waiting.batches))
            .collect();
        assert_eq!(
            streams,
            [
                (Lane::High, "d/alarm//log", 1),
                (Lane::Normal, "d/app//log", 1200)
            ]
        );
        let mut table = Vec::new();
        list.write(&mut table, |ms| list.streams[0].oldest_ms + 61_000 - ms)
            .unwrap();
        let table = String::from_utf8(table).unwrap();
        assert!(table.starts_with("1201 batches, 1201 records, "), "{table}");
        assert!(table.contains("high           1           1"), "{table}");
        assert!(table.contains("1 min 1 s  d/alarm//log"), "{table}");

        let keys = Keys::of(None, &[1]);
        let (lines, unreadable) = exported(&keys, None, |export| {
            reader.rows(|row| export.take(row)).unwrap()
        });
        assert_eq!((lines.len(), unreadable), (1201, 0));
        assert!(
            lines[0].contains("d/alarm//log") && lines[0].contains("{\"n\":7}"),
            "{}",
            lines[0]
        );
        let (lines, _) = exported(&keys, Some("alarm"), |export| {
            reader.rows(|row| export.take(row)).unwrap()
        });
        assert_eq!(lines.len(), 1);
        let none = Keys::default();
        let (lines, unreadable) = exported(&none, None, |export| {
            reader.rows(|row| export.take(row)).unwrap()
        });
        assert_eq!((lines.len(), unreadable), (0, 1201));
        store.close();
    }

    #[test]
    fn a_damaged_spool_is_exported_as_far_as_it_reads() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _replies) = spool(dir.path(), Keys::default());
        store.close();
        let path = dir.path().join("spool.db");
        let mut bytes = std::fs::read(&path).unwrap();
        // The schema, and a page in the middle.
        let middle = bytes.len() / 8192 * 4096;
        bytes[100..4096].fill(0);
        bytes[middle..middle + 4096].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        let error = Reader::open(dir.path())
            .and_then(|reader| reader.depth())
            .unwrap_err();
        assert!(error.to_string().contains("--damaged FILE"), "{error}");
        let (lines, unreadable) = exported(&Keys::default(), None, |export| {
            salvage::each_row(&path, |row| export.take(row)).unwrap();
        });
        assert!((1000..1201).contains(&lines.len()), "{}", lines.len());
        assert_eq!(unreadable, 0, "what is on no whole page is no row");
    }
}
