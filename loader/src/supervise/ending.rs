//! How a membership ends, and when the next one begins.

use std::time::Duration;

use crate::backoff::Backoff;

/// A membership that held for so long was a success, milliseconds: longer than any wait before it.
const HELD_MS: u64 = 60_000;

/// How a membership ended.
pub(super) enum Left {
    Stopped,
    Again(String),
}

/// The membership is being ended: what is open is written first.
pub(super) struct Ending {
    pub(super) until: tokio::time::Instant,
    pub(super) left: Left,
}

impl Ending {
    pub(super) fn within(patience: Duration, left: Left) -> Self {
        Self {
            until: tokio::time::Instant::now() + patience,
            left,
        }
    }

    /// Whether nobody of this process takes the partitions up again.
    pub(super) fn stops(&self) -> bool {
        matches!(self.left, Left::Stopped)
    }

    /// How it is over while so many are at work; none while it is not.
    pub(super) fn over(&self, now: tokio::time::Instant, at_work: usize) -> Option<Over> {
        match &self.left {
            _ if at_work == 0 => Some(Over::Written),
            _ if now < self.until => None,
            Left::Stopped => Some(Over::CutOff("the stop took")),
            Left::Again(_) => Some(Over::CutOff("writing what is open took")),
        }
    }
}

/// How it came out that a membership was ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// All have ended.
    Written,
    /// Some are cut off: what took too long.
    CutOff(&'static str),
}

impl Over {
    pub(super) fn say(&self) {
        if let Self::CutOff(what) = self {
            tracing::warn!("{what} too long; what was not committed is read again");
        }
    }
}

/// How long to wait before the group is joined again.
#[derive(Debug)]
pub(super) struct Rejoin(Backoff);

impl Rejoin {
    pub(super) fn new(seed: u64) -> Self {
        Self(Backoff::new(seed))
    }

    /// The wait behind a membership that held for so long: one that held for a while was a success, and what
    /// came before it counts no more.
    pub(super) fn wait_behind(&mut self, held_ms: u64) -> Duration {
        if held_ms >= HELD_MS {
            self.0.reset();
        }
        self.0.next_wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_workers_were_cut_off_is_said_whatever_ends_the_wait() {
        let ends = |left| Ending::within(Duration::ZERO, left);
        let (stop, again) = (ends(Left::Stopped), ends(Left::Again("a doubt".to_owned())));
        let before = stop.until.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(stop.over(before, 1), None);
        assert_eq!(stop.over(before, 0), Some(Over::Written));
        assert_eq!(stop.over(stop.until, 0), Some(Over::Written));
        let cut_off = stop.over(stop.until, 1);
        assert_eq!(cut_off, Some(Over::CutOff("the stop took")));
        assert!(matches!(
            again.over(again.until, 1),
            Some(Over::CutOff(what)) if what != "the stop took"
        ));
    }

    #[test]
    fn a_membership_that_held_makes_the_next_wait_short_again() {
        let mut rejoin = Rejoin::new(7);
        let short = Duration::from_millis(500);
        let in_a_row: Vec<Duration> = (0..20).map(|_| rejoin.wait_behind(HELD_MS - 1)).collect();
        assert!(in_a_row.iter().any(|wait| *wait > 10 * short));
        assert!(rejoin.wait_behind(HELD_MS) < short);
        let again: Vec<Duration> = (0..20).map(|_| rejoin.wait_behind(0)).collect();
        assert!(again.iter().any(|wait| *wait > 10 * short));
    }
}
