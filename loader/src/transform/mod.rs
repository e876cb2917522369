//! What configuration does to a row, step by step. Most steps are the agent's too and come from
//! [`headwater_record::steps`]; here are those that only make sense behind Kafka. Pure: a row, its
//! seed and the tables in; the row, nothing, or a reason out.
//!
//! ```toml
//! [[transform]]
//! step = "keep"              # or drop; `filter` is another name of keep
//! field = "level"
//! in = ["warn", "error"]
//!
//! [[transform]]
//! step = "parse"             # json, logfmt, key_value, regex, syslog, cri, docker, csv
//! format = "logfmt"
//! on_error = "dead_letter"   # here alone; mark (by default), ignore, drop
//!
//! [[transform]]
//! step = "timestamp"         # see `timestamp`
//! field = "ts"
//! formats = ["unix_ms", "%d/%b/%Y:%H:%M:%S %z"]
//!
//! [[transform]]
//! step = "lookup"            # columns of a table (CSV or NDJSON), by the value of a field
//! table = "/etc/headwater/sites.csv"
//! field = "device"           # of the row
//! column = "device"          # of the table; the same name as the field by default
//! add = ["site", "customer"] # all other columns by default
//!
//! [[transform]]
//! step = "vrl"               # a program: see `vrl`
//! source = ".level = upcase(string!(.level))"
//!
//! [[transform]]
//! step = "flatten"           # see `flatten`
//!
//! [[transform]]
//! step = "aggregate"         # rows become sums over windows of time: see `crate::aggregate`
//! window = "1m"
//! compute = [{ function = "count" }]
//!
//! [[transform]]
//! step = "route"             # the first one that holds says where the row goes
//! when = { field = "level", in = ["error"] }
//! path = "errors/date={time:%Y-%m-%d}"
//! ```

pub mod flatten;
pub mod lookup;
pub mod timestamp;
pub mod vrl;

use std::path::{Path, PathBuf};

use headwater_record::steps::{
    self, AddFile, Condition, ConditionFile, Engine, ParseFile, RedactFile, RemoveFile, RenameFile,
    SampleFile, Steps,
};
use serde::{Deserialize, Serialize};

pub use headwater_record::steps::{Part, Row, Shown, parse_template};

use crate::aggregate::{Aggregate, AggregateError, AggregateFile};
use crate::route::{PathError, PathTemplate};
use crate::transform::flatten::FlattenFile;
use crate::transform::lookup::{Table, TableError, TableFormat};
use crate::transform::timestamp::{Timestamp, TimestampError, TimestampFile};
use crate::transform::vrl::{Program, ProgramError, VrlFile};

/// One `[[transform]]`, as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum StepFile {
    /// Makes fields of a text.
    Parse(ParseFile),
    /// Keeps the row only where the condition holds.
    #[serde(alias = "filter")]
    Keep(ConditionFile),
    /// Drops the row where the condition holds.
    Drop(ConditionFile),
    /// Gives a field another name.
    Rename(RenameFile),
    /// Takes fields away.
    Remove(RemoveFile),
    /// Puts a value into a field.
    #[serde(alias = "set")]
    Add(AddFile),
    /// Covers values, or parts of them.
    #[serde(alias = "mask")]
    Redact(RedactFile),
    /// Keeps a part of the rows.
    Sample(SampleFile),
    /// Adds columns of a table.
    Lookup(LookupFile),
    /// Reads a time as it is written and writes it as RFC 3339.
    Timestamp(TimestampFile),
    /// Puts what lies in structures beside them.
    Flatten(FlattenFile),
    /// Makes sums over windows of time.
    Aggregate(AggregateFile),
    /// Says where the row goes.
    Route(RouteFile),
    /// Runs a program.
    Vrl(VrlFile),
}

/// `lookup`, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupFile {
    /// Where the table lies: a path, or `s3://bucket/key`.
    pub table: PathBuf,
    /// The row's field that is looked up.
    pub field: String,
    /// The table's column that it is looked up in; the field's name by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// The columns to add; all others by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<Vec<String>>,
    /// What the table is; by its name where that is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<TableFormat>,
}

