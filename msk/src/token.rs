//! The token that opens an MSK cluster with IAM (SASL/OAUTHBEARER, port 9098). Pure: region,
//! credentials and time in, text and lifetime out.
//!
//! A token is a presigned URL that nobody ever fetches, in base64url without padding:
//!
//! ```text
//! https://kafka.<region>.amazonaws.com/?Action=kafka-cluster%3AConnect
//!     &X-Amz-Algorithm=AWS4-HMAC-SHA256
//!     &X-Amz-Credential=<key id>/<yyyymmdd>/<region>/kafka-cluster/aws4_request
//!     &X-Amz-Date=<yyyymmddThhmmssZ>&X-Amz-Expires=<seconds>
//!     &X-Amz-SignedHeaders=host&X-Amz-Signature=<64 hex digits>
//!     [&X-Amz-Security-Token=<session token>]          (inside the signature)
//!     &User-Agent=<who signed>                         (appended after signing)
//! ```
//!
//! Payload hash: SHA-256 of nothing, not `UNSIGNED-PAYLOAD`. Source: AWS's own signers
//! (aws-msk-iam-sasl-signer-go, -python, -js, -net); the vectors in `token/vectors.toml` were made
//! with the Python one under a frozen clock, and a whole-system test runs that one again.
//!
//! A token signed with credentials that end sooner than 15 minutes lives only as long as they do,
//! in whole seconds: MSK ends the session with the credentials anyway, and answers `Session too
//! short` to a token that promises more.

mod decode;

pub use decode::{DecodeError, Parts, decode};

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign as sign_request,
};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use thiserror::Error;
use zeroize::Zeroizing;

/// Longest life of a token: what every AWS signer asks for, and the most that MSK is known to take.
pub const LIFETIME_MAX: Duration = Duration::from_secs(900);

/// Shown to MSK, outside the signature; it stands in CloudTrail.
const USER_AGENT: &str = concat!("headwater/", env!("CARGO_PKG_VERSION"));

/// RFC 3986: everything but the unreserved characters is escaped, a blank as `%20`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A token and how long it is good for. Whoever holds the text can connect until then: it is never
/// printed by `Debug`, and wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// What goes over the wire.
    pub text: Zeroizing<String>,
    /// From the signing time on; whole seconds, at least one.
    pub lifetime: Duration,
    /// Signing time plus lifetime, on the clock that the token was signed with.
    pub expires: SystemTime,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("lifetime", &self.lifetime)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl Token {
    /// [`Token::expires`] in milliseconds since 1970, as clients of Kafka want it.
    pub fn expires_ms(&self) -> i64 {
        let since = self.expires.duration_since(SystemTime::UNIX_EPOCH);
        i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
    }
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Not the name of a region.
    #[error(
        "{0:?} is not an AWS region: 1 to 63 of lower-case letters, digits and '-', such as \"eu-west-1\""
    )]
    Region(String),
    /// The key id or the secret is empty.
    #[error("the credentials have an empty {0}; correct their source")]
    Empty(&'static str),
    /// The credentials are over, or end within the second.
    #[error("the credentials have expired; a token signed with them would be refused")]
    Expired,
    /// The clock stands before 1970, or the signer refuses what it was given.
    #[error("cannot sign: {0}")]
    Signing(String),
}

/// Whether `region` can be part of a host name. Only its form: new regions appear.
///
/// # Errors
/// [`TokenError::Region`].
pub fn check_region(region: &str) -> Result<(), TokenError> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_name = !region.is_empty()
        && region.len() <= 63
        && region.bytes().all(fits)
        && !region.starts_with('-')
        && !region.ends_with('-');
    is_name
        .then_some(())
        .ok_or_else(|| TokenError::Region(region.to_owned()))
}

/// Signs a token for the clusters of `region` at the time `now`.
///
/// Lives [`LIFETIME_MAX`], or as long as the credentials where that is shorter.
///
/// # Errors
/// See [`TokenError`]. No error holds any part of the secret or of the session token.
pub fn sign(region: &str, credentials: &Credentials, now: SystemTime) -> Result<Token, TokenError> {
    check_region(region)?;
    for (what, value) in [
        ("access key id", credentials.access_key_id()),
        ("secret access key", credentials.secret_access_key()),
    ] {
        if value.is_empty() {
            return Err(TokenError::Empty(what));
        }
    }
    let lifetime = lifetime(credentials.expiry(), now)?;
    let url = format!("https://kafka.{region}.amazonaws.com/?Action=kafka-cluster%3AConnect");
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(lifetime);
    let identity = credentials.clone().into();
    let signing = |error: &dyn fmt::Display| TokenError::Signing(error.to_string());
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("kafka-cluster")
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| signing(&error))?
        .into();
    let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]))
        .map_err(|error| signing(&error))?;
    let (instructions, _) = sign_request(request, &params)
        .map_err(|error| signing(&error))?
        .into_parts();
    let given = instructions.params().iter();
    let given = given.map(|(name, value)| (*name, &**value));
    let all: Vec<(&str, &str)> = given.chain([("User-Agent", USER_AGENT)]).collect();
    // Room for all of it at once: a text that grows leaves copies of the session token behind.
    let room = |(name, value): &(&str, &str)| name.len() + 3 * value.len() + 2;
    let room = url.len() + all.iter().map(room).sum::<usize>();
    let mut signed = Zeroizing::new(String::with_capacity(room));
    signed.push_str(&url);
    for (name, value) in all {
        signed.push('&');
        signed.push_str(name);
        signed.push('=');
        signed.extend(utf8_percent_encode(value, ESCAPED));
    }
    Ok(Token {
        text: Zeroizing::new(URL_SAFE_NO_PAD.encode(signed.as_bytes())),
        lifetime,
        expires: whole_seconds(now)? + lifetime,
    })
}

/// What is left of the credentials, at most [`LIFETIME_MAX`]. `X-Amz-Date` drops the fraction of
/// `now`; counting from the unrounded time keeps the sum at or before their end.
fn lifetime(expiry: Option<SystemTime>, now: SystemTime) -> Result<Duration, TokenError> {
    let Some(expiry) = expiry else {
        return Ok(LIFETIME_MAX);
    };
    let left = expiry
        .duration_since(now)
        .map_or(0, |left| left.as_secs().min(LIFETIME_MAX.as_secs()));
    if left == 0 {
        return Err(TokenError::Expired);
    }
    Ok(Duration::from_secs(left))
}

fn whole_seconds(now: SystemTime) -> Result<SystemTime, TokenError> {
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|_| TokenError::Signing("the clock stands before 1970".to_owned()))?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs()))
}

#[cfg(test)]
mod tests;
