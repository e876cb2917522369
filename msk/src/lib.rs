//! What both programs do at their outer edge: read a configuration file, and reach Kafka.
//!
//! - [`config_file`]: a TOML file into a program's own types; an unknown key is named, with the
//!   nearest known one.
//! - [`units`]: durations and sizes as people write them (`"2s"`, `"64MiB"`).
//! - [`client`]: the `[kafka]` section; [`security`]: `[kafka.security]`, how both sides prove who
//!   they are; [`credentials`]: `[credentials]`, where AWS credentials come from.
//! - [`token`]: the token that opens an MSK cluster with IAM.
//! - [`cluster`]: all of these opened, as clients are made of it; [`push`]: a new token into a running
//!   client.
//! - [`http`]: the requests that credentials take.
//! - [`context`]: what librdkafka says, into our log.
//! - [`brokers`]: whether librdkafka knows of any.
//! - [`topic`]: what the topic should be, what it is, and what of the difference costs data.

pub mod brokers;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod config_file;
pub mod context;
pub mod credentials;
pub mod http;
pub mod push;
pub mod security;
pub mod token;
pub mod topic;
pub mod units;

pub use client::Kafka;
pub use cluster::Cluster;
pub use config_file::ConfigError;
pub use credentials::CredentialSettings;
pub use topic::Topic;
pub use units::{Bytes, Period};
