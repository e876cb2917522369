//! Where the agent can be asked how it goes: what `admin.listen` says.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Longest path of a Unix socket, bytes (`sun_path` of `man 7 unix`, less its closing NUL).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A Unix socket, absolute.
    Unix(PathBuf),
    /// A loopback address.
    Tcp(SocketAddr),
    /// Nowhere.
    Off,
}

/// Why that is no place to listen.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ListenError {
    /// None of the three forms.
    #[error("write \"unix:PATH\", \"127.0.0.1:PORT\", or \"off\"")]
    Form,
    /// Others could come in.
    #[error(
        "only loopback addresses: whoever reaches the port can read every record that passes; put a \
         proxy that asks for a password before it"
    )]
    NotLoopback,
    /// The system would not bind it.
    #[error("a socket's path has {SOCKET_PATH_BYTES_MAX} bytes at most, and {0} has more")]
    TooLong(PathBuf),
}

impl Listen {
    /// Reads `unix:PATH` (a relative path lies in the state directory), `ADDRESS:PORT`, or `off`.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn parse(text: &str, state_dir: &Path) -> Result<Self, ListenError> {
        if text == "off" {
            return Ok(Self::Off);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let path = state_dir.join(path);
            return match path.as_os_str().len() {
                _ if text.ends_with([':', '/']) => Err(ListenError::Form),
                0..=SOCKET_PATH_BYTES_MAX => Ok(Self::Unix(path)),
                _ => Err(ListenError::TooLong(path)),
            };
        }
        let address: SocketAddr = text.parse().map_err(|_| ListenError::Form)?;
        if address.ip().is_loopback() {
            Ok(Self::Tcp(address))
        } else {
            Err(ListenError::NotLoopback)
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
            Self::Off => f.write_str("off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_forms_and_nothing_else() {
        let parse = |text| Listen::parse(text, Path::new("/var/lib/headwater"));
        for (text, shown) in [
            ("off", "off"),
            ("unix:agent.sock", "unix:/var/lib/headwater/agent.sock"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("127.0.0.1:9180", "127.0.0.1:9180"),
            ("[::1]:9180", "[::1]:9180"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), shown);
        }
        assert_eq!(parse("0.0.0.0:9180"), Err(ListenError::NotLoopback));
        for text in ["", "unix:", "unix:/", "9180", "localhost:9180", "OFF"] {
            assert_eq!(parse(text), Err(ListenError::Form), "{text:?}");
        }
        let long = format!("unix:/{}", "x".repeat(SOCKET_PATH_BYTES_MAX));
        assert!(matches!(parse(&long), Err(ListenError::TooLong(_))));
    }
}
