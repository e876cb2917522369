//! What a sensor's file may hold, through every reader: a finite number, or none.

use headwater_agent::sample::read::buffer::{Layout, arrange};
use headwater_agent::sample::read::{document, number, one_wire};

pub(crate) fn run(bytes: &[u8]) {
    for read in [
        number::parse(bytes),
        one_wire::parse(bytes),
        document::json(bytes, "/a/0"),
        document::csv(bytes, bytes, "1", b','),
        document::csv(bytes, bytes, "temp", b';'),
    ] {
        assert!(read.ok().is_none_or(f64::is_finite));
    }
    let layouts: Vec<_> = String::from_utf8_lossy(bytes)
        .lines()
        .filter_map(Layout::parse)
        .collect();
    let (places, len) = arrange(&layouts);
    assert_eq!(places.len(), layouts.len());
    assert!(places.iter().all(|place| *place < len));
}
