//! A device's clocks: the wall clock, which a test can leave unset, set wrong, or step while the binary runs, and
//! the time since the boot, which goes on while the device is suspended. The binary under test asks the C library
//! for the time, and `tests/clock/device_clock.c`, loaded before it, adds what a file says. Monotonic time stays as
//! it is, as on a device.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = include_str!("../clock/device_clock.c");

/// How far behind a clock is that was never set, seconds: it stands in the seventies.
const UNSET: i64 = -20_000 * 24 * 60 * 60;

/// The clock of one device.
#[derive(Debug)]
pub struct DeviceClock {
    offsets: File,
    folder: tempfile::TempDir,
    wall: Cell<i64>,
    boot: Cell<i64>,
}

impl DeviceClock {
    /// A clock that was never set: it runs, and stands in the seventies.
    ///
    /// # Panics
    /// Where the library cannot be compiled (`make test` installs a compiler).
    pub fn unset() -> Self {
        Self::at(UNSET)
    }

    /// A clock that is right.
    ///
    /// # Panics
    /// Where the library cannot be compiled (`make test` installs a compiler).
    pub fn right() -> Self {
        Self::at(0)
    }

    fn at(seconds: i64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let source = folder.path().join("device_clock.c");
        fs::write(&source, SOURCE).expect("a file can be written");
        let library = folder.path().join("device_clock.so");
        let compiled = Command::new("cc")
            .args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"])
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            // The headers of the system, not those that librdkafka is compiled with (`.cargo/config.toml`).
            .env_remove("C_INCLUDE_PATH")
            .output()
            .expect("cc runs: tests/tools.sh cc installs it");
        assert!(compiled.status.success(), "cc: {compiled:?}");
        let offsets = File::create_new(folder.path().join("offsets"));
        let clock = Self {
            offsets: offsets.expect("a file can be written"),
            folder,
            wall: Cell::new(seconds),
            boot: Cell::new(0),
        };
        clock.write();
        clock
    }

    fn path(&self, name: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        path.display().to_string()
    }

    /// Variables for the binary that is to have this clock.
    pub fn env(&self) -> Vec<(String, String)> {
        vec![
            ("LD_PRELOAD".to_owned(), self.path("device_clock.so")),
            ("HEADWATER_DEVICE_CLOCK".to_owned(), self.path("offsets")),
        ]
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
        self.wall.set(seconds);
        self.write();
    }

    /// The device was suspended for so many seconds, and is awake again: the world went on, and with it the wall
    /// clock and the time since the boot, and whatever waits by its own time noticed nothing.
    ///
    /// # Panics
    /// Where the file cannot be written.
    pub fn suspend(&self, seconds: i64) {
        self.wall.set(self.wall.get() + seconds);
        self.boot.set(self.boot.get() + seconds);
        self.write();
    }

    fn write(&self) {
        for (seconds, at) in [(&self.wall, 0), (&self.boot, 8)] {
            let nanos = seconds.get() * 1_000_000_000;
            // Eight bytes at their own boundary: who maps them sees them change at once.
            let written = self.offsets.write_all_at(&nanos.to_ne_bytes(), at);
            written.expect("a file can be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The year that a program has by this clock.
    fn year(clock: &DeviceClock) -> String {
        let told = Command::new("date").arg("+%Y").envs(clock.env()).output();
        let told = told.expect("date runs");
        assert!(told.status.success(), "{told:?}");
        String::from_utf8_lossy(&told.stdout).trim().to_owned()
    }

    #[test]
    fn a_program_has_the_time_that_was_set() {
        let clock = DeviceClock::unset();
        let unset: u16 = year(&clock).parse().expect("a year");
        assert!((1971..1980).contains(&unset), "{unset}");
        clock.set();
        assert!(year(&clock).starts_with("20"));
        clock.set_off(-100 * 365 * 24 * 60 * 60);
        assert!(year(&clock).starts_with("19"));
    }

    #[test]
    fn without_a_file_nothing_runs() {
        let clock = DeviceClock::right();
        let mut program = Command::new("date");
        program
            .envs(clock.env())
            .env_remove("HEADWATER_DEVICE_CLOCK");
        assert!(!program.output().expect("it is started").status.success());
    }
}
