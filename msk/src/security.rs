//! `[kafka.security]`: how a client proves who it is and knows whom it talks to. As written, what is
//! wrong with it (pure), and the librdkafka settings made of it.
//!
//! Host names are verified in every mode but `plaintext`; there is no setting that turns this off.
//! Secrets are not in the configuration: it names files, or systemd credentials
//! ([`secret_file`]).

pub mod secret_file;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::credentials::CredentialSettings;
use crate::token::check_region;
use secret_file::{SecretError, SecretFile};

/// Which proof.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// None, and nothing is encrypted.
    #[default]
    Plaintext,
    /// The broker proves who it is; the client is anonymous.
    Tls,
    /// Both do, with certificates.
    Mtls,
    /// The client by user name and password, over TLS.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
    /// The client by AWS credentials, over TLS.
    Iam,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Tls => "tls",
            Self::Mtls => "mtls",
            Self::ScramSha512 => "scram-sha-512",
            Self::Iam => "iam",
        }
    }

    /// MSK's ports for this mode: inside the VPC, public, and over IPv6 (docs.aws.amazon.com, MSK
    /// developer guide, "Port information").
    fn msk_ports(self) -> &'static [u16] {
        match self {
            Self::Plaintext => &[9092, 20092],
            Self::Tls | Self::Mtls => &[9094, 9194, 20094],
            Self::ScramSha512 => &[9096, 9196, 20096],
            Self::Iam => &[9098, 9198, 20098],
        }
    }

    fn of_msk_port(port: u16) -> Option<Self> {
        [Self::Plaintext, Self::Mtls, Self::ScramSha512, Self::Iam]
            .into_iter()
            .find(|mode| mode.msk_ports().contains(&port))
    }
}

/// `[kafka.security]`, as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// Which proof.
    pub mode: Mode,
    /// Plaintext to other machines, said in so many words.
    pub allow_plaintext: bool,
    /// Certificates of the authorities that are trusted, PEM; those of the system where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The client's certificate and its chain, PEM (`mtls`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM (`mtls`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretFile>,
    /// User (`scram-sha-512`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// File of its password (`scram-sha-512`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<SecretFile>,
    /// The cluster's region (`iam`); from the broker's name where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Name of the STS session where a role is assumed (`iam`). MSK knows a client by role and
    /// session name, and closes a connection whose name changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
}

/// Whether a mode can do without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Must,
    May,
}

/// One thing that is wrong with `[kafka.security]` or `[credentials]`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{key}: {message}")]
pub struct SecurityProblem {
    /// Where.
    pub key: &'static str,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// What STS takes as a session name (`RoleSessionName` of AssumeRole).
pub fn is_session_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    (2..=64).contains(&name.len()) && name.bytes().all(fits)
}

/// A session name out of any name, for the default: what STS does not take becomes `-`.
pub fn session_name_from(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    let mut name: String = (name.chars().take(64))
        .map(|c| if fits(c) { c } else { '-' })
        .collect();
    while name.len() < 2 {
        name.push('-');
    }
    name
}

impl Security {
    /// Everything that is wrong with the section, for these brokers and this `[credentials]`.
    /// Brokers that are not `host:port` are somebody else's problem.
    pub fn problems(
        &self,
        brokers: &[String],
        credentials: &CredentialSettings,
    ) -> Vec<SecurityProblem> {
        let mut problems = Vec::new();
        let mut problem = |key, message: String| problems.push(SecurityProblem { key, message });
        self.check_keys(&mut problem);
        self.check_values(&mut problem);
        for (host, port) in brokers.iter().filter_map(|broker| host_and_port(broker)) {
            if self.mode == Mode::Plaintext && !self.allow_plaintext && !is_loopback(host) {
                problem(
                    "kafka.security.mode",
                    format!(
                        "\"plaintext\" to {host}: everything could be read and changed on the way; choose \"tls\", \"mtls\", \"scram-sha-512\" or \"iam\", or say allow_plaintext = true"
                    ),
                );
            }
            let meant = Mode::of_msk_port(port).filter(|_| is_msk(host));
            let is_other = !self.mode.msk_ports().contains(&port);
            if let Some(meant) = meant.filter(|_| is_other) {
                let right: Vec<_> = self.mode.msk_ports().iter().map(u16::to_string).collect();
                problem(
                    "kafka.brokers",
                    format!(
                        "{host}:{port} is MSK's port for {}, and kafka.security.mode is \"{}\": its ports are {} (in the VPC, public, IPv6)",
                        meant.name(),
                        self.mode.name(),
                        right.join(", ")
                    ),
                );
            }
        }
        if self.mode == Mode::Iam {
            self.check_region(brokers, &mut problem);
            credentials.problems(&mut problem);
        } else if credentials.iot.is_some() {
            problem(
                "credentials.iot",
                format!(
                    "is for kafka.security.mode \"iam\", and the mode is \"{}\": change the one or remove the other",
                    self.mode.name()
                ),
            );
        }
        problems
    }

