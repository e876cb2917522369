//! What fuzzing has found worth keeping, run as a plain test.

#[path = "../fuzz/bodies/headers.rs"]
mod headers;
#[path = "../fuzz/bodies/steps.rs"]
mod steps;

fn replay(name: &str, run: fn(&[u8])) {
    let folder = format!("{}/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("it can be read").path();
        run(&std::fs::read(&path).expect("it can be read"));
        count += 1;
    }
    assert!(count >= 10, "the corpus is not empty");
}

#[test]
fn the_corpus_of_the_steps() {
    replay("steps", steps::run);
}

#[test]
fn the_corpus_of_the_headers() {
    replay("headers", headers::run);
}
