//! Where a stretch starts or ends, as a person says it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A place in every partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Position {
    /// The first record that the topic still has.
    Earliest,
    /// Behind the last record that may be read.
    Latest,
    /// So many offsets before the end.
    Before(u64),
    /// This offset.
    Offset(u64),
    /// The first record of this time (Kafka's timestamp) or later, Unix milliseconds.
    Time(i64),
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u64>().ok();
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if let Some(n) = text.strip_prefix("latest-").and_then(number) {
            return Ok(Self::Before(n));
        }
        if let Some(offset) = number(text) {
            return Ok(Self::Offset(offset));
        }
        match text.parse::<jiff::Timestamp>() {
            Ok(time) => Ok(Self::Time(time.as_millisecond())),
            Err(_) => Err(
                "write earliest, latest, latest-N, an offset, or a time as 2026-11-24T00:00:00Z"
                    .to_owned(),
            ),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Before(n) => write!(f, "latest-{n}"),
            Self::Offset(offset) => write!(f, "{offset}"),
            Self::Time(ms) => match jiff::Timestamp::from_millisecond(*ms) {
                Ok(time) => write!(f, "{time}"),
                Err(_) => write!(f, "{ms} ms"),
            },
        }
    }
}

impl From<Position> for String {
    fn from(position: Position) -> Self {
        position.to_string()
    }
}

impl TryFrom<String> for Position {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_back_and_nonsense_is_refused() {
        for text in ["earliest", "latest", "latest-500", "0", "77"] {
            assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        }
        let time = "2026-11-24T01:02:03.004Z".parse::<Position>().unwrap();
        assert_eq!(time, Position::Time(1_795_482_123_004));
        assert_eq!(time.to_string().parse(), Ok(time));
        for bad in ["", "-1", "latest-", "latest--3", "yesterday", "2026-11-24"] {
            assert!(bad.parse::<Position>().is_err(), "{bad}");
        }
    }
}
