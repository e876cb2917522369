//! `headwater-loader audit`: what has come of every stream, by the ledger beside the data.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Context;
use headwater_record::ledger::GenerationState;
use headwater_record::notice::Tail;
use headwater_record::{Generation, Span};
use serde::Serialize;

use crate::cli::{Progress, print};
use crate::config::Plan;
use crate::config::plan::Output;
use crate::name::{snapshot_end, topic_state_folder};
use crate::range::manifest::Manifest;
use crate::state::Snapshot;
use crate::store::Store;
use crate::supervise::open_store;

/// One generation of one stream.
#[derive(Debug, Serialize)]
struct Row<'a> {
    stream: &'a str,
    generation: Generation,
    partition: i32,
    records: u64,
    settled: u64,
    state: &'static str,
    closed: Option<&'a str>,
    gaps: Vec<Span>,
    /// Up to where what came before a stretch is unknown; none in a live output.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<u64>,
    duplicates: u64,
    repeated: u64,
    lost: &'a BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    topic: &'a str,
    partitions: usize,
    rows: Vec<Row<'a>>,
    retired_generations: u64,
    retired_records: u64,
    unexplained_gaps: usize,
}

/// Prints what the ledger says. Exit status 1 where a gap is unexplained.
///
/// # Errors
/// The output cannot be read, or holds no ledger of this topic.
pub async fn audit(plan: &Plan, json: bool) -> anyhow::Result<ExitCode> {
    let store = open_store(&plan.output).await;
    let snapshots = newest(&store, &plan.kafka.topic).await?;
    anyhow::ensure!(
        !snapshots.is_empty(),
        "no ledger of topic {} under {}: has a loader with this configuration written anything yet?",
        plan.kafka.topic,
        shown(&plan.output)
    );
    let stretch = Manifest::load(&store, &plan.kafka.topic).await?;
    let report = judge(&plan.kafka.topic, &snapshots, stretch.is_some());
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        print(&table(&report))?;
    }
    Ok(if report.unexplained_gaps == 0 {
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
async fn newest(store: &Store, topic: &str) -> anyhow::Result<Vec<Snapshot>> {
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
    let mut snapshots = Vec::new();
    for (_, key) in newest.into_values() {
        let bytes = store.get(&key).await?.with_context(|| {
            format!("{key} was removed while it was read: a loader is at work; run audit again")
        })?;
        snapshots.push(Snapshot::decode(&bytes).with_context(|| key)?);
    }
    Ok(snapshots)
}

fn judge<'a>(topic: &'a str, snapshots: &'a [Snapshot], is_stretch: bool) -> Report<'a> {
    let mut rows = Vec::new();
    let (mut retired_generations, mut retired_records) = (0, 0);
    for snapshot in snapshots {
        for (stream, state) in snapshot.ledger.streams() {
            retired_generations += state.retired;
            retired_records += state.retired_records;
            let generations = state.generations.iter();
            rows.extend(
                generations
                    .map(|(generation, state)| row(snapshot.partition, stream, *generation, state)),
            );
        }
    }
    if is_stretch {
        rows.iter_mut().for_each(set_before);
    }
    rows.sort_by(|a, b| {
        (a.stream, a.generation, a.partition).cmp(&(b.stream, b.generation, b.partition))
    });
    let unexplained_gaps = rows.iter().map(|row| row.gaps.len()).sum();
    Report {
        topic,
        partitions: snapshots.len(),
        rows,
        retired_generations,
        retired_records,
        unexplained_gaps,
    }
}

/// What a generation lacks from its beginning on came before the stretch, or never: the stretch's
/// ledger cannot know.
fn set_before(row: &mut Row<'_>) {
    if row.gaps.first().is_some_and(|gap| gap.start() == 0) {
        row.before = Some(row.gaps.remove(0).end());
    }
}

fn row<'a>(
    partition: i32,
    stream: &'a str,
    generation: Generation,
    state: &'a GenerationState,
) -> Row<'a> {
    Row {
        stream,
        generation,
        partition,
        records: state.records,
        settled: state.settled,
        state: match &state.closed {
            None => "open",
            Some(closed) if closed.tail == Tail::Unknown => "closed, tail unknown",
            Some(_) => "closed",
        },
        closed: state.closed.as_ref().map(|closed| closed.reason.as_str()),
        gaps: state.gaps.iter().collect(),
        before: None,
        duplicates: state.duplicates,
        repeated: state.repeated,
        lost: &state.lost,
    }
}

