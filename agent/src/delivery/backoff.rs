//! How long to wait before the next try: doubling, with full jitter, so that a fleet that lost its
//! broker together does not come back together.
//!
//! Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter").

/// Wait before the second try at most, milliseconds.
const FIRST_MS: u64 = 1000;
/// Longest wait, milliseconds.
const LONGEST_MS: u64 = 60_000;
/// Shortest wait, milliseconds: full jitter alone may draw none at all, again and again.
const SHORTEST_MS: u64 = 100;

/// A seeded generator of random numbers (SplitMix64: Steele, Lea, Flood, OOPSLA 2014). Good enough
/// to spread waits; nothing secret is made of it.
#[derive(Debug, Clone)]
pub struct Jitter {
    state: u64,
}

impl Jitter {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// How often something failed in a row.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure and returns how long to wait, milliseconds.
    pub fn next_ms(&mut self, jitter: &mut Jitter) -> u64 {
        self.next_ms_below(LONGEST_MS, jitter)
    }

    /// The same with another longest wait, milliseconds.
    pub fn next_ms_below(&mut self, longest_ms: u64, jitter: &mut Jitter) -> u64 {
        let ceiling = FIRST_MS
            .saturating_mul(1 << self.failures.min(16))
            .min(longest_ms);
        self.failures = self.failures.saturating_add(1);
        SHORTEST_MS + jitter.draw() % (ceiling - SHORTEST_MS + 1)
    }

    /// It worked: the next failure is a first one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_differ_by_seed() {
        let waits = |seed| {
            let (mut backoff, mut jitter) = (Backoff::default(), Jitter::new(seed));
            (0..100)
                .map(|_| backoff.next_ms(&mut jitter))
                .collect::<Vec<_>>()
        };
        let (a, b) = (waits(1), waits(2));
        assert_ne!(a, b);
        assert_eq!(a, waits(1));
        for (i, wait) in a.iter().enumerate() {
            assert!(
                (SHORTEST_MS..=LONGEST_MS.min(FIRST_MS << i.min(16))).contains(wait),
                "{i}: {wait}"
            );
        }
        assert!(a.iter().max() > Some(&(LONGEST_MS / 2)), "it grows");
    }

    #[test]
    fn success_starts_anew() {
        let (mut backoff, mut jitter) = (Backoff::default(), Jitter::new(3));
        for _ in 0..20 {
            backoff.next_ms(&mut jitter);
        }
        backoff.reset();
        assert!(backoff.next_ms(&mut jitter) <= FIRST_MS);
    }
}
