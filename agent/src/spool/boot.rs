//! Which rows of the spool were read under the present boot: a small file beside the database,
//! written once a boot.
//!
//! ```text
//!   3f2b8c1e-…  (the kernel's boot id)
//!   1207 1152921504606846977 2305843009213693953   (the first batch of this boot in each lane)
//! ```
//!
//! Only records that were read while the clock was unset need it ([`crate::backdate`]). Where it is
//! lost or damaged, what is in the spool counts as read under an earlier boot: their times are
//! marked as estimated then, never wrong in silence.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{BatchId, Lane};

/// A place in each lane, by [`Lane::index`].
pub type InLanes = [BatchId; Lane::COUNT];

/// Whether the system was started anew since [`first_of_boot`] was asked last, as far as is known.
pub fn is_another_boot(state_dir: &Path, boot_id: &str) -> bool {
    let known = fs::read_to_string(state_dir.join("boot")).unwrap_or_default();
    known.split_once('\n').is_none_or(|(id, _)| id != boot_id)
}

/// The first batch of each lane that was read under the boot `boot_id`, where `last` are the spool's
/// last rows at the agent's start.
///
/// # Errors
/// The file cannot be written. The caller goes on with those behind `last`: the next start asks
/// again.
pub fn first_of_boot(state_dir: &Path, boot_id: &str, last: InLanes) -> io::Result<InLanes> {
    let path = state_dir.join("boot");
    let known = fs::read_to_string(&path).unwrap_or_default();
    if let Some((id, first)) = known.split_once('\n')
        && id == boot_id
        && let Some(first) = parse(first)
    {
        return Ok(first);
    }
    let first = last.map(BatchId::next);
    let [a, b, c] = first;
    write_anew(&path, &format!("{boot_id}\n{a} {b} {c}\n"))?;
    Ok(first)
}

/// Has a small file of the state directory hold this text: all of it, or what it held before. After a power cut it may be
/// either, until its folder is synced.
///
/// # Errors
/// The system's.
pub(super) fn write_anew(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_added_extension("new");
    let mut options = File::options();
    let mut file = (options.write(true).create(true).truncate(true))
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(text.as_bytes())?;
    // A file that came back empty is read as no file: the data has to be there before the name.
    file.sync_all()?;
    fs::rename(&fresh, path)
}

fn parse(line: &str) -> Option<InLanes> {
    let ids: Option<Vec<_>> = (line.split_whitespace())
        .map(|id| id.parse().ok().map(BatchId))
        .collect();
    ids?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_keeps_its_first_batch_and_the_next_begins_behind_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let lanes = |first: u64| [first, first + 100, first + 200].map(BatchId);
        let first = |boot_id, last| first_of_boot(folder.path(), boot_id, lanes(last)).unwrap();
        let is_another = |boot_id| is_another_boot(folder.path(), boot_id);
        assert!(is_another("a"), "nothing is known");
        assert_eq!(first("a", 0), lanes(1));
        assert_eq!((is_another("a"), is_another("b")), (false, true));
        assert_eq!(first("a", 40), lanes(1));
        assert_eq!(first("b", 40), lanes(41));
        assert_eq!(first("b", 77), lanes(41));
        for damage in [
            "",
            "b",
            "b\n",
            "b\n41 141\n",
            "b\n41 141 x\n",
            "b 41 141 241",
        ] {
            fs::write(folder.path().join("boot"), damage).unwrap();
            assert_eq!(first("b", 77), lanes(78), "{damage:?}");
        }
        assert!(first_of_boot(&folder.path().join("none"), "b", lanes(1)).is_err());
    }
}
