//! A stand-in for what AWS's credential chain asks over HTTP: STS by web identity, the container
//! endpoint of ECS and Greengrass, the instance's metadata (IMDSv2); and a program for
//! `credential_process`. Each gives temporary credentials of one role that a cluster's [`Iam`] knows
//! from then on.

use crate::clock;
use crate::kafka::{Iam, Key};
use crate::loopback;
use crate::secured::put;
use anyhow::{Context, Result};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// The longest request that is read.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// What the container endpoint wants to be shown, and STS.
const SECRET_OF_THE_DEVICE: &str = "token-in-a-file-1";
/// Between the two requests of IMDSv2.
const IMDS_TOKEN: &str = "imds-session-token-1";

/// A way to credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A profile's `credential_process`.
    Process,
    /// STS `AssumeRoleWithWebIdentity`.
    WebIdentity,
    /// The container endpoint, by a full URI and a file with the token (Greengrass, EKS).
    Container,
    /// IMDSv2.
    Instance,
}

/// A running stand-in; it ends when it is dropped.
#[derive(Debug)]
pub struct AwsStandIn {
    // Dropped first: it stops serving.
    _runtime: Runtime,
    address: SocketAddr,
    desk: Arc<Desk>,
    folder: tempfile::TempDir,
}

/// How it answers from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answering {
    /// How long credentials live.
    pub life: Duration,
    /// The HTTP status; credentials come with 200 only.
    pub status: u16,
    /// Sends this many bytes more than there is to say.
    pub padding: usize,
}

#[derive(Debug)]
struct Desk {
    iam: Arc<Iam>,
    role: String,
    session: String,
    answering: Mutex<Answering>,
    asked: Mutex<Vec<String>>,
}

impl AwsStandIn {
    /// Starts one for a session of a role.
    ///
    /// # Panics
    /// If it cannot listen on loopback.
    pub fn start(iam: &Arc<Iam>, role: &str, session: &str) -> Self {
        Self::try_start(iam, role, session)
            .unwrap_or_else(|error| panic!("cannot start a stand-in for AWS: {error:#}"))
    }

    fn try_start(iam: &Arc<Iam>, role: &str, session: &str) -> Result<Self> {
        let desk = Arc::new(Desk {
            iam: Arc::clone(iam),
            role: role.to_owned(),
            session: session.to_owned(),
            answering: Mutex::new(Answering {
                life: Duration::from_secs(3600),
                status: 200,
                padding: 0,
            }),
            asked: Mutex::default(),
        });
        let (runtime, listener, address) = loopback::listen()?;
        let serving = Arc::clone(&desk);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let desk = Arc::clone(&serving);
                // An error is a client that left.
                tokio::spawn(async move { serve(stream, &desk).await.ok() });
            }
        });
        Ok(Self {
            _runtime: runtime,
            address,
            desk,
            folder: tempfile::tempdir().context("no temporary folder")?,
        })
    }

    /// Changes how it answers.
    pub fn set(&self, change: impl FnOnce(&mut Answering)) {
        change(&mut lock(&self.desk.answering));
    }

    /// First line of every request so far, in order.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.desk.asked).clone()
    }

    /// What must stand in no log: what a client shows to get credentials.
    pub fn secrets(&self) -> Vec<String> {
        [SECRET_OF_THE_DEVICE, IMDS_TOKEN]
            .map(str::to_owned)
            .to_vec()
    }

    /// Variables of the environment that lead a client to one way, and to no other.
    pub fn env(&self, way: Way) -> Vec<(&'static str, String)> {
        let url = format!("http://{}", self.address);
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        put(
            &self.folder.path().join("config"),
            self.profile(way).as_bytes(),
        );
        put(&self.folder.path().join("credentials"), b"");
        put(
            &self.folder.path().join("token"),
            SECRET_OF_THE_DEVICE.as_bytes(),
        );
        let mut env = vec![
            ("AWS_CONFIG_FILE", path("config")),
            ("AWS_SHARED_CREDENTIALS_FILE", path("credentials")),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.clone()),
        ];
        match way {
            Way::Process | Way::Instance => {}
            Way::WebIdentity => env.extend([
                ("AWS_ENDPOINT_URL_STS", url),
                ("AWS_WEB_IDENTITY_TOKEN_FILE", path("token")),
                (
                    "AWS_ROLE_ARN",
                    format!("arn:aws:iam::123456789012:role/{}", self.desk.role),
                ),
            ]),
            Way::Container => env.extend([
                (
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                    format!("{url}/container"),
                ),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path("token")),
            ]),
        }
        env
    }

    fn profile(&self, way: Way) -> String {
        if way != Way::Process {
            return String::new();
        }
        // A program that asks, as AWS's helper for Roles Anywhere does.
        let program = self.folder.path().join("helper");
        let text = format!(
            r#"#!/bin/bash
set -eu
exec 3<>/dev/tcp/127.0.0.1/{}
printf 'GET /process HTTP/1.1\r\n\r\n' >&3
answer=$(cat <&3)
case "$answer" in
    'HTTP/1.1 200'*) printf '%s' "${{answer#*$'\r\n\r\n'}}" ;;
    *) echo 'the helper was refused' >&2; exit 1 ;;
