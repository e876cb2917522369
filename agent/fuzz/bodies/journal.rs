//! A line of journalctl's: an entry whose cursor reads back, or none; however its message is written.

use headwater_agent::journal::entry::{Cursor, Malformed, parse};

pub(crate) fn run(bytes: &[u8]) {
    let more = ["_UID".to_owned(), "DEVICE".to_owned()];
    let escaped = parse(bytes, &more, Malformed::Escaped);
    let beside = parse(bytes, &more, Malformed::Beside);
    assert_eq!(escaped.is_ok(), beside.is_ok());
    for entry in [escaped, beside].into_iter().flatten() {
        assert!(entry.row.contains_key("message"));
        assert!(!entry.row.contains_key("device"));
        // The number and the sequence find it; the boot is not asked for.
        let without_boot = Cursor {
            boot: 0,
            ..entry.cursor
        };
        let argument = without_boot.argument();
        assert_eq!(Cursor::parse(&argument), Some(without_boot));
    }
    Cursor::parse(&String::from_utf8_lossy(bytes));
}
