//! Any bytes as an event of Lambda: refused, or records in the order of their offsets, each once.

use headwater_loader::lambda::event::parse;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(partitions) = parse(bytes, "logs") else {
        return;
    };
    for fetched in partitions.values() {
        let offsets: Vec<u64> = fetched.entries.iter().map(|entry| entry.offset).collect();
        assert!(offsets.is_sorted_by(|a, b| a < b));
        // Base64 grows what it carries; nothing is larger than the event.
        assert!(fetched.bytes.len() <= bytes.len());
        for entry in &fetched.entries {
            assert_eq!(fetched.value(entry).is_some(), entry.value.is_some());
        }
    }
}
