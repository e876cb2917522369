//! `credential_process` of a profile: a program that prints temporary credentials, as AWS's helper for
//! IAM Roles Anywhere does.
//!
//! ```text
//!   sh -c '<credential_process>'    a process group of its own
//!     stdout  {"Version":1,"AccessKeyId":"…","SecretAccessKey":"…","SessionToken":"…",
//!              "Expiration":"2026-11-24T09:15:00Z"}
//!     stderr  what is wrong, where the status is not 0
//! ```
//!
//! It is run here and not by `aws-config`, which waits for a program however long it takes, lets it run
//! on when nobody waits any more, and reads whatever it prints. Here a program that is late, that
//! prints too much, or whose credentials nobody waits for any more is killed with all its children.
//!
//! Source: AWS SDKs and Tools reference guide, "Process credential provider".

use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use super::secret::Secret;
use super::source::SourceError;

/// How long a program may take: less than the chain as a whole, so that it is named.
const PATIENCE: Duration = Duration::from_secs(25);
/// The most that is read of what it prints. Credentials have about 1.1 KB.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// How much of its standard error is shown.
const SAID_CHARS_MAX: usize = 200;

/// Runs a program and takes the credentials that it prints.
///
/// # Errors
/// It does not start, is late, fails, or prints something else. No error holds anything of its output.
pub(super) async fn run(command: &str) -> Result<Credentials, SourceError> {
    run_within(command, PATIENCE).await
}

async fn run_within(command: &str, patience: Duration) -> Result<Credentials, SourceError> {
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", command])
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = Command::from(shell)
        .spawn()
        .map_err(|error| failed(format!("cannot be started: {error}")))?;
    let mut group = Group(child);
    tokio::time::timeout(patience, group.output())
        .await
        .map_err(|_| {
            let seconds = patience.as_secs();
            failed(format!(
                "was still running after {seconds} s and was killed; does it wait for a network?"
            ))
        })?
}

fn failed(what: String) -> SourceError {
    SourceError::Setup(format!("profile: its credential_process {what}"))
}

/// A program and all that it has started. Dropped before it has ended, all of it is killed.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // None once its end was waited for: until then nobody else can have its number.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(Pid::from_raw)
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            tracing::warn!(%error, "cannot kill a credential_process");
        }
    }
}

impl Group {
    async fn output(&mut self) -> Result<Credentials, SourceError> {
        let (stdout, stderr) = (self.0.stdout.take(), self.0.stderr.take());
        // Both at once: a program that fills one pipe would wait for ever.
        let (printed, said) = tokio::try_join!(read(stdout), read(stderr))?;
        let status = (self.0.wait().await).map_err(|error| failed(error.to_string()))?;
        if !status.success() {
            let said: String = (String::from_utf8_lossy(&said).trim())
                .chars()
                .take(SAID_CHARS_MAX)
                .collect();
            return Err(failed(format!("ended with {status}: {said:?}")));
        }
        parse(&printed)
    }
}

async fn read(from: Option<impl AsyncRead + Unpin>) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    // All at once, and some more so that it is never grown: that would leave copies of the secret.
    let mut bytes = Zeroizing::new(Vec::with_capacity(OUTPUT_BYTES_MAX + 4096));
    if let Some(from) = from {
        let most = u64::try_from(OUTPUT_BYTES_MAX).unwrap_or(u64::MAX);
        (from.take(most + 1).read_to_end(&mut bytes))
            .await
            .map_err(|error| failed(format!("cannot be read: {error}")))?;
    }
    match bytes.len() <= OUTPUT_BYTES_MAX {
        true => Ok(bytes),
        false => Err(failed("prints more than 64 KiB".to_owned())),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    version: u32,
    access_key_id: Secret,
    secret_access_key: Secret,
    session_token: Option<Secret>,
    expiration: Option<String>,
}

/// The credentials in what a program printed.
///
/// # Errors
/// [`SourceError::Setup`], which quotes nothing of it.
pub fn parse(printed: &[u8]) -> Result<Credentials, SourceError> {
    // Not serde's words: they may quote the secret.
    let other = || failed("prints something other than the documented JSON".to_owned());
    let given: Printed = serde_json::from_slice(printed).map_err(|_| other())?;
    if given.version != 1 {
        return Err(failed("prints another Version than 1".to_owned()));
    }
    let is_empty = given.access_key_id.is_empty()
        || given.secret_access_key.is_empty()
        || (given.session_token.as_ref()).is_some_and(Secret::is_empty);
    if is_empty {
        return Err(other());
    }
    let expiry = given.expiration.as_deref().map(|text| {
        let time = DateTime::from_str(text, Format::DateTimeWithOffset).ok();
        (time.and_then(|time| time.try_into().ok()))
            .ok_or_else(|| failed("prints an Expiration that is no time".to_owned()))
    });
    Ok(Credentials::new(
        given.access_key_id.take(),
        given.secret_access_key.take(),
        given.session_token.map(Secret::take),
        expiry.transpose()?,
        "CredentialProcess",
    ))
}

#[cfg(test)]
mod tests;
