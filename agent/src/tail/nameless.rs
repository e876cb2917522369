//! Files that no name leads to any more, handed from a source to the one that follows with another
//! configuration (SIGHUP), in the same thread or in the next.
//!
//! A deleted file is there as long as somebody holds it open, and no longer: a source that let go of it
//! would leave its rest unread, and the next could only say that it has vanished. A stop of the agent
//! does let go of it.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Mutex, PoisonError};

use headwater_record::Generation;

/// What is handed over. At most as many as may be open.
#[derive(Debug, Default)]
pub struct Nameless(Mutex<HashMap<Generation, File>>);

impl Nameless {
    /// Leaves the files of what ends.
    pub fn leave(&self, files: impl IntoIterator<Item = (Generation, File)>) {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.extend(files);
    }

    /// Takes what was left: whoever does not go on with one of them closes it.
    pub fn take(&self) -> HashMap<Generation, File> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
