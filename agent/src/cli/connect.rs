//! `headwater-agent check --connect`: walks the way to the topic step by step, and says at which step
//! it ends and why, in words for the person who set it up.
//!
//! ```text
//!   clock ─ credentials ─ names ─ tls ─ authentication ─ describe ─ write ─ (read)
//! ```
//!
//! Each step is tried only after the one before it, since its failure would be a consequence.
//! *write* sends one record, idempotently and with `acks=all`, as the agent does: a notice that an
//! empty file of the stream `<device>/check/connect` was closed. It takes no row in S3; `audit` lists
//! the stream, complete. *read* is what the loader needs; an agent is well without it.

mod broker;

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use headwater_msk::Cluster;
use headwater_msk::cluster;
use headwater_msk::credentials::clock::Corrected;
use headwater_msk::http::{self, HttpError, Tls};
use headwater_msk::security::Mode;

use crate::config::Plan;
use broker::Broker;

/// For one connection with its handshake.
const CONNECT: Duration = Duration::from_secs(10);

/// Why a step failed, in words.
type Why = String;

/// The walk: prints a line for each step.
struct Walk<'a, W> {
    out: &'a mut W,
    plan: &'a Plan,
}

/// Walks the way that `plan` describes and prints each step as a comment. `true` where an agent would
/// deliver.
///
/// # Errors
/// The output cannot be written, or the system gives no runtime.
pub(super) fn run(plan: &Plan, out: &mut impl Write) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let mut walk = Walk { out, plan };
    let steps = [
        "clock",
        "credentials",
        "names",
        "tls",
        "authentication",
        "describe",
        "write",
        "read",
    ];
    let failed = runtime.block_on(walk.until_tls())?;
    // A resolver that does not answer must not hold up the end.
    runtime.shutdown_background();
    let failed = match failed {
        Some(step) => Some(step),
        None => walk.after_tls()?,
    };
    let after = steps.iter().skip_while(|step| Some(**step) != failed);
    for step in after.skip(1) {
        writeln!(walk.out, "# connect: {step:<15}not tried")?;
    }
    Ok(failed.is_none())
}

impl<W: Write> Walk<'_, W> {
    /// Prints how a step went; returns its name where it failed.
    fn step(
        &mut self,
        name: &'static str,
        went: Result<String, Why>,
    ) -> io::Result<Option<&'static str>> {
        let (word, text) = match &went {
            Ok(text) => ("ok", text),
            Err(text) => ("FAILED", text),
        };
        // What others said is in it: no line break may end the comment.
        let text = text.replace(['\n', '\r'], " ");
        writeln!(self.out, "# connect: {name:<15}{word:<8}{text}")?;
        Ok(went.is_err().then_some(name))
    }

    async fn until_tls(&mut self) -> io::Result<Option<&'static str>> {
        let clock = Corrected::default();
        let wall = headwater_msk::clock::now().wall;
        let went = clock.signing_time(wall);
        let went = went.map(|_| "set".to_owned()).map_err(|e| e.to_string());
        if let Some(failed) = self.step("clock", went)? {
            return Ok(Some(failed));
        }
        let went = credentials(self.plan, wall).await;
        if let Some(failed) = self.step("credentials", went)? {
            return Ok(Some(failed));
        }
        let went = names(&self.plan.kafka.brokers).await;
        if let Some(failed) = self.step("names", went)? {
            return Ok(Some(failed));
        }
        let went = tls(self.plan).await;
        self.step("tls", went)
    }

    /// These steps are librdkafka's, as the agent's own.
    fn after_tls(&mut self) -> anyhow::Result<Option<&'static str>> {
        let plan = self.plan;
        let opened = Cluster::open(&plan.kafka, &plan.credentials, plan.device.as_str());
        let broker = opened
            .map_err(|error| error.to_string())
            .and_then(|cluster| Broker::connect(&cluster, plan));
        let broker = match broker {
            Ok(broker) => broker,
            Err(why) => return Ok(self.step("authentication", Err(why))?),
        };
        let went = broker.authenticate();
        if let Some(failed) = self.step("authentication", went)? {
            return Ok(Some(failed));
        }
        let went = broker.describe();
        if let Some(failed) = self.step("describe", went)? {
            return Ok(Some(failed));
        }
        let went = broker.write(&plan.device);
        if let Some(failed) = self.step("write", went)? {
            return Ok(Some(failed));
        }
        match broker.read() {
            Ok(text) => self.step("read", Ok(text))?,
            Err(why) => {
                let text = format!("{why}; an agent is well without it, the loader is not");
                writeln!(self.out, "# connect: {:<15}{:<8}{text}", "read", "no")?;
                None
            }
        };
        Ok(None)
    }
}

