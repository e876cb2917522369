//! What opens a door stands in nothing that a full run writes: logs at their loudest, librdkafka's own
//! debugging included, the spool, metrics, status, every check, the objects in S3, the records in Kafka.

use headwater_tests::kafka::Listener;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::free_address;
use headwater_tests::process::{Process, Setup};
use headwater_tests::secured::{Needles, Running, Secured, assert_nowhere, connect};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);
const LIFE: Duration = Duration::from_secs(8);

/// The same with librdkafka's debugging, and metrics at `listen`.
fn loud(setup: Setup, listen: &str) -> Setup {
    let text = fs::read_to_string(setup.dir().join("config.toml")).expect("it was written");
    let text = text.replace("[kafka.options]", "[kafka.options]\ndebug = \"all\"");
    let section = match text.contains("state_dir") {
        true => "admin",
        false => "http",
    };
    setup.set_config(&format!("{text}\n[{section}]\nlisten = \"{listen}\"\n"));
    setup
}

/// What is served at `path`, put beside the program's own files.
fn fetch(process: &Process, listen: &str, path: &str) -> String {
    let mut text = String::new();
    wait_until("it answers", PATIENCE, || {
        text.clear();
        let Ok(mut stream) = TcpStream::connect(listen) else {
            return false;
        };
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).is_ok()
            && stream.read_to_string(&mut text).is_ok()
            && text.contains(" 200 ")
    });
    let name = format!("{}.http", path.replace('/', ""));
    fs::write(process.dir().join(name), &text).expect("the disk takes it");
    text
}

/// Everything that a person can ask the running agent and its configuration.
fn ask_everything(agent: &Process, listen: &str) {
    for (command, more, expected) in [
        ("status", &[][..], "credentials"),
        ("status", &["--json"], "\"credentials\""),
        ("check", &[], "[credentials.iot]"),
        ("check", &["--json"], "\"iot\""),
        ("check", &["--connect"], "# connect: credentials"),
        ("spool list", &[], ""),
        ("spool export", &[], ""),
    ] {
        let told = agent.ask(command, more);
        assert!(
            told.stdout.contains(expected),
            "{command} {more:?}: {}",
            told.stdout
        );
    }
    assert!(fetch(agent, listen, "/metrics").contains("credentials_valid"));
    fetch(agent, listen, "/status");
}

