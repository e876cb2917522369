//! Numbers of sysfs whose unit their name tells.
//!
//! Sources: Linux, `Documentation/ABI/testing/sysfs-class-thermal`, `Documentation/hwmon/
//! sysfs-interface.rst`, `Documentation/ABI/testing/sysfs-class-power`.

use std::path::Path;

use super::{About, ReadError, attribute, number, text_beside};

/// Unit, and what a raw number is multiplied by to be in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// Its symbol.
    pub symbol: Option<&'static str>,
    /// The factor.
    pub factor: f64,
}

const fn unit(symbol: &'static str, factor: f64) -> Unit {
    Unit {
        symbol: Some(symbol),
        factor,
    }
}

const PLAIN: Unit = Unit {
    symbol: None,
    factor: 1.0,
};

/// Millidegrees.
pub fn thermal() -> Unit {
    unit("C", 0.001)
}

/// By the name's beginning: `temp1_input`, `in0_input`.
pub fn hwmon(path: &Path) -> Unit {
    let name = name(path);
    let kind = name.trim_end_matches(|c: char| !c.is_ascii_digit() || c == '_');
    match kind.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "temp" => unit("C", 0.001),
        "in" => unit("V", 0.001),
        "curr" => unit("A", 0.001),
        "power" => unit("W", 1e-6),
        "energy" => unit("J", 1e-6),
        "humidity" => unit("%", 0.001),
        "fan" => unit("rpm", 1.0),
        "freq" => unit("Hz", 1.0),
        _ => PLAIN,
    }
}

/// By the name: `voltage_now`, `capacity`.
pub fn power_supply(path: &Path) -> Unit {
    let name = name(path);
    match name.split('_').next().unwrap_or_default() {
        "capacity" => unit("%", 1.0),
        "voltage" => unit("V", 1e-6),
        "current" => unit("A", 1e-6),
        "power" => unit("W", 1e-6),
        "energy" => unit("Wh", 1e-6),
        "charge" => unit("Ah", 1e-6),
        "temp" => unit("C", 0.1),
        "time" => unit("s", 1.0),
        _ => PLAIN,
    }
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Reads a number in its unit.
///
/// # Errors
/// See [`ReadError`].
pub fn read(path: &Path, unit: Unit) -> Result<f64, ReadError> {
    Ok(number::parse(&attribute(path)?)? * unit.factor)
}

/// Unit, and the text of the file `label` beside it.
pub fn about(path: &Path, unit: Unit, label: &str) -> About {
    About {
        label: text_beside(path, label),
        unit: unit.symbol,
    }
}

/// The chip's name, and what the channel is called: `cpu_thermal`, `coretemp Core 0`.
pub fn about_hwmon(path: &Path) -> About {
    let channel = name(path).replace("_input", "_label");
    let label = [text_beside(path, "name"), text_beside(path, &channel)];
    let label: Vec<_> = label.into_iter().flatten().collect();
    About {
        label: (!label.is_empty()).then(|| label.join(" ")),
        unit: hwmon(path).symbol,
    }
}
