//! What else brings lines to Kafka: kcat, and rsyslog as Debian has it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use headwater_tests::oracle::wait_until;
use headwater_tests::outside::unique;

use super::input::Input;
use super::measure::{Used, cpu_of};
use super::{Bench, PATIENCE};

/// Settings of librdkafka that are the agent's, too.
const CODEC: &str = "compression.codec=zstd";

/// CPU seconds of kcat for an input: a small queue, which is its best.
pub(crate) fn kcat(bench: &Bench, input: &Input) -> f64 {
    let topic = unique("kcat");
    bench.kafka.create_topic(&topic, 1, &[]);
    cpu_of(&format!(
        "cat {} | kcat -P -b {} -t {topic} -X enable.idempotence=true -X {CODEC} \
         -X queue.buffering.max.messages=10000 -X queue.buffering.max.kbytes=4096",
        input.glob(),
        bench.kafka.bootstrap(),
    ))
}

/// Bytes in the broker's log of an input's lines alone: no header, no account, in batches of the agent's
/// size and by its codec.
pub(crate) fn raw_bytes(bench: &Bench, input: &Input) -> u64 {
    let topic = unique("raw");
    bench.kafka.create_topic(&topic, 1, &[]);
    cpu_of(&format!(
        "cat {} | kcat -P -b {} -t {topic} -X enable.idempotence=true -X {CODEC} -X linger.ms=50 \
         -X batch.num.messages=1000 -X batch.size=262144",
        input.glob(),
        bench.kafka.bootstrap(),
    ));
    bench.kafka.stored_bytes(&topic)
}

/// Where rsyslog keeps what it cannot send yet.
#[derive(Clone, Copy)]
pub(crate) enum Queue {
    /// In memory alone.
    Memory,
    /// In memory, and on disk beyond 8000 lines: Debian's documented set-up for a server that is away.
    Disk,
}

/// A program of somebody else's; killed when it is dropped, and its files with it.
pub(crate) struct Running {
    child: Child,
    folder: tempfile::TempDir,
}

impl Running {
    /// Starts what `make` makes of a folder.
    pub(crate) fn start(make: impl FnOnce(&Path) -> Command) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = File::create(folder.path().join("log")).expect("the folder is ours");
        let mut command = make(folder.path());
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log);
        let child = command.spawn().expect("it is installed");
        Self { child, folder }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it printed.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it was killed");
    }
}

/// Starts rsyslogd by a configuration that is a function of its folder.
pub(crate) fn start_rsyslogd(config: impl FnOnce(&Path) -> String) -> Running {
    Running::start(|folder| {
        let path = folder.join("rsyslog.conf");
        fs::write(&path, config(folder)).expect("a configuration can be written");
        let mut command = Command::new("rsyslogd");
        command.arg("-n").arg("-f").arg(path);
        command.arg("-i").arg(folder.join("pid"));
        command
    })
}

/// Starts rsyslog on an input, into a topic that is there.
pub(crate) fn start_rsyslog(bench: &Bench, topic: &str, input: &Input, queue: Queue) -> Running {
    let queue = match queue {
        Queue::Memory => r#"queue.type="LinkedList" queue.size="200000""#,
        Queue::Disk => {
            r#"queue.type="LinkedList" queue.size="10000" queue.filename="out"
        queue.maxDiskSpace="2g" queue.saveOnShutdown="on""#
        }
    };
    start_rsyslogd(|folder| {
        format!(
            r#"global(workDirectory="{work}")
module(load="imfile" mode="inotify")
module(load="omkafka")
template(name="line" type="string" string="%msg%")
input(type="imfile" file="{glob}" tag="bench" ruleset="out" freshStartTail="off" addMetadata="off")
ruleset(name="out" {queue} queue.dequeueBatchSize="1024") {{
  action(type="omkafka" topic="{topic}" broker="{broker}" template="line" resubmitOnFailure="on"
         action.resumeRetryCount="-1" action.resumeInterval="1"
         confParam=["{CODEC}", "request.required.acks=-1", "queue.buffering.max.ms=50",
                    "batch.num.messages=10000"])
}}
"#,
            work = folder.display(),
            glob = input.glob(),
            broker = bench.kafka.bootstrap(),
        )
    })
}

/// What rsyslog used for an input, until every line was in the topic.
pub(crate) fn rsyslog(bench: &Bench, input: &Input) -> Used {
    let topic = topic(bench);
    let rsyslog = start_rsyslog(bench, &topic, input, Queue::Memory);
    bench.wait_for(&topic, input.lines);
    Used::by(rsyslog.pid())
}

/// A topic for it.
pub(crate) fn topic(bench: &Bench) -> String {
    let topic = unique("rsyslog");
    bench.kafka.create_topic(&topic, 1, &[]);
    topic
}

impl Bench {
    /// Waits until a topic holds so many records.
    pub(crate) fn wait_for(&self, topic: &str, records: u64) {
        let records = i64::try_from(records).unwrap_or(i64::MAX);
        wait_until("every line is in the topic", PATIENCE, || {
            let is_there = self.kafka.depth(topic) >= records;
            if !is_there {
                // Each look costs the broker, and so those who are measured.
                std::thread::sleep(std::time::Duration::from_millis(300));
            }
            is_there
        });
    }
}
