//! Follows files: what was appended, and what became of each file.
//!
//! - [`position`]: pure; what to do with a file, from what is seen of it.
//! - [`opened`]: a file as it is opened, and the reads.
//! - [`reader`]: one followed file: its bytes, as batches.
//! - [`roster`]: which files are followed: found, resumed, replaced, lost.
//! - [`files`]: the thread that runs them all.

pub mod files;
pub mod opened;
pub mod position;
pub mod reader;
pub mod roster;
