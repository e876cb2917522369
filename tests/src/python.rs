//! A Python with DuckDB and pyarrow: other people's readers for what the loader wrote. Installed
//! once, from PyPI, into a virtual environment in the cache outside the tree.

use crate::kafka::cache;
use crate::outside::say;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Readers, and the versions that the tests were written with.
const PACKAGES: [&str; 2] = ["duckdb==2.0.1", "pyarrow==26.0.1"];

/// Runs a script with arguments and returns what it printed.
///
/// # Panics
/// If there is no Python, its packages cannot be installed, or the script fails: with its words.
pub fn run(script: &Path, arguments: &[&str]) -> String {
    try_run(script, arguments).unwrap_or_else(|error| panic!("{}: {error:#}", script.display()))
}

fn try_run(script: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(python()?)
        .arg(script)
        .args(arguments)
        .output()
        .context("cannot run python")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn python() -> Result<PathBuf> {
    let cache = cache()?;
    let ready = cache.join(format!("python-{}", PACKAGES.join("-").replace("==", "-")));
    let interpreter = ready.join("bin/python");
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let lock = File::create(cache.join("python.lock")).context("cannot create python.lock")?;
    lock.lock().context("cannot lock python.lock")?;
    // The mark is written last: a half-made environment is made again.
    if !ready.join("complete").is_file() {
        say(&format!(
            "installing {} into {} (100 MB, once)",
            PACKAGES.join(" and "),
            ready.display()
        ));
        must(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&ready),
        )?;
        must(
            Command::new(&interpreter)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                ])
                .args(PACKAGES),
        )?;
        fs::write(ready.join("complete"), "").context("cannot mark the environment complete")?;
    }
    Ok(interpreter)
}

fn must(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}; is python3-venv installed?"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
