//! The doors of a broker, and what each asks of a client. Names and protocols are those of MSK.

use super::emulator::PACKAGE;
use crate::pki::{Pki, ServerCertificate};
use std::fmt::Write;
use std::path::Path;

/// One listener of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listener {
    /// No TLS, no authentication, every right: brokers among themselves, and the harness.
    Plaintext,
    /// IAM over TLS: SASL/OAUTHBEARER with a presigned URL, judged by IAM policies.
    Iam,
    /// SASL/SCRAM-SHA-512 over TLS.
    Scram,
    /// TLS with a client certificate of the device authority.
    Mtls,
    /// TLS without client authentication.
    Tls,
    /// The same, with a certificate that has expired.
    TlsExpired,
    /// The same, with a certificate for another host.
    TlsWrongHost,
}

impl Listener {
    /// What an MSK cluster has, and two more for what clients must refuse.
    pub(super) const MSK: &[Self] = &[
        Self::Plaintext,
        Self::Iam,
        Self::Scram,
        Self::Mtls,
        Self::Tls,
        Self::TlsExpired,
        Self::TlsWrongHost,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Iam => "CLIENT_IAM",
            Self::Scram => "CLIENT_SASL_SCRAM",
            Self::Mtls => "CLIENT_SECURE",
            Self::Tls => "CLIENT_TLS",
            Self::TlsExpired => "CLIENT_TLS_EXPIRED",
            Self::TlsWrongHost => "CLIENT_TLS_WRONG_HOST",
        }
    }

    /// What broker and client both call it (`security.protocol`).
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Iam | Self::Scram => "SASL_SSL",
            _ => "SSL",
        }
    }

    /// A broker's property for this listener alone.
    pub(super) fn key(self, property: &str) -> String {
        format!(
            "listener.name.{}.{property}",
            self.name().to_ascii_lowercase()
        )
    }

    /// Everything that makes this listener what it is, as lines of a broker's properties.
    pub(super) fn properties(self, pki: &Pki) -> String {
        let mut text = String::new();
        let mut set = |key: &str, value: &str| {
            writeln!(text, "{}={value}", self.key(key)).expect("a string takes all");
        };
        let certificate = match self {
            Self::Plaintext => return text,
            Self::TlsExpired => ServerCertificate::Expired,
            Self::TlsWrongHost => ServerCertificate::WrongHost,
            _ => ServerCertificate::Good,
        };
        let path = |path: &Path| path.display().to_string();
        set("ssl.keystore.type", "PEM");
        set(
            "ssl.keystore.location",
            &path(&pki.server(certificate).both),
        );
        match self {
            Self::Iam => {
                let class = |name: &str| format!("{PACKAGE}.{name}");
                set("sasl.enabled.mechanisms", "OAUTHBEARER");
                set("principal.builder.class", &class("IamPrincipals"));
                set(
                    "oauthbearer.sasl.server.callback.handler.class",
                    &class("SigV4Validator"),
                );
                set(
                    "oauthbearer.sasl.login.callback.handler.class",
                    &class("NoLogin"),
                );
                set(
                    "oauthbearer.sasl.jaas.config",
                    "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;",
                );
            }
            Self::Scram => {
                set("sasl.enabled.mechanisms", "SCRAM-SHA-512");
                set(
                    "scram-sha-512.sasl.jaas.config",
                    "org.apache.kafka.common.security.scram.ScramLoginModule required;",
                );
            }
            Self::Mtls => {
                set("ssl.client.auth", "required");
                set("ssl.truststore.type", "PEM");
                set("ssl.truststore.location", &path(pki.device_ca()));
            }
            _ => {}
        }
        text
    }
}
