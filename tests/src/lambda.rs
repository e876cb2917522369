//! A stand-in for AWS Lambda: its runtime API on loopback, and events as a Kafka trigger makes them.
//!
//! One [`Lambda`] is one environment: a process asks it for the next event, and says what came of it.
//! Events are handed over by [`Lambda::invoke`], which is the trigger's side.

use crate::clock;
use crate::kafka::Record;
use crate::loopback;
use crate::process::Process;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// How often a waiting call looks again.
const LOOK: Duration = Duration::from_millis(5);

/// The runtime API of one environment; it ends when this is dropped.
#[derive(Debug)]
pub struct Lambda {
    // Dropped first: it stops serving.
    _runtime: Runtime,
    address: SocketAddr,
    desk: Arc<Desk>,
}

/// What came of an invocation.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The function answered.
    Answered(Value),
    /// It said that it failed, in these words.
    Failed(String),
    /// The process ended, or its time was up.
    Gone,
}

#[derive(Debug, Default)]
struct Desk {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    count: u64,
    /// Its number, its deadline (Unix milliseconds), its event.
    waiting: Option<(u64, u128, String)>,
    outcomes: BTreeMap<u64, Outcome>,
    /// Why the function could not start.
    no_start: Option<String>,
}

impl Lambda {
    /// Starts the API.
    ///
    /// # Panics
    /// If it cannot listen on loopback.
    pub fn start() -> Self {
        let (runtime, listener, address) =
            loopback::listen().unwrap_or_else(|error| panic!("no runtime API: {error:#}"));
        let desk = Arc::new(Desk::default());
        runtime.spawn(serve(listener, Arc::clone(&desk)));
        Self {
            _runtime: runtime,
            address,
            desk,
        }
    }

    /// What Lambda tells a function by its environment.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_LAMBDA_RUNTIME_API", self.address.to_string()),
            ("AWS_LAMBDA_FUNCTION_NAME", "headwater".to_owned()),
        ]
    }

    /// Why the function could not start, once it has said so.
    pub fn no_start(&self) -> Option<String> {
        lock(&self.desk.state).no_start.clone()
    }

    /// Hands an event over to a function, and waits for what comes of it.
    pub fn invoke(&self, function: &Process, event: &Value, timeout: Duration) -> Outcome {
        let number = self.hand_over(event, timeout);
        let start = clock::now();
        loop {
            if let Some(outcome) = lock(&self.desk.state).outcomes.remove(&number) {
                return outcome;
            }
            if !function.is_running() || start.elapsed() > timeout + Duration::from_secs(2) {
                lock(&self.desk.state).waiting = None;
                return Outcome::Gone;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Hands an event over and does not wait.
    pub fn hand_over(&self, event: &Value, timeout: Duration) -> u64 {
        let now = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        let deadline = (now + timeout).as_millis();
        let mut state = lock(&self.desk.state);
        state.count += 1;
        state.waiting = Some((state.count, deadline, event.to_string()));
        state.count
    }

    /// What came of an event that was handed over, once it is known.
    pub fn outcome(&self, number: u64) -> Option<Outcome> {
        lock(&self.desk.state).outcomes.get(&number).cloned()
    }
}

/// An event of a Kafka trigger: records with their offsets.
pub fn event<'a>(topic: &str, records: impl IntoIterator<Item = (i64, &'a Record)>) -> Value {
    let mut partitions: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (offset, record) in records {
        let headers: Vec<Value> = record
            .headers
            .iter()
            .map(|(name, value)| {
                // Signed, as Java prints bytes.
                let signed: Vec<i8> = value.iter().map(|byte| byte.cast_signed()).collect();
                json!({ name: signed })
            })
            .collect();
        let partition = format!("{topic}-{}", record.partition);
        partitions.entry(partition).or_default().push(json!({
            "topic": topic,
            "partition": record.partition,
            "offset": offset,
            "timestamp": 1_795_478_400_000_i64 + offset,
            "timestampType": "CREATE_TIME",
            "key": record.key.as_ref().map(|key| STANDARD.encode(key)),
            "value": STANDARD.encode(&record.value),
            "headers": headers,
        }));
    }
    json!({
        "eventSource": "aws:kafka",
        "eventSourceArn": "arn:aws:kafka:eu-west-1:123456789012:cluster/logs/0",
        "bootstrapServers": "b-1.logs:9098",
        "records": partitions,
    })
}

async fn serve(listener: TcpListener, desk: Arc<Desk>) {
    while let Ok((stream, _)) = listener.accept().await {
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(request, Arc::clone(&desk)));
            // An error is a function that was killed.
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await
                .ok();
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    desk: Arc<Desk>,
) -> Result<Response<s3s::Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = s3s::Body::from(request.into_body());
    let mut body = body;
    let bytes = body.store_all_limited(1 << 20).await.unwrap_or_default();
    let parts: Vec<&str> = path
        .trim_start_matches("/2018-06-01/runtime/")
        .split('/')
        .collect();
    let mut response = Response::new(s3s::Body::empty());
    match parts[..] {
        ["invocation", "next"] => {
            let (number, deadline, event) = desk.next().await;
            let headers = response.headers_mut();
            for (name, value) in [
                ("lambda-runtime-aws-request-id", number.to_string()),
                ("lambda-runtime-deadline-ms", deadline.to_string()),
            ] {
                headers.insert(name, value.parse().expect("a number is a header"));
            }
            *response.body_mut() = Bytes::from(event).into();
        }
        ["invocation", number, "response"] => {
            let answer = serde_json::from_slice(&bytes).unwrap_or_default();
            desk.note(number, Outcome::Answered(answer));
        }
        ["invocation", number, "error"] => desk.note(number, Outcome::Failed(message(&bytes))),
        ["init", "error"] => lock(&desk.state).no_start = Some(message(&bytes)),
        _ => *response.status_mut() = hyper::StatusCode::NOT_FOUND,
    }
    Ok(response)
}

fn message(bytes: &[u8]) -> String {
    let said: Value = serde_json::from_slice(bytes).unwrap_or_default();
    said["errorMessage"].as_str().unwrap_or_default().to_owned()
}

impl Desk {
    /// The next event, once there is one.
    async fn next(&self) -> (u64, u128, String) {
        loop {
            if let Some(next) = lock(&self.state).waiting.take() {
                return next;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn note(&self, number: &str, outcome: Outcome) {
        if let Ok(number) = number.parse() {
            lock(&self.state).outcomes.insert(number, outcome);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
