//! A stand-in for AWS IoT Core's credential endpoint: HTTPS with a device's certificate required.
//!
//! `GET /role-aliases/<alias>/credentials` is answered with credentials of the alias's role that the
//! [`Iam`] of a cluster knows from then on. As with IoT Core the session's name is the certificate's
//! id, so it stays while secrets change; a thing's name in `x-amzn-iot-thingname` must be that of the
//! certificate; a client must name the host it wants (SNI). What may go wrong stands in [`Answer`].

use crate::clock;
use crate::kafka::Iam;
use crate::loopback;
use crate::pki::{Identity, Pki, ServerCertificate, fingerprint_of};
use anyhow::Result;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The longest request that is read.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// A running endpoint; it ends when it is dropped.
#[derive(Debug)]
pub struct IotEndpoint {
    // Dropped first: it stops serving.
    _runtime: Runtime,
    address: SocketAddr,
    desk: Arc<Desk>,
}

/// How requests are answered from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status; credentials come with 200 only.
    pub status: u16,
    /// How long the answer waits.
    pub delay: Duration,
    /// How long the credentials live.
    pub life: Duration,
    /// True to leave `expiration` out.
    pub without_expiration: bool,
    /// Seconds that the `Date` header is ahead of the clock (negative: behind), and `expiration` with it.
    pub date_ahead_s: i64,
    /// The body instead of credentials.
    pub body: Option<String>,
    /// Pads the body to this many bytes.
    pub body_bytes_min: usize,
    /// True to send half of the body that was announced, and close.
    pub cut: bool,
    /// True to close the connection instead of an answer.
    pub hang_up: bool,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            status: 200,
            delay: Duration::ZERO,
            life: Duration::from_secs(3600),
            without_expiration: false,
            date_ahead_s: 0,
            body: None,
            body_bytes_min: 0,
            cut: false,
            hang_up: false,
        }
    }
}

/// A request that came in by a certificate of the device authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Method and path.
    pub line: String,
    /// The certificate's id.
    pub certificate: String,
    /// The host that the client named in the handshake.
    pub server_name: Option<String>,
    /// `x-amzn-iot-thingname`.
    pub thing: Option<String>,
    /// What it was answered; 0 if it was hung up on.
    pub status: u16,
}

#[derive(Debug)]
struct Desk {
    iam: Arc<Iam>,
    /// Role by role alias.
    aliases: Mutex<BTreeMap<String, String>>,
    /// Thing by certificate id.
    things: Mutex<BTreeMap<String, String>>,
    answer: Mutex<Answer>,
    requests: Mutex<Vec<Request>>,
}

impl IotEndpoint {
    /// Starts an endpoint whose keys go into `iam`.
    ///
    /// # Panics
    /// If it cannot listen on loopback.
    pub fn start(pki: &Pki, iam: &Arc<Iam>) -> Self {
        Self::start_with(pki, iam, ServerCertificate::Good)
    }

    /// Starts an endpoint with a server certificate that may be wrong.
    ///
    /// # Panics
    /// If it cannot listen on loopback.
    pub fn start_with(pki: &Pki, iam: &Arc<Iam>, certificate: ServerCertificate) -> Self {
        Self::try_start(pki, iam, certificate)
            .unwrap_or_else(|error| panic!("cannot start an IoT endpoint: {error:#}"))
    }

    fn try_start(pki: &Pki, iam: &Arc<Iam>, certificate: ServerCertificate) -> Result<Self> {
        let desk = Arc::new(Desk {
            iam: Arc::clone(iam),
            aliases: Mutex::default(),
            things: Mutex::default(),
            answer: Mutex::default(),
            requests: Mutex::default(),
        });
        let tls = tls(&pki.server(certificate), pki.device_ca())?;
        let (runtime, listener, address) = loopback::listen()?;
        runtime.spawn(listen(listener, TlsAcceptor::from(tls), Arc::clone(&desk)));
        Ok(Self {
            _runtime: runtime,
            address,
            desk,
        })
    }

    /// The host and port, by name: a client must send the name in its handshake.
    pub fn authority(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// The URL of a role alias's credentials.
    pub fn url(&self, alias: &str) -> String {
        format!(
            "https://{}/role-aliases/{alias}/credentials",
            self.authority()
        )
    }

    /// Lets a role be assumed by an alias.
    pub fn set_alias(&self, alias: &str, role: &str) {
        lock(&self.desk.aliases).insert(alias.to_owned(), role.to_owned());
    }

    /// Registers a device's certificate, attached to the thing of its name. A certificate that is
    /// not registered is inactive.
    pub fn register(&self, device: &Identity) {
        lock(&self.desk.things).insert(device.id.clone(), device.name.clone());
    }

    /// Makes a device's certificate inactive.
    pub fn deactivate(&self, device: &Identity) {
        lock(&self.desk.things).remove(&device.id);
    }

    /// Changes how requests are answered from now on.
    pub fn set(&self, change: impl FnOnce(&mut Answer)) {
        change(&mut lock(&self.desk.answer));
    }

    /// Every request so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.desk.requests).clone()
    }
}

