//! `headwater-loader audit`: what has come of every stream, by the ledger beside the data.
//!
//! In bounded memory, however many streams and partitions there are: each ledger is read as a stream, a
//! generation at a time, and what is to be printed waits in sorted runs ([`spool`]), which are then
//! merged ([`merge`]) and printed line by line ([`report`]). So nothing is printed before all was read,
//! and the exit status is known by then.

mod collect;
mod merge;
mod report;
mod spool;

use std::collections::BTreeMap;
use std::io::{BufWriter, ErrorKind};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context;
use headwater_record::ledger::scan::Part;

use self::collect::{Collected, Line, device_of};
use self::merge::{Merged, shorten};
use self::report::{Joined, print};
use crate::cli::{Progress, open};
use crate::config::{Output, Plan};
use crate::name::{snapshot_end, state_folder, topic_state_folder};
use crate::range::manifest::Manifest;
use crate::recover::{RecoverError, newest_snapshot};
use crate::state::{SnapshotError, scan};
use crate::status::devices::Device;
use crate::store::{Reading, Store};

/// How often the newest snapshot of a partition may be gone before it is read: a loader at work
/// removes one with each batch.
const REMOVED_MAX: usize = 10;

/// What is to be looked at.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Only these devices; all by default.
    pub device: Option<Named>,
    /// What a line is.
    pub by: By,
    /// Only lines with a gap that nothing explains.
    pub gaps: bool,
    /// JSON instead of text.
    pub json: bool,
}

/// What a line of the report is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// One generation of one stream.
    #[default]
    Stream,
    /// One device, over all of its streams.
    Device,
}

/// A device's name, or with `*` behind it the beginning of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    name: String,
    is_beginning: bool,
}

impl FromStr for Named {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (name, is_beginning) = match text.strip_suffix('*') {
            Some(beginning) => (beginning, true),
            None => (text, false),
        };
        if name.contains('/') || text.is_empty() {
            return Err("a device's name, or the beginning of names with * behind it");
        }
        Ok(Self {
            name: name.to_owned(),
            is_beginning,
        })
    }
}

impl Choice {
    fn takes(&self, stream: &str) -> bool {
        self.device.as_ref().is_none_or(|named| {
            let device = device_of(stream);
            match named.is_beginning {
                true => device.starts_with(&named.name),
                false => device == named.name,
            }
        })
    }
}

/// Prints what the ledger says. Exit status 1 where a gap is unexplained, or where there are records
/// that no ledger had room for.
///
/// # Errors
/// The output cannot be read, or holds no ledger of this topic; what was read cannot wait in a
/// temporary file.
pub async fn audit(plan: &Plan, choice: &Choice) -> anyhow::Result<ExitCode> {
    let store = open(&plan.output).await;
    let topic = plan.kafka.topic.as_str();
    let newest = newest(&store, topic).await?;
    anyhow::ensure!(
        !newest.is_empty(),
        "no ledger of topic {topic} under {}: has a loader with this configuration written anything yet?",
        shown(&plan.output)
    );
    let mut collected = Collected {
        choice: choice.clone(),
        is_stretch: Manifest::load(&store, topic).await?.is_some(),
        ..Collected::default()
    };
    let mut progress = Progress::new("streams read");
    for (partition, key) in newest {
        let (key, object) = open_newest(&store, topic, partition, key).await?;
        let work = move |pieces| {
            let added = collected.add(partition, |each| {
                scan(pieces, |part| {
                    if let Part::Stream { .. } = part {
                        progress.step();
                    }
                    each(part)
                })
            });
            (collected, progress, added)
        };
        let (collected_back, progress_back, added) = object.through(work).await?;
        let read: Result<(), SnapshotError> = added.with_context(waiting)?;
        read.context(key)?;
        (collected, progress) = (collected_back, progress_back);
    }
    drop(progress);
    finish(topic, collected)
}

/// What is said of a temporary file that fails.
fn waiting() -> String {
    format!(
        "what was read waits in a temporary file until it is printed, and that fails in {}; point TMPDIR to a folder with room",
        std::env::temp_dir().display()
    )
}

/// Prints what was collected.
fn finish(topic: &str, collected: Collected) -> anyhow::Result<ExitCode> {
    let Collected {
        choice,
        totals,
        spool,
        runs,
        ..
    } = collected;
    let mut out = BufWriter::with_capacity(64 * 1024, std::io::stdout().lock());
    let printed = match choice.by {
        By::Stream => {
            let (spool, runs) = shorten::<Line>(spool, runs).with_context(waiting)?;
            let lines = Merged::<Line>::new(&spool, &runs).with_context(waiting)?;
            print(topic, &totals, lines, choice.json, &mut out)
        }
        By::Device => {
            let (spool, runs) = shorten::<Device>(spool, runs).with_context(waiting)?;
            let lines = Merged::new(&spool, &runs).and_then(Joined::new);
            let lines = lines.with_context(waiting)?;
            print(topic, &totals, lines, choice.json, &mut out)
        }
    };
    match printed {
        // A reader that went away (`| head`) is no error.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        other => other.context("cannot print")?,
    }
    Ok(if totals.unexplained_gaps == 0 && totals.unaccounted == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The output, as a person names it.
pub(super) fn shown(output: &Output) -> String {
    match output {
        Output::S3(s3) => format!("s3://{}/{}", s3.bucket, s3.prefix),
        Output::Folder(path) => path.display().to_string(),
    }
}

/// The newest snapshot of each partition. It may be ahead of the committed offset by one batch,
/// whose objects are all stored: objects come before their snapshot.
async fn newest(store: &Store, topic: &str) -> anyhow::Result<BTreeMap<i32, String>> {
    let folder = topic_state_folder(topic);
    let mut newest: BTreeMap<i32, (u64, String)> = BTreeMap::new();
    let mut progress = Progress::new("snapshots listed");
    store
        .list(&folder, |listed| {
            progress.step();
            let parsed = listed.key.strip_prefix(&folder).and_then(|rest| {
                let (partition, name) = rest.split_once('/')?;
                Some((partition.parse::<i32>().ok()?, snapshot_end(name)?))
            });
            if let Some((partition, end)) = parsed {
                let entry = newest.entry(partition).or_default();
                *entry = std::mem::take(entry).max((end, listed.key));
            }
        })
        .await?;
    let keys = newest
        .into_iter()
        .map(|(partition, (_, key))| (partition, key));
    Ok(keys.collect())
}

/// Opens a partition's newest snapshot: that of `key`, or where a loader at work has removed it
/// since, the one that took its place.
async fn open_newest(
    store: &Store,
    topic: &str,
    partition: i32,
    mut key: String,
) -> anyhow::Result<(String, Reading)> {
    let folder = state_folder(topic, partition);
    for _ in 0..REMOVED_MAX {
        if let Some(object) = store.open(&key).await? {
            return Ok((key, object));
        }
        match newest_snapshot(store, &folder, u64::MAX).await {
            Ok(Some((_, name))) => key = format!("{folder}{name}"),
            // They were removed meanwhile, too.
            Ok(None) | Err(RecoverError::Missing(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!(
        "{key} was removed before it could be read, and so was each that took its place: a loader is at work; run audit again"
    )
}

#[cfg(test)]
mod tests;
