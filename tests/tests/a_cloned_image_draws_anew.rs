//! Promises 1 and 2 on devices that were made from one image, and even go by one name: what each of them
//! writes is stored, and what was delivered before is not stored again.

use std::fs;
use std::path::Path;
use std::time::Duration;

use headwater_tests::kafka::Kafka;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::wait_until;
use headwater_tests::process::{Process, Setup};
use headwater_tests::s3::S3;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// What the agent says where it finds other hardware.
const SAID: &str =
    "the state directory was last used on other hardware (the board's serial number differs)";

/// What the kernel tells of a board of this serial number.
fn board(serial: &str) -> TempDir {
    let root = tempfile::tempdir().expect("a temporary folder");
    let firmware = root.path().join("sys/firmware/devicetree/base");
    fs::create_dir_all(&firmware).expect("a folder");
    fs::write(firmware.join("serial-number"), format!("{serial}\0")).expect("a file");
    root
}

/// Lines of one length, so that what is written on two devices has the same offsets.
fn lines(of: &str, count: u32) -> Vec<String> {
    (0..count)
        .map(|n| format!("{of} wrote line {n:05}"))
        .collect()
}

/// Appends to a log, in place: an image gives each device the same inode.
fn append(log: &Path, lines: &[String]) {
    let mut text = fs::read_to_string(log).unwrap_or_default();
    text.extend(lines.iter().map(|line| format!("{line}\n")));
    fs::write(log, text).expect("a log can be written");
}

/// A device with a copy of a state directory.
fn device(loading: &Loading<'_>, log: &Path, hardware: &TempDir, image: Option<&Path>) -> Setup {
    let paths = log.display().to_string();
    let setup = (loading.agent(&paths, "[spool]\nafter = \"300ms\"\n")).env(
        "HEADWATER_HARDWARE_ROOT",
        &hardware.path().display().to_string(),
    );
    if let Some(image) = image {
        let state = setup.dir().join("state");
        fs::create_dir_all(&state).expect("a folder");
        fs::copy(image.join("state/spool.db"), state.join("spool.db")).expect("a copy");
    }
    setup
}

#[test]
fn two_devices_of_one_image_and_one_name_lose_and_repeat_nothing() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "clones", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("app.log");
    let loader = loading.start();
    let mut written = lines("image", 200);
    let all_stored = |written: &[String]| {
        wait_until("all is stored", PATIENCE, || {
            loading.report(written.iter().cloned()).is_complete()
        });
    };
    let stop = |agent: &Process| {
        assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    };

    append(&log, &written);
    let image = fs::read(&log).expect("the log was written");
    let first = board("10000000aaaa0001");
    let agent = device(&loading, &log, &first, None).start();
    all_stored(&written);
    stop(&agent);

    // A second device is made from the first, and each goes on with lines of its own at the same offsets.
    let second = board("10000000bbbb0002");
    let clone = device(&loading, &log, &second, Some(agent.dir()));
    let of_first = lines("first", 100);
    append(&log, &of_first);
    written.extend(of_first);
    let agent = agent.restart();
    all_stored(&written);
    assert!(!agent.stderr().contains(SAID), "{}", agent.stderr());
    stop(&agent);

    fs::write(&log, &image).expect("the clone's log");
    let of_clone = lines("clone", 100);
    append(&log, &of_clone);
    written.extend(of_clone);
    // The power fails before and after it has taken new names; nothing was sent by then.
    let clone = clone.crash_at("anew-before-commit").start();
    assert_eq!(clone.wait(PATIENCE).code(), None, "no such crash point");
    let clone = clone.stopped().crash_at("anew-after-commit").start();
    assert_eq!(clone.wait(PATIENCE).code(), None, "no such crash point");
    let clone = clone.restart();
    all_stored(&written);
    stop(&clone);
    assert!(
        !clone.stderr().contains(SAID),
        "it was taken for other hardware once more"
    );

    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(written).assert_exact();
    loading.assert_proven();
}
