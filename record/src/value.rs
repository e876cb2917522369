//! A record's value: one JSON object that any consumer can read alone. (With `value = "raw"` it is a line's own
//! bytes, and nothing here is about it; notices are JSON all the same.)
//!
//! ```text
//! {"device":"pi-7","source":"syslog","time":"2026-11-24T08:15:00.123Z","message":"…"}
//! {"device":"pi-7","source":"cpu","time":"…","sensor":"/sys/…/temp","label":"cpu-thermal",
//!  "value":48.312,"unit":"C","quality":"ok"}
//! ```
//!
//! `time` is when the agent read it, UTC. While the device's clock is unset there is no such time:
//! the agent writes the time since the boot in its place, as wide, and replaces it before the record
//! leaves the device ([`unset_time`]).
//!
//! A line is bytes, and JSON is text. Where a line is not well-formed in its encoding, `message`
//! shows it with U+FFFD for what cannot be read, and `message_base64` holds its exact bytes: nothing
//! is lost, and a reader who does not care need not. A line longer than the limit goes as several
//! records: `continues`
//! marks each but the last, `continued` each but the first.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::json_text;
use crate::names::{DeviceId, SourceId};
use crate::notice::Notice;
use crate::steps::Row;

/// 2026-11-01, Unix time in milliseconds: before any build of this. A clock that shows less was
/// never set.
pub const CLOCK_SET_MS: u64 = 1_793_491_200_000;
/// Ten years, in milliseconds; as a date, 1980. A time below it is one since the boot. Far below
/// [`CLOCK_SET_MS`]: what others have dated (the journal's entries) may be older than this program.
pub const SINCE_BOOT_MS_MAX: u64 = 315_532_800_000;

/// What stands before a record's time.
const TIME: &[u8] = b",\"time\":\"";
/// How a time since the boot begins; no date does.
const SINCE_BOOT: &[u8] = b"boot+";

/// Which piece of a line a record holds. A whole line is neither continued nor continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Piece {
    /// The line began in an earlier record.
    pub continued: bool,
    /// The line goes on in the next record.
    pub continues: bool,
}

/// What a sensor's record says. Names of numbers are plain words.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The stream's path.
    pub sensor: &'a str,
    /// What the system calls it.
    pub label: Option<&'a str>,
    /// The numbers: none, and what JSON cannot write (NaN, infinity), becomes `null`.
    pub numbers: &'a [(&'a str, Option<f64>)],
    /// How many samples they are of.
    pub counts: &'a [(&'a str, u64)],
    /// The unit of the numbers.
    pub unit: Option<&'a str>,
    /// How good they are.
    pub quality: &'a str,
}

/// Length of a time as values have it, bytes.
const TIME_BYTES: usize = 24;

/// Writes values of one source; what is the same in each is rendered once.
#[derive(Debug, Clone)]
pub struct ValueWriter {
    prefix: Vec<u8>,
}

impl ValueWriter {
    /// A writer for the values of one source of one device.
    pub fn new(device: &DeviceId, source: &SourceId) -> Self {
        let mut prefix = b"{\"device\":".to_vec();
        write_text(&mut prefix, device.as_str());
        prefix.extend_from_slice(b",\"source\":");
        write_text(&mut prefix, source.as_str());
        prefix.extend_from_slice(TIME);
        Self { prefix }
    }

