//! What is followed and read: `[[file]]`, `[[journal]]`, `[[sensor]]`.

use headwater_msk::{Bytes, Period};
use headwater_record::steps::StepFile;
use serde::{Deserialize, Serialize};

use crate::frame::multiline::Preset;
use crate::process::Form;
use crate::sample::policy::RollupWhen;
use crate::sample::read::Kind;
use crate::spool::Lane;

/// Where a file that is first seen at the agent's start is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartAt {
    /// From its first byte.
    Beginning,
    /// From where it ended when it was first seen.
    End,
}

/// What becomes of a last line without a newline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LastLine {
    /// It waits for its newline, for as long as the file is there.
    Wait,
    /// After `last_line_after` it is a line.
    Complete,
    /// After `last_line_after` it goes, marked `continues`, and the rest marked `continued`.
    Continue,
}

table! {
    /// `multiline` of a `[[file]]`: one of the first four.
    Multiline {
        /// A form that is known.
        preset: Preset,
        /// A line that matches begins an event.
        start: String,
        /// A line that matches goes on with the event before it.
        #[serde(rename = "continue")]
        go_on: String,
        /// A line that matches is the last of its event.
        end: String,
        /// Silence after which an event is over.
        timeout: Period,
    }
}

/// `repeats`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeats {
    /// How long repeats are counted before they are told as one record.
    pub within: Period,
}

/// `rate_limit`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Most records of one stream
    pub records: u32,
    /// in a stretch of this length.
    pub per: Period,
}

/// `[[file]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Name of the source.
    pub id: String,
    /// Which files: globs.
    pub paths: Vec<String>,
    /// Which of them not: globs.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Which batches go before it, and which after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// Where to begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_at: Option<StartAt>,
    /// Longest line of one record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_line: Option<Bytes>,
    /// How often the globs are matched without a hint from the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rescan: Option<Period>,
    /// Silence after which a rotated file is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_after: Option<Period>,
    /// How they are encoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// What becomes of a last line without a newline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_line: Option<LastLine>,
    /// And after how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_line_after: Option<Period>,
    /// Which lines belong together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiline: Option<Multiline>,
    /// What the value of a record is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Form>,
    /// Lines that are the same as the one before them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Repeats>,
    /// How many records are too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// What is done with each line, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub process: Vec<StepFile>,
}

/// `[[journal]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// Name of the source.
    pub id: String,
    /// Which units; all where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<String>,
    /// Which batches go before it, and which after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// Which priorities: this and what is worse, or a range (`"err..alert"`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// From when on, at the first start, as `journalctl --since` takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Where to begin at the first start, without `since`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_at: Option<StartAt>,
    /// Folder of the journal's files, if not the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Fields of the journal that are passed on besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// What the value of a record is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Form>,
    /// Entries that are the same as the one before them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Repeats>,
    /// How many records are too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// What is done with each entry, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub process: Vec<StepFile>,
}

/// `[[sensor]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sensor {
    /// Name of the source.
    pub id: String,
    /// What kind of sensors they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Which files: globs. Kinds that are always in one place need none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// A program and its arguments, whose output is read instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// JSON: where the number is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// CSV: the column's name, or its number from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// CSV: what separates two columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    /// Which batches go before it, and which after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// Time between two readings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Period>,
    /// Most that a reading is put off by chance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Period>,
    /// Whether readings lie on whole intervals of the wall clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub align: Option<bool>,
    /// By how much a value must move to be told: `"0.5"`, `"2%"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadband: Option<String>,
    /// How often one that does not move is told all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Period>,
    /// Below it a value is out of range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Above it a value is out of range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Age at which what a file holds is stale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_after: Option<Period>,
    /// Factor on the raw number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// Added to the scaled number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<f64>,
    /// Unit of the result, passed on as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Samples told as one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollup: Option<Rollup>,
}

/// `rollup`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollup {
    /// Of how long.
    pub window: Period,
    /// At all times, or while the broker does not acknowledge.
    pub when: RollupWhen,
}
