//! The configuration exactly as its TOML is written. What is optional there is an `Option` here:
//! defaults stand in [`super::defaults`], and meaning in [`super::plan`].

use headwater_msk::{Bytes, Kafka, Period};
use headwater_record::steps::StepFile;
use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// Identity of the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Folder of the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<String>,
    /// How to reach the cluster.
    pub kafka: Kafka,
    /// The RAM between a source and its settlement.
    #[serde(default)]
    pub window: Window,
    /// When, and how much, goes to the database.
    #[serde(default)]
    pub spool: Spool,
    /// How often settled offsets are written down.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// How an orderly end goes.
    #[serde(default)]
    pub shutdown: Shutdown,
    /// Followed files.
    #[serde(default, rename = "file", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// Read sensors.
    #[serde(default, rename = "sensor", skip_serializing_if = "Vec::is_empty")]
    pub sensors: Vec<Sensor>,
}

/// `[window]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Bound on all records in RAM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
}

/// `[spool]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spool {
    /// Age at which an unacknowledged batch is committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Period>,
    /// Bound on the spooled batches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<Bytes>,
}

/// `[checkpoint]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// At this age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Period>,
    /// Or after this much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
}

/// `[shutdown]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// Time for the broker's last acknowledgements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flush: Option<Period>,
}

/// Where a file that is first seen at the agent's start is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartAt {
    /// From its first byte.
    Beginning,
    /// From where it ended when it was first seen.
    End,
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

/// `[[sensor]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sensor {
    /// Name of the source.
    pub id: String,
    /// Which value files: globs.
    pub paths: Vec<String>,
    /// Time between two readings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Period>,
    /// Factor on the raw number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// Added to the scaled number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<f64>,
    /// Unit of the result, passed on as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}
