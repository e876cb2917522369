//! `headwater-agent run`: follows, samples and delivers until it is told to stop.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use crate::config::{ConfigFile, Host, Plan};
use crate::supervise::{self, Ending};

/// Runs the agent on the configuration at `config`. Exit code 0 after an orderly stop that was
/// asked for, 1 after one that a failure caused.
///
/// # Errors
/// The configuration is refused, or the agent cannot start: with what to do about it.
pub fn run(config: &Path) -> anyhow::Result<ExitCode> {
    let file: ConfigFile = headwater_msk::config_file::read(config)?;
    let plan = match Plan::new(file, &Host::read()) {
        Ok(plan) => plan,
        Err(problems) => {
            let list: Vec<String> = problems
                .iter()
                .map(|problem| format!("  {problem}"))
                .collect();
            bail!(
                "configuration {} is refused:\n{}",
                config.display(),
                list.join("\n")
            );
        }
    };
    match supervise::run(&plan) {
        Ok(Ending::Stopped) => Ok(ExitCode::SUCCESS),
        Ok(Ending::Failed) => Ok(ExitCode::FAILURE),
        Err(error) => bail!("the agent did not start: {error}"),
    }
}
