//! Follows files: what was appended, and what became of each file.
//!
//! - [`position`]: pure; what to do with a file, from what is seen of it.
//! - [`content`]: what a file holds, by offset, and the reads; [`packed`]: where it is compressed.
//! - [`decoding`]: how many compressed ones are decoded at a time.
//! - [`opened`]: a file as it is opened, and whether it is one that is known.
//! - [`siblings`]: the rotated files beside a log.
//! - [`reader`]: one followed file: its bytes, as batches.
//! - [`counters`]: what is counted of files.
//! - [`desk`]: what all of them share.
//! - [`locate`]: where the file of a known generation lies now.
//! - [`resume`]: known files found again after a restart.
//! - [`nameless`]: deleted files, over a change of configuration.
//! - [`roster`]: which files are followed: found, replaced, lost.
//! - [`files`]: the thread that runs them all.

pub mod closed;
pub mod content;
pub mod counters;
mod decoding;
pub mod desk;
pub mod files;
pub mod locate;
pub mod nameless;
pub mod opened;
pub mod packed;
pub mod position;
pub mod reader;
pub mod resume;
pub mod roster;
pub mod siblings;
