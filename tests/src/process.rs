//! The two binaries as a test runs them: in a folder of their own, killed, paused, started again.
//!
//! `{dir}` in a configuration stands for the process's folder, which stays over a restart: state and
//! spool belong there. Output goes to files; when the test fails, its end is printed and the folder
//! kept. A process cannot outlive the test (see `child.rs`).

use crate::child::Child;
use crate::folder::Folder;
use crate::outside::{say, var};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// How long a run to completion may take.
const RUN_TIMEOUT: Duration = Duration::from_secs(120);

/// How many lines of output a failed test shows.
const TAIL_LINES: usize = 40;

/// The variable that arms a crash point: `name`, or `name:nth`.
pub const CRASH_POINT: &str = "HEADWATER_CRASH_POINT";

/// `headwater-agent`.
#[derive(Debug)]
pub enum Agent {}

/// `headwater-loader`.
#[derive(Debug)]
pub enum Loader {}

impl Agent {
    /// Starts `headwater-agent run` with this configuration.
    pub fn start(config: &str) -> Process {
        Self::with(config).start()
    }

    /// Prepares a `headwater-agent` in a folder of its own.
    pub fn with(config: &str) -> Setup {
        Setup::new("headwater-agent", config)
    }
}

impl Loader {
    /// Starts `headwater-loader run` with this configuration.
    pub fn start(config: &str) -> Process {
        Self::with(config).start()
    }

    /// Prepares a `headwater-loader` in a folder of its own.
    pub fn with(config: &str) -> Setup {
        Setup::new("headwater-loader", config)
    }
}

/// A binary, its folder and its environment, not running.
#[derive(Debug)]
pub struct Setup {
    binary: &'static str,
    /// Where the binary lies, if not where [`binary_path`] looks.
    bin_dir: Option<PathBuf>,
    /// What starts it: words that stand before its name.
    under: Vec<String>,
    folder: Folder,
    env: Vec<(String, String)>,
    runs: u32,
}

/// What a run to completion left.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

impl Setup {
    fn new(binary: &'static str, config: &str) -> Self {
        let folder = Folder::new(binary).unwrap_or_else(|error| panic!("{error:#}"));
        let setup = Self {
            binary,
            bin_dir: None,
            under: Vec::new(),
            folder,
            env: Vec::new(),
            runs: 0,
        };
        setup.set_config(config);
        setup
    }

    /// Takes the binary from this folder: another version, for a test of an upgrade.
    #[must_use]
    pub fn found_in(mut self, folder: &Path) -> Self {
        self.bin_dir = Some(folder.to_owned());
        self
    }