/// `route`, as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteFile {
    /// Which rows.
    pub when: ConditionFile,
    /// Where they go: a template like `output.path`.
    pub path: String,
}

/// One step, ready to run.
#[derive(Debug)]
pub enum Step {
    /// One that the agent has too.
    Shared(Steps),
    /// Adds columns of a table.
    Lookup {
        /// The row's field that is looked up.
        field: String,
        /// The table, with only the columns that are added.
        table: Table,
    },
    /// Reads a time.
    Timestamp(Timestamp),
    /// Puts what lies in structures beside them.
    Flatten(FlattenFile),
    /// Makes sums over windows of time. Run by the pipeline, which has the windows.
    Aggregate(Box<Aggregate>),
    /// Says where the row goes.
    Route(Condition, Box<PathTemplate>),
    /// Runs a program. Run by the pipeline, which knows the record.
    Vrl(Box<Program>),
}

/// What came of a row in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran<'a> {
    /// It goes on.
    On,
    /// It goes on, and lies under this path unless a step before has said so.
    To(&'a PathTemplate),
    /// It was filtered out.
    Dropped,
    /// It cannot go on: it becomes a dead letter.
    Failed(String),
}

/// A transform that cannot run as it is written.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// One of the shared steps.
    #[error("{0}")]
    Shared(steps::StepError),
    /// The table does not fit.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The time's formats make no sense.
    #[error(transparent)]
    Timestamp(#[from] TimestampError),
    /// The windows make no sense.
    #[error(transparent)]
    Aggregate(#[from] AggregateError),
    /// The program does not run.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A table that was not read.
    #[error("the table {0} is not there")]
    NoTable(String),
    /// The route's path makes no sense.
    #[error("{0}")]
    Path(#[from] PathError),
    /// A separator that is none.
    #[error("`separator` is empty")]
    Separator,
}

impl StepFile {
    /// Its name, as it is written.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Parse(_) => "parse",
            Self::Keep(_) => "keep",
            Self::Drop(_) => "drop",
            Self::Rename(_) => "rename",
            Self::Remove(_) => "remove",
            Self::Add(_) => "add",
            Self::Redact(_) => "redact",
            Self::Sample(_) => "sample",
            Self::Lookup(_) => "lookup",
            Self::Timestamp(_) => "timestamp",
            Self::Flatten(_) => "flatten",
            Self::Aggregate(_) => "aggregate",
            Self::Route(_) => "route",
            Self::Vrl(_) => "vrl",
        }
    }

    /// As it is stored with the pipeline.
    pub fn stored(&self) -> Self {
        match self {
            Self::Vrl(file) => Self::Vrl(file.with_version()),
            other => other.clone(),
        }
    }

    /// The tables that it needs.
    pub fn tables(&self) -> Vec<&PathBuf> {
        match self {
            Self::Lookup(file) => vec![&file.table],
            Self::Vrl(file) => file.tables.values().map(|table| &table.table).collect(),
            _ => Vec::new(),
        }
    }
}

