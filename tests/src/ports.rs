//! Loopback ports that stay ours over a restart.
//!
//! Ports come from below the kernel's ephemeral range (32768 and up on Linux): while a broker is
//! down, no outgoing connection can take its port, nor connect to itself on it. Each is guarded by
//! a lock file, so that test processes that run together never share one.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::net::TcpListener;
use std::ops::Range;
use std::process;

const RANGE: Range<u16> = 20_000..32_000;

/// A port, ours until it is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Finds a port that nobody listens on and no other test process has reserved.
    pub(crate) fn reserve() -> Result<Self> {
        let folder = std::env::temp_dir().join("headwater-tests-ports");
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        // Processes start their search at different places, to meet seldom.
        let count = usize::from(RANGE.end - RANGE.start);
        let first = usize::try_from(process::id()).unwrap_or(0) * 37 % count;
        for number in RANGE.cycle().skip(first).take(count) {
            let path = folder.join(number.to_string());
            let Ok(lock) = File::create(&path) else {
                continue;
            };
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self {
                    number,
                    _lock: lock,
                });
            }
        }
        bail!("no free port between {} and {}", RANGE.start, RANGE.end)
    }
}
