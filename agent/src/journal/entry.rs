//! One entry of the journal, as `journalctl -o json` writes it. Pure; any bytes are an entry or an
//! error.
//!
//! ```text
//! {"__CURSOR":"s=739ad463348b4ceca5a9e69c95a3c93f;i=4ece7;b=…;m=…;t=4c508a72423d9;x=…",
//!  "MESSAGE":"…","PRIORITY":"6","_SYSTEMD_UNIT":"ssh.service",…}
//! ```
//!
//! A value is a text, a list of bytes where it is not UTF-8, or a list of either where a field stands
//! several times. Source: systemd, `docs/JOURNAL_EXPORT_FORMATS.md`.

use headwater_record::escape;
use headwater_record::steps::{RESERVED, Row};
use headwater_record::value::{Piece, line_row};
use serde_json::{Map, Value};

use crate::process::{Form, ProcessPlan};

/// Fields that every record has, where the entry has them: ours, and the journal's.
const FIELDS: [(&str, &str); 5] = [
    ("unit", "_SYSTEMD_UNIT"),
    ("identifier", "SYSLOG_IDENTIFIER"),
    ("pid", "_PID"),
    ("host", "_HOSTNAME"),
    ("boot", "_BOOT_ID"),
];

/// What steps find in every row.
pub(crate) const NAMES: [&str; 7] = [
    "message",
    "priority",
    FIELDS[0].0,
    FIELDS[1].0,
    FIELDS[2].0,
    FIELDS[3].0,
    FIELDS[4].0,
];

/// What journalctl is asked for beside `more`: the cursor comes unasked.
pub(super) fn output_fields(more: &[String]) -> String {
    let ours = FIELDS.iter().map(|(_, field)| *field);
    let all = ["MESSAGE", "PRIORITY"]
        .into_iter()
        .chain(ours)
        .chain(more.iter().map(String::as_str));
    all.collect::<Vec<_>>().join(",")
}

/// Whether a text names a sequence: 32 hex digits.
pub(super) fn is_sequence(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

/// Where an entry stands: a sequence, its number there, and the time that finds the place in files of
/// other sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Name of the sequence: 32 hex digits.
    pub id: String,
    /// Number in it, from 1.
    pub number: u64,
    /// When the journal received it, Unix time in microseconds.
    pub time_us: u64,
    /// In which boot; 0 where that is not known.
    pub boot: u128,
}

impl Cursor {
    /// Reads `s=…;i=…;…`.
    pub fn parse(text: &str) -> Option<Self> {
        let part = |name: &str| {
            text.split(';')
                .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        };
        let id = part("s")?;
        let number = |name: &str| u64::from_str_radix(part(name)?, 16).ok();
        let (number, time_us) = (number("i")?, number("t")?);
        let boot = part("b").and_then(|boot| u128::from_str_radix(boot, 16).ok());
        let boot = boot.unwrap_or_default();
        (is_sequence(id) && number > 0).then(|| Self {
            id: id.to_owned(),
            number,
            time_us,
            boot,
        })
    }

    /// As journalctl takes it.
    pub fn argument(&self) -> String {
        format!("s={};i={:x};t={:x}", self.id, self.number, self.time_us)
    }
}

/// An entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it stands.
    pub cursor: Cursor,
    /// Its fields, for steps.
    pub row: Row,
}

/// How a message that is not UTF-8 stands in the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// As a text with U+FFFD for what cannot be read.
    Shown,
    /// So, and its exact bytes beside it.
    Beside,
    /// As a text that its bytes are made of again: see [`escape`].
    Escaped,
}

impl Malformed {
    /// As a source's lines want it.
    pub fn of(process: &ProcessPlan) -> Self {
        match process.form {
            Form::Raw => Self::Escaped,
            // The exact bytes would show what redaction covers.
            Form::Json if process.steps.redacts() => Self::Shown,
            Form::Json => Self::Beside,
        }
    }
}

/// Reads a line of journalctl's. `more`: fields that are passed on besides, by their own names, in
/// lower case.
///
/// # Errors
/// What is wrong with it.
pub fn parse(line: &[u8], more: &[String], malformed: Malformed) -> Result<Entry, &'static str> {
    let object: Map<String, Value> =
        serde_json::from_slice(line).map_err(|_| "it is no JSON object")?;
    let text = |field: &str| object.get(field).and_then(Value::as_str);
    let cursor = text("__CURSOR")
        .and_then(Cursor::parse)
        .ok_or("it has no cursor")?;
    let message = object.get("MESSAGE").map(bytes).unwrap_or_default();
    let mut row = match malformed {
        Malformed::Escaped => {
            let text = escape::text(&message);
            line_row(text.as_bytes(), Piece::default(), false)
        }
        other => line_row(&message, Piece::default(), other == Malformed::Beside),
    };
    if let Some(priority) = text("PRIORITY").and_then(|text| text.parse::<u8>().ok()) {
        row.insert("priority".into(), priority.into());
    }
    for (name, field) in FIELDS {
        if let Some(value) = object.get(field) {
            row.insert(name.into(), String::from_utf8_lossy(&bytes(value)).into());
        }
    }
    for field in more {
        if let Some(value) = object.get(field) {
            let mut name = field.to_ascii_lowercase();
            if RESERVED.contains(&name.as_str()) {
                name.push('_');
            }
            row.insert(name, String::from_utf8_lossy(&bytes(value)).into());
        }
    }
    Ok(Entry { cursor, row })
}

