//! The stand-in for IoT Core's credential endpoint, asked by a client that is not ours: `openssl`.

use headwater_tests::iot::IotEndpoint;
use headwater_tests::kafka::Key;
use headwater_tests::kafka::iam::{Iam, Policy};
use headwater_tests::kafka::token::Presign;
use headwater_tests::pki::{DeviceCertificate, Identity, Pki};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

struct World {
    pki: Pki,
    iam: Arc<Iam>,
    iot: IotEndpoint,
    device: Identity,
}

fn world() -> World {
    let pki = Pki::new();
    let iam = Arc::new(Iam::alone());
    iam.set_policy("headwater-agent", &Policy::all());
    let iot = IotEndpoint::start(&pki, &iam);
    iot.set_alias("headwater", "headwater-agent");
    let device = pki.device("pi-7", DeviceCertificate::Good);
    iot.register(&device);
    World {
        pki,
        iam,
        iot,
        device,
    }
}

impl World {
    /// What comes back, head and body; empty if nothing does.
    fn get(&self, device: Option<&Identity>, path: &str, thing: &str, name: bool) -> String {
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-quiet", "-verify_return_error", "-connect"])
            .arg(self.iot.authority())
            .arg("-CAfile")
            .arg(self.pki.server_ca())
            .arg(if name { "-servername" } else { "-noservername" });
        if name {
            command.arg("localhost");
        }
        if let Some(device) = device {
            command.arg("-cert").arg(&device.certificate);
            command.arg("-key").arg(&device.key);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is on the machine");
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{thing}\r\n");
        let mut input = child.stdin.take().expect("its input is piped");
        // A server that refused the handshake is gone already.
        input.write_all(request.as_bytes()).ok();
        let output = child.wait_with_output().expect("openssl ends");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn ask(&self) -> String {
        self.get(Some(&self.device), PATH, "", true)
    }
}

const PATH: &str = "/role-aliases/headwater/credentials";

/// The key of an answer.
fn key(answer: &str) -> Key {
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let text = |name: &str| body["credentials"][name].as_str().unwrap_or("").to_owned();
    Key {
        id: text("accessKeyId"),
        secret: text("secretAccessKey"),
        session_token: Some(text("sessionToken")),
        principal: String::new(),
        expires: text("expiration")
            .parse::<jiff::Timestamp>()
            .ok()
            .and_then(|time| u64::try_from(time.as_second()).ok())
            .map(|second| UNIX_EPOCH + Duration::from_secs(second)),
    }
}

#[test]
fn a_device_gets_credentials_that_the_validator_takes() {
    let world = world();
    let (first, second) = (key(&world.ask()), key(&world.ask()));
    assert_ne!(first.secret, second.secret);
    let questions = [&first, &second].map(|key| {
        let presign = Presign::of(key);
        (presign.at, presign.token())
    });
    for answer in world.iam.judge(&questions) {
        assert!(answer.accepted, "{answer:?}");
        let session = format!("assumed-role/headwater-agent/{}", world.device.id);
        assert!(answer.principal.ends_with(&session), "{answer:?}");
    }
    let seen = &world.iot.requests()[0];
    assert_eq!((seen.status, seen.thing.as_deref()), (200, None));
    assert_eq!(seen.server_name.as_deref(), Some("localhost"));
}

#[test]
fn whoever_is_not_a_registered_device_gets_none() {
    let world = world();
    let ours = Some(&world.device);
    let stranger = world.pki.device("pi-7", DeviceCertificate::Stranger);
    let expired = world.pki.device("pi-7", DeviceCertificate::Expired);
    for outsider in [None, Some(&stranger), Some(&expired)] {
        assert_eq!(world.get(outsider, PATH, "", true), "");
    }
    assert!(world.iot.requests().is_empty());
    let unregistered = world.pki.device("pi-8", DeviceCertificate::Good);
    let attached = "x-amzn-iot-thingname: pi-7\r\n";
    let other = "x-amzn-iot-thingname: pi-8\r\n";
    assert!(world.get(ours, PATH, attached, true).contains(" 200 "));
    for (device, path, thing, name) in [
        (Some(&unregistered), PATH, "", true),
        (ours, PATH, other, true),
        (ours, PATH, "", false),
        (ours, "/role-aliases/other/credentials", "", true),
        (ours, "/credentials", "", true),
    ] {
        let answer = world.get(device, path, thing, name);
        assert!(answer.contains(" 403 "), "{path} {thing}: {answer}");
    }
    world.iot.deactivate(&world.device);
    assert!(world.ask().contains(" 403 "));
}

#[test]
fn every_knob_turns() {
    let world = world();
    let iot = &world.iot;
    // A token of the key is dated by the clock of this machine.
    let left = |key: Key| {
        let now = Presign::of(&key).at;
        let end = key.expires.expect("it has an end");
        end.duration_since(now)
            .expect("the end is to come")
            .as_secs()
    };
    iot.set(|answer| answer.life = Duration::from_secs(90));
    assert!(left(key(&world.ask())) <= 90);
    iot.set(|answer| answer.date_ahead_s = 7200);
    assert!(left(key(&world.ask())) > 7000);
    iot.set(|answer| answer.without_expiration = true);
    assert_eq!(key(&world.ask()).expires, None);
    iot.set(|answer| answer.body_bytes_min = 100_000);
    assert!(world.ask().len() > 100_000);
    iot.set(|answer| answer.cut = true);
    assert!(world.ask().len() < 60_000);
    iot.set(|answer| answer.status = 429);
    assert!(world.ask().contains(" 429 "));
    iot.set(|answer| answer.body = Some("<html>".to_owned()));
    assert!(world.ask().contains("<html>"));
    iot.set(|answer| answer.hang_up = true);
    assert_eq!(world.ask(), "");
    let statuses: Vec<u16> = iot.requests().iter().map(|seen| seen.status).collect();
    assert_eq!(statuses[statuses.len() - 3..], [429, 429, 0]);
}
