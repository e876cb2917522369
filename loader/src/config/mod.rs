//! The configuration: as it is written ([`file`]), and as it is meant ([`plan`]).

pub mod defaults;
pub mod file;
pub mod output;
pub mod plan;
mod sections;

pub use file::ConfigFile;
pub use output::Output;
pub use plan::Plan;
