//! AWS's own signer for MSK, in Python, as it is published: a black box to compare with.
//!
//! Installed once, see [`python`](crate::python).

use crate::python::{SIGNER, must};
use anyhow::{Context, Result};
use std::process::Command;

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
    let output = must(
        Command::new(SIGNER.python()?)
            .args(["-c", script, region])
            .env_remove("AWS_SESSION_TOKEN")
            .envs(keys.env()),
    )?;
    let text = String::from_utf8(output.stdout).context("its output is no text")?;
    let (token, expires) = text
        .trim()
        .split_once(' ')
        .context("it prints a token and its end")?;
    Ok((token.to_owned(), expires.parse()?))
}
