//! The commands, one file each.

pub mod audit;
pub mod check;
pub mod columns;
pub mod compact;
pub mod ddl;
pub mod dlq;
pub mod dry_run;
pub mod replay;
pub mod test;
pub mod topics;
pub mod verify;

use std::io::{IsTerminal, Write};
use std::path::Path;

use crate::config::{ConfigFile, Output, Plan, plan};
use crate::memory;
use crate::metrics::Requests;
use crate::store::{Retries, Store};
use crate::supervise::open_store;

/// Reads a configuration and makes a plan of it.
///
/// # Errors
/// Everything that is wrong with it, in one text.
pub fn plan_from(path: &Path) -> anyhow::Result<Plan> {
    plan_with(path, |_| {})
}

/// The same of a configuration that is changed first, for a command that asks before all of it is
/// there.
///
/// # Errors
/// As [`plan_from`].
pub fn plan_with(path: &Path, change: impl FnOnce(&mut ConfigFile)) -> anyhow::Result<Plan> {
    let mut file: ConfigFile = headwater_msk::config_file::read(path)?;
    change(&mut file);
    let wrong = |problems: Vec<String>| {
        anyhow::anyhow!(
            "configuration {}:\n  {}",
            path.display(),
            problems.join("\n  ")
        )
    };
    plan::read_programs(&mut file).map_err(wrong)?;
    let tables = plan::table_sources(&file)
        .read(&Requests::default())
        .map_err(wrong)?;
    Plan::new(&file, tables, memory::there()).map_err(wrong)
}

/// Opens an output for a command: its client tries again, and nobody asks what that came to.
pub async fn open(output: &Output) -> Store {
    open_store(output, Retries::Client, &Requests::default()).await
}

/// A line that counts on a terminal, and nothing in a pipe.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    count: u64,
    shown: bool,
}

impl Progress {
    /// Counts `what`.
    pub fn new(what: &'static str) -> Self {
        Self {
            what,
            count: 0,
            shown: std::io::stderr().is_terminal(),
        }
    }

    /// One more.
    pub fn step(&mut self) {
        self.count += 1;
        if self.shown && self.count.is_multiple_of(1000) {
            self.show(&format!("\r{} {}", self.count, self.what));
        }
    }

    fn show(&mut self, text: &str) {
        // A terminal that is gone is no reason to stop.
        self.shown = std::io::stderr().write_all(text.as_bytes()).is_ok();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown && self.count >= 1000 {
            self.show("\r\u{1b}[K");
        }
    }
}

/// Prints to standard output. A reader that went away (`| head`) is no error.
///
/// # Errors
/// Standard output cannot be written.
pub fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
