//! What becomes of a batch that is given up, since there is no room for it: notices in place of its
//! data, of the same range. Pure; the store does the same to rows.

use headwater_record::notice::reason;
use headwater_record::value::ValueWriter;
use headwater_record::{Kind, Notice};

use crate::batch::{Batch, Entry};

/// The batch without its data: each run of data records is one loss notice that says how many they
/// were, and what was a notice stays one. It holds nothing of the RAM window.
pub fn give_up(batch: &Batch, now_ms: u64) -> Batch {
    let mut left = Batch {
        stream: batch.stream.clone(),
        generation: batch.generation,
        start: batch.start,
        entries: Vec::new(),
        values: Vec::new(),
        raw: false,
        permit: None,
    };
    let (mut records, mut end) = (0, batch.start);
    for record in batch.records() {
        if record.kind == Kind::Data {
            (records, end) = (records + 1, record.span.end());
            continue;
        }
        push_loss(&mut left, end, std::mem::take(&mut records), now_ms);
        push(&mut left, record.span.end(), record.kind, |values| {
            values.extend_from_slice(record.value);
        });
    }
    push_loss(&mut left, end, records, now_ms);
    left
}

/// A batch that says that `[start, end)`, of so many records, is given up. `like` names the stream.
pub fn loss(like: &Batch, (start, end): (u64, u64), records: u64, now_ms: u64) -> Batch {
    let mut batch = Batch {
        stream: like.stream.clone(),
        generation: like.generation,
        start,
        entries: Vec::new(),
        values: Vec::new(),
        raw: false,
        permit: None,
    };
    push_loss(&mut batch, end, records, now_ms);
    batch
}

fn push_loss(batch: &mut Batch, end: u64, records: u64, now_ms: u64) {
    if records == 0 {
        return;
    }
    let notice = Notice::Loss {
        reason: reason::SPOOL_FULL.to_owned(),
        records: Some(records),
    };
    // A stream's parts were checked as ids when it was made.
    let names = (batch.stream.device().parse(), batch.stream.source().parse());
    let (Ok(device), Ok(source)) = names else {
        return;
    };
    let writer = ValueWriter::new(&device, &source);
    push(batch, end, Kind::Loss, |values| {
        writer.notice(values, now_ms, &notice)
    });
}

fn push(batch: &mut Batch, end: u64, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
    write(&mut batch.values);
    batch.entries.push(Entry {
        end,
        value_end: u32::try_from(batch.values.len()).unwrap_or(u32::MAX),
        kind,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_record::{Generation, StreamId};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_range_stays_and_only_data_goes(
            start in 0_u64..1000,
            records in prop::collection::vec((0_u64..20, 0_u8..5), 1..20),
        ) {
            let mut batch = Batch {
                stream: StreamId::parse("d/s//p").unwrap(),
                generation: Generation(1),
                start,
                entries: Vec::new(),
                values: Vec::new(),
                raw: false,
                permit: None,
            };
            let mut end = start;
            for (length, kind) in &records {
                end += length;
                let kind = if *kind == 0 { Kind::Loss } else { Kind::Data };
                push(&mut batch, end, kind, |values| values.extend_from_slice(br#"{"notice":"loss","reason":"x"}"#));
            }
            let left = give_up(&batch, 0);
            prop_assert_eq!((left.start, left.end(), left.entries.is_empty()), (start, end, false));
            let mut counted = 0;
            for record in left.records() {
                prop_assert_eq!(record.kind, Kind::Loss);
                if let Some(Notice::Loss { records, reason }) = Notice::parse(record.value) {
                    prop_assert_eq!(records.is_some(), reason == reason::SPOOL_FULL);
                    counted += records.unwrap_or(0);
                }
            }
            let data = batch.records().filter(|record| record.kind == Kind::Data).count();
            prop_assert_eq!(counted, data as u64);
        }
    }
}
