//! What a ledger costs: memory, against what its bound reckons with; and, when asked, the bytes and the CPU
//! time of its snapshots.

#![expect(
    clippy::unwrap_used,
    reason = "a test's own helpers may panic as the test itself"
)]

use std::fs;

use headwater_loader::aggregate::Windows;
use headwater_loader::books::Books;
use headwater_loader::state::{Snapshot, State};
use headwater_record::{Generation, Ledger, Span};

/// Resident memory of this process, bytes.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// CPU time of this process, user and system, milliseconds: a hundredth of a second is what the kernel
/// counts in.
fn cpu_ms() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum()
}

/// Streams of ten a device, one generation each, in the order in which devices come to send.
fn ledger(streams: u64) -> Ledger {
    let mut ledger = Ledger::default();
    for n in 0..streams {
        let stream = n.wrapping_mul(7_368_787) % streams;
        let name = format!("pi-{:07}/syslog//var/log/app-{stream}.log", stream / 10);
        let generation = Generation(stream.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let span = Span::new(0, 1000 + generation.0 % 1_000_000).unwrap();
        ledger.accept(&name, generation, span, 1_764_000_000_000 + n);
    }
    ledger
}

/// The bound would be none where the ledger takes much more than it says.
#[test]
fn a_ledger_takes_what_it_says() {
    let before = resident();
    let ledger = ledger(100_000);
    let (takes, says) = (resident() - before, ledger.held());
    assert_eq!(ledger.streams().count(), 100_000);
    assert!(
        (says / 2..says + says / 4).contains(&takes),
        "{takes} bytes for {says}"
    );
}

/// `cargo test --release --test ledger_cost -- --ignored --nocapture`
#[test]
#[ignore = "it measures, and says what it saw"]
fn what_a_snapshot_costs() {
    println!("streams  says MiB  takes MiB  compressed MiB  encode CPU ms  decode CPU ms");
    for streams in [10_000, 100_000, 1_000_000] {
        let before = resident();
        let ledger = ledger(streams);
        let takes = resident() - before;
        let state = State {
            topic: "logs",
            partition: 0,
            end: 9,
            clock_ms: 1,
            rows_ms: 1,
            named: None,
            ledger: &ledger,
            windows: &Windows::default(),
            books: &Books::default(),
        };
        // Small ones are done often, for the kernel's clock is coarse.
        let times = 1_000_000 / streams;
        let start = cpu_ms();
        let mut bytes = state.encode().unwrap().1;
        for _ in 1..times {
            bytes = state.encode().unwrap().1;
        }
        let encoded = cpu_ms();
        for _ in 0..times {
            assert_eq!(
                Snapshot::decode(&bytes).unwrap().ledger.held(),
                ledger.held()
            );
        }
        let decoded = cpu_ms();
        let mib = |bytes: usize| bytes / 1024 * 100 / 1024;
        let (says, takes, bytes) = (mib(ledger.held()), mib(takes), mib(bytes.len()));
        println!(
            "{streams:>7}  {:>5}.{:02}  {:>6}.{:02}  {:>11}.{:02}  {:>13}  {:>13}",
            says / 100,
            says % 100,
            takes / 100,
            takes % 100,
            bytes / 100,
            bytes % 100,
            (encoded - start) / times,
            (decoded - encoded) / times,
        );
    }
}
