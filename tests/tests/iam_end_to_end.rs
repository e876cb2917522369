//! Agent and loader on a cluster that is secured as MSK is: by IAM with credentials of AWS IoT Core,
//! by SCRAM, by certificates; and what happens when any of that breaks.

use headwater_tests::iot::{Answer, IotEndpoint};
use headwater_tests::kafka::iam::{ACCOUNT, REGION};
use headwater_tests::kafka::msk::{SCRAM_AGENT, SCRAM_LOADER};
use headwater_tests::kafka::{Key, Listener, Msk, Policy};
use headwater_tests::loading::Loading;
use headwater_tests::oracle::{wait_until, wait_until_complete};
use headwater_tests::outside::unique;
use headwater_tests::pki::{DeviceCertificate, Identity};
use headwater_tests::process::{Agent, Finished, Loader, Process, Setup};
use headwater_tests::s3::S3;
use headwater_tests::writer::Writer;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);
/// Of temporary credentials, and so of tokens and sessions. Real ones live an hour.
const LIFE: Duration = Duration::from_secs(5);

/// A device with its certificate, a role, a topic, and everything a record passes on its way.
struct World {
    msk: &'static Msk,
    s3: S3,
    iot: IotEndpoint,
    device: Identity,
    role: String,
    folder: tempfile::TempDir,
}

impl World {
    fn new(name: &str) -> Self {
        let msk = Msk::shared();
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

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a device's certificate and key where the agent looks for them.
    fn install(&self, device: &Identity) {
        put(
            &self.path("device.crt"),
            &fs::read(&device.certificate).expect("it is there"),
        );
        put(
            &self.path("device.key"),
            &fs::read(&device.key).expect("it is there"),
        );
    }

    fn loading(&self, name: &str) -> Loading<'_> {
        Loading::new(self.msk.kafka(), &self.s3, name, 2)
    }

    /// What an agent by IAM is started with; its role may do what an agent has to.
    fn agent(&self, loading: &Loading<'_>) -> Setup {
        let brokers = self.msk.bootstrap(Listener::Iam);
        let folder = self.folder.path();
        let (security, iot) = (self.iam_security(), self.iot_section());
        Agent::with(&agent_config(loading, &brokers, folder, &security, &iot))
    }

    fn allow(&self, topic: &str) {
        self.msk.iam().set_policy(&self.role, &Policy::agent(topic));
    }

    fn iam_security(&self) -> String {
        format!(
            "mode = \"iam\"\nca = \"{}\"\nregion = \"{REGION}\"\n",
            self.msk.pki().server_ca().display()
        )
    }

    fn iot_section(&self) -> String {
        format!(
            "[credentials.iot]\nendpoint = \"https://{}\"\nrole_alias = \"fleet\"\nthing = \"{}\"\n\
             certificate = \"{}\"\nkey = \"{}\"\nca = \"{}\"\n",
            self.iot.authority(),
            self.device.name,
            self.path("device.crt").display(),
            self.path("device.key").display(),
            self.msk.pki().server_ca().display()
        )
    }

    fn set_life(&self, life: Duration) {
        self.iot.set(|answer| {
            *answer = Answer {
                life,
                ..Answer::default()
            };
        });
    }
}

/// Writes a file that only its owner may read.
fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("the disk takes it");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("it is ours");
}

/// An agent's configuration with another `[kafka.security]`.
fn agent_config(
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

fn loader(loading: &Loading<'_>, brokers: &str, security: &str) -> Setup {
    let plain = format!("brokers = [\"{}\"]", loading.kafka.bootstrap());
    let config = loading.config("[flush]\nage = \"300ms\"\n");
    assert!(config.contains(&plain), "{config}");
    let config = config
        .replace(&plain, &format!("brokers = [\"{brokers}\"]"))
        .replace("allow_plaintext = true", security);
    Loader::with(&config).envs(loading.s3.env())
}

/// The loader's role: its key is the one that it has for S3.
fn loader_key(msk: &Msk, loading: &Loading<'_>) -> Key {
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

fn connect(setup: &mut Setup) -> Finished {
    setup.run("check", &["--connect"])
}

/// The word after a step's name.
fn step<'a>(finished: &'a Finished, name: &str) -> &'a str {
    let prefix = format!("# connect: {name} ");
    let line = finished
        .stdout
        .lines()
        .find(|line| line.starts_with(&prefix));
    line.unwrap_or_else(|| panic!("no step {name}: {}{}", finished.stdout, finished.stderr))
        [prefix.len()..]
        .trim_start()
}

