//! A power cut takes back what programs had written last, also where it had been sent: nothing that is written in its
//! place is lost, and nothing comes twice where the system noted how long the files were.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use headwater_tests::kafka::Kafka;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::{Report, wait_until};
use headwater_tests::process::Process;
use headwater_tests::s3::S3;

const PATIENCE: Duration = Duration::from_secs(60);

fn lines(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|n| format!("line {n:06}")).collect()
}

/// As a program does, which waits for no disk.
fn append(log: &Path, lines: &[String]) {
    use std::io::Write;

    let file = File::options().append(true).create(true).open(log);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .expect("a log can be written");
}

/// The agent's next start finds itself in another boot than it was cut off in.
fn another_boot(state: &Path) {
    for name in ["run", "boot"] {
        let text = fs::read_to_string(state.join(name)).expect("it is written at each start");
        let id = text.split_whitespace().next().expect("a boot's name");
        let other = "00000000-0000-4000-8000-000000000000";
        fs::write(state.join(name), text.replace(id, other)).expect("its state can be written");
    }
}

fn stop(process: &Process) {
    assert_eq!(process.sigterm_and_wait(PATIENCE).code(), Some(0));
}

#[test]
fn what_is_written_in_the_place_of_sent_lines_is_stored_and_nothing_twice() {
    let report = cut_off(true);
    report.assert_nothing_lost();
    assert_eq!(report.duplicated.len(), 0);
}

#[test]
fn where_no_length_was_noted_what_was_sent_since_the_checkpoint_is_stored_twice() {
    let report = cut_off(false);
    report.assert_nothing_lost();
    assert_eq!(
        report.duplicated.len(),
        100,
        "what is left of what was sent since"
    );
}

/// 100 lines are written down as settled, 150 more are sent; 50 of them are taken back, and 80 others are written
/// before the agent starts.
fn cut_off(noted: bool) -> Report {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "cut", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("app.log");
    append(&log, &lines(0..100));
    let seldom = "[checkpoint]\nevery = \"1h\"\n";
    let agent = loading.agent(&log.display().to_string(), seldom).start();
    let loader = loading.start();
    let stored = |what: &str, lines: &[String]| {
        wait_until(what, PATIENCE, || {
            loading.report(lines.to_vec()).lost.is_empty()
        });
    };
    stored("the first are stored", &lines(0..100));
    stop(&agent);
    let agent = agent.restart();
    append(&log, &lines(100..250));
    stored("more are stored", &lines(0..250));
    agent.kill9();
    agent.wait(PATIENCE);

    let mut agent = agent.stopped();
    another_boot(&agent.dir().join("state"));
    let left = 200 * "line 000000\n".len() as u64;
    let file = File::options().write(true).open(&log);
    file.and_then(|file| file.set_len(left))
        .expect("the cut takes the end back");
    if noted {
        let refused = agent.run("boot-sizes", &[]);
        assert_eq!(
            refused.code,
            Some(1),
            "the system runs for long: {refused:?}"
        );
        let told = agent.run("boot-sizes", &["--late"]);
        assert_eq!(told.code, Some(0), "{}", told.stderr);
        assert!(
            told.stdout.ends_with("the lengths of 1 files\n"),
            "{told:?}"
        );
    }
    append(&log, &lines(500..580));
    if noted {
        let told = agent.run("boot-sizes", &["--late"]);
        assert!(
            told.stdout.ends_with("noted in this boot already\n"),
            "{told:?}"
        );
    }
    for point in ["split-before-commit", "split-after-commit"] {
        let killed = agent.crash_at(point).start();
        assert_eq!(killed.wait(PATIENCE).signal(), Some(9), "{point}");
        agent = killed.stopped();
    }
    let agent = agent.start();
    let all = [lines(0..250), lines(500..580)].concat();
    stored("what came in their place is stored", &all);
    // And so it goes on, also over a start in the same boot.
    agent.kill9();
    agent.wait(PATIENCE);
    let agent = agent.restart();
    append(&log, &lines(580..600));
    let all = [lines(0..250), lines(500..600)].concat();
    stored("what comes then is stored", &all);
    stop(&agent);
    stop(&loader);
    loading.assert_proven();
    let audit = loading.audit().stdout;
    assert!(audit.contains("power-cut"), "{audit}");
    loading.report(all)
}
