//! One HTTP request over one connection, for the few requests that credentials take. Nothing is
//! pooled, redirected or sent through a proxy.
//!
//! TLS is the OpenSSL that librdkafka is linked with, so the agent has one TLS stack. Every wait has
//! a time-out, every body a bound. Errors say at which step the way ended, since that is what tells
//! a firewall from a wrong name from a wrong certificate.

use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslVersion};
use openssl::x509::X509VerifyResult;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;
use zeroize::Zeroizing;

use crate::security::authorities;
use crate::security::secret_file::{SecretError, SecretFile};

/// Time for name and connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for one address of a name that has others: IPv6 that leads nowhere must not stand before IPv4.
const ADDRESS: Duration = Duration::from_secs(2);
/// Time for all of a request.
const TOTAL: Duration = Duration::from_secs(10);
/// Largest body that is read. Credentials have about 1.1 KB.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Why a request came to nothing, by the step that failed.
#[derive(Debug, Error)]
pub enum HttpError {
    /// Not an URL that this client speaks.
    #[error("{0:?} is no http or https URL")]
    Url(String),
    /// The name does not resolve.
    #[error(
        "the name {host} does not resolve: {source}; is the name right, and is there a network and DNS?"
    )]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Nobody takes the connection.
    #[error(
        "cannot connect to {address}: {source}; does a firewall, security group or route stand in the way?"
    )]
    Connect {
        /// Host and port.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// No trust, in either direction.
    #[error("no TLS with {host}: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// What is wrong, in plain words where it is known.
        reason: String,
    },
    /// The connection broke, or the answer is no HTTP.
    #[error("the answer of {host} broke off or is no HTTP: {reason}")]
    Broken {
        /// The host.
        host: String,
        /// What was wrong.
        reason: String,
    },
    /// More than [`BODY_BYTES_MAX`].
    #[error("the answer of {0} is larger than 64 KiB")]
    TooLarge(String),
    /// No end within the time.
    #[error("{host} did not answer within {seconds} s")]
    Late {
        /// The host.
        host: String,
        /// The time, in seconds.
        seconds: u64,
    },
}

/// Certificates that cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A key file, or no authorities.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// OpenSSL refuses a file.
    #[error("cannot use {what} in {path}: {reason}")]
    Refused {
        /// What it should be.
        what: &'static str,
        /// The file.
        path: String,
        /// What OpenSSL said.
        reason: String,
    },
}

/// Whom this side trusts and who it is.
#[derive(Clone)]
pub struct Tls(SslConnector);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the authorities (the system's where `ca` is none) and the own certificate with its key.
    /// TLS 1.2 or later; host names are always verified.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn new(ca: Option<&Path>, own: Option<(&Path, &SecretFile)>) -> Result<Self, TlsError> {
        let refused = |what, path: &Path| {
            let path = path.display().to_string();
            move |error: openssl::error::ErrorStack| TlsError::Refused {
                what,
                path,
                reason: plain(&error),
            }
        };
        let ca = authorities(ca)?;
        let mut builder = SslConnector::builder(SslMethod::tls_client())
            .map_err(refused("TLS", Path::new("this build")))?;
        builder
            .set_min_proto_version(Some(SslVersion::TLS1_2))
            .map_err(refused("TLS 1.2", Path::new("this build")))?;
        builder
            .set_ca_file(&ca)
            .map_err(refused("the certificate authorities", &ca))?;
        if let Some((certificate, key)) = own {
            builder
                .set_certificate_chain_file(certificate)
                .map_err(refused("the certificate", certificate))?;
            let key = key.path()?;
            builder
                .set_private_key_file(&key, SslFiletype::PEM)
                .map_err(refused("the private key", &key))?;
            builder.check_private_key().map_err(refused(
                "the private key, which is not the certificate's,",
                &key,
            ))?;
        }
        Ok(Self(builder.build()))
    }

    /// Makes a connection secure.
    ///
    /// # Errors
    /// [`HttpError::Tls`].
    pub async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<SslStream<TcpStream>, HttpError> {
        let failed = |reason| HttpError::Tls {
            host: host.to_owned(),
            reason,
        };
        // As an IPv6 address stands in a URL.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let ssl = (self.0.configure())
            .and_then(|configured| configured.into_ssl(host))
            .map_err(|error| failed(plain(&error)))?;
        let mut stream = SslStream::new(ssl, stream).map_err(|error| failed(plain(&error)))?;
        let connected = Pin::new(&mut stream).connect().await;
        connected.map_err(|error| failed(tls_reason(stream.ssl().verify_result(), &error)))?;
        Ok(stream)
    }
}

