//! DynamoDB's tables on a server that somebody else wrote, behind a proxy that fails writes in turn:
//! throttled, an answer lost after the write, an error after it, a part of a batch left undone. Tables are
//! made and read by boto3.

use std::fs::File;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::child::Child;
use crate::clock;
use crate::folder::Folder;
use crate::ports::Port;
use crate::python::STORES;
use crate::s3::S3;

/// How long the proxy may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tables on the server that `S3::start_peer` started.
#[derive(Debug)]
pub struct Tables<'a> {
    server: &'a S3,
    proxy: Child,
    port: Port,
    folder: Folder,
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("dynamodb")
        .join(name)
}

impl<'a> Tables<'a> {
    /// Starts the proxy.
    ///
    /// # Panics
    /// If it does not listen.
    pub fn behind_faults(server: &'a S3) -> Self {
        Self::start(server).unwrap_or_else(|error| panic!("cannot start the proxy: {error:#}"))
    }

    fn start(server: &'a S3) -> Result<Self> {
        let folder = Folder::new("dynamodb")?;
        let port = Port::reserve()?;
        let upstream = server.endpoint().rsplit(':').next().unwrap_or_default();
        let log = File::create(folder.path().join("log")).context("cannot create a log")?;
        let mut command = Command::new(STORES.python()?);
        command
            .arg(script("faulty.py"))
            .args([&port.number().to_string(), upstream])
            .arg(folder.path().join("faults"))
            .stdout(log.try_clone().context("cannot share a log")?)
            .stderr(log);
        let proxy = Child::spawn("faulty DynamoDB", &mut command, Some(folder.path()))?;
        let tables = Self {
            server,
            proxy,
            port,
            folder,
        };
        let start = clock::now();
        while TcpStream::connect(("127.0.0.1", tables.port.number())).is_err() {
            let ended = tables.proxy.status()?;
            if ended.is_some() || start.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(tables.folder.path().join("log"));
                bail!(
                    "it does not listen ({ended:?}):\n{}",
                    log.unwrap_or_default()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(tables)
    }

    /// Where a loader reaches it: the proxy.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// Faults that were met so far, by kind.
    pub fn faults(&self, kind: &str) -> usize {
        let met = std::fs::read_to_string(self.folder.path().join("faults")).unwrap_or_default();
        met.lines().filter(|line| line.starts_with(kind)).count()
    }

    fn ask(&self, verb: &str, more: &[&str]) -> String {
        let environment = self.server.env();
        let key = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let mut arguments = vec![
            self.server.endpoint(),
            self.server.region(),
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