/// Nothing below the folders has any of the secrets in it, at whatever depth.
fn assert_nowhere(secrets: &[String], folders: &[&Path]) {
    let mut seen = 0;
    let mut todo: Vec<PathBuf> = folders.iter().map(|folder| folder.to_path_buf()).collect();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder of ours");
            todo.extend(entries.map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let bytes = fs::read(&path).expect("a file of ours");
        seen += 1;
        for secret in secrets {
            let secret = secret.as_bytes();
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{} holds a secret", path.display());
        }
    }
    assert!(seen >= 4, "configurations and logs were searched: {seen}");
}

#[test]
fn a_device_without_a_key_delivers_through_more_than_ten_lives_of_its_credentials() {
    let world = World::new("lives");
    world.set_life(LIFE);
    let loading = world.loading("lives");
    world.allow(&loading.topic);
    let iam = world.msk.iam();
    let loader_key = loader_key(world.msk, &loading);
    let mut writer = Writer::new(world.path("app.log"), "w", 5);
    writer.write(500);
    let agent = world.agent(&loading).start();
    let brokers = world.msk.bootstrap(Listener::Iam);
    let loader = loader(&loading, &brokers, &world.iam_security()).start();
    let complete = |writer: &Writer| {
        let bucket = &loading.bucket;
        wait_until_complete(&[writer], &world.s3, bucket, "data/", PATIENCE).assert_exact();
    };
    complete(&writer);
    // Most of the time nothing is written: an idle agent stays authenticated all the same.
    let start = headwater_tests::clock::now();
    let principal = format!(
        "arn:aws:sts::{ACCOUNT}:assumed-role/{}/{}",
        world.role, world.device.id
    );
    let keys = || -> BTreeSet<String> {
        (iam.decisions().into_iter())
            .filter(|decision| decision.accepted && decision.principal == principal)
            .map(|decision| decision.key_id)
            .collect()
    };
    wait_until("more than ten lives are over", PATIENCE, || {
        start.elapsed() > 10 * LIFE && keys().len() > 10
    });
    writer.write(500);
    complete(&writer);
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    let by_iam = iam.decisions_for(&loader_key);
    assert!(
        by_iam.iter().any(|decision| decision.accepted),
        "{by_iam:?}"
    );
    let mut denied = iam.authorizations();
    denied.retain(|asked| !asked.allowed && asked.principal.contains(&principal));
    assert_eq!(
        denied,
        [],
        "the agent asked for what its policy does not give"
    );
    let mut secrets = iam.secrets();
    assert!(secrets.len() > 20, "{}", secrets.len());
    let key = fs::read_to_string(world.path("device.key")).expect("it is there");
    secrets.push(key.lines().nth(1).expect("a line of the key").to_owned());
    assert_nowhere(&secrets, &[agent.dir(), loader.dir()]);
}

#[test]
fn a_source_of_credentials_that_is_down_across_an_expiry_only_delays() {
    let world = World::new("down");
    world.set_life(LIFE);
    let loading = world.loading("down");
    world.allow(&loading.topic);
    let mut writer = Writer::new(world.path("app.log"), "w", 5);
    writer.write(300);
    let agent = world.agent(&loading).start();
    let loader = loading.start();
    let complete = |writer: &Writer| {
        let bucket = &loading.bucket;
        wait_until_complete(&[writer], &world.s3, bucket, "data/", PATIENCE).assert_exact();
    };
    complete(&writer);
    world.iot.set(|answer| answer.status = 500);
    wait_until("the agent says what is wrong", PATIENCE, || {
        agent.stderr().contains("no credentials") && agent.stderr().contains("status 500")
    });
    // Until the session is over; the lines after that find the door closed.
    std::thread::sleep(2 * LIFE);
    writer.write(300);
    wait_until("the agent buffers", PATIENCE, || {
        agent.stderr().contains("does not acknowledge")
    });
    world.set_life(LIFE);
    complete(&writer);
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
}

