//! What stands in a path in place of a value or a time: confined to its place, whatever a device wrote.

use std::fmt::Write;

use super::PathError;

/// What Hive and Athena read as "no value".
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// Longest value in a path, in bytes.
pub(super) const VALUE_BYTES_MAX: usize = 128;

/// A piece of a time format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TimePiece {
    /// Text as it stands.
    Text(String),
    /// The letter of a unit: one of `YmdHMj`.
    Unit(char),
}

/// The pieces of a time format.
///
/// # Errors
/// A unit that is not known, or a slash.
pub(super) fn time_pieces(format: &str) -> Result<Vec<TimePiece>, PathError> {
    let mut pieces = Vec::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '%' => match chars.next() {
                Some(unit @ ('Y' | 'm' | 'd' | 'H' | 'M' | 'j')) => TimePiece::Unit(unit),
                _ => return Err(PathError::Time(format.to_owned())),
            },
            '/' => return Err(PathError::Time(format.to_owned())),
            c => TimePiece::Text(c.to_string()),
        });
    }
    Ok(pieces)
}

/// The part of a plain UTC time, `YYYY-MM-DDThh:mm:ss[.fraction]Z`, that a path can depend on: up to
/// the minute. `None` where it is written otherwise. Whether there is such a day does not matter
/// here: what the first of its kind was read as holds for all.
pub(super) fn minute(text: &str) -> Option<&str> {
    let layout = b"0000-00-00T00:00:";
    let (head, tail) = text.as_bytes().split_at_checked(layout.len())?;
    let fits = |(have, want): (&u8, &u8)| match want {
        b'0' => have.is_ascii_digit(),
        want => have == want,
    };
    let fraction_fits = match tail {
        [b'0'..=b'5', b'0'..=b'9', b'Z'] => true,
        [b'0'..=b'5', b'0'..=b'9', b'.', digits @ .., b'Z'] => {
            (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    let plain = fraction_fits && head.iter().zip(layout).all(fits);
    text.get(..16).filter(|_| plain)
}

/// Writes an event's time in UTC, or the batch clock where the event has none.
pub(super) fn write_time(
    event: Option<jiff::Timestamp>,
    clock_ms: u64,
    format: &[TimePiece],
    path: &mut String,
) {
    let clock = || {
        let ms = i64::try_from(clock_ms).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX)
    };
    let at = event
        .unwrap_or_else(clock)
        .to_zoned_datetime(jiff::tz::TimeZone::UTC);
    for piece in format {
        let written = match piece {
            TimePiece::Text(text) => {
                confine(text, path);
                Ok(())
            }
            TimePiece::Unit('Y') => write!(path, "{:04}", at.year()),
            TimePiece::Unit('m') => write!(path, "{:02}", at.month()),
            TimePiece::Unit('d') => write!(path, "{:02}", at.day()),
            TimePiece::Unit('H') => write!(path, "{:02}", at.hour()),
            TimePiece::Unit('M') => write!(path, "{:02}", at.minute()),
            TimePiece::Unit(_) => write!(path, "{:03}", at.day_of_year()),
        };
        debug_assert!(written.is_ok(), "a String takes every byte");
    }
}

/// Writes a value as a part of a path: see the head of [`super`].
pub(crate) fn confine(value: &str, path: &mut String) {
    if value.is_empty() {
        path.push_str(NO_VALUE);
        return;
    }
    let only_dots = value.bytes().all(|b| b == b'.');
    let from = path.len();
    for byte in value.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte);
        if plain && !only_dots {
            path.push(char::from(byte));
        } else {
            let written = write!(path, "%{byte:02X}");
            debug_assert!(written.is_ok(), "a String takes every byte");
        }
    }
    if path.len() - from > VALUE_BYTES_MAX {
        path.truncate(from + VALUE_BYTES_MAX - 9);
        let written = write!(path, "~{:08x}", crc32c::crc32c(value.as_bytes()));
        debug_assert!(written.is_ok(), "a String takes every byte");
    }
}
