//! A 1-Wire thermometer, as the kernel's `w1_therm` gives it: nine bytes of scratchpad, whether
//! their check sum fits, and the temperature in thousandths of a degree.
//!
//! ```text
//! 72 01 4b 46 7f ff 0e 10 57 : crc=57 YES
//! 72 01 4b 46 7f ff 0e 10 57 t=23125
//! ```

use super::ReadError;
use super::number::of_word;

/// Degrees Celsius.
///
/// # Errors
/// [`ReadError::Crc`] where the check sum does not fit, in the kernel's view or in ours.
pub fn parse(bytes: &[u8]) -> Result<f64, ReadError> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let (first, second) = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );
    let Some((scratchpad, verdict)) = first.split_once(" : crc=") else {
        return Err(ReadError::no_number(bytes));
    };
    let scratchpad: Option<Vec<u8>> = scratchpad
        .split(' ')
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    let scratchpad = scratchpad.ok_or_else(|| ReadError::no_number(bytes))?;
    // A line that is held at zero has a check sum that fits, and no sensor.
    let is_dead = scratchpad.iter().all(|byte| *byte == 0);
    if !verdict.ends_with("YES") || is_dead || crc8(&scratchpad) != 0 {
        return Err(ReadError::Crc);
    }
    let value = second
        .rsplit_once("t=")
        .and_then(|(_, value)| of_word(value.as_bytes()));
    Ok(value.ok_or_else(|| ReadError::no_number(bytes))? / 1000.0)
}

/// The check sum of Maxim's application note 27 (polynomial x^8 + x^5 + x^4 + 1, reflected): 0 over
/// bytes that end with their own.
fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x8c } else { 0 }
        })
    })
}
