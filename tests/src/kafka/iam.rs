//! What AWS would know of a cluster's clients: access keys, roles and their policies. A test changes
//! it while the cluster runs; the validator (`tests/kafka/src`) reads it anew at every decision.
//!
//! The policies are the files that users are given under `deploy/`: what they allow is what the
//! tests' agents and loaders may do.

use super::{emulator, jars};
use crate::clock;
use crate::folder::Folder;
use crate::outside::unique;
use crate::pki::fingerprint_of;
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The cluster's region.
pub const REGION: &str = "us-west-2";
/// The account that everything belongs to.
pub const ACCOUNT: &str = "123456789012";

const CLUSTER: &str = "headwater";
const CLUSTER_UUID: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0-7";

/// Keys, roles and policies of one cluster, and the decisions that rested on them.
#[derive(Debug)]
pub struct Iam {
    folder: PathBuf,
    table: Mutex<Map<String, Value>>,
    /// How often the table was written.
    changes: AtomicU64,
    // The folder is ours if there is no cluster.
    _own: Option<Folder>,
}

/// An access key, as a credential source hands it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// `AWS_ACCESS_KEY_ID`.
    pub id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret: String,
    /// `AWS_SESSION_TOKEN`: temporary credentials have one.
    pub session_token: Option<String>,
    /// Whom a broker sees.
    pub principal: String,
    /// When temporary credentials end.
    pub expires: Option<SystemTime>,
}

/// One decision of the validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Whether the token was taken.
    pub accepted: bool,
    /// Why it was refused, in one word; empty for an accepted one. The words stand in
    /// `PresignedToken.java` and `Iam.java`.
    pub reason: String,
    /// What exactly was found.
    pub detail: String,
    /// The access key that the token names; empty if it could not be read.
    pub key_id: String,
    /// The principal of an accepted token.
    pub principal: String,
    /// Until when an accepted token carries a session, in milliseconds since 1970.
    pub until_ms: u64,
}

/// A question to the authorizer by somebody who came by IAM. Each distinct one is recorded once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Authorization {
    /// Who asked.
    pub principal: String,
    /// The IAM action, such as `kafka-cluster:WriteData`.
    pub action: String,
    /// The ARN.
    pub resource: String,
    /// The answer.
    pub allowed: bool,
}

/// The policy documents of a role.
#[derive(Clone, Debug)]
pub struct Policy(Value);

impl Policy {
    /// `deploy/iam-agent.json`, for one topic.
    pub fn agent(topic: &str) -> Self {
        Self::deployed(include_str!("../../../deploy/iam-agent.json"), topic, "")
    }

    /// `deploy/iam-loader.json`, for one topic and group. S3 is another matter here.
    pub fn loader(topic: &str, group: &str) -> Self {
        Self::deployed(
            include_str!("../../../deploy/iam-loader.json"),
            topic,
            group,
        )
    }

    /// `deploy/iam-admin.json`, for one topic.
    pub fn admin(topic: &str) -> Self {
        Self::deployed(include_str!("../../../deploy/iam-admin.json"), topic, "")
    }

    /// Everything on everything.
    pub fn all() -> Self {
        Self(json!([{ "Statement": [
            { "Effect": "Allow", "Action": "kafka-cluster:*", "Resource": "*" }
        ]}]))
    }

    /// A document of one's own, with the same placeholders as those under `deploy/`.
    ///
    /// # Panics
    /// If it is no JSON.
    pub fn deployed(document: &str, topic: &str, group: &str) -> Self {
        // The longer of two that begin alike goes first.
        let filled = [
            ("REGION", REGION),
            ("ACCOUNT", ACCOUNT),
            ("CLUSTER", CLUSTER),
            ("UUID", CLUSTER_UUID),
            ("TOPIC", topic),
            ("GROUP", group),
        ]
        .iter()
        .fold(document.to_owned(), |text, (place, value)| {
            text.replace(&format!("/{place}"), &format!("/{value}"))
                .replace(&format!(":{place}"), &format!(":{value}"))
        });
        let document: Value = serde_json::from_str(&filled).expect("a policy is JSON");
        Self(json!([document]))
    }
}

