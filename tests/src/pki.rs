//! Certificates as a fleet has them: a server authority, a device authority, and whatever can be
//! wrong with a certificate.
//!
//! Two authorities, as on MSK: the brokers' certificates come from Amazon's, the devices' from one of
//! the owner's. A third, the stranger, is trusted by nobody. Keys are P-256 in PKCS#8; everything is
//! PEM in files, since that is what librdkafka, Kafka and a device's configuration take.

use crate::folder::Folder;
use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The authorities, and a folder for what they issue.
#[derive(Debug)]
pub struct Pki {
    folder: PathBuf,
    servers: Authority,
    devices: Authority,
    strangers: Authority,
    // The folder is ours if nobody gave us one.
    _own: Option<Folder>,
}

/// One certificate with its key, in files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM, PKCS#8.
    pub key: PathBuf,
    /// Key and certificate in one file, as a Kafka broker wants them.
    pub both: PathBuf,
    /// SHA-256 of the certificate in hexadecimal: what IoT Core calls the certificate id, and uses
    /// as the session name.
    pub id: String,
    /// The common name.
    pub name: String,
}

/// What a server's certificate is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerCertificate {
    /// For `localhost` and 127.0.0.1, valid.
    Good,
    /// For the same, but expired years ago.
    Expired,
    /// Valid, for another host.
    WrongHost,
}

/// What a device's certificate is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceCertificate {
    /// Of the device authority, valid.
    Good,
    /// Of the device authority, expired years ago.
    Expired,
    /// Valid, but of an authority that nobody trusts.
    Stranger,
}

impl Pki {
    /// New authorities in a folder of their own.
    ///
    /// # Panics
    /// If the disk refuses.
    pub fn new() -> Self {
        let folder = Folder::new("pki").unwrap_or_else(|error| panic!("{error:#}"));
        let mut pki = Self::within(folder.path());
        pki._own = Some(folder);
        pki
    }

    /// New authorities that write into a folder that somebody else removes.
    pub(crate) fn within(folder: &Path) -> Self {
        let authority = |name| {
            Authority::new(folder, name).unwrap_or_else(|error| panic!("no authority: {error:#}"))
        };
        Self {
            folder: folder.to_owned(),
            servers: authority("server-ca"),
            devices: authority("device-ca"),
            strangers: authority("stranger-ca"),
            _own: None,
        }
    }

    /// The authority that clients trust: PEM.
    pub fn server_ca(&self) -> &Path {
        &self.servers.file
    }

    /// The authority that servers trust for devices: PEM.
    pub fn device_ca(&self) -> &Path {
        &self.devices.file
    }

    /// An authority that issued nothing a client meets: PEM. For a client that trusts the wrong one.
    pub fn stranger_ca(&self) -> &Path {
        &self.strangers.file
    }

    /// A server certificate.
    ///
    /// # Panics
    /// If the disk refuses.
    pub fn server(&self, what: ServerCertificate) -> Identity {
        let hosts: &[&str] = match what {
            ServerCertificate::WrongHost => &["broker.example"],
            _ => &["localhost", "127.0.0.1"],
        };
        let expired = what == ServerCertificate::Expired;
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        self.issue(&self.servers, "server", hosts, usage, expired)
    }

    /// A device certificate with the common name `name`.
    ///
    /// # Panics
    /// If the disk refuses.
    pub fn device(&self, name: &str, what: DeviceCertificate) -> Identity {
        let authority = match what {
            DeviceCertificate::Stranger => &self.strangers,
            _ => &self.devices,
        };
        let expired = what == DeviceCertificate::Expired;
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        self.issue(authority, name, &[], usage, expired)
    }

    fn issue(
        &self,
        by: &Authority,
        name: &str,
        hosts: &[&str],
        usage: ExtendedKeyUsagePurpose,
        expired: bool,
    ) -> Identity {
        by.issue(&self.folder, name, hosts, usage, expired)
            .unwrap_or_else(|error| panic!("cannot issue a certificate for {name}: {error:#}"))
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct Authority {
    file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Result<Self> {
        let mut params = named(name, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = params.self_signed(&key).context("cannot sign itself")?;
        let file = folder.join(format!("{name}.pem"));
        write(&file, &certificate.pem())?;
        let issuer = Issuer::new(params, key);
        Ok(Self { file, issuer })
    }

    fn issue(
        &self,
        folder: &Path,
        name: &str,
        hosts: &[&str],
        usage: ExtendedKeyUsagePurpose,
        expired: bool,
    ) -> Result<Identity> {
        let mut params = named(name, hosts)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        if expired {
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let id = fingerprint(&certificate);
        let (key, certificate) = (key.serialize_pem(), certificate.pem());
        let path = |end: &str| folder.join(format!("{name}-{}.{end}", &id[..16]));
        let identity = Identity {
            certificate: path("crt"),
            key: path("key"),
            both: path("pem"),
            name: name.to_owned(),
            id: id.clone(),
        };
        write(&identity.certificate, &certificate)?;
        write(&identity.key, &key)?;
        write(&identity.both, &format!("{key}{certificate}"))?;
        Ok(identity)
    }
}

/// Valid from 2020 for the rest of the century: no test depends on the day it runs.
fn named(name: &str, hosts: &[&str]) -> Result<CertificateParams> {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).context("no host name")?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2099, 1, 1);
    Ok(params)
}

pub(crate) fn fingerprint_of(der: &[u8]) -> String {
    let digest = Sha256::digest(der);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fingerprint(certificate: &Certificate) -> String {
    fingerprint_of(certificate.der())
}

/// Some of it is a key, and clients refuse a key that others can read.
fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o600)))
        .with_context(|| format!("cannot write {}", path.display()))
}