fn table(report: &Report<'_>) -> String {
    let width = report
        .rows
        .iter()
        .map(|row| row.stream.chars().count())
        .max()
        .unwrap_or(0)
        .clamp(6, 72);
    let mut text = format!(
        "{:<width$}  {:<16}  {:>10}  {:>14}  {:>4}  {}\n",
        "STREAM", "GENERATION", "RECORDS", "SETTLED END", "GAPS", "STATE"
    );
    let mut line = |row: &Row<'_>| -> std::fmt::Result {
        write!(
            text,
            "{:<width$}  {:<16}  {:>10}  {:>14}  {:>4}  {}",
            row.stream,
            row.generation.to_string(),
            row.records,
            row.settled,
            row.gaps.len(),
            row.state
        )?;
        if let Some(reason) = row.closed {
            write!(text, " ({reason})")?;
        }
        if let Some(before) = row.before {
            write!(text, "; [0, {before}) is not of this stretch")?;
        }
        if row.repeated > 0 {
            write!(text, "; {} offsets repeated", row.repeated)?;
        }
        for (reason, offsets) in row.lost {
            write!(text, "; {offsets} offsets lost, explained: {reason}")?;
        }
        writeln!(text)?;
        for gap in row.gaps.iter().take(10) {
            writeln!(text, "    unexplained gap {gap}: {} offsets", gap.len())?;
        }
        if row.gaps.len() > 10 {
            writeln!(text, "    and {} gaps more", row.gaps.len() - 10)?;
        }
        Ok(())
    };
    for row in &report.rows {
        let written = line(row);
        debug_assert!(written.is_ok(), "a String takes every byte");
    }
    let records: u64 = report.rows.iter().map(|row| row.records).sum();
    let duplicates: u64 = report.rows.iter().map(|row| row.duplicates).sum();
    text + &format!(
        "\n{} partitions, {} generations ({} more complete and forgotten), {} records, {} re-sent records skipped\n\
         unexplained gaps: {}\n",
        report.partitions,
        report.rows.len(),
        report.retired_generations,
        records + report.retired_records,
        duplicates,
        report.unexplained_gaps
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_record::Ledger;

    use crate::aggregate::Windows;

    #[test]
    fn what_lies_before_a_stretch_is_no_gap_of_it() {
        let mut ledger = Ledger::default();
        let span = Span::new(70, 80).unwrap();
        ledger.accept("pi-7/syslog//x", Generation(1), span, 1);
        let snapshots = [Snapshot {
            topic: "logs".into(),
            partition: 0,
            end: 9,
            clock_ms: 1,
            ledger,
            windows: Windows::default(),
        }];
        assert_eq!(judge("logs", &snapshots, false).unexplained_gaps, 1);
        let stretch = judge("logs", &snapshots, true);
        assert_eq!(stretch.unexplained_gaps, 0);
        let text = table(&stretch);
        assert!(text.contains("; [0, 70) is not of this stretch"), "{text}");
    }

    #[test]
    fn a_gap_is_named_and_counted() {
        let mut ledger = Ledger::default();
        let span = |start, end| Span::new(start, end).unwrap();
        ledger.accept("pi-7/syslog//var/log/syslog", Generation(1), span(0, 10), 1);
        ledger.accept(
            "pi-7/syslog//var/log/syslog",
            Generation(1),
            span(20, 30),
            1,
        );
        let snapshots = [Snapshot {
            topic: "logs".into(),
            partition: 0,
            end: 9,
            clock_ms: 1,
            ledger,
            windows: Windows::default(),
        }];
        let stretch = judge("logs", &snapshots, true);
        assert_eq!(stretch.unexplained_gaps, 1, "it is in the middle");
        let report = judge("logs", &snapshots, false);
        let text = table(&report);
        assert!(
            text.contains("unexplained gap [10, 20): 10 offsets"),
            "{text}"
        );
        assert!(text.ends_with("unexplained gaps: 1\n"), "{text}");
    }
}
