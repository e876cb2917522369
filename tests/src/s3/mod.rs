//! An S3 server on loopback whose every conditional write is atomic, and that fails on order.
//!
//! - [`S3::start`] gives a test its own; [`S3::shared`] gives one per test process, or the one that
//!   `S3_ENDPOINT` names (then without faults and without the record of requests).
//! - [`S3::start_peer`] gives a server that somebody else wrote, for a second opinion.
//!
//! The protocol, the XML and the signatures are those of the `s3s` library; objects live in memory.
//! Promises: `If-None-Match: *` has one winner; a body whose checksum is wrong is not stored; parts
//! under 5 MiB are refused; a request that was signed with other keys is refused.

mod backend;
mod checksums;
mod client;
mod faults;
mod peer;
mod server;
mod store;
mod translate;

pub use faults::{Fault, Kind, Op, Request};
pub use hyper::body::Bytes;
pub use peer::Peer;
pub use store::{Attributes, Object};

use crate::outside::var;
use crate::served::Served;
use anyhow::{Context, Result};
use faults::Desk;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use store::{Condition, Store};
use tokio::runtime::Runtime;

/// The one access key that our server knows.
pub const ACCESS_KEY: &str = "HEADWATERTESTKEY";

/// The secret beside [`ACCESS_KEY`]. It opens nothing but this server.
pub const SECRET_KEY: &str = "headwater-test-secret";

const REGION: &str = "us-east-1";

/// An S3 server: ours in this process, or an outside one.
#[derive(Debug)]
pub struct S3 {
    endpoint: String,
    keys: (String, String),
    region: String,
    /// Used on `runtime` alone.
    client: aws_sdk_s3::Client,
    ours: Option<Ours>,
    /// Somebody else's: it runs as long as this handle.
    peer: Option<Served>,
    /// Runs our server, and the calls to an outside one. `None` only while dropping.
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Ours {
    store: Arc<Store>,
    desk: Arc<Desk>,
}

impl S3 {
    /// Starts a server of the test's own, empty.
    ///
    /// # Panics
    /// If it cannot listen.
    pub fn start() -> Self {
        Self::try_start().unwrap_or_else(|error| panic!("cannot start the S3 server: {error:#}"))
    }

    /// Returns the test process's one shared server: the outside one if `S3_ENDPOINT` is set.
    /// Tests must use buckets of their own, see [`unique`](crate::outside::unique).
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<S3> = OnceLock::new();
        SHARED.get_or_init(|| match var("S3_ENDPOINT") {
            Some(endpoint) => {
                let key = |name| var(name).unwrap_or_else(|| panic!("S3_ENDPOINT needs {name}"));
                let (access_key, secret_key) =
                    (key("AWS_ACCESS_KEY_ID"), key("AWS_SECRET_ACCESS_KEY"));
                Self::at(&endpoint, &access_key, &secret_key)
            }
            None => Self::start(),
        })
    }

    fn try_start() -> Result<Self> {
        let runtime = runtime()?;
        let ours = Ours {
            store: Arc::default(),
            desk: Arc::default(),
        };
        let listen = server::listen(Arc::clone(&ours.store), Arc::clone(&ours.desk));
        let address = client::wait(&runtime, listen)?;
        let endpoint = format!("http://{address}");
        let keys = (ACCESS_KEY.to_owned(), SECRET_KEY.to_owned());
        Ok(Self {
            client: client::new(&endpoint, &keys, REGION),
            endpoint,
            keys,
            region: REGION.to_owned(),
            ours: Some(ours),
            peer: None,
            runtime: Some(runtime),
        })
    }

    /// Starts a server that somebody else wrote, empty: an outside one, which takes no faults.
    ///
    /// # Panics
    /// If it cannot be installed or does not listen.
    pub fn start_peer(peer: Peer) -> Self {
        let running = peer::start(peer)
            .unwrap_or_else(|error| panic!("cannot start the S3 server {peer:?}: {error:#}"));
        let mut s3 = Self::at(&running.endpoint(), ACCESS_KEY, SECRET_KEY);
        s3.peer = Some(running);
        s3
    }

    /// Returns a handle on a server that runs elsewhere, reached with these keys.
    pub fn at(endpoint: &str, access_key: &str, secret_key: &str) -> Self {
        let region = var("AWS_REGION").unwrap_or_else(|| REGION.to_owned());
        let keys = (access_key.to_owned(), secret_key.to_owned());
        let runtime = runtime().unwrap_or_else(|error| panic!("cannot call S3: {error:#}"));
        Self {
            client: client::new(endpoint, &keys, &region),
            endpoint: endpoint.to_owned(),
            keys,
            region,
            ours: None,
            peer: None,
            runtime: Some(runtime),
        }
    }

    /// The endpoint URL, for path-style requests.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The region to sign for.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// True for an outside server, on which no fault can be ordered.
    pub fn is_outside(&self) -> bool {
        self.ours.is_none()
    }

    /// The variables that let a process sign its requests to this server.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ACCESS_KEY_ID", self.keys.0.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.keys.1.clone()),
            ("AWS_REGION", self.region.clone()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }

    /// A new SDK client for this server, without retries: a test sees every answer.
    ///
    /// Not the one this harness itself uses: a client's pooled connections are served by the
    /// runtime that opened them, which stands still while a test waits for the harness.
    pub fn client(&self) -> aws_sdk_s3::Client {
        client::new(&self.endpoint, &self.keys, &self.region)
    }

