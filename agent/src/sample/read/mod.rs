//! The readers: what kinds of sensors there are, and how each is read.
//!
//! - [`number`]: the first number of a small file.
//! - [`sysfs`]: thermal zones, hwmon, power supplies: numbers whose unit their name tells.
//! - [`iio`]: raw numbers with a scale and an offset beside them; [`buffer`]: the values that the
//!   kernel has collected meanwhile.
//! - [`one_wire`]: with a check sum.
//! - [`document`]: a number in JSON or CSV.
//! - [`command`]: what a program prints.
//!
//! What is read is small and bounded, and never trusted: any bytes give a number or an error.

pub mod buffer;
pub mod command;
pub mod document;
pub mod iio;
pub mod number;
pub mod one_wire;
pub mod sysfs;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::reading::Quality;
use crate::discover::not_a_file;

/// Most bytes of a sysfs attribute: a page.
const ATTRIBUTE_BYTES_MAX: u64 = 4096;
/// Most bytes that are read of each end of a larger file, and of what a command prints.
const DOCUMENT_BYTES_MAX: u64 = 64 * 1024;
/// Most of an unexpected content that is shown, bytes.
const SHOWN_BYTES_MAX: usize = 40;
/// A driver without a value must say so, not make the thread wait. See `tail::opened`.
const O_NONBLOCK: i32 = 0o4000;

/// Kinds of sensors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The first number of a file.
    #[default]
    Number,
    /// `/sys/class/thermal`
    Thermal,
    /// `/sys/class/hwmon`
    Hwmon,
    /// `/sys/bus/iio`, one value at a time.
    Iio,
    /// `/sys/bus/iio`, what the kernel has collected.
    IioBuffer,
    /// `/sys/bus/w1`
    OneWire,
    /// `/sys/class/power_supply`
    PowerSupply,
    /// A number in a JSON document.
    Json,
    /// A number in the last row of a CSV file.
    Csv,
}

impl Kind {
    /// Where sensors of this kind are, if it is always there.
    pub fn usual_paths(self) -> &'static [&'static str] {
        match self {
            Self::Number | Self::Json | Self::Csv => &[],
            Self::Thermal => &["/sys/class/thermal/thermal_zone*/temp"],
            Self::Hwmon => &["/sys/class/hwmon/hwmon*/*_input"],
            Self::Iio => &[
                "/sys/bus/iio/devices/iio:device*/in_*_raw",
                "/sys/bus/iio/devices/iio:device*/in_*_input",
            ],
            Self::IioBuffer => &["/sys/bus/iio/devices/iio:device*/scan_elements/in_*_en"],
            Self::OneWire => &["/sys/bus/w1/devices/*/w1_slave"],
            Self::PowerSupply => &[
                "/sys/class/power_supply/*/capacity",
                "/sys/class/power_supply/*/voltage_now",
                "/sys/class/power_supply/*/current_now",
                "/sys/class/power_supply/*/power_now",
                "/sys/class/power_supply/*/temp",
            ],
        }
    }
}

/// How the sensors of one source are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Their kind.
    pub kind: Kind,
    /// What is run instead of reading a file: the program and its arguments.
    pub command: Option<Vec<String>>,
    /// JSON: where in the document, as a pointer (RFC 6901).
    pub pointer: String,
    /// CSV: the column's name in the first line, or its number from 1.
    pub column: String,
    /// CSV: what separates two columns, ASCII.
    pub separator: u8,
    /// Where character devices are: `/dev`.
    pub dev: PathBuf,
}

/// What is fixed of a sensor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// What the system calls it, for people.
    pub label: Option<String>,
    /// The unit of what is read.
    pub unit: Option<&'static str>,
}

/// Why there is no reading.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system refuses.
    #[error("{0}")]
    Unreadable(io::Error),
    /// It holds something else.
    #[error("it begins with {0:?}, which is no number")]
    NoNumber(String),
    /// It holds no such thing.
    #[error("{0}")]
    NotThere(String),
    /// The sensor's check sum does not fit.
    #[error("its check sum does not fit: a bad line, or a long one")]
    Crc,
    /// The command does not give one.
    #[error("the command {0}")]
    Command(String),
}