impl Step {
    /// Makes a step ready. `table` gives the content of a table by its path.
    ///
    /// # Errors
    /// See [`StepError`].
    pub fn new<'a>(
        file: &StepFile,
        table: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<Self, StepError> {
        let content = |path: &Path| {
            let path = path.to_string_lossy();
            table(&path).ok_or_else(|| StepError::NoTable(path.into_owned()))
        };
        let shared = |step: steps::StepFile| {
            let first = |problems: Vec<steps::StepProblem>| {
                let error = problems.into_iter().next().map(|problem| problem.error);
                StepError::Shared(error.unwrap_or(steps::StepError::Empty("step")))
            };
            let made = Steps::with_dead_letters(vec![step], Engine::Fast);
            made.map(Self::Shared).map_err(first)
        };
        match file.clone() {
            StepFile::Parse(file) => shared(steps::StepFile::Parse(file)),
            StepFile::Keep(file) => shared(steps::StepFile::Keep(file)),
            StepFile::Drop(file) => shared(steps::StepFile::Drop(file)),
            StepFile::Rename(file) => shared(steps::StepFile::Rename(file)),
            StepFile::Remove(file) => shared(steps::StepFile::Remove(file)),
            StepFile::Add(file) => shared(steps::StepFile::Add(file)),
            StepFile::Redact(file) => shared(steps::StepFile::Redact(file)),
            StepFile::Sample(file) => shared(steps::StepFile::Sample(file)),
            StepFile::Lookup(file) => Ok(Self::Lookup {
                table: Table::read(
                    content(&file.table)?,
                    file.format.unwrap_or_else(|| TableFormat::of(&file.table)),
                    file.column.as_deref().unwrap_or(&file.field),
                    file.add.as_deref(),
                )?,
                field: file.field,
            }),
            StepFile::Timestamp(file) => Ok(Self::Timestamp(Timestamp::new(&file)?)),
            StepFile::Flatten(file) if file.separator.is_empty() => Err(StepError::Separator),
            StepFile::Flatten(file) => Ok(Self::Flatten(file)),
            StepFile::Vrl(file) => {
                let read = |(name, file): (&String, &lookup::TableFile)| {
                    let format = file.format.unwrap_or_else(|| TableFormat::of(&file.table));
                    let bytes = content(&file.table)?;
                    let table = Table::read(bytes, format, &file.column, file.add.as_deref())?;
                    Ok((name.clone(), table))
                };
                let tables = file.tables.iter().map(read);
                let tables = tables.collect::<Result<_, StepError>>()?;
                Ok(Self::Vrl(Box::new(Program::new(&file, tables)?)))
            }
            StepFile::Aggregate(file) => Ok(Self::Aggregate(Box::new(Aggregate::new(file)?))),
            StepFile::Route(file) => Ok(Self::Route(
                Condition::new(&file.when, Engine::Fast).map_err(StepError::Shared)?,
                Box::new(PathTemplate::try_from(file.path)?),
            )),
        }
    }

    /// Bytes of memory that its tables take, about.
    pub fn tables_held(&self) -> usize {
        match self {
            Self::Lookup { table, .. } => table.held(),
            Self::Vrl(program) => program.tables_held(),
            _ => 0,
        }
    }

