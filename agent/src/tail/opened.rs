//! A regular file as it is opened, and whether it is one that is known.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::content::{Content, born_ms, open, read_before};
use super::locate::is_refusal;
use super::packed::foreign;
use crate::checkpoint::{FileIdentity, Marker};
use crate::discover::Looks;
use crate::discover::identity::{
    self, FINGERPRINT_BYTES, Head, Match, has_fingerprint, match_identity,
};

/// Enough to tell how a file is compressed.
const MAGIC_BYTES: usize = 4;

/// Steps in which the end of something compressed is looked for.
const SKIP_BYTES: u64 = 1024 * 1024;

/// A file that was opened, and what it looked like.
#[derive(Debug)]
pub struct Opened {
    pub(super) content: Content,
    /// The path with all links resolved: beside it, rotated ones are searched.
    pub path: PathBuf,
    /// Device number of its file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Length of its content, bytes; `u64::MAX` where it is compressed.
    pub size: u64,
    /// Its length on the disk, bytes.
    pub packed_size: u64,
    /// When it was changed last, Unix milliseconds; 0 before 1970.
    pub modified_ms: u64,
    /// All that the system said of it.
    pub looks: Looks,
    /// When its inode was made, Unix milliseconds; none where the file system does not tell.
    pub born_ms: Option<u64>,
    head: Vec<u8>,
}

impl Opened {
    /// Opens a regular file.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` where it is not, or no longer, a regular file.
    pub fn new(path: &Path) -> io::Result<Self> {
        Self::of(open(path)?, path)
    }

