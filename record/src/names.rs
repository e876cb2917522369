//! The names that a record is known by: checked once, when they enter, and never again.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest device or source id, in bytes.
pub const ID_BYTES_MAX: usize = 128;

/// Longest stream name, in bytes: a path of 4096 bytes (Linux's `PATH_MAX`), each byte escaped to
/// three, with its two ids and slashes.
pub const STREAM_BYTES_MAX: usize = 3 * 4096 + 2 * ID_BYTES_MAX + 2;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing at all, or an empty part.
    #[error("it is empty")]
    Empty,
    /// Over the stated bound.
    #[error("it is {bytes} bytes long, and {max} are allowed")]
    TooLong {
        /// Its length, bytes.
        bytes: usize,
        /// The bound, bytes.
        max: usize,
    },
    /// Ids are printable ASCII without `/`, so that they can stand in headers, paths and metrics.
    #[error("it holds {0:?}: ids are printable ASCII without '/' and blanks")]
    BadCharacter(char),
    /// A stream is `<device>/<source>/<path or sensor>`.
    #[error("it has no three parts: a stream is <device>/<source>/<path or sensor>")]
    Parts,
    /// A generation is written as 16 lower-case hex digits.
    #[error("a generation is 16 lower-case hex digits")]
    Generation,
}

fn check_id(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(NameError::TooLong {
            bytes: text.len(),
            max: ID_BYTES_MAX,
        });
    }
    match text.chars().find(|c| !c.is_ascii_graphic() || *c == '/') {
        Some(c) => Err(NameError::BadCharacter(c)),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                check_id(&text)?;
                Ok(Self(text))
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                text.to_owned().try_into()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// One device of a fleet: 1 to 128 bytes of printable ASCII without `/`.
    DeviceId
}
id! {
    /// One configured input (`[[file]]`, `[[sensor]]`): 1 to 128 bytes of printable ASCII without `/`.
    SourceId
}

/// `<device>/<source>/<path or sensor>`: one ordered sequence from one device. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    text: Arc<str>,
    device_end: usize,
    source_end: usize,
}

impl StreamId {
    /// The stream of `path` (any bytes, as the file system has them) under a source. Bytes that
    /// are not UTF-8, control characters and `%` are written `%XX`, so that the name is text and
    /// no two paths share one.
    ///
    /// # Errors
    /// An empty path, or one over [`STREAM_BYTES_MAX`] when written.
    pub fn new(device: &DeviceId, source: &SourceId, path: &[u8]) -> Result<Self, NameError> {
        if path.is_empty() {
            return Err(NameError::Empty);
        }
        Self::parse(&format!("{device}/{source}/{}", escape_path(path)))
    }

    /// Reads a stream name as the `hw-stream` header carries it.
    ///
    /// # Errors
    /// What [`split_stream`] refuses.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (device, source, _) = split_stream(text)?;
        let device_end = device.len();
        Ok(Self {
            text: text.into(),
            device_end,
            source_end: device_end + 1 + source.len(),
        })
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The device's part.
    pub fn device(&self) -> &str {
        &self.text[..self.device_end]
    }

    /// The source's part.
    pub fn source(&self) -> &str {
        &self.text[self.device_end + 1..self.source_end]
    }

    /// The path or sensor, escaped as [`StreamId::new`] says.
    pub fn path(&self) -> &str {
        &self.text[self.source_end + 1..]
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Device, source and path of a stream name, checked, without a copy.
///
/// # Errors
/// A missing or empty part, an id that [`DeviceId`] would refuse, a control character in the path,
/// or more than [`STREAM_BYTES_MAX`] bytes.
pub fn split_stream(text: &str) -> Result<(&str, &str, &str), NameError> {
    if text.len() > STREAM_BYTES_MAX {
        return Err(NameError::TooLong {
            bytes: text.len(),
            max: STREAM_BYTES_MAX,
        });
    }
    let (device, rest) = text.split_once('/').ok_or(NameError::Parts)?;
    let (source, path) = rest.split_once('/').ok_or(NameError::Parts)?;
    check_id(device)?;
    check_id(source)?;
    if path.is_empty() {
        return Err(NameError::Empty);
    }
    match path.chars().find(|c| c.is_control()) {
        Some(c) => Err(NameError::BadCharacter(c)),
        None => Ok((device, source, path)),
    }
}

/// A path as it stands in a stream's name: what is not UTF-8, control characters and `%` as `%XX`.
pub fn escape_path(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' || c.is_control() {
                let mut utf8 = [0; 4];
                escape_bytes(c.encode_utf8(&mut utf8).as_bytes(), &mut text);
            } else {
                text.push(c);
            }
        }
        escape_bytes(chunk.invalid(), &mut text);
    }
    text
}

fn escape_bytes(bytes: &[u8], text: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        text.push('%');
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
}

/// One distinct file under a stream's path, or one start of the agent for a sensor: a random
/// 64-bit number, so that a lost or rolled-back database can never name an old one anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Generation {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 16 || !text.bytes().all(lower_hex) {
            return Err(NameError::Generation);
        }
        u64::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| NameError::Generation)
    }
}

impl TryFrom<String> for Generation {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Generation> for String {
    fn from(generation: Generation) -> String {
        generation.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_keeps_its_absolute_path() {
        let device = "pi-7".parse().unwrap();
        let source = "syslog".parse().unwrap();
        let stream = StreamId::new(&device, &source, b"/var/log/syslog").unwrap();
        assert_eq!(stream.as_str(), "pi-7/syslog//var/log/syslog");
        assert_eq!(stream.device(), "pi-7");
        assert_eq!(stream.source(), "syslog");
        assert_eq!(stream.path(), "/var/log/syslog");
        assert_eq!(StreamId::parse(stream.as_str()), Ok(stream));
    }

    #[test]
    fn paths_that_are_no_text_stay_apart() {
        let device = "d".parse().unwrap();
        let source = "s".parse().unwrap();
        let name = |path: &[u8]| {
            StreamId::new(&device, &source, path)
                .unwrap()
                .path()
                .to_owned()
        };
        assert_eq!(name(b"/a\xffb"), "/a%FFb");
        assert_eq!(name(b"/a%FFb"), "/a%25FFb");
        assert_eq!(name(b"/new\nline"), "/new%0Aline");
        assert_eq!(name("/grün".as_bytes()), "/grün");
    }

    #[test]
    fn what_is_refused() {
        for bad in [
            "",
            "a",
            "a/b",
            "a/b/",
            "/b/c",
            "a//c",
            "a b/s/p",
            "a/s/p\u{7}",
        ] {
            assert!(StreamId::parse(bad).is_err(), "{bad:?}");
        }
        for bad in [
            "",
            "0",
            "00000000000000g0",
            "00000000000000AB",
            "+000000000000000",
        ] {
            assert!(bad.parse::<Generation>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(129).parse::<DeviceId>().is_err());
    }
}