/// The bytes of a value: a text, a list of bytes, or the first of several.
fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(list) => {
            let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
            match list.iter().map(byte).collect::<Option<Vec<u8>>>() {
                Some(bytes) => bytes,
                // Several values. One level: what lies deeper is not the journal's.
                None => match list.first() {
                    Some(Value::String(text)) => text.clone().into_bytes(),
                    Some(Value::Array(list)) => list.iter().filter_map(byte).collect(),
                    _ => Vec::new(),
                },
            }
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CURSOR: &str = "s=739ad463348b4ceca5a9e69c95a3c93f;i=4ece7;b=6c7c6013a26343b29e964691ff25d04c;\
                          m=4fc72436e;t=4c508a72423d9;x=d3e5610681098c10";

    #[test]
    fn cursors() {
        let cursor = Cursor::parse(CURSOR).unwrap();
        assert_eq!(cursor.number, 0x4ece7);
        assert_eq!(cursor.time_us, 0x4_c508_a724_23d9);
        assert_eq!(
            cursor.argument(),
            "s=739ad463348b4ceca5a9e69c95a3c93f;i=4ece7;t=4c508a72423d9"
        );
        assert_eq!(cursor.boot, 0x6c7c_6013_a263_43b2_9e96_4691_ff25_d04c);
        let argument = cursor.argument();
        assert_eq!(Cursor::parse(&argument), Some(Cursor { boot: 0, ..cursor }));
        for bad in [
            "",
            "i=1;t=1",
            "s=739ad463348b4ceca5a9e69c95a3c93f;t=1",
            "s=739ad463348b4ceca5a9e69c95a3c93f;i=1",
            "s=739ad463348b4ceca5a9e69c95a3c93f;i=0;t=1",
            "s=739ad463348b4ceca5a9e69c95a3c93f;i=-1;t=1",
            "s=73;i=1;t=1",
            "s=739ad463348b4ceca5a9e69c95a3c93g;i=1;t=1",
            "s=739ad463348b4ceca5a9e69c95a3c93f;i=11111111111111111;t=1",
        ] {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
    }

    fn shown(fields: &str, more: &[&str]) -> Result<String, &'static str> {
        let line = format!(
            r#"{{"__CURSOR":"{CURSOR}","__REALTIME_TIMESTAMP":"1764000000123456"{fields}}}"#
        );
        let more: Vec<_> = more.iter().map(|field| (*field).to_owned()).collect();
        let entry = parse(line.as_bytes(), &more, Malformed::Beside)?;
        Ok(Value::from(entry.row).to_string())
    }

    #[test]
    fn entries_as_journalctl_writes_them() {
        for (fields, more, row) in [
            (
                r#","MESSAGE":"Accepted publickey","PRIORITY":"6","_SYSTEMD_UNIT":"ssh.service","SYSLOG_IDENTIFIER":"sshd","_PID":"612","_UID":"0""#,
                &[][..],
                r#"{"message":"Accepted publickey","priority":6,"unit":"ssh.service","identifier":"sshd","pid":"612"}"#,
            ),
            (
                r#","MESSAGE":[97,255],"_UID":"0","DEVICE":"sda""#,
                &["_UID", "DEVICE", "NONE"],
                r#"{"message":"a�","message_base64":"Yf8=","_uid":"0","device_":"sda"}"#,
            ),
            (
                r#","MESSAGE":["first","second"]"#,
                &[],
                r#"{"message":"first"}"#,
            ),
            (
                r#","MESSAGE":[[97,98],"second"]"#,
                &[],
                r#"{"message":"ab"}"#,
            ),
            (r#","MESSAGE":null"#, &[], r#"{"message":""}"#),
            ("", &[], r#"{"message":""}"#),
        ] {
            assert_eq!(shown(fields, more).as_deref(), Ok(row));
        }
        assert!(parse(b"{}", &[], Malformed::Beside).is_err());
        assert!(parse(b"-- No entries --", &[], Malformed::Beside).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_entry_or_none(bytes in prop::collection::vec(any::<u8>(), 0..60), text in ".{0,40}") {
            prop_assert!(parse(&bytes, &[], Malformed::Beside).is_err());
            Cursor::parse(&text);
            let message = Value::from(text.clone());
            let row = shown(&format!(r#","MESSAGE":{message}"#), &[]).unwrap();
            let row: Value = serde_json::from_str(&row).unwrap();
            prop_assert_eq!(&row["message"], &text);
        }
    }
}
