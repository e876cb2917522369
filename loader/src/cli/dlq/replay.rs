//! Another try: what comes of the dead letters by the configuration as it is now.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use serde::Serialize;

use super::letter::{DeadLetter, each_letter};
use super::{keys, open, place};
use crate::aggregate::Windows;
use crate::cli::print;
use crate::config::Plan;
use crate::encode::{Compressor, Encoder, Making, frame_bytes};
use crate::fetched::Entry;
use crate::name::ObjectName;
use crate::partition::batch::Object;
use crate::pipeline::{Made, Pipeline, Record, Scratch, To};
use crate::route::DEAD_LETTERS;
use crate::store::Store;

/// What a replay came to.
#[derive(Debug, Default, Serialize)]
pub(super) struct Replayed {
    pub(super) rows: u64,
    filtered: u64,
    pub(super) aggregated: u64,
    #[serde(rename = "dead_letters_again")]
    pub(super) again: u64,
    objects: u64,
}

/// Runs the dead letters through the plan's pipeline, of objects that were written at `since_ms` or later, and
/// writes what comes of them to `to`.
///
/// # Errors
/// An output that cannot be read or written, or a place that holds something else.
pub async fn replay(
    plan: &Plan,
    store: &Store,
    to: &Store,
    since_ms: u64,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let sum = run(plan, store, to, since_ms).await?;
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

/// The same without a word.
pub(super) async fn run(
    plan: &Plan,
    store: &Store,
    to: &Store,
    since_ms: u64,
) -> anyhow::Result<Replayed> {
    place::take(plan, to).await?;
    let mut sum = Replayed::default();
    for (key, name) in keys(store, &plan.kafka.topic, since_ms).await? {
        let object = open(store, &key).await?;
        let replaying = Replaying::new(
            Arc::clone(&plan.pipeline),
            name,
            sum,
            Arc::clone(&plan.making),
        );
        let place = key.clone();
        let made = object.through(move |pieces| replaying.all(&place, pieces));
        let context = || format!("replaying {key}");
        let (objects, counted) = made.await?.with_context(context)?;
        store_all(&objects, to).await.with_context(context)?;
        sum = counted;
    }
    Ok(sum)
}

pub(super) async fn store_all(objects: &[Object], to: &Store) -> anyhow::Result<()> {
    for object in objects {
        to.put_new(&object.key, object.bytes.clone(), object.content)
            .await?;
    }
    Ok(())
}

/// The replay of one object.
pub(super) struct Replaying {
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
    pub(super) fn new(
        pipeline: Arc<Pipeline>,
        name: ObjectName,
        sum: Replayed,
        making: Arc<Making>,
    ) -> Self {
        let mut windows = Windows::default();
        windows.align(pipeline.aggregates());
        Self {
            pipeline,
            name,
            compressor: Compressor::by(making),
            objects: BTreeMap::new(),
            windows,
            last_ms: 0,
            sum,
        }
    }

    /// All of an object's letters: what is to be stored, and the sum with it.
    pub(super) fn all(
        mut self,
        key: &str,
        reader: impl Read,
    ) -> anyhow::Result<(Vec<Object>, Replayed)> {
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
        let (objects, compressor) = (&mut self.objects, &self.compressor);
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
            let (objects, compressor) = (&mut self.objects, &self.compressor);
            put(pipeline, &made, objects, compressor, &mut self.sum)?;
        }
        let n = self.objects.len();
        let mut objects = Vec::new();
        for (at, (path, encoder)) in self.objects.into_iter().enumerate() {
            let target = match path == DEAD_LETTERS {
                true => pipeline.dead_letters(),
                false => pipeline.target(),
            };
            let (bytes, content) = encoder.finish(target, &self.compressor)?;
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
    compressor: &Compressor,
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
