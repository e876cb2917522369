//! `headwater-loader dlq`: what could not be made rows, and another try.
//!
//! `list` reads the dead letters and says why, how many, and where the first of each kind was.
//! `replay` runs them through the configuration as it is now (mended, one hopes) and writes what
//! comes of them to another place, under names that are a function of the dead letters' own: to run
//! it twice writes nothing twice. The dead letters themselves stay as they are.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use headwater_record::headers;
use serde::{Deserialize, Serialize};

use crate::aggregate::{WindowRow, Windows};
use crate::cli::print;
use crate::config::Plan;
use crate::encode::{Compressor, Encoder, frame_bytes};
use crate::fetched::{Entry, Identity};
use crate::name::ObjectName;
use crate::partition::batch::Object;
use crate::pipeline::{Made, Pipeline, Record, Scratch, To};
use crate::route::DEAD_LETTERS;
use crate::store::{Reading, Store};

/// Longest line that is read: a record of the largest size that a broker may be set to take, as base64.
const LINE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// One dead letter, as it is stored.
#[derive(Debug, Deserialize)]
pub(super) struct DeadLetter {
    pub(super) reason: String,
    #[serde(default)]
    pub(super) step: Option<String>,
    pub(super) partition: i32,
    pub(super) offset: u64,
    batch_ms: u64,
    #[serde(default)]
    stream: Option<String>,
    #[serde(default)]
    span: Option<String>,
    /// Of a window's row: it is no record, and goes through no step again.
    #[serde(default)]
    window: Option<OfWindow>,
    value_base64: Option<String>,
}

/// Which step a window's row is of.
#[derive(Debug, Clone, Deserialize)]
struct OfWindow {
    /// Its place among the aggregates, where it had one.
    slot: Option<usize>,
    /// Its path, where the step was in the pipeline no longer.
    path: Option<String>,
}

impl DeadLetter {
    /// The record's value; none where it was null.
    ///
    /// # Errors
    /// It is no base64.
    pub(super) fn value(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let text = self.value_base64.as_ref();
        text.map(|text| base64::engine::general_purpose::STANDARD.decode(text))
            .transpose()
            .context("value_base64 is no base64")
    }

    /// The window's row that it is of, if it is of one.
    ///
    /// # Errors
    /// Its value is no row.
    fn window_row(&self) -> anyhow::Result<Option<WindowRow>> {
        let Some(window) = self.window.clone() else {
            return Ok(None);
        };
        let value = self.value()?.unwrap_or_default();
        let row = serde_json::from_slice(&value).context("a window's row is no JSON object")?;
        Ok(Some(WindowRow {
            slot: window.slot,
            path: window.path,
            row,
        }))
    }

    /// Its record's place and identity. Its time is the clock of its batch: Kafka's is not kept.
    fn entry(&self) -> Entry {
        let mut entry = Entry::foreign(self.offset, self.batch_ms);
        if let (Some(stream), Some(span)) = (&self.stream, &self.span) {
            let tags = [(headers::STREAM, stream), (headers::SPAN, span)];
            let tags = tags.map(|(name, text)| (name, Some(text.as_bytes())));
            entry.identity = Identity::read(tags.into_iter(), None);
        }
        entry
    }
}

/// Dead letters of one kind.
#[derive(Debug, Serialize)]
struct Reason {
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    count: u64,
    first_partition: i32,
    first_offset: u64,
    first_object: String,
}

/// Keys of this topic's dead letters that were written at `since_ms` or later, in order.
async fn keys(
    store: &Store,
    topic: &str,
    since_ms: u64,
) -> anyhow::Result<Vec<(String, ObjectName)>> {
    let mut keys = Vec::new();
    store
        .list(&format!("{DEAD_LETTERS}/"), |listed| {
            if listed.modified_ms < since_ms {
                return;
            }
            let name = ObjectName::parse(&listed.key).filter(|name| name.topic == topic);
            keys.extend(name.map(|name| (listed.key, name)));
        })
        .await?;
    keys.sort();
    Ok(keys)
}