    fn begin(&self, out: &mut Vec<u8>, time_ms: u64) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(&time_text(time_ms));
        out.push(b'"');
    }

    /// Appends the value of a line (or a piece of one) to `out`. `time_ms`: Unix time of the
    /// reading, milliseconds; below [`SINCE_BOOT_MS_MAX`] the time since the boot.
    pub fn line(&self, out: &mut Vec<u8>, time_ms: u64, line: &[u8], piece: Piece) {
        self.decoded_line(out, time_ms, line, None, piece);
    }

    /// As [`ValueWriter::line`], of a line that was decoded. `raw`: the bytes that it was decoded
    /// from, if `line` shows U+FFFD for some of them.
    pub fn decoded_line(
        &self,
        out: &mut Vec<u8>,
        time_ms: u64,
        line: &[u8],
        raw: Option<&[u8]>,
        piece: Piece,
    ) {
        self.begin(out, time_ms);
        out.push(b',');
        write_decoded(out, "message", line, raw);
        if piece.continued {
            out.extend_from_slice(b",\"continued\":true");
        }
        if piece.continues {
            out.extend_from_slice(b",\"continues\":true");
        }
        out.push(b'}');
    }

    /// Appends the value of a sensor's sample, or of several told as one, to `out`.
    pub fn sample(&self, out: &mut Vec<u8>, time_ms: u64, sample: &Sample<'_>) {
        self.begin(out, time_ms);
        write_field(out, "sensor", sample.sensor);
        if let Some(label) = sample.label {
            write_field(out, "label", label);
        }
        for (name, number) in sample.numbers {
            write_field(out, name, number);
        }
        for (name, count) in sample.counts {
            write_field(out, name, count);
        }
        if let Some(unit) = sample.unit {
            write_field(out, "unit", unit);
        }
        write_field(out, "quality", sample.quality);
        out.push(b'}');
    }

    /// Appends the value of a row that steps have made to `out`: the row holds none of
    /// [`crate::steps::RESERVED`], which stand before it.
    pub fn row(&self, out: &mut Vec<u8>, time_ms: u64, row: &Row) {
        self.begin(out, time_ms);
        for (name, value) in row.iter() {
            write_field(out, name, value);
        }
        out.push(b'}');
    }

    /// Appends the value of a notice to `out`.
    pub fn notice(&self, out: &mut Vec<u8>, time_ms: u64, notice: &Notice) {
        self.begin(out, time_ms);
        let mut fields = Vec::new();
        write_json(&mut fields, notice);
        out.push(b',');
        out.extend_from_slice(fields.strip_prefix(b"{").unwrap_or(&fields));
    }

    /// What a value of this writer says besides its source and its time: two records that say the
    /// same are equal here.
    pub fn said<'a>(&self, value: &'a [u8]) -> &'a [u8] {
        value
            .get(self.prefix.len() + TIME_BYTES..)
            .unwrap_or_default()
    }

    /// Gives a value of this writer another time, meant as in [`ValueWriter::line`].
    pub fn set_time(&self, value: &mut [u8], time_ms: u64) {
        let at = self.prefix.len();
        if let Some(time) = value.get_mut(at..at + TIME_BYTES) {
            time.copy_from_slice(&time_text(time_ms));
        }
    }
}

/// Appends bytes to `out` as a field: `"name":"…"`, and where they are not UTF-8 `,"name_base64":"…"` behind it,
/// which holds them exactly. `name` is a plain word.
pub fn write_bytes(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    write_decoded(out, name, bytes, None);
}

/// As [`write_bytes`]. `raw`: the bytes that `line` was decoded from, if it shows U+FFFD for some of them.
fn write_decoded(out: &mut Vec<u8>, name: &str, line: &[u8], raw: Option<&[u8]>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    let raw = match std::str::from_utf8(line) {
        Ok(text) => {
            write_text(out, text);
            raw
        }
        Err(_) => {
            write_text(out, &String::from_utf8_lossy(line));
            raw.or(Some(line))
        }
    };
    if let Some(raw) = raw {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"_base64\":\"");
        out.extend_from_slice(STANDARD.encode(raw).as_bytes());
        out.push(b'"');
    }
}

/// The row of a line (or a piece of one), for steps: what [`ValueWriter::line`] writes of it. Without
/// `exact` the bytes of a line that is not UTF-8 do not go beside the text.
pub fn line_row(line: &[u8], piece: Piece, exact: bool) -> Row {
    let mut row = Row::new();
    match std::str::from_utf8(line) {
        Ok(text) => {
            row.insert("message".into(), text.into());
        }
        Err(_) => {
            row.insert("message".into(), String::from_utf8_lossy(line).into());
            if exact {
                row.insert("message_base64".into(), STANDARD.encode(line).into());
            }
        }
    }
    for (name, is_so) in [
        ("continued", piece.continued),
        ("continues", piece.continues),
    ] {
        if is_so {
            row.insert(name.into(), true.into());
        }
    }
    row
}

/// As [`line_row`], of a line that was decoded from `raw`, some of which its text cannot show.
pub fn decoded_row(line: &[u8], raw: &[u8], piece: Piece) -> Row {
    let mut row = line_row(line, piece, false);
    row.insert("message_base64".into(), STANDARD.encode(raw).into());
    row
}

/// Adds a field to a value that is written: `,"name":number` before its last brace.
pub fn append_number(value: &mut Vec<u8>, name: &str, number: u64) {
    debug_assert_eq!(value.last(), Some(&b'}'), "a value is an object");
    value.pop();
    value.push(b',');
    write_text(value, name);
    value.push(b':');
    write_json(value, &number);
    value.push(b'}');
}

