//! Declarative steps: what configuration does to a row. The agent runs them before the first byte
//! of a line reaches a disk or a queue, the loader before a row is stored; both mean the same by
//! them.
//!
//! ```toml
//! { step = "parse", format = "json" }                       # a text becomes fields: see `parse`
//! { step = "keep", field = "level", in = ["warn", "error"] }    # or drop: see `condition`
//! { step = "rename", from = "msg", to = "message" }
//! { step = "remove", fields = ["trace"] }
//! { step = "add", field = "where", value = "{site}/{line}" }    # a constant, or made of fields
//! { step = "redact", pattern = '\b\d{16}\b' }               # see `redact`
//! { step = "sample", rate = 0.1 }                           # see `sample`
//! ```
//!
//! Pure, and total: a row and its seed in, the same row or nothing out, for any row. Rows come from
//! devices and are hostile: no step panics, and none makes more of a row than [`TEXT_BYTES_MAX`] a
//! text. What a step cannot do as it is written is refused by [`Steps::new`], at the start.

pub mod condition;
mod field;
pub mod parse;
pub mod pattern;
pub mod redact;
pub mod sample;
pub mod template;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

pub use self::condition::{Condition, ConditionFile};
pub use self::field::{Shown, get};
pub use self::parse::{OnError, Parse, ParseFile};
pub use self::pattern::{Engine, Pattern, PatternError};
pub use self::redact::{Redact, RedactFile};
pub use self::sample::{Sample, SampleFile};
pub use self::template::{Part, Setting, parse_template};
pub use crate::row::Row;

/// Fields that headwater itself writes. What is parsed never takes such a name: a device's program
/// must not speak for another device. It gets an underscore behind it.
pub const RESERVED: [&str; 3] = ["device", "source", "time"];

/// Longest text that a step makes, bytes; beyond it a template ends, and a redaction covers all.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// One step, as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum StepFile {
    /// Makes fields of a text.
    Parse(ParseFile),
    /// Keeps the row only where the condition holds.
    Keep(ConditionFile),
    /// Drops the row where the condition holds.
    Drop(ConditionFile),
    /// Gives a field another name.
    Rename(RenameFile),
    /// Takes fields away.
    Remove(RemoveFile),
    /// Puts a value into a field.
    Add(AddFile),
    /// Covers what must not leave.
    Redact(RedactFile),
    /// Keeps a part of the rows.
    Sample(SampleFile),
}

/// `rename`: nothing happens where the field is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenameFile {
    /// The name it has.
    pub from: String,
    /// The name it gets; a field of that name is replaced.
    pub to: String,
}

/// `remove`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveFile {
    /// Which fields.
    pub fields: Vec<String>,
}

/// `add`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddFile {
    /// The field; one of that name is replaced.
    pub field: String,
    /// A constant; in a text, `{name}` stands for a field of the row and `{{` for a brace.
    pub value: Value,
}

/// Why a step cannot run as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StepError {
    /// None, or more than one.
    #[error(
        "a condition is exactly one of `in`, `not_in`, `exists`, `matches`, `not_matches`, and \
         `at_least` with or without `at_most`"
    )]
    Conditions,
    /// Unbalanced braces.
    #[error("{0:?}: `{{name}}` stands for a field, `{{{{` and `}}}}` for braces")]
    Template(String),
    /// A pattern that cannot be used.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A setting that the format needs.
    #[error("format {format:?} needs `{setting}`: {what}")]
    Needs {
        /// The format.
        format: &'static str,
        /// The setting.
        setting: &'static str,
        /// What it is.
        what: &'static str,
    },
    /// A setting that means nothing with this format.
    #[error("`{0}` means nothing with this format")]
    Useless(&'static str),
    /// A list without anything in it, or a name without a letter.
    #[error("`{0}` is empty")]
    Empty(&'static str),
    /// Not a part of 1.
    #[error("rate {0} is not above 0 and at most 1")]
    Rate(String),
    /// A text where a short one belongs.
    #[error("`{0}` is too long: 64 bytes at most")]
    TooLong(&'static str),
    /// Rows are to be kept where there is no place for them.
    #[error("on_error = \"dead_letter\" is the loader's: here a row is marked, ignored or dropped")]
    NoDeadLetters,
}

/// A step that cannot run, and which it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepProblem {
    /// Its place, from 0.
    pub index: usize,
    /// Why.
    pub error: StepError,
}

/// One step, ready to run.
#[derive(Debug, Clone)]
enum Step {
    Parse(Parse),
    Keep(Condition),
    Drop(Condition),
    Rename(RenameFile),
    Remove(RemoveFile),
    Add(String, Setting),
    Redact(Redact),
    Sample(Sample),
}

/// What came of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ran {
    /// The row was filtered out.
    pub dropped: bool,
    /// A `parse` could not read what it was given.
    pub unparsed: bool,
    /// Why the row is to be a dead letter; with [`Steps::with_dead_letters`] alone. It is as it was before
    /// the step that says so.
    pub refused: Option<&'static str>,
}

