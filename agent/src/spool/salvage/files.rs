//! The files of a database that may be damaged, as pages; and what their pages say of each other.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::found::{depth_of, known_of};
use crate::spool::folder::Folder;
use crate::spool::pages::{Image, Value, be32, rows_of_page};
use crate::spool::schema;
use crate::spool::sealing::KeyId;
use crate::spool::wal::{Wal, is_page_size};

/// "SQLite format 3\0".
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The tables were made first, so their roots are among the first pages.
const ROOT_PAGES: u32 = 64;

/// Pages that are looked at to tell their size where nothing says it.
const PAGES_TRIED: u32 = 4096;

/// The files of a database, as pages: the log's, where it has them, before the database's own.
pub(super) struct Files {
    main: Option<File>,
    log: Option<(File, Wal)>,
    page_size: usize,
    reserved: usize,
    pub(super) pages: u32,
}

impl Files {
    /// Opens what is there; with nothing at all it has no pages.
    pub(super) fn open(folder: &Folder, with_log: bool) -> io::Result<Self> {
        Self::open_at(&folder.database(), &folder.log(), with_log)
    }

    /// The same of files that lie anywhere.
    pub(super) fn open_at(database: &Path, log: &Path, with_log: bool) -> io::Result<Self> {
        let main = existing(database)?;
        let mut header = [0; 100];
        let is_sqlite = main.as_ref().is_some_and(|file| {
            file.read_exact_at(&mut header, 0).is_ok() && header.starts_with(MAGIC)
        });
        let written = match u32::from(header[16]) << 8 | u32::from(header[17]) {
            1 => 65536,
            bytes => bytes as usize,
        };
        let written = (is_sqlite && is_page_size(written)).then_some(written);
        let log = existing(log)?.and_then(|file| Some((Wal::read(&file)?, file)));
        // Where the header is lost the log still says, whether it is to be read or not.
        let of_log = log.as_ref().map(|(wal, _)| wal.page_size);
        let page_size = match (written.or(of_log), &main) {
            (Some(told), _) => told,
            (None, Some(main)) => likely_page_size(main)?,
            (None, None) => schema::PAGE_BYTES,
        };
        let log = log.filter(|(wal, _)| with_log && wal.page_size == page_size);
        let bytes = match &main {
            Some(file) => file.metadata()?.len(),
            None => 0,
        };
        let in_main = u32::try_from(bytes.div_ceil(page_size as u64)).unwrap_or(u32::MAX);
        let in_log = (log.as_ref()).and_then(|(wal, _)| wal.pages.keys().next_back().copied());
        Ok(Self {
            main,
            log: log.map(|(wal, file)| (file, wal)),
            page_size,
            reserved: if is_sqlite {
                usize::from(header[20])
            } else {
                0
            },
            pages: in_main.max(in_log.unwrap_or(0)),
        })
    }
}

/// The keys that the database lists: with no other are rows sealed that wait to be delivered. None
/// where the list is lost, or empty.
pub(super) fn listed_keys(files: &mut Files) -> Option<BTreeSet<KeyId>> {
    let mut keys = BTreeSet::new();
    for number in 1..=files.pages.min(ROOT_PAGES) {
        rows_of_page(files, number, &mut |id, values| {
            if values == [Value::Null] {
                keys.insert(KeyId::of_number(id));
            }
        });
    }
    (!keys.is_empty()).then_some(keys)
}

/// The page size that makes most of a file whose header is lost, of those that spools were ever made
/// with.
fn likely_page_size(main: &File) -> io::Result<usize> {
    let bytes = main.metadata()?.len();
    let mut best = (0, schema::PAGE_BYTES);
    for page_size in [schema::PAGE_BYTES, schema::PAGE_BYTES_BEFORE] {
        let mut files = Files {
            main: Some(main.try_clone()?),
            log: None,
            page_size,
            reserved: 0,
            pages: u32::try_from(bytes.div_ceil(page_size as u64)).unwrap_or(u32::MAX),
        };
        let mut rows = 0_u64;
        for number in 1..=files.pages.min(PAGES_TRIED) {
            rows_of_page(&mut files, number, &mut |_, _| rows += 1);
        }
        if rows > best.0 {
            best = (rows, page_size);
        }
    }
    Ok(best.1)
}

fn existing(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Image for Files {
    fn page_size(&self) -> usize {
        self.page_size
    }

    fn reserved(&self) -> usize {
        self.reserved
    }

    fn read(&mut self, number: u32, into: &mut [u8]) -> bool {
        if let Some((file, wal)) = &self.log
            && let Some(at) = wal.pages.get(&number)
        {
            return file.read_exact_at(into, *at).is_ok();
        }
        let (Some(main), Some(before)) = (&self.main, number.checked_sub(1)) else {
            return false;
        };
        main.read_exact_at(into, u64::from(before) * self.page_size as u64)
            .is_ok()
    }
}

/// Moves the log of another database aside, so that SQLite does not write its pages into ours. Ours
/// is told by the identity in every row of `depth` and `generation`.
pub(in crate::spool) fn set_foreign_log_aside(folder: &Folder) -> io::Result<bool> {
    let Some((log, wal)) = existing(&folder.log())?
        .and_then(|file| Some((Wal::read(&file)?, file)))
        .map(|(wal, file)| (file, wal))
    else {
        return Ok(false);
    };
    let mut main = Files::open(folder, false)?;
    let mut is_foreign = main.main.is_some() && main.pages > 0 && main.page_size != wal.page_size;
    if !is_foreign {
        let mut ours = None;
        for number in 1..=main.pages.min(ROOT_PAGES) {
            rows_of_page(&mut main, number, &mut |_, values| {
                ours = ours.or(identity_of(values));
            });
        }
        let in_log: Vec<u32> = wal.pages.keys().copied().collect();
        let mut both = Files {
            log: Some((log, wal)),
            ..main
        };
        for number in in_log {
            rows_of_page(&mut both, number, &mut |_, values| {
                let identity = identity_of(values);
                is_foreign |= identity.is_some() && ours.is_some() && identity != ours;
            });
        }
    }
    if is_foreign {
        folder.set_log_aside()?;
    }
    Ok(is_foreign)
}

/// The identity of the database that a row of `depth` or `generation` was written into.
fn identity_of(values: &[Value<'_>]) -> Option<u64> {
    match values.len() {
        5 => depth_of(values).map(|(identity, _)| identity),
        18..=20 => Some(known_of(0, values)?.0.identity),
        _ => None,
    }
}

/// Whether the file holds fewer pages than its header and its log say.
pub(in crate::spool) fn is_cut_short(folder: &Folder) -> io::Result<bool> {
    let files = Files::open(folder, true)?;
    let main_bytes = match &files.main {
        Some(main) => main.metadata()?.len(),
        None => 0,
    };
    if let Some((_, wal)) = &files.log {
        // SQLite would take it for a new database, and delete the log.
        return Ok(!wal.pages.is_empty() && main_bytes < files.page_size as u64);
    }
    let Some(main) = &files.main else {
        return Ok(false);
    };
    let mut header = [0; 100];
    if main.read_exact_at(&mut header, 0).is_err() {
        // Nothing of it, or less than a header: a first start that was cut short has nothing.
        return Ok(main_bytes > 0);
    }
    let pages = be32(&header, 28).unwrap_or(0);
    Ok(header.starts_with(MAGIC) && u64::from(pages) * files.page_size as u64 > main_bytes)
}
