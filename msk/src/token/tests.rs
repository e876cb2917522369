use super::decode::TEXT_BYTES_MAX;
use super::*;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use proptest::prelude::*;
use serde::Deserialize;

const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

#[derive(Deserialize)]
struct Vectors {
    vector: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    id: String,
    region: String,
    key_id: String,
    secret: String,
    session_token: Option<String>,
    at: String,
    signature: String,
    expires_ms: i64,
}

fn time(text: &str) -> SystemTime {
    DateTime::from_str(text, Format::DateTime)
        .unwrap()
        .try_into()
        .unwrap()
}

fn credentials(session_token: Option<&str>, expiry: Option<SystemTime>) -> Credentials {
    Credentials::new(
        KEY_ID,
        SECRET,
        session_token.map(str::to_owned),
        expiry,
        "test",
    )
}

fn url(token: &Token) -> String {
    String::from_utf8(URL_SAFE_NO_PAD.decode(&*token.text).unwrap()).unwrap()
}

#[test]
fn awss_own_signer_gives_the_same_signatures() {
    let file: Vectors = toml::from_str(include_str!("vectors.toml")).unwrap();
    assert_eq!(file.vector.len(), 4);
    for v in file.vector {
        let credentials = Credentials::new(v.key_id, v.secret, v.session_token, None, "test");
        let token = sign(&v.region, &credentials, time(&v.at)).unwrap();
        let url = url(&token);
        let signature = format!("&X-Amz-Signature={}&", v.signature);
        assert!(url.contains(&signature), "{}: {url}", v.id);
        assert_eq!(token.expires_ms(), v.expires_ms, "{}", v.id);
    }
}

#[test]
fn a_token_says_what_msk_wants_to_read() {
    let now = time("2026-01-02T03:04:05Z") + Duration::from_millis(999);
    let token = sign("us-west-2", &credentials(Some("a/b=="), None), now).unwrap();
    assert!(
        !token.text.contains(['=', '+', '/']),
        "no padding, url-safe"
    );
    let url = url(&token);
    assert!(url.contains("&X-Amz-Security-Token=a%2Fb%3D%3D&"), "{url}");
    let parts = decode(&token.text).unwrap();
    assert_eq!(
        parts,
        Parts {
            host: "kafka.us-west-2.amazonaws.com".into(),
            action: "kafka-cluster:Connect".into(),
            algorithm: "AWS4-HMAC-SHA256".into(),
            key_id: KEY_ID.into(),
            scope: "20260102/us-west-2/kafka-cluster/aws4_request".into(),
            date: "20260102T030405Z".into(),
            expires: 900,
            signed_headers: "host".into(),
            session_token_bytes: Some(5),
            user_agent: USER_AGENT.into(),
        }
    );
    let long_term = sign("us-west-2", &credentials(None, None), now).unwrap();
    assert_eq!(decode(&long_term.text).unwrap().session_token_bytes, None);
}

#[test]
fn a_token_lives_no_longer_than_its_credentials_in_whole_seconds() {
    let now = time("2026-01-02T03:04:05Z") + Duration::from_millis(900);
    for (left_ms, expected) in [
        (10_000, 10),
        // 299.7 s: a fraction in the URL made MSK refuse another signer's tokens.
        (299_700, 299),
        (1_000, 1),
        (900_000, 900),
        (6 * 3_600_000, 900),
    ] {
        let expiry = now + Duration::from_millis(left_ms);
        let token = sign("eu-west-1", &credentials(None, Some(expiry)), now).unwrap();
        assert_eq!(token.lifetime, Duration::from_secs(expected), "{left_ms}");
        assert_eq!(u64::from(decode(&token.text).unwrap().expires), expected);
        assert!(token.expires <= expiry, "{left_ms}");
    }
    for left_ms in [0, 999] {
        let expiry = now + Duration::from_millis(left_ms);
        let refused = sign("eu-west-1", &credentials(None, Some(expiry)), now);
        assert_eq!(refused, Err(TokenError::Expired), "{left_ms}");
    }
    let past = now - Duration::from_secs(1);
    let refused = sign("eu-west-1", &credentials(None, Some(past)), now);
    assert_eq!(refused, Err(TokenError::Expired));
}

#[test]
fn what_cannot_be_signed_is_said_without_the_secret() {
    let now = time("2026-01-02T03:04:05Z");
    for region in [
        "",
        "EU-WEST-1",
        "eu_west",
        "evil.com/",
        "-a",
        "a-",
        "a b",
        &"a".repeat(64),
    ] {
        let refused = sign(region, &credentials(None, None), now);
        assert_eq!(refused, Err(TokenError::Region(region.to_owned())));
    }
    for (key_id, secret, what) in [
        ("", SECRET, "access key id"),
        (KEY_ID, "", "secret access key"),
    ] {
        let empty = Credentials::new(key_id, secret, None, None, "test");
        assert_eq!(sign("eu-west-1", &empty, now), Err(TokenError::Empty(what)));
    }
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    let error = sign("eu-west-1", &credentials(Some("tok"), None), before).unwrap_err();
    assert!(!error.to_string().contains(SECRET) && !error.to_string().contains("tok"));
}

