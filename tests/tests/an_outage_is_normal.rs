//! Promise 5: an outage of any length is normal, also with a restart of the agent in the middle.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use headwater_tests::disk::Disk;
use headwater_tests::kafka::Kafka;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::{Report, wait_until, wait_until_complete};
use headwater_tests::process::{Agent, Process};
use headwater_tests::s3::S3;
use headwater_tests::writer::Writer;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);

/// Without a broker.
fn wait_until_spooled(agent: &Process, records: u64) {
    wait_until("all of it is in the spool", PATIENCE, || {
        let told = agent.ask("status", &["--json"]);
        let told: Value = serde_json::from_str(&told.stdout).unwrap_or_default();
        told["counters"]["records"] == records
            && told["counters"]["spooled"] == told["counters"]["batches"]
    });
}

#[test]
fn a_broker_down_beyond_every_time_out_with_the_agent_restarted() {
    let kafka = Kafka::start(1);
    let s3 = S3::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5);
    let loading = Loading::new(&kafka, &s3, "outage", 2);
    let bucket = &loading.bucket;
    // librdkafka's waits are seconds here: the outage is longer than each of them several times.
    let more = "[spool]\nafter = \"500ms\"\n[checkpoint]\nevery = \"1s\"\n";
    let setup = loading.agent(&format!("{}/app.log", folder.path().display()), more);
    let loader_setup = loading.loader("[flush]\nage = \"500ms\"\n");
    let mut agent = setup.start();
    let loader = loader_setup.start();
    writer.write(2000);
    wait_until_complete(&[&writer], &s3, bucket, "data/", PATIENCE).assert_exact();
    kafka.kill();
    writer.write(5000);
    std::thread::sleep(Duration::from_secs(8));
    agent.kill9();
    writer.write(3000);
    writer.rotate();
    agent = agent.restart();
    writer.write(3000);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(
        agent.sigterm_and_wait(PATIENCE).code(),
        Some(0),
        "it stops in order while offline"
    );
    agent = agent.restart();
    writer.write(100);
    std::thread::sleep(Duration::from_secs(5));
    kafka.restart();
    wait_until_complete(&[&writer], &s3, bucket, "data/", PATIENCE).assert_exact();
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    Report::of([&writer], &s3, bucket, "data/").assert_exact();
    loading.assert_proven();
}