fn plain(error: &openssl::error::ErrorStack) -> String {
    let reasons: Vec<_> = error.errors().iter().filter_map(|e| e.reason()).collect();
    match reasons.is_empty() {
        true => "no reason given".to_owned(),
        false => reasons.join("; "),
    }
}

/// What a failed handshake means for the person who set it up.
fn tls_reason(verified: X509VerifyResult, error: &openssl::ssl::Error) -> String {
    if verified != X509VerifyResult::OK {
        let what = verified.error_string();
        let advice = match verified.as_raw() {
            openssl_errors::NOT_YET_VALID => "is this device's clock behind?",
            openssl_errors::EXPIRED => {
                "the server's certificate has to be renewed, or this device's clock is ahead"
            }
            openssl_errors::HOSTNAME | openssl_errors::ADDRESS => {
                "the certificate is for another name: use the name that it is for"
            }
            _ => "the server's authority is not among those trusted: name its certificate as `ca`",
        };
        return format!("its certificate is refused: {what}; {advice}");
    }
    let reason = match error.ssl_error() {
        Some(stack) => plain(stack),
        None => match error.io_error() {
            Some(io) => io.to_string(),
            None => "the other side closed the connection".to_owned(),
        },
    };
    let advice = if reason.contains("wrong version number") || reason.contains("record layer") {
        "; the other side does not speak TLS: is it the right port?"
    } else if reason.contains("alert") {
        "; the other side refuses this device's certificate: is it the right one, active and not expired?"
    } else {
        ""
    };
    format!("{reason}{advice}")
}

/// Values of OpenSSL's `x509_vfy.h`.
mod openssl_errors {
    pub(super) const NOT_YET_VALID: i32 = 9;
    pub(super) const EXPIRED: i32 = 10;
    pub(super) const HOSTNAME: i32 = 62;
    pub(super) const ADDRESS: i32 = 64;
}

