//! Few compressed files are decoded at a time: each takes up to 8 MiB, however many a glob matches.
//!
//! Who is being decoded goes on to its end; the others wait for that, as do younger files of their
//! streams. Plain files do not.

use super::opened::Opened;
use super::packed::DECODING_MAX;
use super::reader::Followed;

/// A compressed file was decoded as far as it was read, to know it. Of many that is not kept. `decoding`: of
/// how many it is already.
pub(super) fn keep_decoding(file: &mut Opened, decoding: &mut usize) {
    if file.content.is_decoding() {
        *decoding += 1;
        if *decoding > DECODING_MAX {
            file.content.stop_decoding();
        }
    }
}

/// Has few of these files keep what decoding takes: the first ones.
pub(super) fn bound_decoding(files: &mut [Followed]) {
    let decoding = files.iter_mut().filter(|file| file.is_decoding());
    decoding
        .skip(DECODING_MAX)
        .for_each(Followed::stop_decoding);
}

/// During a pass: how many are decoded, and whether others wait for that.
#[derive(Debug)]
pub(super) struct Decoding {
    now: usize,
    waits: bool,
}

impl Decoding {
    /// Of all files.
    pub(super) fn of(files: &mut [Followed]) -> Self {
        bound_decoding(files);
        Self {
            now: files.iter().filter(|file| file.is_decoding()).count(),
            waits: false,
        }
    }

    /// Whether a file is to wait for its turn, since others are decoded.
    pub(super) fn holds_up(&mut self, file: &Followed) -> bool {
        let holds_up = self.now >= DECODING_MAX && file.would_decode();
        self.waits |= holds_up;
        holds_up
    }

    /// A file had its turn: whether it was decoded before, and is now.
    pub(super) fn turned(&mut self, before: bool, now: bool) {
        self.now = (self.now + usize::from(now)).saturating_sub(usize::from(before));
    }

    /// Whether one waited that need not any more.
    pub(super) fn is_room(&self) -> bool {
        self.waits && self.now < DECODING_MAX
    }
}
