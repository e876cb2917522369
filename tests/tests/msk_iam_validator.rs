//! The validator behind the IAM listener: AWS's own signer's vectors, and everything that is nearly
//! right. First the validator alone, at any time of day; then on a broker, with librdkafka before it.

use headwater_tests::kafka::iam::{Iam, Key, Policy, REGION};
use headwater_tests::kafka::token::{Presign, wrapped};
use headwater_tests::kafka::visitor::{Visitor, knock};
use headwater_tests::kafka::{Listener, Msk};
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::unique;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// 2026-01-02T03:04:05Z: the clock at which the vectors were made.
fn then() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_323_045)
}

/// A key of a role that may do everything.
fn key(iam: &Iam) -> Key {
    let role = unique("role");
    iam.set_policy(&role, &Policy::all());
    iam.assume(&role, "session", HOUR)
}

/// `aws-msk-iam-sasl-signer-python` 1.0.2 on botocore 1.44.5, its clock frozen: the query that it
/// signed and its signature, in the order and with the user agent of this test.
fn vector(key: &str, token: &str, signature: &str) -> String {
    wrapped(&format!(
        "https://kafka.{REGION}.amazonaws.com/?Action=kafka-cluster%3AConnect\
         &X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential={key}%2F20260102%2F{REGION}%2Fkafka-cluster%2Faws4_request\
         &X-Amz-Date=20260102T030405Z&X-Amz-Expires=900{token}&X-Amz-SignedHeaders=host\
         &X-Amz-Signature={signature}&User-Agent=aws-msk-iam-sasl-signer-python%2F1.0.2"
    ))
}

#[test]
fn what_awss_own_signer_signed_is_accepted_by_validator_and_tests_alike() {
    let iam = Iam::alone();
    iam.set_policy("agent", &Policy::all());
    let user = iam.add(Key {
        id: "AKIDEXAMPLE".to_owned(),
        secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
        session_token: None,
        principal: "arn:aws:iam::123456789012:user/agent".to_owned(),
        expires: None,
    });
    let session = iam.add(Key {
        id: "MOCK-ACCESS-KEY".to_owned(),
        secret: "MOCK-SECRET-KEY".to_owned(),
        session_token: Some("MOCK-SESSION-TOKEN".to_owned()),
        principal: "arn:aws:sts::123456789012:assumed-role/agent/1".to_owned(),
        expires: Some(then() + HOUR),
    });
    let signatures = [
        "a849e3047a394346a9d022cdc5878ecc38b1b9119a6d3b4d033d6e881848e02a",
        "78fa8625ff98c34faf5f02827c6ce2f2c56b4f26f555389835b275a868fecdbb",
    ];
    let vectors = [
        vector("AKIDEXAMPLE", "", signatures[0]),
        vector(
            "MOCK-ACCESS-KEY",
            "&X-Amz-Security-Token=MOCK-SESSION-TOKEN",
            signatures[1],
        ),
    ];
    let answers = iam.judge(&vectors.map(|token| (then(), token)));
    for (answer, key) in answers.iter().zip([&user, &session]) {
        assert!(answer.accepted, "{answer:?}");
        assert_eq!(answer.principal, key.principal);
        assert_eq!(answer.until_ms, 1_767_323_945_000);
    }
    // The signer of the tests, by which agents are not judged, signs the same.
    for (key, signature) in [user, session].iter().zip(signatures) {
        let ours = Presign {
            at: then(),
            expires: "900".to_owned(),
            ..Presign::of(key)
        };
        assert!(ours.url().contains(signature), "{}", ours.url());
    }
}

/// A right token, and the wrong ones that are near it.
struct Near {
    iam: Iam,
    right: Presign,
    url: String,
}

impl Near {
    fn new() -> Self {
        let iam = Iam::alone();
        let right = Presign {
            at: then(),
            expires: "900".to_owned(),
            ..Presign::of(&key(&iam))
        };
        let url = right.url();
        Self { iam, right, url }
    }

    /// Signed well, but not as it should be.
    fn signed(&self, change: fn(&mut Presign)) -> String {
        let mut wrong = self.right.clone();
        change(&mut wrong);
        wrong.token()
    }

    /// Changed after it was signed.
    fn edited(&self, from: &str, to: &str) -> String {
        assert!(self.url.contains(from), "{from} is in {}", self.url);
        wrapped(&self.url.replacen(from, to, 1))
    }

    fn longer(&self, more: &str) -> String {
        wrapped(&format!("{}{more}", self.url))
    }

    /// With another first digit of a value.
    fn flipped(&self, name: &str) -> String {
        let (before, value) = self.url.split_once(name).expect("it is in the URL");
        let other = if value.starts_with('0') { "1" } else { "0" };
        wrapped(&format!("{before}{name}{other}{}", &value[1..]))
    }

