//! What the dead letters of some batches were: how many by the step that failed, and the last of each.

use std::collections::BTreeMap;

/// Bytes of a reason that are kept: it may carry a part of the record.
const REASON_BYTES_MAX: usize = 256;

/// Dead letters, by the step that failed: as many entries as a pipeline has steps, and one for what
/// failed outside of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejects(BTreeMap<String, Reject>);

/// Those of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// How many.
    pub records: u64,
    /// Why the last one failed, cut to 256 bytes.
    pub reason: String,
    /// Where the last one lies.
    pub offset: u64,
    /// Kafka's timestamp of it, Unix milliseconds.
    pub time_ms: u64,
}

impl Rejects {
    /// One more. `step`: as [`crate::pipeline::Pipeline::step_label`] has it.
    pub fn add(&mut self, step: &str, reason: &str, (offset, time_ms): (u64, u64)) {
        let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
        let entry = match self.0.get_mut(step) {
            Some(entry) => entry,
            None => self.0.entry(step.to_owned()).or_insert_with(|| Reject {
                records: 0,
                reason: String::new(),
                offset,
                time_ms,
            }),
        };
        entry.records += 1;
        reason.clone_into(&mut entry.reason);
        (entry.offset, entry.time_ms) = (offset, time_ms);
    }

    /// Adds later ones.
    pub fn merge(&mut self, later: Self) {
        for (step, reject) in later.0 {
            match self.0.get_mut(&step) {
                Some(entry) => {
                    let records = entry.records + reject.records;
                    *entry = Reject { records, ..reject };
                }
                None => {
                    self.0.insert(step, reject);
                }
            }
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each step's, by its label.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Reject)> {
        self.0.iter().map(|(step, reject)| (step.as_str(), reject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_counted_by_step_and_the_last_one_is_kept_short() {
        let mut rejects = Rejects::default();
        rejects.add("1 (parse)", "first", (5, 50));
        rejects.add("1 (parse)", &"é".repeat(500), (9, 90));
        let mut later = Rejects::default();
        later.add("1 (parse)", "later", (12, 120));
        later.add("row", "no field", (13, 130));
        assert_eq!(rejects.iter().next().unwrap().1.reason.len(), 256);
        rejects.merge(later);
        let seen: Vec<_> = rejects
            .iter()
            .map(|(step, of)| (step, of.records, of.reason.as_str(), of.offset, of.time_ms))
            .collect();
        assert_eq!(
            seen,
            [
                ("1 (parse)", 3, "later", 12, 120),
                ("row", 1, "no field", 13, 130)
            ]
        );
    }
}
