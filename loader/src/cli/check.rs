//! `headwater-loader check`: is the configuration right, and what does it mean, defaults included?

use std::path::Path;

use anyhow::Context;

use crate::cli::{plan_from, print};
use crate::config::ConfigFile;

/// Checks a configuration and prints it as it will run.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check(path: &Path) -> anyhow::Result<()> {
    let plan = plan_from(path)?;
    let file: ConfigFile = headwater_msk::config_file::read(path)?;
    let effective = toml::to_string(&file).context("cannot print the configuration")?;
    let memory = plan.memory;
    let bytes = headwater_msk::Bytes;
    print(&format!(
        "# Effective configuration, defaults filled in.\n\
         # Pipeline {}.\n\
         # Memory: {} in all. Batches {}, records fetched and not yet taken in {}, librdkafka's queue {}\n\
         # (small records take four times that there), the rest for the program.\n{effective}",
        plan.pipeline.hash(),
        bytes(memory.total),
        bytes(memory.batches),
        bytes(memory.hand_over),
        bytes(memory.fetch),
    ))
}
