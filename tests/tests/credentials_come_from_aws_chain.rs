//! Credentials as AWS's tools find them, on a device: from an external process, by web identity, from
//! a container endpoint, from the instance. Each keeps an agent authenticated over several lives of
//! what it gives; each says by its name when it gives nothing; and nothing of what it hands over, or
//! is shown for it, stands in any file.

use headwater_tests::aws::{AwsStandIn, Way};
use headwater_tests::kafka::iam::{ACCOUNT, Iam};
use headwater_tests::kafka::{Listener, Policy};
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::unique;
use headwater_tests::pki::Pki;
use headwater_tests::process::Agent;
use headwater_tests::secured::{Secured, assert_nowhere, connect, put, step};
use headwater_tests::writer::Writer;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);
const LIFE: Duration = Duration::from_secs(5);

/// An agent lives on what one way gives, and through a failure of it that says `failure`.
fn lives_by(way: Way, failure: &str) {
    let world = Secured::new("chain");
    let loading = world.loading("chain");
    world.allow(&loading.topic);
    let aws = AwsStandIn::start(world.msk.iam(), &world.role, "pi-7");
    aws.set(|answering| answering.life = LIFE);
    let env = aws.env(way);
    let setup = || {
        let security = world.iam_security();
        let setup = world.agent_by(&loading, Listener::Iam, &security, "");
        setup.envs(env.clone())
    };
    let mut writer = Writer::new(world.path("app.log"), "w", 5);
    writer.write(100);
    let agent = setup().start();
    let depth = || world.msk.kafka().depth(&loading.topic);
    wait_until("it delivers", PATIENCE, || depth() >= 100);
    let keys = || -> BTreeSet<String> {
        let role = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{}/pi-7", world.role);
        let decisions = world.msk.iam().decisions().into_iter();
        decisions
            .filter(|one| one.accepted && one.principal == role)
            .map(|one| one.key_id)
            .collect()
    };
    wait_until("three lives are over", PATIENCE, || keys().len() > 3);
    assert!(
        !agent.stderr().contains("another principal"),
        "{}",
        agent.stderr()
    );

    aws.set(|answering| answering.status = 500);
    wait_until("it says which step fails", PATIENCE, || {
        agent.stderr().contains(failure)
    });
    let mut check = setup();
    let refused = connect(&mut check);
    let said = step(&refused, "credentials");
    assert!(
        said.starts_with("FAILED") && said.contains(failure),
        "{said}"
    );
    wait_until("the credentials have ended", PATIENCE, || {
        let status = agent.ask("status", &[]).stdout;
        status.contains("credentials ENDED") && status.contains(failure)
    });
    writer.write(100);
    aws.set(|answering| answering.status = 200);
    wait_until("it delivers again", PATIENCE, || depth() >= 200);
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));

    let mut secrets = world.msk.iam().secrets();
    secrets.extend(aws.secrets());
    let searched = assert_nowhere(&secrets, &[agent.dir(), check.dir()]);
    assert!(searched >= 4, "{searched}");
}

#[test]
fn an_external_process() {
    lives_by(Way::Process, "profile: ");
}

#[test]
fn web_identity() {
    lives_by(Way::WebIdentity, "web identity: ");
}

#[test]
fn a_container_endpoint() {
    lives_by(Way::Container, "container endpoint: ");
}

#[test]
fn the_instance() {
    lives_by(Way::Instance, "instance (IMDSv2): ");
}

#[test]
fn a_program_that_hangs_does_not_outlive_the_agent() {
    let (folder, pki) = (tempfile::tempdir().expect("a temporary folder"), Pki::new());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let program = format!(
        "echo $$ >> {0}\nsleep 1000 &\necho $! >> {0}\nwait\n",
        path("pids")
    );
    put(&folder.path().join("helper"), program.as_bytes());
    let profile = format!("[default]\ncredential_process = sh {}\n", path("helper"));
    put(&folder.path().join("config"), profile.as_bytes());
    put(&folder.path().join("credentials"), b"");
    let ca = format!("mode = \"iam\"\nca = \"{}\"", pki.server_ca().display());
    let config = format!("state_dir = \"{{dir}}/state\"\n{CONFIG}");
    let agent = Agent::with(&config.replace("mode = \"iam\"", &ca)).envs([
        ("AWS_CONFIG_FILE", path("config")),
        ("AWS_SHARED_CREDENTIALS_FILE", path("credentials")),
    ]);
    let agent = agent.start();
    let running = || -> Vec<String> {
        let pids = std::fs::read_to_string(path("pids")).unwrap_or_default();
        let is_there = |pid: &&str| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // A zombie has ended; whoever adopted it has not asked yet.
            stat.rsplit_once(") ")
                .is_some_and(|(_, state)| !state.starts_with('Z'))
        };
        pids.lines().filter(is_there).map(str::to_owned).collect()
    };
    wait_until("it hangs, with a child", PATIENCE, || running().len() == 2);
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    wait_until("nothing of it is left", PATIENCE, || running().is_empty());
}

const CONFIG: &str = r#"
    device = "pi-7"
    [kafka]
    brokers = ["localhost:9098"]
    topic = "logs"
    [kafka.security]
    mode = "iam"
    region = "us-west-2"
    [[file]]
    id = "app"
    paths = ["/nowhere/*.log"]
    "#;

#[test]
fn answers_are_bounded_and_what_the_device_shows_matters() {
    let iam = Arc::new(Iam::alone());
    let role = unique("role");
    iam.set_policy(&role, &Policy::all());
    let aws = AwsStandIn::start(&iam, &role, "pi-7");
    let mut agent = Agent::with(CONFIG).envs(aws.env(Way::Container));
    let given = agent.run("token", &[]);
    assert_eq!(given.code, Some(0), "{}", given.stderr);
    let now = headwater_tests::clock::wall();
    let judged = iam.judge(&[(now, given.stdout.trim().to_owned())]);
    assert!(judged[0].accepted, "{judged:?}");

    aws.set(|answering| answering.padding = 64 * 1024);
    let refused = agent.run("token", &[]);
    assert_eq!(refused.code, Some(1));
    let said = refused.stderr;
    assert!(
        said.contains("container endpoint: ") && said.contains("larger than 64 KiB"),
        "{said}"
    );
    aws.set(|answering| answering.padding = 0);
    put(&aws.token_file(), b"another");
    let refused = agent.run("token", &[]);
    assert_eq!(refused.code, Some(1));
    let said = refused.stderr;
    assert!(said.contains("container endpoint: "), "{said}");
}
