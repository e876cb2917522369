//! Other people's programs in Python: readers for what the loader wrote, AWS's own signer, S3
//! servers. Each set of packages is installed once, from the package index, at pinned versions, into
//! a virtual environment in the cache outside the tree. A test that cannot install one fails.

use crate::kafka::jars::kept;
use crate::outside::say;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A virtual environment: packages, pinned (a test that changes overnight proves nothing).
#[derive(Debug)]
pub struct Environment {
    /// Begins the name of its folder in the cache.
    name: &'static str,
    packages: &'static [&'static str],
    megabytes: u32,
}

/// DuckDB and pyarrow.
pub const READERS: Environment = Environment {
    name: "readers",
    packages: &["duckdb==2.0.1", "pyarrow==26.0.1"],
    megabytes: 100,
};

/// AWS's own signer for MSK.
pub(crate) const SIGNER: Environment = Environment {
    name: "signer",
    packages: &["aws-msk-iam-sasl-signer-python==1.0.2", "boto3==1.44.8"],
    megabytes: 15,
};

/// Servers that others wrote, of S3 and DynamoDB: moto and MiniStack; and boto3, which moto brings.
pub(crate) const STORES: Environment = Environment {
    name: "stores",
    packages: &[
        "moto[s3]==5.2.5",
        "flask==3.1.3",
        "flask-cors==6.0.5",
        "ministack==1.5.33",
    ],
    megabytes: 45,
};

impl Environment {
    /// Runs a script with arguments and returns what it printed.
    ///
    /// # Panics
    /// If there is no Python, its packages cannot be installed, or the script fails: with its words.
    pub fn run(&self, script: &Path, arguments: &[&str]) -> String {
        let run = || {
            let output = must(Command::new(self.python()?).arg(script).args(arguments))?;
            Ok::<_, anyhow::Error>(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        run().unwrap_or_else(|error| panic!("{}: {error:#}", script.display()))
    }

    /// The interpreter that has the packages, after installing them if need be.
    pub(crate) fn python(&self) -> Result<PathBuf> {
        let mut name = format!("python-{}", self.name);
        for package in self.packages {
            name.push('-');
            name.push_str(&package.replace("[s3]", "").replace("==", "-"));
        }
        Ok(kept(&name, |folder| self.install(folder))?.join("venv/bin/python"))
    }

    fn install(&self, folder: &Path) -> Result<()> {
        say(&format!(
            "installing {} into the cache ({} MB, once)",
            self.packages.join(", "),
            self.megabytes
        ));
        let venv = folder.join("venv");
        must(Command::new("python3").args(["-m", "venv"]).arg(&venv))
            .context("the tests need Python 3 with venv (Debian: python3-venv)")?;
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ];
        must(
            Command::new(venv.join("bin/python"))
                .args(pip)
                .args(self.packages),
        )
        .context("the tests fetch it from the Python package index, once")?;
        Ok(())
    }
}

/// Runs a command to its end; one that fails is an error with its words.
pub(crate) fn must(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}
