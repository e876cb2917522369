//! What others see of a salvage while it runs, and how they end it before its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Monotonic, monotonic};

/// How often the log says how far it has come.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// How far a salvage has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the damaged database that were looked at,
    pub bytes: u64,
    /// of so many.
    pub bytes_all: u64,
    /// When the last of them were.
    pub moved: Monotonic,
}

/// The store's salvage, if one is under way. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Salvaging(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicU64,
    /// 0: none is under way.
    bytes_all: AtomicU64,
    moved_ms: AtomicU64,
    stopped: AtomicBool,
}

impl Salvaging {
    /// None where none is under way.
    pub fn progress(&self) -> Option<Progress> {
        let bytes_all = self.0.bytes_all.load(Ordering::Acquire);
        (bytes_all > 0).then(|| Progress {
            bytes: self.0.bytes.load(Ordering::Relaxed).min(bytes_all),
            bytes_all,
            moved: Monotonic(self.0.moved_ms.load(Ordering::Relaxed)),
        })
    }

    /// Has it given up, now and from now on: the damaged database stays where it is.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Relaxed)
    }

    /// One begins, over a database of so many bytes, and lasts as long as what is returned.
    pub(super) fn begin(&self, bytes_all: u64) -> UnderWay<'_> {
        let mut under_way = UnderWay {
            shared: &self.0,
            said: monotonic(),
        };
        under_way.moved_to(0);
        self.0.bytes_all.store(bytes_all.max(1), Ordering::Release);
        under_way
    }
}

/// A salvage that is under way.
pub(super) struct UnderWay<'a> {
    shared: &'a Shared,
    said: Monotonic,
}

impl UnderWay<'_> {
    /// So many bytes were looked at.
    pub(super) fn moved_to(&mut self, bytes: u64) {
        let now = monotonic();
        self.shared.bytes.store(bytes, Ordering::Relaxed);
        self.shared.moved_ms.store(now.0, Ordering::Relaxed);
        if now.since(self.said) >= SAY_EVERY {
            self.said = now;
            let bytes_all = self.shared.bytes_all.load(Ordering::Relaxed);
            tracing::warn!(bytes, bytes_all, "the spool is being salvaged");
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.shared.bytes_all.store(0, Ordering::Release);
    }
}
