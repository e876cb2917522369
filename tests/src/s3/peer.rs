//! S3 servers that others wrote, for a second opinion: what holds on ours alone may hold because
//! whoever wrote the loader wrote the server too.
//!
//! | | conditional PUT | its checksum of a body | signatures |
//! |---|---|---|---|
//! | moto | yes, not atomic | ignored | ignored |
//! | `MiniStack` | yes, atomic | checked | ignored |

use crate::child::Child;
use crate::folder::Folder;
use crate::ports::Port;
use crate::python::STORES;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::clock;

/// How long a server may take to listen: Python on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that somebody else wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// `moto`, the stand-in that most Python projects test with.
    Moto,
    /// `MiniStack`.
    MiniStack,
}

/// One that runs; killed, and its folder removed, when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    port: Port,
    folder: Folder,
}

impl Running {
    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }
}

/// Starts a server, empty, on loopback, and returns when it listens.
pub(super) fn start(peer: Peer) -> Result<Running> {
    let folder = Folder::new("s3-peer")?;
    let port = Port::reserve()?;
    let number = port.number().to_string();
    let log = File::create(folder.path().join("log")).context("cannot create a log")?;
    let mut command = Command::new(STORES.python()?);
    match peer {
        Peer::Moto => {
            let script = "from moto.server import main; main()";
            command.args(["-c", script, "-H", "127.0.0.1", "-p", &number]);
        }
        Peer::MiniStack => {
            command.args(["-m", "ministack"]).envs([
                ("BIND_HOST", "127.0.0.1"),
                ("GATEWAY_PORT", &number),
                ("SERVICES", "s3,dynamodb"),
                ("SFTP_ENABLED", "0"),
                ("IOT_MTLS_ENABLED", "0"),
            ]);
        }
    }
    command
        .current_dir(folder.path())
        .env("TMPDIR", folder.path())
        .stdout(log.try_clone().context("cannot share a log")?)
        .stderr(log);
    let child = Child::spawn(&format!("{peer:?}"), &mut command, Some(folder.path()))?;
    let running = Running {
        child,
        port,
        folder,
    };
    running.wait_until_it_listens()?;
    Ok(running)
}

impl Running {
    fn wait_until_it_listens(&self) -> Result<()> {
        let start = clock::now();
        while TcpStream::connect(("127.0.0.1", self.port.number())).is_err() {
            let ended = self.child.status()?;
            if ended.is_some() || start.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                bail!(
                    "{} does not listen ({ended:?}):\n{}",
                    self.child.name(),
                    log.unwrap_or_default()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}
