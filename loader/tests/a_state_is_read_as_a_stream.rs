//! What a snapshot inflates to is never held: a process of its own, whose highest memory tells.

use std::fs;
use std::io::Write;

use headwater_loader::state::Snapshot;

const MIB: usize = 1024 * 1024;

/// The highest resident memory so far, KiB.
fn highest_kib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
    kib.expect("Linux says so")
}

#[test]
fn a_state_takes_what_it_holds_and_not_what_it_is_written_as() {
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    let mut write = |bytes: &[u8]| zstd.write_all(bytes).expect("a Vec takes every byte");
    write(br#"{"v":1,"topic":"t","partition":1,"end":9,"clock_ms":2,"later":["#);
    let piece = vec![b' '; MIB];
    for _ in 0..100 {
        write(&piece);
    }
    write(br#"],"ledger":{"streams":{}}}"#);
    let bytes = zstd.finish().expect("an end");
    let before = highest_kib();
    let snapshot = Snapshot::decode(&bytes).expect("it is sound");
    assert_eq!(snapshot.end, 9);
    let grown = highest_kib() - before;
    assert!(
        grown < 16 * 1024,
        "{grown} KiB for a state that holds nothing"
    );
}
