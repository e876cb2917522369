//! HTTP on a Unix socket or a loopback port: `/status` (JSON), `/metrics` (OpenMetrics), `/healthz`,
//! `/tap?source=ID` (lines of JSON, until the reader goes).
//!
//! Whoever asks is not trusted to behave: connections are few, a head that does not come is not
//! waited for, a body is not read. The socket lies in a folder that only the agent's user can
//! enter; a port is loopback only, since the records that `tap` shows are as secret as the logs
//! are.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::metrics;
use super::status::Status;
use super::tap::{QUEUE, TAPS_MAX, Tap};
use crate::config::Listen;

/// Questions that wait for the loop.
pub const ASKS: usize = 8;
/// Connections at a time: every watcher, and some questions.
const CONNECTIONS_MAX: usize = TAPS_MAX + 8;
/// How long a request's head may take, and an answer of the loop's.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a request's head that are read at most; also what a connection holds.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// After a failure to accept (no file descriptor left) the next try waits so long.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// What is asked of the loop that owns the state.
#[derive(Debug)]
pub enum Ask {
    /// How it goes.
    Status(oneshot::Sender<Box<Status>>),
    /// Whether this watcher may watch.
    Tap(Tap, oneshot::Sender<bool>),
}

/// A server that runs on the present runtime; it ends when this is dropped, and its socket goes.
#[derive(Debug)]
pub struct Server {
    task: Option<AbortHandle>,
    listen: Listen,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        if let Listen::Unix(path) = &self.listen
            && let Err(error) = fs::remove_file(path)
        {
            tracing::debug!(%error, "the admin socket stays; the next start removes it");
        }
    }
}

/// Listens, and answers until the returned server is dropped. `asks` is what the loop reads.
///
/// # Errors
/// The socket or port cannot be had: another program has it, or the path is too long.
pub fn serve(listen: &Listen, asks: mpsc::Sender<Ask>) -> io::Result<Server> {
    let task = match listen {
        Listen::Off => None,
        Listen::Tcp(address) => {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            let accept = async move || listener.accept().await.map(|(stream, _)| stream);
            Some(tokio::spawn(answer_all(accept, asks)).abort_handle())
        }
        Listen::Unix(path) => {
            remove_stale(path)?;
            let listener = UnixListener::bind(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
            let accept = async move || listener.accept().await.map(|(stream, _)| stream);
            Some(tokio::spawn(answer_all(accept, asks)).abort_handle())
        }
    };
    let listen = listen.clone();
    Ok(Server { task, listen })
}

/// A socket that a killed agent left behind is in the way of the next; one that somebody answers on
/// is not ours to remove.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && StdUnixStream::connect(path).is_err() {
        fs::remove_file(path)?;
    }
    Ok(())
}

async fn answer_all<S>(accept: impl AsyncFn() -> io::Result<S>, asks: mpsc::Sender<Ask>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let stream = match accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "cannot accept an admin connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let asks = asks.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &asks));
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .keep_alive(false)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "an admin connection ended early");
            }
            drop(place);
        });
    }
}

type Answer = Response<Either<Full<Bytes>, Lines>>;

async fn answer(
    request: Request<Incoming>,
    asks: &mpsc::Sender<Ask>,
) -> Result<Answer, Infallible> {
    let uri = request.uri();
    let answer = match (request.method(), uri.path()) {
        (&Method::GET, "/status") => match status(asks).await {
            Some(status) => match serde_json::to_string(&status) {
                Ok(json) => plain(StatusCode::OK, "application/json", json + "\n"),
                Err(error) => plain(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    TEXT,
                    format!("{error}\n"),
                ),
            },
            None => busy(),
        },
        (&Method::GET, "/metrics") => match status(asks).await.map(|status| metrics::text(*status))
        {
            Some(Ok(text)) => plain(StatusCode::OK, metrics::MEDIA_TYPE, text),
            Some(Err(error)) => plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                TEXT,
                format!("{error}\n"),
            ),
            None => busy(),
        },
        (&Method::GET, "/healthz") => match status(asks).await.map(|status| status.stuck) {
            Some(None) => plain(StatusCode::OK, TEXT, "ok\n"),
            Some(Some(why)) => plain(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
            None => busy(),
        },
        (&Method::GET, "/tap") => tap(source_of(uri.query()), asks).await,
        (&Method::GET, _) => plain(
            StatusCode::NOT_FOUND,
            TEXT,
            "there are /status, /metrics, /healthz and /tap?source=ID\n",
        ),
        _ => plain(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n"),
    };
    Ok(answer)
}

const TEXT: &str = "text/plain; charset=utf-8";

fn plain(status: StatusCode, media_type: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(text.into())));
    *answer.status_mut() = status;
    let media_type = hyper::header::HeaderValue::from_static(media_type);
    answer.headers_mut().insert(CONTENT_TYPE, media_type);
    answer
}

/// The loop gave no answer in time: it is what does not move, then.
fn busy() -> Answer {
    plain(
        StatusCode::SERVICE_UNAVAILABLE,
        TEXT,
        "the agent's loop does not answer: it stops, or it hangs\n",
    )
}

async fn status(asks: &mpsc::Sender<Ask>) -> Option<Box<Status>> {
    let (reply, answer) = oneshot::channel();
    asks.try_send(Ask::Status(reply)).ok()?;
    tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
}

async fn tap(source: Option<String>, asks: &mpsc::Sender<Ask>) -> Answer {
    let (lines, receiver) = mpsc::channel(QUEUE);
    let (reply, answer) = oneshot::channel();
    if asks
        .try_send(Ask::Tap(Tap { source, lines }, reply))
        .is_err()
    {
        return busy();
    }
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(true)) => {
            let mut answer = Response::new(Either::Right(Lines(receiver)));
            let media_type = hyper::header::HeaderValue::from_static("application/x-ndjson");
            answer.headers_mut().insert(CONTENT_TYPE, media_type);
            answer
        }
        Ok(Ok(false)) => plain(
            StatusCode::TOO_MANY_REQUESTS,
            TEXT,
            format!("{TAPS_MAX} watch already; end one of them\n"),
        ),
        Ok(Err(_)) | Err(_) => busy(),
    }
}

/// `source=ID`. Ids are printable ASCII, so nothing but `%XX` of a careful client has to be undone.
fn source_of(query: Option<&str>) -> Option<String> {
    let pairs = query?.split('&');
    let value = pairs
        .filter_map(|pair| pair.strip_prefix("source="))
        .next()?;
    let (mut bytes, mut rest) = (Vec::new(), value.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A body that lasts for as long as its reader and the agent do.
struct Lines(mpsc::Receiver<Vec<u8>>);

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let lines = self.0.poll_recv(context);
        lines.map(|lines| Some(Ok(Frame::data(Bytes::from(lines?)))))
    }
}

#[cfg(test)]
mod tests;
