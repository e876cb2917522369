//! Any text as the metadata of a committed offset, the first eight bytes being the offset: refused, or
//! read so that it is written the same again.

use headwater_loader::partition::intent::Committed;

pub(crate) fn run(bytes: &[u8]) {
    let Some((offset, text)) = bytes.split_first_chunk() else {
        return;
    };
    let offset = u64::from_be_bytes(*offset);
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let Ok(committed) = Committed::parse(offset, text) else {
        return;
    };
    assert!(committed.names_from <= offset);
    assert!(
        committed
            .intent
            .as_ref()
            .is_none_or(|intent| intent.end >= offset)
    );
    assert_eq!(
        Committed::parse(offset, &committed.metadata()),
        Ok(committed)
    );
}
