//! A device on a cluster that is secured as MSK is, and everything a record passes on its way: its
//! certificate, AWS IoT's credential endpoint, a role, brokers, loader, S3.

mod both;
mod search;

use crate::iot::{Answer, IotEndpoint};
use crate::kafka::iam::{ACCOUNT, REGION};
use crate::kafka::{Key, Listener, Msk, Policy, toml_array};
use crate::loading::Loading;
use crate::oracle::wait_until_complete;
use crate::outside::unique;
use crate::pki::Identity;
use crate::process::{Agent, Finished, Loader, Process, Setup};
use crate::s3::S3;
use crate::writer::Writer;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use both::Principals;
pub use search::{Needles, assert_nowhere};

/// Longest wait for what has to happen.
const PATIENCE: Duration = Duration::from_secs(180);

/// A device, its role, and the cluster.
#[derive(Debug)]
pub struct Secured<'a> {
    /// The cluster.
    pub msk: &'a Msk,
    /// Where rows go.
    pub s3: S3,
    /// Where its credentials come from.
    pub iot: IotEndpoint,
    /// Its certificate.
    pub device: Identity,
    /// The role behind the role alias `fleet`.
    pub role: String,
    folder: tempfile::TempDir,
}

impl Secured<'static> {
    /// On the shared cluster.
    pub fn new(name: &str) -> Self {
        Self::on(Msk::shared(), name)
    }
}

impl<'a> Secured<'a> {
    /// On a cluster of the test's own.
    pub fn on(msk: &'a Msk, name: &str) -> Self {
        let iot = IotEndpoint::start(msk.pki(), msk.iam());
        let device = msk.device(&unique(name));
        iot.register(&device);
        let role = unique(name);
        iot.set_alias("fleet", &role);
        let world = Self {
            msk,
            s3: S3::start(),
            iot,
            device,
            role,
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        world.install(&world.device);
        world
    }

    /// The device's folder: logs, certificate, key.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Puts a device's certificate and key where the agent looks for them.
    pub fn install(&self, device: &Identity) {
        self.put_identity(device, "device");
    }

    fn put_identity(&self, identity: &Identity, stem: &str) {
        for (file, end) in [(&identity.certificate, "crt"), (&identity.key, "key")] {
            let bytes = fs::read(file).expect("it is there");
            put(&self.path(&format!("{stem}.{end}")), &bytes);
        }
    }

    /// A topic, a group and a bucket.
    pub fn loading(&self, name: &str) -> Loading<'_> {
        Loading::new(self.msk.kafka(), &self.s3, name, 2)
    }

    /// An agent by IAM with credentials of AWS IoT.
    pub fn agent(&self, loading: &Loading<'_>) -> Setup {
        self.agent_by(
            loading,
            Listener::Iam,
            &self.iam_security(),
            &self.iot_section(),
        )
    }

    /// An agent with another `[kafka.security]`, and further sections.
    pub fn agent_by(
        &self,
        loading: &Loading<'_>,
        listener: Listener,
        security: &str,
        more: &str,
    ) -> Setup {
        let brokers = self.msk.bootstrap(listener);
        Agent::with(&agent_config(
            loading,
            &brokers,
            self.folder(),
            security,
            more,
        ))
    }

    /// Lets the device's role do on a topic what an agent has to.
    pub fn allow(&self, topic: &str) {
        self.msk.iam().set_policy(&self.role, &Policy::agent(topic));
    }

    /// `[kafka.security]` for mode `iam`.
    pub fn iam_security(&self) -> String {
        format!(
            "mode = \"iam\"\nca = \"{}\"\nregion = \"{REGION}\"\n",
            self.msk.pki().server_ca().display()
        )
    }

    /// `[credentials.iot]`.
    pub fn iot_section(&self) -> String {
        self.section("fleet", &self.device.name, "device")
    }

    /// The same for another role alias and thing, whose certificate and key have `stem` as their name.
    fn section(&self, alias: &str, thing: &str, stem: &str) -> String {
        format!(
            "[credentials.iot]\nendpoint = \"https://{}\"\nrole_alias = \"{alias}\"\n\
             thing = \"{thing}\"\ncertificate = \"{}\"\nkey = \"{}\"\nca = \"{}\"\n",
            self.iot.authority(),
            self.path(&format!("{stem}.crt")).display(),
            self.path(&format!("{stem}.key")).display(),
            self.msk.pki().server_ca().display()
        )
    }

    /// `[kafka.security]` for a user and a password, which goes into `file`.
    pub fn scram(&self, (user, password): (&str, &str), file: &str) -> String {
        let path = self.path(file);
        put(&path, password.as_bytes());
        format!(
            "mode = \"scram-sha-512\"\nca = \"{}\"\nusername = \"{user}\"\npassword_file = \"{}\"\n",
            self.msk.pki().server_ca().display(),
            path.display()
        )
    }

    /// `[kafka.security]` for the device's certificate.
    pub fn mtls(&self) -> String {
        format!(
            "mode = \"mtls\"\nca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
            self.msk.pki().server_ca().display(),
            self.path("device.crt").display(),
            self.path("device.key").display()
        )
    }