/// `,"name":value`
fn write_field<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, name: &str, value: &T) {
    out.push(b',');
    write_text(out, name);
    out.push(b':');
    write_json(out, value);
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    json_text::write(out, text);
}

fn write_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(
        written.is_ok(),
        "a Vec takes every byte, and our types are plain"
    );
}

/// `YYYY-MM-DDThh:mm:ss.mmmZ` of a Unix time in milliseconds. Years above 9999 are written as
/// 9999's last instant: no clock of ours is there, and the width stays fixed.
pub fn rfc3339(time_ms: u64) -> [u8; TIME_BYTES] {
    const LAST: u64 = 253_402_300_799_999;
    let time_ms = time_ms.min(LAST);
    let (days, of_day) = (time_ms / 86_400_000, time_ms % 86_400_000);
    let (year, month, day) = civil_from_days(days);
    let mut text = [0; 24];
    let mut rest: &mut [u8] = &mut text;
    let written = write!(
        rest,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        of_day / 3_600_000,
        of_day / 60_000 % 60,
        of_day / 1000 % 60,
        of_day % 1000
    );
    debug_assert!(written.is_ok(), "24 bytes hold it");
    text
}

/// A time as a value has it: a date, or the time since the boot.
fn time_text(time_ms: u64) -> [u8; TIME_BYTES] {
    if time_ms < SINCE_BOOT_MS_MAX {
        since_boot(time_ms)
    } else {
        rfc3339(time_ms)
    }
}

/// `boot+ssssssssssssss.mmms`: as wide as a date, and none.
fn since_boot(time_ms: u64) -> [u8; 24] {
    let mut text = [0; 24];
    let mut rest: &mut [u8] = &mut text;
    let written = write!(rest, "boot+{:014}.{:03}s", time_ms / 1000, time_ms % 1000);
    debug_assert!(written.is_ok(), "24 bytes hold it");
    text
}

