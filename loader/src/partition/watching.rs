//! What others see of a partition: how far it is, what it holds, what came of its records.

use headwater_record::Ledger;

use crate::metrics::Standing;
use crate::partition::Partition;
use crate::partition::batch::Counts;
use crate::partition::closing::Closing;
use crate::partition::rejects::Rejects;

impl Partition {
    /// Bytes of memory that its batches hold, about.
    pub fn held(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |open| open.batch.held());
        let said = self.publishing.iter().flat_map(|said| said.objects.iter());
        let said: usize = said.map(|object| object.bytes.len()).sum();
        open + said + self.closing.as_ref().map_or(0, Closing::held)
    }

    /// Bytes of memory that its state takes, about: ledger and windows as of the last record, accounts as of
    /// the last batch.
    pub fn state_held(&self) -> usize {
        self.ledger.held() + self.windows.held() + self.accounts.book_bytes
    }

    /// Offset behind the last record that is committed as stored.
    pub fn committed_offset(&self) -> u64 {
        self.committed.offset
    }

    /// How far it is, for whoever watches.
    pub fn standing(&self) -> Standing {
        let closing = self.closing.as_ref().and_then(|closing| closing.times_ms);
        let open = self.open.as_ref().and_then(|open| open.batch.times_ms());
        Standing {
            durable: self.committed.offset,
            taken: self.next,
            oldest_ms: closing.or(open).map(|times| times.0),
            durable_ms: self.durable_ms,
            gaps: self.accounts.gaps as u64,
            streams: self.accounts.streams as u64,
            ledger_bytes: self.accounts.ledger_bytes as u64,
            windows: self.accounts.windows as u64,
            window_bytes: self.windows.held() as u64,
            complete_ms: self.complete_ms,
            accounts: self.books.devices() as u64,
        }
    }

    /// Counts of the batches that were completed since this was last asked.
    pub fn take_counts(&mut self) -> Vec<Counts> {
        std::mem::take(&mut self.finished_counts)
    }

    /// How many batches the guard against too many paths (`flush.objects`) closed since this was last asked.
    pub fn take_guarded(&mut self) -> u64 {
        std::mem::take(&mut self.guarded)
    }

    /// Dead letters of the batches that were completed since this was last asked.
    pub fn take_rejects(&mut self) -> Rejects {
        std::mem::take(&mut self.finished_rejects)
    }

    /// The ledger as of the last record that was taken in.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
