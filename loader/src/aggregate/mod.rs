//! `aggregate`: rows become sums over windows of event time, in groups.
//!
//! ```toml
//! [[transform]]
//! step = "aggregate"
//! window = "1m"                    # aligned to the Unix epoch, in UTC
//! every = "30s"                    # hopping: a window begins this often; `window` by default
//! by = ["device", "sensor"]        # one row per window and combination of these
//! time = "time"                    # event time, RFC 3339
//! lateness = "30s"                 # how far behind its group's newest time a record may come
//! idle = "5m"                      # windows of a group that says nothing for so long are closed
//! revise = "1h"                    # how much longer a record makes its window's row anew; not at all by default
//! path = "minutes/date={time:%Y-%m-%d}"   # of its rows; output.path by default
//! keep_records = true              # records go on to the next step too; false by default
//! compute = [
//!   { function = "count" },        # as `count`
//!   { function = "mean", field = "value" },                  # as `mean_value`
//!   { function = "quantile", q = 0.99, field = "ms", as = "p99" },
//! ]
//! ```
//!
//! **What it promises**: each record counts in exactly one row of each window that its time lies in,
//! whatever crashes, whoever takes the partition over. Open windows are a part of the partition's
//! state, and a row is written under the boundary of the batch that closes its window.
//!
//! A window is closed at the end of a batch, when the newest time of its group is `lateness` past
//! its end, or the group was quiet for `idle` by the batch clock. A record that comes later makes a
//! row of its own for the same window (with `"late":true`, as long as its group is remembered): rows of one window never share a record,
//! so that counts and sums are added, the least of minima taken. The same happens where a group is quiet
//! for `idle` in the middle of a window, where windows take more than `memory`, and where the step is
//! changed in the configuration: all are closed.
//!
//! With `revise` a closed window's sums are kept for so long. What comes then is put together with them
//! (`Cell::merge`), and the row is that of the whole window once more, with `"revision":1`, 2 and so on: the one with
//! the highest is right, for every function.

mod cell;
mod sketch;
mod windows;

use headwater_msk::{Bytes, Period};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use windows::{WindowRow, Windows};

use crate::route::{PathError, PathTemplate};

/// Longest window.
const WINDOW_MS_MAX: u64 = 366 * 24 * 3600 * 1000;
/// Least memory of open windows: below it every record would end its batch.
const MEMORY_MIN: Bytes = Bytes::kib(64);
/// Most windows that one record may lie in.
const OVERLAP_MAX: u64 = 60;

/// `aggregate`, as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AggregateFile {
    /// Length of a window.
    pub window: Period,
    /// How often one begins; its length by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Period>,
    /// The fields that make a group.
    #[serde(default)]
    pub by: Vec<String>,
    /// The field that holds the event time, RFC 3339.
    #[serde(default = "time")]
    pub time: String,
    /// How far behind the newest time of its group a record may come and still find its window.
    #[serde(default = "lateness")]
    pub lateness: Period,
    /// How long a group is quiet, by the batch clock, before its windows are closed.
    #[serde(default = "idle")]
    pub idle: Period,
    /// How long behind `lateness` a record makes the row of its whole window once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revise: Option<Period>,
    /// Where its rows go: a template like `output.path`, which it is by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Whether the records go on to the next step, too.
    #[serde(default)]
    pub keep_records: bool,
    /// Memory of its open windows in one partition; above it all are closed.
    #[serde(default = "memory")]
    pub memory: Bytes,
    /// What is computed.
    pub compute: Vec<ComputeFile>,
}

fn time() -> String {
    "time".to_owned()
}

fn lateness() -> Period {
    Period::secs(60)
}

fn idle() -> Period {
    Period::secs(300)
}

fn memory() -> Bytes {
    Bytes::mib(16)
}

/// One computed value, as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputeFile {
    /// What.
    pub function: Function,
    /// Of which field; only `count` does without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The part for a quantile, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<f64>,
    /// Its name in the row; the function's and the field's by default.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What is computed of a field's values. Rows without the field, or with null, are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// How many; of rows where no field is named.
    Count,
    /// Sum of the numbers; exact where all are whole.
    Sum,
    /// Their mean.
    Mean,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The value of the earliest record.
    First,
    /// The value of the latest record.
    Last,
    /// How many different values: exact to 1024, then an estimate (3 %).
    Distinct,
    /// The value below which the part `q` lies, within 1.6 %.
    Quantile,
}

