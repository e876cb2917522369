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
    one: Fetched,
}

impl Drive {
    /// `clock_ms`: where the clock stands at first; it never goes back.
    pub fn new(machine: Partition, clock_ms: u64) -> Self {
        Self {
            machine,
            clock_ms,
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
        self.clock_ms = self.clock_ms.max(entry.time_ms);
        self.apply(Event::Tick)
    }

    /// Takes one record of `fetched`. `false`: there was no room, since what closed before was not
    /// performed to its end.
    ///
    /// # Errors
    /// See [`PartitionError`].
    pub fn take(&mut self, fetched: &Fetched, entry: &Entry) -> Result<bool, PartitionError> {
        self.one.bytes.clear();
        self.one.entries.clear();
        let (offset, time_ms) = (entry.offset, entry.time_ms);
        let identity = entry.identity.clone();
        let value = fetched.value(entry);
        self.one.push(offset, time_ms, value, identity);
        let now = self.now();
        Ok(self.machine.take(&self.one, 0, now)? == 1)
    }
}
