//! The server and the client on a real socket, with a loop of the test's own.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::PathBuf;

use headwater_record::{Generation, Kind, StreamId};

use super::*;
use crate::admin::client::{self, AskError};
use crate::admin::status::tests::example;
use crate::admin::tap::Taps;
use crate::batch::{Batch, Entry};

struct Rig {
    listen: Listen,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        Self {
            listen: Listen::Unix(path.clone()),
            path,
            _folder: folder,
        }
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(future)
}

/// Answers questions as the agent's loop does.
async fn answer_asks(mut asks: mpsc::Receiver<Ask>, status: Status) {
    let mut taps = Taps::default();
    while let Some(ask) = asks.recv().await {
        match ask {
            Ask::Status(reply) => drop(reply.send(Box::new(status.clone()))),
            Ask::Tap(tap, reply) => {
                assert!(reply.send(taps.add(tap).is_ok()).is_ok());
                taps.show(&batch());
            }
        }
    }
}

fn batch() -> Batch {
    let source = "app".parse().unwrap();
    Batch {
        stream: StreamId::new(&"pi-7".parse().unwrap(), &source, b"/a").unwrap(),
        generation: Generation(7),
        start: 0,
        entries: vec![Entry {
            end: 4,
            value_end: 2,
            kind: Kind::Data,
        }],
        values: b"{}".to_vec(),
        raw: false,
        permit: None,
    }
}

#[test]
fn questions_are_answered() {
    run(async {
        let rig = Rig::new();
        let (ask, asks) = mpsc::channel(ASKS);
        let server = serve(&rig.listen, ask).unwrap();
        let mode = fs::metadata(&rig.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        tokio::spawn(answer_asks(asks, example()));
        let status = client::get(&rig.listen, "/status").await.unwrap();
        assert_eq!(
            serde_json::from_slice::<Status>(&status).unwrap(),
            example()
        );
        let metrics = client::get(&rig.listen, "/metrics").await.unwrap();
        assert!(metrics.ends_with(b"# EOF\n"));
        assert_eq!(client::get(&rig.listen, "/healthz").await.unwrap(), "ok\n");
        let unknown = client::get(&rig.listen, "/nothing").await.unwrap_err();
        assert!(unknown.to_string().contains("404"), "{unknown}");
        drop(server);
        assert!(!rig.path.exists(), "the socket goes with the server");
        let gone = client::get(&rig.listen, "/status").await;
        assert!(matches!(gone, Err(AskError::Unreachable { .. })));
    });
}

#[test]
fn what_is_stuck_is_not_healthy() {
    run(async {
        let rig = Rig::new();
        let (ask, asks) = mpsc::channel(ASKS);
        let _server = serve(&rig.listen, ask).unwrap();
        let mut status = example();
        status.stuck = Some("the disk hangs".into());
        tokio::spawn(answer_asks(asks, status));
        let refused = client::get(&rig.listen, "/healthz").await.unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("503") && text.contains("the disk hangs"),
            "{text}"
        );
    });
}

#[test]
fn a_loop_that_is_gone_is_not_healthy() {
    run(async {
        let rig = Rig::new();
        let (ask, asks) = mpsc::channel(ASKS);
        let _server = serve(&rig.listen, ask).unwrap();
        drop(asks);
        for path in ["/status", "/metrics", "/healthz", "/tap"] {
            let refused = client::get(&rig.listen, path).await.unwrap_err();
            assert!(refused.to_string().contains("503"), "{path}: {refused}");
        }
    });
}

#[test]
fn records_are_shown_as_they_pass() {
    run(async {
        let rig = Rig::new();
        let (ask, asks) = mpsc::channel(ASKS);
        let _server = serve(&rig.listen, ask).unwrap();
        tokio::spawn(answer_asks(asks, example()));
        let mut seen = Vec::new();
        let followed = client::follow(&rig.listen, "/tap?source=%61pp", |lines| {
            seen.extend_from_slice(lines);
            false
        });
        followed.await.unwrap();
        let value: serde_json::Value = serde_json::from_slice(&seen).unwrap();
        assert_eq!(value["stream"], "pi-7/app//a");
    });
}

#[test]
fn strangers_are_bounded() {
    run(async {
        let rig = Rig::new();
        let (ask, asks) = mpsc::channel(ASKS);
        let _server = serve(&rig.listen, ask).unwrap();
        tokio::spawn(answer_asks(asks, example()));
        let path = rig.path.clone();
        let said = tokio::task::spawn_blocking(move || {
            let send = |bytes: &[u8]| {
                let mut stream = StdUnixStream::connect(&path).unwrap();
                // It may refuse before it has read everything.
                drop(stream.write_all(bytes));
                let mut answer = String::new();
                drop(stream.read_to_string(&mut answer));
                answer
            };
            let huge = format!(
                "GET /status HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
                "y".repeat(1 << 20)
            );
            [
                send(b"\x16\x03\x01 no HTTP at all\r\n\r\n"),
                send(huge.as_bytes()),
                send(b"POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"),
            ]
        });
        let [garbage, huge, post] = said.await.unwrap();
        assert!(garbage.starts_with("HTTP/1.1 400"), "{garbage}");
        assert!(huge.starts_with("HTTP/1.1 431"), "{huge}");
        assert!(post.starts_with("HTTP/1.1 405"), "{post}");
        assert_eq!(client::get(&rig.listen, "/healthz").await.unwrap(), "ok\n");
    });
}

#[test]
fn a_stale_socket_is_removed_and_a_live_one_respected() {
    run(async {
        let rig = Rig::new();
        drop(StdUnixListener::bind(&rig.path).unwrap());
        assert!(rig.path.exists());
        let server = serve(&rig.listen, mpsc::channel(ASKS).0).unwrap();
        drop(server);
        let _other = StdUnixListener::bind(&rig.path).unwrap();
        let refused = serve(&rig.listen, mpsc::channel(ASKS).0).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    });
}

#[test]
fn a_query_names_a_source() {
    assert_eq!(source_of(Some("source=a%2Fb")).as_deref(), Some("a/b"));
    assert_eq!(source_of(Some("x=1&source=app")).as_deref(), Some("app"));
    assert_eq!(source_of(Some("source=%zz%4")).as_deref(), Some("%zz%4"));
    assert_eq!(source_of(Some("x")), None);
    assert_eq!(source_of(None), None);
}