/// Credentials, or the files that take their place.
async fn credentials(plan: &Plan, wall: SystemTime) -> Result<String, Why> {
    let security = &plan.kafka.security;
    let source = cluster::source(&plan.kafka, &plan.credentials, plan.device.as_str());
    let Some((region, source)) = source else {
        for file in [&security.key, &security.password_file]
            .into_iter()
            .flatten()
        {
            file.path().map_err(|error| error.to_string())?;
        }
        return Ok(match security.mode {
            Mode::Plaintext | Mode::Tls => "none are needed in this mode".to_owned(),
            _ => "the file of the secret is there, and only its owner can read it".to_owned(),
        });
    };
    let fetched = source.fetch().await;
    let fetched = fetched.map_err(|error| format!("{}: {error}", source.name()))?;
    let key_id = fetched.credentials.access_key_id();
    let mut text = format!("access key {key_id} by {}, for {region}", source.name());
    if let Some(expiry) = fetched.credentials.expiry() {
        let server = fetched.said.map_or(wall, |(_, server)| server);
        let left = expiry.duration_since(server).unwrap_or_default().as_secs();
        text.push_str(&format!("; they end in {left} s"));
        if left < 60 {
            return Err(format!(
                "{text}: too soon; MSK answers \"Session too short\" to such"
            ));
        }
    }
    if let Some((wall, server)) = fetched.said {
        let mut clock = Corrected::default();
        clock.learn(wall, server);
        let offset_s = clock.offset_ms().unwrap_or(0) / 1000;
        if offset_s.abs() > 5 {
            text.push_str(&format!(
                "; this device's clock is off by {offset_s} s (AWS's less ours): it is corrected for, but set it"
            ));
        }
    }
    Ok(text)
}

async fn names(brokers: &[String]) -> Result<String, Why> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for broker in brokers {
        match tokio::time::timeout(CONNECT, tokio::net::lookup_host(broker)).await {
            Ok(Ok(addresses)) => {
                let all: Vec<_> = addresses.map(|address| address.ip().to_string()).collect();
                found.push(format!("{broker} is {}", all.join(", ")));
            }
            Ok(Err(error)) => missing.push(format!("{broker}: {error}")),
            Err(_) => missing.push(format!("{broker}: the resolver does not answer")),
        }
    }
    match (found.is_empty(), missing.is_empty()) {
        (true, _) => Err(format!(
            "{}; is the name right, and is there a network and DNS? Names of an MSK cluster resolve everywhere, to private addresses",
            missing.join("; ")
        )),
        (false, true) => Ok(found.join("; ")),
        (false, false) => Ok(format!(
            "{}; but not {}",
            found.join("; "),
            missing.join("; ")
        )),
    }
}

/// One broker that answers is enough: it tells of the others.
async fn tls(plan: &Plan) -> Result<String, Why> {
    let security = &plan.kafka.security;
    let own = security.certificate.as_deref().zip(security.key.as_ref());
    let tls = match security.mode {
        Mode::Plaintext => None,
        _ => Some(Tls::new(security.ca.as_deref(), own).map_err(|error| error.to_string())?),
    };
    let mut whys = Vec::new();
    for broker in &plan.kafka.brokers {
        match tokio::time::timeout(CONNECT, reach(broker, tls.as_ref())).await {
            Ok(Ok(text)) => return Ok(text),
            Ok(Err(error)) => whys.push(error.to_string()),
            Err(_) => whys.push(format!(
                "{broker} does not answer within {} s; does a firewall, security group or route stand in the way, or is it the private address of a cluster in a VPC that this device is not in?",
                CONNECT.as_secs()
            )),
        }
    }
    Err(whys.join("; "))
}

async fn reach(broker: &str, tls: Option<&Tls>) -> Result<String, HttpError> {
    let bad = || HttpError::Url(broker.to_owned());
    let (host, port) = broker.rsplit_once(':').ok_or_else(bad)?;
    let stream = http::connect(host, port.parse().map_err(|_| bad())?).await?;
    let Some(tls) = tls else {
        return Ok(format!(
            "{broker} takes connections; nothing is encrypted in this mode"
        ));
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let secure = tls.connect(host, stream).await?;
    let version = secure.ssl().version_str();
    Ok(format!(
        "{broker} shows a certificate for its name that is trusted ({version})"
    ))
}
