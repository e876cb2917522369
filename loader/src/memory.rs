//! What the loader's memory is for, planned before the first record: one bound for the whole
//! process, split into parts that are each enforced where they grow. A plan that does not fit is
//! refused at the start, not found out by the kernel at night.
//!
//! | part | what holds it |
//! |---|---|
//! | base | the program, its threads, TLS, the client's own buffers, contexts of compression ([`crate::encode`]) |
//! | fetch | librdkafka's queue (`queued.max.messages.kbytes`); small records take four times their bytes there |
//! | hand-over | [`crate::consume::prefetch`]; up to twice its bound |
//! | tables | those of `lookup`; with `tables.reload` four versions: the first, the one in use, a new one, and room to grow ([`crate::tables`]) |
//! | parquet | files that are made when a batch closes: as many at once as it has room for ([`crate::encode::parquet`]) |
//! | items | requests to DynamoDB that are under way, over all partitions ([`crate::store::dynamodb`]) |
//! | batches | [`crate::staging`]: open and closing batches of all partitions, and what is known of these: ledgers, open windows, accounts |
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
/// objects in each of eight partitions the process had 256 MiB of anonymous memory for 160 MiB of batches;
/// jemalloc and mimalloc held no less (docs/benchmarks.md).
const BATCH_TENTHS: u64 = 7;
/// Versions of the tables that there is room for where they are read again.
const TABLE_VERSIONS: u64 = 4;
/// Room for tables that are read again and are small now.
const TABLES_MIN: u64 = 4 * MIB;
/// What one Parquet file takes while it is made beside its packed row group: four bytes for each cell, of which one in
/// eight bytes at most, and the pages of a column.
const PAGES: u64 = 8 * MIB;
/// What row groups are made no larger than where nothing is set: what Athena's guide advises.
const ROW_GROUP_MAX: u64 = 128 * MIB;
/// And no smaller.
const ROW_GROUP_MIN: u64 = MIB;
/// The least that leaves enough for batches to make more than tiny objects.
const TOTAL_MIN: u64 = 80 * MIB;
/// The least that `flush.bytes` may be.
const FLUSH_MIN: u64 = 64 * 1024;

/// The parts, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The whole.
    pub total: u64,
    /// Fetched bytes that librdkafka may queue.
    pub fetch: u64,
    /// Bound of the hand-overs.
    pub hand_over: u64,
    /// Tables, in all versions that are in use.
    pub tables: u64,
    /// Requests to DynamoDB that are under way; 0 where there are none.
    pub items: u64,
    /// Parquet files that are being made, all together; 0 where there are none.
    pub parquet: u64,
    /// Packed bytes of a row group.
    pub row_group: u64,
    /// Parquet files that are made at once.
    pub makers: u64,
    /// Open and closing batches, and the state of partitions.
    pub batches: u64,
}

/// What a configuration needs memory for, beside its records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of one batch.
    pub flush: u64,
    /// Bytes that its tables take as they are: as they lie there, and made ready.
    pub tables: u64,
    /// Whether they are read again.
    pub reload: bool,
    /// Whether rows go to DynamoDB, too.
    pub items: bool,
    /// Where rows are written as Parquet: by how many cores, at most,
    pub parquet: Option<u64>,
    /// and the size of a row group that is set.
    pub row_group: Option<u64>,
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
        "flush.bytes is {}, and limits.memory leaves {} for batches{}: one that fills and one that closes must fit. Set {}limits.memory to {} at least",
        headwater_msk::Bytes(*.flush), headwater_msk::Bytes(*.batches), beside(*.tables, *.items, *.parquet), smaller(*.batches), headwater_msk::Bytes(*.least)
    )]
    Flush {
        /// `flush.bytes`.
        flush: u64,
        /// What is left for batches.
        batches: u64,
        /// What tables take.
        tables: u64,
        /// What requests to DynamoDB take.
        items: u64,
        /// What Parquet files take while they are made.
        parquet: u64,
        /// What `limits.memory` would have to be.
        least: u64,
    },
}

