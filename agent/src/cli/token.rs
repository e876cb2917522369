//! `headwater-agent token`: prints a token for MSK's IAM, from the configured credentials or from
//! those that AWS's tools would find here. For other Kafka clients, and to compare signers.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use headwater_msk::cluster;
use headwater_msk::credentials::chain::ChainSource;
use headwater_msk::credentials::clock::Corrected;
use headwater_msk::credentials::{CredentialSource, Fetched};
use headwater_msk::security::session_name_from;
use headwater_msk::token::{self, Parts, check_region};
use jiff::Timestamp;

use crate::config::{ConfigFile, Host, Plan};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Configuration whose credentials are used; without one, AWS's credential chain.
    pub config: Option<&'a Path>,
    /// The cluster's region; the configuration's without one.
    pub region: Option<&'a str>,
    /// Signing time; now without one.
    pub at: Option<Timestamp>,
    /// Show what the token says instead of the token.
    pub decode: bool,
}

/// Prints a token on standard output, or its parts. Whoever reads a token can connect with it for up
/// to 15 minutes.
///
/// # Errors
/// There are no credentials, with the reason; or the configuration is refused, or not for IAM.
pub fn run(request: Request<'_>) -> anyhow::Result<ExitCode> {
    let (region, source) = source(request)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let fetched = runtime
        .block_on(source.fetch())
        .with_context(|| format!("no credentials from {}", source.name()));
    // The causes are part of what has to be said here.
    let fetched = fetched.map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let signing_time = match request.at {
        Some(at) => {
            SystemTime::UNIX_EPOCH
                + Duration::try_from(at.as_duration()).context("--at lies before 1970")?
        }
        None => now(&fetched)?,
    };
    let token = token::sign(&region, &fetched.credentials, signing_time)?;
    let mut out = std::io::stdout().lock();
    if request.decode {
        write!(
            out,
            "{}",
            shown(&token::decode(&token.text)?, token.expires)?
        )?;
    } else {
        writeln!(out, "{}", &*token.text)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn source(request: Request<'_>) -> anyhow::Result<(String, Box<dyn CredentialSource>)> {
    let Some(path) = request.config else {
        let Some(region) = request.region else {
            bail!("name the cluster's region with --region, or a configuration with --config");
        };
        check_region(region)?;
        let source = ChainSource::new(region, &session_name_from("headwater"));
        return Ok((region.to_owned(), Box::new(source)));
    };
    let file: ConfigFile = headwater_msk::config_file::read(path)?;
    let plan = Plan::new(file, &Host::read()).map_err(|problems| {
        let list: Vec<_> = problems
            .iter()
            .map(|problem| format!("  {problem}"))
            .collect();
        anyhow::anyhow!(
            "configuration {} is refused:\n{}",
            path.display(),
            list.join("\n")
        )
    })?;
    let found = cluster::source(&plan.kafka, &plan.credentials, plan.device.as_str());
    let Some((region, source)) = found else {
        bail!(
            "{}: kafka.security.mode is not \"iam\", and only that has tokens",
            path.display()
        );
    };
    Ok((request.region.map_or(region, str::to_owned), source))
}

/// Now, by the clock of who gave the credentials where that is known.
fn now(fetched: &Fetched) -> anyhow::Result<SystemTime> {
    let mut clock = Corrected::default();
    if let Some((wall, server)) = fetched.said {
        clock.learn(wall, server);
    }
    Ok(clock.signing_time(headwater_msk::clock::now().wall)?)
}

fn shown(parts: &Parts, expires: SystemTime) -> anyhow::Result<String> {
    let session_token = match parts.session_token_bytes {
        Some(bytes) => format!("{bytes} bytes (not shown)"),
        None => "none: long-term keys".to_owned(),
    };
    let since = expires.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let expires_at = Timestamp::from_second(i64::try_from(since)?)?;
    let lines = [
        ("for", parts.host.clone()),
        ("action", parts.action.clone()),
        ("algorithm", parts.algorithm.clone()),
        ("access key", parts.key_id.clone()),
        ("scope", parts.scope.clone()),
        ("signed headers", parts.signed_headers.clone()),
        ("signed at", parts.date.clone()),
        (
            "lifetime",
            format!("{} s, until {expires_at}", parts.expires),
        ),
        ("session token", session_token),
        ("signer", parts.user_agent.clone()),
    ];
    Ok(lines
        .iter()
        .map(|(name, value)| format!("{name:<15}{value}\n"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_shown_and_nothing_that_opens_a_door() {
        let credentials = aws_credential_types::Credentials::new(
            "AKIDEXAMPLE",
            "s3cret",
            Some("t0ken".into()),
            None,
            "test",
        );
        let at: Timestamp = "2026-11-24T08:15:00Z".parse().unwrap();
        let at = Duration::try_from(at.as_duration()).unwrap();
        let token = token::sign("eu-west-1", &credentials, SystemTime::UNIX_EPOCH + at).unwrap();
        let text = shown(&token::decode(&token.text).unwrap(), token.expires).unwrap();
        for part in [
            "kafka.eu-west-1.amazonaws.com",
            "AKIDEXAMPLE",
            "20261124T081500Z",
            "900 s, until 2026-11-24T08:30:00Z",
            "5 bytes (not shown)",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(
            !text.contains("t0ken") && !text.contains("s3cret"),
            "{text}"
        );
    }

    #[test]
    fn a_region_or_a_configuration_is_needed() {
        let request = Request {
            config: None,
            region: None,
            at: None,
            decode: false,
        };
        assert!(run(request).unwrap_err().to_string().contains("--region"));
        let wrong = Request {
            region: Some("Europe"),
            ..request
        };
        assert!(
            run(wrong)
                .unwrap_err()
                .to_string()
                .contains("not an AWS region")
        );
    }
}
