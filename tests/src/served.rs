//! A server that somebody else wrote, in a child process: on a loopback port, with a folder and a log
//! of its own, which go with it.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::child::Child;
use crate::clock;
use crate::folder::Folder;
use crate::ports::Port;

/// How long a server may take to listen: Python or Java on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// One that listens; killed, and its folder removed, when this is dropped.
#[derive(Debug)]
pub(crate) struct Served {
    child: Child,
    port: Port,
    folder: Folder,
}

impl Served {
    /// Starts what `command` makes of a folder and a port, in that folder, and returns when it listens.
    ///
    /// # Errors
    /// If it cannot be started, ends, or does not listen within a minute: with what it printed.
    pub(crate) fn start(
        name: &str,
        command: impl FnOnce(&Path, u16) -> Result<Command>,
    ) -> Result<Self> {
        let folder = Folder::new("served")?;
        let port = Port::reserve()?;
        let log = File::create(folder.path().join("log")).context("cannot create a log")?;
        let mut command = command(folder.path(), port.number())?;
        command
            .current_dir(folder.path())
            .env("TMPDIR", folder.path())
            .stdout(log.try_clone().context("cannot share a log")?)
            .stderr(log);
        let child = Child::spawn(name, &mut command, Some(folder.path()))?;
        let served = Self {
            child,
            port,
            folder,
        };
        let start = clock::now();
        while TcpStream::connect(("127.0.0.1", served.port.number())).is_err() {
            let ended = served.child.status()?;
            if ended.is_some() || start.elapsed() > PATIENCE {
                let log = fs::read_to_string(served.folder.path().join("log"));
                bail!(
                    "{} does not listen ({ended:?}):\n{}",
                    served.child.name(),
                    log.unwrap_or_default()
                );
            }
            sleep(Duration::from_millis(50));
        }
        Ok(served)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}