/// Where in a value the time stands (24 bytes) if it was written while the clock was unset, and the
/// time since the boot, milliseconds. None for a value that has a time, or that none of our writers
/// wrote.
pub fn unset_time(value: &[u8]) -> Option<(usize, u64)> {
    // Ids are bounded, and a quote in one is escaped: the first such key is ours.
    let head = &value[..value.len().min(HEAD_BYTES_MAX)];
    let key = (head.windows(TIME.len())).position(|window| window == TIME)?;
    let at = key + TIME.len();
    let time = value.get(at..at + 24)?.strip_prefix(SINCE_BOOT)?;
    let digits = |range: std::ops::Range<usize>| -> Option<u64> {
        let text = std::str::from_utf8(time.get(range)?).ok()?;
        (text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let (seconds, millis) = (digits(0..14)?, digits(15..18)?);
    (time[14] == b'.' && time[18] == b's').then_some((at, seconds * 1000 + millis))
}

/// In so many bytes a value's time begins: two ids, each byte escaped, and their keys.
const HEAD_BYTES_MAX: usize = 2 * 2 * crate::names::ID_BYTES_MAX + 64;

/// Days since 1970-01-01 to (year, month, day), proleptic Gregorian.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn writer() -> ValueWriter {
        ValueWriter::new(&"pi-7".parse().unwrap(), &"syslog".parse().unwrap())
    }

    fn line(bytes: &[u8], piece: Piece) -> String {
        let mut out = Vec::new();
        writer().line(&mut out, 1_795_536_000_123, bytes, piece);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn golden_values() {
        assert_eq!(
            line(b"say \"hi\"\t\x01", Piece::default()),
            r#"{"device":"pi-7","source":"syslog","time":"2026-11-24T16:00:00.123Z","message":"say \"hi\"\t\u0001"}"#
        );
        assert_eq!(
            line(
                b"a\xffb",
                Piece {
                    continued: true,
                    continues: false
                }
            ),
            "{\"device\":\"pi-7\",\"source\":\"syslog\",\"time\":\"2026-11-24T16:00:00.123Z\",\
             \"message\":\"a\u{fffd}b\",\"message_base64\":\"Yf9i\",\"continued\":true}"
        );
        let mut out = Vec::new();
        let mut sample = Sample {
            sensor: "/sys/temp",
            label: None,
            numbers: &[("value", Some(48.5))],
            counts: &[],
            unit: Some("C"),
            quality: "ok",
        };
        writer().sample(&mut out, CLOCK_SET_MS, &sample);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"device":"pi-7","source":"syslog","time":"2026-11-01T00:00:00.000Z","sensor":"/sys/temp","value":48.5,"unit":"C","quality":"ok"}"#
        );
        sample.label = Some("cpu");
        sample.numbers = &[("min", Some(1.0)), ("last", None)];
        (sample.counts, sample.unit, sample.quality) = (&[("count", 7)], None, "stale");
        let mut out = Vec::new();
        writer().sample(&mut out, 0, &sample);
        assert!(out.ends_with(
            br#","sensor":"/sys/temp","label":"cpu","min":1.0,"last":null,"count":7,"quality":"stale"}"#
        ));
    }

    #[test]
    fn a_row_is_written_and_its_time_is_apart() {
        let row: Row = serde_json::from_str(r#"{"z":1,"a":{"b":["ü"]}}"#).unwrap();
        let (mut early, mut late) = (Vec::new(), Vec::new());
        writer().row(&mut early, 0, &row);
        writer().row(&mut late, 1_795_536_000_123, &row);
        assert_eq!(writer().said(&early), writer().said(&late));
        writer().set_time(&mut early, 1_795_536_000_123);
        append_number(&mut early, "repeated", 7);
        assert_eq!(
            String::from_utf8(early).unwrap(),
            r#"{"device":"pi-7","source":"syslog","time":"2026-11-24T16:00:00.123Z","z":1,"a":{"b":["ü"]},"repeated":7}"#
        );
    }

    #[test]
    fn a_time_since_the_boot_is_as_wide_as_a_date_and_found_again() {
        let mut out = Vec::new();
        writer().line(&mut out, 93_784_123, b"x", Piece::default());
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            r#"{"device":"pi-7","source":"syslog","time":"boot+00000000093784.123s","message":"x"}"#
        );
        let (at, since_boot_ms) = unset_time(&out).unwrap();
        assert_eq!(since_boot_ms, 93_784_123);
        assert_eq!(&out[at..at + 5], b"boot+");
        assert_eq!(since_boot(0).len(), rfc3339(CLOCK_SET_MS).len());
        // A date of somebody else's, older than this program.
        assert_eq!(time_text(1_600_000_000_000), *b"2020-09-13T12:26:40.000Z");
        // The longest ids there are, all of it escaped.
        let longest = "\"".repeat(crate::names::ID_BYTES_MAX);
        let mut out = Vec::new();
        ValueWriter::new(&longest.parse().unwrap(), &longest.parse().unwrap()).line(
            &mut out,
            5,
            b"x",
            Piece::default(),
        );
        assert_eq!(
            unset_time(&out).map(|(_, since_boot_ms)| since_boot_ms),
            Some(5)
        );
        for other in [
            &b""[..],
            br#"{"message":"boot+00000000093784.123s"}"#,
            br#"{"a":1,"time":"boot+0000000009378"#,
            br#"{"a":1,"time":"boot+0000000009378x.123s"}"#,
            br#"{"a":1,"time":"boot+00000000093784:123s"}"#,
            br#"{"a":1,"time":"2026-11-24T08:15:00.123Z"}"#,
        ] {
            assert_eq!(unset_time(other), None, "{}", other.escape_ascii());
        }
    }

    #[test]
    fn notices_read_back() {
        let notice = Notice::Loss {
            reason: "window-full".into(),
            records: Some(3),
        };
        let mut out = Vec::new();
        writer().notice(&mut out, 0, &notice);
        assert_eq!(Notice::parse(&out), Some(notice));
        assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
    }

    #[test]
    fn dates() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(std::str::from_utf8(&rfc3339(ms)).unwrap(), text);
        }
    }

    proptest! {
        #[test]
        fn a_line_and_its_row_are_written_alike(
            bytes in prop::collection::vec(any::<u8>(), 0..50),
            (continued, continues) in any::<(bool, bool)>(),
        ) {
            let piece = Piece { continued, continues };
            let mut out = Vec::new();
            writer().row(&mut out, 1_795_536_000_123, &line_row(&bytes, piece, true));
            prop_assert_eq!(String::from_utf8(out).unwrap(), line(&bytes, piece));
        }

        #[test]
        fn no_byte_of_a_line_is_lost(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let value: serde_json::Value = serde_json::from_str(&line(&bytes, Piece::default())).unwrap();
            let back = match value.get("message_base64") {
                Some(exact) => STANDARD.decode(exact.as_str().unwrap()).unwrap(),
                None => value["message"].as_str().unwrap().as_bytes().to_vec(),
            };
            prop_assert_eq!(back, bytes);
        }
    }
}
