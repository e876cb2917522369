//! The topic: what it should be (`[topic]`), what it is, and what of the difference costs data.
//!
//! [`check`] is pure: it compares a [`TopicState`] with what agent and loader rest on, and with what
//! the owner planned. [`admin`] reads the state from a cluster, and creates a topic.

pub mod admin;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::Period;

/// The smallest `max.message.bytes` that takes every batch of an agent: records of 1,000,000 bytes
/// at most, and what a batch adds. It is Kafka's own default.
pub const MESSAGE_BYTES_LEAST: u64 = 1_048_588;

/// The `[topic]` section: what `topics create` makes and `topics check` expects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Topic {
    /// Partitions: as many copies of the loader can work side by side.
    pub partitions: i32,
    /// Copies of each record.
    pub replication: i32,
    /// Copies that must be written before a record counts as delivered.
    pub min_in_sync: i32,
    /// How long records are kept.
    pub retention: Period,
    /// The longest time that no loader reads: a week-end, and the repair after it.
    pub outage: Period,
    /// `compression.type`. `producer`: as the agent compressed it.
    pub compression: String,
    /// Whose clock dates a record, and so decides when it is deleted.
    pub timestamps: TimestampType,
}

impl Default for Topic {
    fn default() -> Self {
        Self {
            // One loader for each of three zones; enough for some MB/s.
            partitions: 3,
            // What MSK recommends, and fixes for Express brokers: one broker may be away, for an
            // update at the least, and nothing stops.
            replication: 3,
            min_in_sync: 2,
            // Kafka's own default.
            retention: Period::secs(7 * DAY_S),
            outage: Period::secs(3 * DAY_S),
            compression: "producer".to_owned(),
            timestamps: TimestampType::LogAppendTime,
        }
    }
}

const DAY_S: u64 = 24 * 3600;

/// Kafka's `message.timestamp.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimestampType {
    /// The broker's clock. A device whose clock is wrong does no harm.
    LogAppendTime,
    /// The device's clock.
    CreateTime,
}

impl fmt::Display for TimestampType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LogAppendTime => "LogAppendTime",
            Self::CreateTime => "CreateTime",
        })
    }
}

impl Topic {
    /// Everything that is wrong with the section by itself.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(1..=10_000).contains(&self.partitions) {
            problems.push(format!(
                "topic.partitions is {}: 1 to 10000 are allowed",
                self.partitions
            ));
        }
        if !(1..=15).contains(&self.replication) {
            problems.push(format!(
                "topic.replication is {}: 1 to 15 are allowed; 3 is right on MSK",
                self.replication
            ));
        }
        if self.min_in_sync < 1 || self.min_in_sync > self.replication {
            problems.push(format!(
                "topic.min_in_sync is {}: at least 1, at most topic.replication ({})",
                self.min_in_sync, self.replication
            ));
        }
        if self.retention < self.outage {
            problems.push(format!(
                "topic.retention ({}) is shorter than topic.outage ({}): records would be deleted \
                 before a loader that was away has read them",
                self.retention, self.outage
            ));
        }
        let codecs = ["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"];
        if !codecs.contains(&self.compression.as_str()) {
            problems.push(format!(
                "topic.compression {:?}: one of {}",
                self.compression,
                codecs.join(", ")
            ));
        }
        problems
    }

    /// The topic's own configuration, as Kafka names it.
    pub fn configs(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("cleanup.policy", "delete".to_owned()),
            ("compression.type", self.compression.clone()),
            ("message.timestamp.type", self.timestamps.to_string()),
            ("min.insync.replicas", self.min_in_sync.to_string()),
            ("retention.ms", self.retention.as_millis().to_string()),
        ])
    }
}

/// A topic as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct TopicState {
    /// Its name.
    pub name: String,
    /// Brokers of the cluster that answered.
    pub brokers: usize,
    /// The partitions in their order.
    pub partitions: Vec<PartitionState>,
    /// Its configuration, the broker's defaults included. Empty where it may not be read.
    pub configs: BTreeMap<String, String>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PartitionState {
    /// Its number.
    pub id: i32,
    /// The broker that leads it; `None` while there is none.
    pub leader: Option<i32>,
    /// The brokers that hold a copy.
    pub replicas: Vec<i32>,
    /// Those whose copy is complete.
    pub in_sync: Vec<i32>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Records can be lost, or cannot be taken, as it is.
    Wrong,
    /// It works, at a price or a risk that is named.
    Risk,
}

/// One thing to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What it is about, as Kafka names it.
    pub about: &'static str,
    /// What was found.
    pub found: String,
    /// What follows from it.
    pub why: String,
    /// What to do.
    pub change: String,
}