    /// Creates a bucket, if it is not there, and returns its name.
    ///
    /// # Panics
    /// If S3 allows no such name: 3 to 63 small letters, digits and hyphens.
    pub fn bucket(&self, name: &str) -> String {
        assert!(
            s3s::path::check_bucket_name(name),
            "S3 allows no bucket name like {name}"
        );
        match &self.ours {
            Some(ours) => {
                ours.store.create_bucket(name);
            }
            None => self.ask(client::create_bucket(self.client.clone(), name.to_owned())),
        }
        name.to_owned()
    }

    /// Returns the objects whose keys begin with `prefix`, in the order of their keys.
    pub fn objects(&self, bucket: &str, prefix: &str) -> Vec<(String, Bytes)> {
        match &self.ours {
            Some(_) => self
                .described(bucket, prefix)
                .into_iter()
                .map(|(key, object)| (key, object.bytes))
                .collect(),
            None => self.ask(client::objects(
                self.client.clone(),
                bucket.to_owned(),
                prefix.to_owned(),
            )),
        }
    }

    /// Returns the keys that begin with `prefix`, in their order.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let objects = self.objects(bucket, prefix);
        objects.into_iter().map(|(key, _)| key).collect()
    }

    /// Like [`objects`](Self::objects), with all that was said about each. Our server only.
    pub fn described(&self, bucket: &str, prefix: &str) -> Vec<(String, Object)> {
        self.ours()
            .store
            .all(bucket, prefix)
            .unwrap_or_else(|error| panic!("cannot list bucket {bucket}: {error}"))
    }

    /// Returns the keys of uploads that were begun and neither completed nor aborted. Our server
    /// only.
    pub fn unfinished_uploads(&self, bucket: &str) -> Vec<String> {
        let uploads = self.ours().store.uploads(bucket).into_iter();
        uploads.map(|(key, _)| key).collect()
    }

    /// Removes the unfinished uploads of a bucket, as a lifecycle rule does. Our server only.
    pub fn lose_uploads(&self, bucket: &str) {
        self.ours().store.lose_uploads(bucket);
    }

    /// Deletes a bucket with all that lies in it; [`bucket`](Self::bucket) makes it anew. Our server only.
    pub fn lose_bucket(&self, bucket: &str) {
        self.ours().store.lose_bucket(bucket);
    }

    /// Writes an object: a lookup table, a configuration.
    pub fn put(&self, bucket: &str, key: &str, bytes: impl Into<Vec<u8>>) {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.ask(client::put(self.client.clone(), bucket, key, bytes.into()));
    }

    /// Deletes an object behind everybody's back: not counted, no fault meets it. Our server only.
    pub fn lose(&self, bucket: &str, key: &str) {
        self.ours()
            .store
            .delete(bucket, key, &Condition::default())
            .unwrap_or_else(|error| panic!("cannot delete {key}: {error}"));
    }

    /// Puts an object of one bucket, with all that was said about it, into another under the same key, behind
    /// everybody's back as [`lose`](Self::lose) does. Our server only.
    pub fn copy(&self, from: &str, to: &str, key: &str) {
        let store = &self.ours().store;
        let copied = store.get(from, key);
        let copied = copied.and_then(|object| store.put(to, key, object, &Condition::default()));
        copied.unwrap_or_else(|error| panic!("cannot copy {key}: {error}"));
    }

    /// Orders a fault. Several may be in force: each request meets the oldest that fits.
    pub fn fault(&self, fault: Fault) {
        self.ours().desk.order(fault);
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.ours().desk.clear();
    }

    /// Returns every well-signed request so far, in the order of arrival. Our server only.
    pub fn requests(&self) -> Vec<Request> {
        self.ours().desk.requests()
    }

    /// Forgets the requests so far: counting starts anew.
    pub fn forget_requests(&self) {
        self.ours().desk.forget();
    }

    /// Returns how many requests of that kind arrived; `Op::Any` counts all.
    pub fn count(&self, op: Op) -> usize {
        let is = |request: &Request| op == Op::Any || request.op == op;
        self.requests().into_iter().filter(is).count()
    }

    /// Returns how many requests met a fault.
    pub fn faults_met(&self) -> usize {
        let requests = self.requests();
        requests.iter().filter(|r| r.fault.is_some()).count()
    }

    /// Returns, for each key of a bucket, how many requests of that kind it saw: one PUT an object?
    pub fn count_by_key(&self, op: Op, bucket: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for request in self.requests() {
            if request.op == op && request.bucket == bucket {
                *counts.entry(request.key).or_default() += 1;
            }
        }
        counts
    }

    fn ours(&self) -> &Ours {
        self.ours.as_ref().expect(
            "an outside S3 server takes no faults and shows no requests: the test must use S3::start",
        )
    }

    fn ask<T: Send + 'static>(&self, call: impl Future<Output = Result<T>> + Send + 'static) -> T {
        let runtime = self
            .runtime
            .as_ref()
            .expect("the runtime is there until drop");
        client::wait(runtime, call).unwrap_or_else(|error| panic!("S3: {error:#}"))
    }
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("s3")
        .enable_all()
        .build()
        .context("cannot make a runtime")
}

impl Drop for S3 {
    fn drop(&mut self) {
        // Not a plain drop: that would panic in a test that is itself inside a runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
