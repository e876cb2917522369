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

use crate::encode::parquet::Table;
use crate::encode::{Compression, EncodeError, Target};
use crate::fetched::{Entry, Identity};
use crate::format::{Format, Kind};
use crate::peek::{Field, Fields, peek, pick};
use crate::route::{PathMemo, PathTemplate, Same};
use crate::transform::{Ran, Row, Step, StepError, StepFile};

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
    /// How long a closed, complete generation stays in the ledger.
    pub ledger_retention: Period,
}

/// A pipeline, ready to run.
#[derive(Debug)]
pub struct Pipeline {
    spec: PipelineSpec,
    hash: String,
    steps: Vec<Step>,
    target: Target,
    dead_letters: Target,
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
}

/// A line and whether its path is the one before; nothing where it was filtered; or why it is a dead
/// letter, with the buffer to write that into.
type Written<'a> = Result<Option<(&'a [u8], Same)>, (Refusal, &'a mut Vec<u8>)>;

/// Where a row goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To<'a> {
    /// Under the path of the last row that had one.
    PathAsBefore,
    /// Under this path.
    Path(&'a str),
    /// Among the rows that could not be made.
    DeadLetters,
}

/// Memory that is used again from record to record; one for each open batch.
#[derive(Debug, Default)]
pub struct Scratch {
    line: Vec<u8>,
    memo: PathMemo,
    /// The step whose path was the last one; none for `output.path`.
    last: Option<usize>,
}

/// Why a record is a dead letter.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    reason: String,
    /// The step that it failed in, from 1.
    step: Option<usize>,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { reason, step: None }
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
            let table = file.table().and_then(|path| table(&path.to_string_lossy()));
            Step::new(file, table).map_err(|source| PipelineError::Step {
                number: at + 1,
                step: file.name(),
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
        let format = &spec.format;
        let target = match format.kind {
            Kind::Parquet => Target::table(spec.compression, Table::new(format, spec.compression)?),
            _ => Target::lines(spec.compression, format.header(), format.extension()),
        };
        let raw = format.raw_field.iter();
        let raw = raw.flat_map(|field| [field.clone(), format!("{field}_base64")]);
        let looked_for = spec.path.fields().iter().cloned().chain(raw).collect();
        Ok(Self {
            hash,
            steps,
            target,
            dead_letters: Target::lines(spec.compression, Vec::new(), "ndjson"),
            looked_for,
            spec,
        })
    }

    /// The first 128 bits of the specification's SHA-256, in hex: what an intent names.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Its specification.
    pub fn spec(&self) -> &PipelineSpec {
        &self.spec
    }

    /// What its objects are made as.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What the objects of rows that could not be made are: always NDJSON.
    pub fn dead_letters(&self) -> &Target {
        &self.dead_letters
    }

    /// Makes a record's row. A record that is no JSON object becomes a row of the dead letters, with
    /// its exact bytes and the reason. Without steps the value is only looked at, and goes through
    /// byte for byte.
    pub fn make<'a>(
        &self,
        record: Record<'a>,
        clock_ms: u64,
        scratch: &'a mut Scratch,
    ) -> Made<'a> {
        let Scratch { line, memo, last } = scratch;
        let made = match (self.steps.is_empty(), self.spec.format.kind) {
            (true, Kind::Ndjson) => self.pass(record, clock_ms, line, memo),
            (true, Kind::Raw) => self.pass_raw(record, clock_ms, line, memo),
            _ => self.transform(record, clock_ms, line, (memo, last)),
        };
        match made {
            Ok(Some((line, Same::AsBefore))) => Made::Row {
                line,
                to: To::PathAsBefore,
            },
            Ok(Some((line, Same::No))) => Made::Row {
                line,
                to: To::Path(&memo.path),
            },
            Ok(None) => Made::Filtered,
            Err((refusal, line)) => Made::Row {
                line: self.dead_letter(record, clock_ms, &refusal, line),
                to: To::DeadLetters,
            },
        }
    }

    /// Raw lines: only a few fields are looked at, and nothing at all where none is wanted. Where the
    /// line is the record's whole value it need not be JSON.
    fn pass_raw<'a>(
        &self,
        record: Record<'a>,
        clock_ms: u64,
        line: &'a mut Vec<u8>,
        memo: &mut PathMemo,
    ) -> Written<'a> {
        let Some(value) = record.value else {
            return Err(("it has no value".to_owned().into(), line));
        };
        let whole = self.spec.format.raw_field.is_none();
        let looked = match self.looked_for.is_empty() {
            true => Ok(Fields::default()),
            false => {
                text(Some(value)).and_then(|text| peek(text, &self.looked_for).map_err(no_object))
            }
        };
        let fields = match looked {
            Ok(fields) => fields,
            Err(_) if whole => Fields::default(),
            Err(reason) => return Err((reason.into(), line)),
        };
        let same = match self.spec.path.path(&fields, clock_ms, memo) {
            Ok(same) => same,
            Err(error) => return Err((error.to_string().into(), line)),
        };
        if whole {
            return Ok(Some((value, same)));
        }
        let at = self.spec.path.fields().len();
        let field = |at: usize| fields.get(at).and_then(Option::as_ref);
        match raw_line(field(at), field(at + 1), line) {
            Ok(()) => Ok(Some((line, same))),
            Err(()) => Err((self.no_raw_field().into(), line)),
        }
    }

    fn no_raw_field(&self) -> String {
        let field = self.spec.format.raw_field.as_deref().unwrap_or_default();
        format!("it has no field {field}")
    }

    fn pass<'a>(
        &self,
        record: Record<'a>,
        clock_ms: u64,
        line: &'a mut Vec<u8>,
        memo: &mut PathMemo,
    ) -> Written<'a> {
        let path = &self.spec.path;
        let looked = text(record.value).and_then(|text| {
            let fields = peek(text, path.fields()).map_err(no_object)?;
            let same = path.path(&fields, clock_ms, memo);
            Ok((text, same.map_err(|error| error.to_string())?))
        });
        let (text, same) = match looked {
            Ok(looked) => looked,
            Err(reason) => return Err((reason.into(), line)),
        };
        if memchr::memchr(b'\n', text.as_bytes()).is_none() {
            return Ok(Some((text.as_bytes(), same)));
        }
        // Readers of lines want it on one line.
        match serde_json::from_str(text) {
            Ok(row) => Ok(Some((write_row(&row, line), same))),
            Err(error) => Err((no_object(error).into(), line)),
        }
    }

    fn transform<'a>(
        &self,
        record: Record<'a>,
        clock_ms: u64,
        line: &'a mut Vec<u8>,
        (memo, last): (&mut PathMemo, &mut Option<usize>),
    ) -> Written<'a> {
        let parsed = text(record.value)
            .and_then(|text| serde_json::from_str::<Row>(text).map_err(no_object));
        let mut row = match parsed {
            Ok(row) => row,
            Err(reason) => return Err((reason.into(), line)),
        };
        let route = match self.run(record, &mut row) {
            Ok(Some(route)) => route,
            Ok(None) => return Ok(None),
            Err(refusal) => return Err((refusal, line)),
        };
        let by = route.map(|(step, _)| step);
        if *last != by {
            // What is remembered is another template's.
            *memo = PathMemo::default();
            *last = by;
        }
        let path = route.map_or(&self.spec.path, |(_, path)| path);
        let same = match path.path(&pick(&row, path.fields()), clock_ms, memo) {
            Ok(same) => same,
            Err(error) => return Err((error.to_string().into(), line)),
        };
        let format = &self.spec.format;
        let written = match (format.kind, &format.raw_field) {
            (Kind::Ndjson, _) => {
                write_row(&row, line);
                Ok(())
            }
            (Kind::Raw, None) => return Ok(record.value.map(|value| (value, same))),
            (Kind::Raw, Some(_)) => {
                let at = self.spec.path.fields().len();
                let names = self.looked_for.get(at..).unwrap_or_default();
                let [text, exact, ..] = pick(&row, names);
                raw_line(text.as_ref(), exact.as_ref(), line).map_err(|()| self.no_raw_field())
            }
            (Kind::Csv | Kind::Parquet, _) => format.write(&row, line),
        };
        match written {
            Ok(()) => Ok(Some((line, same))),
            Err(reason) => Err((reason.into(), line)),
        }
    }

    /// Runs the steps. None: the row was filtered. Else the route that it takes, where one holds.
    fn run(
        &self,
        record: Record<'_>,
        row: &mut Row,
    ) -> Result<Option<Option<(usize, &PathTemplate)>>, Refusal> {
        let mut route = None;
        for (at, step) in self.steps.iter().enumerate() {
            match step.run(row, seed(record)) {
                Ran::On => {}
                Ran::To(path) => route = route.or(Some((at, path))),
                Ran::Dropped => return Ok(None),
                Ran::Failed(reason) => {
                    return Err(Refusal {
                        reason,
                        step: Some(at + 1),
                    });
                }
            }
        }
        Ok(Some(route))
    }
}

