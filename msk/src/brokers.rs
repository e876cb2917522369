//! Whether librdkafka knows of any broker still.
//!
//! A broker that comes back from a long pause or a restart may answer, for a moment, that the cluster
//! has no brokers. librdkafka from 2.10 on believes it: it drops all that it knows, those of
//! `bootstrap.servers` too, and where the answer comes at a bad moment it never asks them again
//! (confluentinc/librdkafka issue 5301, open). Such a client is silent for ever; it has to be made anew.

use std::sync::atomic::{AtomicU8, Ordering};

/// In how many statistics in a row no broker must be named: one may come while they are exchanged.
const IN_A_ROW: u8 = 2;

/// Looks through statistics for brokers.
#[derive(Debug, Default)]
pub struct Known {
    without: AtomicU8,
}

impl Known {
    /// Takes note of the statistics' brokers by their `source` (`learned`, `configured`, `internal`,
    /// `logical`: the last two are no brokers). `true`: the client has forgotten all of them, and is
    /// to be made anew.
    pub fn are_forgotten<'a>(&self, sources: impl IntoIterator<Item = &'a str>) -> bool {
        let named = (sources.into_iter()).any(|source| matches!(source, "learned" | "configured"));
        let without = match named {
            true => 0,
            false => self.without.load(Ordering::Relaxed).saturating_add(1),
        };
        self.without.store(without, Ordering::Relaxed);
        without >= IN_A_ROW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_forgotten_when_none_is_named_twice_in_a_row() {
        let known = Known::default();
        let none = ["internal", "logical"];
        assert!(!known.are_forgotten(["internal", "configured"]));
        assert!(!known.are_forgotten(none));
        assert!(!known.are_forgotten(["logical", "learned"]));
        assert!(!known.are_forgotten(none));
        assert!(known.are_forgotten(none));
        assert!(!known.are_forgotten(["learned"]));
    }
}
