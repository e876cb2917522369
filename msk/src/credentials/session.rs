//! The credentials of this process and the tokens made of them: one thread that keeps both fresh,
//! and clients of Kafka that are handed each new token.
//!
//! ```text
//!   thread "credentials"                               clients (weak)
//!     source.fetch() ─► credentials (memory) ─sign─► token ─► take_token()   pushed, when new
//!                                  └────────────sign─► token()               pulled, librdkafka's callback
//! ```
//!
//! - Tokens are pushed as well as pulled: librdkafka asks for one only while its client is polled,
//!   and an idle client is hardly polled. So an idle client stays authenticated, and the first token
//!   does not wait for librdkafka's next try ten seconds later.
//! - [`Session::token`] signs from memory and never waits for anything but a lock that is held for
//!   microseconds.
//! - While the source is down the last credentials serve until they end. Then there is no token, the
//!   clients stay disconnected, records wait where they are; the next credentials revive them.
//! - Secrets are wiped from memory when replaced. They are never written anywhere.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use tokio::sync::Notify;

use super::clock::{Corrected, OFFSET_LEAST};
use super::health::{self, Counters, Failure, Health, count};
use super::schedule::{Due, Schedule};
use super::source::{CredentialSource, Fetched, SourceError};
use crate::clock::{self, Moment};
use crate::token::{self, Token};

/// How often the clocks are compared. A token that was signed by a wrong clock is replaced so soon
/// after the clock was set.
const TICK: Duration = Duration::from_secs(10);
/// For one fetch in all.
const PATIENCE: Duration = Duration::from_secs(45);
/// How often the same trouble is said again.
const REPEAT: Duration = Duration::from_secs(600);

/// A token, and until when this machine's clock may think it good.
#[derive(Debug, Clone)]
pub struct LocalToken {
    /// The token.
    pub token: Token,
    /// Its end on the *local* wall clock, in milliseconds since 1970. Where the token is signed with
    /// a corrected time, its own end is in another time than the one librdkafka compares it with.
    pub expires_local_ms: i64,
}

/// A client of Kafka that needs tokens.
pub trait TokenUser: Send + Sync {
    /// There is a new token. Must not block.
    fn take_token(&self, token: &LocalToken);
    /// The credentials are somebody else's from now on: the broker refuses to re-authenticate a
    /// connection under another principal, so that the client has to be made anew. Must not block.
    fn principal_changed(&self);
}

/// Keeps credentials fresh while it lives. Dropped, the thread ends.
pub struct Session {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    region: String,
    source: Box<dyn CredentialSource>,
    state: Mutex<State>,
    counters: Counters,
    stop: AtomicBool,
    /// A broker refused a token since the thread looked last.
    refused: AtomicBool,
    news: Notify,
}