impl Pipeline {
    fn dead_letter<'a>(
        &self,
        record: Record<'_>,
        clock_ms: u64,
        refusal: &Refusal,
        line: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        use base64::Engine;
        let mut row = Row::new();
        row.insert("reason".into(), refusal.reason.as_str().into());
        if let Some(step) = refusal.step {
            let name = self.spec.transform.get(step - 1).map_or("", StepFile::name);
            row.insert("step".into(), format!("{step} ({name})").into());
        }
        row.insert("topic".into(), record.topic.into());
        row.insert("partition".into(), record.partition.into());
        row.insert("offset".into(), record.entry.offset.into());
        row.insert("batch_ms".into(), clock_ms.into());
        if let Identity::Tagged {
            stream,
            generation,
            span,
            ..
        } = &record.entry.identity
        {
            row.insert("stream".into(), (&**stream).into());
            row.insert(
                "span".into(),
                format!("{generation}:{}+{}", span.start(), span.len()).into(),
            );
        }
        let payload = record
            .value
            .map(|value| base64::engine::general_purpose::STANDARD.encode(value));
        row.insert(
            "value_base64".into(),
            payload.map_or(Value::Null, Value::String),
        );
        write_row(&row, line)
    }
}

/// What stands for a record where only a part of all is kept: where it lies.
fn seed(record: Record<'_>) -> u64 {
    let partition = u64::try_from(record.partition).unwrap_or(0);
    record.entry.offset ^ (partition << 48)
}