    /// Has another command start the binary: these words stand before its name, as in a shell. The
    /// command must become the binary (`exec`), since its process is the one that is signalled.
    #[must_use]
    pub fn under(mut self, words: &[&str]) -> Self {
        self.under = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Adds a variable to the environment of every following start.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds several variables, such as [`S3::env`](crate::s3::S3::env).
    #[must_use]
    pub fn envs<K: Into<String>>(mut self, pairs: impl IntoIterator<Item = (K, String)>) -> Self {
        let pairs = pairs.into_iter().map(|(name, value)| (name.into(), value));
        self.env.extend(pairs);
        self
    }

    /// Arms a crash point for the next start: the process dies there by itself.
    #[must_use]
    pub fn crash_at(self, point: &str) -> Self {
        self.env(CRASH_POINT, point)
    }

    /// The folder that `{dir}` stands for.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// Replaces the configuration file.
    pub fn set_config(&self, config: &str) {
        let dir = self.dir().to_string_lossy();
        fs::write(self.config_path(), config.replace("{dir}", &dir))
            .expect("a configuration can be written");
    }

    /// Starts `<binary> run --config <file>`.
    ///
    /// # Panics
    /// If the binary is not there.
    pub fn start(self) -> Process {
        self.start_as("run")
    }

    /// Starts `<binary> <command> --config <file>`.
    ///
    /// # Panics
    /// If the binary is not there.
    pub fn start_as(mut self, command: &str) -> Process {
        self.runs += 1;
        let child = self
            .spawn(command, &[])
            .unwrap_or_else(|error| panic!("cannot start {}: {error:#}", self.binary));
        // A crash point is for one start: the one after it must get past that place.
        self.env.retain(|(name, _)| name != CRASH_POINT);
        Process { child, setup: self }
    }

    /// Runs `<binary> <command> --config <file> [more…]` to its end: `check`, `audit`, `verify`.
    ///
    /// # Panics
    /// If the binary is not there, or does not end within two minutes.
    pub fn run(&mut self, command: &str, more: &[&str]) -> Finished {
        self.runs += 1;
        self.try_run(command, more)
            .unwrap_or_else(|error| panic!("cannot run {} {command}: {error:#}", self.binary))
    }

    fn try_run(&self, command: &str, more: &[&str]) -> Result<Finished> {
        let child = self.spawn(command, more)?;
        let Some(status) = child.wait(RUN_TIMEOUT)? else {
            child.kill()?;
            bail!("no end after {RUN_TIMEOUT:?}:\n{}", self.output_tail());
        };
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        Ok(Finished {
            code: status.code(),
            stdout: read(self.output_path("stdout")),
            stderr: read(self.output_path("stderr")),
        })
    }

    fn spawn(&self, command: &str, more: &[&str]) -> Result<Child> {
        let open = |kind: &str| {
            let path = self.output_path(kind);
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))
        };
        let binary = binary_path(self.binary, self.bin_dir.as_deref())?;
        let mut process = match self.under.split_first() {
            None => Command::new(binary),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(binary);
                command
            }
        };
        process
            .args(command.split(' '))
            .arg("--config")
            .arg(self.config_path())
            .args(more)
            .env_remove(CRASH_POINT)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir())
            .stdout(open("stdout")?)
            .stderr(open("stderr")?);
        Child::spawn(self.binary, &mut process, Some(self.dir()))
    }

    fn config_path(&self) -> PathBuf {
        self.dir().join("config.toml")
    }

    /// Each run has output files of its own.
    fn output_path(&self, kind: &str) -> PathBuf {
        self.dir().join(format!("run-{}.{kind}", self.runs))
    }

    fn output_tail(&self) -> String {
        let mut text = String::new();
        for kind in ["stdout", "stderr"] {
            let path = self.output_path(kind);
            let bytes = fs::read(&path).unwrap_or_default();
            let output = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = output.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
            text.push_str(&format!(
                "--- {kind} of {}, run {}\n",
                self.binary, self.runs
            ));
            for line in tail {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }
}

/// Where a binary lies.
///
/// # Panics
/// If it was not built.
pub fn binary(name: &str) -> PathBuf {
    binary_path(name, None).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Finds a binary: in `HEADWATER_BIN_DIR`, else beside the folder of the running test.
fn binary_path(name: &str, bin_dir: Option<&Path>) -> Result<PathBuf> {
    let chosen = bin_dir.map(Path::to_owned);
    let folder = match chosen.or_else(|| var("HEADWATER_BIN_DIR").map(PathBuf::from)) {
        Some(folder) => folder,
        None => {
            let test = std::env::current_exe().context("cannot find the running test")?;
            let folder = test.parent().context("the running test lies nowhere")?;
            // target/debug/deps/<test>, or target/debug/<demonstration>.
            let above = folder.parent().filter(|_| folder.ends_with("deps"));
            above.unwrap_or(folder).to_owned()
        }
    };
    let path = folder.join(name);
    if !path.is_file() {
        bail!("{} is not there: run `make test`", path.display());
    }
    Ok(path)
}

/// A running binary, or one that has ended.
#[derive(Debug)]
pub struct Process {
    // Before `setup`: it is killed before its folder goes.
    child: Child,
    setup: Setup,
}

impl Process {
    /// Kills it with SIGKILL, as a power cut would, less the page cache.
    pub fn kill9(&self) {
        self.must("kill", self.child.kill());
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// If it has ended already, or does not end within `timeout`.
    pub fn sigterm_and_wait(&self, timeout: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(timeout)
    }

    /// Waits for an end that comes by itself: a crash point, a refused configuration.
    ///
    /// # Panics
    /// If it does not end within `timeout`.
    pub fn wait(&self, timeout: Duration) -> ExitStatus {
        let status = self.must("wait for", self.child.wait(timeout));
        status.unwrap_or_else(|| panic!("{} still runs after {timeout:?}", self.setup.binary))
    }

    /// Stops its clock (SIGSTOP), every thread of it: a hung machine, a zombie to be.
    pub fn pause(&self) {
        self.must("pause", self.child.pause());
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends SIGHUP: reload.
    pub fn sighup(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends SIGUSR1: write what is open.
    pub fn sigusr1(&self) {
        self.signal(Signal::USR1);
    }

    /// True while it runs, paused or not.
    pub fn is_running(&self) -> bool {
        self.must("look at", self.child.status()).is_none()
    }

    /// Starts it again in the same folder, with the same configuration and no crash point; kills it
    /// first if it still runs.
    #[must_use]
    pub fn restart(self) -> Self {
        self.stopped().start()
    }

    /// Kills it if it still runs, and gives its folder and environment back: to change the
    /// configuration, arm a crash point, or run `audit`.
    pub fn stopped(self) -> Setup {
        self.kill9();
        self.setup
    }

    /// The folder that `{dir}` stands for.
    pub fn dir(&self) -> &Path {
        self.setup.dir()
    }

    /// Replaces the configuration file; see [`sighup`](Self::sighup).
    pub fn set_config(&self, config: &str) {
        self.setup.set_config(config);
    }

    /// The process id, for what `/proc` tells beyond this.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// All it has said on standard error in this run.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.setup.output_path("stderr")).unwrap_or_default()
    }

    /// All it has said on standard output in this run.
    pub fn stdout(&self) -> String {
        fs::read_to_string(self.setup.output_path("stdout")).unwrap_or_default()
    }

    /// Resident memory in KiB (`VmRSS`).
    pub fn rss_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The highest resident memory so far in KiB (`VmHWM`).
    pub fn rss_kib_max(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// CPU time used so far, user and system, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = self.proc("stat");
        // The name in parentheses may hold spaces; utime and stime are fields 14 and 15 of all.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        let ticks = after.split_whitespace().skip(11).take(2);
        let ticks: u32 = ticks.filter_map(|field| field.parse::<u32>().ok()).sum();
        let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100);
        f64::from(ticks) / f64::from(per_second)
    }

    /// Bytes it caused to be written to storage, as the kernel counts them (`write_bytes`).
    pub fn io_write_bytes(&self) -> u64 {
        number_after(&self.proc("io"), "write_bytes:")
    }

    fn status_kib(&self, name: &str) -> u64 {
        number_after(&self.proc("status"), name)
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.pid());
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
    }

    fn signal(&self, signal: Signal) {
        self.must("signal", self.child.signal(signal));
    }

    fn must<T>(&self, verb: &str, result: Result<T>) -> T {
        result.unwrap_or_else(|error| panic!("cannot {verb} {}: {error:#}", self.setup.binary))
    }
}

/// Returns the number behind `name` at the beginning of a line of a `/proc` file.
fn number_after(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in /proc"))
}

impl Drop for Setup {
    fn drop(&mut self) {
        if std::thread::panicking() && self.runs > 0 {
            say(&self.output_tail());
        }
    }
}

mod ask;
mod sockets;
#[cfg(test)]
mod tests;

pub use ask::Asking;
