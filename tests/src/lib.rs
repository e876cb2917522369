//! Real parts for whole-system tests, without containers: an Apache Kafka broker, an S3 server, the
//! two binaries, and an oracle that counts every line.
//!
//! ```text
//! writer ─ files ─► process: Agent ─► kafka ─► process: Loader ─► s3
//!    │                                 │ kill, pause, restart       │ faults
//!    └──────────────── oracle: what was written = what is stored ◄──┘
//! ```
//! The modules in that order; below them what they stand on. A part that is missing fails the test,
//! it never skips it. Helpers panic with a sentence that says what to do.

pub mod device;
pub mod device_clock;
pub mod writer;

pub mod process;

pub mod browser;
pub mod kafka;

pub mod lambda;

pub mod aws;
pub mod iot;
pub mod pki;
pub mod secured;
pub mod signer;

pub mod dynamodb;
pub mod s3;

pub mod loading;
pub mod oracle;
pub mod python;

pub mod clock;
pub mod disk;
pub mod outside;

mod child;
mod folder;
mod loopback;
mod ports;
mod served;
