//! `[credentials]`: without it, credentials are found as AWS's tools find them (environment,
//! profile, web identity, container, instance); with `[credentials.iot]` they come from the AWS IoT
//! Core credential provider, and the device needs no AWS key.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::security::check_absolute;
use crate::security::secret_file::SecretFile;

/// `[credentials]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CredentialSettings {
    /// From AWS IoT Core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iot: Option<IotSettings>,
}

/// `[credentials.iot]`: a device's certificate for temporary credentials of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IotSettings {
    /// `https://<prefix>.credentials.iot.<region>.amazonaws.com`, as
    /// `aws iot describe-endpoint --endpoint-type iot:CredentialProvider` prints it.
    pub endpoint: String,
    /// The role alias, which names the role and how long its credentials live.
    pub role_alias: String,
    /// The thing's name. It must be attached to the certificate; policies can then speak of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thing: Option<String>,
    /// The device's certificate and its chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: SecretFile,
    /// Certificates of the authorities that are trusted, PEM; those of the system where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl CredentialSettings {
    /// Reports everything that is wrong with the section.
    pub(crate) fn problems(&self, problem: &mut impl FnMut(&'static str, String)) {
        if let Some(iot) = &self.iot {
            iot.problems(problem);
        }
    }

    /// Whether nothing is written there.
    pub fn is_default(&self) -> bool {
        self.iot.is_none()
    }
}

impl IotSettings {
    /// Host and port of the endpoint.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn host_and_port(&self) -> Result<(&str, u16), String> {
        let endpoint = &self.endpoint;
        // `describe-endpoint` prints the bare host.
        let rest = endpoint.strip_prefix("https://").unwrap_or(endpoint);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (rest, Some(443)),
        };
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        match port {
            Some(port) if !host.is_empty() && host.bytes().all(fits) => Ok((host, port)),
            _ => Err(format!(
                "{endpoint:?} is no endpoint: \"https://HOST\" or \"https://HOST:PORT\", as `aws iot describe-endpoint --endpoint-type iot:CredentialProvider` prints it"
            )),
        }
    }

    fn problems(&self, problem: &mut impl FnMut(&'static str, String)) {
        match self.host_and_port() {
            Err(error) => problem("credentials.iot.endpoint", error),
            // The endpoint of the data plane looks much the same and answers 403 for ever.
            Ok((host, _))
                if host.ends_with(".amazonaws.com") && !host.contains(".credentials.iot.") =>
            {
                problem(
                    "credentials.iot.endpoint",
                    format!(
                        "{host:?} is another endpoint of AWS: the credential provider's has \".credentials.iot.\" in it (aws iot describe-endpoint --endpoint-type iot:CredentialProvider)"
                    ),
                );
            }
            Ok(_) => {}
        }
        let in_alias = |b: u8| b.is_ascii_alphanumeric() || b"_=,@-".contains(&b);
        if self.role_alias.is_empty()
            || self.role_alias.len() > 128
            || !self.role_alias.bytes().all(in_alias)
        {
            problem(
                "credentials.iot.role_alias",
                format!(
                    "{:?} is no role alias: 1 to 128 of letters, digits and \"_=,@-\" (the alias, not the ARN)",
                    self.role_alias
                ),
            );
        }
        let in_thing = |b: u8| b.is_ascii_alphanumeric() || b"_:-".contains(&b);
        let thing = self.thing.as_deref().unwrap_or("x");
        if thing.is_empty() || thing.len() > 128 || !thing.bytes().all(in_thing) {
            problem(
                "credentials.iot.thing",
                format!(
                    "{thing:?} is no thing's name: 1 to 128 of letters, digits and \"_:-\" (the name, not the ARN)"
                ),
            );
        }
        check_absolute(
            "credentials.iot.certificate",
            Some(&self.certificate),
            problem,
        );
        check_absolute("credentials.iot.key", self.key.written_path(), problem);
        check_absolute("credentials.iot.ca", self.ca.as_deref(), problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[iot]\nendpoint = \"https://abc.credentials.iot.eu-west-1.amazonaws.com\"\n\
        role_alias = \"fleet\"\nthing = \"pi-7\"\ncertificate = \"/c.pem\"\nkey = \"credential:k\"\n";

    fn problems(toml: &str) -> Vec<String> {
        let settings: CredentialSettings = crate::config_file::parse(toml).unwrap();
        let mut problems = Vec::new();
        settings.problems(&mut |key, message| problems.push(format!("{key}: {message}")));
        problems
    }

    #[test]
    fn a_good_section_is_taken() {
        assert_eq!(problems(""), [""; 0]);
        assert_eq!(problems(GOOD), [""; 0]);
        assert_eq!(problems(&GOOD.replace("thing = \"pi-7\"\n", "")), [""; 0]);
        assert_eq!(problems(&GOOD.replace("https://", "")), [""; 0]);
        assert_eq!(problems(&GOOD.replace(".com\"", ".com:8443/\"")), [""; 0]);
    }

    #[test]
    fn each_mistake_is_told() {
        for (from, to, key) in [
            ("https://", "http://", "endpoint"),
            (".com\"", ".com/role-aliases/x\"", "endpoint"),
            (".com\"", ".com:70000\"", "endpoint"),
            ("abc.credentials.iot.", "abc-ats.iot.", "endpoint"),
            ("\"fleet\"", "\"arn:aws:iot:x\"", "role_alias"),
            ("\"fleet\"", "\"../x\"", "role_alias"),
            ("\"fleet\"", "\"\"", "role_alias"),
            ("\"pi-7\"", "\"pi\\r\\nx: y\"", "thing"),
            ("\"/c.pem\"", "\"c.pem\"", "certificate"),
            ("\"credential:k\"", "\"k.pem\"", "key"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let problems = problems(&GOOD.replace(from, to));
            let expected = format!("credentials.iot.{key}: ");
            assert!(
                problems.len() == 1 && problems[0].starts_with(&expected),
                "{to}: {problems:?}"
            );
        }
    }
}
