//! A number in a small text file, as sysfs, procfs and many drivers give it.
//!
//! ```text
//! /sys/class/thermal/thermal_zone0/temp   48312
//! /proc/loadavg                           0.52 0.58 0.59 1/977 22      the first number
//! ```

use super::ReadError;

/// The first number in a text: decimal, finite, with blanks around it.
///
/// # Errors
/// It begins with something else.
pub fn parse(bytes: &[u8]) -> Result<f64, ReadError> {
    let mut words = bytes.split(|byte| byte.is_ascii_whitespace() || *byte == 0);
    let first = words.find(|word| !word.is_empty());
    first
        .and_then(of_word)
        .ok_or_else(|| ReadError::no_number(bytes))
}

/// The number that a word is.
pub(super) fn of_word(word: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(word).ok()?.trim().parse().ok()?;
    number.is_finite().then_some(number)
}
