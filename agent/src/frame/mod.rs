//! From bytes to records' content: what of a file is one record, and its text. Pure: no file, no
//! clock.
//!
//! - [`encoding`]: bytes into text, and where lines end in them.
//! - [`lines`]: lines, pieces of long ones, NUL runs.
//! - [`multiline`]: which lines belong together.
//! - [`parts`]: parts of a line, as container runtimes write them, made into it.
//! - [`frames`]: all of it over one chunk: what the reader asks.
//!
//! Framing replays: the same bytes from the same offset, with the same cuts, give the same records,
//! however they were cut into chunks. So a span that is read again after a crash is the span that
//! was sent before it. Where a boundary depends on anything but the bytes (a time-out), the reader
//! commits it as a cut first.

pub mod encoding;
pub mod frames;
pub mod lines;
pub mod multiline;
mod parts;