impl MemoryPlan {
    /// Splits `total`. `there`: what this process may use, where that is known.
    ///
    /// # Errors
    /// See [`MemoryError`].
    pub fn new(total: u64, there: Option<u64>, needs: Needs) -> Result<Self, MemoryError> {
        let plan = Self::split(total, needs);
        let (flush, batches) = (needs.flush, plan.batches);
        if total < TOTAL_MIN {
            return Err(MemoryError::TooSmall(total));
        }
        if let Some(there) = there.filter(|there| *there < total) {
            let asked = total;
            return Err(MemoryError::NotThere { asked, there });
        }
        if flush.saturating_mul(2) > batches {
            return Err(MemoryError::Flush {
                flush,
                batches,
                tables: plan.tables,
                items: plan.items,
                parquet: plan.parquet,
                least: Self::least(total, needs),
            });
        }
        Ok(plan)
    }

    /// The parts of `total`; what is not there is taken from batches.
    fn split(total: u64, needs: Needs) -> Self {
        let fetch = (total / 32).clamp(2 * MIB, 32 * MIB);
        let hand_over = (total / 32).clamp(2 * MIB, 32 * MIB);
        let tables = match needs.reload {
            true => needs.tables.saturating_mul(TABLE_VERSIONS).max(TABLES_MIN),
            false => needs.tables,
        };
        let tables = tables.checked_next_multiple_of(MIB).unwrap_or(tables);
        let items = match needs.items {
            true => (total / 16).clamp(4 * MIB, 32 * MIB),
            false => 0,
        };
        let elsewhere = BASE + FETCH_COST * fetch + HAND_OVER_COST * hand_over + items;
        let left = total.saturating_sub(elsewhere).saturating_sub(tables);
        let (row_group, makers) = needs.parquet(left);
        let parquet = makers.saturating_mul(maker(row_group));
        let left = left.saturating_sub(parquet);
        Self {
            total,
            fetch,
            hand_over,
            tables,
            items,
            parquet,
            row_group,
            makers,
            batches: left / 10 * BATCH_TENTHS / 1024 * 1024,
        }
    }

    /// The least whole MiB above `total` that two batches fit in.
    fn least(total: u64, needs: Needs) -> u64 {
        let wanted = needs.flush.saturating_mul(2);
        let mut total = total.next_multiple_of(MIB);
        // Batches get half of what is added, at least.
        while let missing @ 1.. = wanted.saturating_sub(Self::split(total, needs).batches) {
            total = total.saturating_add(missing.next_multiple_of(MIB));
        }
        total
    }
}

impl Needs {
    /// Packed bytes of a row group, and how many Parquet files are made at once, of what is `left` for them and batches:
    /// a third, where batches do without it.
    fn parquet(&self, left: u64) -> (u64, u64) {
        let Some(cores) = self.parquet else {
            return (ROW_GROUP_MIN, 0);
        };
        let batches = self.flush.saturating_mul(2) / BATCH_TENTHS * 10;
        let third = left.saturating_mul(35) / 100;
        let spare = third.min(left.saturating_sub(batches));
        let fits = spare.saturating_sub(PAGES) / 3 * 2 / MIB * MIB;
        let row_group = self
            .row_group
            .unwrap_or(fits.clamp(ROW_GROUP_MIN, ROW_GROUP_MAX));
        (row_group, (spare / maker(row_group)).clamp(1, cores.max(1)))
    }
}

/// What making one Parquet file takes: see [`PAGES`].
fn maker(row_group: u64) -> u64 {
    (row_group / 2).saturating_mul(3).saturating_add(PAGES)
}

/// What took the room of batches, for a message.
fn beside(tables: u64, items: u64, parquet: u64) -> String {
    let bytes = headwater_msk::Bytes;
    let of = |n: u64, what: &str| match n {
        0 => String::new(),
        n => format!(", {what} {}", bytes(n)),
    };
    of(tables, "beside tables of")
        + &of(items, "beside requests to DynamoDB of")
        + &of(parquet, "beside Parquet's row groups of")
}

