//! What both programs do at their outer edge: read a configuration file, and reach Kafka.
//!
//! - [`config_file`]: a TOML file into a program's own types; an unknown key is named, with the
//!   nearest known one.
//! - [`units`]: durations and sizes as people write them (`"2s"`, `"64MiB"`).
//! - [`client`]: the `[kafka]` section, and the librdkafka configuration made of it.
//! - [`context`]: what librdkafka says, into our log.
//! - [`topic`]: what the topic should be, what it is, and what of the difference costs data.
//!
//! TLS, IAM, SCRAM and mTLS will stand here too; today the connection is plaintext.

pub mod client;
pub mod config_file;
pub mod context;
pub mod topic;
pub mod units;

pub use client::Kafka;
pub use config_file::ConfigError;
pub use topic::Topic;
pub use units::{Bytes, Period};
