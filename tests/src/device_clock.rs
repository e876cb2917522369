//! A device's wall clock that a test can leave unset, or set wrong, by libfaketime: the binary under test asks the
//! C library for the time, and gets what a file says. Monotonic time and the time since the boot stay
//! as they are, as on a device whose clock is set late.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The clock of one device.
#[derive(Debug)]
pub struct DeviceClock {
    file: PathBuf,
    library: String,
    _folder: tempfile::TempDir,
}

impl DeviceClock {
    /// A clock that was never set: it runs, and stands in the seventies.
    ///
    /// # Panics
    /// Where `faketime` is not installed (`make test` does so).
    pub fn unset() -> Self {
        Self::at("-20000d")
    }

    /// A clock that is right.
    ///
    /// # Panics
    /// Where `faketime` is not installed (`make test` does so).
    pub fn right() -> Self {
        Self::at("+0")
    }

    fn at(offset: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("faketime");
        fs::write(&file, format!("{offset}\n")).expect("a file can be written");
        let told = Command::new("faketime")
            .args(["-f", "+0", "printenv", "LD_PRELOAD"])
            .output();
        let told = told.expect("faketime runs: tests/tools.sh faketime installs it");
        let library = String::from_utf8_lossy(&told.stdout).trim().to_owned();
        assert!(!library.is_empty(), "faketime names its library: {told:?}");
        Self {
            file,
            library,
            _folder: folder,
        }
    }

    /// Variables for the binary that is to have this clock.
    pub fn env(&self) -> Vec<(String, String)> {
        let file = self.file.display().to_string();
        [
            ("LD_PRELOAD", self.library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// The network has told the time: it is right from now on.
    ///
    /// # Panics
    /// Where the file cannot be written.
    pub fn set(&self) {
        self.set_off(0);
    }

    /// Somebody sets it: it is off by so many seconds from now on; above 0 it is ahead.
    ///
    /// # Panics
    /// Where the file cannot be written.
    pub fn set_off(&self, seconds: i64) {
        // A reader must never see half of it.
        let fresh = self.file.with_extension("new");
        let written = fs::write(&fresh, format!("{seconds:+}\n"))
            .and_then(|()| fs::rename(&fresh, &self.file));
        written.expect("a file can be written");
    }
}
