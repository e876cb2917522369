//! A cluster with the doors of Amazon MSK.
//!
//! | listener | how a client proves itself | who may do what |
//! |---|---|---|
//! | [`Iam`](Listener::Iam) | presigned URL by OAUTHBEARER, checked against [`Iam`] | policies of the role |
//! | [`Scram`](Listener::Scram) | SCRAM-SHA-512, users [`SCRAM_AGENT`] and [`SCRAM_LOADER`] | ACLs |
//! | [`Mtls`](Listener::Mtls) | a certificate of [`Pki`]'s device authority | ACLs, `User:CN=<name>` |
//! | [`Tls`](Listener::Tls) | not at all | everything: it is `User:ANONYMOUS` |
//!
//! A resource without ACLs is open to everybody who authenticated, as on a new MSK cluster
//! (`allow.everyone.if.no.acl.found`).

use super::iam::Iam;
use super::listener::Listener;
use super::node::{LONG_SESSION, Layout};
use super::{Kafka, emulator, toml_array};
use crate::folder::Folder;
use crate::pki::{DeviceCertificate, Identity, Pki};
use anyhow::Result;
use rdkafka::ClientConfig;
use std::fmt::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A SCRAM user and its password.
pub const SCRAM_AGENT: (&str, &str) = ("agent", "agent-pass-1");
/// Another one.
pub const SCRAM_LOADER: (&str, &str) = ("loader", "loader-pass-1");

/// A running cluster.
#[derive(Debug)]
pub struct Msk {
    kafka: Kafka,
    pki: Pki,
    iam: Arc<Iam>,
}

/// A cluster to be.
#[derive(Debug)]
pub struct MskSetup {
    nodes: usize,
    properties: String,
}

impl MskSetup {
    /// Three nodes, replication factor 3, two in-sync replicas.
    #[must_use]
    pub fn three_nodes(mut self) -> Self {
        self.nodes = 3;
        self
    }

    /// The longest session (`connections.max.reauth.ms`) on the IAM and SCRAM listeners. Without it a
    /// session of IAM lasts as long as its token, as on MSK, and one of SCRAM for ever.
    #[must_use]
    pub fn session_max(self, longest: Duration) -> Self {
        let longest = longest.as_millis().to_string();
        let key = |listener: Listener, mechanism| {
            listener.key(&format!("{mechanism}.connections.max.reauth.ms"))
        };
        self.property(&key(Listener::Iam, "oauthbearer"), &longest)
            .property(&key(Listener::Scram, "scram-sha-512"), &longest)
    }

    /// How many IAM connections a node holds, and how many new ones it accepts a second: 3000 and
    /// 100 on MSK. Kafka leaves connections above them waiting. For MSK's own refusal see
    /// [`Iam::set_connects_per_second_max`].
    #[must_use]
    pub fn connection_limits(self, held: u32, new_per_second: u32) -> Self {
        let key = |property| Listener::Iam.key(property);
        self.property(&key("max.connections"), &held.to_string())
            .property(
                &key("max.connection.creation.rate"),
                &new_per_second.to_string(),
            )
    }

    /// A further broker property.
    #[must_use]
    pub fn property(mut self, key: &str, value: &str) -> Self {
        writeln!(self.properties, "{key}={value}").expect("a string takes all");
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// If it cannot be started; the broker's log is in the message.
    pub fn start(self) -> Msk {
        self.try_start()
            .unwrap_or_else(|error| panic!("cannot start an MSK of our own: {error:#}"))
    }

    fn try_start(self) -> Result<Msk> {
        let folder = Folder::new("msk")?;
        let pki = Pki::within(folder.path());
        let iam_folder = folder.path().join("iam");
        let iam = Arc::new(Iam::new(&iam_folder)?);
        let mut properties = String::from(
            "super.users=User:ANONYMOUS\nallow.everyone.if.no.acl.found=true\n\
             authorizer.class.name=headwater.IamAuthorizer\n\
             metric.reporters=headwater.Counters\n",
        );
        for listener in Listener::MSK {
            properties.push_str(&listener.properties(&pki));
        }
        properties.push_str(&self.properties);
        let scram = |(name, password): &(&str, &str)| {
            let user = format!("SCRAM-SHA-512=[name={name},password={password}]");
            ["--add-scram".to_owned(), user]
        };
        let layout = Layout {
            nodes: self.nodes,
            listeners: Listener::MSK,
            properties,
            format: [SCRAM_AGENT, SCRAM_LOADER].iter().flat_map(scram).collect(),
            classes: Some((
                emulator::classes()?,
                vec![format!("-Dheadwater.iam={}", iam_folder.display())],
            )),
        };
        let kafka = Kafka::launch(folder, &layout)?;
        Ok(Msk { kafka, pki, iam })
    }
}

impl Msk {
    /// One node, to be set up further.
    pub fn with() -> MskSetup {
        MskSetup {
            nodes: 1,
            properties: String::new(),
        }
    }

