//! Industrial I/O: `(raw + offset) * scale`, with scale and offset in files of their own, for one
//! channel or for all of its type.
//!
//! ```text
//! in_voltage0_raw  in_voltage0_scale  in_voltage_scale  in_temp_raw  in_temp_offset  in_temp_scale
//! in_voltage0-voltage1_raw  in_voltage-voltage_scale    the difference of two
//! in_temp_input    already converted
//! ```
//!
//! Source: Linux, `Documentation/ABI/testing/sysfs-bus-iio`. Its milli-units become units.

use std::path::Path;

use super::{About, ReadError, attribute, number, text_beside};

/// Unit after scale and offset, as the ABI has it, and what makes it one without "milli".
fn unit(channel: &str) -> (Option<&'static str>, f64) {
    match kind(channel) {
        "temp" => (Some("C"), 0.001),
        "voltage" | "altvoltage" => (Some("V"), 0.001),
        "current" => (Some("A"), 0.001),
        "power" => (Some("W"), 0.001),
        "humidityrelative" => (Some("%"), 0.001),
        "pressure" => (Some("kPa"), 1.0),
        "accel" => (Some("m/s2"), 1.0),
        "anglvel" => (Some("rad/s"), 1.0),
        "angl" | "rot" | "incli" => (Some("rad"), 1.0),
        "magn" => (Some("G"), 1.0),
        "illuminance" => (Some("lx"), 1.0),
        "distance" => (Some("m"), 1.0),
        "resistance" => (Some("Ohm"), 1.0),
        "capacitance" => (Some("nF"), 1.0),
        "energy" => (Some("J"), 1.0),
        "concentration" => (Some("%"), 1.0),
        "electricalconductivity" => (Some("S/m"), 1.0),
        "timestamp" => (Some("ns"), 1.0),
        _ => (None, 1.0),
    }
}

/// The channel that a file is of: `voltage0` of `in_voltage0_raw`, `accel_x` of `in_accel_x_en`.
pub(super) fn channel(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_prefix("in_").unwrap_or(&name);
    name.rsplit_once('_')
        .map_or(name, |(channel, _)| channel)
        .to_owned()
}

/// The type of a channel: its letters.
fn kind(channel: &str) -> &str {
    let len = channel
        .find(|c: char| !c.is_ascii_lowercase())
        .unwrap_or(channel.len());
    &channel[..len]
}

/// What the channels of its type share a file by, the nearest first: `voltage-voltage` and then
/// `voltage` of `voltage0-voltage1`, `accel` of `accel_x`.
fn shared(channel: &str) -> Vec<String> {
    let one = kind(channel).to_owned();
    let both = (channel.split_once('-')).map(|(_, other)| format!("{one}-{}", kind(other)));
    both.into_iter().chain([one]).collect()
}

/// What a raw number of a channel becomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    offset: f64,
    scale: f64,
}

impl Scale {
    /// As the files in `folder` say now: a driver may change its range.
    ///
    /// # Errors
    /// One of them is there and holds no number.
    pub(super) fn read(folder: &Path, channel: &str) -> Result<Self, ReadError> {
        let shared = shared(channel);
        let names = [channel]
            .into_iter()
            .chain(shared.iter().map(String::as_str));
        let beside = |what: &str, default: f64| {
            for of in names.clone() {
                let path = folder.join(format!("in_{of}_{what}"));
                if path.exists() {
                    return number::parse(&attribute(&path)?);
                }
            }
            Ok(default)
        };
        Ok(Self {
            offset: beside("offset", 0.0)?,
            scale: beside("scale", 1.0)? * unit(channel).1,
        })
    }

    pub(super) fn value(self, raw: f64) -> f64 {
        (raw + self.offset) * self.scale
    }
}

/// Reads a channel.
///
/// # Errors
/// See [`ReadError`].
pub fn read(path: &Path) -> Result<f64, ReadError> {
    let raw = number::parse(&attribute(path)?)?;
    let channel = channel(path);
    if path.to_string_lossy().ends_with("_input") {
        return Ok(raw * unit(&channel).1);
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    Ok(Scale::read(folder, &channel)?.value(raw))
}

/// The chip's name and the channel's, and the unit.
pub fn about(path: &Path) -> About {
    let channel = channel(path);
    // Of a scan element the chip's name is one level up.
    let chip = text_beside(path, "name").or_else(|| text_beside(path.parent()?, "name"));
    About {
        label: Some(chip.map_or_else(|| channel.clone(), |chip| format!("{chip} {channel}"))),
        unit: unit(&channel).0,
    }
}