impl Iam {
    /// A table without keys, in a folder that the brokers read too.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let table = json!({
            "region": REGION,
            "cluster_arn": cluster_arn(),
            // AWS's tolerance for MSK is not documented; this is what clients are built for.
            "skew_ms": 60_000,
            // Nor is its shortest session; a token about to expire is refused at any rate.
            "session_ms_min": 2_000,
            "connects_per_second_max": 0,
            "keys": {},
            "policies": {},
        });
        let Value::Object(table) = table else {
            unreachable!("an object was written above");
        };
        let iam = Self {
            folder: folder.to_owned(),
            table: Mutex::new(table),
            changes: AtomicU64::new(0),
            _own: None,
        };
        iam.change(|_| {});
        Ok(iam)
    }

    /// A table without a cluster, for [`Iam::judge`].
    ///
    /// # Panics
    /// If the disk refuses.
    pub fn alone() -> Self {
        let folder = Folder::new("iam").unwrap_or_else(|error| panic!("{error:#}"));
        let mut iam = Self::new(folder.path()).unwrap_or_else(|error| panic!("{error:#}"));
        iam._own = Some(folder);
        iam
    }

    /// Gives a role (or user) its policy, in place of the one it had. A role without one may not
    /// even connect.
    pub fn set_policy(&self, role: &str, policy: &Policy) {
        self.change(|table| table["policies"][role] = policy.0.clone());
    }

    /// Temporary credentials for a session of a role, as STS and IoT Core hand them out: the session
    /// token has the length, and the characters, of a real one.
    pub fn assume(&self, role: &str, session: &str, life: Duration) -> Key {
        let principal = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session}");
        let id = unique("key");
        let part = |n: u32| fingerprint_of(format!("{id} {n}").as_bytes());
        let session_token: String = (0..16).map(|n| part(n) + "/+").collect();
        self.add(Key {
            id: format!("ASIA{}", &part(100)[..16].to_uppercase()),
            secret: format!("{}/+{}", &part(101)[..20], &part(101)[20..38]),
            session_token: Some(session_token + "=="),
            principal,
            expires: Some(clock::wall() + life),
        })
    }

    /// The own key of a user, without a session token and without an end.
    pub fn user(&self, name: &str) -> Key {
        let text = fingerprint_of(unique("key").as_bytes());
        self.add(Key {
            id: format!("AKIA{}", &text[..16].to_uppercase()),
            secret: format!("{}/+{}", &text[20..40], &text[40..58]),
            session_token: None,
            principal: format!("arn:aws:iam::{ACCOUNT}:user/{name}"),
            expires: None,
        })
    }

    /// Adds a key as it is, or replaces the one with the same id: a rotated secret, another end.
    pub fn add(&self, key: Key) -> Key {
        let entry = json!({
            "secret": key.secret,
            "session_token": key.session_token,
            "principal": key.principal,
            "expires_ms": key.expires.map(since_1970_ms),
            "revoked": false,
        });
        self.change(|table| table["keys"][&key.id] = entry);
        key
    }

    /// Refuses a key from now on. Sessions that rest on it go on until they authenticate again.
    pub fn revoke(&self, key: &Key) {
        self.change(|table| table["keys"][&key.id]["revoked"] = json!(true));
    }

    /// Refuses every key that a principal has had so far.
    pub fn revoke_all(&self, principal: &str) {
        self.change(|table| {
            let keys = table["keys"].as_object_mut().into_iter().flatten();
            for (_, key) in keys.filter(|(_, key)| key["principal"] == principal) {
                key["revoked"] = json!(true);
            }
        });
    }

    /// Whether a key is, or was, a principal's.
    pub fn is_of(&self, key_id: &str, principal: &str) -> bool {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table["keys"][key_id]["principal"] == principal
    }

    /// Every secret and session token that was handed out: what must stand in no file and no log.
    pub fn secrets(&self) -> Vec<String> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = table["keys"].as_object().into_iter().flatten();
        keys.flat_map(|(_, key)| [&key["secret"], &key["session_token"]])
            .filter_map(|secret| secret.as_str().map(str::to_owned))
            .collect()
    }

    /// The shortest session that is granted; below it a client is told `Session too short`.
    pub fn set_session_min(&self, shortest: Duration) {
        let shortest = u64::try_from(shortest.as_millis()).unwrap_or(u64::MAX);
        self.change(|table| table["session_ms_min"] = json!(shortest));
    }

    /// How many connects, re-authentications included, a node takes a second; 0: any number.
    pub fn set_connects_per_second_max(&self, max: u32) {
        self.change(|table| table["connects_per_second_max"] = json!(max));
    }

    /// How far ahead of the brokers' clock a token may be dated.
    pub fn set_skew(&self, skew: Duration) {
        let skew = u64::try_from(skew.as_millis()).unwrap_or(u64::MAX);
        self.change(|table| table["skew_ms"] = json!(skew));
    }

    /// What a node counts, by listener and name; null until it says so for the first time.
    pub(super) fn counters(&self, node: usize) -> Value {
        let path = self.folder.join(format!("counters-{node}.json"));
        let text = fs::read_to_string(path).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Every decision so far, of all nodes, in the order of their times.
    pub fn decisions(&self) -> Vec<Decision> {
        let mut all: Vec<_> = self.log("decisions").iter().map(Decision::read).collect();
        all.sort_by_key(|decision| decision.at_ms);
        all
    }

    /// What was decided on tokens that name one key.
    pub fn decisions_for(&self, key: &Key) -> Vec<Decision> {
        let mut all = self.decisions();
        all.retain(|decision| decision.key_id == key.id);
        all
    }

    /// Every distinct question to the authorizer, of all nodes, sorted.
    pub fn authorizations(&self) -> Vec<Authorization> {
        let text = |value: &Value, name: &str| value[name].as_str().unwrap_or("").to_owned();
        let read = |value: &Value| Authorization {
            principal: text(value, "principal"),
            action: text(value, "action"),
            resource: text(value, "resource"),
            allowed: value["allowed"].as_bool().unwrap_or(false),
        };
        let mut all: Vec<_> = self.log("authorizations").iter().map(read).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Asks the validator, without a broker, what it would decide on each token at each time. It is
    /// the same code, run once by itself.
    ///
    /// # Panics
    /// If Java cannot be run.
    pub fn judge(&self, tokens: &[(SystemTime, String)]) -> Vec<Decision> {
        self.try_judge(tokens)
            .unwrap_or_else(|error| panic!("cannot ask the validator: {error:#}"))
    }

    fn try_judge(&self, tokens: &[(SystemTime, String)]) -> Result<Vec<Decision>> {
        let mut path = jars::folder()?.join("libs").join("*").into_os_string();
        path.push(":");
        path.push(emulator::classes()?);
        let lines: String = tokens
            .iter()
            .map(|(at, token)| format!("{} {token}\n", since_1970_ms(*at)))
            .collect();
        let questions = self.folder.join("questions");
        fs::write(&questions, lines).context("cannot write the questions")?;
        let output = Command::new("java")
            .arg("-cp")
            .arg(path)
            .arg(format!("{}.Judge", emulator::PACKAGE))
            .arg(self.file())
            .stdin(File::open(&questions).context("cannot read the questions")?)
            .output()
            .context("cannot run java")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let answers: Vec<Decision> = text
            .lines()
            .map(|line| Ok(Decision::read(&serde_json::from_str(line)?)))
            .collect::<Result<_>>()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(answers.len() == tokens.len(), "too few answers: {errors}");
        Ok(answers)
    }

    fn file(&self) -> PathBuf {
        self.folder.join("iam.json")
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let mut lines = Vec::new();
        for node in 1..=3 {
            let path = self.folder.join(format!("{kind}-{node}.jsonl"));
            let text = fs::read_to_string(path).unwrap_or_default();
            // A line that is being written has no end yet.
            let whole = text
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            lines.extend(whole.map(|line| {
                serde_json::from_str::<Value>(line).expect("the emulator writes JSON")
            }));
        }
        lines
    }

    /// Changes the table and puts it in the place of the old one, by a rename: a broker reads one or
    /// the other. It knows another one by inode and time, and the kernel may give both again at once:
    /// so each has a time of its own.
    fn change(&self, change: impl FnOnce(&mut Map<String, Value>)) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut table);
        let text = Value::Object(table.clone()).to_string();
        let partial = self.folder.join("iam.json.partial");
        let serial = Duration::from_secs(self.changes.fetch_add(1, Ordering::Relaxed));
        let replace = || -> std::io::Result<()> {
            let mut file = File::create(&partial)?;
            file.write_all(text.as_bytes())?;
            file.set_modified(UNIX_EPOCH + serial)?;
            fs::rename(&partial, self.file())
        };
        replace().expect("the key table can be written");
    }
}

