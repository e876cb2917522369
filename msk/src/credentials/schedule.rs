//! When credentials are fetched and tokens are made. Pure: monotonic time in, what is due out.
//!
//! ```text
//!   credentials |------------------ life --------------------|
//!   fetched ────┘             50 %  next fetch  80 %    5 min before the end, where life allows
//!   token       |------- lifetime (900 s at most) ------|
//!   made ───────┘             50 %  next token  70 %    before librdkafka's own 80 %
//! ```
//!
//! - Early: MSK ends a session with its credentials, and refuses one that would be short.
//! - Spread by chance: a fleet that was switched on together does not ask together. AWS IoT and a
//!   broker (100 new IAM connections a second) both have limits.
//! - A failed fetch is tried again after a wait with full jitter, uniform in [0, bound], the bound
//!   doubling from 1 s to 60 s.

use std::time::Duration;

/// Credentials are replaced at least this long before they end, where they live long enough.
const EARLY: Duration = Duration::from_secs(300);
/// How often credentials without an end are looked up again: a rotated key in a file is noticed.
const FOREVER_LOOK: Duration = Duration::from_secs(300);
/// First and last bound of the wait after a failure.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);
/// After a broker refused a token, credentials are fetched again within this time, unless the last
/// fetch is younger than the least: where a policy is wrong new ones help nobody, and a fleet must not
/// ask for them all the time.
const REFUSED_SPREAD: Duration = Duration::from_secs(10);
const REFUSED_LEAST: Duration = Duration::from_secs(150);
/// Shortest wait of any kind, so that a broken source is no busy loop.
const WAIT_LEAST: Duration = Duration::from_millis(200);
/// Shortest wait between two fetches that bring something: a source that keeps what it gave until the end
/// is asked ever more often towards it.
const FETCH_LEAST: Duration = Duration::from_secs(1);
/// After the clock was set, credentials are fetched again within this time.
const STEP_SPREAD: Duration = Duration::from_secs(2);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Fetch credentials.
    Fetch,
    /// Make a token of those there are.
    Token,
    /// Nothing before this time.
    Nothing(Duration),
}

/// The two deadlines.
#[derive(Debug, Clone)]
pub struct Schedule {
    random: u64,
    fetch: Duration,
    fetched: Option<Duration>,
    token: Option<Duration>,
    failures: u32,
}

impl Schedule {
    /// A first fetch is due at once. `seed` decides all waits.
    pub fn new(seed: u64) -> Self {
        Self {
            random: seed,
            fetch: Duration::ZERO,
            fetched: None,
            token: None,
            failures: 0,
        }
    }

    /// What is due at `now`.
    pub fn due(&self, now: Duration) -> Due {
        if self.fetch <= now {
            return Due::Fetch;
        }
        match self.token {
            Some(token) if token <= now => Due::Token,
            Some(token) => Due::Nothing(self.fetch.min(token)),
            None => Due::Nothing(self.fetch),
        }
    }

    /// Credentials came, which live for `left`, or for ever.
    pub fn fetched(&mut self, now: Duration, left: Option<Duration>) {
        self.failures = 0;
        self.fetched = Some(now);
        let wait = match left {
            None => self.between(FOREVER_LOOK / 2, FOREVER_LOOK),
            Some(left) => {
                let (from, to) = (left / 2, left / 10 * 8);
                let early = left.saturating_sub(EARLY).max(from);
                self.between(from, to.min(early))
            }
        };
        self.fetch = now + wait.max(FETCH_LEAST);
        self.token = Some(now);
    }

