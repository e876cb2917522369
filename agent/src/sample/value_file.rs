//! Reads a number from a small text file, as sysfs, procfs and many drivers give it.
//!
//! ```text
//! /sys/class/thermal/thermal_zone0/temp   48312
//! /proc/loadavg                           0.52 0.58 0.59 1/977 22      the first number
//! ```

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use thiserror::Error;

/// Most bytes that are read: a page, which is all that a sysfs attribute can be.
const FILE_BYTES_MAX: u64 = 4096;
/// Most of an unexpected content that is shown, bytes.
const SHOWN_BYTES_MAX: usize = 40;
/// A driver without a value must say so, not make the thread wait. See `tail::opened`.
const O_NONBLOCK: i32 = 0o4000;

/// Why there is no reading.
#[derive(Debug, Error)]
pub enum ReadingError {
    /// The system refuses.
    #[error("{0}")]
    Unreadable(io::Error),
    /// It holds something else.
    #[error("it begins with {0:?}, which is no number")]
    NoNumber(String),
}

/// Reads the first number of a file.
///
/// # Errors
/// See [`ReadingError`].
pub fn read(path: &Path) -> Result<f64, ReadingError> {
    let mut bytes = Vec::new();
    OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(ReadingError::Unreadable)?;
    parse(&bytes).ok_or_else(|| {
        let shown = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
        ReadingError::NoNumber(String::from_utf8_lossy(shown).trim().to_owned())
    })
}

/// The first number in a text: decimal, finite, with blanks around it.
fn parse(bytes: &[u8]) -> Option<f64> {
    let mut words = bytes.split(|byte| byte.is_ascii_whitespace() || *byte == 0);
    let first = words.find(|word| !word.is_empty())?;
    let number: f64 = std::str::from_utf8(first).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_word_is_the_number() {
        for (text, number) in [
            ("48312\n", Some(48312.0)),
            ("0.52 0.58 0.59 1/977 22\n", Some(0.52)),
            ("  -3.5e2\t", Some(-350.0)),
            ("+7\0\0", Some(7.0)),
            ("", None),
            (" \n", None),
            ("N/A", None),
            ("12C", None),
            ("nan", None),
            ("inf", None),
            ("1e999", None),
        ] {
            assert_eq!(parse(text.as_bytes()), number, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_shown_in_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        std::fs::write(&path, "x".repeat(1 << 20)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.len() < 100 && error.contains("xxx"), "{error}");
        assert!(matches!(
            read(&folder.path().join("none")),
            Err(ReadingError::Unreadable(_))
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(parse(&bytes).is_none_or(f64::is_finite));
        }
    }
}
