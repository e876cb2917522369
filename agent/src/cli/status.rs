//! `headwater-agent status`: how it goes with the running agent of a configuration.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use super::load_listen;
use crate::admin::client;
use crate::admin::status::Status;

/// Asks the agent that runs on the configuration at `config`, and prints a table, or with `json` what
/// it answered. Exit code 0 where the pipeline moves, 1 where it is stuck.
///
/// # Errors
/// The configuration does not say where, no agent answers, or the output cannot be written.
pub fn run(config: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let listen = load_listen(config)?;
    let runtime = super::runtime()?;
    let answer = runtime.block_on(client::get(&listen, "/status"))?;
    let status: Status = serde_json::from_slice(&answer)
        .context("the agent's answer is not understood: is it of another version?")?;
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &status)?;
        writeln!(out)?;
    } else {
        write!(out, "{status}")?;
    }
    Ok(match status.stuck {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    })
}
