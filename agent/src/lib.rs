//! headwater-agent: from files and sensors to Kafka, every byte accounted for.
//!
//! ```text
//!  files ─ discover ─ tail ─ frame ─┐
//!                                   ├─ process ─ batch ─ delivery ───────► produce ─ Kafka
//!  journal ──────────────────────────┤
//!  sensors ─ sample ────────────────┘              (RAM)  ▲   │               │ delivery report
//!                                        late, or no room │   │ settled       ▼
//!                                                         spool (SQLite): batches and checkpoints
//! ```
//!
//! Modules stand in the order of the data. A stage knows the type it is given and the type it
//! gives, and nothing else of the pipeline; `supervise` starts the parts and stops them in order.

#![cfg_attr(
    test,
    expect(
        clippy::cast_possible_truncation,
        reason = "tests count in small numbers; the code itself is checked without `test`"
    )
)]

pub mod cli;
pub mod clock;
pub mod config;
pub mod stop;

pub mod discover;
pub mod frame;
pub mod journal;
pub mod last_words;
pub mod orders;
pub mod process;
pub mod sample;
pub mod sources;
pub mod tail;

pub mod batch;
pub mod budget;
pub mod checkpoint;

pub mod backdate;
pub mod delivery;
pub mod produce;
pub mod spool;

pub mod admin;
pub mod crash;
pub mod hardware;
pub mod supervise;
pub mod systemd;
