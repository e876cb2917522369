//! Where a followed file lies, which file it is, and what the database knows of that.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use headwater_record::value::CLOCK_SET_MS;

use super::Followed;
use crate::checkpoint::FileIdentity;
use crate::clock::Monotonic;
use crate::discover::Found;
use crate::discover::identity::{self, FINGERPRINT_BYTES, has_fingerprint, is_worth_storing};
use crate::discover::told::Told;
use crate::discover::watch::Changed;
use crate::tail::content::read_before;
use crate::tail::locate::{by_place, is_mounted};
use crate::tail::opened::Opened;

impl Followed {
    /// Whether a file begins as this one does, and may hold all that was read of it.
    pub fn may_go_on_in(&self, opened: &Opened) -> bool {
        opened.begins_as(&self.identity)
    }

    /// Whether a file is shorter than what this one is known by, and may become a copy of it.
    pub fn may_be_begun_in(&self, opened: &Opened) -> bool {
        opened.size < u64::from(self.identity.fingerprint_len)
            && opened.modified_ms >= self.identity.since_ms
    }

    /// Whether a file that was opened anew is this one still.
    pub fn is(&self, opened: &mut Opened) -> bool {
        opened.is_at(&self.identity, Some(&self.marker)) && opened.may_have(Some(&self.marker))
    }

    /// Whether another file is what is left of this one: it holds all that was read, compressed or
    /// since that lies no longer where it lay.
    pub fn is_left_in(&mut self, opened: &mut Opened) -> bool {
        (opened.begins_as(&self.identity) && opened.may_have(Some(&self.marker)))
            && (opened.is_packed() || self.is_lost())
    }

    /// Whether what was read of it lies no longer where it lay: it was deleted, or cut.
    pub fn is_lost(&mut self) -> bool {
        match self.content.links() {
            Some(0) => true,
            Some(_) => !self.is_itself().unwrap_or(true),
            None => {
                let found = by_place(&self.identity, Some(&self.marker), &Found::default());
                matches!(found, Ok(None))
            }
        }
    }

    /// Whether a file that begins as this one does may be a copy of it, whole or under way: this one
    /// holds what that one ends with, at the same offset. What cannot be told may be.
    pub fn may_be_copied_to(&mut self, opened: &mut Opened) -> bool {
        if self.content.is_packed() || opened.is_packed() {
            return true;
        }
        let was_parked = self.content.is_parked();
        let may_be = self.holds_end_of(opened).unwrap_or(true);
        if was_parked {
            self.park();
        }
        may_be
    }

    fn holds_end_of(&mut self, opened: &mut Opened) -> io::Result<bool> {
        let end = opened.marker(opened.size)?;
        let before = read_before(&mut self.content, end.end)?;
        // Where it is cut meanwhile, what was written to it since tells nothing of the copy.
        Ok(identity::is_at(&end, &before) || !self.is_itself()?)
    }

    /// Whether it is compressed, and decoding it has begun.
    pub fn is_decoding(&self) -> bool {
        self.content.is_decoding()
    }

    /// Whether decoding it is still to begin, if it has a turn.
    pub fn would_decode(&self) -> bool {
        self.content.would_decode()
    }

    /// Lets go of what decoding takes; its next turn begins anew.
    pub fn stop_decoding(&mut self) {
        self.content.stop_decoding();
    }

    /// Whether it holds what was read of it.
    fn is_itself(&mut self) -> io::Result<bool> {
        if self.content.is_packed() {
            return Ok(true);
        }
        let mut head = [0; FINGERPRINT_BYTES];
        let len = self.content.read(&mut head, 0)?;
        let before = read_before(&mut self.content, self.marker.end)?;
        Ok(has_fingerprint(&self.identity, &head[..len]) && identity::is_at(&self.marker, &before))
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
        self.move_to(opened, now);
        Ok(())
    }

    fn move_to(&mut self, opened: Opened, now: Monotonic) {
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
        (self.known_ms, self.looks) = (opened.modified_ms, opened.looks);
        self.content = opened.content;
        self.content.stop_decoding();
        (self.quiet_since, self.wants_turn) = (now, true);
    }

    /// Whether nothing of it was read, and nothing tells it but its inode.
    pub fn is_unread(&self) -> bool {
        self.identity.fingerprint_len == 0 && self.position.read_from() == 0
    }

    /// Whether nothing of it was read, and the database knows that as of a time before `since_ms`.
    pub fn is_unread_since_before(&self, since_ms: u64) -> bool {
        self.is_unread() && self.stored.since_ms < since_ms
    }

    /// Takes note that nothing lay in it that was not looked at, `since_ms` or earlier.
    pub fn unread_as_of(&mut self, since_ms: u64) {
        self.identity.since_ms = self.identity.since_ms.max(since_ms);
    }

    /// When it was changed last, where nothing of it was read and it was changed since that was known. Not
    /// where the clock was unset then: anything would seem to be younger.
    pub fn changed_unread(&mut self) -> Option<u64> {
        let since_ms = self.identity.since_ms;
        if !self.is_unread() || since_ms < CLOCK_SET_MS {
            return None;
        }
        let look = self.content.look().ok()?;
        let modified_ms = look.looks.modified_ms;
        (modified_ms > since_ms).then_some(modified_ms)
    }

    /// Whether it was cut since `copy` was made: it is shorter, or holds something else. A copy under way, or
    /// one of what is still there, holds nothing that this one does not. What cannot be told was not.
    pub fn was_cut_after(&mut self, copy: &mut Opened) -> bool {
        let was_parked = self.content.is_parked();
        let was_cut = self.differs_from(copy).unwrap_or(false);
        if was_parked {
            self.park();
        }
        was_cut
    }

