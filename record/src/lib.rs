//! What travels between the agent and the loader, and the ledger that checks it.
//!
//! ```text
//!  agent                                   Kafka                         loader
//!  bytes of a file ─► Span ─► value.rs ─► value + headers.rs ─► Tag ─► Ledger::accept ─► row
//!                     │                                                    ▲
//!                     └── a hole, said ──► notice.rs (loss, close) ────────┘
//! ```
//!
//! A record's identity is its [`Span`]: the half-open range of offsets in one [`Generation`] of one
//! stream that the record accounts for. Spans of a generation tile it from offset 0: each starts
//! where the one before it ended, so whatever was left out by configuration lies inside the next
//! record's span, and the same bytes read again have the same identity.
//!
//! This crate is pure: no I/O, no clock, no Kafka, no randomness.

pub mod escape;
pub mod headers;
mod json_text;
pub mod ledger;
pub mod names;
pub mod notice;
mod row;
pub mod span;
pub mod steps;
pub mod value;

pub use headers::{HeaderError, Kind, Tag};
pub use ledger::{Ledger, Verdict};
pub use names::{DeviceId, Generation, NameError, SourceId, StreamId};
pub use notice::Notice;
pub use span::Span;
