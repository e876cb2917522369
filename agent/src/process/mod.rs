//! From a line or a sample to a record: what configuration leaves of it, as JSON, appended to the
//! batch under construction.
//!
//! ```text
//!   line ─► steps ─► repeats ─► rate limit ─► Draft ─► Batch
//!           pure     held, told               │ a record's span starts where the one before it
//!             │        │          │           │ ended: what was dropped between lies inside
//!             └────────┴──────────┴──────────►┘
//! ```
//!
//! - [`draft`]: the batch under construction, and its bounds.
//! - [`plan`]: what one source does, from its configuration.
//! - [`stage`]: a stream's lines on their way through it.
//! - [`gates`]: what depends on more than the line: repeats and the rate limit.
//!
//! The hot path of the agent: a source without any of these allocates nothing for a record.
//!
//! **Every byte stays accounted for.** A dropped line becomes no record, and the next record's span
//! covers it; where the file ends first, its close notice does. Nothing but a record moves the
//! settled offset, so a crash reads dropped lines again, and drops them again; that this is never
//! much, a `filtered` notice stands for every 4 MiB of nothing but dropped lines. What the rate limit
//! cuts is covered by a loss notice. What was held back and is not told yet is not settled either.
//!
//! **Raw values** are the lines' own bytes. Steps look at a text of them, and decide; what goes is the bytes.
//!
//! **Redaction comes first.** Steps run before anything of a line is in a batch, so what they cover
//! reaches neither the spool nor a queue.

pub mod draft;
pub mod gates;
pub mod plan;
pub mod stage;

pub use self::draft::{BATCH_BYTES, BATCH_RECORDS_MAX, BATCH_VALUES_MAX, Draft};
pub use self::plan::{Counters, Form, ProcessPlan, RateLimit};
pub use self::stage::{Stage, State, Tally};