fn tls(server: &Identity, device_ca: &Path) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(device_ca)?)?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()?;
    let chain = vec![CertificateDer::from_pem_file(&server.certificate)?];
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&server.key)?)?;
    Ok(Arc::new(config))
}

async fn listen(listener: TcpListener, tls: TlsAcceptor, desk: Arc<Desk>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, desk) = (tls.clone(), Arc::clone(&desk));
        // An error is a client that left, or whose certificate was refused in the handshake.
        tokio::spawn(async move { serve(stream, tls, &desk).await.ok() });
    }
}

/// One request, one answer, and the connection is closed.
async fn serve(stream: TcpStream, tls: TlsAcceptor, desk: &Desk) -> Result<()> {
    let mut stream = tls.accept(stream).await?;
    let head = read_head(&mut stream).await?;
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    let request = Request {
        line: head.lines().next().unwrap_or("").to_owned(),
        certificate: certificate.map_or_else(String::new, |der| fingerprint_of(der)),
        server_name: session.server_name().map(str::to_owned),
        thing: header(&head, "x-amzn-iot-thingname"),
        status: 0,
    };
    let answer = lock(&desk.answer).clone();
    tokio::time::sleep(answer.delay).await;
    let (status, body) = desk.answer(&request, &answer);
    lock(&desk.requests).push(Request {
        status: if answer.hang_up { 0 } else { status },
        ..request
    });
    if answer.hang_up {
        return Ok(());
    }
    let date = shifted(clock::wall(), answer.date_ahead_s);
    let head = format!(
        "HTTP/1.1 {status} Answer\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         date: {}\r\nconnection: close\r\n\r\n",
        body.len(),
        date.strftime("%a, %d %b %Y %H:%M:%S GMT")
    );
    stream.write_all(head.as_bytes()).await?;
    let sent = if answer.cut {
        body.len() / 2
    } else {
        body.len()
    };
    stream.write_all(&body.as_bytes()[..sent]).await?;
    stream.shutdown().await?;
    Ok(())
}

async fn read_head(stream: &mut TlsStream<TcpStream>) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < REQUEST_BYTES_MAX {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head)?)
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
}

fn shifted(time: SystemTime, seconds: i64) -> jiff::Timestamp {
    let time = jiff::Timestamp::try_from(time).expect("the clock shows a time");
    time + jiff::SignedDuration::from_secs(seconds)
}

impl Desk {
    fn answer(&self, request: &Request, answer: &Answer) -> (u16, String) {
        let (status, mut body) = if answer.status == 200 {
            match self.credentials(request, answer) {
                Ok(credentials) => (200, credentials),
                Err(refusal) => (403, json!({ "message": refusal }).to_string()),
            }
        } else {
            (answer.status, json!({ "message": "a fault" }).to_string())
        };
        if let Some(other) = &answer.body {
            other.clone_into(&mut body);
        }
        if body.len() < answer.body_bytes_min {
            body.push_str(&" ".repeat(answer.body_bytes_min - body.len()));
        }
        (status, body)
    }

    fn credentials(&self, request: &Request, answer: &Answer) -> Result<String, &'static str> {
        request.server_name.as_ref().ok_or("no server name")?;
        let alias = request
            .line
            .strip_prefix("GET /role-aliases/")
            .and_then(|rest| rest.strip_suffix("/credentials HTTP/1.1"))
            .ok_or("no such path")?;
        let role = lock(&self.aliases)
            .get(alias)
            .cloned()
            .ok_or("no such alias")?;
        let things = lock(&self.things);
        let thing = things
            .get(&request.certificate)
            .ok_or("inactive certificate")?;
        if request.thing.as_ref().is_some_and(|named| named != thing) {
            return Err("the thing is not attached to the certificate");
        }
        let key = self.iam.assume(&role, &request.certificate, answer.life);
        let expires = key.expires.unwrap_or_else(clock::wall);
        let mut credentials = json!({
            "accessKeyId": key.id,
            "secretAccessKey": key.secret,
            "sessionToken": key.session_token,
            "expiration": shifted(expires, answer.date_ahead_s).strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        });
        if answer.without_expiration
            && let Some(fields) = credentials.as_object_mut()
        {
            fields.remove("expiration");
        }
        Ok(json!({ "credentials": credentials }).to_string())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