esac
"#,
            self.address.port()
        );
        put(&program, text.as_bytes());
        format!(
            "[default]\ncredential_process = /bin/bash {}\n",
            program.display()
        )
    }

    /// The file that holds what the device shows.
    pub fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }
}

async fn serve(mut stream: TcpStream, desk: &Desk) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < REQUEST_BYTES_MAX {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let length = header(&head, "content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0).min(REQUEST_BYTES_MAX)];
    stream.read_exact(&mut body).await?;
    let line = head.lines().next().unwrap_or("").to_owned();
    lock(&desk.asked).push(line.clone());
    let answering = *lock(&desk.answering);
    let (status, mut text) = match answering.status {
        200 => desk.answer(
            &line,
            &head,
            &String::from_utf8_lossy(&body),
            answering.life,
        ),
        other => (other, "{\"message\":\"a fault\"}".to_owned()),
    };
    text.push_str(&" ".repeat(answering.padding));
    let answer = format!(
        "HTTP/1.1 {status} Answer\r\ncontent-length: {}\r\nconnection: close\r\n\
         x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

impl Desk {
    fn answer(&self, line: &str, head: &str, body: &str, life: Duration) -> (u16, String) {
        let refused = (403, "{\"message\":\"who are you?\"}".to_owned());
        let is_known = header(head, "authorization").as_deref() == Some(SECRET_OF_THE_DEVICE);
        let has_session = header(head, "x-aws-ec2-metadata-token").as_deref() == Some(IMDS_TOKEN);
        const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
        match line.rsplit_once(' ').map_or("", |(line, _)| line) {
            "GET /process" => (200, self.json("SessionToken", life)),
            "GET /container" if is_known => (200, self.json("Token", life)),
            "PUT /latest/api/token" => (200, IMDS_TOKEN.to_owned()),
            line if has_session && line.starts_with(&format!("GET {ROLES}")) => {
                match line.ends_with(ROLES) {
                    true => (200, self.role.clone()),
                    false => (200, self.json("Token", life)),
                }
            }
            "POST /" if body.contains("Action=AssumeRoleWithWebIdentity") => {
                match body.contains(&format!("WebIdentityToken={SECRET_OF_THE_DEVICE}")) {
                    true => (200, self.xml(body, life)),
                    false => refused,
                }
            }
            _ => refused,
        }
    }

    /// As ECS, IMDS and `credential_process` have it, but for the token's name.
    fn json(&self, token: &str, life: Duration) -> String {
        let key = self.iam.assume(&self.role, &self.session, life);
        json!({
            "Version": 1,
            "Code": "Success",
            "Type": "AWS-HMAC",
            "LastUpdated": time(clock::wall()),
            "AccessKeyId": key.id,
            "SecretAccessKey": key.secret,
            token: key.session_token,
            "Expiration": expiration(&key),
        })
        .to_string()
    }

    /// As STS has it. The session has the name that the client gives it.
    fn xml(&self, body: &str, life: Duration) -> String {
        let named = body
            .split('&')
            .find_map(|pair| pair.strip_prefix("RoleSessionName="));
        let session = named.unwrap_or("none");
        let key = self.iam.assume(&self.role, session, life);
        format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{}</AccessKeyId>\
             <SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken>\
             <Expiration>{}</Expiration></Credentials><AssumedRoleUser>\
             <Arn>{}</Arn><AssumedRoleId>AROA:{session}</AssumedRoleId></AssumedRoleUser>\
             </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
            key.id,
            key.secret,
            key.session_token.as_deref().unwrap_or(""),
            expiration(&key),
            key.principal
        )
    }
}

fn expiration(key: &Key) -> String {
    time(key.expires.unwrap_or_else(clock::wall))
}

fn time(time: std::time::SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).expect("the clock shows a time");
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.eq_ignore_ascii_case(name)).then(|| value.trim().to_owned())
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
