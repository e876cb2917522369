//! The loader's HTTP port: a status page at `/`, the same as JSON at `/status.json`, `/metrics`,
//! `/healthz`, `/readyz`. It only reads; who may reach it is for
//! the network to say, so it listens where `[http] listen` tells and nowhere by default.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use headwater_msk::Cluster;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::clock;
use crate::config::Output;
use crate::metrics::{Credentials, resident_bytes};
use crate::status::history::EVERY;
use crate::status::{About, Process, page};
use crate::worker::Shared;

/// Connections at once; one above waits.
const CONNECTIONS: usize = 32;
/// How long a client may take over its request.
const PATIENCE: Duration = Duration::from_secs(10);
/// The poll thread looks up every few milliseconds, a worker twice a second; silent for this long they hang.
const SILENT_MAX_MS: u64 = 60_000;

/// Listens and answers until the runtime ends.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(
    listen: SocketAddr,
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("http.listen: cannot listen on {listen}"))?;
    let mut registry = shared.metrics.registry();
    registry.register_collector(Box::new(Credentials(cluster)));
    let registry = Arc::new(registry);
    let about = Arc::new(about(&shared));
    tokio::spawn(sample(Arc::clone(&shared)));
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    tokio::spawn(async move {
        loop {
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of file descriptors, mostly: they come back.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (shared, registry) = (Arc::clone(&shared), Arc::clone(&registry));
            let about = Arc::clone(&about);
            tokio::spawn(async move {
                let answer = service_fn(|request| {
                    let answer = answer(&request, &shared, (&registry, &about));
                    async { Ok::<_, Infallible>(answer) }
                });
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new())
                    .header_read_timeout(PATIENCE)
                    .keep_alive(false);
                let served = http.serve_connection(TokioIo::new(stream), answer);
                if !matches!(tokio::time::timeout(2 * PATIENCE, served).await, Ok(Ok(()))) {
                    tracing::debug!("an HTTP client went away, or was too slow");
                }
                drop(permit);
            });
        }
    });
    Ok(())
}

fn answer(
    request: &Request<Incoming>,
    shared: &Shared,
    (registry, about): (&Registry, &About),
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
    }
    match request.uri().path() {
        "/metrics" => metrics(shared, registry),
        "/healthz" => match hangs(shared) {
            Some(what) => text(StatusCode::SERVICE_UNAVAILABLE, what),
            None => text(StatusCode::OK, "alive\n".into()),
        },
        "/readyz" => match shared.metrics.not_ready() {
            None => text(StatusCode::OK, "ready\n".into()),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason),
        },
        "/status.json" => status(shared, about),
        path => match page::file(path) {
            Some((kind, text)) => of_page(kind, text.into()),
            None => text(
                StatusCode::NOT_FOUND,
                "/, /status.json, /metrics, /healthz and /readyz are here\n".into(),
            ),
        },
    }
}

/// Who this loader is.
fn about(shared: &Shared) -> About {
    let plan = &shared.plan;
    About {
        version: env!("CARGO_PKG_VERSION"),
        group: plan.group.clone(),
        topic: plan.kafka.topic.clone(),
        output: match &plan.output {
            Output::S3(settings) => format!("s3://{}/{}", settings.bucket, settings.prefix),
            Output::Folder(root) => format!("file://{}", root.display()),
        },
        started_ms: clock::now().wall_ms,
    }
}

/// Enters a point of every partition, for as long as the process runs.
async fn sample(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let readings = shared.metrics.readings(clock::now().wall_ms);
        shared.status.sample(&readings);
    }
}

fn status(shared: &Shared, about: &About) -> Response<Full<Bytes>> {
    let now_ms = clock::now().wall_ms;
    let metrics = &shared.metrics;
    let (held, bound) = shared.staging.held();
    let process = Process {
        joined: metrics.is_joined(),
        batch_bytes: held as u64,
        batch_bytes_max: bound as u64,
        resident_bytes: resident_bytes(),
        output_retries: metrics.retries.get(),
        rejoins: metrics.rejoined.get(),
    };
    let (sum, readings) = (shared.tally.sum(), metrics.readings(now_ms));
    let view = shared
        .status
        .view(now_ms, about, process, (&sum, &readings));
    match serde_json::to_vec(&view) {
        Ok(body) => of_page("application/json", body.into()),
        Err(error) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the status cannot be written: {error}\n"),
        ),
    }
}

/// An answer that a browser shows: it may load nothing from elsewhere, and keeps nothing.
fn of_page(kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, page::POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What does not go on though nothing keeps it from that.
fn hangs(shared: &Shared) -> Option<String> {
    let silent = silent_ms(shared);
    if silent > SILENT_MAX_MS {
        return Some(format!("the poll thread is silent for {silent} ms\n"));
    }
    let (partition, silent) = shared.metrics.hung(SILENT_MAX_MS)?;
    Some(format!(
        "the worker of partition {partition} is silent for {silent} ms\n"
    ))
}

fn silent_ms(shared: &Shared) -> u64 {
    let polled = shared.polled_ms.load(Ordering::Acquire);
    // Between two memberships nobody polls, and that is no hang.
    if polled == 0 {
        return 0;
    }
    clock::now().mono_ms.saturating_sub(polled)
}

fn metrics(shared: &Shared, registry: &Registry) -> Response<Full<Bytes>> {
    let memory = (shared.staging.held(), shared.staging.state());
    shared
        .metrics
        .refresh(clock::now().wall_ms, memory, shared.prefetch.held());
    let mut body = String::new();
    if prometheus_client::encoding::text::encode(&mut body, registry).is_err() {
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics cannot be written\n".into(),
        );
    }
    let mut response = text(StatusCode::OK, body);
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8"),
    );
    response
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