/// What the loader's metrics say of its credentials is what AWS IoT and the brokers saw: it was given some, then
/// none, and signed with each token that came.
fn assert_credentials_told(world: &Secured<'_>, loader: &Process, listen: &str) {
    let of = |name: &str| -> Option<f64> {
        let text = fetch(loader, listen, "/metrics");
        let name = format!("headwater_loader_{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name))?;
        line.trim().parse().ok()
    };
    let given = |status: u16| {
        let requests = world.iot.requests().into_iter();
        let ours = requests.filter(|one| one.line.contains("/loaders/") && one.status == status);
        u32::try_from(ours.count()).map_or(f64::NAN, f64::from)
    };
    wait_until("each answer of AWS IoT is counted", PATIENCE, || {
        let told = [
            of("credentials_fetched_total"),
            of("credentials_failures_total"),
        ];
        told == [Some(given(200)), Some(given(403))]
    });
    assert!(given(200) > 0.0 && given(403) > 0.0);
    assert_eq!(of("credentials_valid"), Some(0.0));
    assert_eq!(of("principals_changed_total"), Some(0.0));
    assert!(of("credentials_left_seconds").is_none_or(|left| left <= 0.0));
    assert!(of("clock_offset_seconds").is_some_and(|off| off.abs() < 2.0));
    assert_eq!(of("clock_steps_total"), Some(0.0));
    let signed = of("tokens_signed_total");
    assert!(signed >= of("credentials_fetched_total"), "{signed:?}");
}

/// Every secret that was handed out, a line of each private key, and the key of S3.
fn secrets_of(world: &Secured<'_>) -> Vec<String> {
    let mut secrets = world.msk.iam().secrets();
    assert!(secrets.len() > 10, "{}", secrets.len());
    for key in ["device.key", "task.key"] {
        let pem = fs::read_to_string(world.path(key)).expect("it is there");
        secrets.push(pem.lines().nth(1).expect("a line of the key").to_owned());
    }
    let s3 = world.s3.env();
    let secret = s3.iter().find(|(name, _)| *name == "AWS_SECRET_ACCESS_KEY");
    secrets.push(secret.expect("S3 has keys").1.clone());
    secrets
}

/// Neither objects nor records hold one.
fn assert_not_delivered(world: &Secured<'_>, loading: &Loading<'_>, secrets: &[String]) {
    let needles = Needles::new(secrets);
    let objects = world.s3.objects(&loading.bucket, "");
    assert!(!objects.is_empty());
    for (key, bytes) in &objects {
        needles.assert_not_in(bytes, key);
    }
    for record in world.msk.kafka().records(&loading.topic) {
        needles.assert_not_in(format!("{record:?}").as_bytes(), "a record");
        needles.assert_not_in(&record.value, "a record");
    }
}

#[test]
fn nothing_that_a_full_run_writes_holds_a_secret() {
    let world = Secured::new("secrets");
    world.set_life(LIFE);
    let loading = world.loading("secrets");
    world.allow(&loading.topic);
    let (at_agent, at_loader) = (free_address(), free_address());
    let agent = loud(world.agent(&loading), &at_agent);
    let (loader, _) = world.loader_by_iam(&loading);
    let loader = loud(loader, &at_loader);
    let mut running = Running::start_of(
        &world,
        loading,
        agent.start_as("run --log debug"),
        loader.start_as("run --log debug"),
    );
    ask_everything(&running.agent, &at_agent);
    let decoded = running.agent.ask("token", &["--decode"]);
    assert!(decoded.stdout.contains("(not shown)"), "{}", decoded.stdout);

    // Credentials end, and what is wrong is said everywhere; lines wait in the spool.
    world.iot.set(|answer| answer.status = 403);
    for (process, listen) in [(&running.agent, &at_agent), (&running.loader, &at_loader)] {
        wait_until("there are none", PATIENCE, || {
            fetch(process, listen, "/metrics").contains("credentials_valid 0")
        });
    }
    assert_credentials_told(&world, &running.loader, &at_loader);
    running.writer.write(300);
    wait_until("lines wait in the spool", PATIENCE, || {
        let told = running.agent.ask("status", &["--json"]).stdout;
        let told: Value = serde_json::from_str(&told).unwrap_or_default();
        told["broker"]["online"] == false && told["spool"]["batches"].as_u64() > Some(0)
    });
    ask_everything(&running.agent, &at_agent);
    let refused = running.agent.ask("token", &["--decode"]);
    assert!(refused.stderr.contains("403"), "{}", refused.stderr);
    world.set_life(LIFE);
    running.complete();
    running.stop();
    world.set_life(Duration::from_secs(3600));
    let mut check = world.agent(&running.loading);
    assert_eq!(connect(&mut check).code, Some(0));
    let mut loader = running.loader.stopped();
    // Louder is refused: AWS's signer would say what it signs.
    let louder = loader.run("--log trace check", &[]);
    assert!(
        louder.stderr.contains("would say secrets"),
        "{}",
        louder.stderr
    );
    for (command, more) in [
        ("check", &[][..]),
        ("audit", &["--json"]),
        ("topics", &["describe"]),
    ] {
        let told = loader.run(command, more);
        assert!(!told.stdout.is_empty(), "{command}: {}", told.stderr);
    }

    let secrets = secrets_of(&world);
    let folders: [&Path; 3] = [running.agent.dir(), loader.dir(), check.dir()];
    let searched = assert_nowhere(&secrets, &folders);
    assert!(searched > 30, "{searched}");
    assert_not_delivered(&world, &running.loading, &secrets);
    // It was as loud as can be.
    let said = running.agent.stderr();
    assert!(
        said.contains("SASL") && said.contains("OAUTHBEARER"),
        "librdkafka was not heard"
    );
    let brokers = world.msk.bootstrap(Listener::Iam);
    assert!(said.contains(&brokers), "nor which brokers it asked");
}
