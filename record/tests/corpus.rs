//! What fuzzing has found worth keeping, run as a plain test.

#[path = "../fuzz/bodies/steps.rs"]
mod steps;

#[test]
fn the_corpus_of_the_steps() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/steps");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("it can be read").path();
        steps::run(&std::fs::read(&path).expect("it can be read"));
        count += 1;
    }
    assert!(count >= 10, "the corpus is not empty");
}