impl Key {
    /// The variables of the environment that AWS's tools read.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let mut env = vec![
            ("AWS_ACCESS_KEY_ID", self.id.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secret.clone()),
        ];
        if let Some(token) = &self.session_token {
            env.push(("AWS_SESSION_TOKEN", token.clone()));
        }
        env
    }
}

impl Decision {
    pub(super) fn read(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().unwrap_or("").to_owned();
        let number = |name: &str| value[name].as_u64().unwrap_or(0);
        Self {
            at_ms: number("at_ms"),
            accepted: value["accepted"].as_bool().unwrap_or(false),
            reason: text("reason"),
            detail: text("detail"),
            key_id: text("key_id"),
            principal: text("principal"),
            until_ms: number("until_ms"),
        }
    }
}

/// The cluster's ARN.
pub fn cluster_arn() -> String {
    format!("arn:aws:kafka:{REGION}:{ACCOUNT}:cluster/{CLUSTER}/{CLUSTER_UUID}")
}

fn since_1970_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_replaced_at_once_is_another() {
        let iam = Iam::alone();
        let times: std::collections::BTreeSet<SystemTime> = (0..10)
            .map(|_| {
                iam.user("u");
                fs::metadata(iam.file()).unwrap().modified().unwrap()
            })
            .collect();
        assert_eq!(times.len(), 10);
    }

    #[test]
    fn every_deployed_policy_is_a_policy_with_known_places_to_fill() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        let mut seen = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            seen += 1;
            let text = fs::read_to_string(&path).unwrap();
            let policy: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(policy["Version"], "2012-10-17", "{}", path.display());
            for statement in policy["Statement"].as_array().unwrap() {
                let resource = statement["Resource"].as_str().unwrap_or("");
                let is_place =
                    |word: &&str| word.len() > 1 && word.bytes().all(|b| b.is_ascii_uppercase());
                for word in resource.split([':', '/']).filter(is_place) {
                    let known = [
                        "REGION", "ACCOUNT", "CLUSTER", "UUID", "TOPIC", "GROUP", "BUCKET",
                        "ALIAS", "TABLE",
                    ];
                    assert!(known.contains(&word), "{word} in {}", path.display());
                }
            }
        }
        assert!(seen >= 5);
    }

    /// AWS IoT developer guide, "Authorizing direct calls to AWS services using AWS IoT Core
    /// credential provider": the certificate's policy names the alias's ARN, the role trusts the
    /// provider.
    #[test]
    fn the_policies_of_the_credential_provider_have_the_documented_shape() {
        let read = |name: &str| -> Value {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../deploy")
                .join(name);
            let policy: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
            assert_eq!(policy["Statement"].as_array().unwrap().len(), 1, "{name}");
            let statement = policy["Statement"][0].clone();
            assert_eq!(statement["Effect"], "Allow", "{name}");
            statement
        };
        let certificate = read("iot-policy.json");
        assert_eq!(certificate["Action"], "iot:AssumeRoleWithCertificate");
        assert_eq!(
            certificate["Resource"],
            "arn:aws:iot:REGION:ACCOUNT:rolealias/ALIAS"
        );
        let trust = read("iot-trust.json");
        assert_eq!(trust["Action"], "sts:AssumeRole");
        assert_eq!(
            trust["Principal"],
            json!({ "Service": "credentials.iot.amazonaws.com" })
        );
        assert!(trust.get("Resource").is_none(), "a trust policy has none");
    }
}
