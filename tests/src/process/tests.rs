use super::*;
use crate::oracle::wait_until;

const PATIENCE: Duration = Duration::from_secs(60);

/// A stand-in for the agent: a shell script under its name, in a folder that must stay.
///
/// A shell writes it. A file that this process had open for writing may be so in a child that another
/// test starts at that moment, and what somebody has open for writing cannot be run (`ETXTBSY`).
fn stand_in(script: &str) -> (tempfile::TempDir, Setup) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("headwater-agent");
    let written = Command::new("/bin/sh")
        .args(["-c", "printf '%s' \"$1\" >\"$0\" && chmod 755 \"$0\""])
        .arg(&path)
        .arg(format!("#!/bin/sh\n{script}\n"))
        .status();
    assert!(written.unwrap().success());
    let setup = Agent::with("spool = \"{dir}/spool\"\n").found_in(folder.path());
    (folder, setup)
}

#[test]
fn the_configuration_names_the_folder() {
    let (_folder, setup) = stand_in("");
    let text = fs::read_to_string(setup.config_path()).unwrap();
    let wanted = format!("spool = \"{}/spool\"\n", setup.dir().display());
    assert_eq!(text, wanted);
}

#[test]
fn a_process_can_be_asked_to_end() {
    let (_folder, setup) = stand_in("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    let process = setup.start();
    wait_until("it is ready", PATIENCE, || process.stdout() == "ready\n");
    assert!(process.is_running());
    assert!(process.rss_kib() > 0 && process.rss_kib_max() >= process.rss_kib());
    assert!(process.cpu_seconds() >= 0.0);
    process.io_write_bytes();
    let status = process.sigterm_and_wait(PATIENCE);
    assert_eq!(status.code(), Some(7));
    assert!(!process.is_running());
}

#[test]
fn a_paused_process_stands_still_and_can_be_killed() {
    let (_folder, setup) = stand_in("while :; do echo x; sleep 0.01; done");
    let process = setup.start();
    wait_until("it runs", PATIENCE, || process.stdout().len() > 4);
    process.pause();
    assert!(process.proc("stat").contains(") T "));
    let before = process.stdout().len();
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(process.stdout().len(), before);
    process.resume();
    wait_until("it goes on", PATIENCE, || process.stdout().len() > before);
    process.pause();
    let setup = process.stopped();
    assert!(setup.dir().exists());
}

#[test]
fn a_missing_binary_says_what_to_do() {
    let error = binary_path("headwater-nothing", None).unwrap_err();
    assert!(error.to_string().contains("run `make test`"), "{error}");
}

#[test]
fn a_crash_point_is_for_one_start_and_the_folder_for_all() {
    let (_folder, setup) = stand_in(
        r#"echo "$1 $2 ${3##*/} ${HEADWATER_CRASH_POINT-none} $COLOUR" >>journal; exit 3"#,
    );
    let process = setup.env("COLOUR", "blue").crash_at("after_send:2").start();
    assert_eq!(process.wait(PATIENCE).code(), Some(3));
    let process = process.restart();
    process.wait(PATIENCE);
    let journal = fs::read_to_string(process.dir().join("journal")).unwrap();
    let expect = "run --config config.toml after_send:2 blue\n\
                  run --config config.toml none blue\n";
    assert_eq!(journal, expect);
}

#[test]
fn a_run_to_completion_gives_code_and_output() {
    let (_folder, mut setup) = stand_in("echo said: $1 $4 $5; echo wrong >&2; exit 1");
    let finished = setup.run("audit", &["--group", "g"]);
    assert_eq!(finished.code, Some(1));
    assert_eq!(finished.stdout, "said: audit --group g\n");
    assert_eq!(finished.stderr, "wrong\n");
}