    /// Whether this one, of which nothing was read, lies at a path compressed.
    pub fn is_unread_in(&mut self, path: &Path) -> bool {
        Opened::new(path).is_ok_and(|mut packed| {
            packed.is_packed() && packed.end() > 0 && !self.was_cut_after(&mut packed)
        })
    }

    /// Learns of what it begins with, where nothing was known of it; returns whether there is anything.
    pub fn learn_head(&mut self) -> bool {
        let was_parked = self.content.is_parked();
        let mut head = [0; FINGERPRINT_BYTES];
        if let Ok(len) = self.content.read_all(&mut head, 0) {
            let (len, fingerprint) = identity::fingerprint(&head[..len]);
            (self.identity.fingerprint_len, self.identity.fingerprint) = (len, fingerprint);
        }
        if was_parked {
            self.park();
        }
        self.identity.fingerprint_len > 0
    }

    fn differs_from(&mut self, copy: &mut Opened) -> io::Result<bool> {
        let end = copy.end();
        if self.content.look()?.size < end {
            return Ok(true);
        }
        let mut head = vec![0; copy.head().len()];
        let len = self.content.read_all(&mut head, 0)?;
        let before = read_before(&mut self.content, end)?;
        Ok(head[..len] != *copy.head() || !identity::is_at(&copy.marker(end)?, &before))
    }

    /// What it is known by where it goes on in another file.
    pub fn identity_in(&self, copy: &Opened) -> FileIdentity {
        FileIdentity {
            since_ms: self.identity.since_ms,
            ..copy.identity()
        }
    }

    /// Goes on in a copy, from its first byte: nothing of it was read before it was copied, and cut. The
    /// database has it.
    pub fn was_copied_to(&mut self, copy: Opened, now: Monotonic) {
        self.identity = self.identity_in(&copy);
        self.identity_stored();
        (self.linked, self.copied) = (false, true);
        self.move_to(copy, now);
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

    /// The open file, where no name leads to it any more.
    pub fn nameless(&self) -> Option<File> {
        self.content.nameless()
    }

    /// The open file, where no name leads to it any more, and nobody read on in it or wrote to it for so long.
    pub fn stands_deleted(&mut self, period: Duration, now: Monotonic) -> Option<File> {
        // Asked of each file at each scan: of one that a path leads to, the system need not be.
        let file = (!self.linked).then(|| self.nameless())??;
        let (len, read_from) = (file.metadata().ok()?.len(), self.position.read_from());
        match self.stands {
            Some((then_len, then_read_from, since))
                if (then_len, then_read_from) == (len, read_from) =>
            {
                (now.since(since) >= period).then_some(file)
            }
            _ => {
                self.stands = Some((len, read_from, now));
                None
            }
        }
    }

    /// What of it was not given away: from where to where, as far as that is known. Its length is what it stands
    /// at ([`Followed::stands_deleted`]): since its last turn it may have grown.
    pub fn unread(&self) -> (u64, u64) {
        let end = match (self.content.is_packed(), self.stands) {
            (false, Some((len, ..))) => len,
            _ if self.has_known_end() => self.size,
            _ => 0,
        };
        (self.position.given(), end.max(self.position.read_from()))
    }

    /// Bytes of it that were not given away, as of now where it waits for a turn, else as of its last one; 0 where
    /// only reading it can tell (it is compressed).
    pub fn unread_bytes(&mut self) -> u64 {
        let looked = self.wants_turn.then(|| self.content.look().ok()).flatten();
        match looked.map_or(self.size, |look| look.size) {
            u64::MAX => 0,
            // What is to be skipped is given with the first record.
            size => size.saturating_sub(self.position.read_from()),
        }
    }

    /// Whether it is known where it ends: not of what is compressed, before that is read.
    pub fn has_known_end(&self) -> bool {
        self.size < u64::MAX
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
            Err(error) => {
                let is_absent = matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                );
                let is_deleted = || self.content.links() == Some(0);
                is_absent && (is_deleted() || is_mounted(&self.path(), self.identity.device))
            }
        };
        if leads_elsewhere {
            self.linked = false;
            self.quiet_since = now;
        }
        leads_elsewhere
    }

    /// Whether it is held open.
    pub fn is_held(&self) -> bool {
        !self.content.is_parked()
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

    /// Whether each folder in which it lies is told of: that of its path, and of what that leads to.
    pub fn is_told_of(&self, told: &Told) -> bool {
        let own = Path::new(OsStr::from_bytes(&self.identity.path));
        let paths = [self.seen_at.as_deref(), Some(own)];
        let mut folders = paths.into_iter().map(|path| path?.parent());
        folders.all(|folder| folder.is_some_and(|folder| told.of(folder)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::encoding::Encoding;
    use crate::frame::frames::{AtCut, Framing};
    use crate::tail::opened::refused::{read_once, refuse};

    #[test]
    fn what_cannot_be_read_where_the_marker_lies_may_be_it() {
        let folder = tempfile::tempdir().unwrap();
        let (file, open) = read_once(folder.path());
        let mut again = Opened::new(&file.path).unwrap();
        let framing = Framing {
            encoding: Encoding::UTF_8,
            max_line: 1024,
            multiline: None,
            at_cut: AtCut::Complete,
        };
        let followed = Followed::new(0, &framing, file, &open, Monotonic(0)).unwrap();
        assert!(followed.is(&mut again));
        refuse(&mut again);
        assert!(followed.is(&mut again));
    }
}
