//! What Lambda hands over for an MSK or self-managed Kafka trigger, as records of partitions.
//!
//! ```text
//! {"eventSource":"aws:kafka","records":{"logs-2":[
//!   {"topic":"logs","partition":2,"offset":15,"timestamp":1545084650987,"timestampType":"CREATE_TIME",
//!    "key":"…","value":"eyJ…","headers":[{"hw-span":[48,49,-61]}]}]}}
//! ```
//!
//! Our own reading of it: bytes of headers are signed in some runtimes and unsigned in others;
//! `headers`, `key` and `value` may be absent or null. Fields that are not known are passed over, and
//! what cannot be read fails the whole event: nothing of it was stored, and Lambda tries again.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use thiserror::Error;

use crate::fetched::{Fetched, Identity};

/// Most bytes of an event that are read: Lambda's own bound is 6 MB.
pub const EVENT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// An event that is none of ours.
#[derive(Debug, Error)]
pub enum EventError {
    /// No JSON of the form above.
    #[error("it is no event of a Kafka trigger: {0}")]
    Json(#[from] serde_json::Error),
    /// A value that is no base64.
    #[error("the value of {topic}, partition {partition}, offset {offset} is no base64")]
    Value {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset.
        offset: u64,
    },
    /// Records of a topic that this configuration does not load.
    #[error(
        "it has records of topic {topic:?}, and the configuration is for {expected:?}: give each topic a function of its own"
    )]
    Topic {
        /// What it has.
        topic: String,
        /// What the configuration names.
        expected: String,
    },
}

#[derive(Deserialize)]
struct EventFile {
    records: BTreeMap<String, Vec<RecordFile>>,
}

#[derive(Deserialize)]
struct RecordFile {
    topic: String,
    partition: i32,
    offset: u64,
    #[serde(default)]
    timestamp: i64,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    headers: Option<Vec<BTreeMap<String, Option<Vec<i16>>>>>,
}

/// Reads an event: the records of each partition, in the order of their offsets.
///
/// # Errors
/// See [`EventError`].
pub fn parse(bytes: &[u8], topic: &str) -> Result<BTreeMap<i32, Fetched>, EventError> {
    let event: EventFile = serde_json::from_slice(bytes)?;
    let mut partitions: BTreeMap<i32, Vec<RecordFile>> = BTreeMap::new();
    for record in event.records.into_values().flatten() {
        if record.topic != topic {
            return Err(EventError::Topic {
                topic: record.topic,
                expected: topic.to_owned(),
            });
        }
        let records = partitions.entry(record.partition).or_default();
        records.push(record);
    }
    partitions
        .into_iter()
        .map(|(partition, mut records)| {
            // They are in order; but what came in another one would be passed over as a repeat.
            records.sort_by_key(|record| record.offset);
            records.dedup_by_key(|record| record.offset);
            Ok((partition, fetched(records)?))
        })
        .collect()
}

fn fetched(records: Vec<RecordFile>) -> Result<Fetched, EventError> {
    let mut fetched = Fetched::default();
    for record in records {
        let value = record.value.map(|text| STANDARD.decode(text)).transpose();
        let value = value.map_err(|_| EventError::Value {
            topic: record.topic,
            partition: record.partition,
            offset: record.offset,
        })?;
        let headers: Vec<(String, Option<Vec<u8>>)> = record
            .headers
            .into_iter()
            .flatten()
            .flatten()
            .map(|(name, value)| (name, value.map(unsigned)))
            .collect();
        let last = fetched.entries.last().map(|entry| &entry.identity);
        let identity = Identity::read(
            headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_deref())),
            last,
        );
        let time_ms = u64::try_from(record.timestamp).unwrap_or(0);
        fetched.push(record.offset, time_ms, value.as_deref(), identity);
    }
    Ok(fetched)
}

/// Bytes that may be written with their sign: -61 is 195.
fn unsigned(bytes: Vec<i16>) -> Vec<u8> {
    let byte = |byte: i16| byte.to_le_bytes()[0];
    bytes.into_iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_record::Kind;
    use proptest::prelude::*;

    #[test]
    fn an_event_as_aws_documents_it() {
        let text = br#"{"eventSource":"aws:kafka",
            "eventSourceArn":"arn:aws:kafka:eu-west-1:1:cluster/c/x","bootstrapServers":"b-1:9098,b-2:9098",
            "records":{"logs-0":[
              {"topic":"logs","partition":0,"offset":16,"timestamp":1545084650987,"timestampType":"CREATE_TIME",
               "key":"cA==","value":null,"headers":[]},
              {"topic":"logs","partition":0,"offset":15,"timestamp":1545084650986,"timestampType":"CREATE_TIME",
               "value":"eyJhIjoxfQ==","headers":[{"hw-stream":[100,47,115,47,-61,-85]},
                 {"hw-span":[48,48,48,48,48,48,48,48,48,48,48,48,48,48,48,49,58,53,43,51]}],"valueSchemaMetadata":{}}],
             "logs-7":[{"topic":"logs","partition":7,"offset":0,"timestampType":"CREATE_TIME",
               "headers":[{"hw-stream":[100,47,115,47,195,171]},{"hw-span":[120]}]}]}}"#;
        let partitions = parse(text, "logs").unwrap();
        assert_eq!(partitions.keys().copied().collect::<Vec<_>>(), [0, 7]);
        let zero = &partitions[&0];
        let [first, second] = &zero.entries[..] else {
            panic!("{zero:?}")
        };
        assert_eq!((first.offset, first.time_ms), (15, 1_545_084_650_986));
        assert_eq!(zero.value(first), Some(&b"{\"a\":1}"[..]));
        let Identity::Tagged {
            stream, span, kind, ..
        } = &first.identity
        else {
            panic!("{first:?}")
        };
        assert_eq!((&**stream, span.start(), span.len()), ("d/s/ë", 5, 3));
        assert_eq!(*kind, Kind::Data);
        assert_eq!((second.offset, zero.value(second)), (16, None));
        assert_eq!(second.identity, Identity::Foreign);
        assert!(matches!(
            partitions[&7].entries[0].identity,
            Identity::Refused(_)
        ));
    }

    #[test]
    fn what_is_refused() {
        for (bad, why) in [
            ("[]", "no event"),
            ("{}", "records"),
            (
                r#"{"records":{"a-0":[{"topic":"a","partition":0,"offset":1}]}}"#,
                "\"a\"",
            ),
            (
                r#"{"records":{"logs-0":[{"topic":"logs","partition":0,"offset":-1}]}}"#,
                "-1",
            ),
            (
                r#"{"records":{"logs-0":[{"topic":"logs","partition":0,"offset":1,"value":"?"}]}}"#,
                "base64",
            ),
        ] {
            let error = parse(bad.as_bytes(), "logs").unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse(&bytes, "logs").is_err());
        }
    }
}