#[test]
fn debug_shows_no_token() {
    let token = sign(
        "eu-west-1",
        &credentials(Some("tok"), None),
        time("2026-01-02T03:04:05Z"),
    )
    .unwrap();
    let shown = format!("{token:?}");
    assert!(
        !shown.contains(&*token.text) && shown.contains("lifetime"),
        "{shown}"
    );
}

/// A token of which the URL was changed by `change`.
fn altered(change: impl Fn(String) -> String) -> Result<Parts, DecodeError> {
    let now = time("2026-01-02T03:04:05Z");
    let token = sign("us-west-2", &credentials(Some("tok"), None), now).unwrap();
    decode(&URL_SAFE_NO_PAD.encode(change(url(&token))))
}

#[test]
fn what_no_signer_would_send_is_refused() {
    use DecodeError as Error;
    let replaced = |from: &'static str, to: &'static str| {
        altered(move |url| {
            assert!(url.contains(from), "{url}");
            url.replace(from, to)
        })
    };
    assert!(altered(|url| url).is_ok());
    assert_eq!(replaced("https:", "http:"), Err(Error::NotUrl));
    assert_eq!(replaced("https://", "https://me@"), Err(Error::NotUrl));
    assert_eq!(replaced(".com/?", ".com:1/?"), Err(Error::NotUrl));
    assert_eq!(replaced(".com/?", ".com/x?"), Err(Error::NotUrl));
    assert_eq!(replaced("host&", "ho+st&"), Err(Error::NotUrl));
    assert_eq!(
        replaced("Action", "Aktion"),
        Err(Error::Unknown("Aktion".into()))
    );
    assert_eq!(
        replaced("&X-Amz-Date=20260102T030405Z", ""),
        Err(Error::Missing("X-Amz-Date"))
    );
    assert_eq!(
        replaced("20260102T030405Z", "2026-01-02T03:04"),
        Err(Error::Malformed("X-Amz-Date"))
    );
    for expires in [
        "Expires=900.5",
        "Expires=-1",
        "Expires=",
        "Expires=99999999999",
    ] {
        let refused = replaced("Expires=900", expires);
        assert_eq!(refused, Err(Error::Malformed("X-Amz-Expires")));
    }
    assert_eq!(
        replaced("%2Faws4_request", ""),
        Err(Error::Malformed("X-Amz-Credential"))
    );
    assert_eq!(
        replaced("X-Amz-Signature=", "X-Amz-Signature=F"),
        Err(Error::Malformed("X-Amz-Signature"))
    );
    assert_eq!(
        replaced("tok&", "%0atok&"),
        Err(Error::Malformed("X-Amz-Security-Token"))
    );
    assert_eq!(
        replaced("tok&", "%ff&"),
        Err(Error::Malformed("X-Amz-Security-Token"))
    );
    let twice = altered(|url| url + "&Action=x");
    assert_eq!(twice, Err(Error::Twice("Action")));
    let now = time("2026-01-02T03:04:05Z");
    let token = sign("us-west-2", &credentials(None, None), now).unwrap();
    for padded in [format!("{}=", &*token.text), format!("{}+", &*token.text)] {
        assert_eq!(decode(&padded), Err(Error::NotBase64));
    }
    assert_eq!(decode(&"A".repeat(TEXT_BYTES_MAX + 1)), Err(Error::TooLong));
}

proptest! {
    #[test]
    fn any_text_is_decoded_or_refused(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(decode(&text));
        drop(decode(&URL_SAFE_NO_PAD.encode(bytes)));
    }

    #[test]
    fn what_is_signed_can_be_decoded(
        session in prop::option::of("[ -~]{1,100}"),
        seconds in 0_u64..4_000_000_000,
        left in prop::option::of(1_u64..5_000),
    ) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let expiry = left.map(|left| now + Duration::from_secs(left));
        let token = sign("eu-west-1", &credentials(session.as_deref(), expiry), now).unwrap();
        let parts = decode(&token.text).unwrap();
        prop_assert_eq!(parts.session_token_bytes, session.map(|session| session.len()));
        prop_assert_eq!(u64::from(parts.expires), left.unwrap_or(900).min(900));
        prop_assert_eq!(token.expires, now + token.lifetime);
    }
}
