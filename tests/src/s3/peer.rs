//! S3 servers that others wrote, for a second opinion: what holds on ours alone may hold because
//! whoever wrote the loader wrote the server too.
//!
//! | | conditional PUT | its checksum of a body | signatures |
//! |---|---|---|---|
//! | moto | yes, not atomic | ignored | ignored |
//! | `MiniStack` | yes, atomic | checked | ignored |

use std::process::Command;

use anyhow::Result;

use crate::python::STORES;
use crate::served::Served;

/// A server that somebody else wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// `moto`, the stand-in that most Python projects test with.
    Moto,
    /// `MiniStack`.
    MiniStack,
}

/// Starts a server, empty, on loopback, and returns when it listens.
pub(super) fn start(peer: Peer) -> Result<Served> {
    Served::start(&format!("{peer:?}"), |_, port| {
        let number = port.to_string();
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
        Ok(command)
    })
}
