//! Against servers of this file: one thread, one connection, one canned answer.

use super::*;

use std::io::Write as _;
use std::net::TcpListener;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{SslAcceptor, SslVerifyMode};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};

/// An authority or a certificate with its key.
struct Issued {
    certificate: X509,
    key: PKey<Private>,
}

/// A certificate for `name`, signed by `issuer` or by itself, that is valid from `from` to `to` days
/// from now.
fn issue(name: &str, issuer: Option<&Issued>, from: i64, to: i64) -> Issued {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let day = 86_400;
    let now = clock_s();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&subject).unwrap();
    let issuer_name = issuer.map_or(&*subject, |issuer| issuer.certificate.subject_name());
    builder.set_issuer_name(issuer_name).unwrap();
    builder.set_pubkey(&key).unwrap();
    let not_before = Asn1Time::from_unix(now + from * day).unwrap();
    let not_after = Asn1Time::from_unix(now + to * day).unwrap();
    builder.set_not_before(&not_before).unwrap();
    builder.set_not_after(&not_after).unwrap();
    match issuer {
        None => {
            let authority = BasicConstraints::new().critical().ca().build().unwrap();
            builder.append_extension(authority).unwrap();
        }
        Some(_) => {
            let context = builder.x509v3_context(None, None);
            let mut names = SubjectAlternativeName::new();
            match name.parse::<std::net::IpAddr>() {
                Ok(_) => names.ip(name),
                Err(_) => names.dns(name),
            };
            let names = names.build(&context).unwrap();
            builder.append_extension(names).unwrap();
        }
    }
    let signer = issuer.map_or(&key, |issuer| &issuer.key);
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    Issued {
        certificate: builder.build(),
        key,
    }
}

fn clock_s() -> i64 {
    let wall = crate::clock::now().wall;
    let since = wall
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// The files of a client: the authority, and where given an own certificate.
struct Files(tempfile::TempDir);

impl Files {
    fn new(ca: &Issued) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.put("ca", &ca.certificate.to_pem().unwrap());
        files
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn own(&self, own: &Issued) {
        self.put("cert", &own.certificate.to_pem().unwrap());
        self.put("key", &own.key.private_key_to_pem_pkcs8().unwrap());
    }

    fn tls(&self) -> Tls {
        self.try_tls().unwrap()
    }

    fn try_tls(&self) -> Result<Tls, TlsError> {
        let path = |name| self.0.path().join(name);
        let key = SecretFile::Path(path("key"));
        let certificate = path("cert");
        let own = certificate.exists().then_some((&*certificate, &key));
        Tls::new(Some(&path("ca")), own)
    }
}

/// Serves one connection: with TLS where there is a certificate, and with a client certificate of
/// `clients` where that is given. Returns the port and, later, what it was sent and its SNI.
fn serve(
    own: Option<Issued>,
    clients: Option<X509>,
    answer: Vec<u8>,
) -> (u16, std::thread::JoinHandle<Option<(String, String)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().ok()?;
        let Some(own) = own else {
            let request = read_head(&mut stream);
            stream.write_all(&answer).ok()?;
            return Some((request, String::new()));
        };
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        builder.set_private_key(&own.key).unwrap();
        builder.set_certificate(&own.certificate).unwrap();
        if let Some(clients) = clients {
            builder.cert_store_mut().add_cert(clients).unwrap();
            builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        }
        let mut stream = builder.build().accept(stream).ok()?;
        let name = stream.ssl().servername(openssl::ssl::NameType::HOST_NAME);
        let name = name.unwrap_or_default().to_owned();
        let request = read_head(&mut stream);
        stream.write_all(&answer).ok()?;
        drop(stream.shutdown());
        Some((request, name))
    });
    (port, served)
}

