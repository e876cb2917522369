use std::os::unix::fs::PermissionsExt;

use super::*;

fn device() -> DeviceId {
    "d".parse().unwrap()
}

fn open(state: &Path, device: &DeviceId) -> Result<(Folder, Opened), OpenError> {
    let folder = Folder::lock(state)?;
    let opened = super::open(
        &folder,
        (
            device,
            Floors::default(),
            &Keys::default(),
            &Salvaging::default(),
        ),
        &Healing::default(),
        false,
    )?;
    Ok((folder, opened))
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn it_is_ours_alone_and_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("a/b");
    for _ in 0..2 {
        let (_folder, opened) = open(&state, &device()).unwrap();
        assert_eq!(opened.salvaged, None);
        opened
            .connection
            .execute("UPDATE depth SET n_rows = n_rows", [])
            .unwrap();
        assert_eq!(mode(&state), 0o700);
        for name in ["spool.db", "spool.db-wal", "spool.db-shm", "lock"] {
            assert_eq!(mode(&state.join(name)), 0o600, "{name}");
        }
        let error = open(&state, &device()).unwrap_err().to_string();
        assert!(error.contains("another agent runs on"), "{error}");
    }
}

#[test]
fn a_later_version_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), &device()).unwrap());
    let path = dir.path().join("spool.db");
    let newer = Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let content = std::fs::read(&path).unwrap();
    let error = open(dir.path(), &device()).unwrap_err();
    assert!(!error.may_pass());
    assert!(error.to_string().contains("version 99"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), content, "it was changed");
}

#[test]
fn an_empty_file_is_a_first_start_cut_short() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("spool.db"), b"").unwrap();
    let (_folder, opened) = open(dir.path(), &device()).unwrap();
    assert_eq!(opened.salvaged, None);
}

#[test]
fn a_locked_database_is_a_matter_of_time() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), &device()).unwrap());
    let other = Connection::open(dir.path().join("spool.db")).unwrap();
    other
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; DELETE FROM batch")
        .unwrap();
    let error = open(dir.path(), &device()).unwrap_err();
    assert!(error.may_pass(), "{error}");
    drop(other);
    assert!(open(dir.path(), &device()).is_ok());
}
