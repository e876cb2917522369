//! The commands, one file each.

use std::path::Path;

use anyhow::{Context, bail};
use tokio::runtime::Runtime;

use crate::config::{ConfigFile, Host, Plan};

pub mod check;
mod connect;
pub mod explain;
pub mod run;
pub mod status;
pub mod tap;
pub mod test;
pub mod token;

/// Reads the configuration at `path`.
///
/// # Errors
/// It cannot be read, or is refused: with everything that is wrong with it.
fn load_plan(path: &Path) -> anyhow::Result<Plan> {
    let file: ConfigFile = headwater_msk::config_file::read(path)?;
    match Plan::new(file, &Host::read()) {
        Ok(plan) => Ok(plan),
        Err(problems) => {
            let list: Vec<String> = (problems.iter())
                .map(|problem| format!("  {problem}"))
                .collect();
            bail!(
                "configuration {} is refused:\n{}",
                path.display(),
                list.join("\n")
            );
        }
    }
}

/// For commands that ask a running agent.
fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot set up the runtime")
}