/// A raw line from its field: the exact bytes where the text could not show them.
fn raw_line(
    text: Option<&Field<'_>>,
    exact: Option<&Field<'_>>,
    line: &mut Vec<u8>,
) -> Result<(), ()> {
    use base64::Engine;
    line.clear();
    let exact = exact.and_then(Field::text);
    if let Some(exact) = exact
        && base64::engine::general_purpose::STANDARD
            .decode_vec(exact, line)
            .is_ok()
    {
        return Ok(());
    }
    line.clear();
    let text = text.ok_or(())?;
    line.extend_from_slice(text.shown().as_bytes());
    Ok(())
}

fn text(value: Option<&[u8]>) -> Result<&str, String> {
    let value = value.ok_or("it has no value")?;
    std::str::from_utf8(value).map_err(|error| format!("it is not UTF-8: {error}"))
}

fn no_object(error: serde_json::Error) -> String {
    format!("it is no JSON object: {error}")
}

fn write_row<'a>(row: &Row, line: &'a mut Vec<u8>) -> &'a [u8] {
    line.clear();
    let written = serde_json::to_writer(&mut *line, row);
    debug_assert!(
        written.is_ok(),
        "a Vec takes every byte, and a row is plain JSON"
    );
    line
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
            format: Format::default(),
            ledger_retention: Period::secs(86_400),
        };
        Pipeline::new(spec, |_| None).unwrap()
    }

    /// Where it went, or that it was filtered, and its line.
    fn make(pipeline: &Pipeline, value: Option<&[u8]>) -> (String, String) {
        let entry = Entry {
            offset: 5,
            time_ms: 0,
            value: None,
            identity: Identity::Foreign,
        };
        let record = Record {
            topic: "logs",
            partition: 2,
            entry: &entry,
            value,
        };
        let mut scratch = Scratch {
            line: b"old".to_vec(),
            ..Scratch::default()
        };
        match pipeline.make(record, 0, &mut scratch) {
            Made::Filtered => ("filtered".into(), String::new()),
            Made::Row { line, to } => {
                let to = match to {
                    To::Path(path) => path,
                    To::PathAsBefore => "as before",
                    To::DeadLetters => "dead letters",
                };
                (to.to_owned(), String::from_utf8(line.to_vec()).unwrap())
            }
        }
    }

    #[test]
    fn untouched_rows_keep_their_bytes() {
        let plain = pipeline("", "s={source}");
        let value = br#"{"source":"a",  "n":1.00}"#;
        let (to, line) = make(&plain, Some(value));
        assert_eq!((to.as_str(), line.as_bytes()), ("s=a", &value[..]));
        let (_, line) = make(&plain, Some(b"{\"source\":\n\"a\"}"));
        assert_eq!(line, r#"{"source":"a"}"#);
    }

    #[test]
    fn what_is_no_row_is_a_dead_letter_with_its_bytes() {
        let steps = "[[transform]]\nstep='set'\nfield='a'\nvalue=1\n";
        for pipeline in [pipeline("", "x"), pipeline(steps, "x")] {
            for value in [
                Some(&b"\xff\x00"[..]),
                Some(b"{\"a\":\"\xff\"}"),
                Some(b"[1]"),
                Some(b""),
                None,
            ] {
                let (to, line) = make(&pipeline, value);
                assert_eq!(to, "dead letters");
                let row: Row = serde_json::from_str(&line).unwrap();
                assert_eq!(row["offset"], 5);
                assert_eq!(row["value_base64"].is_null(), value.is_none());
            }
        }
    }

    #[test]
    fn routes_and_failed_steps() {
        let steps = "[[transform]]\nstep='route'\npath='bad/{level}'\nwhen={field='level',in=['error']}\n\
                     [[transform]]\nstep='route'\npath='other'\nwhen={field='level',exists=true}\n\
                     [[transform]]\nstep='timestamp'\nfield='ts'\nformats=['unix']\n";
        let routed = pipeline(steps, "s={s}");
        let mut scratch = Scratch::default();
        let entry = Entry {
            offset: 9,
            time_ms: 0,
            value: None,
            identity: Identity::Foreign,
        };
        let mut went = |value: &str| {
            let record = Record {
                topic: "logs",
                partition: 1,
                entry: &entry,
                value: Some(value.as_bytes()),
            };
            match routed.make(record, 0, &mut scratch) {
                Made::Row { to, line } => {
                    let row: Row = serde_json::from_slice(line).unwrap();
                    let step = row.get("step").cloned().unwrap_or_default();
                    (format!("{to:?}"), step)
                }
                Made::Filtered => ("filtered".to_owned(), Value::Null),
            }
        };
        let to = |path: &str| (format!("{:?}", To::Path(path)), Value::Null);
        let before = (format!("{:?}", To::PathAsBefore), Value::Null);
        assert_eq!(went(r#"{"level":"error"}"#), to("bad/error"));
        assert_eq!(went(r#"{"level":"error","n":2}"#), before);
        assert_eq!(went(r#"{"level":"warn"}"#), to("other"));
        assert_eq!(went(r#"{"s":"x"}"#), to("s=x"));
        assert_eq!(
            went(r#"{"ts":"soon"}"#),
            ("DeadLetters".to_owned(), "3 (timestamp)".into())
        );
    }

    #[test]
    fn steps_run_in_order_and_the_hash_tells_pipelines_apart() {
        let steps = "[[transform]]\nstep='set'\nfield='a'\nvalue=1\n[[transform]]\nstep='filter'\nfield='a'\nin=[2]\n";
        let filtering = pipeline(steps, "x");
        assert_eq!(make(&filtering, Some(b"{\"a\":2}")).0, "filtered");
        assert_ne!(filtering.hash(), pipeline("", "x").hash());
        assert_eq!(filtering.hash(), pipeline(steps, "x").hash());
    }
}