#[test]
fn a_broker_that_does_not_resolve_is_waited_for() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "resolve", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5);
    writer.write(3000);
    let paths = format!("{}/app.log", folder.path().display());
    let config =
        |brokers: &str| loading.agent_config(brokers, &paths, "[spool]\nafter = \"300ms\"\n");
    let agent = Agent::start(&config("no-such-host.invalid:9092"));
    wait_until_spooled(&agent, 3000);
    assert!(agent.is_running(), "it keeps buffering");
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    // The name is put right: what was buffered goes out, nothing was lost.
    fs::remove_file(folder.path().join("app.log")).expect("the file is there");
    agent.set_config(&config(kafka.bootstrap()));
    let agent = agent.restart();
    let loader = loading.start();
    wait_until_complete(&[&writer], &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    wait_until("the ledger is complete", PATIENCE, || {
        loading.audit().code == Some(0)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
}

/// A spool that is sealed with a key: another one opens nothing and destroys nothing.
#[test]
fn a_start_with_the_wrong_key_says_so_and_touches_nothing() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "sealed", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    for (name, digit) in [("key-1", "1"), ("key-2", "2")] {
        fs::write(path(name), digit.repeat(64)).expect("a key");
        fs::set_permissions(path(name), Permissions::from_mode(0o600)).expect("it is ours");
    }
    let mut writer = Writer::new(path("app.log"), "w", 5);
    writer.write(3000);
    let paths = path("app.log").display().to_string();
    let config = |brokers: &str, keys: &str| {
        let more = format!("[spool]\nafter = \"300ms\"\n{keys}\n");
        loading.agent_config(brokers, &paths, &more)
    };
    // One is a file, the other a credential that systemd hands over.
    let (one, two) = (path("key-1").display().to_string(), "credential:key-2");
    let keys = format!("key = \"{one}\"");
    let agent = Agent::with(&config("no-such-host.invalid:9092", &keys))
        .env(
            "CREDENTIALS_DIRECTORY",
            &folder.path().display().to_string(),
        )
        .start();
    wait_until_spooled(&agent, 3000);
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    // Now the spool alone has it.
    fs::remove_file(path("app.log")).expect("the file is there");
    let mut agent = agent;
    for keys in [format!("key = \"{two}\""), String::new()] {
        agent.set_config(&config(kafka.bootstrap(), &keys));
        agent = agent.restart();
        assert_eq!(agent.wait(PATIENCE).code(), Some(1), "{}", agent.stderr());
        let said = agent.stderr();
        assert!(
            said.contains("sealed with the key") && said.contains("spool.old_keys"),
            "{said}"
        );
        assert_eq!(kafka.depth(&loading.topic), 0);
    }
    let keys = format!("key = \"{two}\"\nold_keys = [\"{one}\"]");
    agent.set_config(&config(kafka.bootstrap(), &keys));
    agent = agent.restart();
    let loader = loading.start();
    wait_until_complete(&[&writer], &s3, &loading.bucket, "data/", PATIENCE).assert_exact();
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    wait_until("the ledger is complete", PATIENCE, || {
        loading.audit().code == Some(0)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.assert_proven();
}

/// Bytes that lines take in a file.
fn bytes_of(lines: &[String]) -> u64 {
    lines.iter().map(|line| line.len() as u64 + 1).sum()
}

/// A device that would rather lose its oldest records than stand still is offline for longer than its spool is
/// large: what gave way is named, byte for byte, and all else arrives once.
#[test]
fn a_spool_that_overflows_names_what_gave_way() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "overflow", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5);
    let paths = writer.path().display().to_string();
    let more = "[spool]\nafter = \"100ms\"\nmax_bytes = \"256KiB\"\n[spool.when_full]\nnormal = \"drop_oldest\"\n";
    let config = |brokers: &str| loading.agent_config(brokers, &paths, more);
    let agent = Agent::start(&config("no-such-host.invalid:9092"));
    let status = || -> Value {
        let told = agent.ask("status", &["--json"]);
        serde_json::from_str(&told.stdout).unwrap_or_default()
    };
    // In pieces, since one batch alone may not be the size of the spool.
    for _ in 0..20 {
        writer.write(1000);
        wait_until("it is read", PATIENCE, || {
            status()["counters"]["records"] == writer.written()
        });
    }
    let mut dropped = 0;
    wait_until("the last of it is in the spool", PATIENCE, || {
        let told = status();
        dropped = told["counters"]["dropped_records"].as_u64().unwrap_or(0);
        told["counters"]["spooled"] == told["counters"]["batches"]
    });
    assert!(dropped > 0, "the spool did not overflow: {}", status());
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));

    agent.set_config(&config(kafka.bootstrap()));
    let agent = agent.restart();
    let loader = loading.start();
    let mut audit = loading.audit();
    // Then there is room for what comes.
    for more in [0, 100] {
        writer.write(more);
        wait_until("all that is left is stored", PATIENCE, || {
            let report = loading.report(writer.lines());
            report.stored as u64 + dropped == writer.written()
        });
    }
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    wait_until("the ledger is complete", PATIENCE, || {
        audit = loading.audit();
        audit.code == Some(0)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    let report = loading.report(writer.lines());
    assert!(
        report.duplicated.is_empty() && report.unexpected.is_empty(),
        "{report}"
    );
    assert_eq!(report.lost.len() as u64, dropped);
    // The ranges of the notices are the lines that are missing, and no others.
    let told = format!(
        "{} offsets lost, explained: spool-full",
        bytes_of(&report.lost)
    );
    assert!(audit.stdout.contains(&told), "{told}: {}", audit.stdout);
    loading.assert_proven();
}

/// The state directory's disk, and the rest of a test around it.
struct OnDisk<'a> {
    disk: Disk,
    loading: Loading<'a>,
    folder: tempfile::TempDir,
}

