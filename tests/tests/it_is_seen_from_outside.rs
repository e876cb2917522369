//! Promise 4 has a metric for each bound, and promise 5 a word for "away, and all is well": a running
//! agent tells how it goes, on a socket, while the broker is there and while it is not.

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use headwater_tests::kafka::Kafka;
use headwater_tests::loading::{Loading, page};
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::free_address;
use headwater_tests::process::Process;
use headwater_tests::s3::S3;
use headwater_tests::writer::Writer;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// What systemd hears of a service, in its order.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    /// Listens at `socket` for as long as the test runs.
    fn at(socket: &Path) -> Self {
        let (heard, listener) = (
            Self::default(),
            UnixDatagram::bind(socket).expect("a socket"),
        );
        let told = heard.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = listener.recv(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]);
                let lines = text.lines().map(str::to_owned);
                told.0.lock().expect("nobody panics").extend(lines);
            }
        });
        heard
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().expect("nobody panics").clone()
    }

    fn count(&self, what: &str) -> usize {
        let all = self.all();
        all.iter().filter(|line| line.starts_with(what)).count()
    }
}

/// What the agent answers on its socket: the status, and the body.
fn socket_page(agent: &Process, path: &str) -> (u16, String) {
    let socket = agent.dir().join("state/agent.sock");
    let mut stream = UnixStream::connect(socket).expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .expect("it takes a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it answers");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

fn status(agent: &Process) -> Value {
    let told = agent.ask("status", &["--json"]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    serde_json::from_str(&told.stdout).expect("status --json is JSON")
}

#[test]
fn status_tap_and_metrics_with_and_without_a_broker() {
    let (kafka, s3) = (Kafka::start(1), S3::start());
    let loading = Loading::new(&kafka, &s3, "outside", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5);
    writer.write(500);
    let paths = format!("{}/app.log", folder.path().display());
    let more = "[spool]\nafter = \"300ms\"\n";
    let systemd = tempfile::tempdir().expect("a temporary folder");
    let notify = systemd.path().join("notify");
    let heard = Heard::at(&notify);
    let agent = loading
        .agent(&paths, more)
        .env("NOTIFY_SOCKET", &notify.display().to_string())
        .env("WATCHDOG_USEC", "1000000")
        .start();
    wait_until("all is delivered", PATIENCE, || {
        let told = agent.ask("status", &["--json"]);
        let told: Value = serde_json::from_str(&told.stdout).unwrap_or_default();
        told["counters"]["records"] == 500
            && told["counters"]["delivered"] == told["counters"]["batches"]
            && told["spool"]["batches"] == 0
    });
    assert_pages(&agent);

    let tap = agent.ask_in_background("tap", &["--source", "app", "--count", "10"]);
    wait_until("a watcher sees ten records", PATIENCE, || {
        writer.write(5);
        !tap.is_running()
    });
    assert_ten_messages(&tap.stdout());

    kafka.kill();
    writer.write(1000);
    wait_until("the outage shows", PATIENCE, || {
        let told = status(&agent);
        told["broker"]["online"] == false && told["spool"]["batches"].as_u64() > Some(0)
    });
    // Away, and all is well.
    assert_eq!(socket_page(&agent, "/healthz"), (200, "ok\n".to_owned()));
    let fed = heard.count("WATCHDOG=1");
    wait_until("the watchdog is fed without a broker", PATIENCE, || {
        heard.count("WATCHDOG=1") > fed + 2
    });
    let table = agent.ask("status", &[]);
    assert!(
        table.stdout.contains("broker      OFFLINE"),
        "{}",
        table.stdout
    );
    kafka.restart();
    wait_until("it shows that the outage is over", PATIENCE, || {
        let told = status(&agent);
        told["broker"]["online"] == true && told["spool"]["batches"] == 0
    });
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    let gone = agent.ask("status", &[]);
    assert_eq!(gone.code, Some(1));
    assert!(
        gone.stderr.contains("no agent answers at unix:"),
        "{}",
        gone.stderr
    );
    assert_told_to_systemd(&heard);

    let agent = seen_on_a_port(agent, &loading, &paths, more);
    assert_explained(&agent, folder.path(), &mut writer);
}

#[track_caller]
fn assert_pages(agent: &Process) {
    let online = status(agent);
    assert_eq!(online["broker"]["online"], true);
    assert!(
        online["process"]["rss_bytes"].as_u64() > Some(1 << 20),
        "{online}"
    );
    assert_eq!(socket_page(agent, "/healthz"), (200, "ok\n".to_owned()));
    let (code, metrics) = socket_page(agent, "/metrics");
    assert_eq!(code, 200);
    assert!(
        metrics.contains("\nheadwater_agent_records_total 500"),
        "{metrics}"
    );
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
}

/// The same agent with `admin.listen` on a port, until it is stopped again.
#[track_caller]
fn seen_on_a_port(agent: Process, loading: &Loading<'_>, paths: &str, more: &str) -> Process {
    let listen = free_address();
    let more = format!("{more}[admin]\nlisten = \"{listen}\"\n");
    agent.set_config(&loading.agent_config(loading.kafka.bootstrap(), paths, &more));
    let agent = agent.restart();
    wait_until("it answers on a port", PATIENCE, || {
        page(&listen, "/healthz") == Some((200, "ok\n".to_owned()))
    });
    let (code, metrics) = page(&listen, "/metrics").expect("it answers");
    assert_eq!(code, 200);
    assert!(
        metrics.contains("\nheadwater_agent_records_total "),
        "{metrics}"
    );
    assert_eq!(page(&listen, "/none").map(|(code, _)| code), Some(404));
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    agent
}

#[track_caller]
fn assert_ten_messages(seen: &str) {
    assert_eq!(seen.lines().count(), 10, "{seen}");
    for line in seen.lines() {
        let record: Value = serde_json::from_str(line).expect("a line of JSON");
        assert!(record["value"]["message"].is_string(), "{line}");
    }
}

/// Ready comes first, once; then how it goes, and that it lives; and that it stops, once, when it was told to.
#[track_caller]
fn assert_told_to_systemd(heard: &Heard) {
    wait_until("its stop is heard of", PATIENCE, || {
        heard.count("STOPPING=1") > 0
    });
    let all = heard.all();
    let first = |what: &str| all.iter().position(|line| line.starts_with(what));
    let (ready, status) = (first("READY=1"), first("STATUS="));
    let (alive, stopping) = (first("WATCHDOG=1"), first("STOPPING=1"));
    assert_eq!(ready, Some(0), "{all:?}");
    assert!(
        status.is_some() && status > ready && status < stopping,
        "{all:?}"
    );
    assert!(
        alive.is_some() && alive > ready && alive < stopping,
        "{all:?}"
    );
    assert_eq!(
        (heard.count("READY=1"), heard.count("STOPPING=1")),
        (1, 1),
        "{all:?}"
    );
    let known = ["READY=1", "STATUS=", "WATCHDOG=1", "STOPPING=1"];
    let is_known = |line: &String| known.iter().any(|known| line.starts_with(known));
    assert!(all.iter().all(is_known), "{all:?}");
}

/// `check --explain` says what the database knows of a file, without an agent.
#[track_caller]
fn assert_explained(agent: &Process, folder: &Path, writer: &mut Writer) {
    let explained = |name: &str| {
        let path = folder.join(name).display().to_string();
        agent.ask("check", &["--explain", &path]).stdout
    };
    let bytes = std::fs::metadata(folder.join("app.log")).expect("the file is there");
    let settled = format!("settled to offset {0} of {0}, 0 bytes behind", bytes.len());
    let said = explained("app.log");
    assert!(
        said.contains(&settled) && said.contains("its marker is found"),
        "{said}"
    );
    writer.rotate();
    let rotated = std::fs::read_dir(folder)
        .expect("a folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|name| name != "app.log");
    let said = explained(&rotated.expect("it is rotated"));
    assert!(
        said.contains("a rotated file of") && said.contains("none of its globs matches"),
        "{said}"
    );
}
