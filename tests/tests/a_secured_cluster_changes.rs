//! What changes under a running agent and loader on a secured cluster of three brokers: keys are
//! revoked, passwords changed, clocks set, principals replaced, brokers lost. Nothing is lost by any
//! of it, and nothing stored twice.
//!
//! Sessions are over after four seconds here, so that every change is felt soon.

use headwater_tests::device_clock::DeviceClock;
use headwater_tests::kafka::{Listener, Msk, Policy};
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::unique;
use headwater_tests::process::Process;
use headwater_tests::secured::{Running, Secured, connect, loader, put, step};
use serde_json::Value;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);
const SESSION: Duration = Duration::from_secs(4);

/// The cluster, for one test at a time: one of them kills brokers.
fn cluster() -> (&'static Msk, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    static MSK: OnceLock<Msk> = OnceLock::new();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let start = || Msk::with().three_nodes().session_max(SESSION).start();
    (MSK.get_or_init(start), turn)
}

fn status(agent: &Process) -> Value {
    let told = agent.ask("status", &["--json"]).stdout;
    serde_json::from_str(&told).unwrap_or_default()
}

/// The broker refuses the agent, which says so, and that nothing of what it sends is acknowledged.
/// `before`: what it had said already.
fn says_refused(agent: &Process, before: &str) -> bool {
    let said = agent.stderr();
    let news = said.strip_prefix(before).unwrap_or_default();
    news.contains("uthentication") && news.contains("does not acknowledge")
}

#[test]
fn revoked_credentials_close_the_door_and_new_ones_open_it() {
    let (msk, _turn) = cluster();
    let world = Secured::on(msk, "revoked");
    world.set_life(3 * SESSION);
    let mut running = Running::start(&world, "revoked");
    // The certificate is withdrawn, and what was given for it is revoked.
    world.iot.deactivate(&world.device);
    msk.iam().revoke_all(&world.principal(&world.device));
    let principal = world.principal(&world.device);
    wait_until("broker and AWS IoT refuse it", PATIENCE, || {
        let decisions = msk.iam().decisions();
        let is_refused = (decisions.iter())
            .any(|one| one.reason == "revoked" && msk.iam().is_of(&one.key_id, &principal));
        is_refused && running.agent.stderr().contains("inactive certificate")
    });
    running.writer.write(300);
    wait_until("all of it is in the spool", PATIENCE, || {
        let told = status(&running.agent);
        told["broker"]["online"] == false && told["spool"]["batches"].as_u64() > Some(0)
    });
    let mut check = world.agent(&running.loading);
    let refused = connect(&mut check);
    let said = step(&refused, "credentials");
    assert!(
        said.starts_with("FAILED") && said.contains("must be active"),
        "{said}"
    );
    world.iot.register(&world.device);
    running.complete();
    running.stop();
    running.loading.assert_proven();
}

#[test]
fn a_password_is_changed_without_loss() {
    let (msk, _turn) = cluster();
    let world = Secured::on(msk, "password");
    let loading = world.loading("password");
    let user = unique("user");
    msk.set_scram_password(&user, "first-pass-1");
    msk.allow_agent(&format!("User:{user}"), &loading.topic);
    let security = world.scram((&user, "first-pass-1"), "password");
    let agent = world.agent_by(&loading, Listener::Scram, &security, "");
    let loader = loading.loader("[flush]\nage = \"300ms\"\n");
    let mut running = Running::of(&world, loading, agent, loader);
    let before = running.agent.stderr();
    msk.set_scram_password(&user, "second-pass-2");
    // The session that is under way goes on to its end: written to until then.
    wait_until("the refusal is said", PATIENCE, || {
        running.writer.write(20);
        says_refused(&running.agent, &before)
    });
    put(&world.path("password"), b"second-pass-2");
    running.complete();
    running.stop();
}

