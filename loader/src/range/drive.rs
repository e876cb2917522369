//! The partition of `run`, driven by a stretch of records instead of by the group, one record at a
//! time and with their own clock.

use crate::fetched::{Entry, Fetched};
use crate::partition::{Event, Now, Partition, PartitionError};

/// A partition, and the clock that its records keep.
#[derive(Debug)]
pub struct Drive {
    /// The partition. Its actions are the caller's to perform, before the next record.
    pub machine: Partition,
    clock_ms: u64,
    /// No record is from later than this: its producer sets its time.
    latest_ms: u64,
    one: Fetched,
}

impl Drive {
    /// `clock_ms`: where the clock stands at first; it never goes back. `latest_ms`: what it stands
    /// still at, whatever records say, when the stretch was begun.
    pub fn new(machine: Partition, clock_ms: u64, latest_ms: u64) -> Self {
        Self {
            machine,
            clock_ms,
            latest_ms,
            one: Fetched::default(),
        }
    }

    /// The time, by the records that were seen.
    pub fn now(&self) -> Now {
        Now {
            mono_ms: self.clock_ms,
            wall_ms: self.clock_ms,
        }
    }

    /// Tells it what came to pass.
    ///
    /// # Errors
    /// See [`PartitionError`].
    pub fn apply(&mut self, event: Event) -> Result<(), PartitionError> {
        self.machine.apply(event, self.now())
    }

    /// The clock reaches `entry`: what is due by age closes before it.
    ///
    /// # Errors
    /// See [`PartitionError`].
    pub fn reach(&mut self, entry: &Entry) -> Result<(), PartitionError> {
        self.clock_ms = self.clock_ms.max(entry.time_ms.min(self.latest_ms));
        self.apply(Event::Tick)
    }

    /// Takes one record of `fetched`. `false`: there was no room, since what closed before was not
    /// performed to its end.
    ///
    /// # Errors
    /// See [`PartitionError`].
    pub fn take(&mut self, fetched: &Fetched, entry: &Entry) -> Result<bool, PartitionError> {
        self.one.clear();
        let (offset, time_ms) = (entry.offset, entry.time_ms);
        let identity = entry.identity.clone();
        let value = fetched.value(entry);
        self.one.push(offset, time_ms, value, identity);
        let now = self.now();
        Ok(self.machine.take(&self.one, 0, now)? == 1)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::file::Tables;
    use crate::config::{ConfigFile, Plan};
    use crate::partition::intent::Committed;
    use crate::state::Carried;

    #[test]
    fn a_time_that_a_producer_made_up_moves_the_clock_no_further_than_today() {
        let text = "[kafka]\nbrokers=['localhost:1']\ntopic='logs'\n[group]\nid='g'\n[output]\nurl='s3://b/p'\n";
        let file: ConfigFile = headwater_msk::config_file::parse(text).unwrap();
        let plan = Plan::new(&file, Tables::new(), None).unwrap();
        let committed = Committed::at(0);
        let state = Carried::default();
        let pipeline = Arc::clone(&plan.pipeline);
        let machine =
            Partition::recover(("logs", 0), plan.flush, pipeline, committed, state, None).unwrap();
        let mut drive = Drive::new(machine, 0, 1000);
        for (time_ms, clock_ms) in [(500, 500), (u64::MAX, 1000), (700, 1000)] {
            drive.reach(&Entry::foreign(0, time_ms)).unwrap();
            assert_eq!(drive.now().wall_ms, clock_ms, "{time_ms}");
        }
    }
}
