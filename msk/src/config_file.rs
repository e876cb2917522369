//! A TOML file into a program's own types, with errors that a person can act on.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

/// Largest configuration that is read, in bytes: a mistaken path must not fill a small memory.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Why a configuration was refused. Nothing was started.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read configuration {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Larger than [`FILE_BYTES_MAX`].
    #[error("configuration {path} is larger than 4MiB: is it the right file?")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not TOML, or not the keys and values that this program knows.
    #[error("configuration {path}: {message}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, column, what was found and what would be right.
        message: String,
    },
}

/// Reads and parses a configuration file.
///
/// # Errors
/// See [`ConfigError`].
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    };
    // By what comes, not by what the file system says: a device has no length and no end.
    let file = File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    let mut most = file.take(FILE_BYTES_MAX + 1);
    let read = most.read_to_string(&mut text);
    // Before it matters whether it is text: of a device the end is cut anywhere.
    if most.limit() == 0 {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
        });
    }
    read.map_err(unreadable)?;
    parse(&text).map_err(|message| ConfigError::Malformed {
        path: path.to_owned(),
        message,
    })
}

/// Parses a configuration.
///
/// # Errors
/// A message with the line and, for an unknown key or value, the nearest known one.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| {
        let mut message = error.to_string().trim_end().to_owned();
        if let Some(near) = nearest_known(error.message()) {
            message.push_str(&format!("\ndid you mean `{near}`?"));
        }
        message
    })
}

/// From serde's "unknown field `x`, expected one of `a`, `b`": the expected word that is nearest.
fn nearest_known(message: &str) -> Option<&str> {
    let rest = message
        .strip_prefix("unknown field ")
        .or_else(|| message.strip_prefix("unknown variant "))?;
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    quoted
        .map(|known| (strsim::damerau_levenshtein(unknown, known), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().max(unknown.len()) / 2)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only its name matters")]
        brokers: Vec<String>,
        #[expect(dead_code, reason = "only its name matters")]
        topic: String,
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known() {
        let error = parse::<Sample>("topic = 'x'\nbroker = ['a']\n").unwrap_err();
        assert!(error.contains("line 2"), "{error}");
        assert!(error.contains("unknown field `broker`"), "{error}");
        assert!(error.contains("did you mean `brokers`?"), "{error}");
    }

    #[test]
    fn nothing_is_suggested_that_is_far_off() {
        let error = parse::<Sample>("zzzzzzzzzz = 1\n").unwrap_err();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn what_is_too_large_or_has_no_end_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("large.toml");
        let room = usize::try_from(FILE_BYTES_MAX).unwrap();
        for (bytes, fits) in [(room, true), (room + 1, false)] {
            let mut text = String::from("topic = 't'\nbrokers = []\n");
            text.push_str(&"#".repeat(bytes - text.len()));
            std::fs::write(&at, text).unwrap();
            let read = read::<Sample>(&at);
            assert_eq!(read.is_ok(), fits, "{bytes}: {read:?}");
        }
        let error = read::<Sample>(Path::new("/dev/zero")).unwrap_err();
        assert!(matches!(error, ConfigError::TooLarge { .. }), "{error}");
        // Bytes that are no text.
        let error = read::<Sample>(Path::new("/proc/self/exe")).unwrap_err();
        assert!(
            matches!(
                error,
                ConfigError::TooLarge { .. } | ConfigError::Unreadable { .. }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read::<Sample>(Path::new("/nowhere/at/all.toml")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all.toml"));
    }
}
