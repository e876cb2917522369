//! Tokens for MSK's IAM listener, right ones and wrong ones: a signer of the tests' own, so that
//! agent and emulator do not share a mistake.

use super::iam::{Key, REGION};
use crate::clock;
use crate::pki::fingerprint_of;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::time::{Duration, SystemTime};

/// What goes into a token. Every field may be made wrong.
#[derive(Clone, Debug)]
pub struct Presign {
    /// Whose token it is.
    pub key: Key,
    /// When it is signed.
    pub at: SystemTime,
    /// `X-Amz-Expires`, in seconds.
    pub expires: String,
    /// The region in the host's name.
    pub host_region: String,
    /// The region in the credential's scope.
    pub scope_region: String,
    /// The service in the credential's scope.
    pub service: String,
    /// The action.
    pub action: String,
    /// `X-Amz-Algorithm`.
    pub algorithm: String,
    /// The hash of the payload: of nothing, if right.
    pub payload_hash: String,
    /// The signer's name.
    pub user_agent: String,
    /// True to sign the signer's name too, which is wrong.
    pub user_agent_is_signed: bool,
}

impl Presign {
    /// A token as it should be, of this moment, for 15 minutes or what is left of the key's life.
    pub fn of(key: &Key) -> Self {
        let now = clock::wall();
        let left = key.expires.map_or(900, |end| {
            end.duration_since(now).unwrap_or(Duration::ZERO).as_secs()
        });
        Self {
            key: key.clone(),
            at: now,
            expires: left.min(900).to_string(),
            host_region: REGION.to_owned(),
            scope_region: REGION.to_owned(),
            service: "kafka-cluster".to_owned(),
            action: "kafka-cluster:Connect".to_owned(),
            algorithm: "AWS4-HMAC-SHA256".to_owned(),
            payload_hash: fingerprint_of(b""),
            user_agent: "headwater-tests/1".to_owned(),
            user_agent_is_signed: false,
        }
    }

    /// The token.
    pub fn token(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.url())
    }

    /// The presigned URL that the token wraps.
    pub fn url(&self) -> String {
        let stamp = self.stamp();
        let (day, _) = stamp.split_at(8);
        let scope = [day, &self.scope_region, &self.service, "aws4_request"];
        let mut query = vec![
            ("Action", self.action.clone()),
            ("X-Amz-Algorithm", self.algorithm.clone()),
            (
                "X-Amz-Credential",
                format!("{}/{}", self.key.id, scope.join("/")),
            ),
            ("X-Amz-Date", stamp.clone()),
            ("X-Amz-Expires", self.expires.clone()),
            ("X-Amz-SignedHeaders", "host".to_owned()),
        ];
        if let Some(token) = &self.key.session_token {
            query.push(("X-Amz-Security-Token", token.clone()));
        }
        let user_agent = ("User-Agent", self.user_agent.clone());
        if self.user_agent_is_signed {
            query.push(user_agent.clone());
        }
        query.sort();
        let signed = joined(&query);
        let host = format!("kafka.{}.amazonaws.com", self.host_region);
        let request = format!(
            "GET\n/\n{signed}\nhost:{host}\n\nhost\n{}",
            self.payload_hash
        );
        let to_sign = format!(
            "{}\n{stamp}\n{}\n{}",
            self.algorithm,
            scope.join("/"),
            fingerprint_of(request.as_bytes())
        );
        let key = format!("AWS4{}", self.key.secret).into_bytes();
        let key = scope.iter().fold(key, |key, part| hmac(&key, part));
        let signature: String = hmac(&key, &to_sign)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut more = vec![("X-Amz-Signature", signature)];
        if !self.user_agent_is_signed {
            more.push(user_agent);
        }
        format!("https://{host}/?{signed}&{}", joined(&more))
    }

    fn stamp(&self) -> String {
        let time = jiff::Timestamp::try_from(self.at).expect("a test's time is a time");
        time.strftime("%Y%m%dT%H%M%SZ").to_string()
    }
}

/// Wraps any URL as a token: for a URL that was changed after it was signed.
pub fn wrapped(url: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(url)
}

fn joined(query: &[(&str, String)]) -> String {
    let pairs = query
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// RFC 3986, as SigV4 has it.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length is taken");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}