#[test]
fn a_certificate_that_is_replaced_is_another_principal_and_nothing_is_lost() {
    let world = World::new("renewed");
    world.set_life(LIFE);
    let loading = world.loading("renewed");
    world.allow(&loading.topic);
    let mut writer = Writer::new(world.path("app.log"), "w", 5);
    writer.write(300);
    let agent = world.agent(&loading).start();
    let loader = loading.start();
    let complete = |writer: &Writer| {
        let bucket = &loading.bucket;
        wait_until_complete(&[writer], &world.s3, bucket, "data/", PATIENCE).assert_exact();
    };
    complete(&writer);
    let renewed = world.msk.device(&world.device.name);
    world.iot.register(&renewed);
    world.install(&renewed);
    wait_until("the new certificate is taken up", PATIENCE, || {
        agent.stderr().contains("another principal")
    });
    // The old one is withdrawn: what goes on goes on by the new one.
    world.iot.deactivate(&world.device);
    writer.write(300);
    complete(&writer);
    let session = format!("/{}", renewed.id);
    let decisions = world.msk.iam().decisions();
    assert!(
        decisions
            .iter()
            .any(|d| d.accepted && d.principal.ends_with(&session)),
        "{}",
        agent.stderr()
    );
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
}

#[test]
fn a_right_that_is_missing_is_named_and_what_was_buffered_arrives_once_it_is_given() {
    let world = World::new("rights");
    let loading = world.loading("rights");
    world.allow("another-topic");
    let mut writer = Writer::new(world.path("app.log"), "w", 5);
    writer.write(300);
    let mut check = world.agent(&loading);
    let refused = connect(&mut check);
    assert_eq!(refused.code, Some(1));
    assert!(
        step(&refused, "authentication").starts_with("ok"),
        "{}",
        refused.stdout
    );
    let described = step(&refused, "describe");
    assert!(
        described.starts_with("FAILED") && described.contains("kafka-cluster:DescribeTopic"),
        "{described}"
    );
    assert_eq!(step(&refused, "write"), "not tried");
    let agent = world.agent(&loading).start();
    let loader = loading.start();
    wait_until("the agent buffers", PATIENCE, || {
        let said = agent.stderr();
        said.contains("does not acknowledge") || said.contains("came back unsent")
    });
    world.allow(&loading.topic);
    wait_until_complete(&[&writer], &world.s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    let allowed = connect(&mut check);
    assert_eq!(
        allowed.code,
        Some(0),
        "{}{}",
        allowed.stdout,
        allowed.stderr
    );
    for name in [
        "clock",
        "credentials",
        "names",
        "tls",
        "authentication",
        "describe",
        "write",
    ] {
        assert!(step(&allowed, name).starts_with("ok"), "{}", allowed.stdout);
    }
    assert!(
        step(&allowed, "read").starts_with("no"),
        "{}",
        allowed.stdout
    );
    // A certificate that AWS IoT does not know.
    let stranger = world.msk.device(&unique("stranger"));
    world.install(&stranger);
    let refused = connect(&mut check);
    let credentials = step(&refused, "credentials");
    assert!(
        credentials.starts_with("FAILED") && credentials.contains("iot:AssumeRoleWithCertificate"),
        "{credentials}"
    );
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.assert_proven();
}

fn scram(world: &World, (user, password): (&str, &str), file: &str) -> String {
    let path = world.path(file);
    put(&path, password.as_bytes());
    format!(
        "mode = \"scram-sha-512\"\nca = \"{}\"\nusername = \"{user}\"\npassword_file = \"{}\"\n",
        world.msk.pki().server_ca().display(),
        path.display()
    )
}

fn mtls(world: &World) -> String {
    format!(
        "mode = \"mtls\"\nca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
        world.msk.pki().server_ca().display(),
        world.path("device.crt").display(),
        world.path("device.key").display()
    )
}

#[test]
fn passwords_and_certificates_open_their_doors() {
    let world = World::new("doors");
    let loading = world.loading("doors");
    let (msk, topic) = (world.msk, &loading.topic);
    msk.allow_agent(&format!("User:{}", SCRAM_AGENT.0), topic);
    msk.allow_agent(&format!("User:CN={}", world.device.name), topic);
    msk.allow_loader(&format!("User:{}", SCRAM_LOADER.0), topic, loading.group());
    let by_password = scram(&world, SCRAM_LOADER, "loader-password");
    let loader = loader(&loading, &msk.bootstrap(Listener::Scram), &by_password).start();
    let start = |listener, security: &str, folder: &Path| -> Process {
        let brokers = msk.bootstrap(listener);
        Agent::with(&agent_config(&loading, &brokers, folder, security, "")).start()
    };
    let mut one = Writer::new(world.path("one.log"), "one", 5);
    one.write(300);
    let by_password = scram(&world, SCRAM_AGENT, "agent-password");
    let first = start(Listener::Scram, &by_password, world.folder.path());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut two = Writer::new(folder.path().join("two.log"), "two", 6);
    two.write(300);
    let second = start(Listener::Mtls, &mtls(&world), folder.path());
    let bucket = &loading.bucket;
    wait_until_complete(&[&one, &two], &world.s3, bucket, "data/", PATIENCE).assert_exact();
    for process in [&first, &second, &loader] {
        assert_eq!(process.sigterm_and_wait(PATIENCE).code(), Some(0));
    }
    let passwords = [SCRAM_AGENT.1.to_owned(), SCRAM_LOADER.1.to_owned()];
    assert_nowhere(&passwords, &[first.dir(), second.dir(), loader.dir()]);
}

#[test]
fn what_must_not_be_trusted_is_not_and_the_step_says_why() {
    let world = World::new("refused");
    let loading = world.loading("refused");
    let (msk, pki) = (world.msk, world.msk.pki());
    let checked = |listener, security: &str| {
        let brokers = msk.bootstrap(listener);
        let config = agent_config(&loading, &brokers, world.folder.path(), security, "");
        connect(&mut Agent::with(&config))
    };
    let wrong = scram(&world, (SCRAM_AGENT.0, "wrong"), "password");
    let refused = checked(Listener::Scram, &wrong);
    let said = step(&refused, "authentication");
    assert!(
        said.starts_with("FAILED") && said.contains("password"),
        "{said}"
    );
    let tls = |ca: &Path| format!("mode = \"tls\"\nca = \"{}\"\n", ca.display());
    for (listener, ca, part) in [
        (Listener::TlsExpired, pki.server_ca(), "expired"),
        (Listener::TlsWrongHost, pki.server_ca(), "another name"),
        (Listener::Tls, pki.stranger_ca(), "authority"),
    ] {
        let refused = checked(listener, &tls(ca));
        let said = step(&refused, "tls");
        assert!(said.starts_with("FAILED") && said.contains(part), "{said}");
        assert_eq!(refused.code, Some(1));
    }
    assert_eq!(checked(Listener::Tls, &tls(pki.server_ca())).code, Some(0));
    // A device's certificate that the brokers do not trust.
    let stranger = pki.device("stranger", DeviceCertificate::Stranger);
    world.install(&stranger);
    let refused = checked(Listener::Mtls, &mtls(&world));
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    // Readable by others: refused, with the mode to set, before anything is sent.
    let path = world.path("password");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let brokers = msk.bootstrap(Listener::Scram);
    let config = agent_config(&loading, &brokers, world.folder.path(), &wrong, "");
    let exposed = Agent::with(&config).start();
    assert_eq!(exposed.wait(PATIENCE).code(), Some(1));
    assert!(
        exposed.stderr().contains("chmod 600"),
        "{}",
        exposed.stderr()
    );
}