#[test]
fn a_clock_that_is_set_forward_and_back_is_corrected_for() {
    let (msk, _turn) = cluster();
    let world = Secured::on(msk, "clock");
    let loading = world.loading("clock");
    world.allow(&loading.topic);
    let clock = DeviceClock::right();
    let agent = world.agent(&loading).envs(clock.env());
    let loader = loading.loader("[flush]\nage = \"300ms\"\n");
    let mut running = Running::of(&world, loading, agent, loader);
    for (n, off_s) in [3600_i64, -3600, 0].into_iter().enumerate() {
        clock.set_off(off_s);
        wait_until("the step is noticed, and by how much", PATIENCE, || {
            let told = &status(&running.agent)["credentials"];
            let offset_s = told["clock_offset_ms"].as_i64().map(|ms| ms / 1000);
            let steps = u64::try_from(n).unwrap_or(0) + 1;
            told["clock_steps"] == steps && offset_s.is_some_and(|s| (s + off_s).abs() <= 5)
        });
        running.writer.write(200);
        running.complete();
        // And by a session that began after the step.
        std::thread::sleep(SESSION);
        running.writer.write(200);
        running.complete();
    }
    running.stop();
}

#[test]
fn a_loader_whose_principal_changes_goes_on_where_it_was() {
    let (msk, _turn) = cluster();
    let world = Secured::on(msk, "loader");
    let loading = world.loading("loader");
    let policy = Policy::loader(&loading.topic, loading.group());
    msk.iam().set_policy(&world.role, &policy);
    world.set_life(SESSION);
    let agent = loading.agent(&format!("{}/*.log", world.folder().display()), "");
    let brokers = msk.bootstrap(Listener::Iam);
    let loader = loader(
        &loading,
        &brokers,
        &(world.iam_security() + &world.iot_section()),
    );
    let mut running = Running::of(&world, loading, agent, loader);
    let renewed = msk.device(&world.device.name);
    world.iot.register(&renewed);
    world.install(&renewed);
    running.writer.write(300);
    wait_until("the new certificate is taken up", PATIENCE, || {
        let said = running.loader.stderr();
        said.contains("of another principal") && said.contains("joining again")
    });
    world.iot.deactivate(&world.device);
    msk.iam().revoke_all(&world.principal(&world.device));
    running.writer.write(300);
    running.complete();
    running.stop();
    running.loading.assert_proven();
}

#[test]
fn brokers_come_and_go_and_a_role_gets_its_rights_late() {
    let (msk, _turn) = cluster();
    let world = Secured::on(msk, "brokers");
    let loading = world.loading("brokers");
    // Nothing may be done yet, not even to connect.
    let mut check = world.agent(&loading);
    let refused = connect(&mut check);
    let said = step(&refused, "authentication");
    assert!(
        said.starts_with("FAILED") && said.contains("kafka-cluster:Connect"),
        "{said}"
    );
    // As for another region.
    let other = world.iam_security().replace("us-west-2", "eu-west-1");
    let mut elsewhere = world.agent_by(&loading, Listener::Iam, &other, &world.iot_section());
    let refused = connect(&mut elsewhere);
    let said = step(&refused, "authentication");
    assert!(
        said.starts_with("FAILED") && said.contains("region"),
        "{said}"
    );
    let (loader, agent) = (loading.start(), world.agent(&loading).start());
    let mut running = Running {
        writer: headwater_tests::writer::Writer::new(world.path("app.log"), "w", 5),
        loading,
        agent,
        loader,
    };
    running.writer.write(300);
    wait_until("the refusal is said", PATIENCE, || {
        says_refused(&running.agent, "")
    });
    world.allow(&running.loading.topic);
    running.complete();
    msk.kafka().kill_node(0);
    running.writer.write(300);
    running.complete();
    msk.kafka().restart();
    msk.kafka().stop_node(1);
    running.writer.write(300);
    msk.kafka().restart();
    running.complete();
    running.stop();
    running.loading.assert_proven();
}
