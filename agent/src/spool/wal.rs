//! SQLite's write-ahead log, read without SQLite: which pages it holds, as of its last commit. Pure
//! but for the reads of its file.
//!
//! ```text
//!   header 32: magic, version, page size, sequence, salt ×2, checksum ×2
//!   frames   : page number, size after commit (0: more follows), salt ×2, checksum ×2, the page
//! ```
//!
//! A frame counts where its salts are the header's and its checksum continues the one before; the
//! log ends at the first that does not. Only what a commit frame follows is committed.
//!
//! Source: "WAL-mode File Format", <https://www.sqlite.org/walformat.html>.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::pages::be32;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The lowest bit says that checksums are of big-endian words.
const MAGIC: u32 = 0x377f_0682;
/// Frames that are looked at: with pages of 1 KiB, 1 GiB of log. The store keeps it at some MiB.
const FRAMES_MAX: u64 = 1 << 20;

/// The committed pages of a log: where in its file each lies, the newest of each.
#[derive(Debug)]
pub(super) struct Wal {
    pub(super) page_size: usize,
    /// Offset of the page's content, by page number.
    pub(super) pages: BTreeMap<u32, u64>,
}

impl Wal {
    /// Reads a log; nothing where there is no whole header of one.
    pub(super) fn read(file: &File) -> Option<Self> {
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0).ok()?;
        let magic = be32(&header, 0)?;
        let page_size = usize::try_from(be32(&header, 8)?).ok()?;
        if magic & !1 != MAGIC || !is_page_size(page_size) {
            return None;
        }
        let big_endian = magic & 1 == 1;
        let mut sum = checksum(&header[..24], big_endian, (0, 0));
        if (be32(&header, 24)?, be32(&header, 28)?) != sum {
            return None;
        }
        let (mut pages, mut open) = (BTreeMap::new(), Vec::new());
        let mut frame = vec![0; FRAME_HEADER + page_size];
        for nth in 0..FRAMES_MAX {
            let at = HEADER as u64 + nth * frame.len() as u64;
            if file.read_exact_at(&mut frame, at).is_err() || frame[8..16] != header[16..24] {
                break;
            }
            sum = checksum(&frame[..8], big_endian, sum);
            sum = checksum(&frame[FRAME_HEADER..], big_endian, sum);
            if (be32(&frame, 16)?, be32(&frame, 20)?) != sum {
                break;
            }
            open.push((be32(&frame, 0)?, at + FRAME_HEADER as u64));
            if be32(&frame, 4)? != 0 {
                pages.extend(open.drain(..));
            }
        }
        Some(Self { page_size, pages })
    }
}

/// Whether SQLite has pages of this size.
pub(super) fn is_page_size(bytes: usize) -> bool {
    bytes.is_power_of_two() && (512..=65536).contains(&bytes)
}

/// Continues the checksum `sum` over `bytes`, a multiple of eight.
fn checksum(bytes: &[u8], big_endian: bool, sum: (u32, u32)) -> (u32, u32) {
    let (mut a, mut b) = sum;
    let word = |four: &[u8]| {
        let four = four.try_into().unwrap_or_default();
        if big_endian {
            u32::from_be_bytes(four)
        } else {
            u32::from_le_bytes(four)
        }
    };
    for eight in bytes.chunks_exact(8) {
        a = a.wrapping_add(word(&eight[..4])).wrapping_add(b);
        b = b.wrapping_add(word(&eight[4..])).wrapping_add(a);
    }
    (a, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    /// What is committed according to us, against SQLite, at every length of a log.
    #[test]
    fn a_log_cut_anywhere_holds_what_sqlite_finds_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let database = Connection::open(&path).unwrap();
        database
            .execute_batch(
                "PRAGMA page_size=512; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;
                 CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)",
            )
            .unwrap();
        for n in 0..12 {
            database
                .execute("INSERT INTO t VALUES (?1, 7)", [n])
                .unwrap();
        }
        let log = std::fs::read(dir.path().join("db-wal")).unwrap();
        let main = std::fs::read(&path).unwrap();
        let copy = tempfile::tempdir().unwrap();
        let (path, wal) = (copy.path().join("db"), copy.path().join("db-wal"));
        let mut seen = std::collections::BTreeSet::new();
        for length in (0..=log.len()).step_by(67) {
            std::fs::write(&path, &main).unwrap();
            std::fs::write(&wal, &log[..length]).unwrap();
            let ours = Wal::read(&File::open(&wal).unwrap());
            let pages = ours.as_ref().map_or(0, |wal| wal.pages.len());
            let sqlite = Connection::open(&path).unwrap();
            let rows: i64 = sqlite
                .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
                .unwrap_or(-1);
            // Page 2 is the table's: it comes with the first commit, and has all rows.
            let in_ours = ours
                .filter(|wal| wal.pages.contains_key(&2))
                .map_or(-1, |wal| {
                    let mut page = [0; 512];
                    let file = File::open(&path).and_then(|_| {
                        std::fs::write(wal_copy(copy.path()), &log[..length])?;
                        File::open(wal_copy(copy.path()))
                    });
                    file.unwrap()
                        .read_exact_at(&mut page, wal.pages[&2])
                        .unwrap();
                    i64::from(page[3]) << 8 | i64::from(page[4])
                });
            assert_eq!(in_ours, rows, "of {length} bytes, {pages} pages");
            seen.insert(rows);
        }
        assert!(seen.len() > 10, "{seen:?}");
    }

    fn wal_copy(dir: &std::path::Path) -> std::path::PathBuf {
        dir.join("copy")
    }

    #[test]
    fn other_bytes_are_no_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal");
        for content in [&b""[..], &[7; 31], &[0; 4096], &[0x37, 0x7f, 6, 0x82]] {
            std::fs::write(&path, content).unwrap();
            assert!(Wal::read(&File::open(&path).unwrap()).is_none());
        }
    }
}