    /// Keys that the mode needs and keys that it has no use for.
    fn check_keys(&self, problem: &mut impl FnMut(&'static str, String)) {
        for (key, is_given, modes, need) in self.keys() {
            let is_of_mode = modes.contains(&self.mode);
            if is_given && !is_of_mode {
                let modes: Vec<_> = modes.iter().map(|mode| mode.name()).collect();
                let modes = modes.join(", ");
                let text = format!(
                    "is for mode {modes}, and the mode is \"{}\"",
                    self.mode.name()
                );
                problem(key, text);
            } else if is_of_mode && need == Need::Must && !is_given {
                let text = format!("is missing: mode \"{}\" needs it", self.mode.name());
                problem(key, text);
            }
        }
    }

    /// Each key: whether it is there, of which modes it is, and whether they need it.
    fn keys(&self) -> [(&'static str, bool, &'static [Mode], Need); 8] {
        use Mode::{Iam, Mtls, Plaintext, ScramSha512, Tls};
        let (scram, iam): (&[Mode], &[Mode]) = (&[ScramSha512], &[Iam]);
        let ca = self.ca.is_some();
        let certificate = self.certificate.is_some();
        let password = self.password_file.is_some();
        let session = self.session_name.is_some();
        let plain = self.allow_plaintext;
        [
            (
                "kafka.security.allow_plaintext",
                plain,
                &[Plaintext],
                Need::May,
            ),
            (
                "kafka.security.ca",
                ca,
                &[Tls, Mtls, ScramSha512, Iam],
                Need::May,
            ),
            (
                "kafka.security.certificate",
                certificate,
                &[Mtls],
                Need::Must,
            ),
            (
                "kafka.security.key",
                self.key.is_some(),
                &[Mtls],
                Need::Must,
            ),
            (
                "kafka.security.username",
                self.username.is_some(),
                scram,
                Need::Must,
            ),
            ("kafka.security.password_file", password, scram, Need::Must),
            (
                "kafka.security.region",
                self.region.is_some(),
                iam,
                Need::May,
            ),
            ("kafka.security.session_name", session, iam, Need::May),
        ]
    }

    fn check_values(&self, problem: &mut impl FnMut(&'static str, String)) {
        if self.username.as_deref() == Some("") {
            problem("kafka.security.username", "is empty".into());
        }
        let name = self.session_name.as_deref();
        if let Some(name) = name.filter(|name| !is_session_name(name)) {
            let text = format!(
                "{name:?} is no name that STS takes: 2 to 64 of letters, digits and \"_+=,.@-\""
            );
            problem("kafka.security.session_name", text);
        }
        for (key, path) in [
            ("kafka.security.ca", &self.ca),
            ("kafka.security.certificate", &self.certificate),
        ] {
            check_absolute(key, path.as_deref(), problem);
        }
        for (key, file) in [
            ("kafka.security.key", &self.key),
            ("kafka.security.password_file", &self.password_file),
        ] {
            let path = file.as_ref().and_then(SecretFile::written_path);
            check_absolute(key, path, problem);
        }
    }

    fn check_region(&self, brokers: &[String], problem: &mut impl FnMut(&'static str, String)) {
        if let Some(region) = &self.region {
            if let Err(error) = check_region(region) {
                problem("kafka.security.region", error.to_string());
            }
            return;
        }
        let hosts = brokers.iter().filter_map(|broker| host_and_port(broker));
        let mut regions: Vec<_> = hosts.map(|(host, _)| region_of(host)).collect();
        regions.sort_unstable();
        regions.dedup();
        if !matches!(regions.as_slice(), [Some(_)]) {
            problem(
                "kafka.security.region",
                "is missing, and the brokers' names do not tell it: name the cluster's region, such as \"eu-west-1\"".into(),
            );
        }
    }

    /// The region to sign for (`iam`): as written, or as the first broker's name has it.
    pub fn region<'a>(&'a self, brokers: &'a [String]) -> Option<&'a str> {
        self.region.as_deref().or_else(|| {
            let first = brokers.first()?;
            region_of(host_and_port(first)?.0)
        })
    }

    /// The librdkafka settings of the mode. Reads the password; checks who may read it and the key.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub(crate) fn settings(&self) -> Result<Vec<(&'static str, String)>, SecretError> {
        let protocol = match self.mode {
            Mode::Plaintext => return Ok(vec![("security.protocol", "plaintext".into())]),
            Mode::Tls | Mode::Mtls => "ssl",
            Mode::ScramSha512 | Mode::Iam => "sasl_ssl",
        };
        let mut settings = vec![
            ("security.protocol", protocol.to_owned()),
            // librdkafka's defaults, which nothing may change.
            ("enable.ssl.certificate.verification", "true".to_owned()),
            ("ssl.endpoint.identification.algorithm", "https".to_owned()),
            ("ssl.ca.location", text(&self.authorities()?)),
        ];
        if let Some(certificate) = &self.certificate {
            settings.push(("ssl.certificate.location", text(certificate)));
        }
        if let Some(key) = &self.key {
            settings.push(("ssl.key.location", text(&key.path()?)));
        }
        match self.mode {
            Mode::ScramSha512 => {
                let password = self.password_file.as_ref().map(SecretFile::read);
                let password = password.transpose()?.unwrap_or_default();
                settings.push(("sasl.mechanism", "SCRAM-SHA-512".to_owned()));
                settings.push(("sasl.username", self.username.clone().unwrap_or_default()));
                settings.push(("sasl.password", password.to_string()));
            }
            Mode::Iam => settings.push(("sasl.mechanism", "OAUTHBEARER".to_owned())),
            Mode::Plaintext | Mode::Tls | Mode::Mtls => {}
        }
        Ok(settings)
    }

    /// A hash over the files that a client is made with; none where there are none, or one of them
    /// cannot be read just now.
    pub(crate) fn print(&self) -> Option<[u8; 32]> {
        let mut hash = openssl::sha::Sha256::new();
        let named = [self.ca.clone(), self.certificate.clone()];
        let secret = [&self.key, &self.password_file];
        let secret = secret.into_iter().flatten().map(|file| file.path().ok());
        let mut count = 0;
        for path in named.into_iter().flatten().map(Some).chain(secret) {
            hash.update(&openssl::sha::sha256(&std::fs::read(path?).ok()?));
            count += 1;
        }
        (count > 0).then(|| hash.finish())
    }

    /// The file of trusted authorities.
    ///
    /// # Errors
    /// [`SecretError::NoRoots`] where none is named and the system has none.
    pub(crate) fn authorities(&self) -> Result<PathBuf, SecretError> {
        authorities(self.ca.as_deref())
    }
}

/// The named file of trusted authorities, or the system's. OpenSSL is linked in and would look where
/// it was built, so it is always told.
pub(crate) fn authorities(named: Option<&Path>) -> Result<PathBuf, SecretError> {
    named
        .map(Path::to_owned)
        .or_else(|| openssl_probe::probe().cert_file)
        .ok_or(SecretError::NoRoots)
}

/// A path as librdkafka and the log want it.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Reports a path that depends on where the program was started.
pub(crate) fn check_absolute(
    key: &'static str,
    path: Option<&Path>,
    problem: &mut impl FnMut(&'static str, String),
) {
    if let Some(path) = path.filter(|path| !path.is_absolute()) {
        problem(key, format!("{path:?} is not absolute: begin it with '/'"));
    }
}

fn host_and_port(broker: &str) -> Option<(&str, u16)> {
    let (host, port) = broker.rsplit_once(':')?;
    (!host.is_empty() && !host.contains([',', ' '])).then_some(())?;
    Some((host, port.parse().ok()?))
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// The labels of an AWS host name before `.amazonaws.com`; none for another host.
fn aws_labels(host: &str) -> Option<&str> {
    let host = host.strip_suffix(".cn").unwrap_or(host);
    host.strip_suffix(".amazonaws.com")
}

fn is_msk(host: &str) -> bool {
    region_of(host).is_some()
}

/// `b-1.name.abc.c2.kafka.<region>.amazonaws.com`, `boot-x.c1.kafka-serverless.<region>.…`.
fn region_of(host: &str) -> Option<&str> {
    let (before, region) = aws_labels(host)?.rsplit_once('.')?;
    let service = before.rsplit('.').next()?;
    let is_msk = matches!(service, "kafka" | "kafka-serverless");
    (is_msk && check_region(region).is_ok()).then_some(region)
}

#[cfg(test)]
mod tests;