    /// A cluster of one node, of the test's own.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start() -> Self {
        Self::with().start()
    }

    /// The test process's one shared cluster, for tests that do not cut it and change nothing that
    /// others see: they take topics, groups, roles and devices of their own, see
    /// [`unique`](crate::outside::unique).
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Msk> = OnceLock::new();
        let (key, value) = LONG_SESSION;
        SHARED.get_or_init(|| Self::with().property(key, value).start())
    }

    /// The cluster, by the listener that has every right: topics, records, kills, pauses.
    pub fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// The authorities behind every certificate.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Keys, roles, policies, and what was decided by them.
    pub fn iam(&self) -> &Arc<Iam> {
        &self.iam
    }

    /// The bootstrap servers of a listener, as `host:port[,host:port]`.
    pub fn bootstrap(&self, listener: Listener) -> String {
        self.kafka.bootstrap_of(listener)
    }

    /// The ports of a listener, one a node.
    pub fn ports(&self, listener: Listener) -> Vec<u16> {
        let all = self.bootstrap(listener);
        let ports = all.split(',').filter_map(|one| one.rsplit_once(':'));
        ports.filter_map(|(_, port)| port.parse().ok()).collect()
    }

    /// The same as a TOML array of strings.
    pub fn brokers(&self, listener: Listener) -> String {
        toml_array(&self.bootstrap(listener))
    }

    /// A client configuration that reaches a listener and trusts the servers' authority. Who the
    /// client is comes on top: [`as_scram`], [`as_device`], a token.
    pub fn client(&self, listener: Listener) -> ClientConfig {
        let mut config = self.kafka.client();
        config
            .set("bootstrap.servers", self.bootstrap(listener))
            .set("security.protocol", listener.protocol());
        if listener != Listener::Plaintext {
            config.set("ssl.ca.location", self.pki.server_ca().to_string_lossy());
        }
        if listener == Listener::Iam {
            config.set("sasl.mechanism", "OAUTHBEARER");
        }
        config
    }

    /// A new device certificate, to be told apart by its name.
    pub fn device(&self, name: &str) -> Identity {
        self.pki.device(name, DeviceCertificate::Good)
    }

    /// Gives a SCRAM user another password; connections that are open stay.
    ///
    /// # Panics
    /// If Kafka's tool fails.
    pub fn set_scram_password(&self, user: &str, password: &str) {
        let config = format!("SCRAM-SHA-512=[password={password}]");
        let arguments = [
            "--alter",
            "--add-config",
            &config,
            "--entity-type",
            "users",
            "--entity-name",
            user,
        ];
        self.tool("kafka.admin.ConfigCommand", &arguments);
    }

    /// Gives a principal, such as `User:agent` or `User:CN=pi-7`, the ACLs that an agent needs:
    /// what `deploy/iam-agent.json` is for IAM. From then on nobody else writes to the topic.
    ///
    /// # Panics
    /// If Kafka's tool fails.
    pub fn allow_agent(&self, principal: &str, topic: &str) {
        self.allow(principal, &["--operation", "Write", "--topic", topic]);
    }

    /// Gives a principal the ACLs that a loader cannot do without: what `deploy/iam-loader.json` is for IAM, less the
    /// look at the topic's configuration.
    ///
    /// # Panics
    /// If Kafka's tool fails.
    pub fn allow_loader(&self, principal: &str, topic: &str, group: &str) {
        self.allow(
            principal,
            &["--operation", "Read", "--topic", topic, "--group", group],
        );
    }

    fn allow(&self, principal: &str, what: &[&str]) {
        let mut arguments = vec!["--add", "--allow-principal", principal];
        arguments.extend(["--operation", "Describe"]);
        arguments.extend(what);
        self.tool("org.apache.kafka.tools.AclCommand", &arguments);
    }

    fn tool(&self, class: &str, arguments: &[&str]) {
        self.kafka
            .tool(class, arguments)
            .unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// Adds a SCRAM user to a client configuration.
pub fn as_scram(config: &mut ClientConfig, (user, password): (&str, &str)) {
    config
        .set("sasl.mechanism", "SCRAM-SHA-512")
        .set("sasl.username", user)
        .set("sasl.password", password);
}

/// Adds a device's certificate and key to a client configuration.
pub fn as_device(config: &mut ClientConfig, device: &Identity) {
    config
        .set(
            "ssl.certificate.location",
            device.certificate.to_string_lossy(),
        )
        .set("ssl.key.location", device.key.to_string_lossy());
}
