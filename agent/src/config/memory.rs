//! What the process may take of memory, part by part. Pure.
//!
//! Each part bounds itself; this is the sum of it, with every queue, cache and buffer at its bound at
//! once, and what is left of `memory.max` is the window's. `headwater-agent check` prints it.

use headwater_msk::Bytes;

use crate::admin::tap;
use crate::journal;
use crate::process::BATCH_VALUES_MAX;
use crate::produce::producer::QUEUE_KIB_MAX;
use crate::tail::packed::{DECODER_BYTES_MAX, DECODING_MAX};

/// Its text and data as far as it is resident, stacks, OpenSSL, and what the allocator keeps: 11 MiB idle
/// were seen (docs/benchmarks.md).
const PROGRAM: Bytes = Bytes::mib(11);
/// SQLite's page cache (1 MiB), a commit that is being packed (2 MiB of values, and what becomes of them), and
/// which batches are acknowledged and not deleted yet (2 MiB).
const DATABASE: Bytes = Bytes::mib(5);
/// What is known of 2000 followed files: 1 KB each. With more it is more.
const FILES: Bytes = Bytes::mib(2);
/// What is known of some thousand sensors, and a document that is being read.
const SENSORS: Bytes = Bytes::mib(1);

/// A part, and what it takes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Which.
    pub name: &'static str,
    /// Bytes.
    pub bytes: Bytes,
}

/// The shares of everything but the window. Of what is configured only the number of `[[journal]]` counts:
/// so other sources come and go by a reload, and the window stays as it is.
pub fn shares(journals: usize) -> Vec<Share> {
    let share = |name, bytes: u64| Share {
        name,
        bytes: Bytes(bytes),
    };
    let decoding = (DECODING_MAX + 1) * DECODER_BYTES_MAX;
    let watchers = tap::TAPS_MAX * tap::QUEUE * BATCH_VALUES_MAX;
    let mut all = vec![
        share("program", PROGRAM.0),
        share("librdkafka", QUEUE_KIB_MAX * 1024),
        share("database", DATABASE.0),
        share("files", FILES.0),
        share("compressed files", decoding as u64),
        share("sensors", SENSORS.0),
        share("watchers", watchers as u64),
    ];
    if journals > 0 {
        let bytes = (journal::BYTES_MAX as u64).saturating_mul(journals as u64);
        all.push(share("journals", bytes));
    }
    all
}

/// Their sum.
pub fn sum(shares: &[Share]) -> Bytes {
    let bytes = shares.iter().map(|share| share.bytes.0);
    Bytes(bytes.fold(0, u64::saturating_add))
}

/// In words: "program 11MiB, …".
pub fn said(shares: &[Share]) -> String {
    let parts = shares
        .iter()
        .map(|share| format!("{} {}", share.name, share.bytes));
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_a_share_and_each_journal_its_own() {
        let (none, two) = (shares(0), shares(2));
        assert!(none.iter().all(|share| share.bytes.0 > 0));
        let more = sum(&two).0 - sum(&none).0;
        assert_eq!(more, 2 * journal::BYTES_MAX as u64);
        assert_eq!(
            said(&two),
            "program 11MiB, librdkafka 4MiB, database 5MiB, files 2MiB, compressed files 18MiB, \
             sensors 1MiB, watchers 3MiB, journals 10880KiB"
        );
    }
}
