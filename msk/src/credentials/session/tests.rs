//! Against a source that says what a test wants, and users that forward to a channel. Real time, but
//! no test waits for more than a first back-off.

use super::*;

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::credentials::source::BoxFuture;

const PATIENT: Duration = Duration::from_secs(60);

#[derive(Debug, PartialEq)]
enum Heard {
    Token(String),
    Other,
}

struct User(SyncSender<Heard>);

impl TokenUser for User {
    fn take_token(&self, token: &LocalToken) {
        let parts = token::decode(&token.token.text).unwrap();
        self.0.try_send(Heard::Token(parts.key_id)).unwrap();
    }

    fn principal_changed(&self) {
        self.0.try_send(Heard::Other).unwrap();
    }
}

fn user() -> (Arc<User>, Receiver<Heard>) {
    let (sender, heard) = sync_channel(1000);
    (Arc::new(User(sender)), heard)
}

/// Credentials to be given out, with what is `left` of them then: a thread may be slow to ask.
#[derive(Debug, Clone)]
struct Answer {
    key_id: &'static str,
    identity: &'static str,
    left: Option<Duration>,
    /// How far the source's clock is ahead, where it tells the time.
    ahead: Option<Duration>,
}

impl Answer {
    fn given(&self) -> Fetched {
        let wall = clock::now().wall;
        let expiry = self.left.map(|left| wall + left);
        let session = Some("t0ken".into());
        Fetched {
            credentials: Credentials::new(self.key_id, "s3cret", session, expiry, "test"),
            identity: self.identity.to_owned(),
            said: self.ahead.map(|ahead| (wall, wall + ahead)),
        }
    }
}

/// Answers in a row; the last of them again and again.
#[derive(Debug)]
struct Script(Mutex<VecDeque<Result<Answer, &'static str>>>);

impl CredentialSource for Script {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, SourceError>> {
        let mut answers = self.0.lock().unwrap();
        let answer = match answers.len() {
            1 => answers[0].clone(),
            _ => answers.pop_front().unwrap(),
        };
        Box::pin(async {
            let given = answer.map(|answer| answer.given());
            given.map_err(|error| SourceError::Setup(error.to_owned()))
        })
    }

    fn name(&self) -> &'static str {
        "a script"
    }
}

fn fetched(
    key_id: &'static str,
    identity: &'static str,
    left: Option<Duration>,
) -> Result<Answer, &'static str> {
    Ok(Answer {
        key_id,
        identity,
        left,
        ahead: None,
    })
}

fn session(answers: impl IntoIterator<Item = Result<Answer, &'static str>>) -> Session {
    let script = Script(Mutex::new(answers.into_iter().collect()));
    Session::start("eu-west-1", Box::new(script), 7).unwrap()
}

fn token(key_id: &str) -> Heard {
    Heard::Token(key_id.to_owned())
}

#[test]
fn a_user_is_handed_the_first_token_and_a_late_one_the_present_one() {
    let session = session([fetched("A", "i", None)]);
    let (early, heard) = user();
    session.subscribe(&early);
    assert_eq!(heard.recv_timeout(PATIENT), Ok(token("A")));
    let (late, heard) = user();
    session.subscribe(&late);
    assert_eq!(heard.try_recv(), Ok(token("A")), "at once");
    assert!(session.token().is_ok());
}

#[test]
fn a_source_that_fails_is_asked_again_and_its_reason_is_told() {
    let session = session([Err("no route"), Err("no route"), fetched("A", "i", None)]);
    let (user, heard) = user();
    session.subscribe(&user);
    assert_eq!(heard.recv_timeout(PATIENT), Ok(token("A")));
    assert!(session.health().failures >= 2);
    let broken = self::session([Err("no route")]);
    let reason = loop {
        match broken.token() {
            Err(reason) if reason.contains("no route") => break reason,
            Err(_) => std::thread::yield_now(),
            Ok(_) => panic!("there are no credentials"),
        }
    };
    assert!(reason.contains("a script"), "{reason}");
}

