//! Asks a running agent, for the commands `status` and `tap`: one request, one connection.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::config::Listen;

/// How long an answer may take to begin. The agent itself waits ten seconds for its loop.
const PATIENCE: Duration = Duration::from_secs(15);
/// Most bytes of an answer that is read as a whole.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// The configuration says so.
    #[error("admin.listen is \"off\" in this configuration: nobody can be asked")]
    Off,
    /// Nobody listens.
    #[error(
        "no agent answers at {at}: {source}; is it running, and with this configuration? a socket \
         needs the agent's user or root"
    )]
    Unreachable {
        /// Where.
        at: Listen,
        /// What the system said.
        source: io::Error,
    },
    /// The connection failed, or the answer is none.
    #[error("the agent at {at} gave no whole answer: {text}")]
    Broken {
        /// Where.
        at: Listen,
        /// What happened.
        text: String,
    },
    /// The agent refused.
    #[error("the agent at {at} answers {status}: {text}")]
    Refused {
        /// Where.
        at: Listen,
        /// HTTP status.
        status: StatusCode,
        /// Its words.
        text: String,
    },
}

/// Asks for `path`, and returns the whole answer where its status is 200.
///
/// # Errors
/// See [`AskError`].
pub async fn get(listen: &Listen, path: &str) -> Result<Bytes, AskError> {
    let mut answer = open(listen, path).await?;
    read_all(listen, &mut answer).await
}

/// Asks for `path`, and hands each piece of the answer to `take` until that returns false or the
/// agent ends.
///
/// # Errors
/// See [`AskError`].
pub async fn follow(
    listen: &Listen,
    path: &str,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<(), AskError> {
    let mut answer = open(listen, path).await?;
    while let Some(frame) = answer.body_mut().frame().await {
        let frame = frame.map_err(|error| broken(listen, &error))?;
        if frame.data_ref().is_some_and(|lines| !take(lines)) {
            break;
        }
    }
    Ok(())
}

async fn open(listen: &Listen, path: &str) -> Result<Response<Incoming>, AskError> {
    let asked = tokio::time::timeout(PATIENCE, connect(listen, path)).await;
    let mut answer =
        asked.map_err(|_| broken(listen, &format!("nothing within {PATIENCE:?}")))??;
    let status = answer.status();
    if status == StatusCode::OK {
        return Ok(answer);
    }
    let text = read_all(listen, &mut answer).await?;
    Err(AskError::Refused {
        at: listen.clone(),
        status,
        text: String::from_utf8_lossy(&text).trim_end().to_owned(),
    })
}

async fn connect(listen: &Listen, path: &str) -> Result<Response<Incoming>, AskError> {
    let unreachable = |source| AskError::Unreachable {
        at: listen.clone(),
        source,
    };
    match listen {
        Listen::Off => Err(AskError::Off),
        Listen::Unix(socket) => {
            let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
            request(listen, stream, path).await
        }
        Listen::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(unreachable)?;
            request(listen, stream, path).await
        }
    }
}

async fn request<S>(listen: &Listen, stream: S, path: &str) -> Result<Response<Incoming>, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let whole = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer's body.
        tokio::spawn(connection);
        let request = Request::get(path).header(HOST, "headwater-agent");
        let request = request.body(Empty::<Bytes>::new());
        match request {
            Ok(request) => sender.send_request(request).await.map(Ok),
            Err(error) => Ok(Err(error)),
        }
    };
    match whole.await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(broken(listen, &error)),
        Err(error) => Err(broken(listen, &error)),
    }
}

async fn read_all(listen: &Listen, answer: &mut Response<Incoming>) -> Result<Bytes, AskError> {
    let body = http_body_util::Limited::new(answer.body_mut(), ANSWER_BYTES_MAX);
    match tokio::time::timeout(PATIENCE, body.collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) => Err(broken(listen, &error)),
        Err(_) => Err(broken(listen, &format!("no end within {PATIENCE:?}"))),
    }
}

fn broken(listen: &Listen, error: &dyn std::fmt::Display) -> AskError {
    AskError::Broken {
        at: listen.clone(),
        text: error.to_string(),
    }
}