#[derive(Default)]
struct State {
    credentials: Option<Credentials>,
    identity: Option<String>,
    clock: Corrected,
    /// Why there are no, or no new, credentials.
    trouble: Option<String>,
    /// The last trouble, and when (monotonic) it was met last; it stays when it is over.
    failed: Option<(String, Duration)>,
    users: Vec<Weak<dyn TokenUser>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("region", &self.shared.region)
            .field("source", &self.shared.source.name())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Starts the thread. The first fetch begins at once; nobody waits for it.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        region: &str,
        source: Box<dyn CredentialSource>,
        seed: u64,
    ) -> Result<Self, std::io::Error> {
        let shared = Arc::new(Shared {
            region: region.to_owned(),
            source,
            state: Mutex::default(),
            counters: Counters::default(),
            stop: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            news: Notify::new(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let kept = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("credentials".into())
            .spawn(move || {
                runtime.block_on(keep(&kept, Schedule::new(seed)));
                // A resolver that does not answer must not hold up the end.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// A token, signed now from what is in memory.
    ///
    /// # Errors
    /// Why there is none: the clock, or what the source of the credentials said.
    pub fn token(&self) -> Result<LocalToken, String> {
        self.shared.token(clock::now().wall)
    }

    /// Hands tokens to `user` from now on, while it lives; the present one at once.
    pub fn subscribe(&self, user: &Arc<impl TokenUser + 'static>) {
        if let Ok(token) = self.token() {
            user.take_token(&token);
        }
        let weak: Weak<dyn TokenUser> = Arc::downgrade(user) as _;
        self.shared.state().users.push(weak);
    }

    /// A broker refused a token: other credentials may be there to be had. Never blocks.
    pub fn refused(&self) {
        self.shared.refused.store(true, Ordering::Release);
        self.shared.news.notify_one();
    }

    /// How it stands.
    pub fn health(&self) -> Health {
        self.shared.health(clock::now())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.news.notify_one();
        // A fetch that is under way is given up with the runtime, so the wait is short; but the last
        // owner may be the thread itself, by way of a client.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the thread \"credentials\" panicked: please report this with the log");
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn token(&self, wall: SystemTime) -> Result<LocalToken, String> {
        let (credentials, signing_time, trouble) = {
            let state = self.state();
            let signing_time = state.clock.signing_time(wall);
            (
                state.credentials.clone(),
                signing_time,
                state.trouble.clone(),
            )
        };
        let signing_time = signing_time.map_err(|unset| unset.to_string())?;
        let credentials = credentials.ok_or_else(|| {
            trouble
                .clone()
                .unwrap_or_else(|| "the first credentials are still on their way".into())
        })?;
        let token =
            token::sign(&self.region, &credentials, signing_time).map_err(
                |error| match trouble {
                    Some(trouble) => format!("{error}; no new ones: {trouble}"),
                    None => error.to_string(),
                },
            )?;
        count(&self.counters.tokens);
        let left = token
            .expires
            .duration_since(signing_time)
            .unwrap_or_default();
        let local = (wall + left).duration_since(SystemTime::UNIX_EPOCH);
        Ok(LocalToken {
            expires_local_ms: i64::try_from(local.unwrap_or_default().as_millis())
                .unwrap_or(i64::MAX),
            token,
        })
    }

    fn health(&self, now: Moment) -> Health {
        let state = self.state();
        let signing_time = state.clock.signing_time(now.wall).ok();
        let expiry = state.credentials.as_ref().map(Credentials::expiry);
        let left = |expiry: SystemTime| {
            let left = signing_time.map(|at| expiry.duration_since(at).unwrap_or_default());
            left.unwrap_or_default()
        };
        let left = expiry.flatten().map(left);
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let has_ended = left.is_some_and(|left| left.is_zero());
        Health {
            source: self.source.name().to_owned(),
            valid: expiry.is_some() && signing_time.is_some() && !has_ended,
            left_ms: left.map(millis),
            clock_offset_ms: state.clock.offset_ms(),
            last_failure: state.failed.as_ref().map(|(reason, at)| Failure {
                reason: reason.clone(),
                ago_ms: millis(now.mono.saturating_sub(*at)),
                mended: state.trouble.is_none(),
            }),
            ..Health::default()
        }
        .counted(&self.counters)
    }

    /// The users that are still there. Called without the lock held: a user may drop a client.
    fn users(&self) -> Vec<Arc<dyn TokenUser>> {
        let mut state = self.state();
        state.users.retain(|user| user.strong_count() > 0);
        state.users.iter().filter_map(Weak::upgrade).collect()
    }

    /// Signs and hands out a token.
    fn push(&self, now: Moment, schedule: &mut Schedule) {
        match self.token(now.wall) {
            Ok(token) => {
                schedule.made(now.mono, token.token.lifetime);
                for user in self.users() {
                    user.take_token(&token);
                }
            }
            Err(reason) => {
                tracing::debug!(reason, "no token");
                schedule.not_made();
            }
        }
    }

    /// Takes what was fetched. Returns whether it is somebody else's than what was there before.
    ///
    /// Nothing is logged while the lock is held: whoever reads the log may be slow, and clients wait
    /// for the lock.
    fn take(&self, fetched: Fetched) -> bool {
        let key_id = fetched.credentials.access_key_id().to_owned();
        let (before_ms, offset_ms, is_other, is_news) = {
            let mut state = self.state();
            let before_ms = state.clock.offset_ms().unwrap_or(0);
            if let Some((wall, server)) = fetched.said {
                state.clock.learn(wall, server);
            }
            let offset_ms = state.clock.offset_ms().unwrap_or(0);
            let before = state.identity.replace(fetched.identity.clone());
            let is_other = before.is_some_and(|before| before != fetched.identity);
            let is_news = state.credentials.is_none() || state.trouble.is_some() || is_other;
            state.credentials = Some(fetched.credentials);
            state.trouble = None;
            (before_ms, offset_ms, is_other, is_news)
        };
        count(&self.counters.fetched);
        let is_off = u128::from(offset_ms.unsigned_abs()) > OFFSET_LEAST.as_millis();
        if is_off && offset_ms.abs_diff(before_ms) > 1000 {
            tracing::warn!(
                offset_ms,
                "this device's clock is wrong (AWS's less ours); tokens are signed with the corrected time, set the clock"
            );
        }
        if is_news {
            tracing::info!(identity = fetched.identity, key_id, "credentials are here");
        }
        is_other
    }
}

/// The thread: waits for what is due next, in ticks, and does it.
async fn keep(shared: &Shared, mut schedule: Schedule) {
    let mut said: Option<Duration> = None;
    while !shared.stop.load(Ordering::Acquire) {
        let now = clock::now();
        let (step, signing_time) = {
            let mut state = shared.state();
            let step = state.clock.observe(now);
            (step, state.clock.signing_time(now.wall))
        };
        if let Some(step_ms) = step {
            count(&shared.counters.clock_steps);
            tracing::info!(step_ms, "the clock was set; tokens are made anew");
            schedule.stepped(now.mono);
        }
        if shared.refused.swap(false, Ordering::AcqRel) {
            schedule.refused(now.mono);
        }
        let until = match signing_time {
            Err(unset) => {
                let unset = unset.to_string();
                trouble(shared, &unset, &mut said, now.mono);
                now.mono + TICK
            }
            Ok(_) => match schedule.due(now.mono) {
                Due::Nothing(until) => until,
                Due::Token => {
                    shared.push(now, &mut schedule);
                    continue;
                }
                Due::Fetch => {
                    fetch(shared, &mut schedule, &mut said).await;
                    continue;
                }
            },
        };
        let wait = until.saturating_sub(now.mono).min(TICK);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.news.notified() => {}
        }
    }
}

async fn fetch(shared: &Shared, schedule: &mut Schedule, said: &mut Option<Duration>) {
    let mut asked = pin!(tokio::time::timeout(PATIENCE, shared.source.fetch()));
    let fetched = loop {
        tokio::select! {
            fetched = &mut asked => break fetched,
            () = shared.news.notified() => {
                if shared.stop.load(Ordering::Acquire) {
                    return;
                }
            }
        }
    };
    let now = clock::now();
    match fetched.unwrap_or(Err(SourceError::Late(PATIENCE.as_secs()))) {
        Ok(fetched) if left_of(&fetched, now) == Some(Duration::ZERO) => {
            // They may have told the time at least.
            if let Some((wall, server)) = fetched.said {
                shared.state().clock.learn(wall, server);
            }
            let ended = SourceError::Ended(match fetched.said {
                Some(_) => "does the source hold them back?",
                None => "is this device's clock ahead?",
            });
            failed(shared, schedule, said, (&ended, now));
        }
        Ok(fetched) => {
            let left = left_of(&fetched, now);
            let is_other = shared.take(fetched);
            *said = None;
            schedule.fetched(now.mono, left);
            if is_other {
                count(&shared.counters.principals_changed);
                tracing::info!(
                    "the credentials are of another principal; the Kafka client is made anew"
                );
                for user in shared.users() {
                    user.principal_changed();
                }
            }
            shared.push(now, schedule);
        }
        Err(error) => failed(shared, schedule, said, (&error, now)),
    }
}

/// What is left of credentials, by the clock of who gave them where that is known; none where they do
/// not end.
fn left_of(fetched: &Fetched, now: Moment) -> Option<Duration> {
    let server = fetched.said.map_or(now.wall, |(_, server)| server);
    let expiry = fetched.credentials.expiry()?;
    Some(expiry.duration_since(server).unwrap_or_default())
}

fn failed(
    shared: &Shared,
    schedule: &mut Schedule,
    said: &mut Option<Duration>,
    (error, now): (&SourceError, Moment),
) {
    schedule.failed(now.mono);
    let text = format!("{}: {error}", shared.source.name());
    trouble(shared, &health::bounded(&text), said, now.mono);
    // Behind the reason: whoever sees the number finds it.
    count(&shared.counters.failures);
}

/// Remembers why there are no credentials, and says so when it is new or was not said for long.
fn trouble(shared: &Shared, text: &str, said: &mut Option<Duration>, now: Duration) {
    let before = {
        let mut state = shared.state();
        state.failed = Some((text.to_owned(), now));
        state.trouble.replace(text.to_owned())
    };
    let is_due = said.is_none_or(|said| now.saturating_sub(said) >= REPEAT);
    if before.as_deref() != Some(text) || is_due {
        *said = Some(now);
        tracing::warn!(
            reason = text,
            "no credentials; it is tried again, later each time, and records are kept"
        );
    }
}

#[cfg(test)]
mod tests;
