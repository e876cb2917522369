//! Lambda's runtime API: the next event, and what came of it. Plain HTTP to an address that Lambda
//! gives; the call for the next event has no time-out, since the process stands still until one comes.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

use super::event::EVENT_BYTES_MAX;

/// How long the API may take over an answer of ours.
const PATIENCE: Duration = Duration::from_secs(10);
const API: &str = "/2018-06-01/runtime";

/// The runtime API.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// `host:port`.
    address: String,
}

/// An event that was handed over.
#[derive(Debug)]
pub struct Invocation {
    id: String,
    /// When it will be cut off, Unix milliseconds.
    pub deadline_ms: u64,
    /// The event.
    pub event: Bytes,
}

impl Runtime {
    /// The API at this address (`AWS_LAMBDA_RUNTIME_API`).
    pub fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
        }
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// The API is gone: so is this environment.
    pub async fn next(&self) -> anyhow::Result<Invocation> {
        let (headers, event) = self
            .ask(Method::GET, "/invocation/next", Bytes::new())
            .await?;
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let id = header("lambda-runtime-aws-request-id").context("the event has no request id")?;
        let deadline = header("lambda-runtime-deadline-ms").and_then(|text| text.parse().ok());
        Ok(Invocation {
            id: id.to_owned(),
            deadline_ms: deadline.context("the event has no deadline")?,
            event,
        })
    }

    /// Says what came of an event.
    ///
    /// # Errors
    /// The API does not take it.
    pub async fn respond(&self, invocation: &Invocation, body: String) -> anyhow::Result<()> {
        self.say(&format!("/invocation/{}/response", invocation.id), body)
            .await
    }

    /// Says that an event failed: Lambda tries again.
    ///
    /// # Errors
    /// The API does not take it.
    pub async fn fail(&self, invocation: &Invocation, message: &str) -> anyhow::Result<()> {
        let body = failure(message);
        self.say(&format!("/invocation/{}/error", invocation.id), body)
            .await
    }

    /// Says that this program cannot start.
    ///
    /// # Errors
    /// The API does not take it.
    pub async fn cannot_start(&self, message: &str) -> anyhow::Result<()> {
        self.say("/init/error", failure(message)).await
    }

    async fn say(&self, path: &str, body: String) -> anyhow::Result<()> {
        let said = self.ask(Method::POST, path, body.into());
        tokio::time::timeout(PATIENCE, said)
            .await
            .with_context(|| format!("the runtime API did not answer {path} in {PATIENCE:?}"))??;
        Ok(())
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<(HeaderMap, Bytes)> {
        let what = || format!("{method} {path} of the runtime API at {}", self.address);
        let stream = TcpStream::connect(&self.address).await.with_context(what)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender; what went wrong shows in the answer.
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method.clone())
            .uri(format!("{API}{path}"))
            .header(HOST, &self.address)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let response = sender.send_request(request).await.with_context(what)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, EVENT_BYTES_MAX).collect().await;
        connection.abort();
        let body = match body {
            Ok(body) => body.to_bytes(),
            Err(error) => bail!("{}: {error}", what()),
        };
        ensure!(
            matches!(parts.status, StatusCode::OK | StatusCode::ACCEPTED),
            "{}: {} {}",
            what(),
            parts.status,
            String::from_utf8_lossy(&body)
        );
        Ok((parts.headers, body))
    }
}

fn failure(message: &str) -> String {
    json!({ "errorType": "headwater", "errorMessage": message }).to_string()
}