impl ReadError {
    /// How it is told.
    pub fn quality(&self) -> Quality {
        match self {
            Self::Crc => Quality::Crc,
            _ => Quality::Missing,
        }
    }

    fn no_number(bytes: &[u8]) -> Self {
        let shown = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
        Self::NoNumber(String::from_utf8_lossy(shown).trim().to_owned())
    }
}

impl Reader {
    /// Reads one number, in the unit that [`Reader::about`] tells.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&self, path: &Path) -> Result<f64, ReadError> {
        match self.kind {
            Kind::Number => number::parse(&attribute(path)?),
            Kind::Thermal => sysfs::read(path, sysfs::thermal()),
            Kind::Hwmon => sysfs::read(path, sysfs::hwmon(path)),
            Kind::PowerSupply => sysfs::read(path, sysfs::power_supply(path)),
            Kind::Iio => iio::read(path),
            Kind::OneWire => one_wire::parse(&attribute(path)?),
            Kind::Json | Kind::Csv => document::read(path, self),
            // Its values come from the buffer.
            Kind::IioBuffer => Err(ReadError::NotThere("it is read as a whole".into())),
        }
    }

    /// Reads one number in what the command prints.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn run(&self, command: &[String]) -> Result<f64, ReadError> {
        let output = command::run(command)?;
        match self.kind {
            Kind::Json => document::json(&output, &self.pointer),
            Kind::Csv => document::csv(&output, &output, &self.column, self.separator),
            _ => number::parse(&output),
        }
    }

    /// Whether an element of a buffer (`in_*_en`) is enabled.
    pub fn is_enabled(&self, path: &Path) -> bool {
        attribute(path)
            .and_then(|bytes| number::parse(&bytes))
            .is_ok_and(|number| number != 0.0)
    }

    /// What is fixed of the sensor at a path.
    pub fn about(&self, path: &Path) -> About {
        match self.kind {
            Kind::Number | Kind::Json | Kind::Csv => About::default(),
            Kind::Thermal => sysfs::about(path, sysfs::thermal(), "type"),
            Kind::Hwmon => sysfs::about_hwmon(path),
            Kind::PowerSupply => sysfs::about(path, sysfs::power_supply(path), "model_name"),
            Kind::Iio | Kind::IioBuffer => iio::about(path),
            Kind::OneWire => About {
                label: None,
                unit: Some("C"),
            },
        }
    }
}

/// The content of a sysfs attribute.
fn attribute(path: &Path) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    open_file(path)
        .and_then(|file| file.take(ATTRIBUTE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(ReadError::Unreadable)?;
    Ok(bytes)
}

/// A short text beside a sensor, where there is one.
fn text_beside(path: &Path, name: &str) -> Option<String> {
    let bytes = attribute(&path.with_file_name(name)).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let short = text.get(..text.floor_char_boundary(64))?;
    (!short.is_empty()).then(|| short.to_owned())
}

/// The beginning and the end of a file, [`DOCUMENT_BYTES_MAX`] each; the same twice where it is
/// short.
fn both_ends(path: &Path) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let file = open_file(path)?;
    let size = file.metadata()?.len();
    let mut head = Vec::new();
    (&file).take(DOCUMENT_BYTES_MAX).read_to_end(&mut head)?;
    let Some(start) = size
        .checked_sub(DOCUMENT_BYTES_MAX)
        .filter(|start| *start > 0)
    else {
        let tail = head.clone();
        return Ok((head, tail));
    };
    let mut tail = vec![0; head.len()];
    let len = file.read_at(&mut tail, start)?;
    tail.truncate(len);
    Ok((head, tail))
}

/// Opens a regular file. Looked at first: with some devices (a watchdog) to open one is an act.
fn open_file(path: &Path) -> io::Result<File> {
    match not_a_file(&fs::metadata(path)?) {
        None => open(path),
        Some(what) => {
            let text = format!("it is a {what}, not a regular file");
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
}

#[cfg(test)]
mod tests;
