//! Says that the guard against too many paths closes a partition's batches: now and then, not for each of them.

use crate::pipeline::PipelineSpec;

/// How often it is said of one partition, at most.
const EVERY_MS: u64 = 3_600_000;

/// When it was said last, of one partition.
#[derive(Debug, Default)]
pub(super) struct Guard {
    said_ms: Option<u64>,
}

impl Guard {
    /// It closed a batch. `now_ms` is monotonic.
    pub(super) fn closed(
        &mut self,
        partition: i32,
        (spec, objects): (&PipelineSpec, usize),
        now_ms: u64,
    ) {
        if self.is_due(now_ms) {
            tracing::warn!(
                partition,
                path = spec.path.text(),
                objects,
                "batches end because they have as many paths as flush.objects allows: many small objects come of it. \
                 Leave the field with the most values out of output.path (or of a step's path), or raise \
                 flush.objects; `plan` says which paths there are"
            );
        }
    }

    fn is_due(&mut self, now_ms: u64) -> bool {
        let is_due = self
            .said_ms
            .is_none_or(|said| now_ms.saturating_sub(said) >= EVERY_MS);
        if is_due {
            self.said_ms = Some(now_ms);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_an_hour() {
        let mut guard = Guard::default();
        let at = [5, 6, EVERY_MS + 4, EVERY_MS + 5, EVERY_MS + 6];
        let said = at.map(|now_ms| guard.is_due(now_ms));
        assert_eq!(said, [true, false, false, true, false]);
    }
}
