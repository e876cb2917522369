//! `headwater-loader columns`: columns for CSV, Parquet and `ddl`, found once in a sample of rows, to
//! be put into the configuration. What the steps make of the records is what is looked at.
//!
//! ```text
//! headwater-loader columns --config loader.toml >> loader.toml
//! headwater-loader columns --config loader.toml --stdin < records.ndjson
//! ```

use std::fmt::Write;
use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use headwater_record::Kind as RecordKind;

use crate::aggregate::Windows;
use crate::cli::{Progress, plan_with, print};
use crate::config::Plan;
use crate::fetched::{Entry, Identity};
use crate::format::{ColumnType, Kind};
use crate::infer::{Columns, Sample};
use crate::pipeline::{Made, Record, Scratch, To};
use crate::range::position::Position;
use crate::range::reader::Reader;
use crate::transform::Row;

/// Which records are looked at, and how much of them a field needs.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Values from standard input, one a line, instead of the topic.
    pub stdin: bool,
    /// Records, over all partitions.
    pub records: u64,
    /// Where to begin; `latest-N` with an even share for each partition by default.
    pub from: Option<Position>,
    /// Only these partitions; all where it is empty.
    pub partitions: Vec<i32>,
    /// A field gets a column where so much of a hundred rows have a value for it.
    pub least_percent: f64,
}

/// Prints `[[output.column]]` for what the sample holds.
///
/// # Errors
/// Records that cannot be read, or no row among them.
pub fn columns(config: &Path, wanted: &Wanted, json: bool) -> anyhow::Result<ExitCode> {
    let mut overflow = None;
    let plan = plan_with(config, |file| {
        let output = &mut file.output;
        overflow = Some(output.overflow.clone()).filter(|name| !name.is_empty());
        // Rows as they are, whatever they are to be written as: that is not known yet.
        (output.format, output.layout) = (Kind::Ndjson, crate::partition::Layout::Batch);
        output.column.clear();
    })?;
    let mut look = Look::new(&plan);
    match wanted.stdin {
        true => from_lines(&mut look, std::io::stdin().lock(), wanted.records)?,
        false => from_topic(&mut look, wanted)?,
    }
    look.close_windows();
    let rows = look.sample.rows();
    ensure!(
        rows > 0,
        "no row among {} records ({} filtered, {} dead letters): `plan` says why, or take more with --records",
        look.records,
        look.filtered,
        look.dead_letters
    );
    let columns = look
        .sample
        .columns(overflow.as_deref(), least(rows, wanted.least_percent));
    match json {
        true => print(&format!("{}\n", serde_json::to_string_pretty(&columns)?))?,
        false => print(&text(&columns, look.dead_letters)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// So many of `rows` are `percent` of a hundred; one at least.
fn least(rows: u64, percent: f64) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a sample, between 0 and its size"
    )]
    let least = (rows as f64 * percent / 100.0).ceil() as u64;
    least.max(1)
}

fn from_topic(look: &mut Look<'_>, wanted: &Wanted) -> anyhow::Result<()> {
    let reader = Reader::open(look.plan)?;
    let partitions = reader.partitions(&wanted.partitions)?;
    let share = wanted.records.div_ceil(partitions.len().max(1) as u64);
    let from = wanted.from.unwrap_or(Position::Before(share));
    let mut progress = Progress::new("records read");
    for partition in partitions {
        let bounds = reader.bounds(partition)?;
        let start = reader.resolve(partition, from, bounds)?;
        reader.read_some(
            partition,
            (start, bounds.high),
            share,
            &mut |fetched, at| {
                progress.step();
                let entry = &fetched.entries[at];
                look.at(partition, entry, fetched.value(entry));
                Ok(())
            },
        )?;
    }
    Ok(())
}

