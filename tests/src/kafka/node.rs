//! One broker: a JVM in KRaft mode, broker and controller in one, on loopback alone.

use super::jars;
use super::listener::Listener;
use crate::child::Child;
use crate::ports::Port;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Any 16 bytes in URL-safe base64; a cluster of one test process never meets another's.
const CLUSTER_ID: &str = "aGVhZHdhdGVyLXRlc3RzMQ";

/// What every node has in common. The time-outs are short, so that a killed broker is noticed, and
/// may come back, in seconds: Kafka's own are 9 s and more.
const COMMON: &str = "
process.roles=broker,controller
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=3000
group.consumer.min.heartbeat.interval.ms=200
group.consumer.heartbeat.interval.ms=500
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=1
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=8388608
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
controlled.shutdown.max.retries=1
num.network.threads=2
num.io.threads=4
num.replica.fetchers=1
";

/// For a node that is never restarted, in place of the short one: how long it may stand still without
/// losing its partitions for a moment.
pub(super) const LONG_SESSION: (&str, &str) = ("broker.session.timeout.ms", "20000");

/// What all nodes of a cluster have in common beyond [`COMMON`].
#[derive(Debug)]
pub(super) struct Layout {
    /// How many nodes.
    pub(super) nodes: usize,
    /// The listeners for clients; the first is for the brokers among themselves.
    pub(super) listeners: &'static [Listener],
    /// Further properties, as lines.
    pub(super) properties: String,
    /// What the data folder is formatted with, such as SCRAM users.
    pub(super) format: Vec<String>,
    /// Classes beside the broker's own, and what they read.
    pub(super) classes: Option<(PathBuf, Vec<String>)>,
}

#[derive(Debug)]
pub(super) struct Node {
    id: usize,
    folder: PathBuf,
    /// The whole cluster's folder: what the watchdog removes.
    cluster: PathBuf,
    ports: Vec<(Listener, Port)>,
    controller_port: Port,
    classes: Option<(PathBuf, Vec<String>)>,
    jvm: Mutex<Option<Child>>,
}

impl Node {
    /// Reserves ports and a folder below `cluster` for node `id` (from 1).
    pub(super) fn new(id: usize, cluster: &Path, layout: &Layout) -> Result<Self> {
        let folder = cluster.join(format!("node-{id}"));
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let reserve = |listener: &Listener| Ok((*listener, Port::reserve()?));
        Ok(Self {
            id,
            folder,
            cluster: cluster.to_owned(),
            ports: layout
                .listeners
                .iter()
                .map(reserve)
                .collect::<Result<_>>()?,
            controller_port: Port::reserve()?,
            classes: layout.classes.clone(),
            jvm: Mutex::new(None),
        })
    }

    /// `host:port` of a listener; `None` if the cluster has none of that kind.
    pub(super) fn address(&self, listener: Listener) -> Option<String> {
        let (_, port) = self.ports.iter().find(|(kind, _)| *kind == listener)?;
        Some(format!("127.0.0.1:{}", port.number()))
    }

    pub(super) fn voter(&self) -> String {
        format!("{}@127.0.0.1:{}", self.id, self.controller_port.number())
    }

