//! A real Apache Kafka, one node or three, that a test may stop, kill, pause and start again.
//!
//! - [`Kafka::start`] gives a test its own cluster, for tests that cut it.
//! - [`Kafka::shared`] gives one broker per test process, or the one `KAFKA_BOOTSTRAP` names.
//! - [`Msk`] is a cluster with the listeners of Amazon MSK: IAM, SCRAM, mTLS, TLS.
//!
//! Listens on 127.0.0.1 only; but for [`Msk`], without TLS or authentication. Session time-outs are short (see
//! `node.rs`), topics are never created by accident. Everything is gone when its owner is dropped,
//! or the test process dies.

mod connections;
mod emulator;
pub mod iam;
pub(crate) mod jars;
mod listener;
pub mod msk;
mod node;
mod records;
mod tip;
pub mod token;
pub mod visitor;

pub use connections::Connections;
pub use iam::{Iam, Key, Policy};
pub use listener::Listener;
pub use msk::{Msk, MskSetup};
pub use records::{Committed, Record};
pub use tip::Tip;

use crate::clock;
use crate::folder::Folder;
use crate::outside::var;
use anyhow::{Context, Result, bail, ensure};
use node::{Layout, Node};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread::{scope, sleep};
use std::time::Duration;

/// A loaded machine with two cores starts three nodes in well under this.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The folder with the jars of Kafka Connect and its sink to a file, fetched once: for the bench.
///
/// # Panics
/// If they cannot be fetched.
pub fn connect_libs() -> PathBuf {
    jars::connect().unwrap_or_else(|error| panic!("cannot get Kafka Connect: {error:#}"))
}

/// A Kafka cluster: our own, or an outside one that cannot be cut.
#[derive(Debug)]
pub struct Kafka {
    nodes: Vec<Node>,
    bootstrap: String,
    // After `nodes`: they are killed before their folder goes.
    _folder: Option<Folder>,
}

impl Kafka {
    /// Starts a cluster of one node, or of three with replication factor 3 and two in-sync replicas,
    /// and waits until it is ready.
    ///
    /// # Panics
    /// If it cannot be started; the broker's log is in the message.
    pub fn start(nodes: usize) -> Self {
        Self::start_with(nodes, &[])
    }

