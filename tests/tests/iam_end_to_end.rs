//! Agent and loader on a cluster that is secured as MSK is: by IAM with credentials of AWS IoT Core,
//! by SCRAM, by certificates; and what happens when any of that breaks.

use headwater_tests::kafka::Listener;
use headwater_tests::kafka::msk::{SCRAM_AGENT, SCRAM_LOADER};
use headwater_tests::oracle::{wait_until, wait_until_complete};
use headwater_tests::outside::unique;
use headwater_tests::pki::DeviceCertificate;
use headwater_tests::process::{Agent, Process};
use headwater_tests::secured::{
    Running, Secured, agent_config, assert_nowhere, connect, loader, loader_key, step,
};
use headwater_tests::writer::Writer;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);
/// Of temporary credentials, and so of tokens and sessions. Real ones live an hour.
const LIFE: Duration = Duration::from_secs(5);

#[test]
fn a_device_without_a_key_delivers_through_more_than_ten_lives_of_its_credentials() {
    let world = Secured::new("lives");
    world.set_life(LIFE);
    let loading = world.loading("lives");
    world.allow(&loading.topic);
    let iam = world.msk.iam();
    let loader_key = loader_key(world.msk, &loading);
    let brokers = world.msk.bootstrap(Listener::Iam);
    let (agent, loader) = (
        world.agent(&loading),
        loader(&loading, &brokers, &world.iam_security()),
    );
    let mut running = Running::of(&world, loading, agent, loader);
    // Most of the time nothing is written: an idle agent stays authenticated all the same.
    let start = headwater_tests::clock::now();
    let principal = world.principal(&world.device);
    let keys = || -> BTreeSet<String> {
        (iam.decisions().into_iter())
            .filter(|decision| decision.accepted && decision.principal == principal)
            .map(|decision| decision.key_id)
            .collect()
    };
    wait_until("more than ten lives are over", PATIENCE, || {
        start.elapsed() > 10 * LIFE && keys().len() > 10
    });
    running.writer.write(500);
    running.complete();
    // They may have ended in this moment, with the next ones on their way.
    wait_until(
        "status says until when there are credentials",
        PATIENCE,
        || {
            let status = running.agent.ask("status", &[]).stdout;
            status.contains("credentials end in ")
        },
    );
    running.stop();
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
    let searched = assert_nowhere(&secrets, &[running.agent.dir(), running.loader.dir()]);
    assert!(searched >= 4, "configurations and logs: {searched}");
}

#[test]
fn a_source_of_credentials_that_is_down_across_an_expiry_only_delays() {
    let world = Secured::new("down");
    world.set_life(LIFE);
    let mut running = Running::start(&world, "down");
    world.iot.set(|answer| answer.status = 500);
    wait_until("the agent says what is wrong", PATIENCE, || {
        let said = running.agent.stderr();
        said.contains("no credentials") && said.contains("status 500")
    });
    wait_until(
        "the credentials have ended, and status says so",
        PATIENCE,
        || {
            let status = running.agent.ask("status", &[]).stdout;
            status.contains("credentials ENDED") && status.contains("and not mended")
        },
    );
    // The lines after that find the door closed.
    running.writer.write(300);
    wait_until("the agent buffers", PATIENCE, || {
        running.agent.stderr().contains("does not acknowledge")
    });
    world.set_life(LIFE);
    running.complete();
    running.stop();
}

#[test]
fn a_certificate_that_is_replaced_is_another_principal_and_nothing_is_lost() {
    let world = Secured::new("renewed");
    world.set_life(LIFE);
    let mut running = Running::start(&world, "renewed");
    let renewed = world.msk.device(&world.device.name);
    world.iot.register(&renewed);
    world.install(&renewed);
    wait_until("the new certificate is taken up", PATIENCE, || {
        running.agent.stderr().contains("another principal")
    });
    // The old one is withdrawn: what goes on goes on by the new one.
    world.iot.deactivate(&world.device);
    running.writer.write(300);
    running.complete();
    let principal = world.principal(&renewed);
    // What the lines went by may be a session of the old one that had not ended yet.
    wait_until("the brokers see the new one", PATIENCE, || {
        let decisions = world.msk.iam().decisions();
        (decisions.iter()).any(|decision| decision.accepted && decision.principal == principal)
    });
    running.stop();
}

#[test]
fn a_right_that_is_missing_is_named_and_what_was_buffered_arrives_once_it_is_given() {
    let world = Secured::new("rights");
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

#[test]
fn passwords_and_certificates_open_their_doors() {
    let world = Secured::new("doors");
    let loading = world.loading("doors");
    let (msk, topic) = (world.msk, &loading.topic);
    msk.allow_agent(&format!("User:{}", SCRAM_AGENT.0), topic);
    msk.allow_agent(&format!("User:CN={}", world.device.name), topic);
    msk.allow_loader(&format!("User:{}", SCRAM_LOADER.0), topic, loading.group());
    let by_password = world.scram(SCRAM_LOADER, "loader-password");
    let loader = loader(&loading, &msk.bootstrap(Listener::Scram), &by_password).start();
    let start = |listener, security: &str, folder: &Path| -> Process {
        let brokers = msk.bootstrap(listener);
        Agent::with(&agent_config(&loading, &brokers, folder, security, "")).start()
    };
    let mut one = Writer::new(world.path("one.log"), "one", 5);
    one.write(300);
    let by_password = world.scram(SCRAM_AGENT, "agent-password");
    let first = start(Listener::Scram, &by_password, world.folder());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut two = Writer::new(folder.path().join("two.log"), "two", 6);
    two.write(300);
    let second = start(Listener::Mtls, &world.mtls(), folder.path());
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
    let world = Secured::new("refused");
    let loading = world.loading("refused");
    let (msk, pki) = (world.msk, world.msk.pki());
    let checked = |listener, security: &str| {
        let brokers = msk.bootstrap(listener);
        let config = agent_config(&loading, &brokers, world.folder(), security, "");
        connect(&mut Agent::with(&config))
    };
    let wrong = world.scram((SCRAM_AGENT.0, "wrong"), "password");
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
    let refused = checked(Listener::Mtls, &world.mtls());
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    // Readable by others: refused, with the mode to set, before anything is sent.
    let path = world.path("password");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let brokers = msk.bootstrap(Listener::Scram);
    let config = agent_config(&loading, &brokers, world.folder(), &wrong, "");
    let exposed = Agent::with(&config).start();
    assert_eq!(exposed.wait(PATIENCE).code(), Some(1));
    assert!(
        exposed.stderr().contains("chmod 600"),
        "{}",
        exposed.stderr()
    );
}
