//! Promise 4: outside its hours, and between its sessions, a device has no connection and sends nothing, and what it
//! reads waits. The clock that decides on hours is the device's own, which the test sets.

use std::time::{Duration, UNIX_EPOCH};

use headwater_tests::clock;
use headwater_tests::device_clock::DeviceClock;
use headwater_tests::kafka::Kafka;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::{wait_until, wait_until_complete};
use headwater_tests::process::Process;
use headwater_tests::s3::S3;
use headwater_tests::writer::Writer;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(240);
const HOUR: i64 = 3600;
/// From setting the clock to the moment that the agent is to notice by itself, seconds. It looks at its clock
/// with every batch that is read, and so it has seen the new time by then.
const AHEAD: i64 = 6;

fn status(agent: &Process) -> Value {
    let told = agent.ask("status", &["--json"]);
    serde_json::from_str(&told.stdout).unwrap_or_default()
}

/// Unix time, seconds, of this machine.
fn now() -> i64 {
    let since = clock::wall().duration_since(UNIX_EPOCH);
    let seconds = since.expect("this machine's clock is set").as_secs();
    i64::try_from(seconds).expect("not in our time")
}

fn of_day(unix: i64) -> String {
    let minute = unix / 60 % (24 * 60);
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// What the tests look at from outside.
struct Seen<'a> {
    kafka: &'a Kafka,
    topic: &'a str,
    ports: Vec<u16>,
}

impl<'a> Seen<'a> {
    fn of(kafka: &'a Kafka, topic: &'a str) -> Self {
        let brokers = kafka.bootstrap().split(',');
        Self {
            kafka,
            topic,
            ports: brokers
                .filter_map(|one| one.rsplit_once(':')?.1.parse().ok())
                .collect(),
        }
    }

    fn depth(&self) -> i64 {
        self.kafka.depth(self.topic)
    }

    fn is_connected(&self, agent: &Process) -> bool {
        !agent.sockets(&self.ports).is_empty()
    }

    /// Closed for this reason, for a while.
    fn assert_away(&self, agent: &Process, depth: i64, by: &str) {
        for _ in 0..10 {
            assert_eq!(self.depth(), depth, "it sends");
            assert!(!self.is_connected(agent), "it is connected");
            std::thread::sleep(Duration::from_millis(100));
        }
        let gate = &status(agent)["uplink"]["gate"];
        let closed = (&false.into(), &by.into());
        assert_eq!((&gate["open"], &gate["by"]), closed);
    }
}

fn wait_until_spooled(agent: &Process, lines: u64) {
    wait_until("all is read and waits in the spool", PATIENCE, || {
        let told = status(agent);
        told["counters"]["records"] == lines && told["window"]["bytes"] == 0
    });
}

#[test]
fn outside_its_hours_a_device_is_not_connected_and_what_waited_goes_in_them() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "hours", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5);
    let paths = format!("{}/app.log", folder.path().display());
    // In the past: Kafka refuses what is dated later than in an hour.
    let opens = (now() - 12 * HOUR) / 60 * 60;
    let closes = opens + HOUR;
    let hours = format!(
        "[uplink]\nhours = \"{}-{}\"\n[spool]\nafter = \"300ms\"\n",
        of_day(opens),
        of_day(closes)
    );
    let device_clock = DeviceClock::right();
    let set = |unix: i64| device_clock.set_off(unix - now());
    let seen = Seen::of(kafka, &loading.topic);
    let agent = loading
        .agent(&paths, &hours)
        .envs(device_clock.env())
        .start();
    let loader = loading.start();
    writer.write(500);
    wait_until_spooled(&agent, 500);
    seen.assert_away(&agent, 0, "hours");

    // They begin, and nobody tells it.
    set(opens - AHEAD);
    writer.write(10);
    wait_until_spooled(&agent, 510);
    assert_eq!(seen.depth(), 0, "before its hours");
    wait_until("what waited is sent", PATIENCE, || seen.depth() >= 510);
    assert!(seen.is_connected(&agent), "it does not stay connected");

    // They end.
    set(closes - AHEAD);
    writer.write(10);
    wait_until("it is disconnected", PATIENCE, || {
        !seen.is_connected(&agent)
    });
    let sent = seen.depth();
    assert_eq!(sent, 520, "what came in its hours");
    writer.write(500);
    wait_until_spooled(&agent, 1020);
    seen.assert_away(&agent, sent, "hours");

    // A restart is no reason to connect.
    let agent = agent.restart();
    writer.write(10);
    wait_until("all is in the spool", PATIENCE, || {
        status(&agent)["spool"]["batches"].as_u64() > Some(0)
    });
    seen.assert_away(&agent, sent, "hours");

    // And a clock that is set back into them counts at once.
    set(opens + HOUR / 2);
    wait_until_complete(&[&writer], &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    wait_until("the ledger is complete", PATIENCE, || {
        loading.audit().code == Some(0)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.assert_proven();
}

/// A session for each cycle in which there is something to send: what waited goes in it, and what comes between two of
/// them waits for the next.
#[test]
fn between_its_sessions_a_device_is_not_connected_and_what_waited_goes_in_the_next() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "sessions", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5);
    let paths = format!("{}/app.log", folder.path().display());
    let cycle = "[uplink]\nsession = \"cycle\"\nevery = \"20s\"\n[spool]\nafter = \"300ms\"\n";
    let seen = Seen::of(kafka, &loading.topic);
    let agent = loading.agent(&paths, cycle).start();
    let loader = loading.start();
    for session in 1..=2_u64 {
        writer.write(300);
        let lines = 300 * session;
        if session > 1 {
            // A session has just ended, and the next one is most of a cycle away.
            wait_until_spooled(&agent, lines);
            seen.assert_away(&agent, seen.depth(), "cycle");
        }
        let sent = || u64::try_from(seen.depth()).is_ok_and(|sent| sent >= lines);
        wait_until("it is connected", PATIENCE, || seen.is_connected(&agent));
        wait_until("what waited is sent", PATIENCE, sent);
        wait_until("it is disconnected", PATIENCE, || {
            !seen.is_connected(&agent)
        });
        assert_eq!(status(&agent)["counters"]["sessions"], session);
    }
    wait_until_complete(&[&writer], &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.assert_proven();
}
