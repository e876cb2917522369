//! The AWS IoT Core credential provider: a device shows its certificate and is given temporary
//! credentials of a role. No AWS key is ever on the device.
//!
//! ```text
//!   GET https://<prefix>.credentials.iot.<region>.amazonaws.com/role-aliases/<alias>/credentials
//!   x-amzn-iot-thingname: <thing>                            mTLS with the device's certificate
//!   200 {"credentials":{"accessKeyId":"…","secretAccessKey":"…","sessionToken":"…",
//!                       "expiration":"2026-11-24T09:15:00Z"}}
//! ```
//!
//! The name of the STS session is the certificate's id: it stays until the certificate is changed.
//! Source: AWS IoT developer guide, "Authorizing direct calls to AWS services"; aws-c-auth,
//! `credentials_provider_x509.c`.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use http::Request;
use http::header::DATE;
use serde::Deserialize;

use super::secret::Secret;
use super::settings::IotSettings;
use super::source::{BoxFuture, CredentialSource, Fetched, SourceError};
use crate::clock;
use crate::http::{Tls, send};

/// What credentials live for where the answer does not say: the least that a role alias allows
/// (`CredentialDurationSeconds`, 900 to 43200).
const LIFE_LEAST: Duration = Duration::from_secs(900);

/// The provider of one device. Certificate and key are read again at each request, so that a rotated
/// pair is taken up by itself.
#[derive(Debug)]
pub struct IotSource {
    settings: IotSettings,
}

impl IotSource {
    /// A source; nothing is read yet.
    pub fn new(settings: IotSettings) -> Self {
        Self { settings }
    }

    async fn request(&self) -> Result<Fetched, SourceError> {
        let settings = &self.settings;
        let tls = Tls::new(
            settings.ca.as_deref(),
            Some((&settings.certificate, &settings.key)),
        )?;
        let certificate = std::fs::read(&settings.certificate)
            .map_err(|error| SourceError::Setup(error.to_string()))?;
        let (host, port) = settings.host_and_port().map_err(SourceError::Setup)?;
        let alias = &settings.role_alias;
        let mut request = Request::get(format!(
            "https://{host}:{port}/role-aliases/{alias}/credentials"
        ));
        if let Some(thing) = &settings.thing {
            request = request.header("x-amzn-iot-thingname", thing);
        }
        let request = request
            .body(Bytes::new())
            .map_err(|error| SourceError::Setup(error.to_string()))?;
        let asked = clock::now().wall;
        let response = send(&tls, request).await?;
        let answered = clock::now().wall;
        let date = response.headers().get(DATE);
        let date = date.and_then(|date| parse_time(date.to_str().ok()?, Format::HttpDate));
        let status = response.status().as_u16();
        let local = date.unwrap_or(answered);
        let credentials = credentials_of(status, response.body(), local, settings)?;
        Ok(Fetched {
            credentials,
            identity: format!("certificate {}", hex(&openssl::sha::sha256(&certificate))),
            // `Date` was written between the two, most likely.
            said: date.map(|date| (midpoint(asked, answered), date)),
        })
    }
}

impl CredentialSource for IotSource {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, SourceError>> {
        Box::pin(self.request())
    }

    fn name(&self) -> &'static str {
        "the AWS IoT credential provider"
    }
}

fn midpoint(from: SystemTime, to: SystemTime) -> SystemTime {
    from + to.duration_since(from).unwrap_or_default() / 2
}

