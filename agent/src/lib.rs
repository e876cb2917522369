//! headwater-agent: from files and sensors to Kafka, every byte accounted for.
//!
//! ```text
//!  files ─ discover ─ tail ─ frame ─┐
//!                                   ├─ process ─ batch ─ delivery ───────► produce ─ Kafka
//!  sensors ─ sample ────────────────┘              (RAM)  ▲   │               │ delivery report
//!                                        late, or no room │   │ settled       ▼
//!                                                         spool (SQLite): batches and checkpoints
//! ```
//!
//! Modules stand in the order of the data. A stage knows the type it is given and the type it
//! gives, and nothing else of the pipeline; `supervise` starts the parts and stops them in order.

pub mod cli;
pub mod config;
pub mod clock;
pub mod stop;

pub mod discover;
pub mod tail;
pub mod frame;
pub mod sample;
pub mod process;
pub mod sources;

pub mod batch;
pub mod budget;
pub mod checkpoint;

pub mod delivery;
pub mod spool;
pub mod produce;

pub mod supervise;
pub mod systemd;
pub mod crash;
