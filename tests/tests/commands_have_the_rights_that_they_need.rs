//! `run`, `plan`, `replay` and `backfill` on a cluster that asks by IAM: the loader's own policy is enough for them;
//! the last three do without the right to commit, `run` without a look at the topic's configuration, and all say so
//! where another one is missing.

use std::collections::BTreeSet;

use headwater_tests::device::Device;
use headwater_tests::kafka::iam::Authorization;
use headwater_tests::kafka::{Listener, Policy};
use headwater_tests::loading::Loading;
use headwater_tests::oracle::{Report, stored_in_folder, wait_until};
use headwater_tests::process::Finished;
use headwater_tests::secured::{Secured, loader, loader_key};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);
const POLICY: &str = include_str!("../../deploy/iam-loader.json");

/// The deployed policy less one action.
fn without(action: &str) -> String {
    let mut policy: serde_json::Value = serde_json::from_str(POLICY).expect("JSON");
    let statements = policy["Statement"].as_array_mut().expect("statements");
    let mut removed = 0;
    for statement in statements {
        if let Some(actions) = statement["Action"].as_array_mut() {
            let before = actions.len();
            actions.retain(|one| one != action);
            removed += before - actions.len();
        }
    }
    assert_eq!(removed, 1, "{action} is not in the policy");
    policy.to_string()
}

struct World<'a> {
    secured: &'a Secured<'static>,
    loading: Loading<'a>,
    role: String,
}

impl World<'_> {
    fn allow(&self, document: &str) {
        let Loading { topic, .. } = &self.loading;
        let policy = Policy::deployed(document, topic, self.loading.group());
        self.secured.msk.iam().set_policy(&self.role, &policy);
    }

    fn run(&self, command: &str, more: &[&str]) -> Finished {
        let brokers = self.secured.msk.bootstrap(Listener::Iam);
        loader(&self.loading, &brokers, &self.secured.iam_security()).run(command, more)
    }

    /// What the loader's role asked for so far.
    fn asked(&self) -> Vec<Authorization> {
        let all = self.secured.msk.iam().authorizations().into_iter();
        all.filter(|one| one.principal.contains(&self.role))
            .collect()
    }
}

/// Lines that are loaded, with some before them that only `backfill` brings: half of them with the whole policy, half
/// as with one of an older version, by which nobody may look whether the topic is compacted.
fn load(world: &World<'_>) -> Vec<String> {
    const LOOK: &str = "kafka-cluster:DescribeTopicDynamicConfiguration";
    let Loading { kafka, topic, .. } = &world.loading;
    let mut device = Device::new("pi-7", "/var/log/app", 7);
    let lines: Vec<String> = (0..40).map(|n| format!("line {n}")).collect();
    kafka.produce(topic, lines[..20].iter().map(|line| device.line(line)));
    let said = store(world, 20);
    assert_eq!(untold(&said), 0, "{said}");
    let denied = world.asked().into_iter().find(|one| !one.allowed);
    assert_eq!(denied, None, "it asks for nothing that it is not given");
    world.allow(&without(LOOK));
    kafka.produce(topic, lines[20..].iter().map(|line| device.line(line)));
    let said = store(world, 40);
    assert_eq!(
        (untold(&said), said.matches(LOOK).count()),
        (1, 1),
        "{said}"
    );
    // As if the loader had begun later: the first object is not there.
    let first = world
        .loading
        .stored()
        .into_iter()
        .map(|row| row.object)
        .min();
    let first = first.expect("there are objects");
    world.loading.s3.lose(&world.loading.bucket, &first);
    lines
}

/// What a loader says that runs until so many lines are stored.
fn store(world: &World<'_>, lines: usize) -> String {
    let brokers = world.secured.msk.bootstrap(Listener::Iam);
    let running = loader(&world.loading, &brokers, &world.secured.iam_security()).start();
    wait_until("the lines are stored", PATIENCE, || {
        world.loading.stored().len() >= lines
    });
    assert_eq!(running.sigterm_and_wait(PATIENCE).code(), Some(0));
    running.stderr()
}

/// How often it is said that nobody tells whether the topic is compacted.
fn untold(said: &str) -> usize {
    said.matches("it is not known whether the topic is compacted")
        .count()
}

fn assert_ended(ran: &Finished, what: &str, code: i32) {
    assert_eq!(ran.code, Some(code), "{what}: {}{}", ran.stdout, ran.stderr);
}

#[test]
fn the_loaders_policy_is_enough_to_look_and_to_replay_and_no_less() {
    let secured = Secured::new("rights");
    let loading = secured.loading("rights");
    let key = loader_key(secured.msk, &loading);
    let role = key.principal.split('/').nth(1).expect("a role").to_owned();
    let world = World {
        secured: &secured,
        loading,
        role,
    };
    let lines = load(&world);
    let stretch = ["--from", "earliest", "--until", "latest"];
    // With the whole policy, and less the right to commit: they commit nothing.
    for policy in [POLICY.to_owned(), without("kafka-cluster:AlterGroup")] {
        world.allow(&policy);
        let before: BTreeSet<Authorization> = world.asked().into_iter().collect();
        assert_ended(&world.run("plan", &["--json"]), "plan", 0);
        let folder = tempfile::tempdir().expect("a folder");
        let to = |name: &str| format!("file://{}/{name}", folder.path().display());
        let again = to("again");
        let replay = [&["--to", &again], &stretch[..]].concat();
        assert_ended(&world.run("replay", &replay), "replay", 0);
        Report::compare(
            lines.clone(),
            &stored_in_folder(&folder.path().join("again")),
        )
        .assert_exact();
        assert_ended(
            &world.run("backfill", &["--to", &to("before")]),
            "backfill",
            0,
        );
        let denied: Vec<Authorization> = world
            .asked()
            .into_iter()
            .filter(|one| !one.allowed && !before.contains(one))
            .collect();
        assert_eq!(denied, [], "they ask for nothing that they are not given");
    }
    for action in ["kafka-cluster:DescribeTopic", "kafka-cluster:ReadData"] {
        world.allow(&without(action));
        let folder = tempfile::tempdir().expect("a folder");
        let to = format!("file://{}/again", folder.path().display());
        let replay = [&["--to", &to], &stretch[..]].concat();
        for (command, more, code) in [
            ("plan", &[][..], 2),
            ("replay", &replay, 1),
            ("backfill", &["--to", &to], 1),
        ] {
            let refused = world.run(command, more);
            assert_ended(&refused, &format!("{command} without {action}"), code);
        }
        assert_eq!(stored_in_folder(folder.path()), [], "{action}");
    }
}
