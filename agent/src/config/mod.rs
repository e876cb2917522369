//! Configuration: as it is written ([`file`]), as it is meant ([`plan`]), what is wrong with it
//! ([`problems`]), what stands in where nothing was written
//! ([`defaults`]), and what of it may change while the agent runs ([`changes`]). Nothing but `plan` and `check` sees `file`.

pub mod changes;
pub mod defaults;
#[cfg(test)]
mod documented;
pub mod file;
pub mod host;
mod journals;
pub mod listen;
pub mod memory;
mod naming;
pub mod plan;
pub mod problems;
mod process;
mod sensors;

pub use file::ConfigFile;
pub use host::Host;
pub use listen::Listen;
pub(crate) use naming::NamedBy;
pub use plan::{FileSource, JournalSource, Plan, SensorSource};
pub use problems::Problem;