impl<'a> OnDisk<'a> {
    fn new(kafka: &'a Kafka, s3: &'a S3, name: &str) -> Self {
        Self {
            disk: Disk::new(16 << 20),
            loading: Loading::new(kafka, s3, name, 1),
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    fn config(&self) -> String {
        let paths = format!("{}/*.log", self.folder.path().display());
        let more = "[spool]\nafter = \"300ms\"\nfree_bytes_min = \"1MiB\"\nfree_inodes_min = 10\n\
                    [checkpoint]\nevery = \"1s\"\n";
        let config = self
            .loading
            .agent_config(self.loading.kafka.bootstrap(), &paths, more);
        config.replace("{dir}", &self.disk.path().display().to_string())
    }

    fn wait_until_exact(&self, writers: &[&Writer]) {
        let bucket = &self.loading.bucket;
        wait_until_complete(writers, self.loading.s3, bucket, "data/", PATIENCE).assert_exact();
    }

    fn finish(&self, agent: &Process, loader: &Process) {
        assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
        wait_until("the ledger is complete", PATIENCE, || {
            self.loading.audit().code == Some(0)
        });
        assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
        self.loading.assert_proven();
    }
}

fn wait_until_said(agent: &Process, text: &str, times: usize) {
    wait_until(text, PATIENCE, || {
        agent.stderr().matches(text).count() >= times
    });
}

/// Nothing can be written to the disk of the state directory when the device starts for the first time: no
/// file has a name yet, so nothing is sent; and everything, once there is room.
#[test]
fn a_first_start_on_a_full_disk_waits_for_room() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let on = OnDisk::new(kafka, &s3, "full-first");
    on.disk.fill();
    let mut writer = Writer::new(on.folder.path().join("app.log"), "w", 5);
    writer.write(1000);
    let agent = Agent::start(&on.config());
    let loader = on.loading.start();
    wait_until_said(&agent, "nothing is read or sent until it can be opened", 1);
    assert!(agent.is_running());
    assert_eq!(kafka.depth(&on.loading.topic), 0);
    // A stop does not wait for room.
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    let agent = agent.restart();
    wait_until_said(&agent, "nothing is read or sent until it can be opened", 1);
    writer.write(100);
    on.disk.free();
    on.wait_until_exact(&[&writer]);
    on.finish(&agent, &loader);
}

/// The disk has filled up while the agent was away, which has a backlog and files that it knows. They are
/// read and sent, from memory, though nothing of that can be written down; a new file waits. What went
/// meanwhile is stored once, whatever happens then.
#[test]
fn a_start_on_a_full_disk_sends_what_it_knows_and_takes_the_disk_back() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let on = OnDisk::new(kafka, &s3, "full-again");
    let mut known = Writer::new(on.folder.path().join("known.log"), "k", 5);
    let mut new = Writer::new(on.folder.path().join("new.log"), "n", 5);
    known.write(1000);
    let agent = Agent::start(&on.config());
    let loader = on.loading.start();
    on.wait_until_exact(&[&known]);
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    on.disk.fill();
    known.write(1000);
    new.write(1000);
    let agent = agent.restart();
    on.wait_until_exact(&[&known]);
    wait_until_said(
        &agent,
        "cannot enter what is new of a file into the spool",
        1,
    );
    known.write(500);
    on.wait_until_exact(&[&known]);
    // Sent, and not written down: the next one sends it again, and it is stored once.
    agent.kill9();
    let agent = agent.restart();
    known.write(500);
    on.wait_until_exact(&[&known]);
    on.disk.free();
    on.wait_until_exact(&[&known, &new]);
    on.finish(&agent, &loader);
}

/// A file system that was remounted read-only, as after an error of the card: no name can be committed, and
/// no batch be deleted once it is delivered. The agent starts, waits, says so, and goes on where it was.
#[test]
fn a_start_on_a_read_only_disk_waits_until_it_can_be_written_to() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let on = OnDisk::new(kafka, &s3, "read-only");
    let mut writer = Writer::new(on.folder.path().join("app.log"), "w", 5);
    writer.write(1000);
    let agent = Agent::start(&on.config());
    let loader = on.loading.start();
    on.wait_until_exact(&[&writer]);
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    on.disk.make_read_only();
    writer.write(1000);
    let agent = agent.restart();
    wait_until_said(&agent, "nothing is read or sent until it can be opened", 1);
    assert!(
        agent.stderr().contains("Read-only file system"),
        "{}",
        agent.stderr()
    );
    assert!(agent.is_running());
    on.disk.make_writable();
    on.wait_until_exact(&[&writer]);
    on.finish(&agent, &loader);
}
