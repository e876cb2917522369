//! The configuration file, exactly as it is written.

use std::collections::BTreeMap;

use headwater_msk::{Bytes, Kafka, Period, Topic};
use serde::{Deserialize, Serialize};

use crate::config::defaults;
use crate::encode::Compression;
use crate::transform::StepFile;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// Where records come from.
    pub kafka: Kafka,
    /// What the topic should be, for `topics create` and `topics check`.
    #[serde(default)]
    pub topic: Topic,
    /// As whom they are read.
    pub group: Group,
    /// Where rows go.
    pub output: Output,
    /// When a batch is written.
    #[serde(default)]
    pub flush: Flush,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
    /// What happens to a record, step by step.
    #[serde(default)]
    pub transform: Vec<StepFile>,
}

/// The consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its id; it owns one output.
    pub id: String,
    /// Static membership (`group.instance.id`): a loader that comes back under the same name within
    /// the session takes its partitions up at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// How long a silent member keeps its partitions.
    #[serde(default = "session_timeout")]
    pub session_timeout: Period,
}

/// The output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// `s3://bucket/prefix`, or `file:///folder`.
    pub url: String,
    /// Another endpoint than AWS's, for compatible stores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// AWS region; from the environment by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// `endpoint/bucket/key` instead of `bucket.endpoint/key`: most compatible stores want it.
    #[serde(default)]
    pub path_style: bool,
    /// Template of the folders that rows lie in.
    #[serde(default = "path")]
    pub path: String,
    /// `zstd`, `gzip` or `none`.
    #[serde(default)]
    pub compression: Compression,
}

/// When a batch is written, whichever comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flush {
    /// Bytes that its objects take.
    pub bytes: Bytes,
    /// Records read.
    pub records: u64,
    /// Age of its first record here.
    pub age: Period,
}

/// Bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory for the batches of all partitions.
    pub staging: Bytes,
    /// How long a closed, complete generation stays in the ledger.
    pub ledger_retention: Period,
    /// How long a stop may take.
    pub stop_grace: Period,
}

impl Default for Flush {
    fn default() -> Self {
        Self {
            bytes: defaults::FLUSH_BYTES,
            records: defaults::FLUSH_RECORDS,
            age: defaults::FLUSH_AGE,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            staging: defaults::STAGING_BYTES,
            ledger_retention: defaults::LEDGER_RETENTION,
            stop_grace: defaults::STOP_GRACE,
        }
    }
}

fn session_timeout() -> Period {
    defaults::SESSION_TIMEOUT
}

fn path() -> String {
    defaults::PATH.to_owned()
}

/// Contents of the tables that a configuration names, by path.
pub type Tables = BTreeMap<String, Vec<u8>>;
