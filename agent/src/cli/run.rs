//! `headwater-agent run`: follows, samples and delivers until it is told to stop.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use super::load_plan;
use crate::supervise::{self, Ending};

/// Runs the agent on the configuration at `config`, which SIGHUP has it read again. Exit code 0 after an orderly stop that was
/// asked for, 1 after one that a failure caused.
///
/// # Errors
/// The configuration is refused, or the agent cannot start: with what to do about it.
pub fn run(config: &Path) -> anyhow::Result<ExitCode> {
    let plan = load_plan(config)?;
    let reread = || load_plan(config).map_err(|error| error.to_string());
    match supervise::run(&plan, &reread) {
        Ok(Ending::Stopped) => Ok(ExitCode::SUCCESS),
        Ok(Ending::Failed) => Ok(ExitCode::FAILURE),
        Err(error) => bail!("the agent did not start: {error}"),
    }
}