/// Resolves a host and connects to the first of its addresses that answers.
///
/// # Errors
/// [`HttpError::Resolve`], [`HttpError::Connect`].
pub async fn connect(host: &str, port: u16) -> Result<TcpStream, HttpError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::net::lookup_host((bare, port)).await;
    let addresses: Vec<_> = match found {
        Ok(found) => found.collect(),
        Err(source) => {
            return Err(HttpError::Resolve {
                host: host.to_owned(),
                source,
            });
        }
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (n, address) in addresses.iter().enumerate() {
        let connecting = TcpStream::connect(address);
        // The last one may take what time there is; one before it must leave some.
        let connected = match n + 1 < addresses.len() {
            false => connecting.await,
            true => tokio::time::timeout(ADDRESS, connecting)
                .await
                .unwrap_or_else(|late| Err(late.into())),
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(HttpError::Connect {
        address: format!("{host}:{port}"),
        source: last,
    })
}

/// Sends one request and reads the whole answer. `request` has an absolute URL.
///
/// # Errors
/// See [`HttpError`]. A status other than 200 is no error here.
pub async fn send(
    tls: &Tls,
    request: Request<Bytes>,
) -> Result<Response<Zeroizing<Vec<u8>>>, HttpError> {
    send_within(tls, request, CONNECT, TOTAL).await
}

async fn send_within(
    tls: &Tls,
    request: Request<Bytes>,
    connecting: Duration,
    total: Duration,
) -> Result<Response<Zeroizing<Vec<u8>>>, HttpError> {
    let (host, port, is_tls) = address(request.uri())?;
    let late = |seconds: Duration| HttpError::Late {
        host: host.clone(),
        seconds: seconds.as_secs(),
    };
    let sent = async {
        let stream = tokio::time::timeout(connecting, connect(&host, port))
            .await
            .map_err(|_| late(connecting))??;
        match is_tls {
            true => exchange(&host, tls.connect(&host, stream).await?, request).await,
            false => exchange(&host, stream, request).await,
        }
    };
    tokio::time::timeout(total, sent)
        .await
        .map_err(|_| late(total))?
}

fn address(uri: &Uri) -> Result<(String, u16, bool), HttpError> {
    let is_tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(HttpError::Url(uri.to_string())),
    };
    let host = uri.host().ok_or_else(|| HttpError::Url(uri.to_string()))?;
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    Ok((host.to_owned(), port, is_tls))
}

/// Sends one request over a connection that is there, and reads the whole answer. `host` is for
/// messages.
///
/// # Errors
/// [`HttpError::Broken`], [`HttpError::TooLarge`].
pub async fn exchange<S>(
    host: &str,
    stream: S,
    request: Request<Bytes>,
) -> Result<Response<Zeroizing<Vec<u8>>>, HttpError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = |reason: &dyn fmt::Display| HttpError::Broken {
        host: host.to_owned(),
        reason: reason.to_string(),
    };
    let request = in_origin_form(request).map_err(|error| broken(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let connection = tokio::spawn(connection);
    let answered = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| broken(&error))?;
        let (parts, mut body) = response.into_parts();
        // All at once: a buffer that grows would leave copies of the secret behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(BODY_BYTES_MAX));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken(&error))?;
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            if bytes.len() + piece.len() > BODY_BYTES_MAX {
                return Err(HttpError::TooLarge(host.to_owned()));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Response::from_parts(parts, bytes))
    }
    .await;
    connection.abort();
    answered
}

/// The host, and its port where that is not the scheme's own (RFC 9110, 7.2).
fn host_header(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    let own = match uri.scheme_str() {
        Some("https") => 443,
        _ => 80,
    };
    match uri.port_u16().filter(|port| *port != own) {
        None => host.to_owned(),
        Some(port) => format!("{host}:{port}"),
    }
}

/// As an origin server wants it: the path alone, and the host in its header.
fn in_origin_form(mut request: Request<Bytes>) -> Result<Request<Full<Bytes>>, http::Error> {
    if !request.headers().contains_key(HOST) {
        let host = HeaderValue::from_str(&host_header(request.uri()))?;
        request.headers_mut().insert(HOST, host);
    }
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>()?;
    Ok(request.map(Full::new))
}

/// The same bytes in memory, wiped with the last of those who hold them.
fn wiped(body: Zeroizing<Vec<u8>>) -> Bytes {
    Bytes::from_owner(body)
}

/// This client, as `aws-config` wants one.
pub fn for_aws(tls: Tls) -> SharedHttpClient {
    http_client_fn(move |settings, _components| {
        SharedHttpConnector::new(Connector {
            tls: tls.clone(),
            connecting: settings.connect_timeout().unwrap_or(CONNECT),
            total: settings.read_timeout().unwrap_or(TOTAL),
        })
    })
}

#[derive(Debug)]
struct Connector {
    tls: Tls,
    connecting: Duration,
    total: Duration,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (tls, connecting, total) = (self.tls.clone(), self.connecting, self.total);
        HttpConnectorFuture::new(async move {
            let request = request
                .try_into_http1x()
                .map_err(|error| ConnectorError::user(error.into()))?;
            let (parts, body) = request.into_parts();
            let body = wiped(Zeroizing::new(body.bytes().unwrap_or_default().to_vec()));
            let request = Request::from_parts(parts, body);
            let response = send_within(&tls, request, connecting, total)
                .await
                .map_err(|error| match error {
                    HttpError::Late { .. } => ConnectorError::timeout(error.into()),
                    _ => ConnectorError::io(error.into()),
                })?;
            let response = response.map(|body| SdkBody::from(wiped(body)));
            HttpResponse::try_from(response).map_err(|error| ConnectorError::user(error.into()))
        })
    }
}

#[cfg(test)]
mod tests;
