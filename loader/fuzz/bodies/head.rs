//! Any bytes as the head of a partition: refused, or read so that it is written the same again.

use bytes::Bytes;
use headwater_loader::lambda::head::Head;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(head) = Head::decode(Bytes::copy_from_slice(bytes)) else {
        return;
    };
    let again = Head::decode(head.encode()).expect("what was written is read");
    assert_eq!(again, head);
}
