//! A token taken apart, for people: what it says, and never what opens a door. Anybody's token, so
//! every byte of it is checked before it is believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::percent_decode_str;
use thiserror::Error;

/// Longest token that is looked at. A token with an IoT session token has about 2 KB.
pub(super) const TEXT_BYTES_MAX: usize = 64 * 1024;

/// What a token says of itself. The signature and the session token are not among it: together with
/// the rest they are the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Host that the token is addressed to: `kafka.<region>.amazonaws.com`.
    pub host: String,
    /// `kafka-cluster:Connect`.
    pub action: String,
    /// `AWS4-HMAC-SHA256`.
    pub algorithm: String,
    /// Id of the access key; it is not secret.
    pub key_id: String,
    /// What the signature is for, behind the key id: `<day>/<region>/kafka-cluster/aws4_request`.
    pub scope: String,
    /// Signing time, `yyyymmddThhmmssZ`.
    pub date: String,
    /// Lifetime in seconds from there.
    pub expires: u32,
    /// `host`.
    pub signed_headers: String,
    /// Bytes of the session token; none with long-term keys.
    pub session_token_bytes: Option<usize>,
    /// Who signed.
    pub user_agent: String,
}

/// Why a text is no token for MSK.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Longer than 64 KiB.
    #[error("a token has 64 KiB at most")]
    TooLong,
    /// Another alphabet, or padded.
    #[error("not base64url without padding (RFC 4648, section 5)")]
    NotBase64,
    /// Something else is in the base64.
    #[error("not a URL of the form https://HOST/?QUERY")]
    NotUrl,
    /// A parameter that no signer sends.
    #[error("an unknown parameter {0:?}")]
    Unknown(String),
    /// A parameter stands there twice.
    #[error("the parameter {0} is there twice")]
    Twice(&'static str),
    /// A parameter is missing.
    #[error("the parameter {0} is missing")]
    Missing(&'static str),
    /// A parameter is not of its form.
    #[error("the parameter {0} is not of its form")]
    Malformed(&'static str),
}

const NAMES: [&str; 9] = [
    "Action",
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "User-Agent",
];

/// Takes a token apart.
///
/// It is checked for its form. Whether the signature is right only MSK can say, since that takes the
/// secret.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(token: &str) -> Result<Parts, DecodeError> {
    if token.len() > TEXT_BYTES_MAX {
        return Err(DecodeError::TooLong);
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(token)
        .map_err(|_| DecodeError::NotBase64)?;
    let url = String::from_utf8(bytes).map_err(|_| DecodeError::NotUrl)?;
    let (host, query) = url
        .strip_prefix("https://")
        .and_then(|rest| rest.split_once("/?"))
        .filter(|(host, query)| is_host(host) && !query.contains(['#', '+']))
        .ok_or(DecodeError::NotUrl)?;
    let mut values: [Option<String>; 9] = Default::default();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').ok_or(DecodeError::NotUrl)?;
        let Some(index) = NAMES.iter().position(|known| *known == name) else {
            return Err(DecodeError::Unknown(name.chars().take(64).collect()));
        };
        let value = percent_decode_str(value)
            .decode_utf8()
            .ok()
            .filter(|value| !value.chars().any(char::is_control))
            .ok_or(DecodeError::Malformed(NAMES[index]))?;
        if values[index].replace(value.into_owned()).is_some() {
            return Err(DecodeError::Twice(NAMES[index]));
        }
    }
    let mut take = |index: usize| values[index].take();
    let mut need = |index: usize| take(index).ok_or(DecodeError::Missing(NAMES[index]));
    let (action, algorithm, credential) = (need(0)?, need(1)?, need(2)?);
    let (date, expires, signed_headers) = (need(3)?, need(4)?, need(5)?);
    let signature = need(6)?;
    let user_agent = need(8)?;
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if signature.len() != 64 || !signature.bytes().all(is_hex) {
        return Err(DecodeError::Malformed("X-Amz-Signature"));
    }
    let (key_id, scope) = credential
        .split_once('/')
        .filter(|(_, scope)| scope.split('/').count() == 4)
        .ok_or(DecodeError::Malformed("X-Amz-Credential"))?;
    if !is_date(&date) {
        return Err(DecodeError::Malformed("X-Amz-Date"));
    }
    Ok(Parts {
        host: host.to_owned(),
        action,
        algorithm,
        key_id: key_id.to_owned(),
        scope: scope.to_owned(),
        date,
        expires: expires
            .parse()
            .map_err(|_| DecodeError::Malformed("X-Amz-Expires"))?,
        signed_headers,
        session_token_bytes: values[7].take().map(|token| token.len()),
        user_agent,
    })
}

fn is_host(host: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    !host.is_empty() && host.bytes().all(fits)
}

/// `yyyymmddThhmmssZ`
fn is_date(text: &str) -> bool {
    let shape = text.bytes().enumerate().all(|(i, b)| match i {
        8 => b == b'T',
        15 => b == b'Z',
        _ => b.is_ascii_digit(),
    });
    shape && text.len() == 16
}
