//! The commands, one file each.

use std::path::Path;

use anyhow::{Context, anyhow};
use tokio::runtime::Runtime;

use crate::config::{ConfigFile, Host, Listen, Plan, Problem};

pub mod boot_sizes;
pub mod check;
mod connect;
pub mod explain;
pub mod run;
pub mod spool;
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
    Plan::new(file, &Host::read()).map_err(|problems| refused(path, &problems))
}

/// Where the agent that runs on the configuration at `path` can be asked.
///
/// # Errors
/// It cannot be read, or does not tell.
fn load_listen(path: &Path) -> anyhow::Result<Listen> {
    let file: ConfigFile = headwater_msk::config_file::read(path)?;
    Plan::listen_of(&file).map_err(|problems| refused(path, &problems))
}

fn refused(path: &Path, problems: &[Problem]) -> anyhow::Error {
    let list: Vec<String> = (problems.iter())
        .map(|problem| format!("  {problem}"))
        .collect();
    anyhow!(
        "configuration {} is refused:\n{}",
        path.display(),
        list.join("\n")
    )
}

/// For commands that ask a running agent.
fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot set up the runtime")
}