    #[track_caller]
    fn assert_refused(&self, cases: &[(&str, String)]) {
        let tokens = cases.iter().map(|(_, token)| token.clone());
        let mut questions: Vec<_> = tokens.map(|token| (then(), token)).collect();
        questions.push((then(), self.right.token()));
        let mut answers = self.iam.judge(&questions);
        assert!(answers.pop().is_some_and(|answer| answer.accepted));
        for ((reason, token), answer) in cases.iter().zip(answers) {
            assert!(!answer.accepted, "{reason}: {token}");
            assert_eq!(answer.reason, *reason, "{answer:?}");
        }
    }
}

#[test]
fn what_is_no_presigned_url_is_refused() {
    let near = Near::new();
    near.assert_refused(&[
        ("not_base64url", format!("{}=", near.right.token())),
        ("not_base64url", "garbage with spaces".to_owned()),
        ("not_base64url", "A".to_owned()),
        ("not_a_presigned_url", wrapped("garbage")),
        ("not_a_presigned_url", wrapped("\u{0}\u{1}")),
        ("not_a_presigned_url", near.edited("https:", "http:")),
        ("not_a_presigned_url", near.edited(".com/", ".com.cn/")),
        ("not_a_presigned_url", near.edited(".com/", ".com:443/")),
        ("not_a_presigned_url", near.edited("//kafka", "//me@kafka")),
        ("not_a_presigned_url", near.edited(".com/?", ".com/x?")),
        ("not_a_presigned_url", near.longer("#x")),
        ("too_large", near.longer(&"x".repeat(20_000))),
        ("malformed_encoding", near.edited("cluster%3A", "cluster:")),
        // A space written as '+'.
        ("malformed_encoding", near.edited("r-tests", "r+tests")),
        ("malformed_parameter", near.longer("&")),
        ("unknown_parameter", near.longer("&x=1")),
        ("duplicate_parameter", near.longer("&X-Amz-Expires=900")),
    ]);
}

#[test]
fn what_was_signed_for_something_else_is_refused() {
    let near = Near::new();
    let signed = |change| near.signed(change);
    let action = |wrong: &mut Presign| wrong.action = "kafka-cluster:connect".into();
    let algorithm = |wrong: &mut Presign| wrong.algorithm = "AWS4-HMAC-SHA512".into();
    let payload = |wrong: &mut Presign| wrong.payload_hash = "UNSIGNED-PAYLOAD".into();
    near.assert_refused(&[
        (
            "wrong_region",
            signed(|w| w.host_region = "us-east-1".into()),
        ),
        (
            "wrong_region",
            signed(|w| w.scope_region = "us-east-1".into()),
        ),
        (
            "wrong_action",
            signed(|w| w.action = "kafka-cluster:*".into()),
        ),
        ("wrong_action", signed(action)),
        ("wrong_algorithm", signed(algorithm)),
        ("wrong_scope", signed(|w| w.service = "kafka".into())),
        ("wrong_lifetime", signed(|w| w.expires = "901".into())),
        ("wrong_lifetime", signed(|w| w.expires = "0".into())),
        ("wrong_lifetime", signed(|w| w.expires = "899.7".into())),
        (
            "signature_differs",
            signed(|w| w.user_agent_is_signed = true),
        ),
        ("signature_differs", signed(payload)),
        ("signature_differs", signed(|w| w.key.secret.push('x'))),
        ("unknown_key", signed(|w| w.key.id.push('X'))),
        (
            "session_token_missing",
            signed(|w| w.key.session_token = None),
        ),
    ]);
}

#[test]
fn what_was_changed_after_it_was_signed_is_refused() {
    let near = Near::new();
    let agent = "&User-Agent=headwater-tests%2F1";
    near.assert_refused(&[
        ("signature_differs", near.flipped("X-Amz-Signature=")),
        ("signature_differs", near.edited("T030405Z", "T030406Z")),
        (
            "signature_differs",
            near.edited("Expires=900", "Expires=899"),
        ),
        ("session_token_differs", near.flipped("Security-Token=")),
        (
            "wrong_scope",
            near.edited("%2F20260102%2F", "%2F20260103%2F"),
        ),
        ("wrong_scope", near.edited("%2Faws4_request", "")),
        ("wrong_signed_headers", near.edited("s=host", "s=host%3Bx")),
        ("malformed_date", near.edited("T030405Z", "T250405Z")),
        (
            "malformed_signature",
            near.edited("Signature=", "Signature=A"),
        ),
        ("missing_parameter", near.edited(agent, "")),
        ("missing_parameter", near.edited("&X-Amz-Expires=900", "")),
    ]);
}

