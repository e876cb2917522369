//! What fuzzing has found worth keeping, run as a plain test.

#[path = "../fuzz/bodies/batch.rs"]
mod batch;
#[path = "../fuzz/bodies/config.rs"]
mod config;
#[path = "../fuzz/bodies/framing.rs"]
mod framing;
#[path = "../fuzz/bodies/journal.rs"]
mod journal;
#[path = "../fuzz/bodies/sensors.rs"]
mod sensors;

/// Runs a body on each file of its corpus.
fn replay(name: &str, run: fn(&[u8])) {
    let folder = format!("{}/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("it can be read").path();
        run(&std::fs::read(&path).expect("it can be read"));
        count += 1;
    }
    assert!(count >= 5, "the corpus is not empty");
}

#[test]
fn the_corpus_of_the_sensors() {
    replay("sensors", sensors::run);
}

#[test]
fn the_corpus_of_the_journal() {
    replay("journal", journal::run);
}

#[test]
fn the_corpus_of_framing() {
    replay("framing", framing::run);
}

#[test]
fn the_corpus_of_batches() {
    replay("batch", batch::run);
}

#[test]
fn the_corpus_of_configurations() {
    replay("config", config::run);
}
