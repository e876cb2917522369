//! The configuration file, exactly as it is written.

use std::collections::BTreeMap;

use headwater_msk::{Bytes, CredentialSettings, Kafka, Period, Topic};
use serde::{Deserialize, Serialize};

use crate::books::AccountsFile;
use crate::config::defaults;
use crate::encode::Compression;
use crate::format::{Column, Kind};
use crate::items::TableFile;
use crate::partition::Layout;
use crate::transform::StepFile;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// Where records come from.
    pub kafka: Kafka,
    /// Where AWS credentials for Kafka come from (S3's come from AWS's own chain).
    #[serde(default, skip_serializing_if = "CredentialSettings::is_default")]
    pub credentials: CredentialSettings,
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
    /// What partitions say about themselves.
    #[serde(default)]
    pub accounts: AccountsFile,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
    /// Metrics and health.
    #[serde(default)]
    pub http: Http,
    /// Metrics for CloudWatch, on standard output.
    #[serde(default)]
    pub emf: EmfFile,
    /// As a function of AWS Lambda.
    #[serde(default, skip_serializing_if = "Lambda::is_default")]
    pub lambda: Lambda,
    /// The tables of `lookup`.
    #[serde(default, skip_serializing_if = "TablesFile::is_default")]
    pub tables: TablesFile,
    /// What happens to a record, step by step.
    #[serde(default)]
    pub transform: Vec<StepFile>,
}

/// `[tables]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TablesFile {
    /// How often they are read again; only at the start by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reload: Option<Period>,
}

impl TablesFile {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// `[lambda]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lambda {
    /// Whether an answer names the partitions that failed. Only with a trigger that has
    /// `ReportBatchItemFailures`: another takes the answer for a success.
    pub report_batch_item_failures: bool,
}

impl Lambda {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// `[http]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// `address:port` for `/metrics`, `/healthz` and `/readyz`; nowhere by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
}

/// `[emf]`: CloudWatch's embedded metric format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmfFile {
    /// CloudWatch namespace; nothing is written without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Time between two lines; a function writes one for each invocation.
    pub every: Period,
}

impl Default for EmfFile {
    fn default() -> Self {
        Self {
            namespace: None,
            every: defaults::EMF_EVERY,
        }
    }
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
    /// `classic`, or `consumer` (KIP-848, Kafka 4).
    #[serde(default)]
    pub protocol: Protocol,
    /// How long a silent member keeps its partitions; the broker's affair with `consumer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_timeout: Option<Period>,
}

/// How the group is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Members assign partitions among themselves: every broker knows it.
    #[default]
    Classic,
    /// The broker assigns (KIP-848): a rebalance stops nobody whose partitions stay.
    Consumer,
}

/// The output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// `batch` (an object for each path of a batch) or `record` (one for each record).
    #[serde(default)]
    pub layout: Layout,
    /// `zstd`, `gzip` or `none`.
    #[serde(default)]
    pub compression: Compression,
    /// `ndjson`, `raw`, `csv` or `parquet`.
    #[serde(default)]
    pub format: Kind,
    /// Column of CSV and Parquet for what the declared ones do not take; "" for none.
    #[serde(default = "overflow")]
    pub overflow: String,
    /// The field that a raw line is; "" for the record's whole value.
    #[serde(default = "raw_field")]
    pub raw_field: String,
    /// Bytes of a row group of Parquet before it is encoded; as large as memory allows by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_group: Option<Bytes>,
    /// How objects lie in S3.
    #[serde(default)]
    pub s3: S3File,
    /// Columns of CSV and Parquet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub column: Vec<Column>,
    /// Tables that rows go to beside the objects.
    #[serde(default, skip_serializing_if = "DynamoFile::is_default")]
    pub dynamodb: DynamoFile,
}

/// `[output.dynamodb]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DynamoFile {
    /// Another endpoint than AWS's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// AWS region; from the environment by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// How long it may take to answer a request.
    pub timeout: Period,
    /// The tables.
    pub table: Vec<TableFile>,
}

impl Default for DynamoFile {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            timeout: defaults::DYNAMODB_TIMEOUT,
            table: Vec::new(),
        }
    }
}

impl DynamoFile {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// `[output.s3]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3File {
    /// `bucket` (as the bucket says), `s3` (SSE-S3) or `kms` (SSE-KMS).
    pub encryption: EncryptionFile,
    /// Key id or ARN for `kms`; the account's own key for S3 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<String>,
    /// Storage class of data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// Account that must own the bucket: nothing is written into somebody else's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_bucket_owner: Option<String>,
    /// Whether the store knows `If-None-Match`.
    pub conditional_writes: bool,
    /// Objects above this go in parts.
    pub multipart_above: Bytes,
    /// How long S3 may take to answer a request.
    pub timeout: Period,
    /// Tags of data.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// `output.s3.encryption`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncryptionFile {
    /// As the bucket says.
    #[default]
    Bucket,
    /// SSE-S3.
    S3,
    /// SSE-KMS.
    Kms,
}

impl Default for S3File {
    fn default() -> Self {
        Self {
            encryption: EncryptionFile::default(),
            kms_key: None,
            storage_class: None,
            expected_bucket_owner: None,
            conditional_writes: true,
            multipart_above: defaults::MULTIPART_ABOVE,
            timeout: defaults::S3_TIMEOUT,
            tags: BTreeMap::new(),
        }
    }
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
    /// How long no record may come; not looked at by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Period>,
    /// By the wall clock, at whole multiples of this in UTC; not looked at by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Period>,
    /// Objects, which is paths, in one batch.
    pub objects: u32,
}

/// Bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory of the whole process.
    pub memory: Bytes,
    /// How long a closed, complete generation stays in the ledger.
    pub ledger_retention: Period,
    /// Memory that the ledger of one partition may take.
    pub ledger: Bytes,
    /// How long a stop may take.
    pub stop_grace: Period,
}

impl Default for Flush {
    fn default() -> Self {
        Self {
            bytes: defaults::FLUSH_BYTES,
            records: defaults::FLUSH_RECORDS,
            age: defaults::FLUSH_AGE,
            idle: None,
            every: None,
            objects: defaults::FLUSH_OBJECTS,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: defaults::MEMORY,
            ledger_retention: defaults::LEDGER_RETENTION,
            ledger: defaults::LEDGER,
            stop_grace: defaults::STOP_GRACE,
        }
    }
}

fn overflow() -> String {
    defaults::OVERFLOW.to_owned()
}

fn raw_field() -> String {
    defaults::RAW_FIELD.to_owned()
}

fn path() -> String {
    defaults::PATH.to_owned()
}

/// Contents of the tables that a configuration names, by path.
pub type Tables = BTreeMap<String, Vec<u8>>;
