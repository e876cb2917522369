//! Who watches records pass. A watcher has a bounded queue; what does not fit is missed, counted,
//! and told to the watcher: the agent never waits for one.

use std::fmt::Write;

use headwater_record::value::write_bytes;
use tokio::sync::mpsc::Sender;

use crate::batch::{Batch, RecordRef};

/// Most watchers at a time.
pub const TAPS_MAX: usize = 4;
/// Batches (64 KiB each at most, but for single long lines) that wait for a watcher.
pub const QUEUE: usize = 8;

/// One watcher: what it wants to see, and where it goes.
#[derive(Debug)]
pub struct Tap {
    /// Only records of this source; of every source where none is named.
    pub source: Option<String>,
    /// Lines of JSON, several a piece.
    pub lines: Sender<Vec<u8>>,
}

/// All watchers.
#[derive(Debug, Default)]
pub struct Taps {
    taps: Vec<(Tap, u64)>,
    missed: u64,
}

impl Taps {
    /// Lets one more watch, or gives it back where [`TAPS_MAX`] do.
    ///
    /// # Errors
    /// The watcher that found no place.
    pub fn add(&mut self, tap: Tap) -> Result<(), Tap> {
        self.taps.retain(|(tap, _)| !tap.lines.is_closed());
        if self.taps.len() >= TAPS_MAX {
            return Err(tap);
        }
        self.taps.push((tap, 0));
        Ok(())
    }

    /// Records that watchers missed since the start.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Shows a batch to whoever wants to see it. Nothing is rendered where nobody watches.
    pub fn show(&mut self, batch: &Batch) {
        let missed = &mut self.missed;
        self.taps.retain_mut(|(tap, behind)| {
            if tap.lines.is_closed() {
                return false;
            }
            if !wants(tap, batch) {
                return true;
            }
            let Ok(place) = tap.lines.try_reserve() else {
                let records = batch.entries.len() as u64;
                *behind += records;
                *missed += records;
                return true;
            };
            let mut lines = Vec::new();
            if *behind > 0 {
                let told = format!("{{\"missed\":{behind}}}\n");
                lines.extend_from_slice(told.as_bytes());
                *behind = 0;
            }
            render(batch, &mut lines);
            place.send(lines);
            true
        });
    }
}

fn wants(tap: &Tap, batch: &Batch) -> bool {
    (tap.source.as_deref()).is_none_or(|source| batch.stream.source() == source)
}

/// One line a record: its headers as the wire has them, and its value as [`write_value`] shows it.
pub(crate) fn render(batch: &Batch, out: &mut Vec<u8>) {
    let stream = serde_json::to_string(batch.stream.as_str()).unwrap_or_default();
    let mut head = String::new();
    for record in batch.records() {
        head.clear();
        let span = record.span;
        let kind = record.kind.header().unwrap_or("data");
        let written = write!(
            head,
            "{{\"stream\":{stream},\"span\":\"{}:{}+{}\",\"kind\":\"{kind}\",",
            batch.generation,
            span.start(),
            span.end() - span.start()
        );
        debug_assert!(written.is_ok(), "a String takes every text");
        out.extend_from_slice(head.as_bytes());
        write_value(record, out);
        out.extend_from_slice(b"}\n");
    }
}

/// A record's value as a field: `"value":{…}`. The bytes of a line are a text, in which nothing can steer a
/// terminal that JSON escapes; where they are not UTF-8, their base64 stands beside it.
pub(crate) fn write_value(record: RecordRef<'_>, out: &mut Vec<u8>) {
    if record.raw {
        write_bytes(out, "value", record.value);
    } else {
        out.extend_from_slice(b"\"value\":");
        out.extend_from_slice(record.value);
    }
}

#[cfg(test)]
mod tests {
    use headwater_record::{Generation, Kind, StreamId};
    use serde_json::{Value, json};
    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::batch::Entry;

    fn batch(source: &str) -> Batch {
        let device = "pi-7".parse().unwrap();
        let entry = |end, value_end, kind| Entry {
            end,
            value_end,
            kind,
        };
        Batch {
            stream: StreamId::new(&device, &source.parse().unwrap(), b"/a").unwrap(),
            generation: Generation(7),
            start: 10,
            entries: vec![entry(14, 7, Kind::Data), entry(14, 9, Kind::Close)],
            values: b"{\"a\":1}{}".to_vec(),
            raw: false,
            permit: None,
        }
    }

    fn tap(source: Option<&str>) -> (Tap, Receiver<Vec<u8>>) {
        let (lines, receiver) = channel(QUEUE);
        let source = source.map(str::to_owned);
        (Tap { source, lines }, receiver)
    }

    fn next(receiver: &mut Receiver<Vec<u8>>) -> Vec<Value> {
        let text = receiver.try_recv().unwrap();
        let lines = text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    #[test]
    fn a_watcher_sees_the_records_of_its_source() {
        let mut taps = Taps::default();
        let (one, mut of_one) = tap(Some("app"));
        let (all, mut of_all) = tap(None);
        taps.add(one).unwrap();
        taps.add(all).unwrap();
        taps.show(&batch("app"));
        taps.show(&batch("other"));
        assert_eq!(
            next(&mut of_one),
            [
                json!({"stream": "pi-7/app//a", "span": "0000000000000007:10+4", "kind": "data", "value": {"a": 1}}),
                json!({"stream": "pi-7/app//a", "span": "0000000000000007:14+0", "kind": "close", "value": {}}),
            ]
        );
        assert!(of_one.try_recv().is_err());
        assert_eq!(next(&mut of_all).len() + next(&mut of_all).len(), 4);
    }

    #[test]
    fn bytes_of_lines_are_shown_as_text_and_exactly() {
        let mut raw = batch("app");
        (raw.raw, raw.values) = (true, b"{\"ab\xff\0\"{}".to_vec());
        let mut out = Vec::new();
        render(&raw, &mut out);
        let lines: Vec<Value> = out
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(lines[0]["value"], "{\"ab\u{fffd}\0\"");
        assert_eq!(lines[0]["value_base64"], "eyJhYv8AIg==");
        // A notice is JSON all the same.
        assert_eq!(
            (&lines[1]["value"], lines[1].get("value_base64")),
            (&json!({}), None)
        );
        raw.values = b"plain{}{}".to_vec();
        out.clear();
        render(&raw, &mut out);
        assert!(out.starts_with(br#"{"stream":"pi-7/app//a","span":"0000000000000007:10+4","kind":"data","value":"plain{}"}"#));
    }

    #[test]
    fn a_slow_watcher_misses_and_is_told() {
        let mut taps = Taps::default();
        let (slow, mut receiver) = tap(None);
        taps.add(slow).unwrap();
        for _ in 0..QUEUE + 3 {
            taps.show(&batch("app"));
        }
        assert_eq!(taps.missed(), 6);
        for _ in 0..QUEUE {
            assert_eq!(next(&mut receiver).len(), 2);
        }
        taps.show(&batch("app"));
        assert_eq!(next(&mut receiver)[0], json!({"missed": 6}));
    }

    #[test]
    fn places_are_few_and_given_back() {
        let mut taps = Taps::default();
        let mut receivers = Vec::new();
        for _ in 0..TAPS_MAX {
            let (tap, receiver) = tap(None);
            taps.add(tap).unwrap();
            receivers.push(receiver);
        }
        assert!(taps.add(tap(None).0).is_err());
        receivers.pop();
        let (one, _receiver) = tap(None);
        assert!(taps.add(one).is_ok());
    }
}
