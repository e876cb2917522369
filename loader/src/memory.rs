//! What the loader's memory is for, planned before the first record: one bound for the whole
//! process, split into parts that are each enforced where they grow. A plan that does not fit is
//! refused at the start, not found out by the kernel at night.
//!
//! | part | what holds it |
//! |---|---|
//! | base | the program, its threads, TLS, the client's own buffers |
//! | fetch | librdkafka's queue (`queued.max.messages.kbytes`); small records take four times their bytes there |
//! | hand-over | [`crate::consume::prefetch`]; up to twice its bound |
//! | batches | [`crate::staging`]: open and closing batches of all partitions |
//! | gaps | nobody: memory that was given back between what lives, and that nothing fits in |

use thiserror::Error;

const MIB: u64 = 1024 * 1024;
/// Program, threads, allocator, TLS and HTTP: an idle loader of 16 partitions takes about 30 MiB.
const BASE: u64 = 48 * MIB;
/// What a fetched byte costs in librdkafka's queue, for records of 75 bytes.
const FETCH_COST: u64 = 4;
/// A hand-over may reach twice its bound.
const HAND_OVER_COST: u64 = 2;
/// What batches may hold of what is left, in tenths. The rest are the allocator's gaps: with 500 open
/// objects in each of eight partitions it held at most 212 MiB for 160 MiB of batches and 16 MiB of
/// hand-overs; jemalloc and mimalloc held no less.
const BATCH_TENTHS: u64 = 7;
/// The least that leaves enough for batches to make more than tiny objects.
const TOTAL_MIN: u64 = 80 * MIB;

/// The parts, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The whole.
    pub total: u64,
    /// Fetched bytes that librdkafka may queue.
    pub fetch: u64,
    /// Bound of the hand-overs.
    pub hand_over: u64,
    /// Open and closing batches.
    pub batches: u64,
}

/// A plan that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// Less than the program itself needs.
    #[error("limits.memory is {}: {} are the least", headwater_msk::Bytes(*.0), headwater_msk::Bytes(TOTAL_MIN))]
    TooSmall(u64),
    /// More than the machine, or its control group, gives.
    #[error(
        "limits.memory is {}, and this process may use {} (its control group, or the machine); lower limits.memory, or give it more",
        headwater_msk::Bytes(*.asked), headwater_msk::Bytes(*.there)
    )]
    NotThere {
        /// `limits.memory`.
        asked: u64,
        /// What there is.
        there: u64,
    },
    /// Two batches do not fit.
    #[error(
        "flush.bytes is {}, and limits.memory leaves {} for batches: one that fills and one that closes must fit. Set flush.bytes to {} at most, or raise limits.memory",
        headwater_msk::Bytes(*.flush), headwater_msk::Bytes(*.batches), headwater_msk::Bytes(*.batches / 2)
    )]
    Flush {
        /// `flush.bytes`.
        flush: u64,
        /// What is left for batches.
        batches: u64,
    },
}

impl MemoryPlan {
    /// Splits `total`. `there`: what this process may use, where that is known. `flush`: bytes of one
    /// batch.
    ///
    /// # Errors
    /// See [`MemoryError`].
    pub fn new(total: u64, there: Option<u64>, flush: u64) -> Result<Self, MemoryError> {
        let fetch = (total / 32).clamp(2 * MIB, 32 * MIB);
        let hand_over = (total / 32).clamp(2 * MIB, 32 * MIB);
        let elsewhere = BASE + FETCH_COST * fetch + HAND_OVER_COST * hand_over;
        let batches = total.saturating_sub(elsewhere) / 10 * BATCH_TENTHS;
        if total < TOTAL_MIN {
            return Err(MemoryError::TooSmall(total));
        }
        if let Some(there) = there.filter(|there| *there < total) {
            let asked = total;
            return Err(MemoryError::NotThere { asked, there });
        }
        if flush.saturating_mul(2) > batches {
            return Err(MemoryError::Flush { flush, batches });
        }
        Ok(Self {
            total,
            fetch,
            hand_over,
            batches,
        })
    }
}

/// What this process may use: the least of the machine's memory and the limits of its control groups
/// (version 2). `None` where the system does not say.
pub fn there() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let machine = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map(|kib| kib * 1024);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or("/");
    let limits = std::path::Path::new(own).ancestors().filter_map(|group| {
        let group = group.strip_prefix("/").unwrap_or(group);
        let file = std::path::Path::new("/sys/fs/cgroup")
            .join(group)
            .join("memory.max");
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    });
    limits.chain(machine).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_refused_where_it_does_not_fit() {
        let plan = MemoryPlan::new(256 * MIB, Some(512 * MIB), 32 * MIB).unwrap();
        assert_eq!((plan.fetch, plan.batches), (8 * MIB, 112 * MIB));
        for (total, there, flush) in [
            (79 * MIB, None, MIB),
            (256 * MIB, Some(200 * MIB), MIB),
            (256 * MIB, None, 57 * MIB),
        ] {
            assert!(MemoryPlan::new(total, there, flush).is_err());
        }
        assert!(MemoryPlan::new(96 * MIB, None, 8 * MIB).is_ok());
    }

    #[test]
    fn a_machine_has_memory() {
        assert!(there().is_some_and(|there| there > MIB));
    }
}