/// Steps in order, ready to run.
#[derive(Debug, Clone, Default)]
pub struct Steps {
    steps: Vec<Step>,
    written: Vec<StepFile>,
}

impl PartialEq for Steps {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Steps {
    /// Makes steps ready, where there are no dead letters.
    ///
    /// # Errors
    /// Every step that cannot run as it is written.
    pub fn new(written: Vec<StepFile>) -> Result<Self, Vec<StepProblem>> {
        let wants_them = |file: &StepFile| matches!(file, StepFile::Parse(file) if file.on_error == Some(OnError::DeadLetter));
        let wrong = written
            .iter()
            .enumerate()
            .filter(|(_, file)| wants_them(file));
        let wrong: Vec<usize> = wrong.map(|(index, _)| index).collect();
        let (ready, mut problems) = match Self::with_dead_letters(written, Engine::Small) {
            Ok(steps) => (Some(steps), Vec::new()),
            Err(problems) => (None, problems),
        };
        problems.extend(wrong.into_iter().map(|index| StepProblem {
            index,
            error: StepError::NoDeadLetters,
        }));
        problems.sort_by_key(|problem| problem.index);
        ready.filter(|_| problems.is_empty()).ok_or(problems)
    }

    /// Makes steps ready. Whoever runs them keeps a row that is [`Ran::refused`].
    ///
    /// # Errors
    /// Every step that cannot run as it is written.
    pub fn with_dead_letters(
        written: Vec<StepFile>,
        engine: Engine,
    ) -> Result<Self, Vec<StepProblem>> {
        let (mut steps, mut problems) = (Vec::with_capacity(written.len()), Vec::new());
        for (index, file) in written.iter().enumerate() {
            match Step::new(file, engine) {
                Ok(step) => steps.push(step),
                Err(error) => problems.push(StepProblem { index, error }),
            }
        }
        if problems.is_empty() {
            Ok(Self { steps, written })
        } else {
            Err(problems)
        }
    }

    /// As they are written.
    pub fn written(&self) -> &[StepFile] {
        &self.written
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether any of them covers something: then nothing that the steps do not see may go beside
    /// the row.
    pub fn redacts(&self) -> bool {
        (self.steps.iter()).any(|step| matches!(step, Step::Redact(_)))
    }

    /// Runs the steps on a row. `seed`: what stands for the row where a part of all rows is kept;
    /// the same row must always come with the same one. Where it is dropped, the rest of the steps
    /// is not run.
    pub fn run(&self, row: &mut Row, seed: u64) -> Ran {
        let mut ran = Ran::default();
        for step in &self.steps {
            let kept = match step {
                Step::Parse(parse) => match parse.run(row) {
                    parse::Parsed::Done => true,
                    parse::Parsed::Failed => {
                        ran.unparsed = true;
                        true
                    }
                    parse::Parsed::Drop => {
                        ran.unparsed = true;
                        false
                    }
                    parse::Parsed::Refused(why) => {
                        (ran.unparsed, ran.refused) = (true, Some(why));
                        return ran;
                    }
                },
                Step::Keep(condition) => condition.holds(row),
                Step::Drop(condition) => !condition.holds(row),
                Step::Rename(RenameFile { from, to }) => {
                    if from != to
                        && let Some(value) = row.shift_remove(from)
                    {
                        row.insert(to.clone(), value);
                    }
                    true
                }
                Step::Remove(RemoveFile { fields }) => {
                    row.retain(|name, _| !fields.iter().any(|field| field == name));
                    true
                }
                Step::Add(field, setting) => {
                    let value = setting.value(row);
                    row.insert(field.clone(), value);
                    true
                }
                Step::Redact(redact) => {
                    redact.run(row);
                    true
                }
                Step::Sample(sample) => sample.keeps(row, seed),
            };
            if !kept {
                ran.dropped = true;
                break;
            }
        }
        ran
    }
}

impl Step {
    fn new(file: &StepFile, engine: Engine) -> Result<Self, StepError> {
        let named = |setting: &'static str, name: &str| match name.is_empty() {
            true => Err(StepError::Empty(setting)),
            false => Ok(()),
        };
        Ok(match file {
            StepFile::Parse(file) => Self::Parse(Parse::new(file, engine)?),
            StepFile::Keep(file) => Self::Keep(Condition::new(file, engine)?),
            StepFile::Drop(file) => Self::Drop(Condition::new(file, engine)?),
            StepFile::Rename(file) => {
                named("from", &file.from)?;
                named("to", &file.to)?;
                Self::Rename(file.clone())
            }
            StepFile::Remove(file) => {
                if file.fields.is_empty() {
                    return Err(StepError::Empty("fields"));
                }
                Self::Remove(file.clone())
            }
            StepFile::Add(file) => {
                named("field", &file.field)?;
                Self::Add(file.field.clone(), Setting::new(&file.value)?)
            }
            StepFile::Redact(file) => Self::Redact(Redact::new(file, engine)?),
            StepFile::Sample(file) => Self::Sample(Sample::new(file)?),
        })
    }
}

#[cfg(test)]
mod tests;
