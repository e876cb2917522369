//! What else brings lines to Kafka: kcat, and rsyslog as Debian has it.

use std::fs;
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

/// What rsyslog used for an input, until every line was in the topic.
pub(crate) fn rsyslog(bench: &Bench, input: &Input) -> Used {
    let topic = unique("rsyslog");
    bench.kafka.create_topic(&topic, 1, &[]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("rsyslog.conf");
    let broker = bench.kafka.bootstrap();
    let text = format!(
        r#"global(workDirectory="{work}")
module(load="imfile" mode="inotify")
module(load="omkafka")
template(name="line" type="string" string="%msg%")
input(type="imfile" file="{glob}" tag="bench" ruleset="out" freshStartTail="off" addMetadata="off")
ruleset(name="out" queue.type="LinkedList" queue.size="200000" queue.dequeueBatchSize="1024") {{
  action(type="omkafka" topic="{topic}" broker="{broker}" template="line" resubmitOnFailure="on"
         confParam=["{CODEC}", "request.required.acks=-1", "queue.buffering.max.ms=50",
                    "batch.num.messages=10000"])
}}
"#,
        work = folder.path().display(),
        glob = input.glob(),
    );
    fs::write(&config, text).expect("a configuration can be written");
    let daemon = Daemon::start(&config, &folder.path().join("pid"));
    let pid = daemon.0.id();
    bench.wait_for(&topic, input.lines);
    Used::by(pid)
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

/// A running rsyslogd; killed when it is dropped.
struct Daemon(Child);

impl Daemon {
    fn start(config: &Path, pid_file: &Path) -> Self {
        let mut command = Command::new("rsyslogd");
        command
            .arg("-n")
            .arg("-f")
            .arg(config)
            .arg("-i")
            .arg(pid_file);
        let child = command.stdin(Stdio::null()).spawn();
        Self(child.expect("rsyslogd is installed"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it was killed");
    }
}