    /// No credentials came.
    pub fn failed(&mut self, now: Duration) {
        let bound = RETRY_FIRST * 2_u32.saturating_pow(self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        let wait = self.between(Duration::ZERO, bound.min(RETRY_LAST));
        self.fetch = now + wait.max(WAIT_LEAST);
    }

    /// A token was made that lives for `lifetime`.
    pub fn made(&mut self, now: Duration, lifetime: Duration) {
        let wait = self.between(lifetime / 2, lifetime / 10 * 7);
        self.token = Some(now + wait.max(WAIT_LEAST));
    }

    /// No token could be made: the next credentials will make one.
    pub fn not_made(&mut self) {
        self.token = None;
    }

    /// The wall clock was set: what was signed may be refused, what was fetched be over.
    pub fn stepped(&mut self, now: Duration) {
        let soon = now + self.between(Duration::ZERO, STEP_SPREAD);
        self.fetch = self.fetch.min(soon);
        self.token = Some(now);
    }

    /// A broker refused a token: the credentials may be revoked, and there may be others.
    pub fn refused(&mut self, now: Duration) {
        let Some(fetched) = self.fetched else {
            return; // There are none to doubt, and they are being fetched.
        };
        let soon = now + self.between(Duration::ZERO, REFUSED_SPREAD);
        let least = fetched + self.between(REFUSED_LEAST, 2 * REFUSED_LEAST);
        self.fetch = self.fetch.min(soon.max(least));
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Uniform in `[from, to]`.
    fn between(&mut self, from: Duration, to: Duration) -> Duration {
        // SplitMix64 (Steele, Lea, Flood 2014): chance enough to spread a fleet.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let span = u64::try_from(to.saturating_sub(from).as_millis()).unwrap_or(u64::MAX);
        from + Duration::from_millis(z % span.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn fetch_after(seed: u64, left: Option<Duration>) -> Duration {
        let mut schedule = Schedule::new(seed);
        assert_eq!(schedule.due(Duration::ZERO), Due::Fetch);
        schedule.fetched(HOUR, left);
        schedule.fetch - HOUR
    }

    proptest! {
        #[test]
        fn credentials_are_replaced_early_and_not_all_at_once(seed: u64, left in 2_u64..50_000) {
            let left = Duration::from_secs(left);
            let wait = fetch_after(seed, Some(left));
            prop_assert!(wait >= left / 2 && wait <= left / 10 * 8, "{wait:?} of {left:?}");
            if left >= 2 * EARLY {
                prop_assert!(left - wait >= EARLY, "{wait:?} of {left:?}");
            }
        }

        #[test]
        fn a_token_is_replaced_before_librdkafka_asks(seed: u64, lifetime in 1_u64..=900) {
            let lifetime = Duration::from_secs(lifetime);
            let mut schedule = Schedule::new(seed);
            schedule.fetched(HOUR, None);
            prop_assert_eq!(schedule.due(HOUR), Due::Token);
            schedule.made(HOUR, lifetime);
            let Due::Nothing(until) = schedule.due(HOUR) else { panic!("nothing is due") };
            let wait = until - HOUR;
            let librdkafka = lifetime / 10 * 8;
            prop_assert!(wait <= FOREVER_LOOK && wait < librdkafka.max(Duration::from_secs(1)));
        }

        #[test]
        fn waits_after_failures_are_spread_and_bounded(seed: u64, failures in 1_u32..40) {
            let mut schedule = Schedule::new(seed);
            for n in 0..failures {
                let now = HOUR * n;
                schedule.failed(now);
                let bound = (RETRY_FIRST * 2_u32.pow(n.min(6))).min(RETRY_LAST);
                prop_assert!(schedule.fetch > now && schedule.fetch <= now + bound);
            }
            prop_assert_eq!(schedule.failures(), failures);
            schedule.fetched(HOUR, None);
            prop_assert_eq!(schedule.failures(), 0);
        }
    }

    #[test]
    fn a_fleet_does_not_ask_at_the_same_time() {
        let mut waits: Vec<_> = (0..100).map(|seed| fetch_after(seed, Some(HOUR))).collect();
        waits.sort_unstable();
        waits.dedup();
        assert!(waits.len() > 90, "{} different waits of 100", waits.len());
    }

    #[test]
    fn a_source_that_gives_the_same_until_its_end_is_not_asked_all_the_time() {
        for left in [0, 1, 500, 1500] {
            let wait = fetch_after(left, Some(Duration::from_millis(left)));
            assert!(wait >= FETCH_LEAST, "{wait:?} of {left} ms");
        }
    }

    #[test]
    fn without_credentials_no_token_is_due() {
        let mut schedule = Schedule::new(1);
        schedule.fetched(HOUR, Some(HOUR));
        schedule.not_made();
        assert_eq!(schedule.due(HOUR), Due::Nothing(schedule.fetch));
    }

    #[test]
    fn a_refusal_brings_the_fetch_forward_but_not_again_and_again() {
        for seed in 0..100 {
            let mut schedule = Schedule::new(seed);
            schedule.refused(Duration::ZERO);
            assert_eq!(schedule.due(Duration::ZERO), Due::Fetch);
            schedule.fetched(HOUR, Some(12 * HOUR));
            let planned = schedule.fetch;
            let late = HOUR + 2 * REFUSED_LEAST;
            schedule.refused(late);
            assert!(schedule.fetch < planned && schedule.fetch >= late);
            assert!(schedule.fetch <= late + REFUSED_SPREAD);
            schedule.fetched(late, Some(12 * HOUR));
            schedule.refused(late + Duration::from_secs(1));
            let wait = schedule.fetch - late;
            assert!(
                wait >= REFUSED_LEAST && wait <= 2 * REFUSED_LEAST,
                "{wait:?}"
            );
        }
    }

    #[test]
    fn a_clock_that_was_set_brings_both_forward() {
        let mut schedule = Schedule::new(1);
        schedule.fetched(HOUR, Some(HOUR));
        schedule.made(HOUR, Duration::from_secs(900));
        let now = HOUR + Duration::from_secs(1);
        schedule.stepped(now);
        assert_eq!(schedule.due(now), Due::Token);
        assert_eq!(schedule.due(now + STEP_SPREAD), Due::Fetch);
    }
}