fn read_head(stream: &mut impl io::Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
        if !head[0].is_ascii_uppercase() {
            break; // TLS, where none is spoken
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn get(tls: &Tls, url: &str) -> Result<Response<Zeroizing<Vec<u8>>>, HttpError> {
    let request = Request::get(url).body(Bytes::new()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(send(tls, request))
}

fn answer(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn both_sides_show_a_certificate_and_the_name_is_sent() {
    let ca = issue("authority", None, -1, 1);
    let files = Files::new(&ca);
    files.own(&issue("device", Some(&ca), -1, 1));
    let server = issue("localhost", Some(&ca), -1, 1);
    let (port, served) = serve(Some(server), Some(ca.certificate.clone()), answer(b"hello"));
    let response = get(&files.tls(), &format!("https://localhost:{port}/a/b?c=d")).unwrap();
    assert_eq!(
        (response.status().as_u16(), response.body().as_slice()),
        (200, &b"hello"[..])
    );
    let (request, name) = served.join().unwrap().unwrap();
    assert!(
        request.starts_with("GET /a/b?c=d HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains(&format!("host: localhost:{port}\r\n")),
        "{request}"
    );
    assert_eq!(name, "localhost");
}

#[test]
fn a_port_is_named_where_it_is_not_the_schemes_own() {
    for (url, expected) in [
        ("https://a.example:443/x", "a.example"),
        ("https://a.example/x", "a.example"),
        ("https://a.example:80/x", "a.example:80"),
        ("http://a.example:80/x", "a.example"),
        ("http://a.example:443/x", "a.example:443"),
        ("https://[::1]:8443/", "[::1]:8443"),
    ] {
        assert_eq!(host_header(&url.parse().unwrap()), expected, "{url}");
    }
}

#[test]
fn an_address_is_verified_without_its_brackets() {
    let ca = issue("authority", None, -1, 1);
    let tls = Files::new(&ca).tls();
    let server = issue("::1", Some(&ca), -1, 1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // The certificate is what counts: by whichever way the connection came.
    let (port, _served) = serve(Some(server), None, Vec::new());
    let connected = runtime.block_on(async {
        let stream = connect("127.0.0.1", port).await.unwrap();
        tls.connect("[::1]", stream).await
    });
    assert!(connected.is_ok(), "{:?}", connected.err());
}

#[test]
fn a_server_that_is_not_trusted_is_told_by_its_reason() {
    let ca = issue("authority", None, -100, 100);
    let other = issue("another", None, -1, 1);
    let files = Files::new(&ca);
    for (server, reason) in [
        (issue("localhost", Some(&ca), -2, -1), "has expired"),
        (issue("localhost", Some(&ca), 1, 2), "clock behind"),
        (
            issue("localhost", Some(&other), -1, 1),
            "name its certificate as `ca`",
        ),
        (
            issue("elsewhere", Some(&ca), -1, 1),
            "use the name that it is for",
        ),
    ] {
        let (port, _served) = serve(Some(server), None, answer(b"hello"));
        let error = get(&files.tls(), &format!("https://localhost:{port}/")).unwrap_err();
        assert!(matches!(error, HttpError::Tls { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
    let by_name = issue("localhost", Some(&ca), -1, 1);
    let (port, _served) = serve(Some(by_name), None, answer(b"hello"));
    let error = get(&files.tls(), &format!("https://127.0.0.1:{port}/")).unwrap_err();
    assert!(
        error.to_string().contains("use the name that it is for"),
        "{error}"
    );
}

#[test]
fn a_client_that_is_not_trusted_is_told_so() {
    let ca = issue("authority", None, -1, 1);
    let other = issue("another", None, -1, 1);
    let files = Files::new(&ca);
    files.own(&issue("device", Some(&other), -1, 1));
    let server = issue("localhost", Some(&ca), -1, 1);
    let (port, _served) = serve(Some(server), Some(ca.certificate.clone()), answer(b"hello"));
    let error = get(&files.tls(), &format!("https://localhost:{port}/")).unwrap_err();
    // TLS 1.3 tells it after the handshake: as the answer.
    assert!(
        matches!(error, HttpError::Tls { .. } | HttpError::Broken { .. }),
        "{error:?}"
    );
}

#[test]
fn a_port_without_tls_and_one_without_a_server_are_told_apart() {
    let ca = issue("authority", None, -1, 1);
    let tls = Files::new(&ca).tls();
    let (port, _served) = serve(None, None, answer(b"hello"));
    let error = get(&tls, &format!("https://localhost:{port}/")).unwrap_err();
    assert!(error.to_string().contains("right port"), "{error}");
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = get(&tls, &format!("https://127.0.0.1:{closed}/")).unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. }), "{error:?}");
    let error = get(&tls, "https://no-such-host.invalid/").unwrap_err();
    assert!(matches!(error, HttpError::Resolve { .. }), "{error:?}");
    let error = get(&tls, "ftp://localhost/").unwrap_err();
    assert!(matches!(error, HttpError::Url(_)), "{error:?}");
}

#[test]
fn an_answer_is_bounded_and_its_end_is_checked() {
    let ca = issue("authority", None, -1, 1);
    let tls = Files::new(&ca).tls();
    for (sent, is_fine) in [
        (answer(&vec![b'a'; BODY_BYTES_MAX]), true),
        (answer(&vec![b'a'; BODY_BYTES_MAX + 1]), false),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".to_vec(),
            false,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\nx".to_vec(),
            false,
        ),
        (b"HTTP/9.9 what\r\n\r\n".to_vec(), false),
        (Vec::new(), false),
    ] {
        let (port, _served) = serve(None, None, sent);
        let got = get(&tls, &format!("http://127.0.0.1:{port}/"));
        assert_eq!(got.is_ok(), is_fine, "{got:?}");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused_before_anything_is_sent() {
    let ca = issue("authority", None, -1, 1);
    let files = Files::new(&ca);
    files.own(&issue("device", Some(&ca), -1, 1));
    assert!(files.try_tls().is_ok());
    let other = issue("device", Some(&ca), -1, 1);
    files.put("key", &other.key.private_key_to_pem_pkcs8().unwrap());
    let error = files.try_tls().unwrap_err().to_string();
    assert!(error.contains("private key"), "{error}");
    files.put("ca", b"no certificate");
    let error = files.try_tls().unwrap_err().to_string();
    assert!(error.contains("authorities"), "{error}");
}
