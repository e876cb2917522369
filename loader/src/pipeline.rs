//! What happens to a record, as one value: the steps, the path template, the encoding. A pure
//! function of (record, pipeline, batch clock), so that a batch can be made again exactly.
//!
//! A pipeline is known by a hash over its specification, the tables' contents included. The loader
//! stores specification and tables under that hash before the first batch that uses it, so that a
//! successor with another configuration completes an old batch with the old one.

use std::collections::BTreeMap;

use headwater_msk::Period;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::encode::Compression;
use crate::fetched::{Entry, Identity};
use crate::route::{DEAD_LETTERS, PathTemplate};
use crate::transform::{Row, Step, StepError, StepFile};

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
    /// How long a closed, complete generation stays in the ledger.
    pub ledger_retention: Period,
}

/// A pipeline, ready to run.
#[derive(Debug)]
pub struct Pipeline {
    spec: PipelineSpec,
    hash: String,
    steps: Vec<Step>,
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
    /// The specification cannot be written or read as JSON.
    #[error("the pipeline's specification is unreadable: {0}")]
    Spec(#[from] serde_json::Error),
}

/// What became of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Made {
    /// A row: its path; its JSON is in the buffer that was given.
    Row(String),
    /// Filtered by configuration.
    Filtered,
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
            let (kind, table) = match file {
                StepFile::Filter { .. } => ("filter", None),
                StepFile::Set { .. } => ("set", None),
                StepFile::Rename { .. } => ("rename", None),
                StepFile::Lookup { table: path, .. } => ("lookup", table(&path.to_string_lossy())),
            };
            Step::new(file, table).map_err(|source| PipelineError::Step {
                number: at + 1,
                step: kind,
                source,
            })
        };
        let steps = spec
            .transform
            .iter()
            .enumerate()
            .map(step)
            .collect::<Result<_, _>>()?;
        let mut hash = content_hash(&serde_json::to_vec(&spec)?);
        hash.truncate(32);
        Ok(Self { spec, hash, steps })
    }

    /// The first 128 bits of the specification's SHA-256, in hex: what an intent names.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Its specification.
    pub fn spec(&self) -> &PipelineSpec {
        &self.spec
    }

    /// File name extension of its objects, without the dot.
    pub fn extension(&self) -> String {
        format!("ndjson{}", self.spec.compression.suffix())
    }

    /// Makes a record's row and writes it to `line` (emptied first). A record that is no JSON object
    /// becomes a row of the dead letters, with its exact bytes and the reason.
    pub fn make(
        &self,
        topic: &str,
        partition: i32,
        entry: &Entry,
        value: Option<&[u8]>,
        clock_ms: u64,
        line: &mut Vec<u8>,
    ) -> Made {
        line.clear();
        let mut row = match parse(value) {
            Ok(row) => row,
            Err(reason) => return dead_letter(topic, partition, entry, value, &reason, line),
        };
        if !self.steps.iter().all(|step| step.run(&mut row)) {
            return Made::Filtered;
        }
        let Some(path) = self.spec.path.path(&row, clock_ms) else {
            return dead_letter(topic, partition, entry, value, "its path is too long", line);
        };
        match value {
            // Nothing was changed, and it is one line already: the bytes as they came.
            Some(value) if self.steps.is_empty() && !value.contains(&b'\n') => {
                line.extend_from_slice(value)
            }
            _ => write_row(&row, line),
        }
        Made::Row(path)
    }
}

fn parse(value: Option<&[u8]>) -> Result<Row, String> {
    let value = value.ok_or("it has no value")?;
    serde_json::from_slice(value).map_err(|error| format!("it is no JSON object: {error}"))
}

fn dead_letter(
    topic: &str,
    partition: i32,
    entry: &Entry,
    value: Option<&[u8]>,
    reason: &str,
    line: &mut Vec<u8>,
) -> Made {
    use base64::Engine;
    let mut row = Row::new();
    row.insert("reason".into(), reason.into());
    row.insert("topic".into(), topic.into());
    row.insert("partition".into(), partition.into());
    row.insert("offset".into(), entry.offset.into());
    if let Identity::Tagged {
        stream,
        generation,
        span,
        ..
    } = &entry.identity
    {
        row.insert("stream".into(), (&**stream).into());
        row.insert(
            "span".into(),
            format!("{generation}:{}+{}", span.start(), span.len()).into(),
        );
    }
    let payload = value.map(|value| base64::engine::general_purpose::STANDARD.encode(value));
    row.insert(
        "value_base64".into(),
        payload.map_or(Value::Null, Value::String),
    );
    write_row(&row, line);
    Made::Row(DEAD_LETTERS.to_owned())
}

fn write_row(row: &Row, line: &mut Vec<u8>) {
    let written = serde_json::to_writer(line, row);
    debug_assert!(
        written.is_ok(),
        "a Vec takes every byte, and a row is plain JSON"
    );
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn pipeline(transform: &str, path: &str) -> Pipeline {
        #[derive(Deserialize)]
        struct Steps {
            #[serde(default)]
            transform: Vec<StepFile>,
        }
        let steps: Steps = toml::from_str(transform).unwrap();
        let spec = PipelineSpec {
            transform: steps.transform,
            tables: BTreeMap::new(),
            path: path.to_owned().try_into().unwrap(),
            compression: Compression::None,
            ledger_retention: Period::secs(86_400),
        };
        Pipeline::new(spec, |_| None).unwrap()
    }

    fn make(pipeline: &Pipeline, value: Option<&[u8]>) -> (Made, String) {
        let entry = Entry {
            offset: 5,
            value: None,
            identity: Identity::Foreign,
        };
        let mut line = b"old".to_vec();
        let made = pipeline.make("logs", 2, &entry, value, 0, &mut line);
        (made, String::from_utf8(line).unwrap())
    }

    #[test]
    fn untouched_rows_keep_their_bytes() {
        let plain = pipeline("", "s={source}");
        let value = br#"{"source":"a",  "n":1.00}"#;
        let (made, line) = make(&plain, Some(value));
        assert_eq!(
            (made, line.as_bytes()),
            (Made::Row("s=a".into()), &value[..])
        );
        let (_, line) = make(&plain, Some(b"{\"source\":\n\"a\"}"));
        assert_eq!(line, r#"{"source":"a"}"#);
    }

    #[test]
    fn what_is_no_row_is_a_dead_letter_with_its_bytes() {
        let plain = pipeline("", "x");
        for value in [Some(&b"\xff\x00"[..]), Some(b"[1]"), Some(b""), None] {
            let (made, line) = make(&plain, value);
            assert_eq!(made, Made::Row(DEAD_LETTERS.into()));
            let row: Row = serde_json::from_str(&line).unwrap();
            assert_eq!(row["offset"], 5);
            assert_eq!(row["value_base64"].is_null(), value.is_none());
        }
    }

    #[test]
    fn steps_run_in_order_and_the_hash_tells_pipelines_apart() {
        let steps = "[[transform]]\nstep='set'\nfield='a'\nvalue=1\n[[transform]]\nstep='filter'\nfield='a'\nin=[2]\n";
        let filtering = pipeline(steps, "x");
        assert_eq!(make(&filtering, Some(b"{\"a\":2}")).0, Made::Filtered);
        assert_ne!(filtering.hash(), pipeline("", "x").hash());
        assert_eq!(filtering.hash(), pipeline(steps, "x").hash());
    }
}