/// A step that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AggregateError {
    /// A length that is none.
    #[error(
        "`window` is \"1s\" to \"366days\", and a whole number of `every`, at most {OVERLAP_MAX} of them"
    )]
    Window,
    /// Sums that would be kept for longer than anything.
    #[error("`revise` is at most \"366days\"")]
    Revise,
    /// Too little memory.
    #[error("`memory` is at least {MEMORY_MIN}")]
    Memory,
    /// Nothing to compute.
    #[error("`compute` is empty: {{ function = \"count\" }} counts records")]
    Nothing,
    /// A function without its field.
    #[error("compute {0}: it needs a `field`")]
    Field(usize),
    /// A quantile without its part, or a part without a quantile.
    #[error("compute {0}: `q`, from 0 to 1, belongs to a quantile and to nothing else")]
    Part(usize),
    /// Two values of one name.
    #[error("two values of its rows are called {0:?}: give one another name with `as`")]
    Twice(String),
    /// The path makes no sense.
    #[error("path: {0}")]
    Path(#[from] PathError),
}

/// One computed value, ready.
#[derive(Debug, Clone)]
struct Compute {
    function: Function,
    field: Option<String>,
    q: f64,
    name: String,
}

/// `aggregate`, ready to run. Its windows are elsewhere: see [`Windows`].
#[derive(Debug, Clone)]
pub struct Aggregate {
    file: AggregateFile,
    window_ms: i64,
    every_ms: i64,
    /// 0: sums go when their window closes.
    revise_ms: u64,
    compute: Vec<Compute>,
    /// Its place among the aggregates of its pipeline, from 0.
    pub(crate) slot: usize,
    path: Option<PathTemplate>,
}

/// Name of the field that holds the end of a window.
const END: &str = "window_end";
/// Name of the mark of a row that is not the first of its window.
const LATE: &str = "late";
/// Name of the number of a row that takes the place of those of its window before it.
const REVISION: &str = "revision";
/// Name of the field that holds the start of a window: what `{time:…}` of a path reads.
const START: &str = "time";

impl Aggregate {
    /// Makes it ready.
    ///
    /// # Errors
    /// See [`AggregateError`].
    pub fn new(file: AggregateFile) -> Result<Self, AggregateError> {
        let window = file.window.as_millis();
        let every = file.every.map_or(window, Period::as_millis);
        let fits = (1000..=WINDOW_MS_MAX).contains(&window)
            && every > 0
            && window.is_multiple_of(every)
            && window / every <= OVERLAP_MAX;
        let (Ok(window_ms), Ok(every_ms), true) =
            (i64::try_from(window), i64::try_from(every), fits)
        else {
            return Err(AggregateError::Window);
        };
        let revise_ms = file.revise.map_or(0, Period::as_millis);
        if revise_ms > WINDOW_MS_MAX {
            return Err(AggregateError::Revise);
        }
        if file.memory < MEMORY_MIN {
            return Err(AggregateError::Memory);
        }
        let compute = file.compute.iter().enumerate();
        let compute: Vec<Compute> = compute
            .map(|(at, file)| Compute::new(file, at + 1))
            .collect::<Result<_, _>>()?;
        if compute.is_empty() {
            return Err(AggregateError::Nothing);
        }
        let mut names: Vec<&str> = vec![START, END, LATE];
        names.extend((revise_ms > 0).then_some(REVISION));
        let fields = file
            .by
            .iter()
            .chain(compute.iter().map(|compute| &compute.name));
        for name in fields {
            if names.contains(&name.as_str()) {
                return Err(AggregateError::Twice(name.clone()));
            }
            names.push(name);
        }
        let path = file.path.clone().map(PathTemplate::try_from).transpose()?;
        Ok(Self {
            file,
            window_ms,
            every_ms,
            revise_ms,
            compute,
            slot: 0,
            path,
        })
    }

    /// As it is written.
    pub fn file(&self) -> &AggregateFile {
        &self.file
    }

    /// Where its rows go; none: where all go.
    pub fn path(&self) -> Option<&PathTemplate> {
        self.path.as_ref()
    }
}

impl Compute {
    fn new(file: &ComputeFile, number: usize) -> Result<Self, AggregateError> {
        if file.field.is_none() && file.function != Function::Count {
            return Err(AggregateError::Field(number));
        }
        let quantile = file.function == Function::Quantile;
        let part = file.q.filter(|q| (0.0..=1.0).contains(q));
        if quantile != part.is_some() || file.q.is_some() != part.is_some() {
            return Err(AggregateError::Part(number));
        }
        let function = match file.q {
            // 0.29 * 100 is a little less than 29.
            Some(q) => format!("p{}", (q * 1e8).round() / 1e6),
            None => serde_json::to_value(file.function)
                .ok()
                .and_then(|name| Some(name.as_str()?.to_owned()))
                .unwrap_or_default(),
        };
        let name = match (&file.name, &file.field) {
            (Some(name), _) => name.clone(),
            (None, Some(field)) => format!("{function}_{}", field.trim_start_matches('/')),
            (None, None) => function,
        };
        Ok(Self {
            function: file.function,
            field: file.field.clone(),
            q: file.q.unwrap_or(0.0),
            name,
        })
    }
}

#[cfg(test)]
mod tests;
