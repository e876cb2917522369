//! SIGHUP: a new configuration is taken as a whole, without a stop and without a line lost or stored
//! twice; a bad one is refused with everything that is wrong with it, and the one before it stays.

use std::time::Duration;

use headwater_tests::kafka::Kafka;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::{Report, wait_until, wait_until_complete};
use headwater_tests::process::Process;
use headwater_tests::s3::S3;
use headwater_tests::writer::Writer;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

fn reloads(agent: &Process) -> Value {
    let told = agent.ask("status", &["--json"]);
    let status: Value = serde_json::from_str(&told.stdout).unwrap_or_default();
    status["reloads"].clone()
}

#[test]
fn sources_come_and_go_and_a_bad_configuration_changes_nothing() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "reload", 2);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path().display().to_string();
    let (mut stays, mut comes) = (
        Writer::new(folder.path().join("stays.log"), "s", 5),
        Writer::new(folder.path().join("comes.log"), "c", 5),
    );
    let config = |more: &str| {
        let paths = format!("{at}/stays.log");
        loading.agent_config(kafka.bootstrap(), &paths, more)
    };
    let more = format!("[[file]]\nid = \"more\"\npaths = [\"{at}/comes.log\"]\n");
    stays.write(2000);
    comes.write(500);
    let agent = headwater_tests::process::Agent::start(&config(""));
    let loader = loading.start();
    wait_until_complete(&[&stays], &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    let pid = agent.pid();

    agent.set_config(&config("[[file]]\nid = \"app\"\npaths = [\"relative\"]\n"));
    agent.sighup();
    wait_until("the bad one is refused", PATIENCE, || {
        reloads(&agent)["refused"] == 1
    });
    let said = agent.stderr();
    for problem in ["names another source already", "is not absolute"] {
        assert!(said.contains(problem), "{problem}: {said}");
    }
    agent.set_config(&config("[window]\nbytes = \"1MiB\"\n"));
    agent.sighup();
    wait_until("what needs a restart is named", PATIENCE, || {
        agent.stderr().contains("changes in window need a restart")
    });

    // Whatever is on its way while the sources change is stored once.
    for round in 0..5 {
        stays.write(400);
        agent.set_config(&config(if round % 2 == 0 { &more } else { "" }));
        agent.sighup();
        stays.write(400);
        comes.write(100);
        let taken = round + 1;
        wait_until("it is taken", PATIENCE, || {
            reloads(&agent)["taken"] == taken
        });
    }
    let all = wait_until_complete(&[&stays, &comes], &s3, &loading.bucket, "data/", PATIENCE);
    all.assert_exact();
    assert_eq!(agent.pid(), pid);
    let metrics = agent.ask("status", &[]);
    assert!(!metrics.stdout.contains("REFUSED"), "{}", metrics.stdout);
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    wait_until("the ledger is complete", PATIENCE, || {
        loading.audit().code == Some(0)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    Report::of([&stays, &comes], &s3, &loading.bucket, "data/").assert_exact();
}