fn from_lines(look: &mut Look<'_>, mut records: impl BufRead, most: u64) -> anyhow::Result<()> {
    let mut value = Vec::new();
    for offset in 0..most {
        value.clear();
        let read = records.read_until(b'\n', &mut value);
        if read.context("cannot read standard input")? == 0 {
            break;
        }
        let end = value.iter().rposition(|b| !matches!(b, b'\n' | b'\r'));
        value.truncate(end.map_or(0, |end| end + 1));
        look.at(0, &Entry::foreign(offset, 0), Some(&value));
    }
    Ok(())
}

/// The pipeline, run over a sample.
struct Look<'a> {
    plan: &'a Plan,
    sample: Sample,
    windows: Windows,
    scratch: Scratch,
    records: u64,
    filtered: u64,
    dead_letters: u64,
    last: (i32, Entry),
}

impl<'a> Look<'a> {
    fn new(plan: &'a Plan) -> Self {
        let mut windows = Windows::default();
        windows.align(plan.pipeline.aggregates());
        Self {
            plan,
            windows,
            sample: Sample::default(),
            scratch: Scratch::default(),
            records: 0,
            filtered: 0,
            dead_letters: 0,
            last: (0, Entry::foreign(0, 0)),
        }
    }

    fn at(&mut self, partition: i32, entry: &Entry, value: Option<&[u8]>) {
        if matches!(&entry.identity, Identity::Tagged { kind, .. } if *kind != RecordKind::Data) {
            return;
        }
        self.records += 1;
        let record = Record {
            topic: &self.plan.kafka.topic,
            partition,
            entry,
            value,
        };
        let pipeline = &self.plan.pipeline;
        // The time at which the broker had it stands for the batch clock.
        let made = pipeline.make(record, entry.time_ms, &mut self.windows, &mut self.scratch);
        match row(&made) {
            Ok(Some(row)) => self.sample.add(&row),
            Ok(None) => self.filtered += 1,
            Err(()) => self.dead_letters += 1,
        }
        self.last = (partition, Entry::foreign(entry.offset, entry.time_ms));
    }

    /// Rows of windows are rows, too.
    fn close_windows(&mut self) {
        let pipeline = &self.plan.pipeline;
        let record = Record {
            topic: &self.plan.kafka.topic,
            partition: self.last.0,
            entry: &self.last.1,
            value: None,
        };
        let clock_ms = self.last.1.time_ms;
        for window in self.windows.close_all(pipeline.aggregates()) {
            let made = pipeline.make_window(&window, record, clock_ms, &mut self.scratch);
            match row(&made) {
                Ok(row) => row.iter().for_each(|row| self.sample.add(row)),
                Err(()) => self.dead_letters += 1,
            }
        }
    }
}

/// The row that was made; none for what needs none. An error for a dead letter.
fn row(made: &Made<'_>) -> Result<Option<Row>, ()> {
    match made {
        Made::Filtered | Made::Aggregated => Ok(None),
        Made::Row {
            to: To::DeadLetters(_),
            ..
        } => Err(()),
        Made::Row { line, .. } => serde_json::from_slice(line).map(Some).map_err(|_| ()),
    }
}

fn name(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::String => "string",
        ColumnType::Int => "int",
        ColumnType::Float => "float",
        ColumnType::Bool => "bool",
        ColumnType::Timestamp => "timestamp",
        ColumnType::Json => "json",
    }
}

