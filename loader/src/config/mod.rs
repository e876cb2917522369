//! The configuration: as it is written ([`file`]), and as it is meant ([`plan`]).

pub mod defaults;
pub mod file;
pub mod plan;

pub use file::ConfigFile;
pub use plan::Plan;
