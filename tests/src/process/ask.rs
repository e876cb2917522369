//! Commands beside a running binary, in its folder and with its configuration: what a person types
//! at a second terminal.

use super::{Finished, Process, RUN_TIMEOUT, binary_path};
use crate::child::Child;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A command that runs beside a binary; killed when this is dropped.
#[derive(Debug)]
pub struct Asking {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Runs `<binary> <command> --config <file> [more…]` beside the running binary, to its end.
    ///
    /// # Panics
    /// If it does not start, or does not end within two minutes.
    pub fn ask(&self, command: &str, more: &[&str]) -> Finished {
        let asking = self.ask_in_background(command, more);
        let status = self.must("wait for", asking.child.wait(RUN_TIMEOUT));
        let status = status.unwrap_or_else(|| panic!("{command} still runs after {RUN_TIMEOUT:?}"));
        Finished {
            code: status.code(),
            stdout: asking.stdout(),
            stderr: fs::read_to_string(&asking.stderr).unwrap_or_default(),
        }
    }

    /// Starts the same and does not wait for it.
    ///
    /// # Panics
    /// If it does not start.
    pub fn ask_in_background(&self, command: &str, more: &[&str]) -> Asking {
        self.must("ask", self.try_ask(command, more))
    }

    fn try_ask(&self, command: &str, more: &[&str]) -> Result<Asking> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let setup = &self.setup;
        let path = |kind: &str| setup.dir().join(format!("{command}-{count}.{kind}"));
        let (stdout, stderr) = (path("stdout"), path("stderr"));
        let create = |path| File::create(path).context("cannot create a file for output");
        let mut process = Command::new(binary_path(setup.binary, setup.bin_dir.as_deref())?);
        process
            .args(command.split(' '))
            .arg("--config")
            .arg(setup.config_path())
            .args(more)
            .envs(setup.env.iter().map(|(name, value)| (name, value)))
            .current_dir(setup.dir())
            .stdout(create(&stdout)?)
            .stderr(create(&stderr)?);
        let child = Child::spawn(command, &mut process, None)?;
        Ok(Asking {
            child,
            stdout,
            stderr,
        })
    }
}

impl Asking {
    /// True until it has ended.
    ///
    /// # Panics
    /// If the system does not tell.
    pub fn is_running(&self) -> bool {
        let status = self.child.status();
        status.expect("a child can be looked at").is_none()
    }

    /// All it has said on standard output so far.
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }
}
