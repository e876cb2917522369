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
    let staging = plan.staging;
    print(&format!(
        "# Effective configuration, defaults filled in.\n\
         # Pipeline {}. Memory: at most {staging} for batches (limits.staging), about 16MiB of records\n\
         # that were fetched and not yet handed over, and 2MiB for each partition between the two.\n{effective}",
        plan.pipeline.hash()
    ))
}
