//! Files that hold a secret: a private key, a password. Named by path, or as `credential:NAME`, a
//! credential that systemd hands to the service (`LoadCredential=`, `man 5 systemd.exec`).
//!
//! A file that others can read is refused, with the mode to set: a secret that leaked is worse than
//! a service that does not start, and it is noticed when it is set up.

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

/// Where systemd puts a service's credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// What names a systemd credential.
const PREFIX: &str = "credential:";
/// Largest secret that is read. A key of 8192 bits has 6.4 KB.
const SECRET_BYTES_MAX: u64 = 64 * 1024;
/// Nobody but the owner may write, nobody but owner and group read.
const FORBIDDEN: u32 = 0o037;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretFile {
    /// A file.
    Path(PathBuf),
    /// A credential of the systemd service, by name.
    Credential(String),
}

/// A secret that cannot be used. Never holds any of it.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file is not there or cannot be read.
    #[error("cannot read the secret in {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others can read it, or somebody else write it.
    #[error(
        "{path} holds a secret and has mode {mode:04o}: others could read or change it; set it with: chmod 600 {path}"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A folder, a device, or too large to be a secret.
    #[error(
        "{path} is no file of a secret: it must be a regular file of 1 byte to 64 KiB, as text"
    )]
    NotASecret {
        /// The file.
        path: PathBuf,
    },
    /// No systemd credentials.
    #[error(
        "the credential {name:?} is not there: the environment has no CREDENTIALS_DIRECTORY; start the program by systemd, with LoadCredential={name}:/path/to/it in the unit"
    )]
    NoCredentials {
        /// Its name.
        name: String,
    },
    /// No file of authorities.
    #[error(
        "this system has no file of trusted certificate authorities: install its package (ca-certificates), or name a file as `ca`"
    )]
    NoRoots,
}

impl SecretFile {
    /// The path, where it was written as one.
    pub fn written_path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Credential(_) => None,
        }
    }

    /// The file, once it was made sure that only its owner and group can read it.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn path(&self) -> Result<PathBuf, SecretError> {
        let path = match self {
            Self::Path(path) => path.clone(),
            Self::Credential(name) => std::env::var_os(CREDENTIALS_DIRECTORY)
                .map(|folder| PathBuf::from(folder).join(name))
                .ok_or_else(|| SecretError::NoCredentials { name: name.clone() })?,
        };
        let about = std::fs::metadata(&path).map_err(|source| SecretError::Unreadable {
            path: path.clone(),
            source,
        })?;
        if !about.is_file() || about.len() == 0 || about.len() > SECRET_BYTES_MAX {
            return Err(SecretError::NotASecret { path });
        }
        let mode = about.mode() & 0o7777;
        if mode & FORBIDDEN != 0 {
            return Err(SecretError::Exposed { path, mode });
        }
        Ok(path)
    }

    /// Its content, without the line break at its end.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn read(&self) -> Result<Zeroizing<String>, SecretError> {
        let path = self.path()?;
        let unreadable = |source| SecretError::Unreadable {
            path: path.clone(),
            source,
        };
        // Room for all of it at once: a buffer that grows leaves copies behind.
        let capacity = usize::try_from(SECRET_BYTES_MAX).unwrap_or(usize::MAX);
        let mut text = Zeroizing::new(String::with_capacity(capacity));
        let file = std::fs::File::open(&path).map_err(unreadable)?;
        let read = file.take(SECRET_BYTES_MAX).read_to_string(&mut text);
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(SecretError::NotASecret { path });
            }
            Err(error) => return Err(unreadable(error)),
        }
        let length = text.trim_end_matches(['\r', '\n']).len();
        text.truncate(length);
        if text.is_empty() || text.contains('\0') {
            return Err(SecretError::NotASecret { path });
        }
        Ok(text)
    }
}

impl fmt::Display for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Credential(name) => write!(f, "{PREFIX}{name}"),
        }
    }
}

impl FromStr for SecretFile {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let Some(name) = text.strip_prefix(PREFIX) else {
            return Ok(Self::Path(text.into()));
        };
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(fits) {
            return Err(format!(
                "{text:?} names no systemd credential: letters, digits and \"_.-\" after \"{PREFIX}\""
            ));
        }
        Ok(Self::Credential(name.to_owned()))
    }
}

impl TryFrom<String> for SecretFile {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SecretFile> for String {
    fn from(file: SecretFile) -> String {
        file.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, SecretFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, SecretFile::Path(path))
    }

    #[test]
    fn a_secret_is_read_without_its_line_break() {
        for (content, expected) in [("pass\n", "pass"), ("p s\r\n", "p s"), (" x", " x")] {
            let (_folder, file) = file(content.as_bytes(), 0o600);
            assert_eq!(file.read().unwrap().as_str(), expected);
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_mode_to_set() {
        for mode in [0o644, 0o604, 0o601, 0o660, 0o620, 0o666] {
            let (_folder, file) = file(b"hunter2", mode);
            let error = file.read().unwrap_err().to_string();
            assert!(error.contains("chmod 600 /"), "{error}");
            assert!(error.contains(&format!("{mode:04o}")), "{error}");
            assert!(!error.contains("hunter2"));
        }
        for mode in [0o600, 0o400, 0o440, 0o640] {
            let (_folder, file) = file(b"hunter2", mode);
            assert!(file.path().is_ok(), "{mode:o}");
        }
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let big = vec![b'a'; usize::try_from(SECRET_BYTES_MAX).unwrap() + 1];
        for content in [&b""[..], b"\n", b"a\0b", b"\xff", &big] {
            let (_folder, file) = file(content, 0o600);
            let refused = file.read();
            assert!(matches!(refused, Err(SecretError::NotASecret { .. })));
        }
        let folder = SecretFile::Path("/".into());
        assert!(matches!(folder.read(), Err(SecretError::NotASecret { .. })));
        let none = SecretFile::Path("/no/such".into());
        assert!(matches!(none.read(), Err(SecretError::Unreadable { .. })));
    }

    #[test]
    fn a_credential_has_a_name_and_no_path() {
        assert_eq!(
            "credential:device.key".parse(),
            Ok(SecretFile::Credential("device.key".into()))
        );
        for name in ["", "../x", "a/b", ".", "..", "a b"] {
            assert!(format!("credential:{name}").parse::<SecretFile>().is_err());
        }
        assert_eq!("/a/b".parse(), Ok(SecretFile::Path("/a/b".into())));
        let error = SecretFile::Credential("k".into()).path().unwrap_err();
        assert!(error.to_string().contains("LoadCredential=k:"), "{error}");
    }
}
