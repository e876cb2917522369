//! Whether the last run of the agent ended in order: a small file in the state directory, written when a run
//! begins and when it ends.
//!
//! ```text
//!   3f2b8c1e-… running     (the kernel's boot id)
//!   3f2b8c1e-… stopped     (all that was given away is settled)
//! ```
//!
//! Between two checkpoints nothing on the device says what was sent. After a kill that is read again from the
//! same files, and dropped as a duplicate. After a power cut the files may hold something else at those offsets
//! ([`super::split`]); after a stop nothing is open.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::boot::{is_another_boot, write_anew};

const NAME: &str = "run";
const RUNNING: &str = "running";
const STOPPED: &str = "stopped";

/// Whether the last run was under another boot than `boot_id`, and did not end in order. Where nothing was noted, as by
/// an earlier agent, another boot is enough.
pub fn was_cut_off(state_dir: &Path, boot_id: &str) -> bool {
    let noted = fs::read_to_string(state_dir.join(NAME)).unwrap_or_default();
    match noted.trim_end().split_once(' ') {
        Some((id, RUNNING)) => id != boot_id,
        Some((_, STOPPED)) => false,
        _ => is_another_boot(state_dir, boot_id),
    }
}

/// Takes note that a run begins under the boot `boot_id`. It is on the disk when this returns; where it cannot be,
/// nothing is left that says of an earlier run that it ended in order.
///
/// # Errors
/// The file cannot be written, nor taken away.
pub fn begins(state_dir: &Path, boot_id: &str) -> io::Result<()> {
    note(state_dir, boot_id, RUNNING).or_else(|error| match fs::remove_file(state_dir.join(NAME)) {
        Ok(()) => File::open(state_dir)?.sync_all(),
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) => Err(error),
    })
}

/// Takes note that the run ends in order: what it gave away is acknowledged and written down, or in the spool.
///
/// # Errors
/// The file cannot be written: the next boot takes the run for one that was cut off.
pub fn ends(state_dir: &Path, boot_id: &str) -> io::Result<()> {
    note(state_dir, boot_id, STOPPED)
}

fn note(state_dir: &Path, boot_id: &str, how: &str) -> io::Result<()> {
    let text = format!("{boot_id} {how}\n");
    note_anew(state_dir, &text).or_else(|_| note_in_place(state_dir, &text))
}

fn note_anew(state_dir: &Path, text: &str) -> io::Result<()> {
    write_anew(&state_dir.join(NAME), text)?;
    // The name, too: an older one would say something else.
    File::open(state_dir)?.sync_all()
}

/// A full disk has no room for another file, but has that of the one that is there, and all of them are as long. Half
/// of one is read as none.
fn note_in_place(state_dir: &Path, text: &str) -> io::Result<()> {
    let mut options = File::options();
    let mut file = options.write(true).open(state_dir.join(NAME))?;
    if file.metadata()?.len() != text.len() as u64 {
        return Err(io::ErrorKind::StorageFull.into());
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_that_did_not_end_before_another_boot_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let cut_off = || (was_cut_off(dir, "a"), was_cut_off(dir, "b"));
        begins(dir, "a").unwrap();
        assert_eq!(cut_off(), (false, true));
        ends(dir, "a").unwrap();
        assert_eq!(cut_off(), (false, false));
        // Once more in the same boot, and killed.
        begins(dir, "a").unwrap();
        assert_eq!(cut_off(), (false, true));
        begins(dir, "b").unwrap();
        assert_eq!(cut_off(), (true, false));
    }

    #[test]
    fn where_nothing_was_noted_the_boot_decides() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        fs::write(dir.join("boot"), "a\n1 2 3\n").unwrap();
        for damage in ["", "a", "a stoppe", "stopped"] {
            fs::write(dir.join("run"), damage).unwrap();
            assert_eq!(
                (was_cut_off(dir, "a"), was_cut_off(dir, "b")),
                (false, true)
            );
        }
    }

    /// A full disk has no room for another file.
    #[test]
    fn where_it_cannot_be_written_nothing_says_that_an_earlier_run_ended_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        ends(dir, "a").unwrap();
        fs::create_dir(dir.join("run.new")).unwrap();
        // In its place.
        begins(dir, "a").unwrap();
        assert_eq!(fs::read_to_string(dir.join(NAME)).unwrap(), "a running\n");
        ends(dir, "a").unwrap();
        assert!(!was_cut_off(dir, "b"));
        // One of another length: then rather none.
        fs::write(dir.join(NAME), "another stopped\n").unwrap();
        fs::write(dir.join("boot"), "a\n1 2 3\n").unwrap();
        begins(dir, "a").unwrap();
        assert!(!dir.join(NAME).exists() && was_cut_off(dir, "b"));
        begins(dir, "a").unwrap();
        assert!(ends(dir, "a").is_err());
    }
}