/// As TOML, with what a person should know as comments.
fn text(columns: &Columns, dead_letters: u64) -> Result<String, std::fmt::Error> {
    let mut text = format!("# Columns of {} rows of a sample.\n", columns.rows);
    if dead_letters > 0 {
        writeln!(
            text,
            "# {dead_letters} records more were dead letters: see `plan`."
        )?;
    }
    if columns.too_many {
        writeln!(
            text,
            "# It has more fields than are looked at: are some named by data?"
        )?;
    }
    for found in &columns.columns {
        let quoted = toml::Value::from(found.column.name.as_str());
        write!(
            text,
            "\n[[output.column]]\nname = {quoted}\ntype = \"{}\"",
            name(found.column.kind)
        )?;
        let mut remarks = Vec::new();
        if found.rows < columns.rows {
            remarks.push(format!("in {} rows", found.rows));
        }
        remarks.extend(found.remark.map(str::to_owned));
        if !remarks.is_empty() {
            write!(text, " # {}", remarks.join("; "))?;
        }
        writeln!(text)?;
    }
    if !columns.left.is_empty() {
        writeln!(text, "\n# Without a column (output.overflow takes them):")?;
    }
    for left in &columns.left {
        // Escaped as Rust does it: a name is a device's to choose, and stays behind the `#`.
        writeln!(
            text,
            "#   {:?}, in {} rows: {}",
            left.name, left.rows, left.why
        )?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigFile;
    use crate::config::file::Tables;

    const HEAD: &str = "[kafka]\nbrokers=['localhost:1']\ntopic='logs'\n[group]\nid='g'\n[output]\nurl='s3://b/p'\n";

    fn plan_of(more: &str) -> Plan {
        let file: ConfigFile = headwater_msk::config_file::parse(&format!("{HEAD}{more}")).unwrap();
        Plan::new(&file, Tables::new(), None).unwrap()
    }

    fn found(more: &str, records: &str) -> (Columns, u64) {
        let plan = plan_of(more);
        let mut look = Look::new(&plan);
        from_lines(&mut look, records.as_bytes(), 1000).unwrap();
        look.close_windows();
        (look.sample.columns(Some("_rest"), 1), look.dead_letters)
    }

    #[test]
    fn what_is_printed_is_a_configuration_that_takes_every_row() {
        let records = "{\"time\":\"2026-11-29T00:00:00Z\",\"n\":1,\"odd \\\"name\\\"\\n[x]\":{\"a\":1}}\n{\"n\":2.5}\noops\n";
        let (columns, dead_letters) = found("", records);
        assert_eq!((columns.rows, dead_letters), (2, 1));
        let text = text(&columns, dead_letters).unwrap();
        let plan = plan_of(&format!("format='parquet'\n{text}"));
        let declared = &plan.pipeline.spec().format.columns;
        let declared: Vec<_> = declared.iter().map(|c| (&*c.name, c.kind)).collect();
        assert_eq!(
            declared,
            [
                ("time", ColumnType::Timestamp),
                ("n", ColumnType::Float),
                ("odd \"name\"\n[x]", ColumnType::Json)
            ]
        );
        assert!(text.contains("# in 1 rows"), "{text}");
    }

    #[test]
    fn what_the_steps_make_is_looked_at_windows_too() {
        let steps = "[[transform]]\nstep='rename'\nfrom='n'\nto='m'\n[[transform]]\nstep='aggregate'\nwindow='1m'\nkeep_records=true\ncompute=[{function='mean',field='m'}]\n";
        let (columns, _) = found(steps, "{\"time\":\"2026-11-29T00:00:00Z\",\"n\":1}\n");
        let names: Vec<_> = columns.columns.iter().map(|c| &*c.column.name).collect();
        assert_eq!(names, ["time", "m", "mean_m", "window_end"]);
    }

    #[test]
    fn no_name_leaves_its_comment() {
        let records = r#"{"n":1,"x\n[[transform]]\nstep='drop'\r\n#":null}"#;
        let (columns, _) = found("", records);
        assert_eq!(columns.left.len(), 1);
        let text = text(&columns, 0).unwrap();
        let outside = |line: &&str| !line.starts_with('#') && !line.is_empty();
        let lines: Vec<_> = text.lines().filter(outside).collect();
        assert_eq!(
            lines,
            ["[[output.column]]", "name = \"n\"", "type = \"int\""]
        );
    }

    #[test]
    fn a_share_of_a_sample_is_one_row_at_least() {
        assert_eq!(least(1000, 0.0), 1);
        assert_eq!(least(1000, 1.0), 10);
        assert_eq!(least(150, 1.0), 2);
        assert_eq!(least(3, 100.0), 3);
    }
}