/// An object that is there to be read.
async fn open(store: &Store, key: &str) -> anyhow::Result<Reading> {
    let object = store.open(key).await?;
    object.with_context(|| format!("{key} is gone"))
}

/// Gives the dead letters of an object to `each`, one in memory at a time.
///
/// # Errors
/// It cannot be read, holds something else, or `each` fails.
fn each_letter(
    key: &str,
    reader: impl Read,
    mut each: impl FnMut(DeadLetter) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let reader: Box<dyn Read + '_> = match key.rsplit('.').next() {
        Some("zst") => Box::new(zstd::Decoder::new(reader)?),
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        _ => Box::new(reader),
    };
    let mut lines = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = lines
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        if read.with_context(|| format!("cannot read {key}"))? == 0 {
            return Ok(());
        }
        let letter = serde_json::from_slice(&line);
        each(letter.with_context(|| format!("{key} holds no dead letters"))?)?;
    }
}

/// The dead letters of an object.
///
/// # Errors
/// It holds something else.
pub(super) fn parse(key: &str, bytes: &[u8]) -> anyhow::Result<Vec<DeadLetter>> {
    let mut letters = Vec::new();
    each_letter(key, bytes, |letter| {
        letters.push(letter);
        Ok(())
    })?;
    Ok(letters)
}

/// Dead letters by kind and step.
type Reasons = BTreeMap<(String, Option<String>), Reason>;

/// Counts those of an object.
fn count(key: &str, reader: impl Read, mut reasons: Reasons) -> anyhow::Result<Reasons> {
    each_letter(key, reader, |letter| {
        let kind = (kind(&letter.reason), letter.step.clone());
        let reason = reasons
            .entry(kind)
            .or_insert_with_key(|(reason, step)| Reason {
                reason: reason.clone(),
                step: step.clone(),
                count: 0,
                first_partition: letter.partition,
                first_offset: letter.offset,
                first_object: key.to_owned(),
            });
        reason.count += 1;
        Ok(())
    })?;
    Ok(reasons)
}

