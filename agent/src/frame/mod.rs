//! From bytes to lines. Pure: no file, no clock.

pub mod lines;