/// Whether a `cleanup.policy` has records removed that a later one of the same key follows.
pub fn compacts(cleanup_policy: &str) -> bool {
    cleanup_policy.split(',').any(|one| one.trim() == "compact")
}

/// The command that sets a value of a topic's configuration.
pub fn set_config(topic: &str, config: &str, value: impl fmt::Display) -> String {
    format!("kafka-configs.sh --alter --topic {topic} --add-config {config}={value}")
}

/// Compares a topic with what agent and loader need and with what was planned. The worst comes first.
pub fn check(plan: &Topic, topic: &TopicState) -> Vec<Finding> {
    let mut findings = Findings {
        plan,
        topic,
        all: Vec::new(),
    };
    findings.partitions();
    findings.copies();
    findings.retention();
    findings.time();
    findings.rest();
    let mut all = findings.all;
    all.sort_by_key(|finding| finding.severity);
    all
}

struct Findings<'a> {
    plan: &'a Topic,
    topic: &'a TopicState,
    all: Vec<Finding>,
}

impl Findings<'_> {
    fn add(
        &mut self,
        severity: Severity,
        about: &'static str,
        found: impl fmt::Display,
        why: impl Into<String>,
        change: impl Into<String>,
    ) {
        self.all.push(Finding {
            severity,
            about,
            found: found.to_string(),
            why: why.into(),
            change: change.into(),
        });
    }

    fn text(&self, config: &str) -> Option<&str> {
        self.topic.configs.get(config).map(String::as_str)
    }

    fn number(&self, config: &str) -> Option<i64> {
        self.text(config)?.parse().ok()
    }

    /// How a value of the topic's configuration is set.
    fn set(&self, config: &str, value: impl fmt::Display) -> String {
        set_config(&self.topic.name, config, value)
    }

    fn partitions(&mut self) {
        let (is, wanted) = (self.topic.partitions.len(), self.plan.partitions);
        if usize::try_from(wanted) == Ok(is) {
            return;
        }
        let found = format!("{is}, and topic.partitions is {wanted}");
        if usize::try_from(wanted).is_ok_and(|wanted| is > wanted) {
            self.add(
                Severity::Risk,
                "partitions",
                found,
                "if it was made with them, all is well. If they were added while agents were at work, \
                 the keys of some devices moved: a record that was sent again across the change may \
                 be stored twice, and `audit` shows it as streams in two partitions",
                format!(
                    "write topic.partitions = {is}. Partitions cannot be taken away: for fewer, make \
                     a new topic"
                ),
            );
        } else {
            self.add(
                Severity::Risk,
                "partitions",
                found,
                "partitions can be added, but keys then move to others: the ledger of a device's \
                 stream is split, and what is sent again across the change may be stored twice",
                "either write the number that is there, or make the change with nothing under way: \
                 stop the agents, wait until the group's lag is 0, add partitions, start the agents",
            );
        }
    }

    fn copies(&mut self) {
        let copies = |p: &PartitionState| i32::try_from(p.replicas.len()).unwrap_or(i32::MAX);
        let least = self.topic.partitions.iter().map(copies).min().unwrap_or(0);
        if least == 1 {
            self.add(
                Severity::Wrong,
                "replication factor",
                "1",
                "the loss of one broker's disk loses records that devices have already forgotten",
                "move the partitions to three brokers (kafka-reassign-partitions.sh), or make a new \
                 topic with replication factor 3",
            );
        } else if least < self.plan.replication {
            self.add(
                Severity::Risk,
                "replication factor",
                format!(
                    "{least}, and topic.replication is {}",
                    self.plan.replication
                ),
                "one broker less may fail than was planned",
                "add copies (kafka-reassign-partitions.sh)",
            );
        }
        let in_sync = self.number("min.insync.replicas").unwrap_or(i64::MAX);
        if in_sync < 2 && least > 1 {
            self.add(
                Severity::Wrong,
                "min.insync.replicas",
                in_sync,
                "a record counts as delivered when one broker has it, and is lost with that broker",
                self.set("min.insync.replicas", 2),
            );
        } else if in_sync >= i64::from(least) && least > 1 && in_sync != i64::MAX {
            self.add(
                Severity::Risk,
                "min.insync.replicas",
                format!("{in_sync}, with {least} copies"),
                "nothing can be written while any broker is away, for an update at the least: agents \
                 spool until it is back",
                self.set("min.insync.replicas", least - 1),
            );
        }
        if self.text("unclean.leader.election.enable") == Some("true") {
            self.add(
                Severity::Wrong,
                "unclean.leader.election.enable",
                "true",
                "a copy that lags may become leader, and what it lacks is lost though it was delivered",
                self.set("unclean.leader.election.enable", false),
            );
        }
        self.health();
    }

    fn health(&mut self) {
        let ids = |wanted: &dyn Fn(&PartitionState) -> bool| {
            let all = self.topic.partitions.iter().filter(|p| wanted(p));
            all.map(|p| p.id.to_string()).collect::<Vec<_>>().join(", ")
        };
        let leaderless = ids(&|p| p.leader.is_none());
        let behind = ids(&|p| p.leader.is_some() && p.in_sync.len() < p.replicas.len());
        if !leaderless.is_empty() {
            self.add(
                Severity::Wrong,
                "leader",
                format!("none for partition {leaderless}"),
                "nothing can be written there or read from there",
                "bring the brokers that hold its copies back",
            );
        }
        if !behind.is_empty() {
            self.add(
                Severity::Risk,
                "in-sync replicas",
                format!("fewer than copies in partition {behind}"),
                "a broker is away, or does not keep up",
                "wait for it, or look at its disk and network",
            );
        }
    }

    fn retention(&mut self) {
        let outage_ms = i64::try_from(self.plan.outage.as_millis()).unwrap_or(i64::MAX);
        if let Some(is) = self.number("retention.ms")
            && is >= 0
            && is < outage_ms
        {
            let shown = Period::millis(is.unsigned_abs());
            self.add(
                Severity::Wrong,
                "retention.ms",
                format!("{is} ({shown})"),
                format!(
                    "a loader that is away for the {} of topic.outage finds records deleted that it \
                     has not read",
                    self.plan.outage
                ),
                self.set("retention.ms", self.plan.retention.as_millis()),
            );
        }
        if let Some(is) = self.number("retention.bytes")
            && is >= 0
        {
            self.add(
                Severity::Risk,
                "retention.bytes",
                is,
                "a partition that grows to it deletes records before their time, read or not; after \
                 an outage, when all devices send at once, it does",
                self.set("retention.bytes", -1),
            );
        }
        if let Some(policy) = self.text("cleanup.policy")
            && policy != "delete"
        {
            let found = policy.to_owned();
            self.add(
                Severity::Wrong,
                "cleanup.policy",
                found,
                "compaction keeps the last record of a key, and the key is the device: all others \
                 are deleted",
                self.set("cleanup.policy", "delete"),
            );
        }
    }

    fn time(&mut self) {
        if self.text("message.timestamp.type") != Some("CreateTime") {
            return;
        }
        let ahead = self.number("message.timestamp.after.max.ms");
        let refused = match ahead {
            Some(ms) if ms < 365 * 24 * 3_600_000 => format!(
                ", and records of a clock that is {} ahead are refused",
                Period::millis(ms.unsigned_abs())
            ),
            _ => String::new(),
        };
        if self.plan.timestamps == TimestampType::LogAppendTime {
            self.add(
                Severity::Risk,
                "message.timestamp.type",
                "CreateTime",
                format!("a device's clock decides when its records are deleted{refused}"),
                self.set("message.timestamp.type", "LogAppendTime"),
            );
        } else if !refused.is_empty() {
            self.add(
                Severity::Risk,
                "message.timestamp.after.max.ms",
                ahead.unwrap_or_default(),
                format!(
                    "as planned a device's clock counts{refused}: the agent tries them for ever"
                ),
                "see that devices' clocks are set (NTP), or take LogAppendTime",
            );
        }
    }

    fn rest(&mut self) {
        if self.topic.configs.is_empty() {
            self.add(
                Severity::Risk,
                "configuration",
                "not readable",
                "retention, in-sync replicas and the rest could not be checked",
                "let this principal describe the topic's configuration: see deploy/iam-admin.json",
            );
            return;
        }
        let least = i64::try_from(MESSAGE_BYTES_LEAST).unwrap_or(i64::MAX);
        if let Some(is) = self.number("max.message.bytes")
            && is < least
        {
            self.add(
                Severity::Wrong,
                "max.message.bytes",
                is,
                format!("agents send batches of up to {least} bytes, which it refuses"),
                self.set("max.message.bytes", least),
            );
        }
        if let Some(codec) = self.text("compression.type")
            && codec != "producer"
            && codec != self.plan.compression
        {
            let found = codec.to_owned();
            self.add(
                Severity::Risk,
                "compression.type",
                found,
                "the broker takes each batch apart and compresses it again",
                self.set("compression.type", "producer"),
            );
        }
    }
}

#[cfg(test)]
mod tests;