/// Prints why, how many, and where the first of each kind was, of objects that were written at
/// `since_ms` or later.
///
/// # Errors
/// The output cannot be read.
pub async fn list(
    plan: &Plan,
    store: &Store,
    since_ms: u64,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut reasons = Reasons::new();
    for (key, _) in keys(store, &plan.kafka.topic, since_ms).await? {
        let object = open(store, &key).await?;
        let counted = object.through(move |pieces| count(&key, pieces, reasons));
        reasons = counted.await??;
    }
    let mut reasons: Vec<Reason> = reasons.into_values().collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&reasons)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for reason in &reasons {
        let step = reason
            .step
            .as_deref()
            .map_or(String::new(), |step| format!(", in step {step}"));
        text += &format!(
            "{} x {}{step}; first at partition {}, offset {}, in {}\n",
            reason.count,
            reason.reason,
            reason.first_partition,
            reason.first_offset,
            reason.first_object
        );
    }
    let total: u64 = reasons.iter().map(|reason| reason.count).sum();
    print(&format!("{text}dead letters: {total}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// A reason without the place in the text, which differs from record to record.
pub(super) fn kind(reason: &str) -> String {
    reason
        .split(" at line ")
        .next()
        .unwrap_or(reason)
        .to_owned()
}

/// What a replay came to.
#[derive(Debug, Default, Serialize)]
struct Replayed {
    rows: u64,
    filtered: u64,
    aggregated: u64,
    #[serde(rename = "dead_letters_again")]
    again: u64,
    objects: u64,
}

/// Runs the dead letters through the plan's pipeline and writes what comes of them to `to`.
///
/// # Errors
/// An output that cannot be read or written, or an object of an earlier replay by another
/// configuration.
pub async fn replay(
    plan: &Plan,
    store: &Store,
    to: &Store,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut sum = Replayed::default();
    for (key, name) in keys(store, &plan.kafka.topic, 0).await? {
        let object = open(store, &key).await?;
        let replaying = Replaying::new(Arc::clone(&plan.pipeline), name, sum)?;
        let place = key.clone();
        let made = object.through(move |pieces| replaying.all(&place, pieces));
        let context = || format!("replaying {key}");
        let (objects, counted) = made.await?.with_context(context)?;
        store_all(&objects, to).await.with_context(context)?;
        sum = counted;
    }
    match json {
        true => print(&format!("{}\n", serde_json::to_string_pretty(&sum)?))?,
        false => print(&format!(
            "rows: {}\nfiltered: {}\naggregated: {}\ndead letters again: {}\nobjects: {}\n",
            sum.rows, sum.filtered, sum.aggregated, sum.again, sum.objects
        ))?,
    }
    Ok(match sum.again {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

async fn store_all(objects: &[Object], to: &Store) -> anyhow::Result<()> {
    for object in objects {
        to.put_new(&object.key, object.bytes.clone(), object.content)
            .await?;
    }
    Ok(())
}

/// The replay of one object.
struct Replaying {
    pipeline: Arc<Pipeline>,
    name: ObjectName,
    compressor: Compressor,
    objects: BTreeMap<String, Encoder>,
    windows: Windows,
    /// The batch clock of the last letter.
    last_ms: u64,
    sum: Replayed,
}

impl Replaying {
    fn new(pipeline: Arc<Pipeline>, name: ObjectName, sum: Replayed) -> anyhow::Result<Self> {
        let mut windows = Windows::default();
        windows.align(pipeline.aggregates());
        Ok(Self {
            pipeline,
            name,
            compressor: Compressor::new()?,
            objects: BTreeMap::new(),
            windows,
            last_ms: 0,
            sum,
        })
    }

    /// All of an object's letters: what is to be stored, and the sum with it.
    fn all(mut self, key: &str, reader: impl Read) -> anyhow::Result<(Vec<Object>, Replayed)> {
        each_letter(key, reader, |letter| self.take(&letter))?;
        self.finish()
    }

    fn take(&mut self, letter: &DeadLetter) -> anyhow::Result<()> {
        let value = letter.value()?;
        let entry = letter.entry();
        let record = Record {
            topic: &self.name.topic,
            partition: letter.partition,
            entry: &entry,
            value: value.as_deref(),
        };
        let (pipeline, clock_ms) = (&self.pipeline, letter.batch_ms);
        let mut scratch = Scratch::default();
        let made = match letter.window_row()? {
            Some(row) => pipeline.make_window(&row, record, clock_ms, &mut scratch),
            None => pipeline.make(record, clock_ms, &mut self.windows, &mut scratch),
        };
        self.last_ms = clock_ms;
        let (objects, compressor) = (&mut self.objects, &mut self.compressor);
        put(pipeline, &made, objects, compressor, &mut self.sum)
    }

    fn finish(mut self) -> anyhow::Result<(Vec<Object>, Replayed)> {
        let pipeline = &self.pipeline;
        // Their windows hold nothing but these letters: parts of the windows that the rest lies in.
        let entry = Entry::foreign(self.name.end.saturating_sub(1), self.last_ms);
        let record = Record {
            topic: &self.name.topic,
            partition: self.name.partition,
            entry: &entry,
            value: None,
        };
        for row in self.windows.close_all(pipeline.aggregates()) {
            let mut scratch = Scratch::default();
            let made = pipeline.make_window(&row, record, self.last_ms, &mut scratch);
            let (objects, compressor) = (&mut self.objects, &mut self.compressor);
            put(pipeline, &made, objects, compressor, &mut self.sum)?;
        }
        let n = self.objects.len();
        let mut objects = Vec::new();
        for (at, (path, encoder)) in self.objects.into_iter().enumerate() {
            let target = match path == DEAD_LETTERS {
                true => pipeline.dead_letters(),
                false => pipeline.target(),
            };
            let (bytes, content) = encoder.finish(target, &mut self.compressor)?;
            let name = ObjectName {
                path,
                k: at + 1,
                n,
                extension: target.extension.clone(),
                ..self.name.clone()
            };
            objects.push(Object {
                key: name.to_string(),
                bytes: bytes.into(),
                content,
            });
        }
        self.sum.objects += objects.len() as u64;
        Ok((objects, self.sum))
    }
}

/// Puts what became of one letter among the objects of its replay.
fn put(
    pipeline: &Pipeline,
    made: &Made<'_>,
    objects: &mut BTreeMap<String, Encoder>,
    compressor: &mut Compressor,
    sum: &mut Replayed,
) -> anyhow::Result<()> {
    let (line, to) = match *made {
        Made::Row { line, to } => (line, to),
        Made::Filtered => {
            sum.filtered += 1;
            return Ok(());
        }
        Made::Aggregated => {
            sum.aggregated += 1;
            return Ok(());
        }
    };
    let (path, target) = match to {
        To::Path(path) => (path, pipeline.target()),
        To::DeadLetters(_) => (DEAD_LETTERS, pipeline.dead_letters()),
        To::PathAsBefore => bail!("a first row has no path before it"),
    };
    match to {
        To::DeadLetters(_) => sum.again += 1,
        _ => sum.rows += 1,
    }
    let encoder = objects.entry(path.to_owned()).or_default();
    encoder.push(line, target, frame_bytes(1), compressor)?;
    Ok(())
}

/// Whether a replay may go to `to`: never into the output itself, whose names prove what is covered.
///
/// # Errors
/// It lies in the output, or the output in it.
pub fn apart(output: &str, to: &str) -> anyhow::Result<()> {
    let folder = |url: &str| format!("{}/", url.trim_end_matches('/'));
    let (output, to) = (folder(output), folder(to));
    ensure!(
        !output.starts_with(&to) && !to.starts_with(&output),
        "--to {to} and output.url {output} lie in one another: `verify` would count rows twice"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::folder::Folder;

    #[test]
    fn a_letter_knows_whose_record_it_was() {
        let letter = |more: &str| -> DeadLetter {
            let text = format!(
                r#"{{"reason":"r","topic":"t","partition":1,"offset":7,"batch_ms":9,{more}"value_base64":null}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let ours = letter(r#""stream":"pi-7/app//x","span":"00000000000000ab:5+3","#).entry();
        let Identity::Tagged { stream, span, .. } = &ours.identity else {
            panic!("{ours:?}");
        };
        assert_eq!((&**stream, span.start(), span.len()), ("pi-7/app//x", 5, 3));
        assert_eq!((ours.offset, ours.time_ms), (7, 9));
        assert_eq!(letter("").entry().identity, Identity::Foreign);
    }

    fn plan(path: &str) -> Plan {
        let text = format!(
            "[kafka]\nbrokers=['localhost:1']\ntopic='logs'\n[group]\nid='g'\n[output]\nurl='s3://b/p'\npath='all'\n\
             compression='none'\n[[transform]]\nstep='aggregate'\nwindow='1m'\nby=['a']\npath='{path}'\n\
             compute=[{{function='count'}}]\n"
        );
        let file = headwater_msk::config_file::parse(&text).unwrap();
        Plan::new(&file, crate::config::file::Tables::new(), None).unwrap()
    }

    #[tokio::test]
    async fn a_windows_row_comes_back_as_itself_and_counts_as_no_record() {
        // Six times 128 bytes are no path.
        let broken = plan("{a}/{a}/{a}/{a}/{a}/{a}");
        let row = format!(
            r#"{{"time":"2026-11-24T08:15:00Z","window_end":"2026-11-24T08:16:00Z","a":"{}","count":7}}"#,
            "x".repeat(128)
        );
        let window = WindowRow {
            slot: Some(0),
            path: None,
            row: serde_json::from_str(&row).unwrap(),
        };
        let entry = Entry::foreign(9, 1000);
        let at = Record {
            topic: "logs",
            partition: 0,
            entry: &entry,
            value: None,
        };
        let mut scratch = Scratch::default();
        let made = broken.pipeline.make_window(&window, at, 1000, &mut scratch);
        let Made::Row {
            line,
            to: To::DeadLetters(_),
        } = made
        else {
            panic!("{made:?}");
        };
        let letters = [line, b"\n"].concat();
        let name = "_dead_letters/logs+0+00000000000000000000-00000000000000000010+1of1.ndjson";
        let name = ObjectName::parse(name).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let to = Store::Folder(Folder::new(folder.path().to_owned()));
        let pipeline = Arc::clone(&plan("sums").pipeline);
        let replaying = Replaying::new(pipeline, name, Replayed::default()).unwrap();
        let (objects, sum) = replaying.all("x.ndjson", &letters[..]).unwrap();
        store_all(&objects, &to).await.unwrap();
        assert_eq!((sum.rows, sum.aggregated, sum.again), (1, 0, 0));
        let key = "sums/logs+0+00000000000000000000-00000000000000000010+1of1.ndjson";
        let stored = to.get(key).await.unwrap().expect("it is stored");
        assert_eq!(stored, format!("{row}\n"));
    }

    #[test]
    fn one_letter_is_in_memory_at_a_time() {
        let line = |offset: u64| {
            format!(
                "{{\"reason\":\"r at line 1\",\"topic\":\"t\",\"partition\":1,\"offset\":{offset},\"batch_ms\":9,\"value_base64\":null}}\n"
            )
        };
        /// Gives a line at a time, and knows how many it gave.
        struct Lines<'a>(&'a std::cell::Cell<u64>, Vec<u8>);
        impl Read for Lines<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                self.0.set(self.0.get() + 1);
                buffer[..self.1.len()].copy_from_slice(&self.1);
                Ok(self.1.len())
            }
        }
        // An object without an end: whoever wants all of it before the first letter never comes back.
        let given = std::cell::Cell::new(0);
        let stopped = each_letter("x.ndjson", Lines(&given, line(7).into_bytes()), |letter| {
            assert_eq!(letter.offset, 7);
            ensure!(given.get() < 5, "seen enough");
            Ok(())
        });
        assert_eq!(stopped.unwrap_err().to_string(), "seen enough");
        let text = line(3) + &line(4);
        for (key, bytes) in [
            ("a.ndjson", text.clone().into_bytes()),
            (
                "a.ndjson.zst",
                zstd::encode_all(text.as_bytes(), 1).unwrap(),
            ),
        ] {
            let counted = count(key, &bytes[..], Reasons::new()).unwrap();
            let reason = &counted[&("r".to_owned(), None)];
            assert_eq!((reason.count, reason.first_offset), (2, 3));
        }
        assert!(parse("x.ndjson", b"{}\n").is_err());
    }

    #[tokio::test]
    async fn letters_are_found_by_when_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::Folder(Folder::new(folder.path().to_owned()));
        let key = "_dead_letters/t+0+00000000000000000000-00000000000000000010+1of1.ndjson";
        let content = crate::store::plain_content(b"");
        let put = store.put_new(key, bytes::Bytes::new(), content).await;
        put.unwrap();
        let mut written_ms = 0;
        let listed = store.list("", |listed| written_ms = listed.modified_ms);
        listed.await.unwrap();
        for (since_ms, found) in [(0, 1), (written_ms, 1), (written_ms + 1, 0)] {
            let keys = keys(&store, "t", since_ms).await.unwrap();
            assert_eq!(keys.len(), found, "{since_ms}");
        }
    }

    #[test]
    fn a_replay_goes_elsewhere() {
        assert!(apart("s3://b/logs", "s3://b/again").is_ok());
        assert!(apart("s3://b/logs", "s3://b/logs2").is_ok());
        for to in ["s3://b/logs", "s3://b/logs/again/", "s3://b"] {
            assert!(apart("s3://b/logs", to).is_err(), "{to}");
        }
    }
}
