//! `vrl`: a program in the Vector Remap Language, for what the other steps cannot say. The row is the
//! program's event (`.`), and what the event is behind the program is the row.
//!
//! ```toml
//! [[transform]]
//! step = "vrl"
//! source = '''
//! . |= parse_json!(string!(.message))
//! .site = lookup("sites", .device).name
//! .seen = now()                          # the batch clock
//! if .level == "debug" { abort }
//! '''
//! on_abort = "drop"                      # or "dead_letter"
//!
//! [transform.tables.sites]
//! table = "/etc/headwater/sites.csv"
//! column = "device"
//! ```
//!
//! **It replays.** A batch that a crash cut short is made again, maybe elsewhere, and must come out the
//! same, byte for byte. So of VRL's functions only those are let in that are a function of their
//! arguments alone (see [`lists`]), the time zone is UTC, and `now` is the batch clock. The language
//! itself is a part of the pipeline: a batch that was begun by another version of it is refused, not
//! made differently.
//!
//! **It ends, and is bounded.** VRL only iterates over what is there; [`STEPS_MAX`] bounds that, and
//! [`event::ROW_BYTES_MAX`] and [`event::DEPTH_MAX`] the row behind it. What fails is a dead letter, and so
//! is what panics in VRL's own functions, as some do where a device writes what nobody thought of: a
//! program cannot stop the loader.

pub mod event;
mod functions;
pub mod lists;
mod ours;
mod panics;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use vrl::compiler::runtime::{Runtime, Terminate};
use vrl::compiler::state::{ExternalEnv, TypeState};
use vrl::compiler::{CompileConfig, ExpressionError, TimeZone, compile_with_state};
use vrl::diagnostic::Formatter;
use vrl::path::{OwnedTargetPath, PathPrefix};
use vrl::value::Value;

use crate::fetched::Entry;
use crate::transform::Row;
use crate::transform::lookup::{Table, TableFile};
use crate::transform::vrl::event::Event;
use crate::transform::vrl::ours::Tables;

/// The version of VRL that programs are compiled with. It changes with the dependency, and a test says
/// so where it did not.
pub const VERSION: &str = "0.38.0";
/// Expressions that one record may take: a program without iteration takes some dozens.
pub const STEPS_MAX: u64 = 1_000_000;
/// Longest reason of a dead letter that a program gives, in bytes: it may quote the record.
const REASON_BYTES_MAX: usize = 2048;
/// Longest program, in bytes.
pub const SOURCE_BYTES_MAX: u64 = 1024 * 1024;

/// `vrl`, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VrlFile {
    /// The program; or
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// the file that it is in. What is stored with the pipeline is the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// What becomes of a record that the program aborts.
    #[serde(default)]
    pub on_abort: OnAbort,
    /// The version of the language; filled in where the pipeline is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Tables of `lookup`, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, TableFile>,
}

/// `on_abort`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnAbort {
    /// It counts as filtered: `abort` is how a program filters.
    #[default]
    Drop,
    /// It becomes a dead letter.
    DeadLetter,
}

/// A program that cannot run.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// VRL does not understand it.
    #[error("the program does not compile:{0}")]
    Compile(String),
    /// Neither source nor file, or both.
    #[error("write the program as `source`, or name its `file`")]
    Source,
    /// Made for another VRL.
    #[error(
        "it was written for VRL {0}, and this loader runs VRL {VERSION}: the same program may do something else there. \
         Let the loader that began the batch complete it"
    )]
    Version(String),
}

/// Where a record lies, and when its batch was opened: what a program sees as `%hw`.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// Kafka topic.
    pub topic: &'a str,
    /// Kafka partition.
    pub partition: i32,
    /// Its offset and identity.
    pub entry: &'a Entry,
    /// Batch clock, Unix milliseconds.
    pub clock_ms: u64,
}

/// A program, ready to run.
#[derive(Debug)]
pub struct Program {
    compiled: vrl::compiler::Program,
    on_abort: OnAbort,
    zone: TimeZone,
    /// Whether it reads `%`: what is not read is not made.
    reads_metadata: bool,
    tables_held: usize,
}

