//! The time of records that were read before the clock was set.
//!
//! A device without a battery-backed clock boots in 1970 (or where its image was built) and learns
//! the time from the network, minutes or weeks later. What is read until then is stamped with the
//! time since the boot ([`headwater_record::value::unset_time`]), waits in the spool, and gets its
//! time when it is handed to Kafka: the moment of the boot, known by then, and the time since. A
//! record of an earlier boot cannot be placed: it gets the moment at which the present boot began,
//! which is later than any of its own, and the mark `"time_estimated":true`.
//!
//! A line that goes as its own bytes (`value = "raw"`) has no time, and gets none.
//!
//! Pure. A record sent twice may be given times a few milliseconds apart; its span is the same, so
//! only the first that arrives is stored.

use std::borrow::Cow;

use headwater_record::value::{rfc3339, unset_time};

use crate::batch::RecordRef;
use crate::spool::BatchId;
use crate::spool::boot::InLanes;

/// What is known when records are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backdate {
    /// Unix time at which the device booted, milliseconds, by the clock as it is now.
    pub booted_ms: u64,
    /// In each lane, batches before this one were read under an earlier boot.
    pub first_of_boot: InLanes,
}

impl Backdate {
    /// A record's value as it goes to Kafka: with a time, where it has none yet. A line's own bytes stay as
    /// they are, whatever they look like.
    pub fn value<'a>(&self, id: BatchId, record: RecordRef<'a>) -> Cow<'a, [u8]> {
        let value = record.value;
        if record.raw {
            return Cow::Borrowed(value);
        }
        let Some((at, since_boot_ms)) = unset_time(value) else {
            return Cow::Borrowed(value);
        };
        let is_ours = id >= self.first_of_boot[id.lane().index()];
        let time_ms = self
            .booted_ms
            .saturating_add(if is_ours { since_boot_ms } else { 0 });
        let mut dated = value.to_vec();
        let time = rfc3339(time_ms);
        dated[at..at + time.len()].copy_from_slice(&time);
        if !is_ours && dated.pop_if(|last| *last == b'}').is_some() {
            dated.extend_from_slice(b",\"time_estimated\":true}");
        }
        Cow::Owned(dated)
    }
}

#[cfg(test)]
mod tests {
    use headwater_record::value::{Piece, SINCE_BOOT_MS_MAX, ValueWriter};
    use headwater_record::{Kind, Span};
    use proptest::prelude::*;

    use super::*;

    const BOOTED: u64 = 1_795_000_000_000;

    fn line(time_ms: u64, text: &[u8]) -> Vec<u8> {
        let writer = ValueWriter::new(&"pi-7".parse().unwrap(), &"app".parse().unwrap());
        let mut value = Vec::new();
        writer.line(&mut value, time_ms, text, Piece::default());
        value
    }

    fn dated(id: u64, value: &[u8]) -> String {
        dated_as(id, value, false)
    }

    fn dated_as(id: u64, value: &[u8], raw: bool) -> String {
        let backdate = Backdate {
            booted_ms: BOOTED,
            first_of_boot: [10, 1 << 60, 2 << 60].map(BatchId),
        };
        let record = RecordRef {
            span: Span::empty_at(0),
            kind: Kind::Data,
            value,
            raw,
        };
        String::from_utf8(backdate.value(BatchId(id), record).into_owned()).unwrap()
    }

    #[test]
    fn a_record_of_this_boot_gets_its_time() {
        assert_eq!(
            dated(10, &line(61_500, b"x")),
            r#"{"device":"pi-7","source":"app","time":"2026-11-18T11:07:41.500Z","message":"x"}"#
        );
    }

    #[test]
    fn one_of_an_earlier_boot_gets_the_latest_that_it_can_be_and_a_mark() {
        assert_eq!(
            dated(9, &line(61_500, b"x")),
            r#"{"device":"pi-7","source":"app","time":"2026-11-18T11:06:40.000Z","message":"x","time_estimated":true}"#
        );
    }

    #[test]
    fn a_line_that_goes_as_it_is_is_never_dated() {
        let like_ours = line(61_500, b"x");
        assert_eq!(dated_as(10, &like_ours, true).into_bytes(), like_ours);
        assert_eq!(dated_as(9, &like_ours, true).into_bytes(), like_ours);
    }

    proptest! {
        #[test]
        fn what_has_a_time_is_left_alone(
            time_ms in SINCE_BOOT_MS_MAX..SINCE_BOOT_MS_MAX * 20,
            text in "(\"time\":\"boot\\+|[ -~]){0,5}",
            id in 0_u64..20,
        ) {
            let value = line(time_ms, text.as_bytes());
            prop_assert_eq!(dated(id, &value).into_bytes(), value);
        }

        #[test]
        fn only_the_time_changes(
            since_boot_ms in 0..SINCE_BOOT_MS_MAX,
            text in "(\"time\":\"boot\\+|[ -~]){0,5}",
        ) {
            let value = line(since_boot_ms, text.as_bytes());
            prop_assert_eq!(dated(10, &value).into_bytes(), line(BOOTED + since_boot_ms, text.as_bytes()));
            let older: serde_json::Value = serde_json::from_str(&dated(9, &value)).unwrap();
            prop_assert_eq!(&older["time_estimated"], true);
            prop_assert_eq!(&older["message"], &text);
        }
    }
}
