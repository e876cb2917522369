use super::*;
use crate::oracle::wait_until;
use std::os::unix::fs::PermissionsExt;

/// A stand-in for a binary: a shell script named as it.
fn stand_in(script: &str) -> (tempfile::TempDir, Setup) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stand-in");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let setup = Setup::new("stand-in", "spool = \"{dir}/spool\"\n");
    (folder, setup)
}

fn spawn(folder: &tempfile::TempDir, mut setup: Setup) -> Process {
    setup.runs += 1;
    let mut command = Command::new(folder.path().join("stand-in"));
    command
        .args(["run", "--config"])
        .arg(setup.config_path())
        .stdout(File::create(setup.output_path("stdout")).unwrap())
        .stderr(File::create(setup.output_path("stderr")).unwrap());
    let child = Child::spawn("stand-in", &mut command, Some(setup.dir())).unwrap();
    Process { child, setup }
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
    let (folder, setup) = stand_in("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    let process = spawn(&folder, setup);
    wait_until("it is ready", Duration::from_secs(5), || {
        process.stdout() == "ready\n"
    });
    assert!(process.is_running());
    assert!(process.rss_kib() > 0 && process.rss_kib_max() >= process.rss_kib());
    assert!(process.cpu_seconds() >= 0.0);
    process.io_write_bytes();
    let status = process.sigterm_and_wait(Duration::from_secs(5));
    assert_eq!(status.code(), Some(7));
    assert!(!process.is_running());
}

#[test]
fn a_paused_process_stands_still_and_can_be_killed() {
    let (folder, setup) = stand_in("while :; do echo x; sleep 0.01; done");
    let process = spawn(&folder, setup);
    wait_until("it runs", Duration::from_secs(5), || {
        process.stdout().len() > 4
    });
    process.pause();
    wait_until("it is stopped", Duration::from_secs(5), || {
        process.proc("stat").contains(") T ")
    });
    let before = process.stdout().len();
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(process.stdout().len(), before);
    process.resume();
    wait_until("it goes on", Duration::from_secs(5), || {
        process.stdout().len() > before
    });
    process.pause();
    let setup = process.stopped();
    assert!(setup.dir().exists());
}

#[test]
fn a_missing_binary_says_what_to_do() {
    let error = binary_path("headwater-nothing").unwrap_err();
    assert!(error.to_string().contains("run `make test`"), "{error}");
}
