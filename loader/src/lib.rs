//! headwater-loader: from Kafka to S3, exactly once.
//!
//! ```text
//!  Kafka ─ consume ─► fetched ─► partition: ledger ─ pipeline (transform, route) ─ encode ─► store
//!    ▲                              │  intent, objects, items, state, done        items ─►    S3, folder, DynamoDB
//!    └──── offsets and intents ◄────┘  (the consumer group is the log)
//! ```
//!
//! Modules stand in the order of the data. `partition` is the heart and is pure; `worker` performs
//! what it asks for; `supervise` starts the parts and stops them in order.

pub mod aggregate;
pub mod books;
pub mod config;

pub mod consume;
pub mod fetched;

pub mod encode;
pub mod format;
pub mod infer;
pub mod items;
pub mod name;
pub mod partition;
pub mod peek;
pub mod pipeline;
pub mod route;
pub mod state;
pub mod transform;

pub mod store;

pub mod emf;
pub mod http;
pub mod lambda;
pub mod memory;
pub mod metrics;
pub mod range;
pub mod recover;
pub mod staging;
pub mod status;
pub mod upload;

pub mod compact;
pub mod worker;

pub mod backoff;
pub mod cli;
pub mod clock;
pub mod crash;
pub mod supervise;
pub mod tables;