/// What `flush.bytes` could be, where it could.
fn smaller(batches: u64) -> String {
    match batches / 2 {
        0..FLUSH_MIN => String::new(),
        half => format!(
            "flush.bytes to {} at most, or ",
            headwater_msk::Bytes(half / 1024 * 1024)
        ),
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
        let batch = |flush: u64| Needs {
            flush,
            ..Needs::default()
        };
        let plan = MemoryPlan::new(256 * MIB, Some(512 * MIB), batch(32 * MIB)).unwrap();
        assert_eq!((plan.fetch, plan.batches), (8 * MIB, 112 * MIB));
        for (total, there, flush) in [
            (79 * MIB, None, MIB),
            (256 * MIB, Some(200 * MIB), MIB),
            (256 * MIB, None, 57 * MIB),
        ] {
            assert!(MemoryPlan::new(total, there, batch(flush)).is_err());
        }
        assert!(MemoryPlan::new(96 * MIB, None, batch(8 * MIB)).is_ok());
    }

    #[test]
    fn tables_and_items_take_the_room_of_batches_and_what_would_fit_is_said() {
        let needs = |tables: u64, reload: bool, items: bool| Needs {
            flush: 32 * MIB,
            tables,
            reload,
            items,
            ..Needs::default()
        };
        let plan = |needs: Needs| MemoryPlan::new(256 * MIB, None, needs);
        let split = |needs: Needs| plan(needs).map(|plan| (plan.tables, plan.items, plan.batches));
        // What is left, less the gaps.
        let batches = |left: u64| left * MIB / 10 * BATCH_TENTHS / 1024 * 1024;
        let parts =
            |tables: u64, items: u64, left: u64| Ok((tables * MIB, items * MIB, batches(left)));
        assert_eq!(split(needs(10 * MIB, false, false)), parts(10, 0, 150));
        assert_eq!(split(needs(10 * MIB, true, true)), parts(40, 16, 104));
        assert_eq!(split(needs(9, true, false)), parts(4, 0, 156));
        let told = |needs: Needs| plan(needs).unwrap_err().to_string();
        let said = told(needs(30 * MIB, true, true));
        for part in [
            "beside tables of 120MiB",
            "beside requests to DynamoDB of 16MiB",
            "flush.bytes to 8601KiB at most",
            "limits.memory to ",
        ] {
            assert!(said.contains(part), "{said}");
        }
        let said = told(needs(60 * MIB, true, false));
        assert!(!said.contains("at most"), "{said}");
        // What is named does, and a MiB less does not.
        for needs in [needs(30 * MIB, true, true), needs(800 * MIB, true, false)] {
            let Err(MemoryError::Flush { least, .. }) = plan(needs) else {
                panic!("it fits");
            };
            assert!(MemoryPlan::new(least, None, needs).is_ok());
            assert!(MemoryPlan::new(least - 2 * MIB, None, needs).is_err());
        }
    }

    #[test]
    fn row_groups_are_as_large_as_memory_allows() {
        let needs = |row_group: Option<u64>| Needs {
            flush: 32 * MIB,
            parquet: Some(4),
            row_group,
            ..Needs::default()
        };
        let plan = |total: u64, row_group: Option<u64>| -> Result<_, MemoryError> {
            let plan = MemoryPlan::new(total * MIB, None, needs(row_group))?;
            Ok((plan.row_group / MIB, plan.makers, plan.parquet / MIB))
        };
        assert_eq!(plan(256, None), Ok((32, 1, 56)));
        assert_eq!(plan(1024, None), Ok((128, 1, 200)));
        assert_eq!(plan(8192, None), Ok((128, 4, 800)));
        // What batches need goes first, and files are made all the same.
        assert_eq!(plan(200, None), Ok((10, 1, 23)));
        // What is set is what is made, and refused where it does not fit.
        assert_eq!(plan(256, Some(16 * MIB)), Ok((16, 1, 32)));
        assert_eq!(plan(1024, Some(16 * MIB)), Ok((16, 4, 128)));
        let said = plan(256, Some(64 * MIB)).unwrap_err().to_string();
        assert!(
            said.contains("beside Parquet's row groups of 104MiB"),
            "{said}"
        );
        let lines = MemoryPlan::new(
            256 * MIB,
            None,
            Needs {
                parquet: None,
                ..needs(None)
            },
        );
        assert_eq!(lines.map(|plan| plan.parquet), Ok(0));
    }

    #[test]
    fn a_machine_has_memory() {
        assert!(there().is_some_and(|there| there > MIB));
    }
}