#[test]
fn other_credentials_of_the_same_principal_change_nothing_else() {
    let second = Duration::from_secs(1);
    let session = session([
        fetched("A", "i", Some(second)),
        fetched("B", "i", Some(second * 2)),
        fetched("C", "other", None),
    ]);
    let (user, heard) = user();
    session.subscribe(&user);
    let mut all = Vec::new();
    while all.last() != Some(&token("C")) {
        let next = heard.recv_timeout(PATIENT).expect("the next comes in time");
        if all.last() != Some(&next) {
            all.push(next);
        }
    }
    // The first two may be over before the first token is made: a second is short on a busy machine.
    let others = all.iter().filter(|heard| **heard == Heard::Other).count();
    assert_eq!(others, 1, "{all:?}");
    assert_eq!(
        all[all.len() - 2..],
        [Heard::Other, token("C")],
        "told before the new token"
    );
}

#[test]
fn expired_credentials_make_no_token() {
    // Under a second: too little for a token, and soon over.
    let soon = Some(Duration::from_millis(900));
    let session = session([fetched("A", "i", soon), Err("gone")]);
    loop {
        match session.token() {
            Err(reason) if reason.contains("expired") && reason.contains("gone") => break,
            Err(_) => std::thread::yield_now(),
            Ok(_) => panic!("they have expired"),
        }
    }
}

#[test]
fn credentials_that_are_over_when_they_come_are_a_failure_and_leave_the_last_ones() {
    let over = || fetched("B", "i", Some(Duration::ZERO));
    let session = session([over(), over(), fetched("A", "i", None)]);
    let (user, heard) = user();
    session.subscribe(&user);
    assert_eq!(heard.recv_timeout(PATIENT), Ok(token("A")));
    let health = session.health();
    assert_eq!((health.failures, health.fetched), (2, 1));
    let reason = health.last_failure.expect("it failed").reason;
    assert!(
        reason.contains("have ended already; is this device's clock ahead?"),
        "{reason}"
    );
}

#[test]
fn a_corrected_token_ends_in_local_time() {
    // This device is an hour behind.
    let hour = Duration::from_secs(3600);
    let mut answer = fetched("A", "i", Some(hour * 2)).unwrap();
    answer.ahead = Some(hour);
    let session = session([Ok(answer)]);
    let (user, heard) = user();
    session.subscribe(&user);
    assert_eq!(heard.recv_timeout(PATIENT), Ok(token("A")));
    let token = session.token().unwrap();
    let expires_ms = token.token.expires_ms();
    let ahead_ms = expires_ms - token.expires_local_ms;
    assert!((3_598_000..=3_600_000).contains(&ahead_ms), "{ahead_ms}");
    let health = session.health();
    assert_eq!(health.clock_offset_ms, Some(3_600_000));
    // The credentials end two hours from now by our clock, one by the server's.
    let left_ms = health.left_ms.expect("they end");
    assert!((3_500_000..=3_600_000).contains(&left_ms), "{left_ms}");
}

#[test]
fn health_tells_what_is_there_and_what_went_wrong() {
    let waiting = |session: &Session, what: &dyn Fn(&Health) -> bool| loop {
        let health = session.health();
        if what(&health) {
            return health;
        }
        std::thread::yield_now();
    };
    let broken = session([Err("no route")]);
    let health = waiting(&broken, &|health| health.failures > 0);
    assert!(!health.valid && health.fetched == 0 && health.left_ms.is_none());
    let failure = health.last_failure.expect("the reason is there first");
    assert!(failure.reason.contains("no route") && !failure.mended);
    let mended = session([Err("no route"), fetched("A", "i", None)]);
    let health = waiting(&mended, &|health| health.fetched > 0);
    assert!(health.valid && health.left_ms.is_none(), "{health:?}");
    assert!(health.last_failure.expect("it failed once").mended);
    let soon = Some(Duration::from_secs(2));
    let over = session([fetched("A", "i", soon), Err("gone")]);
    let health = waiting(&over, &|health| health.fetched > 0 && !health.valid);
    assert_eq!(health.left_ms, Some(0), "{health:?}");
}

#[test]
fn a_user_that_is_gone_is_forgotten_and_no_secret_is_shown() {
    let session = session([fetched("A", "i", None)]);
    let (user, heard) = user();
    session.subscribe(&user);
    assert_eq!(heard.recv_timeout(PATIENT), Ok(token("A")));
    drop(user);
    // The thread may hold it for the moment in which it hands a token over.
    while !session.shared.users().is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(session.shared.state().users.len(), 0);
    let shown = format!("{session:?} {:?}", fetched("A", "i", None).unwrap().given());
    assert!(
        !shown.contains("s3cret") && !shown.contains("t0ken"),
        "{shown}"
    );
}
