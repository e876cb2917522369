//! How much a salvage may write before what is to be kept free on the disk is touched.

use std::path::PathBuf;

use crate::spool::disk::Floors;
use crate::spool::folder::Folder;

/// What is left for notices, which are never given up.
const NOTICES_BYTES: u64 = 1024 * 1024;
/// The disk is asked again after so much: other programs write there too.
const ASK_EVERY: u64 = 1024 * 1024;
/// What a row takes besides what is counted of it: its other columns, and the rest of a page.
const ROW_BYTES: u64 = 1024 + 256;

/// The room above the floor of free space.
pub(super) struct Room {
    floors: Floors,
    path: PathBuf,
    /// None where the file system does not tell.
    left: Option<u64>,
    taken: u64,
}

impl Room {
    /// Of the file system of `folder`. A new file takes the place of an old one: inodes are no matter.
    pub(super) fn of(folder: &Folder, floors: Floors) -> Self {
        let mut room = Self {
            floors: Floors {
                inodes: 0,
                ..floors
            },
            path: folder.path().to_owned(),
            left: None,
            taken: 0,
        };
        room.ask();
        room
    }

    fn ask(&mut self) {
        let room = self.floors.room_at(&self.path, 0);
        self.left = room.map(|room| room.saturating_sub(NOTICES_BYTES));
        self.taken = 0;
    }

    /// Takes the room of a row of so many bytes; `false` where there is none.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        let bytes = bytes.saturating_add(ROW_BYTES);
        let fits = |left: Option<u64>| left.is_none_or(|left| left >= bytes);
        if self.taken >= ASK_EVERY || !fits(self.left) {
            self.ask();
        }
        if !fits(self.left) {
            return false;
        }
        self.left = self.left.map(|left| left - bytes);
        self.taken = self.taken.saturating_add(bytes);
        true
    }
}
