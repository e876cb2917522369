//! What happens to a record, as one value: the steps, the path template, the encoding. A pure
//! function of (record, pipeline, batch clock), so that a batch can be made again exactly.
//!
//! A pipeline is known by a hash over its specification, the tables' contents included. The loader
//! stores specification and tables under that hash before the first batch that uses it, so that a
//! successor with another configuration completes an old batch with the old one.

mod dead_letter;
mod items;
mod rows;

use std::borrow::Cow;
use std::collections::BTreeMap;

use headwater_msk::{Bytes, Period};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

pub use self::dead_letter::Refusal;
use crate::aggregate::Aggregate;
use crate::books::AccountsFile;
use crate::encode::parquet::Table;
use crate::encode::{Compression, EncodeError, Target};
use crate::fetched::Entry;
use crate::format::{Format, Kind};
use crate::items::{Item, Table as ItemTable, TableError, TableFile};
use crate::partition::Layout;
use crate::route::{PathMemo, PathTemplate};
use crate::transform::{Step, StepError, StepFile};

/// Everything that decides what a record becomes, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineSpec {
    /// The steps, in order.
    pub transform: Vec<StepFile>,
    /// SHA-256 (hex) of each table's content, by its path.
    pub tables: BTreeMap<String, String>,
    /// Where rows go.
    pub path: PathTemplate,
    /// How objects are compressed.
    pub compression: Compression,
    /// What rows are written as.
    #[serde(default)]
    pub format: Format,
    /// How rows are put into objects.
    #[serde(default, skip_serializing_if = "Layout::is_default")]
    pub layout: Layout,
    /// How long a closed, complete generation stays in the ledger.
    pub ledger_retention: Period,
    /// Memory that the ledger may take before records of new streams are stored without account. Absent
    /// in a specification of a loader that had no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Bytes>,
    /// DynamoDB's tables that rows go to, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<TableFile>,
    /// What partitions say about themselves.
    #[serde(default, skip_serializing_if = "AccountsFile::is_off")]
    pub accounts: AccountsFile,
}

/// A pipeline, ready to run.
#[derive(Debug)]
pub struct Pipeline {
    spec: PipelineSpec,
    hash: String,
    steps: Vec<Step>,
    target: Target,
    dead_letters: Target,
    items: Vec<ItemTable>,
    /// The fields that are looked for where a row need not be built: the path's, then the raw line's.
    looked_for: Vec<String>,
}

/// A pipeline that cannot run.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// A step is wrong.
    #[error("transform {number} ({step}): {source}")]
    Step {
        /// Which, from 1.
        number: usize,
        /// Its kind.
        step: &'static str,
        /// Why.
        source: StepError,
    },
    /// The columns make no table.
    #[error("output.column: {0}")]
    Table(#[from] EncodeError),
    /// A table of DynamoDB.
    #[error(transparent)]
    Items(#[from] TableError),
    /// The specification cannot be written or read as JSON.
    #[error("the pipeline's specification is unreadable: {0}")]
    Spec(#[from] serde_json::Error),
}

/// A record, and where it came from.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Kafka topic.
    pub topic: &'a str,
    /// Kafka partition.
    pub partition: i32,
    /// Its offset and identity.
    pub entry: &'a Entry,
    /// Its value; none where it is null.
    pub value: Option<&'a [u8]>,
}

/// What became of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Made<'a> {
    /// A row.
    Row {
        /// As it is written, without its newline.
        line: &'a [u8],
        /// Where it goes.
        to: To<'a>,
    },
    /// Filtered by configuration.
    Filtered,
    /// Counted in windows, and nothing else.
    Aggregated,
}

/// Where a row goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To<'a> {
    /// Under the path of the last row that had one.
    PathAsBefore,
    /// Under this path.
    Path(&'a str),
    /// Among the rows that could not be made.
    DeadLetters(&'a Refusal),
}

/// What of a buffer is used again from record to record.
const KEPT_BYTES: usize = 256 * 1024;

/// Memory that is used again from record to record; one for each open batch.
#[derive(Debug, Default)]
pub struct Scratch {
    line: Vec<u8>,
    memo: PathMemo,
    /// The step whose path was the last one; none for `output.path`.
    last: Option<usize>,
    /// Why the last dead letter is one.
    refusal: Refusal,
    /// Whether a text of the row that was made last could not be parsed.
    unparsed: bool,
    made: MadeItems,
}

/// Items of the row that was made last, and what they are made of.
#[derive(Debug, Default)]
struct MadeItems {
    items: Vec<Item>,
    /// The row as JSON, where it is written as something else.
    json: Vec<u8>,
    /// A dead letter that took the row's place.
    letter: Vec<u8>,
    /// Rows of windows so far.
    windows: u64,
    /// The batch clock, where no record of the batch says where they lie.
    quiet_ms: Option<u64>,
}

impl Scratch {
    /// The items of the row that was made last: they go with it.
    pub fn take_items(&mut self) -> impl Iterator<Item = Item> {
        self.made.items.drain(..)
    }

    /// What lies where a window's row does is told apart by the batch clock: the batch has no record.
    pub fn name_windows_for(&mut self, clock_ms: u64) {
        self.made.quiet_ms = Some(clock_ms);
    }

    /// Lets go of what one huge record wanted.
    pub fn let_go(&mut self) {
        let made = &mut self.made;
        for buffer in [&mut self.line, &mut made.json, &mut made.letter] {
            if buffer.capacity() > KEPT_BYTES {
                *buffer = Vec::new();
            }
        }
    }

    /// Bytes of its buffers.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        let buffers = [&self.line, &self.made.json, &self.made.letter];
        buffers.map(Vec::capacity).iter().sum()
    }

    /// Whether a step could not parse a text of the record that was made last, whatever became of it.
    pub fn was_unparsed(&self) -> bool {
        self.unparsed
    }
}

