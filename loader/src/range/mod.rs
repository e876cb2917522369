//! A stretch of a topic read outside of the group: what a dry run and a replay stand on.
//!
//! ```text
//!  reader (assigned, never subscribed) ─ Fetched ─► drive: the same partition as in `run`, its clock
//!                                                   taken from the records ─► actions
//! ```
//!
//! Nothing here joins the group or commits: whatever the live loader does goes on as it was. And
//! nothing here asks for the time: the batch clock is the broker's timestamp of the first record of
//! a batch, never going back, so that the same records make the same batches on any day.

pub mod drive;
pub mod manifest;
pub mod position;
pub mod reader;
pub mod replay;