fn hex(bytes: &[u8]) -> String {
    // The first 8 bytes tell one certificate from another.
    bytes.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

fn parse_time(text: &str, format: Format) -> Option<SystemTime> {
    DateTime::from_str(text, format).ok()?.try_into().ok()
}

#[derive(Deserialize)]
struct Answer {
    credentials: AnswerCredentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerCredentials {
    access_key_id: Secret,
    secret_access_key: Secret,
    session_token: Secret,
    expiration: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// The credentials in an answer that came at `now`, by the server's clock where that is known. Pure.
///
/// # Errors
/// [`SourceError::Refused`] for another status than 200, with what it means;
/// [`SourceError::Malformed`] for anything but complete credentials, without quoting it.
pub fn credentials_of(
    status: u16,
    body: &[u8],
    now: SystemTime,
    settings: &IotSettings,
) -> Result<Credentials, SourceError> {
    if status != 200 {
        return Err(SourceError::Refused {
            status,
            reason: refusal(status, body, settings),
        });
    }
    // Neither the body nor serde's words about it: it holds the secret.
    let malformed = || SourceError::Malformed("an answer without complete credentials");
    let answer: Answer = serde_json::from_slice(body).map_err(|_| malformed())?;
    let given = answer.credentials;
    if [
        &given.access_key_id,
        &given.secret_access_key,
        &given.session_token,
    ]
    .iter()
    .any(|part| part.is_empty())
    {
        return Err(malformed());
    }
    let expiry = match &given.expiration {
        Some(text) => parse_time(text, Format::DateTime)
            .ok_or(SourceError::Malformed("an expiration that is no time"))?,
        None => now + LIFE_LEAST,
    };
    Ok(Credentials::new(
        given.access_key_id.take(),
        given.secret_access_key.take(),
        Some(given.session_token.take()),
        Some(expiry),
        "IotCore",
    ))
}

/// What a status means for the person who set it up.
fn refusal(status: u16, body: &[u8], settings: &IotSettings) -> String {
    let said = serde_json::from_slice::<Refusal>(body)
        .ok()
        .map(|refusal| refusal.message.chars().take(200).collect::<String>())
        .map(|said| said.escape_debug().to_string())
        .unwrap_or_default();
    let alias = &settings.role_alias;
    let advice = match (status, &settings.thing) {
        (403, Some(thing)) => format!(
            "the certificate must be active, have an IoT policy with iot:AssumeRoleWithCertificate on the ARN of the role alias {alias:?}, and be attached to the thing {thing:?}; the role must trust credentials.iot.amazonaws.com"
        ),
        (403, None) => format!(
            "the certificate must be active and have an IoT policy with iot:AssumeRoleWithCertificate on the ARN of the role alias {alias:?}; the role must trust credentials.iot.amazonaws.com"
        ),
        (400 | 404, _) => format!("is the role alias {alias:?} there, in this account and region?"),
        (429, _) => "the account's rate is used up; it is tried again, later each time".to_owned(),
        (500.., _) => "AWS has trouble; it is tried again".to_owned(),
        _ => "is this the credential provider's endpoint?".to_owned(),
    };
    match said.is_empty() {
        true => advice,
        false => format!("{said:?}: {advice}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings() -> IotSettings {
        IotSettings {
            endpoint: "https://x".into(),
            role_alias: "fleet".into(),
            thing: Some("pi-7".into()),
            certificate: "/c".into(),
            key: "/k".parse().unwrap(),
            ca: None,
        }
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn parse(status: u16, body: &str) -> Result<Credentials, SourceError> {
        credentials_of(status, body.as_bytes(), now(), &settings())
    }

    const GOOD: &str = r#"{"credentials":{"accessKeyId":"ASIA1","secretAccessKey":"s3cret","sessionToken":"t0ken","expiration":"2027-01-15T08:30:00Z"}}"#;

    #[test]
    fn the_documented_answer_is_read() {
        let credentials = parse(200, GOOD).unwrap();
        assert_eq!(credentials.access_key_id(), "ASIA1");
        assert_eq!(credentials.secret_access_key(), "s3cret");
        assert_eq!(credentials.session_token(), Some("t0ken"));
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_001_800);
        assert_eq!(credentials.expiry(), Some(expected));
    }

    #[test]
    fn a_missing_expiration_is_the_least_life() {
        for body in [
            GOOD.replace(r#","expiration":"2027-01-15T08:30:00Z""#, ""),
            GOOD.replace(r#""2027-01-15T08:30:00Z""#, "null"),
        ] {
            let credentials = parse(200, &body).unwrap();
            assert_eq!(credentials.expiry(), Some(now() + LIFE_LEAST), "{body}");
        }
    }

    #[test]
    fn what_is_incomplete_is_refused_without_being_quoted() {
        for body in [
            "",
            "{}",
            "[]",
            "<html>s3cret</html>",
            &GOOD[..GOOD.len() - 1],
            &GOOD.replace("ASIA1", ""),
            &GOOD.replace("s3cret", ""),
            &GOOD.replace("t0ken", ""),
            &GOOD.replace("sessionToken", "token"),
            &GOOD.replace("\"s3cret\"", "7"),
            &GOOD.replace("2027-01-15T08:30:00Z", "tomorrow"),
        ] {
            let error = parse(200, body).unwrap_err();
            assert!(matches!(error, SourceError::Malformed(_)), "{body}");
            let text = format!("{error} {error:?}");
            assert!(
                !text.contains("s3cret") && !text.contains("t0ken"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_refusal_says_what_to_look_at() {
        let error = |status, body| parse(status, body).unwrap_err().to_string();
        let denied = error(403, r#"{"message":"Access Denied"}"#);
        for part in [
            "403",
            "Access Denied",
            "AssumeRoleWithCertificate",
            "fleet",
            "pi-7",
        ] {
            assert!(denied.contains(part), "{denied}");
        }
        assert!(error(404, "").contains("role alias \"fleet\""));
        assert!(error(429, "{}").contains("rate"));
        assert!(error(503, "x").contains("tried again"));
        let hostile = format!(r#"{{"message":"{}\u001b[2J"}}"#, "a".repeat(9999));
        let shown = error(403, &hostile);
        assert!(shown.len() < 800 && !shown.contains('\u{1b}'), "{shown}");
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(status in 100_u16..600, body in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(credentials_of(status, &body, now(), &settings()));
        }
    }
}
