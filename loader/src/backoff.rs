//! How long to wait before another try: exponential, with full jitter, so that many loaders that
//! failed together do not try again together.

use std::time::Duration;

/// First ceiling, milliseconds.
const FIRST_MS: u64 = 500;
/// Last ceiling, milliseconds.
const LAST_MS: u64 = 15_000;

/// Counts failures in a row.
#[derive(Debug, Clone)]
pub struct Backoff {
    failures: u32,
    state: u64,
}

impl Backoff {
    /// `seed`: anything that differs between the ones that wait.
    pub fn new(seed: u64) -> Self {
        Self {
            failures: 0,
            state: seed | 1,
        }
    }

    /// The wait after one more failure: between a tenth of the ceiling and the ceiling.
    pub fn next_wait(&mut self) -> Duration {
        let ceiling = LAST_MS.min(FIRST_MS << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        // xorshift64: any jitter will do.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        Duration::from_millis(ceiling / 10 + self.state % (ceiling - ceiling / 10))
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_ceiling_and_start_again() {
        let mut backoff = Backoff::new(7);
        let first = backoff.next_wait();
        assert!((50..500).contains(&first.as_millis()));
        let later: Vec<u128> = (0..40).map(|_| backoff.next_wait().as_millis()).collect();
        assert!(later.iter().all(|ms| *ms < 15_000));
        assert!(later.iter().any(|ms| *ms > 7_500));
        backoff.reset();
        assert!(backoff.next_wait().as_millis() < 500);
    }
}
