//! What fuzzing has found worth keeping, run as a plain test.

#[path = "../fuzz/bodies/http.rs"]
mod http;
#[path = "../fuzz/bodies/iot.rs"]
mod iot;
#[path = "../fuzz/bodies/process.rs"]
mod process;
#[path = "../fuzz/bodies/token.rs"]
mod token;

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
fn the_corpus_of_credential_answers() {
    replay("iot", iot::run);
}

#[test]
fn the_corpus_of_external_programs() {
    replay("process", process::run);
}

#[test]
fn the_corpus_of_tokens() {
    replay("token", token::run);
}

#[test]
fn the_corpus_of_http_answers() {
    replay("http", http::run);
}