/// What came of a row in a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It goes on.
    On,
    /// The program aborted it, and that is how it filters.
    Dropped,
    /// It cannot go on, and why.
    Failed(String),
}

impl VrlFile {
    /// With the program that was in its file.
    pub fn with_source(&self, source: String) -> Self {
        Self {
            source: Some(source),
            file: None,
            ..self.clone()
        }
    }

    /// As it is stored with the pipeline: with the version of the language.
    pub fn with_version(&self) -> Self {
        Self {
            version: Some(self.version.clone().unwrap_or_else(|| VERSION.to_owned())),
            ..self.clone()
        }
    }
}

impl Program {
    /// Compiles a program. `tables`: those that `lookup` finds, by name.
    ///
    /// # Errors
    /// See [`ProgramError`].
    pub fn new(file: &VrlFile, tables: BTreeMap<String, Table>) -> Result<Self, ProgramError> {
        let (Some(source), None) = (&file.source, &file.file) else {
            return Err(ProgramError::Source);
        };
        if let Some(version) = file.version.as_ref().filter(|version| **version != VERSION) {
            return Err(ProgramError::Version(version.clone()));
        }
        let tables_held = tables.values().map(Table::held).sum();
        let mut config = CompileConfig::default();
        config.set_read_only_path(OwnedTargetPath::metadata_root(), true);
        config.set_custom(Tables::new(tables));
        let state = TypeState {
            local: <_>::default(),
            external: ExternalEnv::new_with_kind(event::kind(), event::metadata_kind()),
        };
        let wrong = |diagnostics: vrl::diagnostic::DiagnosticList| {
            ProgramError::Compile(Formatter::new(source, diagnostics).to_string())
        };
        let result =
            compile_with_state(source, &functions::all(), &state, config).map_err(wrong)?;
        let queries = &result.program.info().target_queries;
        Ok(Self {
            reads_metadata: queries
                .iter()
                .any(|path| path.prefix == PathPrefix::Metadata),
            compiled: result.program,
            tables_held,
            // Not the machine's: a batch may be made again on another.
            zone: TimeZone::parse("UTC").expect("UTC is a time zone"),
            on_abort: file.on_abort,
        })
    }

    /// Bytes of memory that its tables take, about.
    pub fn tables_held(&self) -> usize {
        self.tables_held
    }

    /// Runs it over a row.
    pub fn run(&self, around: Around<'_>, row: &mut Row) -> Ended {
        let mut event = match Event::new(std::mem::take(row), around, self.reads_metadata) {
            Ok(event) => event,
            Err(reason) => return shortened(reason),
        };
        // What a panic may leave half done, the runtime and the event, is of this record alone and ends
        // with it; the compiled program is only read.
        let ran = match panics::caught(|| self.resolve(&mut event)) {
            Ok(ran) => ran,
            Err(panicked) => return shortened(format!("the program panicked: {panicked}")),
        };
        match ran {
            Ok(_) => match event.into_row() {
                Ok(made) => {
                    *row = made;
                    Ended::On
                }
                Err(reason) => shortened(reason),
            },
            Err(Terminate::Abort(ExpressionError::Abort { message, .. })) => match self.on_abort {
                OnAbort::Drop => Ended::Dropped,
                OnAbort::DeadLetter => shortened(message.unwrap_or_else(|| "aborted".into())),
            },
            Err(Terminate::Interrupted) => Ended::Failed(format!(
                "the program took more than {STEPS_MAX} expressions for it"
            )),
            Err(Terminate::Abort(error) | Terminate::Error(error)) => shortened(error.to_string()),
        }
    }

    fn resolve(&self, event: &mut Event) -> Result<Value, Terminate> {
        let mut steps = 0_u64;
        let mut control = || {
            steps += 1;
            match steps > STEPS_MAX {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        Runtime::default().resolve_with_control(event, &self.compiled, &self.zone, &mut control)
    }
}

/// A reason without the whole text that it is about.
fn shortened(mut reason: String) -> Ended {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    Ended::Failed(reason)
}

#[cfg(test)]
mod tests;
