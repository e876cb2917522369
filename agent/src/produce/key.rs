//! The key of a record in Kafka. Pure: a function of its stream, never of the record, since the ledger
//! needs each stream to stay in one partition.
//!
//! `"device"` (one device, one partition, one order), `"stream"`, or a template over what is fixed for a
//! stream: `"plant-7/{device}/{source}"`.

use std::fmt;

use headwater_record::StreamId;
use headwater_record::steps::{Part, parse_template};

/// What a template may name.
const FIELDS: [&str; 4] = ["device", "source", "path", "stream"];

/// How keys are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    written: String,
    parts: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Device,
    Source,
    Path,
    Stream,
}

impl Piece {
    fn named(name: &str) -> Option<Self> {
        match name {
            "device" => Some(Self::Device),
            "source" => Some(Self::Source),
            "path" => Some(Self::Path),
            "stream" => Some(Self::Stream),
            _ => None,
        }
    }
}

impl Default for Key {
    fn default() -> Self {
        Self {
            written: "device".to_owned(),
            parts: vec![Piece::Device],
        }
    }
}

impl Key {
    /// Reads a setting.
    ///
    /// # Errors
    /// What is wrong with it, and what is possible.
    pub fn parse(written: &str) -> Result<Self, String> {
        let parts = match written {
            "device" => vec![Piece::Device],
            "stream" => vec![Piece::Stream],
            _ => template(written)?,
        };
        Ok(Self {
            written: written.to_owned(),
            parts,
        })
    }

    /// The key of a stream's records.
    pub fn of(&self, stream: &StreamId) -> String {
        let pieces = self.parts.iter().map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Device => stream.device(),
            Piece::Source => stream.source(),
            Piece::Path => stream.path(),
            Piece::Stream => stream.as_str(),
        });
        pieces.collect()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

fn template(written: &str) -> Result<Vec<Piece>, String> {
    let known = FIELDS.map(|name| format!("{{{name}}}")).join(", ");
    let parts = parse_template(written)
        .ok_or_else(|| format!("{written:?} has braces that do not match ('{{{{' is a brace)"))?;
    let mut pieces = Vec::with_capacity(parts.len());
    for part in parts {
        pieces.push(match part {
            Part::Text(text) => Piece::Text(text),
            Part::Field(name) => Piece::named(&name).ok_or_else(|| {
                format!(
                    "{{{name}}} is not fixed for a stream, so its records would be in several \
                     partitions: use {known}"
                )
            })?,
        });
    }
    // A word alone is rather a mistake: all records of a fleet would be in one partition.
    if pieces.iter().all(|piece| matches!(piece, Piece::Text(_))) {
        return Err(format!(
            "{written:?} is neither \"device\" nor \"stream\" nor a template of {known}"
        ));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_made_of_what_is_fixed_for_a_stream() {
        let stream = StreamId::parse("pi-7/app//var/log/a.log").unwrap();
        for (written, key) in [
            ("device", "pi-7"),
            ("stream", "pi-7/app//var/log/a.log"),
            ("{stream}", "pi-7/app//var/log/a.log"),
            ("plant-7/{device}", "plant-7/pi-7"),
            ("{source}{{{path}}}", "app{/var/log/a.log}"),
        ] {
            let made = Key::parse(written).unwrap();
            assert_eq!(made.of(&stream), key);
            assert_eq!(made.to_string(), written);
        }
        assert_eq!(Key::parse("device"), Ok(Key::default()));
    }

    #[test]
    fn what_is_no_key_is_refused_with_what_is() {
        for (written, why) in [
            ("{device", "do not match"),
            ("{message}", "{message} is not fixed"),
            (
                "{time}-{device}",
                "use {device}, {source}, {path}, {stream}",
            ),
            ("devcie", "neither \"device\" nor \"stream\""),
            ("", "neither"),
        ] {
            let problem = Key::parse(written).unwrap_err();
            assert!(problem.contains(why), "{written:?}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_key_or_a_problem(written in ".{0,30}", path in "[^\\x00]{1,20}") {
            let stream = StreamId::parse(&format!("d/s/{path}"));
            if let (Ok(key), Ok(stream)) = (Key::parse(&written), stream) {
                prop_assert_eq!(key.of(&stream), key.of(&stream));
                prop_assert_eq!(Key::parse(&key.to_string()), Ok(key));
            }
        }
    }
}
