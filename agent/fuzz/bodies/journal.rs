//! A line of journalctl's: an entry whose cursor reads back, or none.

use headwater_agent::journal::entry::{Cursor, parse};

pub(crate) fn run(bytes: &[u8]) {
    let more = ["_UID".to_owned(), "DEVICE".to_owned()];
    if let Ok(entry) = parse(bytes, &more, true) {
        assert!(entry.row.contains_key("message"));
        assert!(!entry.row.contains_key("device"));
        assert_eq!(Cursor::parse(&entry.cursor.argument()), Some(entry.cursor));
    }
    Cursor::parse(&String::from_utf8_lossy(bytes));
}
