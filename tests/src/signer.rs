//! AWS's own signer for MSK, in Python, as it is published: a black box to compare with.
//!
//! Installed once into a virtual environment in the cache, outside the tree, at the version below. A
//! test that cannot install it fails, and says what to do.

use crate::kafka::jars::kept;
use crate::outside::say;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package and its version, pinned: a test that changes overnight proves nothing.
const PACKAGE: &str = "aws-msk-iam-sasl-signer-python";
const VERSION: &str = "1.0.2";
/// What it signs with.
const BOTOCORE: &str = "boto3==1.44.8";

/// AWS credentials as the environment names them.
#[derive(Debug, Clone)]
pub struct Keys {
    /// `AWS_ACCESS_KEY_ID`
    pub id: String,
    /// `AWS_SECRET_ACCESS_KEY`
    pub secret: String,
    /// `AWS_SESSION_TOKEN`
    pub session_token: Option<String>,
}

impl Keys {
    /// As variables of an environment.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let mut env = vec![
            ("AWS_ACCESS_KEY_ID", self.id.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secret.clone()),
        ];
        env.extend(
            self.session_token
                .clone()
                .map(|token| ("AWS_SESSION_TOKEN", token)),
        );
        env
    }
}

/// A token of AWS's signer, and its end in milliseconds since 1970.
///
/// # Panics
/// If it cannot be installed or run.
pub fn token(region: &str, keys: &Keys) -> (String, i64) {
    try_token(region, keys).unwrap_or_else(|error| panic!("cannot run AWS's signer: {error:#}"))
}

fn try_token(region: &str, keys: &Keys) -> Result<(String, i64)> {
    let script = "import sys; from aws_msk_iam_sasl_signer import MSKAuthTokenProvider as p; \
                  print(*p.generate_auth_token(sys.argv[1]))";
    let output = Command::new(python()?)
        .args(["-c", script, region])
        .env_remove("AWS_SESSION_TOKEN")
        .envs(keys.env())
        .output()
        .context("cannot start Python")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout).context("its output is no text")?;
    let (token, expires) = text
        .trim()
        .split_once(' ')
        .context("it prints a token and its end")?;
    Ok((token.to_owned(), expires.parse()?))
}

/// The interpreter of the environment that has the signer.
fn python() -> Result<PathBuf> {
    let name = format!("{PACKAGE}-{VERSION}");
    Ok(kept(&name, install)?.join("venv/bin/python"))
}

fn install(folder: &Path) -> Result<()> {
    say(&format!(
        "installing {PACKAGE} {VERSION} into the cache (15 MB, once)"
    ));
    let venv = folder.join("venv");
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        .context("the tests need Python 3 with venv (Debian: python3-venv)")?;
    let package = format!("{PACKAGE}=={VERSION}");
    let pip = ["-m", "pip", "install", "--quiet", &package, BOTOCORE];
    run(Command::new(venv.join("bin/python")).args(pip))
        .context("the tests fetch AWS's signer from the Python package index, once")
}

fn run(command: &mut Command) -> Result<()> {
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
    Ok(())
}