/// Hex SHA-256 of a table's or a specification's bytes.
pub fn content_hash(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            let written = write!(text, "{byte:02x}");
            debug_assert!(written.is_ok(), "a String takes every byte");
            text
        })
}

impl Pipeline {
    /// Makes a pipeline ready. `table` gives the content of a table by its path.
    ///
    /// # Errors
    /// See [`PipelineError`].
    pub fn new<'a>(
        spec: PipelineSpec,
        table: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<Self, PipelineError> {
        let step = |(at, file): (usize, &StepFile)| {
            Step::new(file, &table).map_err(|source| PipelineError::Step {
                number: at + 1,
                step: file.name(),
                source,
            })
        };
        let mut steps = spec
            .transform
            .iter()
            .enumerate()
            .map(step)
            .collect::<Result<Vec<_>, _>>()?;
        let aggregates = steps.iter_mut().filter_map(|step| match step {
            Step::Aggregate(aggregate) => Some(aggregate),
            _ => None,
        });
        for (slot, aggregate) in aggregates.enumerate() {
            aggregate.slot = slot;
        }
        let mut hash = content_hash(&serde_json::to_vec(&spec)?);
        hash.truncate(32);
        let format = &spec.format;
        let target = match format.kind {
            Kind::Parquet => Target::table(spec.compression, Table::new(format, spec.compression)?),
            _ => Target::lines(spec.compression, format.header(), format.extension()),
        };
        let raw = format.raw_field.iter();
        let raw = raw.flat_map(|field| [field.clone(), format!("{field}_base64")]);
        let items = spec.items.iter().map(ItemTable::new);
        let items = items.collect::<Result<_, _>>()?;
        let looked_for = spec.path.fields().iter().cloned().chain(raw).collect();
        Ok(Self {
            hash,
            steps,
            target,
            dead_letters: Target::lines(spec.compression, Vec::new(), "ndjson"),
            looked_for,
            items,
            spec,
        })
    }

    /// The first 128 bits of the specification's SHA-256, in hex: what an intent names.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Memory that the ledger may take, bytes.
    pub fn ledger_bytes_max(&self) -> usize {
        let bytes = self.spec.ledger.map(|bytes| usize::try_from(bytes.0));
        bytes.and_then(Result::ok).unwrap_or(usize::MAX)
    }

    /// Its specification.
    pub fn spec(&self) -> &PipelineSpec {
        &self.spec
    }

    /// What people know a step by: its number, from 1, and its name; `row` for what fails outside of
    /// all steps (no JSON, no path, a column that does not fit).
    pub fn step_label(&self, refusal: &Refusal) -> Cow<'static, str> {
        match refusal.step {
            None => Cow::Borrowed("row"),
            Some(step) => {
                let name = self.spec.transform.get(step - 1).map_or("", StepFile::name);
                Cow::Owned(format!("{step} ({name})"))
            }
        }
    }

    /// Its aggregates, in order.
    pub fn aggregates(&self) -> impl Iterator<Item = &Aggregate> {
        self.steps.iter().filter_map(|step| match step {
            Step::Aggregate(aggregate) => Some(&**aggregate),
            _ => None,
        })
    }

    /// Bytes of memory that the tables of its steps take, about.
    pub fn tables_held(&self) -> usize {
        self.steps.iter().map(Step::tables_held).sum()
    }

    /// DynamoDB's tables that its rows go to, too.
    pub fn items(&self) -> &[ItemTable] {
        &self.items
    }

    /// What its objects are made as.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What the objects of rows that could not be made are: always NDJSON.
    pub fn dead_letters(&self) -> &Target {
        &self.dead_letters
    }
}

#[cfg(test)]
pub(crate) mod tests;
