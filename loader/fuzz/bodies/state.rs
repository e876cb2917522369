//! Any bytes as a snapshot, compressed or not: refused, or a state that goes on and is read again as it
//! was written.

use headwater_loader::state::Snapshot;

pub(crate) fn run(bytes: &[u8]) {
    let compressed = zstd::bulk::compress(bytes, 1).expect("there is memory for it");
    for bytes in [bytes, &compressed] {
        let Ok(mut snapshot) = Snapshot::decode(bytes) else {
            continue;
        };
        let (_, again) = snapshot.encode().expect("it can be written");
        assert_eq!(
            Snapshot::decode(&again).expect("what was written is read"),
            snapshot
        );
        // What a partition does with it.
        snapshot.windows.align(std::iter::empty());
        snapshot
            .windows
            .close(std::iter::empty(), Some(u64::MAX), usize::MAX, |_| true);
        assert!(snapshot.windows.is_empty());
        snapshot.ledger.retire(u64::MAX, 0);
        snapshot.ledger.unexplained_gaps();
    }
}