    /// As [`Opened::new`], of a file that is open. `path`: where it lies, or lay.
    ///
    /// # Errors
    /// As [`Opened::new`].
    pub fn of(file: File, path: &Path) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a regular file",
            ));
        }
        let mut plain = Content::Plain(file.try_clone()?);
        let mut magic = [0; MAGIC_BYTES];
        let len = plain.read(&mut magic, 0)?;
        let mut content = Content::new(file, &magic[..len]);
        let mut head = vec![0; FINGERPRINT_BYTES];
        let len = content.read_all(&mut head, 0)?;
        head.truncate(len);
        let size = content.look()?.size;
        // Many may be opened before one is read.
        content.stop_decoding();
        let looks = Looks::of(&metadata);
        Ok(Self {
            path: fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
            device: metadata.dev(),
            inode: metadata.ino(),
            size,
            packed_size: metadata.len(),
            modified_ms: looks.modified_ms,
            looks,
            born_ms: born_ms(&metadata),
            content,
            head,
        })
    }

    /// Its first bytes.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Whether it is compressed.
    pub fn is_packed(&self) -> bool {
        self.content.is_packed()
    }

    /// What compressed it, where that is not read.
    pub fn foreign(&self) -> Option<&'static str> {
        foreign(&self.head).filter(|_| !self.is_packed())
    }

    /// Where its content ends. What is compressed is decoded for that.
    pub fn end(&mut self) -> u64 {
        let mut passed = 0;
        while self.size == u64::MAX && self.content.read_all(&mut [0; 1], passed).is_ok() {
            passed += SKIP_BYTES;
            self.size = (self.content.look()).map_or(0, |look| look.size);
        }
        self.size
    }

    /// Lets it go until it is read.
    pub(super) fn park(&mut self) {
        self.content.park(&self.path, (self.device, self.inode));
    }

    /// Looks at it anew: something may lie in it now.
    pub(super) fn look_again(&mut self) {
        let was_parked = self.content.is_parked();
        let mut head = vec![0; FINGERPRINT_BYTES];
        let read = self.content.read_all(&mut head, 0);
        if let (Ok(look), Ok(len)) = (self.content.look(), read) {
            head.truncate(len);
            (self.size, self.head) = (look.size, head);
        }
        if was_parked {
            self.park();
        }
    }

    /// Whether what it began with, or as much as it held, is there no longer.
    pub(super) fn was_cut(&mut self) -> bool {
        if self.is_packed() {
            return false;
        }
        let was_parked = self.content.is_parked();
        let mut head = vec![0; self.head.len()];
        let size = self.content.look().map(|look| look.size);
        let was_cut = match (size, self.content.read(&mut head, 0)) {
            (Ok(size), Ok(len)) => size < self.size || head[..len] != self.head,
            // Renamed, or out of reach: its first turn tells.
            _ => false,
        };
        if was_parked {
            self.park();
        }
        was_cut
    }

    /// Device and inode.
    pub fn place(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Whether it lies where the file that `known` describes lay, and begins as that did. Where nothing of that
    /// was read, what was made later is another on the same inode; where the file system does not tell when
    /// that was, what is compressed is, since nobody compresses in place. What was read, `marker` tells, be it
    /// a file that begins with NULs and so has no fingerprint.
    pub fn is_at(&self, known: &FileIdentity, marker: Option<&Marker>) -> bool {
        let is_unread = known.fingerprint_len == 0 && marker.is_none_or(|marker| marker.end == 0);
        let is_other = (self.born_ms).map_or(self.is_packed(), |born_ms| born_ms > known.since_ms);
        if is_unread && is_other {
            return false;
        }
        let head = Head {
            device: self.device,
            inode: self.inode,
            bytes: &self.head,
        };
        match_identity(known, &head) != Match::Different
    }

    /// Whether it begins as the file that `known` describes did, wherever it lies. A file of which
    /// nothing is known has no beginning; and one that was changed last before that file was is an
    /// older one that began alike.
    pub fn begins_as(&self, known: &FileIdentity) -> bool {
        known.fingerprint_len > 0
            && self.modified_ms >= known.since_ms
            && has_fingerprint(known, &self.head)
    }

    /// Whether it holds what was read of a known file, wherever it lies.
    pub fn holds(&mut self, known: &FileIdentity, marker: Option<&Marker>) -> bool {
        self.begins_as(known) && self.has(marker)
    }

    /// Whether a marker of the known file is found in it. Where it is compressed, it is decoded as
    /// far as that, and what follows is at hand.
    pub fn has(&mut self, marker: Option<&Marker>) -> bool {
        self.holds_marker(marker).unwrap_or(false)
    }

    /// As [`Opened::has`].
    ///
    /// # Errors
    /// It cannot be read there.
    pub fn holds_marker(&mut self, marker: Option<&Marker>) -> io::Result<bool> {
        let Some(marker) = marker.filter(|marker| self.size >= marker.end) else {
            return Ok(marker.is_none());
        };
        let before = read_before(&mut self.content, marker.end)?;
        Ok(identity::is_at(marker, &before))
    }

    /// Whether it was made, and written, later than `since_ms`. Where the file system does not tell when a
    /// file was made, its last change alone says so.
    pub fn is_younger_than(&self, since_ms: u64) -> bool {
        self.modified_ms > since_ms && self.born_ms.is_none_or(|born_ms| born_ms > since_ms)
    }

    /// As [`Opened::has`]; where the system refuses to read it there, it may have it: taken for another file,
    /// it would be read from its beginning.
    pub fn may_have(&mut self, marker: Option<&Marker>) -> bool {
        self.holds_marker(marker)
            .unwrap_or_else(|error| is_refusal(&error))
    }

    /// The marker of an offset in it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn marker(&mut self, end: u64) -> io::Result<Marker> {
        let before = read_before(&mut self.content, end)?;
        Ok(identity::marker(end, &before))
    }

    /// What it will be known by.
    pub fn identity(&self) -> FileIdentity {
        let (fingerprint_len, fingerprint) = identity::fingerprint(&self.head);
        FileIdentity {
            path: self.path.as_os_str().as_bytes().to_vec(),
            device: self.device,
            inode: self.inode,
            fingerprint_len,
            fingerprint,
            since_ms: self.modified_ms,
        }
    }
}

/// A file that was read, and that the system refuses to read again.
#[cfg(test)]
pub(super) mod refused {
    use std::os::unix::fs::symlink;

    use headwater_record::{Generation, StreamId};

    use super::*;
    use crate::checkpoint::{OpenGeneration, Origin};

    /// A file of two lines in a folder, and its generation, read to its end.
    pub(in crate::tail) fn read_once(folder: &Path) -> (Opened, OpenGeneration) {
        let path = folder.join("app.log");
        fs::write(&path, "one\ntwo\n").unwrap();
        let mut file = Opened::new(&path).unwrap();
        let open = OpenGeneration {
            generation: Generation(1),
            stream: StreamId::parse("d/s/p").unwrap(),
            origin: Origin::File(file.identity()),
            settled: 8,
            skip_to: None,
            cuts: Vec::new(),
            marker: Some(file.marker(8).unwrap()),
            earlier: Vec::new(),
            goes_on: None,
        };
        (file, open)
    }

    /// From now on the system refuses.
    pub(in crate::tail) fn refuse(file: &mut Opened) {
        file.park();
        fs::remove_file(&file.path).unwrap();
        symlink(&file.path, &file.path).unwrap();
    }
}