    /// Writes the properties and formats the data folder.
    pub(super) fn format(&self, voters: &str, layout: &Layout) -> Result<()> {
        let (copies, in_sync) = if layout.nodes >= 3 { (3, 2) } else { (1, 1) };
        let every = |part: fn(&(Listener, Port)) -> String| {
            self.ports.iter().map(part).collect::<Vec<_>>().join(",")
        };
        let listeners =
            every(|(kind, port)| format!("{}://127.0.0.1:{}", kind.name(), port.number()));
        let protocols = every(|(kind, _)| format!("{}:{}", kind.name(), kind.protocol()));
        let mut text = format!(
            "node.id={}\ncontroller.quorum.voters={voters}\nlog.dirs={}\n\
             listeners={listeners},CONTROLLER://127.0.0.1:{}\n\
             advertised.listeners={listeners}\n\
             listener.security.protocol.map={protocols},CONTROLLER:PLAINTEXT\n",
            self.id,
            self.folder.join("data").display(),
            self.controller_port.number(),
        );
        text.push_str(COMMON.trim_start());
        for topic in [
            "offsets.topic",
            "transaction.state.log",
            "share.coordinator.state.topic",
        ] {
            writeln!(text, "{topic}.replication.factor={copies}")?;
        }
        for topic in ["transaction.state.log", "share.coordinator.state.topic"] {
            writeln!(text, "{topic}.min.isr={in_sync}")?;
        }
        writeln!(text, "default.replication.factor={copies}")?;
        writeln!(text, "min.insync.replicas={in_sync}")?;
        text.push_str(&layout.properties);
        fs::write(self.properties(), text).context("cannot write the broker's properties")?;
        let output = self
            .java()?
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
            .arg(self.properties())
            .args(&layout.format)
            .output()
            .context("cannot run java: the tests need Java 17 or later")?;
        if !output.status.success() {
            bail!(
                "cannot format a broker's folder:\n{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    /// Starts the JVM if it does not run. Being ready comes later.
    pub(super) fn start(&self) -> Result<()> {
        let mut jvm = self.lock();
        if let Some(child) = jvm.as_ref()
            && child.status()?.is_none()
        {
            return Ok(());
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .context("cannot open the broker's log")?;
        let errors = log.try_clone().context("cannot share the broker's log")?;
        let mut command = self.java()?;
        command
            .arg("kafka.Kafka")
            .arg(self.properties())
            .current_dir(&self.folder)
            .stdout(log)
            .stderr(errors);
        let name = format!("kafka node {}", self.id);
        *jvm = Some(Child::spawn(&name, &mut command, Some(&self.cluster))?);
        Ok(())
    }

    /// Runs one of Kafka's own command-line tools to its end and returns what it printed.
    pub(super) fn tool(&self, class: &str, arguments: &[String]) -> Result<String> {
        let output = self
            .java()?
            .arg(class)
            .args(arguments)
            .output()
            .with_context(|| format!("cannot run {class}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("{class} {arguments:?} fails:\n{text}{errors}");
        }
        Ok(text)
    }

    /// Fails, with the end of the log, if the JVM has ended by itself.
    pub(super) fn check(&self) -> Result<()> {
        let jvm = self.lock();
        let child = jvm.as_ref().context("the broker was never started")?;
        if let Some(status) = child.status()? {
            bail!("{} ended: {status}\n{}", child.name(), self.log_tail());
        }
        Ok(())
    }

    pub(super) fn is_running(&self) -> bool {
        self.lock()
            .as_ref()
            .is_some_and(|child| matches!(child.status(), Ok(None)))
    }

    /// SIGTERM, then waits for the end; SIGKILL if that takes more than 30 s.
    pub(super) fn stop(&self) -> Result<()> {
        let Some(child) = self.lock().take() else {
            return Ok(());
        };
        if child.status()?.is_none() {
            child.signal(Signal::TERM)?;
            if child.wait(Duration::from_secs(30))?.is_none() {
                child.kill()?;
            }
        }
        Ok(())
    }

    pub(super) fn kill(&self) -> Result<()> {
        if let Some(child) = self.lock().take() {
            child.kill()?;
        }
        Ok(())
    }

    /// Stops it in its tracks: the broker is there, its ports accept, nothing answers.
    pub(super) fn pause(&self) -> Result<()> {
        let jvm = self.lock();
        jvm.as_ref().context("the broker does not run")?.pause()
    }

    /// Lets a paused one go on.
    pub(super) fn resume(&self) -> Result<()> {
        let jvm = self.lock();
        let child = jvm.as_ref().context("the broker does not run")?;
        child.signal(Signal::CONT)
    }

    pub(super) fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Bytes of a topic's segments, of all of its partitions.
    pub(super) fn stored_bytes(&self, topic: &str) -> Result<u64> {
        let mut bytes = 0;
        for partition in fs::read_dir(self.folder.join("data"))? {
            let partition = partition?.path();
            let name = partition.file_name().and_then(|name| name.to_str());
            // `<topic>-<partition>`
            let of = name.and_then(|name| Some(name.rsplit_once('-')?.0));
            if of != Some(topic) {
                continue;
            }
            for file in fs::read_dir(&partition)? {
                let file = file?;
                if file
                    .path()
                    .extension()
                    .is_some_and(|extension| extension == "log")
                {
                    bytes += file.metadata()?.len();
                }
            }
        }
        Ok(bytes)
    }

    fn log(&self) -> PathBuf {
        self.folder.join("broker.log")
    }

    fn properties(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn java(&self) -> Result<Command> {
        let jars = jars::folder()?.join("libs");
        ensure!(jars.is_dir(), "no jars in {}", jars.display());
        let mut command = Command::new("java");
        command
            .args([
                "-Xmx512m",
                "-XX:+UseSerialGC",
                // A broker that lives for a minute starts faster without the second compiler.
                "-XX:TieredStopAtLevel=1",
                "-XX:-UsePerfData",
                "-Djava.awt.headless=true",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-Dorg.slf4j.simpleLogger.showDateTime=true",
                "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
            ])
            .arg(format!("-Dheadwater.node={}", self.id));
        let mut path = jars.join("*").into_os_string();
        if let Some((classes, settings)) = &self.classes {
            command.args(settings);
            path.push(":");
            path.push(classes);
        }
        command.arg("-cp").arg(path);
        Ok(command)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.jvm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
