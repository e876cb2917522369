//! The agent's token for MSK is the one that AWS's own signer makes of the same credentials at the
//! same time; and what cannot make one says why.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headwater_tests::process::{Agent, Finished};
use headwater_tests::signer::{self, Keys};
use std::collections::BTreeMap;

fn config(region: &str) -> String {
    format!(
        r#"
        device = "pi-7"
        [kafka]
        brokers = ["localhost:9098"]
        topic = "logs"
        [kafka.security]
        mode = "iam"
        region = "{region}"
        [[file]]
        id = "app"
        paths = ["/nowhere/*.log"]
        "#
    )
}

fn run(region: &str, keys: &Keys, more: &[&str]) -> Finished {
    Agent::with(&config(region))
        .envs(keys.env())
        .run("token", more)
}

/// The address, and every parameter as it is written.
fn parts(token: &str) -> (String, BTreeMap<String, String>) {
    let url = URL_SAFE_NO_PAD
        .decode(token)
        .expect("base64url, no padding");
    let url = String::from_utf8(url).expect("a URL is text");
    let (address, query) = url.split_once('?').expect("a query");
    let pairs: Vec<_> = query
        .split('&')
        .map(|pair| pair.split_once('=').expect("name and value"))
        .collect();
    let map: BTreeMap<_, _> = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    assert_eq!(map.len(), pairs.len(), "no parameter twice: {url}");
    (address.to_owned(), map)
}

/// `20260102T030405Z` as RFC 3339.
fn rfc3339(date: &str) -> String {
    let (d, t) = date.split_at(8);
    format!(
        "{}-{}-{}T{}:{}:{}Z",
        &d[..4],
        &d[4..6],
        &d[6..8],
        &t[1..3],
        &t[3..5],
        &t[5..7]
    )
}

#[test]
fn awss_signer_makes_the_same_token() {
    let keys = |id: &str, secret: &str, session_token: Option<&str>| Keys {
        id: id.to_owned(),
        secret: secret.to_owned(),
        session_token: session_token.map(str::to_owned),
    };
    let long = format!("IQoJb3JpZ2luX2VjE{}+/==", "aB3/".repeat(400));
    for (region, keys) in [
        (
            "eu-west-1",
            keys(
                "AKIDEXAMPLE",
                "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                None,
            ),
        ),
        ("us-gov-west-1", keys("ASIAEXAMPLE", "s/+=", Some(&long))),
        (
            "ap-southeast-2",
            keys("ASIAEXAMPLE", "secret", Some("~ *(é)!'%2F")),
        ),
    ] {
        let (theirs, expires_ms) = signer::token(region, &keys);
        let (their_address, mut their_parts) = parts(&theirs);
        let at = rfc3339(&their_parts["X-Amz-Date"]);
        let finished = run(region, &keys, &["--at", &at]);
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let (our_address, mut our_parts) = parts(finished.stdout.trim_end());
        let their_agent = their_parts.remove("User-Agent").expect("it is there");
        let our_agent = our_parts.remove("User-Agent").expect("it is there");
        assert!(their_agent.starts_with("aws-msk-iam") && our_agent.starts_with("headwater"));
        assert_eq!((our_address, our_parts), (their_address, their_parts));
        let shown = run(region, &keys, &["--at", &at, "--decode"]);
        assert_eq!(shown.code, Some(0), "{}", shown.stderr);
        assert!(shown.stdout.contains("900 s, until "), "{}", shown.stdout);
        let secret = keys.session_token.as_deref().unwrap_or(&keys.secret);
        for finished in [&finished, &shown] {
            let said = format!("{}{}", finished.stdout, finished.stderr);
            assert!(
                !said.contains(secret) && !said.contains(&keys.secret),
                "{said}"
            );
        }
        assert_eq!(expires_ms % 1000, 0);
    }
}

#[test]
fn what_cannot_be_signed_is_said() {
    let empty = Keys {
        id: "AKIDEXAMPLE".into(),
        secret: String::new(),
        session_token: None,
    };
    let finished = run("eu-west-1", &empty, &[]);
    assert_eq!(finished.code, Some(1));
    assert!(finished.stdout.is_empty(), "{}", finished.stdout);
    assert!(
        finished.stderr.contains("no credentials"),
        "{}",
        finished.stderr
    );
}
