//! A small file system of its own, in memory: filled to its last byte, freed, made read-only.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A mounted tmpfs. It goes with its owner.
#[derive(Debug)]
pub struct Disk {
    folder: TempDir,
}

impl Disk {
    /// Mounts one of so many bytes.
    ///
    /// # Panics
    /// Where it cannot be mounted: that takes root, as `mount` does.
    pub fn new(bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = Self { folder };
        disk.mount(&format!("size={bytes},mode=0755"));
        disk
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes every byte that is free, into one file.
    pub fn fill(&self) {
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(self.filler())
            .expect("a file on the disk");
        for piece in [64 * 1024, 4096, 1] {
            let piece = vec![0; piece];
            loop {
                match file.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("cannot fill the disk: {error}"),
                }
            }
        }
    }

    /// Gives back what [`fill`](Self::fill) took.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("what fills the disk can be removed");
    }

    /// Nobody may write to it. No file of it may be open for that.
    pub fn make_read_only(&self) {
        self.mount("remount,ro");
    }

    /// Takes that back.
    pub fn make_writable(&self) {
        self.mount("remount,rw");
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    fn mount(&self, options: &str) {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "headwater-test"])
            .arg(self.path())
            .output()
            .expect("there is a mount(8)");
        let said = String::from_utf8_lossy(&mount.stderr);
        assert!(
            mount.status.success(),
            "cannot mount a tmpfs ({options}): {said}; run this test as root"
        );
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process of the test may be at its end there.
        let end = Command::new("umount").arg("-l").arg(self.path()).status();
        if !end.is_ok_and(|status| status.success()) {
            crate::outside::say(&format!("{} stays mounted", self.path().display()));
        }
    }
}