#[test]
fn time_and_the_state_of_a_key_count_to_the_second() {
    let iam = Iam::alone();
    iam.set_skew(Duration::from_secs(60));
    iam.set_session_min(Duration::from_secs(30));
    let long = key(&iam);
    let short = iam.add(Key {
        expires: Some(then() + Duration::from_secs(100)),
        ..key(&iam)
    });
    let revoked = key(&iam);
    iam.revoke(&revoked);
    let stranger = iam.assume("no-such-role", "session", HOUR);
    let mut user = iam.user("a-user");
    user.session_token = Some("it has none".to_owned());
    let cases = [
        (&long, -60, "accepted"),
        (&long, -61, "from_the_future"),
        (&long, 870, "accepted"),
        (&long, 871, "session_too_short"),
        (&long, 900, "expired"),
        // A session ends with the credentials, whatever the token says.
        (&short, 70, "accepted"),
        (&short, 71, "session_too_short"),
        (&short, 100, "credentials_expired"),
        (&revoked, 0, "revoked"),
        // Signed well, by somebody who may not connect.
        (&stranger, 0, "not_authorized"),
        (&user, 0, "session_token_unexpected"),
    ];
    let questions = cases.map(|(key, late, _)| {
        let presign = Presign {
            at: then(),
            expires: "900".to_owned(),
            ..Presign::of(key)
        };
        let second = 1_767_323_045_u64.saturating_add_signed(late);
        (UNIX_EPOCH + Duration::from_secs(second), presign.token())
    });
    let answers = iam.judge(&questions);
    for ((key, late, wanted), answer) in cases.iter().zip(&answers) {
        let said = if answer.accepted {
            "accepted"
        } else {
            &answer.reason
        };
        assert_eq!(said, *wanted, "{late} s: {answer:?}");
        assert_eq!(answer.key_id, key.id);
    }
    assert_eq!(answers[2].until_ms, 1_767_323_945_000);
    assert_eq!(answers[5].until_ms, 1_767_323_145_000);
}

#[test]
fn a_client_with_a_token_is_let_in_and_told_no_more_than_by_msk() {
    let msk = Msk::start();
    let config = msk.client(Listener::Iam);
    let last = || msk.iam().decisions().pop().expect("something was decided");
    let good = key(msk.iam());
    let knock = |token: String| knock(&config, Visitor::with_tokens(move || (token.clone(), HOUR)));
    assert_eq!(knock(Presign::of(&good).token()), Ok(()));
    assert_eq!(last().principal, good.principal);
    assert_eq!(knock(Presign::of(&key(msk.iam())).token()), Ok(()));

    let refused = |token: String, told: &str, reason: &str| {
        let text = knock(token).expect_err("it is refused");
        assert!(text.contains(told), "{text}");
        assert_eq!(last().reason, reason);
    };
    let mut wrong = good.clone();
    wrong.secret.push('x');
    refused(
        Presign::of(&wrong).token(),
        "Access denied",
        "signature_differs",
    );
    refused("A".repeat(20_000), "Access denied", "too_large");
    refused("garbage".to_owned(), "Access denied", "not_a_presigned_url");
    msk.iam().set_session_min(Duration::from_secs(901));
    refused(
        Presign::of(&good).token(),
        "Session too short",
        "session_too_short",
    );
    msk.iam().set_session_min(Duration::ZERO);
    msk.iam().revoke(&good);
    refused(Presign::of(&good).token(), "Access denied", "revoked");
    assert_eq!(msk.iam().decisions_for(&good).pop(), Some(last()));
    // What the broker's own limit refuses never gets to the validator.
    let before = msk.iam().decisions().len();
    assert!(knock("A".repeat(600_000)).is_err());
    assert_eq!(msk.iam().decisions().len(), before);
}

#[test]
fn a_connection_keeps_its_principal_when_it_authenticates_again() {
    // The client has the last tenth of it to authenticate in.
    let session = Duration::from_secs(6);
    let msk = Msk::with().session_max(session).start();
    let first = key(msk.iam());
    let current = Arc::new(Mutex::new(first.clone()));
    let shown = Arc::clone(&current);
    let visitor = Visitor::with_tokens(move || {
        let token = Presign::of(&shown.lock().expect("nobody panics with it")).token();
        (token, session)
    });
    let config = msk.client(Listener::Iam);
    let consumer: BaseConsumer<Visitor> = config.create_with_context(visitor).unwrap();
    let polled = || drop(consumer.poll(Duration::from_millis(20)));
    wait_until("it has authenticated three times", PATIENCE, || {
        polled();
        msk.iam().decisions_for(&first).len() >= 3
    });
    assert_eq!(consumer.context().told(), Vec::<String>::new());
    let role = first.principal.split('/').nth(1).expect("a role");
    let second = msk.iam().assume(role, "another-session", HOUR);
    *current.lock().expect("nobody panics with it") = second.clone();
    wait_until("it is told", PATIENCE, || {
        polled();
        let told = consumer.context().told();
        told.iter()
            .any(|text| text.contains("Cannot change principals"))
    });
    // The token itself was good: the broker refused the change.
    assert!(
        msk.iam()
            .decisions_for(&second)
            .iter()
            .all(|one| one.accepted)
    );
}
