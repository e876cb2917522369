//! What a row of the spool may hold, as it is and as what zstd unpacks: a batch that packs to the same
//! again, or none.

use std::sync::Arc;

use headwater_agent::spool::BatchId;
use headwater_agent::spool::batch::{Kinds, Packer, Row};
use headwater_agent::spool::sealing::Keys;
use headwater_record::Generation;

fn row(blob: Vec<u8>, (start, end): (u64, u64), kinds: Kinds, sealed: bool) -> Row {
    Row {
        id: BatchId(1),
        stream: "d/s//p".to_owned(),
        generation: Generation(1),
        start,
        end,
        kinds,
        records: 1,
        sealed,
        blob,
        checksum: 0,
    }
    .with_checksum()
}

pub(crate) fn run(bytes: &[u8]) {
    let [kinds, start, length, plain @ ..] = bytes else {
        return;
    };
    let (start, kinds) = (u64::from(*start), Kinds(kinds & 0x1f));
    let (keys, range) = (Keys::default(), (start, start + u64::from(*length)));
    for sealed in [false, true] {
        let raw = row(plain.to_vec(), range, kinds, sealed);
        assert!(!sealed || raw.unpack(&keys).is_err());
    }
    let blob = zstd::bulk::compress(plain, 1).expect("memory for it");
    if let Ok(batch) = row(blob, range, kinds, false).unpack(&keys) {
        assert_eq!((batch.start, batch.end()), range);
        let values: usize = batch.records().map(|record| record.value.len()).sum();
        assert_eq!(values, batch.values.len());
        let mut packer = Packer::new(Arc::default()).expect("memory for it");
        let again = packer.pack(BatchId(1), &batch).expect("memory for it");
        let again = again.unpack(&keys).expect("what was packed");
        assert_eq!(again.raw, batch.raw);
        assert_eq!((again.entries, again.values), (batch.entries, batch.values));
    }
}