    /// AWS IoT answers as it should, with credentials of this life.
    pub fn set_life(&self, life: Duration) {
        self.iot.set(|answer| {
            *answer = Answer {
                life,
                ..Answer::default()
            };
        });
    }

    /// Whom a broker sees where the device has this certificate.
    pub fn principal(&self, device: &Identity) -> String {
        let (role, session) = (&self.role, &device.id);
        format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session}")
    }
}

/// An agent that has delivered its first lines, a loader that has stored them, and the file that
/// goes on.
#[derive(Debug)]
pub struct Running<'a> {
    /// Topic, group and bucket.
    pub loading: Loading<'a>,
    /// Writes `app.log`.
    pub writer: Writer,
    /// The agent.
    pub agent: Process,
    /// The loader.
    pub loader: Process,
}

impl<'a> Running<'a> {
    /// The device's agent by IAM, and a loader that needs no proof.
    pub fn start(world: &'a Secured<'_>, name: &str) -> Self {
        let loading = world.loading(name);
        world.allow(&loading.topic);
        let agent = world.agent(&loading);
        let loader = loading.loader("[flush]\nage = \"300ms\"\n");
        Self::of(world, loading, agent, loader)
    }

    /// Of these two.
    pub fn of(world: &'a Secured<'_>, loading: Loading<'a>, agent: Setup, loader: Setup) -> Self {
        Self::start_of(world, loading, agent.start(), loader.start())
    }

    /// Of these two, which run already.
    pub fn start_of(
        world: &'a Secured<'_>,
        loading: Loading<'a>,
        agent: Process,
        loader: Process,
    ) -> Self {
        let mut writer = Writer::new(world.path("app.log"), "w", 5);
        writer.write(300);
        let running = Self {
            loading,
            writer,
            agent,
            loader,
        };
        running.complete();
        running
    }

    /// Waits until every line is stored; each is, once.
    ///
    /// # Panics
    /// If one is not.
    #[track_caller]
    pub fn complete(&self) {
        let (s3, bucket) = (self.loading.s3, &self.loading.bucket);
        wait_until_complete(&[&self.writer], s3, bucket, "data/", PATIENCE).assert_exact();
    }

    /// Stops both.
    ///
    /// # Panics
    /// If one does not stop in order.
    #[track_caller]
    pub fn stop(&self) {
        assert_eq!(self.agent.sigterm_and_wait(PATIENCE).code(), Some(0));
        assert_eq!(self.loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    }
}

/// Writes a file that only its owner may read.
pub fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("the disk takes it");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("it is ours");
}

/// An agent's configuration with another `[kafka.security]`.
pub fn agent_config(
    loading: &Loading<'_>,
    brokers: &str,
    folder: &Path,
    security: &str,
    more: &str,
) -> String {
    let paths = format!("{}/*.log", folder.display());
    let more = format!("{more}\n[spool]\nafter = \"500ms\"\n");
    loading
        .agent_config(brokers, &paths, &more)
        .replace("allow_plaintext = true", security)
}

/// A loader with another `[kafka.security]`.
pub fn loader(loading: &Loading<'_>, brokers: &str, security: &str) -> Setup {
    let plain = format!("brokers = {}", loading.kafka.brokers());
    let config = loading.config("[flush]\nage = \"300ms\"\n");
    assert!(config.contains(&plain), "{config}");
    let config = config
        .replace(&plain, &format!("brokers = {}", toml_array(brokers)))
        .replace("allow_plaintext = true", security);
    Loader::with(&config).envs(loading.s3.env())
}

/// The loader's role: its key is the one that it has for S3.
pub fn loader_key(msk: &Msk, loading: &Loading<'_>) -> Key {
    let role = unique("loader");
    let policy = Policy::loader(&loading.topic, loading.group());
    msk.iam().set_policy(&role, &policy);
    let env = loading.s3.env();
    let var = |name: &str| {
        let found = env.iter().find(|(known, _)| *known == name);
        found.expect("S3 has keys").1.clone()
    };
    msk.iam().add(Key {
        id: var("AWS_ACCESS_KEY_ID"),
        secret: var("AWS_SECRET_ACCESS_KEY"),
        session_token: None,
        principal: format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/task-1"),
        expires: None,
    })
}

/// `headwater-agent check --connect`.
pub fn connect(setup: &mut Setup) -> Finished {
    setup.run("check", &["--connect"])
}

/// How a step of it went: the word after its name, and what follows.
///
/// # Panics
/// If there is no such step.
#[track_caller]
pub fn step<'a>(finished: &'a Finished, name: &str) -> &'a str {
    let prefix = format!("# connect: {name} ");
    let line = finished
        .stdout
        .lines()
        .find(|line| line.starts_with(&prefix));
    line.unwrap_or_else(|| panic!("no step {name}: {}{}", finished.stdout, finished.stderr))
        [prefix.len()..]
        .trim_start()
}
