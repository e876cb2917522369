//! What frames are compressed with. A context takes about 1 MiB, and a frame's buffer 257 KiB beside it; both
//! are wanted only while a frame is made. So they belong to nobody: as many are there as frames are made at once, by
//! the runtime's threads, however many partitions a loader has.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{EncodeError, FRAME_BYTES_MAX, ZSTD_LEVEL};

/// Contexts that wait for the next frame, at most: some 10 MiB, which the plan's base has room for. Where more threads
/// than these make frames at once, the others' are made anew for each frame.
const IDLE_MAX: usize = 8;

/// Contexts that nobody uses now.
#[derive(Default)]
pub(super) struct Contexts {
    idle: Mutex<Vec<Context>>,
    #[cfg(test)]
    pub(super) made: std::sync::atomic::AtomicUsize,
}

/// One of them.
pub(super) struct Context {
    pub(super) zstd: zstd::bulk::Compressor<'static>,
    /// Memory of the frame that was made last.
    pub(super) frame: Vec<u8>,
}

impl Contexts {
    /// Does `work` with a context that nobody else has meanwhile.
    ///
    /// # Errors
    /// No memory for one, or what `work` says.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut Context) -> Result<T, EncodeError>,
    ) -> Result<T, EncodeError> {
        let idle = self.idle().pop();
        let mut context = match idle {
            Some(context) => context,
            None => self.make()?,
        };
        let done = work(&mut context);
        // What one huge record wanted is not kept for the next ones.
        if context.frame.capacity() > kept_bytes() {
            context.frame = Vec::new();
        }
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX {
            idle.push(context);
        }
        done
    }

    fn make(&self) -> Result<Context, EncodeError> {
        #[cfg(test)]
        self.made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        zstd.include_checksum(true)?;
        Ok(Context {
            zstd,
            frame: Vec::new(),
        })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Context>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the buffers that wait.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let idle = self.idle();
        idle.iter().map(|context| context.frame.capacity()).sum()
    }
}

impl std::fmt::Debug for Contexts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contexts").finish_non_exhaustive()
    }
}

/// What a frame of usual size wants: the last line of one may be longer than the rest of it.
fn kept_bytes() -> usize {
    2 * zstd::zstd_safe::compress_bound(FRAME_BYTES_MAX)
}
