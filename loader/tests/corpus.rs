//! What is worth keeping of fuzzing, run as a plain test.

#[path = "../fuzz/bodies/event.rs"]
mod event;
#[path = "../fuzz/bodies/head.rs"]
mod head;
#[path = "../fuzz/bodies/intent.rs"]
mod intent;
#[path = "../fuzz/bodies/records.rs"]
mod records;
#[path = "../fuzz/bodies/state.rs"]
mod state;

/// Runs a body on each file of its corpus, and on each with a byte changed, taken out or doubled.
fn replay(name: &str, run: fn(&[u8])) {
    let folder = format!("{}/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("it can be read").path();
        let bytes = std::fs::read(&path).expect("it can be read");
        run(&bytes);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] = changed[at].wrapping_add(1);
            run(&changed);
            changed.remove(at);
            run(&changed);
            changed.splice(at..at, [bytes[at], bytes[at]]);
            run(&changed);
        }
        count += 1;
    }
    assert!(count >= 3, "the corpus is not empty");
}

#[test]
fn the_corpus_of_events() {
    replay("event", event::run);
}

#[test]
fn the_corpus_of_heads() {
    replay("head", head::run);
}

#[test]
fn the_corpus_of_intents() {
    replay("intent", intent::run);
}

#[test]
fn the_corpus_of_records() {
    replay("records", records::run);
}

#[test]
fn the_corpus_of_states() {
    // One that is refused at its first field would show nothing.
    for good in ["ledger", "windows"] {
        let path = format!("{}/fuzz/corpus/state/{good}", env!("CARGO_MANIFEST_DIR"));
        let plain = std::fs::read(&path).expect("it can be read");
        let bytes = zstd::bulk::compress(&plain, 1).expect("there is memory for it");
        headwater_loader::state::Snapshot::decode(&bytes).expect(good);
    }
    replay("state", state::run);
}
