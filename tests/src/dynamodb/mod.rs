//! DynamoDB's tables on a server that somebody else wrote, behind a proxy that fails writes in turn:
//! throttled, an answer lost after the write, an error after it, a part of a batch left undone. Tables are
//! made and read by boto3.

mod local;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use serde_json::{Map, Value};

use crate::python::STORES;
use crate::s3::S3;
use crate::served::Served;

/// Tables on a server, as the environment of an S3 server has keys for them.
#[derive(Debug)]
pub struct Tables<'a> {
    s3: &'a S3,
    /// Of the server itself.
    endpoint: String,
    proxy: Served,
    /// Amazon's own, where it is not the S3 server that has the tables.
    _local: Option<Served>,
}

/// A request as it came and was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which fault it met: throttled, lost, error or part; pass where it met none.
    pub fault: String,
    /// What was asked, as AWS calls it.
    pub operation: String,
    /// The HTTP status; 0 where there was no answer.
    pub status: u16,
    /// The kind of the error; "-" where there was none.
    pub kind: String,
    /// Items that were to be put.
    pub items: u64,
    /// Those of them that were left undone.
    pub left: u64,
}

impl Asked {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut word = || words.next().map(str::to_owned);
        Some(Self {
            fault: word()?,
            operation: word()?,
            status: word()?.parse().ok()?,
            kind: word()?,
            items: word()?.parse().ok()?,
            left: word()?.parse().ok()?,
        })
    }
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("dynamodb")
        .join(name)
}

impl<'a> Tables<'a> {
    /// Tables on a server that [`S3::start_peer`] started, behind the proxy.
    ///
    /// # Panics
    /// If that does not listen.
    pub fn behind_faults(server: &'a S3) -> Self {
        Self::start(server, server.endpoint().to_owned(), None)
            .unwrap_or_else(|error| panic!("cannot start the proxy: {error:#}"))
    }

    /// Tables on `DynamoDB` Local, Amazon's own stand-in, behind the proxy. Objects lie elsewhere, on `s3`.
    ///
    /// # Panics
    /// If Maven cannot fetch it, or one of the two does not listen.
    pub fn on_dynamodb_local(s3: &'a S3) -> Self {
        local::start()
            .and_then(|local| Self::start(s3, local.endpoint(), Some(local)))
            .unwrap_or_else(|error| panic!("cannot start DynamoDB Local: {error:#}"))
    }

    fn start(s3: &'a S3, endpoint: String, local: Option<Served>) -> Result<Self> {
        let proxy = Served::start("faulty DynamoDB", |folder, port| {
            let upstream = endpoint.rsplit(':').next().unwrap_or_default();
            let mut command = Command::new(STORES.python()?);
            command
                .arg(script("faulty.py"))
                .args([&port.to_string(), upstream])
                .arg(folder.join("requests"));
            Ok(command)
        })?;
        Ok(Self {
            s3,
            endpoint,
            proxy,
            _local: local,
        })
    }

    /// Where a loader reaches it: the proxy.
    pub fn endpoint(&self) -> String {
        self.proxy.endpoint()
    }

    /// Faults that were met so far, by kind.
    pub fn faults(&self, kind: &str) -> usize {
        let asked = self.requests();
        asked.iter().filter(|asked| asked.fault == kind).count()
    }

    /// Every request so far, in the order of the answers.
    pub fn requests(&self) -> Vec<Asked> {
        let asked = std::fs::read_to_string(self.proxy.folder().join("requests"));
        let asked = asked.unwrap_or_default();
        asked.lines().filter_map(Asked::parse).collect()
    }

    fn ask(&self, verb: &str, more: &[&str]) -> String {
        let environment = self.s3.env();
        let key = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let mut arguments = vec![
            self.endpoint.as_str(),
            self.s3.region(),
            key("AWS_ACCESS_KEY_ID"),
            key("AWS_SECRET_ACCESS_KEY"),
            verb,
        ];
        arguments.extend(more);
        STORES.run(&script("table.py"), &arguments)
    }

    /// Makes a table with these keys.
    pub fn create(&self, name: &str, keys: &[&str]) {
        self.ask("create", &[&[name], keys].concat());
    }

    /// Removes a table.
    pub fn remove(&self, name: &str) {
        self.ask("remove", &[name]);
    }

    /// Every item of a table, each attribute as `{"S":"…"}` and the like.
    ///
    /// # Panics
    /// If what boto3 says is no JSON.
    pub fn scan(&self, name: &str) -> Vec<Map<String, Value>> {
        let printed = self.ask("scan", &[name]);
        let item = |line: &str| serde_json::from_str(line).expect("boto3 prints JSON");
        printed.lines().map(item).collect()
    }
}