    /// Does the step. `seed`: what stands for the row where only a part of all is kept. `unparsed` is set
    /// where a `parse` could not read its text, whatever becomes of the row.
    pub fn run(&self, row: &mut Row, seed: u64, unparsed: &mut bool) -> Ran<'_> {
        match self {
            Self::Shared(steps) => {
                let ran = steps.run(row, seed);
                *unparsed |= ran.unparsed;
                if let Some(why) = ran.refused {
                    return Ran::Failed(format!("it cannot be parsed: {why}"));
                }
                if ran.dropped {
                    return Ran::Dropped;
                }
            }
            Self::Lookup { field, table } => {
                let hit = row.get(field).and_then(|value| table.find(value));
                let columns: Vec<_> = hit
                    .into_iter()
                    .flatten()
                    .map(|(name, value)| (name.to_owned(), value.clone()))
                    .collect();
                row.extend(columns);
            }
            Self::Timestamp(timestamp) => {
                if let Err(reason) = timestamp.run(row) {
                    return Ran::Failed(reason);
                }
            }
            Self::Flatten(file) => {
                if let Err(reason) = flatten::run(file, row) {
                    return Ran::Failed(reason);
                }
            }
            Self::Aggregate(_) | Self::Vrl(_) => {}
            Self::Route(condition, path) => {
                if condition.holds(row) {
                    return Ran::To(path);
                }
            }
        }
        Ran::On
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str, table: Option<&[u8]>) -> Result<Step, String> {
        let file: StepFile = toml::from_str(text).map_err(|error| error.to_string())?;
        Step::new(&file, |_| table).map_err(|error| error.to_string())
    }

    fn run(text: &str, row: &str) -> Option<String> {
        let mut row: Row = serde_json::from_str(row).unwrap();
        let step = step(text, Some(b"id,site,floor\npi-7,Ulm,3\npi-8,Bonn,\n")).unwrap();
        let kept = step.run(&mut row, 0, &mut false) == Ran::On;
        kept.then(|| serde_json::to_string(&row).unwrap())
    }

    #[test]
    fn each_step() {
        let row = r#"{"device":"pi-7","n":1,"level":"info"}"#;
        for (step, expected) in [
            (
                "step='filter'\nfield='level'\nin=['info','warn']",
                Some(row),
            ),
            ("step='keep'\nfield='level'\nin=['warn']", None),
            ("step='drop'\nfield='level'\nin=['info']", None),
            ("step='filter'\nfield='gone'\nnot_in=['warn']", Some(row)),
            (
                "step='set'\nfield='at'\nvalue='{device}/{n}{gone}/{{x}}'",
                Some(r#"{"device":"pi-7","n":1,"level":"info","at":"pi-7/1/{x}"}"#),
            ),
            (
                "step='mask'\nfields=['device']",
                Some(r#"{"device":"[redacted]","n":1,"level":"info"}"#),
            ),
            (
                "step='lookup'\ntable='t'\nfield='device'\ncolumn='id'",
                Some(r#"{"device":"pi-7","n":1,"level":"info","site":"Ulm","floor":"3"}"#),
            ),
            (
                "step='lookup'\ntable='t'\nfield='device'\ncolumn='id'\nadd=['floor']",
                Some(r#"{"device":"pi-7","n":1,"level":"info","floor":"3"}"#),
            ),
            (
                "step='lookup'\ntable='t'\nfield='level'\ncolumn='id'",
                Some(row),
            ),
        ] {
            assert_eq!(run(step, row).as_deref(), expected, "{step}");
        }
    }

    #[test]
    fn a_text_that_is_not_of_its_format_becomes_what_was_asked_for() {
        for (on_error, expected) in [
            ("", Ran::On),
            ("on_error='ignore'", Ran::On),
            ("on_error='drop'", Ran::Dropped),
            (
                "on_error='dead_letter'",
                Ran::Failed("it cannot be parsed: not a JSON object".into()),
            ),
        ] {
            let text = format!("step='parse'\nformat='json'\n{on_error}");
            let step = step(&text, None).unwrap();
            let ran = |message: &str| {
                let mut row = Row::new();
                row.insert("message".into(), message.into());
                let mut unparsed = false;
                let ran = step.run(&mut row, 0, &mut unparsed);
                (ran, unparsed)
            };
            assert_eq!(ran("prose"), (expected, true), "{on_error}");
            assert_eq!(ran("{}"), (Ran::On, false), "{on_error}");
        }
    }

    #[test]
    fn what_is_refused() {
        for bad in [
            "step='filter'\nfield='a'",
            "step='filter'\nfield='a'\nin=[1]\nexists=true",
            "step='set'\nfield='a'\nvalue='{b'",
            "step='lookup'\ntable='t'\nfield='device'",
            "step='lookup'\ntable='t'\nfield='device'\ncolumn='id'\nadd=['nope']",
            "step='filtr'\nfield='a'",
            "step='rename'\nfrom='a'\nto='b'\nextra=1",
            "step='flatten'\nseparator=''",
            "step='timestamp'\nfield='a'\nformats=[]",
            "step='route'\npath='../x'\nwhen={field='a',exists=true}",
            "step='route'\npath='x'\nwhen={field='a'}",
            "step='vrl'",
            "step='vrl'\nsource='true'\nfile='x.vrl'",
            "step='vrl'\nsource='true'\nversion='0.1.0'",
            "step='vrl'\nsource='.a = '",
            "step='vrl'\nsource='.a = lookup(\"s\", 1)'",
            "step='vrl'\nsource='true'\ntables={s={table='t',column='nope'}}",
        ] {
            assert!(step(bad, Some(b"id,site\n")).is_err(), "{bad}");
        }
    }
}
