//! A cluster that must not be trusted, and one that does not let an agent or a loader do what it has to:
//! each says why while it runs, keeps what it has, and goes on once it is mended. Nothing is lost by it,
//! and nothing stored twice.

use headwater_tests::kafka::{Listener, Policy};
use headwater_tests::oracle::wait_until;
use headwater_tests::process::{Agent, Process};
use headwater_tests::secured::{Running, Secured, agent_config};
use headwater_tests::writer::Writer;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);

/// Whether lines wait in the spool, and the broker counts as away.
fn buffers(agent: &Process) -> bool {
    let told = agent.ask("status", &["--json"]).stdout;
    let told: Value = serde_json::from_str(&told).unwrap_or_default();
    told["broker"]["online"] == false && told["spool"]["batches"].as_u64() > Some(0)
}

#[test]
fn a_broker_that_must_not_be_trusted_is_given_nothing() {
    let world = Secured::new("untrusted");
    let loading = world.loading("untrusted");
    let (msk, pki) = (world.msk, world.msk.pki());
    let config = |listener, ca: &Path| {
        let security = format!("mode = \"tls\"\nca = \"{}\"\n", ca.display());
        agent_config(
            &loading,
            &msk.bootstrap(listener),
            world.folder(),
            &security,
            "",
        )
    };
    let mut writer = Writer::new(world.path("app.log"), "w", 5);
    let mut agent = Agent::with(&config(Listener::Tls, pki.server_ca()));
    // Which of the three it is, `check --connect` says.
    for (listener, ca) in [
        (Listener::TlsExpired, pki.server_ca()),
        (Listener::TlsWrongHost, pki.server_ca()),
        (Listener::Tls, pki.stranger_ca()),
    ] {
        agent.set_config(&config(listener, ca));
        let running = agent.start();
        writer.write(100);
        wait_until("it says why, and keeps what it reads", PATIENCE, || {
            let said = running.stderr();
            said.contains("the broker's certificate has expired, is for another name, or")
                && said.contains("does not acknowledge")
                && buffers(&running)
        });
        assert_eq!(msk.kafka().depth(&loading.topic), 0);
        assert_eq!(running.sigterm_and_wait(PATIENCE).code(), Some(0));
        agent = running.stopped();
    }
    agent.set_config(&config(Listener::Tls, pki.server_ca()));
    let loader = loading.start();
    let running = Running {
        loading,
        writer,
        agent: agent.start(),
        loader,
    };
    running.complete();
    running.stop();
    running.loading.assert_proven();
}

#[test]
fn a_token_for_another_region_is_refused_until_the_region_is_right() {
    let world = Secured::new("region");
    let loading = world.loading("region");
    world.allow(&loading.topic);
    let config = |security: &str| {
        let brokers = world.msk.bootstrap(Listener::Iam);
        let more = world.iot_section();
        agent_config(&loading, &brokers, world.folder(), security, &more)
    };
    let wrong = world.iam_security().replace("us-west-2", "eu-west-1");
    let agent = Agent::with(&config(&wrong)).start();
    let mut writer = Writer::new(world.path("app.log"), "w", 5);
    writer.write(300);
    wait_until("it is refused, says so, and buffers", PATIENCE, || {
        agent.stderr().contains("Access denied")
            && agent.stderr().contains("kafka-cluster:Connect")
            && buffers(&agent)
    });
    let decisions = world.msk.iam().decisions();
    assert!(
        decisions.iter().any(|one| one.reason == "wrong_region"),
        "{decisions:?}"
    );
    assert_eq!(world.msk.kafka().depth(&loading.topic), 0);
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    let agent = agent.stopped();
    agent.set_config(&config(&world.iam_security()));
    let loader = loading.start();
    let running = Running {
        loading,
        writer,
        agent: agent.start(),
        loader,
    };
    running.complete();
    running.stop();
    running.loading.assert_proven();
}

#[test]
fn a_right_that_is_taken_from_a_running_agent_and_given_back_costs_nothing() {
    let world = Secured::new("taken");
    let mut running = Running::start(&world, "taken");
    let before = world.msk.kafka().depth(&running.loading.topic);
    world.allow("another-topic");
    running.writer.write(300);
    wait_until("it says so, and buffers", PATIENCE, || {
        let said = running.agent.stderr();
        said.contains("Topic authorization failed") && buffers(&running.agent)
    });
    assert_eq!(world.msk.kafka().depth(&running.loading.topic), before);
    world.allow(&running.loading.topic);
    running.complete();
    running.stop();
    running.loading.assert_proven();
}

#[test]
fn a_loader_says_which_right_it_lacks_and_goes_on_once_it_has_it() {
    let world = Secured::new("reader");
    let loading = world.loading("reader");
    let (loader, principal) = world.loader_by_iam(&loading);
    let role = principal.split('/').nth(1).expect("a role");
    let whole = include_str!("../../deploy/iam-loader.json");
    let without = |part: &str| {
        let less = whole.replace(part, "");
        assert_ne!(less, whole, "{part}");
        let policy = Policy::deployed(&less, &loading.topic, loading.group());
        world.msk.iam().set_policy(role, &policy);
    };
    without(", \"kafka-cluster:AlterGroup\"");
    let agent = loading.agent(&format!("{}/*.log", world.folder().display()), "");
    let agent = agent.start();
    let mut writer = Writer::new(world.path("app.log"), "w", 5);
    writer.write(300);
    let loader = loader.start();
    wait_until("it may not join", PATIENCE, || {
        loader.stderr().contains("Group authorization failed")
    });
    without(", \"kafka-cluster:ReadData\"");
    wait_until("it may not read", PATIENCE, || {
        loader.stderr().contains("Topic authorization failed")
    });
    let policy = Policy::loader(&loading.topic, loading.group());
    world.msk.iam().set_policy(role, &policy);
    let mut running = Running {
        loading,
        writer,
        agent,
        loader,
    };
    running.complete();
    // Of a loader that works, while it works: its state comes behind the objects.
    wait_until("both proofs hold", PATIENCE, || {
        let proofs = [running.loading.audit(), running.loading.verify()];
        proofs.iter().all(|proof| proof.code == Some(0))
    });
    running.loading.assert_proven();
    let refusals = || {
        let said = running.loader.stderr();
        said.matches("Group authorization failed").count()
    };
    let before = refusals();
    without_again(&world, role, &running, whole);
    running.writer.write(300);
    wait_until("it may not commit", PATIENCE, || refusals() > before);
    world.msk.iam().set_policy(role, &policy);
    running.complete();
    running.stop();
    running.loading.assert_proven();
}

/// Takes the right to commit.
fn without_again(world: &Secured<'_>, role: &str, running: &Running<'_>, whole: &str) {
    let less = whole.replace(", \"kafka-cluster:AlterGroup\"", "");
    let policy = Policy::deployed(&less, &running.loading.topic, running.loading.group());
    world.msk.iam().set_policy(role, &policy);
}
