//! Where each partition of an assignment starts and ends, asked of the brokers one by one. That happens in the
//! rebalance callback, on the poll thread: partitions without a leader answer late or never, and there may be any
//! number of them. So it is bounded in time, and the poll thread is seen to go on with each question.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// How long the broker may take to answer a question in a callback.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// After so long in one callback nobody is asked any more: the poll thread has to poll. Together with one more
/// question it stays far below `max.poll.interval.ms`.
const PATIENCE_TOGETHER: Duration = Duration::from_secs(60);
/// How long the brokers may take to say where a partition starts, once another had no leader to say so.
const PATIENCE_WITHOUT_LEADER: Duration = Duration::from_secs(1);

/// The questions of one assignment.
#[derive(Debug)]
pub(super) struct Asking<'a, C> {
    clock_ms: C,
    polled_ms: &'a AtomicU64,
    begun_ms: u64,
    patience: Duration,
}

impl<'a, C: Fn() -> u64> Asking<'a, C> {
    /// Begins now. `clock_ms`: the monotonic clock; `polled_ms`: when the poll thread last looked up, on that one.
    pub(super) fn begin(clock_ms: C, polled_ms: &'a AtomicU64) -> Self {
        let begun_ms = clock_ms();
        Self {
            clock_ms,
            polled_ms,
            begun_ms,
            patience: PATIENCE,
        }
    }

    /// Asks where the next partition starts and ends: `ask` gets how long that may take.
    ///
    /// # Errors
    /// What `ask` says, and a time-out where all together have taken too long already: then nobody is asked.
    pub(super) fn ask(
        &mut self,
        ask: impl FnOnce(Duration) -> Result<(i64, i64), KafkaError>,
    ) -> Result<(i64, i64), KafkaError> {
        let now_ms = (self.clock_ms)();
        self.polled_ms.store(now_ms.max(1), Ordering::Release);
        let asked_ms = u128::from(now_ms.saturating_sub(self.begun_ms));
        if asked_ms >= PATIENCE_TOGETHER.as_millis() {
            return Err(KafkaError::MetadataFetch(
                RDKafkaErrorCode::OperationTimedOut,
            ));
        }
        let answer = ask(self.patience);
        if answer.is_err() {
            // The callback holds up the others.
            self.patience = PATIENCE_WITHOUT_LEADER;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// What `/healthz` takes for a hang, milliseconds.
    const HANG_MS: u64 = 60_000;

    #[test]
    fn the_poll_thread_is_seen_to_go_on_however_many_partitions_have_no_leader() {
        let (clock_ms, polled_ms) = (Cell::new(7), AtomicU64::new(7));
        let mut asking = Asking::begin(|| clock_ms.get(), &polled_ms);
        let (mut asked, mut silent_ms) = (0, 0);
        for _ in 0..100 {
            let answer = asking.ask(|patience| {
                asked += 1;
                clock_ms.set(clock_ms.get() + u64::try_from(patience.as_millis()).unwrap());
                Err(KafkaError::MetadataFetch(
                    RDKafkaErrorCode::OperationTimedOut,
                ))
            });
            assert!(answer.is_err());
            silent_ms = silent_ms.max(clock_ms.get() - polled_ms.load(Ordering::Acquire));
        }
        assert_eq!(silent_ms, 15_000, "the first question may take so long");
        assert_eq!(asked, 46);
        let together_ms = clock_ms.get() - 7;
        assert_eq!(together_ms, HANG_MS, "so without a word it would be one");
    }

    #[test]
    fn those_that_have_a_leader_are_all_asked() {
        let polled_ms = AtomicU64::new(0);
        let mut asking = Asking::begin(|| 0, &polled_ms);
        for partition in 0..1000 {
            let answer = asking.ask(|patience| {
                assert_eq!(patience, PATIENCE);
                Ok((partition, 2000))
            });
            assert_eq!(answer.unwrap(), (partition, 2000));
        }
        assert_eq!(
            polled_ms.load(Ordering::Acquire),
            1,
            "0 says that nobody polls"
        );
    }
}
