//! Where a followed file lies, which file it is, and what the database knows of that.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Followed;
use crate::checkpoint::FileIdentity;
use crate::clock::Monotonic;
use crate::discover::identity::is_worth_storing;
use crate::discover::watch::Changed;
use crate::tail::opened::Opened;

impl Followed {
    /// Whether a file begins as this one does, and may hold all that was read of it.
    pub fn may_go_on_in(&self, opened: &Opened) -> bool {
        opened.begins_as(&self.identity)
    }

    /// Whether a file that was opened anew is this one still.
    pub fn is(&self, opened: &mut Opened) -> bool {
        opened.is_at(&self.identity) && opened.has(Some(&self.marker))
    }

    /// Whether another file holds all that was read of this one.
    pub fn is_held_by(&self, opened: &mut Opened) -> bool {
        opened.holds(&self.identity, Some(&self.marker))
    }

    /// Goes on in another file, if that holds all that was read: a copy, or itself compressed.
    /// Gives the file back otherwise.
    ///
    /// # Errors
    /// It is another file.
    pub fn go_on_in(&mut self, mut opened: Opened, now: Monotonic) -> Result<(), Box<Opened>> {
        if !opened.holds(&self.identity, Some(&self.marker)) {
            return Err(Box::new(opened));
        }
        tracing::info!(
            "{}: generation {} goes on at offset {}, in {}",
            self.stream,
            self.generation,
            self.position.given(),
            opened.path.display()
        );
        self.identity.path = opened.path.as_os_str().as_bytes().to_vec();
        (self.identity.device, self.identity.inode) = opened.place();
        (self.size, self.modified_ms) = (opened.size, opened.modified_ms);
        self.known_ms = opened.modified_ms;
        self.content = opened.content;
        self.quiet_since = now;
        Ok(())
    }

    /// Takes note that a glob leads to it, at `path`.
    pub fn found_at(&mut self, path: &Path) {
        self.linked = true;
        self.content.lies_at(path);
        if self.seen_at.as_deref() != Some(path) {
            self.seen_at = Some(path.to_owned());
            if let Ok(path) = fs::canonicalize(path) {
                self.identity.path = path.as_os_str().as_bytes().to_vec();
            }
        }
    }

    /// Takes note that no glob led to it: unlinked, if the path where it lay leads elsewhere. Where
    /// that cannot be told (a file system that is away for a moment) it stays as it is. Returns
    /// whether it was unlinked now.
    pub fn not_found(&mut self, now: Monotonic) -> bool {
        let Some(seen_at) = self.seen_at.as_ref().filter(|_| self.linked) else {
            return false;
        };
        let leads_elsewhere = match fs::metadata(seen_at) {
            Ok(metadata) => (metadata.dev(), metadata.ino()) != self.place(),
            Err(error) => matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ),
        };
        if leads_elsewhere {
            self.linked = false;
            self.quiet_since = now;
        }
        leads_elsewhere
    }

    /// Whether it may be let go until something happens to it: a path leads to it.
    pub fn can_park(&self) -> bool {
        self.linked && self.content.can_park()
    }

    /// Lets the file go until something happens to it.
    pub fn park(&mut self) {
        if let Some(path) = self.seen_at.as_ref().filter(|_| self.linked) {
            self.content.park(path, self.place());
        }
    }

    /// Whether it may be one of the files that were heard of.
    pub fn is_named_in(&self, changed: &Changed) -> bool {
        changed.holds(self.seen_at.as_deref())
            || changed.holds(Some(Path::new(OsStr::from_bytes(&self.identity.path))))
    }

    /// Its identity, where the database should have it anew.
    pub fn identity_worth_storing(&self) -> Option<FileIdentity> {
        let (stored, now) = (&self.stored, &self.identity);
        let moved = stored.path != now.path || self.place() != (stored.device, stored.inode);
        (moved || is_worth_storing(stored.fingerprint_len, now.fingerprint_len))
            .then(|| now.clone())
    }

    /// Its identity, where the database has another.
    pub fn identity_unless_stored(&self) -> Option<FileIdentity> {
        // When it was changed last is written down with each checkpoint.
        let since_ms = self.identity.since_ms;
        let stored = FileIdentity {
            since_ms,
            ..self.stored.clone()
        };
        (stored != self.identity).then(|| self.identity.clone())
    }

    /// Takes note that the database has it.
    pub fn identity_stored(&mut self) {
        self.stored = self.identity.clone();
    }
}
