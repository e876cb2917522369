//! A loader's whole surroundings in one value: topic, bucket, configuration, and the questions that
//! every test asks in the end.

use crate::kafka::{Kafka, toml_array};
use crate::oracle::{Report, Stored, stored};
use crate::outside::unique;
use crate::process::{Agent, Finished, Loader, Process, Setup};
use crate::s3::S3;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Keys of `[group]`: members assign partitions among themselves.
pub const CLASSIC: &str = "session_timeout = \"2s\"";
/// Keys of `[group]`: the broker assigns (KIP-848).
pub const KIP_848: &str = "protocol = \"consumer\"";

/// Topic, group and bucket of one test.
#[derive(Debug)]
pub struct Loading<'a> {
    /// Where records come from.
    pub kafka: &'a Kafka,
    /// Where rows go.
    pub s3: &'a S3,
    /// The topic.
    pub topic: String,
    /// The bucket.
    pub bucket: String,
    group: String,
    keys: String,
}

impl<'a> Loading<'a> {
    /// A new topic, bucket and group.
    pub fn new(kafka: &'a Kafka, s3: &'a S3, name: &str, partitions: i32) -> Self {
        Self::with_topic(kafka, s3, name, partitions, &[])
    }

    /// The same with settings of the topic.
    pub fn with_topic(
        kafka: &'a Kafka,
        s3: &'a S3,
        name: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Self {
        let topic = unique(name);
        kafka.create_topic(&topic, partitions, settings);
        Self {
            kafka,
            s3,
            bucket: s3.bucket(&unique(name)),
            group: unique(name),
            topic,
            keys: CLASSIC.to_owned(),
        }
    }

    /// Its loaders are of a group with these keys of `[group]`, where nothing else is said.
    #[must_use]
    pub fn of(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.keys);
        self
    }

    /// The consumer group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// A loader's configuration. `more`: further sections, after `[output]`'s own keys.
    pub fn config(&self, more: &str) -> String {
        self.config_as(&self.keys, more)
    }

    /// The same with other keys of `[group]`.
    pub fn config_as(&self, group_keys: &str, more: &str) -> String {
        format!(
            r#"
            [kafka]
            brokers = {brokers}
            topic = "{topic}"
            [kafka.security]
            allow_plaintext = true
            [kafka.options]
            "reconnect.backoff.ms" = "100"
            "reconnect.backoff.max.ms" = "500"
            [group]
            id = "{group}"
            {group_keys}
            [output]
            url = "s3://{bucket}/data"
            endpoint = "{endpoint}"
            region = "{region}"
            path_style = true
            {more}"#,
            brokers = self.kafka.brokers(),
            topic = self.topic,
            group = self.group,
            bucket = self.bucket,
            endpoint = self.s3.endpoint(),
            region = self.s3.region(),
        )
    }

    /// A loader with this configuration, not yet running.
    pub fn loader(&self, more: &str) -> Setup {
        Loader::with(&self.config(more)).envs(self.s3.env())
    }

    /// A loader with other keys of `[group]`, not yet running.
    pub fn loader_as(&self, group_keys: &str, more: &str) -> Setup {
        Loader::with(&self.config_as(group_keys, more)).envs(self.s3.env())
    }

    /// A running loader that flushes often.
    pub fn start(&self) -> Process {
        self.loader("[flush]\nage = \"300ms\"\n").start()
    }

    /// An agent that follows the files under `paths` (a glob, absolute) as source `app`, not yet
    /// running. librdkafka's waits are short; the logic is untouched. `more`: further sections.
    pub fn agent(&self, paths: &str, more: &str) -> Setup {
        Agent::with(&self.agent_config(self.kafka.bootstrap(), paths, more))
    }

    /// The configuration of [`Loading::agent`], for brokers of one's own.
    pub fn agent_config(&self, brokers: &str, paths: &str, more: &str) -> String {
        format!(
            r#"
            device = "pi-7"
            state_dir = "{{dir}}/state"
            boot_sizes = "{{dir}}/sizes"
            [kafka]
            brokers = {brokers}
            topic = "{topic}"
            [kafka.security]
            allow_plaintext = true
            [kafka.options]
            "reconnect.backoff.ms" = "50"
            "reconnect.backoff.max.ms" = "200"
            "socket.timeout.ms" = "2000"
            "socket.connection.setup.timeout.ms" = "1500"
            [[file]]
            id = "app"
            paths = ["{paths}"]
            rescan = "1s"
            close_after = "1s"
            {more}"#,
            brokers = toml_array(brokers),
            topic = self.topic,
        )
    }

    /// What lies in the bucket.
    pub fn stored(&self) -> Vec<Stored> {
        stored(self.s3, &self.bucket, "data/")
    }

    /// What was written against what lies in the bucket.
    pub fn report(&self, written: impl IntoIterator<Item = String>) -> Report {
        Report::compare(written, &self.stored())
    }

    /// `headwater-loader audit`.
    pub fn audit(&self) -> Finished {
        self.loader("").run("audit", &[])
    }

    /// `headwater-loader verify`.
    pub fn verify(&self) -> Finished {
        self.loader("").run("verify", &[])
    }

    /// Both proofs hold.
    ///
    /// # Panics
    /// With what the commands said, where one does not.
    pub fn assert_proven(&self) {
        let audit = self.audit();
        assert_eq!(
            audit.code,
            Some(0),
            "audit: {}\n{}",
            audit.stdout,
            audit.stderr
        );
        assert!(
            audit.stdout.ends_with("unexplained gaps: 0\n"),
            "audit: {}",
            audit.stdout
        );
        let verify = self.verify();
        assert_eq!(
            verify.code,
            Some(0),
            "verify: {}\n{}",
            verify.stdout,
            verify.stderr
        );
    }
}

/// What a loader's HTTP port answers: the status, and the body; none while it does not. `listen`: its
/// `http.listen`.
pub fn page(listen: &str, path: &str) -> Option<(u16, String)> {
    let mut text = String::new();
    let mut stream = TcpStream::connect(listen).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// A loader's metric, summed over its labels; none while the page does not answer or has it not.
pub fn metric(listen: &str, name: &str) -> Option<u64> {
    let (_, text) = page(listen, "/metrics")?;
    let lines = text.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
    });
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    values.reduce(|a, b| a + b)
}
