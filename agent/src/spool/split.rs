//! Files go on under other generations, where a power cut may have taken back what had been sent of them.
//!
//! ```text
//!                    last checkpoint        what the cut left
//!   as it was        [ settled ... )[ sent ... | .. taken back .. )
//!   now              [ settled ... )[ sent ... )[ new lines, under the same offsets ...
//!   generations        the old one             ^ another one from here
//! ```
//!
//! A program writes its log without waiting for the disk. What was read of it, and sent, after the last checkpoint and
//! is gone after a power cut leaves no trace on the device: what is written then takes its offsets, and would be
//! dropped as a duplicate. So the first start after a boot that the last run of the agent did not see coming
//! ([`super::run`]) ends each file's generation, and has it go on under another:
//!
//! - where its length was noted early in the boot ([`crate::discover::sizes`]), there: what lies before is as it was, so
//!   the old generation is read on to that, and nothing comes twice;
//! - else behind what is settled, or was last marked: what was sent since comes once more.
//!
//! A file that is shorter than what is known of it is left to whoever looks for it
//! ([`crate::tail`]): it was cut below its last marker.
//!
//! All of it is one transaction, committed before anything is read or sent. Cut off after it, the next start ends
//! the new generations, of which nothing was sent, once more.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use headwater_record::Generation;
use rusqlite::{Connection, TransactionBehavior};

use super::generations;
use crate::checkpoint::{OpenGeneration, Origin};
use crate::crash;
use crate::discover::rotated::is_packed;
use crate::discover::sizes::Sizes;

/// Has each file go on under another generation, and returns how many they are. `draw`: a random name.
///
/// # Errors
/// Nothing was changed.
pub(super) fn split(
    connection: &mut Connection,
    identity: u64,
    sizes: &Sizes,
    mut draw: impl FnMut() -> Result<Generation, getrandom::Error>,
) -> rusqlite::Result<usize> {
    let open = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let known = generations::all(&open, identity)?.open;
    let mut count = 0;
    // Those before the last of a chain end where they end.
    for old in known.iter().filter_map(|open| open.chain().last()) {
        let random = |error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
        if let Some(at) = ends_at(old, sizes) {
            let new = next(old, at, draw().map_err(random)?);
            generations::register(&open, identity, &new)?;
            generations::end_at(&open, old.generation, (at, new.generation))?;
            count += 1;
        }
    }
    if count > 0 {
        crash::point("split-before-commit");
        open.commit()?;
        crash::point("split-after-commit");
    }
    Ok(count)
}

/// Where a file's generation ends; none where it is no file's, or was cut below what is known of it.
pub(crate) fn ends_at(open: &OpenGeneration, sizes: &Sizes) -> Option<u64> {
    let Origin::File(file) = &open.origin else {
        return None;
    };
    // The marker is found there, or the file is not.
    let known = open
        .read_from()
        .max(open.marker.map_or(0, |marker| marker.end));
    let name = Path::new(std::ffi::OsStr::from_bytes(&file.path)).file_name();
    // The length of what is compressed is no offset in what it holds.
    let is_packed = name.is_some_and(|name| is_packed(name.as_bytes()));
    let size = sizes.of((file.device, file.inode)).filter(|_| !is_packed);
    size.map_or(Some(known), |size| (size >= known).then_some(size))
}

/// The generation under which a file goes on at `at`.
pub(crate) fn next(old: &OpenGeneration, at: u64, name: Generation) -> OpenGeneration {
    OpenGeneration {
        // Of what was there: what is there now may have no line end at these.
        cuts: Vec::new(),
        ..old.successor(name, at)
    }
}

#[cfg(test)]
mod tests {
    use headwater_record::StreamId;

    use super::*;
    use crate::checkpoint::{FileIdentity, Marker};

    #[test]
    fn a_generation_ends_where_nothing_new_can_lie_before() {
        let open = |path: &[u8]| OpenGeneration {
            generation: Generation(1),
            stream: StreamId::parse("d/s//log").unwrap(),
            origin: Origin::File(FileIdentity {
                path: path.to_vec(),
                device: 1,
                inode: 2,
                fingerprint_len: 4,
                fingerprint: 9,
                since_ms: 1,
            }),
            settled: 100,
            skip_to: Some(70),
            cuts: Vec::new(),
            marker: Some(Marker {
                end: 120,
                len: 4,
                sum: 5,
            }),
            earlier: Vec::new(),
            goes_on: None,
        };
        let mut sizes = Sizes::default();
        let log = open(b"/var/log/a.log");
        assert_eq!(ends_at(&log, &sizes), Some(120), "nobody looked");
        for (size, expected) in [(119, None), (120, Some(120)), (500, Some(500))] {
            sizes.insert((1, 2), size);
            assert_eq!(ends_at(&log, &sizes), expected, "{size}");
        }
        assert_eq!(ends_at(&open(b"/var/log/a.log.1.gz"), &sizes), Some(120));
        let mut unmarked = open(b"/var/log.gz/a.log");
        unmarked.marker = None;
        assert_eq!(ends_at(&unmarked, &Sizes::default()), Some(100));
        assert_eq!(ends_at(&unmarked, &sizes), Some(500));
        unmarked.origin = Origin::Sensor;
        assert_eq!(ends_at(&unmarked, &sizes), None);
    }
}