    /// Starts a cluster with further broker properties, such as `("log.retention.ms", "1000")`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_with(nodes: usize, properties: &[(&str, &str)]) -> Self {
        Self::try_start(nodes, properties)
            .unwrap_or_else(|error| panic!("cannot start Kafka: {error:#}"))
    }

    /// Returns the test process's one shared broker: the outside one if `KAFKA_BOOTSTRAP` is set.
    /// Tests must use topics and groups of their own, see [`unique`](crate::outside::unique).
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| match var("KAFKA_BOOTSTRAP") {
            Some(bootstrap) => Self::at(&bootstrap),
            // Nobody waits for it to come back: it may stand still for longer than others.
            None => Self::start_with(1, &[node::LONG_SESSION]),
        })
    }

    /// Returns a handle on a cluster that runs elsewhere: it cannot be stopped, killed or paused.
    pub fn at(bootstrap: &str) -> Self {
        Self {
            nodes: Vec::new(),
            bootstrap: bootstrap.to_owned(),
            _folder: None,
        }
    }

    fn try_start(nodes: usize, properties: &[(&str, &str)]) -> Result<Self> {
        let line = |(key, value): &(&str, &str)| format!("{key}={value}\n");
        let layout = Layout {
            nodes,
            listeners: &[Listener::Plaintext],
            properties: properties.iter().map(line).collect(),
            format: Vec::new(),
            classes: None,
        };
        Self::launch(Folder::new("kafka")?, &layout)
    }

    fn launch(folder: Folder, layout: &Layout) -> Result<Self> {
        let count = layout.nodes;
        ensure!(count == 1 || count == 3, "a cluster has 1 node or 3");
        let nodes: Vec<Node> = (1..=count)
            .map(|id| Node::new(id, folder.path(), layout))
            .collect::<Result<_>>()?;
        let voters = nodes.iter().map(Node::voter).collect::<Vec<_>>().join(",");
        scope(|threads| {
            let formats: Vec<_> = nodes
                .iter()
                .map(|node| threads.spawn(|| node.format(&voters, layout)))
                .collect();
            formats
                .into_iter()
                .try_for_each(|format| format.join().expect("formatting does not panic"))
        })?;
        let bootstrap = addresses(&nodes, Listener::Plaintext);
        let kafka = Self {
            nodes,
            bootstrap,
            _folder: Some(folder),
        };
        kafka.start_all()?;
        Ok(kafka)
    }

    /// The bootstrap servers, as `host:port[,host:port]`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The bootstrap servers as a TOML array of strings.
    pub fn brokers(&self) -> String {
        toml_array(&self.bootstrap)
    }

    /// The bootstrap servers of one listener.
    fn bootstrap_of(&self, listener: Listener) -> String {
        addresses(&self.nodes, listener)
    }

    /// Runs one of Kafka's command-line tools against the cluster, with every right.
    fn tool(&self, class: &str, arguments: &[&str]) -> Result<String> {
        let node = self.nodes.first().context("an outside broker")?;
        let all = ["--bootstrap-server", self.bootstrap()];
        let all = all.iter().chain(arguments).map(ToString::to_string);
        node.tool(class, &all.collect::<Vec<_>>())
    }

    /// True for an outside broker, which a test cannot stop, kill or pause.
    pub fn is_outside(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A client configuration that reaches this cluster and finds it again soon after an outage.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("reconnect.backoff.max.ms", "200")
            .set("log_level", "2");
        config
    }

    /// Creates a topic, with the cluster's replication factor, and waits until each partition has a
    /// leader.
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        // -1: the broker's default.
        self.try_create_topic(name, (partitions, -1), configs)
            .unwrap_or_else(|error| panic!("cannot create topic {name}: {error:#}"));
    }

    /// Creates a topic of which each record lies on one broker alone.
    pub fn create_topic_without_copies(&self, name: &str, partitions: i32) {
        self.try_create_topic(name, (partitions, 1), &[])
            .unwrap_or_else(|error| panic!("cannot create topic {name}: {error:#}"));
    }

    /// Deletes a topic, and makes one of that name anew once it is gone.
    pub fn remake_topic(&self, name: &str, partitions: i32) {
        let deleted = || -> Result<()> {
            let options = AdminOptions::new().operation_timeout(Some(CALL_TIMEOUT));
            let results = wait_for(self.admin()?.delete_topics(&[name], &options))?;
            for result in results {
                result.map_err(|(_, code)| anyhow::anyhow!("the broker answers {code}"))?;
            }
            Ok(())
        };
        deleted().unwrap_or_else(|error| panic!("cannot delete topic {name}: {error:#}"));
        let made = || self.try_create_topic(name, (partitions, -1), &[]).is_ok();
        crate::oracle::wait_until("the topic is made anew", CALL_TIMEOUT, made);
    }

    /// Deletes a group with its offsets, once nobody is in it any more.
    pub fn delete_group(&self, group: &str) {
        let deleted = || -> Result<()> {
            let options = AdminOptions::new().operation_timeout(Some(CALL_TIMEOUT));
            for result in wait_for(self.admin()?.delete_groups(&[group], &options))? {
                result.map_err(|(_, code)| anyhow::anyhow!("the broker answers {code}"))?;
            }
            Ok(())
        };
        crate::oracle::wait_until("the group is deleted", CALL_TIMEOUT, || deleted().is_ok());
    }

    /// Deletes every record that a partition has now, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32) {
        let deleted = || -> Result<()> {
            let mut ends = TopicPartitionList::new();
            ends.add_partition_offset(topic, partition, Offset::End)?;
            let options = AdminOptions::new().operation_timeout(Some(CALL_TIMEOUT));
            let all = wait_for(self.admin()?.delete_records(&ends, &options))?;
            for element in all.elements() {
                element.error()?;
            }
            Ok(())
        };
        deleted().unwrap_or_else(|error| panic!("cannot delete records of {topic}: {error:#}"));
    }

    /// Adds partitions to a topic, up to `partitions` in all.
    pub fn grow_topic(&self, name: &str, partitions: usize) {
        self.try_grow_topic(name, partitions)
            .unwrap_or_else(|error| panic!("cannot grow topic {name}: {error:#}"));
    }

    fn try_create_topic(
        &self,
        name: &str,
        (partitions, copies): (i32, i32),
        configs: &[(&str, &str)],
    ) -> Result<()> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(copies));
        for (key, value) in configs {
            topic = topic.set(key, value);
        }
        let admin = self.admin()?;
        let options = AdminOptions::new().operation_timeout(Some(CALL_TIMEOUT));
        let results = wait_for(admin.create_topics([&topic], &options))?;
        for result in results {
            result.map_err(|(_, code)| anyhow::anyhow!("the broker answers {code}"))?;
        }
        let wanted = usize::try_from(partitions).context("a topic has partitions")?;
        self.wait_for_leaders(name, wanted)
    }

    fn try_grow_topic(&self, name: &str, partitions: usize) -> Result<()> {
        let admin = self.admin()?;
        let options = AdminOptions::new().operation_timeout(Some(CALL_TIMEOUT));
        let more = NewPartitions::new(name, partitions);
        let results = wait_for(admin.create_partitions([&more], &options))?;
        for result in results {
            result.map_err(|(_, code)| anyhow::anyhow!("the broker answers {code}"))?;
        }
        self.wait_for_leaders(name, partitions)
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        self.client()
            .create()
            .context("cannot make an admin client")
    }

    /// Stops every node in order (SIGTERM): logs are closed, leaders handed over.
    pub fn stop(&self) {
        self.each(Node::stop, "stop");
    }

    /// Kills every node (SIGKILL). What was acknowledged stays in the page cache, so on disk.
    pub fn kill(&self) {
        self.each(Node::kill, "kill");
    }

    /// Stops every node's clock (SIGSTOP): connections stay open, nothing answers.
    pub fn pause(&self) {
        self.each(Node::pause, "pause");
    }

    /// Lets paused nodes go on (SIGCONT).
    pub fn resume(&self) {
        self.each(Node::resume, "resume");
    }

    /// Starts the nodes that do not run, on the same ports and data, and waits until all is ready.
    pub fn restart(&self) {
        self.assert_ours("restart");
        self.start_all()
            .unwrap_or_else(|error| panic!("cannot restart Kafka: {error:#}"));
    }

    /// Bytes that a topic's records take in the log, all copies: as producers compressed them.
    ///
    /// # Panics
    /// The cluster is not ours, or its folder cannot be read.
    pub fn stored_bytes(&self, topic: &str) -> u64 {
        self.assert_ours("measure");
        let of = |node: &Node| {
            (node.stored_bytes(topic))
                .unwrap_or_else(|error| panic!("cannot measure {topic}: {error:#}"))
        };
        self.nodes.iter().map(of).sum()
    }

    /// The nodes (from 1) that run.
    pub(super) fn running(&self) -> Vec<usize> {
        let all = self.nodes.iter().enumerate();
        all.filter_map(|(index, node)| node.is_running().then_some(index + 1))
            .collect()
    }

    /// Which node (from 0) leads a partition.
    ///
    /// # Panics
    /// If nobody does for half a minute.
    pub fn leader(&self, topic: &str, partition: i32) -> usize {
        records::once_led(|| self.try_leader(topic, partition))
            .unwrap_or_else(|error| panic!("who leads {partition} of {topic}? {error:#}"))
    }

    fn try_leader(&self, topic: &str, partition: i32) -> Result<usize> {
        let consumer: BaseConsumer = self.client().create().context("cannot make a client")?;
        let metadata = consumer.fetch_metadata(Some(topic), CALL_TIMEOUT)?;
        let partitions = metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions());
        let mut found = partitions.filter(|found| found.id() == partition);
        let leader = found.next().map(|found| found.leader() - 1);
        let leader = leader.and_then(|leader| usize::try_from(leader).ok());
        leader.ok_or_else(|| records::nobody_leads().into())
    }

    /// Kills one node (from 0) of the cluster; [`restart`](Self::restart) brings it back.
    pub fn kill_node(&self, index: usize) {
        self.one(index, Node::kill, "kill");
    }

    /// Stops one node (from 0) in order; [`restart`](Self::restart) brings it back.
    pub fn stop_node(&self, index: usize) {
        self.one(index, Node::stop, "stop");
    }

    /// Pauses one node (from 0).
    pub fn pause_node(&self, index: usize) {
        self.one(index, Node::pause, "pause");
    }

    /// Lets one paused node (from 0) go on.
    pub fn resume_node(&self, index: usize) {
        self.one(index, Node::resume, "resume");
    }

    /// An outage: kills the cluster, runs `during`, and brings the cluster back.
    pub fn while_down<T>(&self, during: impl FnOnce() -> T) -> T {
        self.kill();
        let result = during();
        self.restart();
        result
    }

    /// A hang: pauses the cluster, runs `during`, and lets it go on.
    pub fn while_paused<T>(&self, during: impl FnOnce() -> T) -> T {
        self.pause();
        let result = during();
        self.resume();
        result
    }

    /// Prints the end of each node's log: for a test that fails because of the broker.
    pub fn log_tail(&self) -> String {
        self.nodes.iter().map(Node::log_tail).collect()
    }

    fn start_all(&self) -> Result<()> {
        self.nodes.iter().try_for_each(Node::start)?;
        self.wait_until_ready()
    }

    /// Ready: every node is in the cluster's metadata and every partition has a leader.
    fn wait_until_ready(&self) -> Result<()> {
        let start = clock::now();
        let consumer: BaseConsumer = self.client().create().context("cannot make a client")?;
        while !self.is_ready(&consumer) {
            self.nodes.iter().try_for_each(Node::check)?;
            if start.elapsed() > READY_TIMEOUT {
                bail!("not ready after {READY_TIMEOUT:?}:\n{}", self.log_tail());
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn is_ready(&self, consumer: &BaseConsumer) -> bool {
        consumer
            .fetch_metadata(None, Duration::from_secs(1))
            .is_ok_and(|metadata| {
                let led = |topic: &rdkafka::metadata::MetadataTopic| {
                    topic.partitions().iter().all(|p| p.leader() >= 0)
                };
                metadata.brokers().len() == self.nodes.len() && metadata.topics().iter().all(led)
            })
    }

    fn wait_for_leaders(&self, topic: &str, partitions: usize) -> Result<()> {
        let start = clock::now();
        let consumer: BaseConsumer = self.client().create().context("cannot make a client")?;
        while start.elapsed() < CALL_TIMEOUT {
            let led = consumer
                .fetch_metadata(Some(topic), Duration::from_secs(2))
                .is_ok_and(|metadata| {
                    metadata.topics().first().is_some_and(|topic| {
                        topic.partitions().len() == partitions
                            && topic.partitions().iter().all(|p| p.leader() >= 0)
                    })
                });
            if led {
                return Ok(());
            }
            sleep(Duration::from_millis(20));
        }
        bail!("{partitions} partitions have no leaders after {CALL_TIMEOUT:?}")
    }

    fn assert_ours(&self, verb: &str) {
        assert!(
            !self.is_outside(),
            "cannot {verb} an outside broker: a test that does must use Kafka::start"
        );
    }

    fn each(&self, act: impl Fn(&Node) -> Result<()> + Sync, verb: &str) {
        self.assert_ours(verb);
        scope(|threads| {
            for node in self.nodes.iter().filter(|node| node.is_running()) {
                threads.spawn(|| {
                    act(node).unwrap_or_else(|error| panic!("cannot {verb} Kafka: {error:#}"));
                });
            }
        });
    }

    fn one(&self, index: usize, act: impl Fn(&Node) -> Result<()>, verb: &str) {
        self.assert_ours(verb);
        act(&self.nodes[index])
            .unwrap_or_else(|error| panic!("cannot {verb} node {index}: {error:#}"));
    }
}

/// Waits for an admin call on a thread of its own, so that it works inside a runtime and outside.
fn wait_for<T: Send>(
    call: impl Future<Output = rdkafka::error::KafkaResult<T>> + Send,
) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .context("cannot make a runtime")?;
    let result = scope(|threads| threads.spawn(|| runtime.block_on(call)).join());
    Ok(result.expect("an admin call does not panic")?)
}

/// `host:port,host:port` as a TOML array of strings.
pub(crate) fn toml_array(bootstrap: &str) -> String {
    format!("[\"{}\"]", bootstrap.replace(',', "\", \""))
}

fn addresses(nodes: &[Node], listener: Listener) -> String {
    let all: Vec<_> = nodes.iter().filter_map(|n| n.address(listener)).collect();
    all.join(",")
}
