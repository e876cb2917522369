//! Markers and accounts behind a commit, and the batch clock that they rest on.

use std::sync::Arc;

use crate::books::{AccountsFile, Books};
use crate::partition::Action;
use crate::partition::batch::Object;

/// Markers and accounts that are being written.
#[derive(Debug)]
pub(super) struct Publishing {
    pub(super) objects: Arc<Vec<Object>>,
    /// Up to when hours are complete with them.
    pub(super) complete_ms: Option<u64>,
}

impl Publishing {
    /// What is due; nothing where nothing is.
    pub(super) fn of(books: &Books) -> Option<Self> {
        let objects = books.due();
        (!objects.is_empty()).then(|| Self {
            objects: Arc::new(objects),
            complete_ms: books.complete_ms(),
        })
    }

    pub(super) fn action(&self) -> Action {
        Action::Publish(Arc::clone(&self.objects))
    }
}

/// The batch clock of a batch that is opened now. With accounts it never goes back: what was said to be
/// complete stays so, whichever machine has the partition.
pub(super) fn batch_clock(asked: AccountsFile, wall_ms: u64, before_ms: u64) -> u64 {
    match asked.is_off() {
        true => wall_ms,
        false => wall_ms.max(before_ms),
    }
}
